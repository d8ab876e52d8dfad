//! Many messages admitted at once become several log entries.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use linnet_assets::{
    Admitted, Advisory, Answer, Entry, Moment, Output, Place, Proposal, Publish, Stream, StreamLimits, Token,
};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::StreamConfig;
use linnet_store::{Filter, Kind, LoadJob, Lookup, Record, Seed, StreamStore};
use proptest::prelude::*;

/// Most bytes of an entry of several messages.
const BOUND: usize = 1 << 20;

/// Where acknowledgements went, in order.
#[derive(Default)]
struct Acks(Vec<(Vec<u8>, Vec<u8>)>);

impl Output for Acks {
    fn unique_id(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn publish(&mut self, to: &[u8], _: &[u8], _: &[u8], _: usize, body: &[u8]) -> usize {
        self.0.push((to.to_vec(), body.to_vec()));
        1
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        true
    }

    fn answer(&mut self, _: Token, _: Answer) {}

    fn load(&mut self, _: LoadJob) {}

    fn advise(&mut self, _: Advisory) {}
}

fn stream() -> Stream {
    let config = StreamConfig {
        name: "S".to_owned(),
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        ..StreamConfig::default()
    };
    let store = StreamStore::new(Kind::Memory, Seed::of(GroupId::META), 0, -1);
    Stream::new(config, Wall(0), Place::default(), store, Vec::new(), Mono::default())
}

/// A body of this size that tells its place.
fn body(at: usize, size: usize) -> Vec<u8> {
    let mut body = format!("{at} ").into_bytes();
    body.resize(size.max(body.len()), b'x');
    body
}

/// Admits a message of each size; the entries.
fn admit_all(stream: &mut Stream, sizes: &[usize], out: &mut Acks) -> Vec<Proposal> {
    for (at, size) in sizes.iter().enumerate() {
        let (reply, body) = (format!("r{at}"), body(at, *size));
        let publish =
            Publish { subject: b"s", reply: reply.as_bytes(), header_len: 0, body: &body, origin: None };
        assert_eq!(stream.admit(&publish, &StreamLimits::default(), Wall(1), out), Admitted::Stored);
    }
    stream.take_proposals(Mono::default())
}

/// Sequences of the messages of an entry.
fn sequences(entry: &[u8]) -> Vec<u64> {
    let Ok(Entry::Messages(mut records)) = Entry::decode(entry) else { panic!("no entry of messages") };
    let mut found = Vec::new();
    while !records.is_empty() {
        let (record, len) = Record::view(records).unwrap();
        found.push(record.seq);
        records = &records[len..];
    }
    found
}

/// Nothing is lost, nothing changes places, and every entry keeps to the bound.
fn check(sizes: &[usize]) {
    let (mut stream, mut out) = (stream(), Acks::default());
    let entries = admit_all(&mut stream, sizes, &mut out);
    let last = sizes.len() as u64;
    let written: Vec<u64> = entries.iter().flat_map(|entry| sequences(&entry.bytes)).collect();
    assert!(written.iter().copied().eq(1..=last), "written: {written:?}");
    for entry in &entries {
        let of_several = sequences(&entry.bytes).len() > 1;
        assert!(!of_several || entry.bytes.len() <= BOUND, "an entry of {} bytes", entry.bytes.len());
    }
    let at = Moment { now: Mono::default(), wall: Wall(1), live: true };
    for entry in &entries {
        stream.apply(entry, at, &mut out).unwrap();
    }
    for (at, size) in sizes.iter().enumerate() {
        let Lookup::Found(record) = stream.store().get(at as u64 + 1, false) else { panic!("{at} is gone") };
        assert_eq!(record.payload, body(at, *size));
    }
    assert_eq!(stream.store().count(0, &Filter::all()), last);
    let acks = (0..sizes.len()).map(|at| {
        let ack = format!(r#"{{"stream":"S","seq":{}}}"#, at + 1);
        (format!("r{at}").into_bytes(), ack.into_bytes())
    });
    assert!(out.0.iter().cloned().eq(acks), "every publisher hears, in order");
}

#[test]
fn many_small_messages_share_few_entries() {
    let sizes = vec![100; 40_000];
    check(&sizes);
    let entries = admit_all(&mut stream(), &sizes, &mut Acks::default());
    assert!((4..9).contains(&entries.len()), "{} entries", entries.len());
}

#[test]
fn a_large_message_has_an_entry_of_its_own() {
    let sizes = [10, 3 << 20, 10, BOUND, BOUND - 1, 10, BOUND - 200, 10, 10];
    check(&sizes);
    let entries = admit_all(&mut stream(), &sizes, &mut Acks::default());
    assert_eq!(sequences(&entries.iter().find(|e| e.bytes.len() > 3 << 20).unwrap().bytes), [2]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn entries_keep_every_message_in_order(
        sizes in proptest::collection::vec(prop_oneof![0..2_000_usize, 0..400_000_usize, 1_000_000..1_100_000_usize], 0..40),
    ) {
        check(&sizes);
    }
}

#[test]
fn a_message_that_no_record_has_room_for_is_refused() {
    let mut stream = stream();
    let body = vec![b'x'; linnet_store::RECORD_MAX];
    let publish = Publish { subject: b"s", reply: b"r", header_len: 0, body: &body, origin: None };
    let admitted = stream.admit(&publish, &StreamLimits::default(), Wall(0), &mut Acks::default());
    let Admitted::Rejected(error) = admitted else { panic!("{admitted:?}") };
    assert_eq!((error.err_code, &*error.description), (10077, "message too large"));
}
