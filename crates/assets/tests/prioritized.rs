//! Requests that arrive together are served by their priority, not by their place in the mail.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use linnet_assets::{
    Advisory, Answer, Command, ConsumerCommand, Moment, Output, Place, Publish, Stream, StreamLimits, Token,
};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::info::AccountLimits;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, PriorityPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::{ConsumerConfig, StreamConfig};
use linnet_store::{Kind, LoadJob, Seed, StreamStore};

/// Where messages went.
#[derive(Default)]
struct Sent(Vec<String>);

impl Output for Sent {
    fn publish(&mut self, to: &[u8], _: &[u8], _: &[u8], _: usize, _: &[u8]) -> usize {
        self.0.push(String::from_utf8(to.to_vec()).unwrap());
        1
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        true
    }

    fn unique_id(&mut self) -> Vec<u8> {
        b"id".to_vec()
    }

    fn answer(&mut self, _: Token, answer: Answer) {
        answer.unwrap();
    }

    fn load(&mut self, _: LoadJob) {}

    fn advise(&mut self, _: Advisory) {}
}

fn commit(stream: &mut Stream, at: Moment, sent: &mut Sent) {
    for proposal in stream.take_proposals(at.now) {
        stream.apply(&proposal, at, sent).unwrap();
    }
    stream.run_ready(at.now, at.wall, sent);
}

#[test]
fn the_better_priority_is_served_first() {
    let group = GroupId { epoch: 0, meta_index: 1, random: 1 };
    let at = Moment { now: Mono::default(), wall: Wall(1), live: true };
    let store = StreamStore::new(Kind::Memory, Seed::of(group), 1, -1);
    let config = StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s".to_owned()],
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        ..StreamConfig::default()
    };
    let mut stream = Stream::new(config, at.wall, Place::default(), store, Vec::new(), at.now);
    let mut sent = Sent::default();
    let config = ConsumerConfig {
        name: "C".to_owned(),
        durable_name: "C".to_owned(),
        ack_policy: AckPolicy::Explicit,
        priority_policy: PriorityPolicy::Prioritized,
        priority_groups: vec!["g".to_owned()],
        ..ConsumerConfig::default()
    };
    let unlimited = AccountLimits { max_consumers: -1, ..AccountLimits::default() };
    let create = ConsumerCommand::Create {
        request: Box::new(CreateConsumerRequest { stream: "S".to_owned(), config, ..Default::default() }),
        suggested_name: String::new(),
        limits: Box::new(Limits { account: Some(unlimited), ..Limits::default() }),
    };
    stream.command(Command::Consumer(create), 1, at, &mut sent);
    let publish = Publish { subject: b"s", reply: b"", header_len: 0, body: b"x", origin: None };
    stream.admit(&publish, &StreamLimits::default(), at.wall, &mut sent);
    commit(&mut stream, at, &mut sent);
    for (reply, priority) in [("worse", 1), ("better", 0)] {
        let body = format!(r#"{{"batch":1,"expires":1000000000,"group":"g","priority":{priority}}}"#);
        stream.on_next_request("C", reply.as_bytes(), body.as_bytes(), at.now, at.wall, &mut sent);
    }
    commit(&mut stream, at, &mut sent);
    assert_eq!(sent.0, ["better"]);
}
