//! How much a consumer delivers at once, and to whom it does not deliver for a while.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::BTreeSet;
use std::time::Duration;

use linnet_assets::{
    Admitted, Advisory, Answer, Command, ConsumerCommand, Moment, Output, Place, Publish, Stream,
    StreamLimits, Token,
};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::AckPolicy;
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::subjects::AckSubject;
use linnet_jsapi::{ConsumerConfig, StreamConfig};
use linnet_store::{Kind, LoadJob, Seed, StreamStore};

/// Bytes of a body, and how many of them a turn may hold at most.
const BODY: usize = 1000;
const TURN_MAX: usize = 300;
/// Longer than any pause.
const A_WHILE: Duration = Duration::from_millis(20);

/// Deliveries by receiver, and connections that are nearly full.
#[derive(Default)]
struct Sockets {
    delivered: Vec<(Vec<u8>, u64)>,
    clogged: BTreeSet<Vec<u8>>,
}

impl Output for Sockets {
    fn unique_id(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn publish(&mut self, to: &[u8], _: &[u8], reply: &[u8], _: usize, _: &[u8]) -> usize {
        self.delivered.extend(AckSubject::parse(reply).map(|ack| (to.to_vec(), ack.stream_seq)));
        1
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        true
    }

    fn may_be_clogged(&mut self) -> bool {
        !self.clogged.is_empty()
    }

    fn is_clogged(&mut self, subject: &[u8]) -> bool {
        self.clogged.contains(subject)
    }

    fn answer(&mut self, _: Token, answer: Answer) {
        answer.unwrap();
    }

    fn load(&mut self, _: LoadJob) {
        panic!("everything is in memory");
    }

    fn advise(&mut self, _: Advisory) {}
}

struct Server {
    stream: Stream,
    now: Mono,
    sockets: Sockets,
}

impl Server {
    /// A stream with so many messages.
    fn new(messages: usize) -> Self {
        let config = StreamConfig {
            name: "S".to_owned(),
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            max_consumers: -1,
            num_replicas: 1,
            ..StreamConfig::default()
        };
        let store = StreamStore::new(Kind::Memory, Seed::of(GroupId::META), 0, -1);
        let stream = Stream::new(config, Wall(0), Place::default(), store, Vec::new(), Mono::default());
        let mut server = Self { stream, now: Mono::default(), sockets: Sockets::default() };
        for _ in 0..messages {
            let publish =
                Publish { subject: b"s", reply: b"", header_len: 0, body: &[b'x'; BODY], origin: None };
            let out = &mut server.sockets;
            let admitted = server.stream.admit(&publish, &StreamLimits::default(), Wall(1), out);
            assert_eq!(admitted, Admitted::Stored);
        }
        server.apply();
        server
    }

    fn apply(&mut self) {
        let at = Moment { now: self.now, wall: Wall(1), live: true };
        for proposal in self.stream.take_proposals(self.now) {
            self.stream.apply(&proposal, at, &mut self.sockets).unwrap();
        }
    }

    fn create_consumer(&mut self, config: ConsumerConfig) {
        let config = ConsumerConfig { ack_policy: AckPolicy::None, ..config };
        let request =
            CreateConsumerRequest { stream: "S".to_owned(), config, ..CreateConsumerRequest::default() };
        let create = ConsumerCommand::Create {
            request: Box::new(request),
            suggested_name: String::new(),
            limits: Box::new(Limits::unlimited()),
        };
        self.stream.command(
            Command::Consumer(create),
            1,
            Moment { now: Mono::default(), wall: Wall(1), live: true },
            &mut self.sockets,
        );
        self.apply();
    }

    fn with_pull_consumer(messages: usize) -> Self {
        let mut server = Self::new(messages);
        let name = "c".to_owned();
        server.create_consumer(ConsumerConfig {
            name: name.clone(),
            durable_name: name,
            ..ConsumerConfig::default()
        });
        server
    }

    fn ask(&mut self, reply: &[u8], batch: usize) {
        let body = format!(r#"{{"batch":{batch},"expires":60000000000}}"#);
        self.stream.on_next_request("c", reply, body.as_bytes(), self.now, Wall(1), &mut self.sockets);
    }

    /// One turn of the stream, later than the last by `pause`.
    fn turn(&mut self, pause: Duration) {
        self.now = self.now + pause;
        if self.stream.next_due().is_some_and(|due| due <= self.now) {
            self.stream.on_timer(self.now, Wall(1), &mut self.sockets);
        }
        self.stream.run_ready(self.now, Wall(1), &mut self.sockets);
    }

    fn delivered_to(&self, receiver: &[u8]) -> usize {
        self.sockets.delivered.iter().filter(|(to, _)| to == receiver).count()
    }
}

#[test]
fn a_large_request_is_served_over_many_turns() {
    let mut server = Server::with_pull_consumer(2000);
    server.ask(b"r", 2000);
    let mut before = 0;
    while server.delivered_to(b"r") < 2000 {
        let got = server.delivered_to(b"r") - before;
        assert!((1..=TURN_MAX).contains(&got), "{got} in one turn");
        before += got;
        assert!(server.stream.next_due().is_some_and(|due| due <= server.now), "it goes on at once");
        server.turn(Duration::ZERO);
    }
    let seqs: Vec<u64> = server.sockets.delivered.iter().map(|(_, seq)| *seq).collect();
    assert!(seqs.iter().copied().eq(1..=2000), "in order, each once");
    server.turn(Duration::ZERO);
    assert!(server.stream.next_due().is_none_or(|due| due > server.now), "nothing is left to do");
}

#[test]
fn a_receiver_that_is_nearly_full_waits_while_others_are_served() {
    let mut server = Server::with_pull_consumer(2000);
    server.sockets.clogged.insert(b"slow".to_vec());
    server.ask(b"slow", 1000);
    assert_eq!(server.delivered_to(b"slow"), 1, "the message that filled it");
    server.ask(b"quick", 100);
    for _ in 0..5 {
        server.turn(A_WHILE);
    }
    assert_eq!((server.delivered_to(b"slow"), server.delivered_to(b"quick")), (1, 100));
    server.sockets.clogged.clear();
    for _ in 0..8 {
        server.turn(A_WHILE);
    }
    assert_eq!(server.delivered_to(b"slow"), 1000);
}

#[test]
fn a_push_consumer_waits_for_a_receiver_that_is_nearly_full() {
    let mut server = Server::new(2000);
    server.sockets.clogged.insert(b"slow".to_vec());
    server.create_consumer(ConsumerConfig {
        name: "p".to_owned(),
        deliver_subject: "slow".to_owned(),
        ..ConsumerConfig::default()
    });
    for _ in 0..5 {
        server.turn(A_WHILE);
    }
    assert_eq!(server.delivered_to(b"slow"), 1);
    server.sockets.clogged.clear();
    for _ in 0..12 {
        server.turn(A_WHILE);
    }
    assert_eq!(server.delivered_to(b"slow"), 2000);
}
