//! What becomes of messages that damage took: as long as nothing removed them, they are known as lost.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::time::Duration;

use linnet_assets::{
    Advisory, Answer, Command, ConsumerCommand, Entry, Moment, Output, Place, Proposal, Publish, Stream,
    StreamLimits, Token,
};
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::info::AccountLimits;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, RetentionPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::subjects::AckSubject;
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
    fn new(retention: RetentionPolicy) -> Self {
        let group = GroupId { epoch: 0, meta_index: 1, random: 1 };
        let at = Moment { now: Mono::default(), wall: Wall(1), live: true };
        let store = StreamStore::new(Kind::Memory, Seed::of(group), 1, -1);
        let config = StreamConfig {
            name: "S".to_owned(),
            subjects: vec!["s".to_owned()],
            retention,
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            ..StreamConfig::default()
        };
        let stream = Stream::new(config, at.wall, Place::default(), store, Vec::new(), at.now);
        Self { stream, sent: Sent::default(), at }
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

    fn add_consumer(&mut self, name: &str) {
        let config = ConsumerConfig {
            name: name.to_owned(),
            durable_name: name.to_owned(),
            ack_policy: AckPolicy::Explicit,
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
        self.settle();
    }

    /// Acknowledges what was delivered last.
    fn acknowledge(&mut self) {
        let reply = self.sent.0.last().unwrap().clone();
        let ack = AckSubject::parse(&reply).unwrap();
        self.stream.on_ack(&ack, b"+ACK", b"", self.at.now, self.at.wall, &mut self.sent);
    }

    /// Damage takes a message, as opening a store finds it.
    fn lose(&mut self, seq: StreamSeq) {
        self.stream.store_mut().remove(seq, false).unwrap();
        self.stream.store_mut().mark_damaged(seq);
    }

    fn lost(&self) -> Vec<StreamSeq> {
        self.stream.store().damaged().iter().copied().collect()
    }

    fn delete(&mut self, seq: StreamSeq, live: bool) {
        let bytes = Entry::Delete { seq, erase: false }.encode();
        let proposal = Proposal::new(bytes, None);
        self.stream.apply(&proposal, Moment { live, ..self.at }, &mut self.sent).unwrap();
    }
}

#[test]
fn a_replayed_log_ends_the_memory_of_nothing_that_it_does_not_remove() {
    let mut bench = Bench::new(RetentionPolicy::Limits);
    (0..5).for_each(|_| bench.publish());
    bench.lose(2);
    bench.lose(3);
    bench.delete(1, false);
    assert_eq!(bench.lost(), [2, 3]);
    bench.delete(2, false);
    assert_eq!(bench.lost(), [3]);
    // Once the stream is there again, what is removed takes with it what was lost before.
    bench.delete(5, true);
    assert_eq!(bench.lost(), [3]);
    bench.delete(4, true);
    assert_eq!(bench.lost(), [0; 0]);
}

#[test]
fn a_lost_message_that_one_consumer_still_owes_stays_known_as_lost() {
    let mut bench = Bench::new(RetentionPolicy::Interest);
    bench.add_consumer("C");
    bench.add_consumer("D");
    bench.publish();
    bench.pull("D");
    bench.pull("C");
    bench.lose(1);
    bench.acknowledge();
    bench.at.live = false;
    bench.settle();
    assert_eq!(bench.lost(), [1]);
}

#[test]
fn a_new_leader_writes_to_the_log_that_a_removed_message_is_not_awaited() {
    let mut bench = Bench::new(RetentionPolicy::Limits);
    bench.add_consumer("C");
    bench.publish();
    bench.pull("C");
    bench.stream.become_replica();
    let pending = |stream: &Stream| stream.saved().consumers[0].state.as_ref().unwrap().pending.len();
    bench.delete(1, false);
    assert_eq!(pending(&bench.stream), 1);
    bench.stream.lead(bench.at);
    assert_eq!(pending(&bench.stream), 1, "what a checkpoint keeps changes with the log alone");
    bench.settle();
    assert_eq!(pending(&bench.stream), 0);
}
