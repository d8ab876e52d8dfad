//! A replica that leads sends a message once its delivery is committed, so that one that was overtaken sends nothing.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::time::Duration;

use linnet_assets::{
    Advisory, Answer, Command, ConsumerCommand, Moment, Output, Place, Publish, Stream, StreamLimits, Token,
};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::errors::CLUSTER_NOT_AVAIL;
use linnet_jsapi::info::AccountLimits;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::AckPolicy;
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::{ConsumerConfig, Nanos, StreamConfig};
use linnet_store::{Kind, LoadJob, Seed, StreamStore};

/// Reply subjects of what was sent.
#[derive(Default)]
struct Sent(Vec<Vec<u8>>);

impl Output for Sent {
    fn publish(&mut self, _: &[u8], _: &[u8], reply: &[u8], _: usize, _: &[u8]) -> usize {
        self.0.push(reply.to_vec());
        1
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        true
    }

    fn unique_id(&mut self) -> Vec<u8> {
        b"id".to_vec()
    }

    fn answer(&mut self, _: Token, _: Answer) {}

    fn load(&mut self, _: LoadJob) {}

    fn advise(&mut self, _: Advisory) {}
}

struct Bench {
    stream: Stream,
    sent: Sent,
    at: Moment,
}

impl Bench {
    fn new() -> Self {
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
        let stream = Stream::new(config, at.wall, Place::default(), store, Vec::new(), at.now);
        let mut bench = Self { stream, sent: Sent::default(), at };
        bench.stream.become_replica();
        bench.stream.lead(at);
        bench.settle();
        bench
    }

    fn publish(&mut self) {
        let publish = Publish { subject: b"s", reply: b"", header_len: 0, body: b"x", origin: None };
        self.stream.admit(&publish, &StreamLimits::default(), self.at.wall, &mut self.sent);
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            self.at.now = self.at.now + Duration::from_millis(20);
            let proposals = self.stream.take_proposals(self.at.now);
            if proposals.is_empty() {
                return;
            }
            for proposal in proposals {
                self.stream.apply(&proposal, self.at, &mut self.sent).unwrap();
            }
        }
    }

    fn add_consumer(&mut self, name: &str, ack_policy: AckPolicy) {
        let config = ConsumerConfig {
            name: name.to_owned(),
            durable_name: name.to_owned(),
            ack_policy,
            ack_wait: Nanos::from_secs(30),
            ..ConsumerConfig::default()
        };
        let unlimited = AccountLimits { max_consumers: -1, ..AccountLimits::default() };
        let create = ConsumerCommand::Create {
            request: Box::new(CreateConsumerRequest { stream: "S".to_owned(), config, ..Default::default() }),
            suggested_name: String::new(),
            limits: Box::new(Limits { account: Some(unlimited), ..Limits::default() }),
        };
        self.stream.command(Command::Consumer(create), 1, self.at, &mut self.sent);
        self.settle();
    }

    fn pull(&mut self, consumer: &str) {
        let Self { stream, sent, at } = self;
        stream.on_next_request(consumer, b"inbox", b"1", at.now, at.wall, sent);
    }
}

#[test]
fn a_message_is_sent_once_its_delivery_is_committed() {
    let mut bench = Bench::new();
    bench.add_consumer("C", AckPolicy::Explicit);
    bench.publish();
    bench.sent.0.clear();
    bench.pull("C");
    assert!(bench.sent.0.is_empty(), "nobody else knows of the delivery");
    assert!(bench.stream.next_due().is_some_and(|due| due <= bench.at.now), "it is written without delay");
    bench.settle();
    assert_eq!(bench.sent.0.len(), 1);
}

#[test]
fn a_leader_that_was_overtaken_sends_nothing_that_waits() {
    let mut bench = Bench::new();
    bench.add_consumer("C", AckPolicy::Explicit);
    bench.publish();
    bench.sent.0.clear();
    bench.pull("C");
    bench.stream.follow(&CLUSTER_NOT_AVAIL, bench.at, &mut bench.sent);
    bench.stream.lead(bench.at);
    bench.settle();
    let messages = bench.sent.0.iter().filter(|reply| !reply.is_empty());
    assert_eq!(messages.count(), 0);
}

#[test]
fn a_message_that_needs_no_acknowledgement_is_sent_at_once() {
    let mut bench = Bench::new();
    bench.add_consumer("C", AckPolicy::None);
    bench.publish();
    bench.sent.0.clear();
    bench.pull("C");
    assert_eq!(bench.sent.0.len(), 1);
}
