//! Messages go in time, whatever else arrives.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::time::Duration;

use linnet_assets::{Admitted, Moment, Nobody, Place, Publish, Stream, StreamLimits};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::StreamConfig;
use linnet_store::{Kind, Seed, StreamStore};

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 1 };
const STEP: Duration = Duration::from_millis(100);

#[test]
fn traffic_does_not_put_expiry_off() {
    let config = StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s".to_owned()],
        allow_msg_ttl: true,
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        ..StreamConfig::default()
    };
    let store = StreamStore::new(Kind::Memory, Seed::of(GROUP), 1, -1);
    let mut at = Moment { now: Mono::default(), wall: Wall(1), live: true };
    let mut stream = Stream::new(config, at.wall, Place::default(), store, Vec::new(), at.now);
    let headers = b"NATS/1.0\r\nNats-TTL: 1\r\n\r\n";
    // The first lives for a second; the others, one every tenth of a second, stay.
    for n in 0..30 {
        let (header_len, body): (usize, &[u8]) = if n == 0 { (headers.len(), headers) } else { (0, b"x") };
        let publish = Publish { subject: b"s", reply: b"", header_len, body, origin: None };
        let admitted = stream.admit(&publish, &StreamLimits::default(), at.wall, &mut Nobody);
        assert_eq!(admitted, Admitted::Stored);
        for proposal in stream.take_proposals(at.now) {
            stream.apply(&proposal, at, &mut Nobody).unwrap();
        }
        at.now = at.now + STEP;
        at.wall = Wall(at.wall.0 + 100_000_000);
        if stream.next_due().is_some_and(|due| due <= at.now) {
            stream.on_timer(at.now, at.wall, &mut Nobody);
        }
    }
    assert_eq!(stream.store().state().first_seq, 2);
}
