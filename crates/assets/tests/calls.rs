//! Calls that follow each other before the log has them, and what a client says of a message that waits to be
//! delivered again.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::time::Duration;

use linnet_assets::{
    Advisory, Answer, Command, CommandOutcome, ConsumerCommand, Moment, Output, Place, Publish, Purge,
    Stream, StreamLimits, Token,
};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::info::AccountLimits;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, PriorityPolicy, RetentionPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::subjects::AckSubject;
use linnet_jsapi::{ConsumerConfig, Nanos, StreamConfig, errors};
use linnet_store::{Kind, LoadJob, Seed, StreamStore};

/// Answers, and acknowledgement subjects of deliveries.
#[derive(Default)]
struct Sent {
    answers: Vec<(Token, Answer)>,
    deliveries: Vec<Vec<u8>>,
    /// Header blocks of the deliveries.
    blocks: Vec<String>,
}

impl Output for Sent {
    fn publish(&mut self, _: &[u8], _: &[u8], reply: &[u8], header_len: usize, body: &[u8]) -> usize {
        if !reply.is_empty() {
            self.deliveries.push(reply.to_vec());
            self.blocks.push(String::from_utf8_lossy(&body[..header_len]).into_owned());
        }
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

/// A stream and those it talks to.
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
        Self { stream, sent: Sent::default(), at }
    }

    fn call(&mut self, token: Token, command: ConsumerCommand) {
        self.stream.command(Command::Consumer(command), token, self.at, &mut self.sent);
    }

    fn create(&mut self, token: Token, config: ConsumerConfig) {
        let unlimited = AccountLimits { max_consumers: -1, ..AccountLimits::default() };
        let request = CreateConsumerRequest { stream: "S".to_owned(), config, ..Default::default() };
        self.call(
            token,
            ConsumerCommand::Create {
                request: Box::new(request),
                suggested_name: String::new(),
                limits: Box::new(Limits { account: Some(unlimited), ..Limits::default() }),
            },
        );
    }

    /// Lets everything proposed become durable and be applied, until nothing is left.
    fn settle(&mut self) {
        loop {
            let proposals = self.stream.take_proposals(self.at.now);
            if proposals.is_empty() {
                break;
            }
            for proposal in proposals {
                self.stream.apply(&proposal, self.at, &mut self.sent).unwrap();
            }
            self.stream.run_deferred(self.at, &mut self.sent);
        }
        self.stream.run_ready(self.at.now, self.at.wall, &mut self.sent);
    }

    fn names(&mut self) -> Vec<String> {
        self.call(99, ConsumerCommand::Names);
        match self.answer(99) {
            Ok(CommandOutcome::Names(names)) => names,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, token: Token) -> Answer {
        let at = self.sent.answers.iter().position(|(of, _)| *of == token).unwrap();
        self.sent.answers.remove(at).1
    }

    fn publish(&mut self) {
        let publish = Publish { subject: b"s", reply: b"", header_len: 0, body: b"x", origin: None };
        self.stream.admit(&publish, &StreamLimits::default(), self.at.wall, &mut self.sent);
        self.settle();
    }

    fn pull(&mut self, batch: u64) {
        self.pull_with(&format!("{batch}"));
    }

    fn pull_with(&mut self, body: &str) {
        let Self { stream, sent, at } = self;
        stream.on_next_request("C", b"inbox", body.as_bytes(), at.now, at.wall, sent);
    }

    fn ack(&mut self, payload: &[u8]) {
        let reply = self.sent.deliveries[0].clone();
        let ack = AckSubject::parse(&reply).unwrap();
        self.stream.on_ack(&ack, payload, b"", self.at.now, self.at.wall, &mut self.sent);
    }

    fn wait(&mut self, by: Duration) {
        self.at.now = self.at.now + by;
        self.stream.on_timer(self.at.now, self.at.wall, &mut self.sent);
    }
}

#[test]
fn nothing_is_removed_behind_a_change_that_forbids_it() {
    let removals = [Command::Purge(Purge::default()), Command::DeleteMessage { seq: 1, erase: false }];
    for removal in removals {
        let mut bench = Bench::new();
        bench.publish();
        let sealed = StreamConfig { sealed: true, ..bench.stream.config().clone() };
        for (token, command) in [(1, Command::Update(Box::new(sealed))), (2, removal.clone())] {
            bench.stream.command(command, token, bench.at, &mut bench.sent);
        }
        bench.settle();
        let answer = bench.answer(2);
        assert!(matches!(&answer, Err(e) if *e == errors::STREAM_SEALED), "{removal:?}: {answer:?}");
        assert_eq!(bench.stream.store().state().msgs, 1, "{removal:?}");
    }
}

fn config(description: &str) -> ConsumerConfig {
    ConsumerConfig {
        name: "C".to_owned(),
        durable_name: "C".to_owned(),
        description: description.to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Nanos::from_secs(1),
        ..ConsumerConfig::default()
    }
}

const UNTIL: Wall = Wall(1_000_000_000_000);

fn pause() -> ConsumerCommand {
    ConsumerCommand::Pause { consumer: "C".to_owned(), until: Some(UNTIL) }
}

#[test]
fn what_follows_a_deletion_finds_no_consumer() {
    let later: [fn() -> ConsumerCommand; 3] = [
        pause,
        || ConsumerCommand::Reset { consumer: "C".to_owned(), seq: 0 },
        || ConsumerCommand::Delete("C".to_owned()),
    ];
    for command in later {
        let mut bench = Bench::new();
        bench.create(1, config(""));
        bench.settle();
        bench.call(2, ConsumerCommand::Delete("C".to_owned()));
        bench.call(3, command());
        bench.settle();
        assert!(matches!(bench.answer(2), Ok(CommandOutcome::Done)), "{:?}", command());
        let answer = bench.answer(3);
        assert!(matches!(&answer, Err(e) if *e == errors::CONSUMER_NOT_FOUND), "{:?}: {answer:?}", command());
        assert_eq!(bench.names(), [""; 0], "{:?}", command());
    }
}

#[test]
fn a_pause_behind_a_change_keeps_the_change() {
    let mut bench = Bench::new();
    bench.create(1, config("old"));
    bench.settle();
    bench.create(2, config("new"));
    bench.call(3, pause());
    bench.settle();
    let Ok(CommandOutcome::Consumer(info)) = bench.answer(3) else { panic!("the pause is refused") };
    let config = info.config.unwrap();
    assert_eq!((config.description.as_str(), config.pause_until), ("new", Some(UNTIL)));
}

#[test]
fn what_waits_for_an_entry_is_refused_when_the_log_fails() {
    let mut bench = Bench::new();
    bench.create(1, config(""));
    bench.call(2, pause());
    bench.stream.fail_waiting(&errors::STREAM_OFFLINE, &mut bench.sent);
    let answer = bench.answer(2);
    assert!(matches!(&answer, Err(e) if *e == errors::STREAM_OFFLINE), "{answer:?}");
}

#[test]
fn a_deletion_behind_a_creation_deletes() {
    let mut bench = Bench::new();
    bench.create(1, config(""));
    bench.call(2, ConsumerCommand::Delete("C".to_owned()));
    bench.settle();
    assert!(matches!(bench.answer(2), Ok(CommandOutcome::Done)));
    assert_eq!(bench.names(), [""; 0]);
}

#[test]
fn a_consumer_that_pins_nobody_any_more_tells_of_no_pin() {
    let mut bench = Bench::new();
    let pinning = ConsumerConfig {
        priority_policy: PriorityPolicy::PinnedClient,
        priority_groups: vec!["g".to_owned()],
        ..config("")
    };
    bench.create(1, pinning);
    bench.settle();
    bench.publish();
    bench.publish();
    bench.pull_with(r#"{"batch":1,"group":"g"}"#);
    bench.create(2, config(""));
    bench.settle();
    bench.pull(1);
    let has_pin: Vec<bool> = bench.sent.blocks.iter().map(|block| block.contains("Nats-Pin-Id")).collect();
    assert_eq!(has_pin, [true, false]);
}

#[test]
fn a_message_that_waits_to_be_delivered_again_is_so_once() {
    for word in ["+WPI", r#"-NAK {"delay": 1000000000}"#] {
        let mut bench = Bench::new();
        bench.create(1, config(""));
        bench.settle();
        bench.publish();
        bench.pull(1);
        assert_eq!(bench.sent.deliveries.len(), 1);
        // Nobody asks for messages when it is due, nor when it is due again.
        bench.wait(Duration::from_secs(2));
        bench.ack(word.as_bytes());
        bench.wait(Duration::from_secs(2));
        bench.pull(5);
        assert_eq!(bench.sent.deliveries.len(), 2, "{word}");
    }
}

#[test]
fn what_is_acknowledged_before_a_consumer_begins_anew_does_not_come_back() {
    let mut bench = Bench::new();
    let kept = StreamConfig { retention: RetentionPolicy::Interest, ..bench.stream.config().clone() };
    bench.stream.command(Command::Update(Box::new(kept)), 1, bench.at, &mut bench.sent);
    bench.create(2, config(""));
    bench.settle();
    bench.publish();
    bench.publish();
    bench.pull(2);
    // Both stand in one entry of the log.
    bench.ack(b"+ACK");
    bench.call(3, ConsumerCommand::Reset { consumer: "C".to_owned(), seq: 1 });
    bench.settle();
    assert!(bench.answer(3).is_ok());
    let state = bench.stream.store().state();
    assert_eq!((state.msgs, state.first_seq), (1, 2));
}
