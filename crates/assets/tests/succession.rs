//! A stream asks for its consumer anew while the old one still acts: what the old one does goes into the log before
//! the new one, or not at all.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::time::Duration;

use linnet_assets::{
    Advisory, Answer, Command, CommandOutcome, ConsumerCommand, Moment, Output, Place, Proposal, Publish,
    Stream, StreamLimits, Token,
};
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::info::{AccountLimits, ConsumerInfo};
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, RetentionPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::subjects::AckSubject;
use linnet_jsapi::{ConsumerConfig, Nanos, StreamConfig};
use linnet_store::{Filter, Kind, LoadJob, Seed, StreamStore};

/// Longer than what consumers did is collected.
const COLLECTED: Duration = Duration::from_millis(20);
const HEARTBEAT: Nanos = Nanos::from_secs(1);

/// Answers, and the reply subjects of what was sent.
#[derive(Default)]
struct Sent {
    answers: Vec<(Token, Answer)>,
    replies: Vec<Vec<u8>>,
}

impl Output for Sent {
    fn publish(&mut self, _: &[u8], _: &[u8], reply: &[u8], _: usize, _: &[u8]) -> usize {
        self.replies.push(reply.to_vec());
        1
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        true
    }

    fn unique_id(&mut self) -> Vec<u8> {
        b"id".to_vec()
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        self.answers.push((token, answer));
    }

    fn load(&mut self, _: LoadJob) {}

    fn advise(&mut self, _: Advisory) {}
}

/// A stream that keeps what consumers want, which another one mirrors through the consumer `M`.
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
            retention: RetentionPolicy::Interest,
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            ..StreamConfig::default()
        };
        let stream = Stream::new(config, at.wall, Place::default(), store, Vec::new(), at.now);
        let mut bench = Self { stream, sent: Sent::default(), at };
        bench.ask_for_mirror(1);
        bench.settle();
        bench
    }

    fn create(&mut self, token: Token, config: ConsumerConfig) {
        let unlimited = AccountLimits { max_consumers: -1, ..AccountLimits::default() };
        let request = CreateConsumerRequest { stream: "S".to_owned(), config, ..Default::default() };
        let command = ConsumerCommand::Create {
            request: Box::new(request),
            suggested_name: "suggested".to_owned(),
            limits: Box::new(Limits { account: Some(unlimited), ..Limits::default() }),
        };
        self.stream.command(Command::Consumer(command), token, self.at, &mut self.sent);
    }

    /// The mirror asks for its consumer, as it does whenever it misses something.
    fn ask_for_mirror(&mut self, token: Token) {
        self.create(
            token,
            ConsumerConfig {
                name: "M".to_owned(),
                deliver_subject: "deliver".to_owned(),
                direct: true,
                sourcing: true,
                flow_control: true,
                idle_heartbeat: HEARTBEAT,
                ..ConsumerConfig::default()
            },
        );
    }

    /// A client's consumer, which is asked for messages.
    fn add_client(&mut self, name: &str) {
        let config = ConsumerConfig {
            name: name.to_owned(),
            durable_name: name.to_owned(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Nanos::from_secs(30),
            ..ConsumerConfig::default()
        };
        self.create(2, config);
        self.settle();
    }

    fn admit(&mut self) {
        let publish = Publish { subject: b"s", reply: b"", header_len: 0, body: b"x", origin: None };
        self.stream.admit(&publish, &StreamLimits::default(), self.at.wall, &mut self.sent);
    }

    fn proposals(&mut self) -> Vec<Proposal> {
        self.stream.take_proposals(self.at.now)
    }

    fn apply(&mut self, proposals: &[Proposal]) {
        for proposal in proposals {
            self.stream.apply(proposal, self.at, &mut self.sent).unwrap();
        }
        self.stream.run_deferred(self.at, &mut self.sent);
        self.stream.run_ready(self.at.now, self.at.wall, &mut self.sent);
    }

    /// Lets everything proposed become durable and be applied, until nothing is left.
    fn settle(&mut self) {
        loop {
            self.wait(COLLECTED);
            let proposals = self.proposals();
            if proposals.is_empty() {
                return;
            }
            self.apply(&proposals);
        }
    }

    fn wait(&mut self, by: Duration) {
        self.at.now = self.at.now + by;
        self.stream.on_timer(self.at.now, self.at.wall, &mut self.sent);
    }

    /// Acknowledges everything that the client's consumer delivered.
    fn acknowledge_all(&mut self, name: &str) {
        for reply in self.sent.replies.clone() {
            if let Some(ack) = AckSubject::parse(&reply).filter(|ack| ack.consumer == name) {
                self.stream.on_ack(&ack, b"+ACK", b"", self.at.now, self.at.wall, &mut self.sent);
            }
        }
    }

    /// What the mirror's consumers delivered, in order.
    fn delivered(&self) -> Vec<StreamSeq> {
        let acks = self.sent.replies.iter().filter_map(|reply| AckSubject::parse(reply));
        acks.filter(|ack| ack.consumer == "M").map(|ack| ack.stream_seq).collect()
    }

    fn stored(&mut self) -> Vec<StreamSeq> {
        let store = self.stream.store_mut();
        std::iter::successors(store.next(0, &Filter::all()), |seq| store.next(seq + 1, &Filter::all()))
            .collect()
    }

    fn info(&mut self) -> ConsumerInfo {
        let command = Command::Consumer(ConsumerCommand::Info("M".to_owned()));
        self.stream.command(command, 99, self.at, &mut self.sent);
        match self.sent.answers.pop() {
            Some((99, Ok(CommandOutcome::Consumer(info)))) => *info,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_the_old_consumer_delivers_meanwhile_is_still_owed_by_the_new_one() {
    let mut bench = Bench::new();
    bench.add_client("C");
    (0..3).for_each(|_| bench.admit());
    bench.settle();
    bench.admit();
    let message = bench.proposals();
    bench.ask_for_mirror(3);
    // The old one is there until the new one is durable, and a message becomes visible before that.
    bench.apply(&message);
    bench.settle();
    bench.stream.on_next_request("C", b"inbox", b"10", bench.at.now, bench.at.wall, &mut bench.sent);
    bench.acknowledge_all("C");
    bench.settle();
    // The mirror said of nothing that it is stored.
    assert_eq!(bench.stored(), [1, 2, 3, 4]);
    assert_eq!(bench.delivered(), [1, 2, 3, 1, 2, 3, 4]);
}

#[test]
fn what_the_mirror_stored_before_it_asked_again_is_done_with() {
    let mut bench = Bench::new();
    (0..4).for_each(|_| bench.admit());
    bench.settle();
    bench.wait(HEARTBEAT.to_duration());
    let flow = bench.sent.replies.iter().find(|reply| reply.starts_with(b"$JS.FC.S.M.")).unwrap().clone();
    let block = b"NATS/1.0\r\nNats-Last-Stream: 3\r\n\r\n";
    bench.stream.on_flow_answer("M", &flow, block, bench.at.now, bench.at.wall, &mut bench.sent);
    bench.ask_for_mirror(3);
    bench.settle();
    assert_eq!(bench.stored(), [4]);
    assert_eq!(bench.info().ack_floor.stream_seq, 3);
    assert_eq!(bench.delivered(), [1, 2, 3, 4, 4]);
}

#[test]
fn a_consumer_that_is_about_to_be_replaced_is_silent() {
    let mut bench = Bench::new();
    bench.admit();
    bench.settle();
    bench.ask_for_mirror(3);
    let attach = bench.proposals();
    let before = bench.sent.replies.len();
    bench.wait(3 * HEARTBEAT.to_duration());
    assert_eq!(bench.sent.replies.len(), before, "a heartbeat would tell of deliveries that count no more");
    assert_eq!(bench.stream.next_due().filter(|due| *due <= bench.at.now), None);
    bench.apply(&attach);
    bench.wait(HEARTBEAT.to_duration());
    assert!(bench.sent.replies.len() > before + 1, "the new one delivers and gives signs of life");
}
