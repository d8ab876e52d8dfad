//! A mirror and a source beside their origin, with losses on the way, restarts and another origin of the same name.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::VecDeque;
use std::time::Duration;

use linnet_assets::{
    Admitted, Advisory, Answer, Command, CommandOutcome, ConsumerCommand, Link, Moment, Output, Place,
    Proposal, Publish, Stream, StreamLimits, Token,
};
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::RetentionPolicy;
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::{StreamConfig, StreamSource, info::AccountLimits};
use linnet_store::{Kind, LoadJob, Lookup, Seed, StreamStore};
use proptest::prelude::*;

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 1 };
const STEP: Duration = Duration::from_millis(50);
/// Longer than anything that is waited for: silence, back-off.
const SETTLED: u32 = 1500;

/// A message that left a stream.
struct Sent {
    to: Vec<u8>,
    shown: Vec<u8>,
    reply: Vec<u8>,
    header_len: usize,
    body: Vec<u8>,
}

/// Where a stream's messages go until somebody takes them on.
#[derive(Default)]
struct Wire {
    sent: VecDeque<Sent>,
    /// Who listens to what: link, subject of messages, subject of the answer.
    listening: Vec<(Link, Vec<u8>, Vec<u8>)>,
    answers: Vec<Answer>,
    ids: u64,
}

impl Output for Wire {
    fn unique_id(&mut self) -> Vec<u8> {
        self.ids += 1;
        format!("{:08}", self.ids).into_bytes()
    }

    fn publish(&mut self, to: &[u8], shown: &[u8], reply: &[u8], header_len: usize, body: &[u8]) -> usize {
        self.sent.push_back(Sent {
            to: to.to_vec(),
            shown: if shown.is_empty() { to.to_vec() } else { shown.to_vec() },
            reply: reply.to_vec(),
            header_len,
            body: body.to_vec(),
        });
        1
    }

    fn has_interest(&mut self, subject: &[u8]) -> bool {
        self.listening.iter().any(|(_, deliver, _)| deliver == subject)
    }

    fn answer(&mut self, _: Token, answer: Answer) {
        self.answers.push(answer);
    }

    fn listen(&mut self, link: Link, deliver_to: &[u8], answer_to: &[u8]) {
        self.listening.push((link, deliver_to.to_vec(), answer_to.to_vec()));
    }

    fn stop_listening(&mut self, link: Link) {
        self.listening.retain(|(other, ..)| *other != link);
    }

    fn load(&mut self, _: LoadJob) {}

    fn advise(&mut self, _: Advisory) {}
}

/// An origin `O` and a stream that takes from it.
struct World {
    origin: Stream,
    follower: Stream,
    config: StreamConfig,
    /// What the follower wrote.
    log: Vec<Vec<u8>>,
    wire: Wire,
    now: Mono,
    wall: i64,
    /// Which deliveries get lost: the next of this many.
    lose: VecDeque<bool>,
    identity: String,
    /// The origin's server refuses what needs more than this level.
    level: u8,
    /// Levels that were asked for, 0 for none, with the name of the consumer.
    asked: Vec<(u8, String)>,
    /// The origin's server refuses nobody who knows another stream by its name.
    is_lenient: bool,
    /// Answers of the origin's server that are on their way, if they take time.
    late: Option<Vec<(Link, Vec<u8>, usize)>>,
}

fn config(name: &str) -> StreamConfig {
    StreamConfig {
        name: name.to_owned(),
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        max_consumers: -1,
        num_replicas: 1,
        ..StreamConfig::default()
    }
}

fn stream(config: StreamConfig, now: Mono) -> Stream {
    let store = StreamStore::new(Kind::Memory, Seed::of(GROUP), 1, -1);
    Stream::new(config, Wall(0), Place::default(), store, Vec::new(), now)
}

impl World {
    fn new(is_mirror: bool) -> Self {
        let from = StreamSource { name: "O".to_owned(), ..StreamSource::default() };
        let mut follower = config("F");
        if is_mirror {
            follower.mirror = Some(from);
        } else {
            follower.sources = vec![from];
        }
        let now = Mono::default();
        Self {
            origin: stream(StreamConfig { subjects: vec!["o".to_owned()], ..config("O") }, now),
            follower: stream(follower.clone(), now),
            config: follower,
            log: Vec::new(),
            wire: Wire::default(),
            now,
            wall: 1,
            lose: VecDeque::new(),
            identity: "first".to_owned(),
            level: 5,
            asked: Vec::new(),
            is_lenient: false,
            late: None,
        }
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, wall: Wall(self.wall), live: true }
    }

    fn step(&mut self) {
        self.now = self.now + STEP;
        self.wall += 50_000_000;
        let at = self.at();
        self.origin.on_timer(at.now, at.wall, &mut self.wire);
        self.follower.on_timer(at.now, at.wall, &mut self.wire);
        self.settle(true);
        let mut passed_on = 0;
        let mut waiting = VecDeque::new();
        while let Some(sent) = self.wire.sent.pop_front() {
            if self.pass_on(&sent) == Admitted::Wait {
                waiting.push_back(sent);
            }
            self.settle(passed_on % 3 == 0);
            passed_on += 1;
            assert!(passed_on < 100_000, "they keep each other busy");
        }
        self.wire.sent = waiting;
        self.settle(true);
    }

    /// The late answers come.
    fn answer(&mut self) {
        for (link, answer, header_len) in self.late.take().unwrap_or_default() {
            self.tell(link, &answer, header_len);
        }
    }

    fn tell(&mut self, link: Link, answer: &[u8], header_len: usize) {
        let at = self.at();
        let (block, payload) = answer.split_at(header_len);
        self.follower.on_origin_answer(link, block, payload, at.now, at.wall, &mut self.wire);
    }

    /// Applies what was proposed; what the follower wrote is durable only then.
    fn settle(&mut self, with_follower: bool) {
        let at = self.at();
        for proposal in self.origin.take_proposals(at.now) {
            self.origin.apply(&proposal, at, &mut self.wire).unwrap();
        }
        self.origin.run_ready(at.now, at.wall, &mut self.wire);
        if with_follower {
            for proposal in self.follower.take_proposals(at.now) {
                self.log.push(proposal.bytes.clone());
                self.follower.apply(&proposal, at, &mut self.wire).unwrap();
            }
        }
    }

    fn pass_on(&mut self, sent: &Sent) -> Admitted {
        let at = self.at();
        if sent.to.starts_with(b"$JS.API.CONSUMER.CREATE.O") {
            self.create_consumer(sent);
        } else if let Some(name) = sent.to.strip_prefix(b"$JS.FC.O.") {
            let name = name.split(|b| *b == b'.').next().unwrap();
            let name = str::from_utf8(name).unwrap().to_owned();
            let block = &sent.body[..sent.header_len];
            self.origin.on_flow_answer(&name, &sent.to, block, at.now, at.wall, &mut self.wire);
        } else if let Some((link, ..)) =
            self.wire.listening.iter().find(|(_, deliver, _)| *deliver == sent.to)
        {
            if self.lose.pop_front() == Some(true) {
                return Admitted::Stored;
            }
            let message = Publish {
                subject: &sent.shown,
                reply: &sent.reply,
                header_len: sent.header_len,
                body: &sent.body,
                origin: Some(*link),
            };
            let limits = StreamLimits::default();
            return self.follower.take_over(*link, &message, &limits, at.now, at.wall, &mut self.wire);
        }
        Admitted::Stored
    }

    fn create_consumer(&mut self, sent: &Sent) {
        let block = &sent.body[..sent.header_len];
        let known = linnet_wire::headers::get(block, "Nats-Stream-Identity").unwrap_or_default().to_vec();
        let mut answer = format!("NATS/1.0\r\nNats-Stream-Identity: {}\r\n\r\n", self.identity).into_bytes();
        let header_len = answer.len();
        let level =
            linnet_wire::headers::get(block, "Nats-Required-Api-Level").map_or(0, |level| level[0] - b'0');
        let request: CreateConsumerRequest = serde_json::from_slice(&sent.body[sent.header_len..]).unwrap();
        self.asked.push((level, request.config.name.clone()));
        if level > self.level {
            answer.extend_from_slice(br#"{"error":{"code":412,"err_code":10185,"description":"level"}}"#);
        } else if !known.is_empty() && known != self.identity.as_bytes() && !self.is_lenient {
            answer.extend_from_slice(br#"{"error":{"code":400,"err_code":10225,"description":"another"}}"#);
        } else {
            assert_eq!(request.config.sourcing, level > 0);
            let unlimited = AccountLimits { max_consumers: -1, max_streams: -1, ..AccountLimits::default() };
            let command = ConsumerCommand::Create {
                request: Box::new(request),
                suggested_name: String::from_utf8(self.wire.unique_id()).unwrap(),
                limits: Box::new(Limits { account: Some(unlimited), ..Limits::default() }),
            };
            let at = self.at();
            self.origin.command(Command::Consumer(command), 1, at, &mut self.wire);
            self.settle(false);
            let outcome = self.wire.answers.pop().unwrap().unwrap();
            assert!(matches!(outcome, CommandOutcome::Consumer(_)), "{outcome:?}");
            answer.extend_from_slice(b"{}");
        }
        let link = self.wire.listening.iter().find(|(.., to)| *to == sent.reply).map(|(link, ..)| *link);
        match (link, &mut self.late) {
            (Some(link), Some(late)) => late.push((link, answer, header_len)),
            (Some(link), None) => self.tell(link, &answer, header_len),
            (None, _) => {}
        }
    }

    fn publish(&mut self, body: &str) {
        self.publish_with("", body);
    }

    fn publish_with(&mut self, block: &str, payload: &str) {
        let body = [block, payload].concat();
        let publish = Publish {
            subject: b"o",
            reply: b"",
            header_len: block.len(),
            body: body.as_bytes(),
            origin: None,
        };
        let wall = Wall(self.wall);
        self.origin.admit(&publish, &StreamLimits::default(), wall, &mut self.wire);
        self.settle(false);
    }

    fn delete(&mut self, seq: StreamSeq) {
        let at = self.at();
        self.origin.command(Command::DeleteMessage { seq, erase: false }, 1, at, &mut self.wire);
        self.settle(false);
    }

    /// The follower begins again from what it wrote; what it had not written is lost.
    fn restart(&mut self) {
        let mut follower = stream(self.config.clone(), self.now);
        let at = Moment { live: false, ..self.at() };
        for bytes in &self.log {
            let proposal = Proposal::new(bytes.clone(), None);
            follower.apply(&proposal, at, &mut Wire::default()).unwrap();
        }
        follower.finish_replay(self.now, Wall(0));
        self.wire.listening.clear();
        self.follower = follower;
    }

    /// Another stream takes the origin's name.
    fn replace_origin(&mut self) {
        self.origin = stream(StreamConfig { subjects: vec!["o".to_owned()], ..config("O") }, self.now);
        self.identity = "second".to_owned();
    }

    fn wait(&mut self) {
        for _ in 0..SETTLED {
            self.step();
        }
    }
}

/// Sequence and payload of everything stored.
fn content(stream: &mut Stream) -> Vec<(StreamSeq, String)> {
    let last = stream.store().state().last_seq;
    let mut all = Vec::new();
    for seq in 1..=last {
        if let Lookup::Found(record) = stream.store_mut().get(seq, false) {
            all.push((seq, String::from_utf8(record.payload.to_vec()).unwrap()));
        }
    }
    all
}

fn payloads(stream: &mut Stream) -> Vec<String> {
    content(stream).into_iter().map(|(_, payload)| payload).collect()
}

#[derive(Clone, Debug)]
enum Event {
    Publish,
    Delete(u64),
    Step,
    /// The next deliveries: which of them get lost.
    Lose(Vec<bool>),
    Restart,
    Silence,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => Just(Event::Publish),
        1 => (1..30_u64).prop_map(Event::Delete),
        4 => Just(Event::Step),
        1 => proptest::collection::vec(any::<bool>(), 1..6).prop_map(Event::Lose),
        1 => Just(Event::Restart),
        1 => Just(Event::Silence),
    ];
    proptest::collection::vec(event, 1..60)
}

fn play(world: &mut World, events: &[Event]) -> Vec<String> {
    let mut published = Vec::new();
    for event in events {
        match event {
            Event::Publish => {
                let body = format!("m{}", published.len());
                world.publish(&body);
                published.push(body);
            }
            Event::Delete(seq) => world.delete(*seq),
            Event::Step => world.step(),
            Event::Lose(which) => world.lose.extend(which),
            Event::Restart => world.restart(),
            Event::Silence => (0..250).for_each(|_| world.step()),
        }
    }
    world.lose.clear();
    world.wait();
    published
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_source_takes_everything_once_and_in_order(events in events()) {
        let mut world = World::new(false);
        let without_deletes: Vec<_> =
            events.into_iter().filter(|e| !matches!(e, Event::Delete(_))).collect();
        let published = play(&mut world, &without_deletes);
        prop_assert_eq!(payloads(&mut world.follower), published);
    }

    #[test]
    fn a_mirror_that_catches_up_is_its_origin(events in events()) {
        let mut world = World::new(true);
        play(&mut world, &events);
        let (theirs, ours) = (content(&mut world.origin), content(&mut world.follower));
        // What was deleted after it was taken over stays in the mirror.
        let kept: Vec<_> = ours.iter().filter(|(seq, _)| theirs.iter().any(|(s, _)| s == seq)).collect();
        prop_assert_eq!(kept, theirs.iter().collect::<Vec<_>>());
        prop_assert_eq!(
            world.follower.store().state().last_seq,
            world.origin.store().state().last_seq
        );
    }
}

#[test]
fn an_origin_kept_by_interest_keeps_what_its_mirror_asks_for_again() {
    let mut world = World::new(true);
    let config = StreamConfig { retention: RetentionPolicy::Interest, ..world.origin.config().clone() };
    world.origin = stream(config, world.now);
    world.wait();
    world.lose.extend([true; 3]);
    for body in ["a", "b", "c"] {
        world.publish(body);
    }
    world.step();
    assert_eq!(payloads(&mut world.origin), ["a", "b", "c"]);
    world.restart();
    world.lose.clear();
    world.wait();
    assert_eq!(payloads(&mut world.follower), ["a", "b", "c"]);
    assert_eq!(payloads(&mut world.origin), [""; 0]);
}

#[test]
fn what_a_schedule_of_the_origin_published_is_taken() {
    let mut world = World::new(false);
    let config = StreamConfig { allow_msg_schedules: true, ..world.origin.config().clone() };
    world.origin = stream(config, world.now);
    world.publish_with("NATS/1.0\r\nNats-Scheduler: s\r\nNats-Schedule-Next: purge\r\n\r\n", "a");
    world.publish("b");
    world.wait();
    assert_eq!(payloads(&mut world.follower), ["a", "b"]);
}

#[test]
fn a_rollup_of_the_origin_removes_nothing_where_it_may_not() {
    for is_mirror in [true, false] {
        for (may, deny_purge) in [(true, false), (true, true), (false, false)] {
            let mut world = World::new(is_mirror);
            let origin =
                StreamConfig { subjects: vec!["o".to_owned()], allow_rollup_hdrs: true, ..config("O") };
            world.origin = stream(origin, world.now);
            let follower = StreamConfig { allow_rollup_hdrs: may, deny_purge, ..world.config.clone() };
            world.follower = stream(follower, world.now);
            world.publish("a");
            world.publish("b");
            world.wait();
            world.publish_with("NATS/1.0\r\nNats-Rollup: sub\r\n\r\n", "c");
            world.wait();
            let expected: &[&str] = if may && !deny_purge { &["c"] } else { &["a", "b", "c"] };
            assert_eq!(payloads(&mut world.follower), expected, "{is_mirror} {may} {deny_purge}");
        }
    }
}

#[test]
fn a_server_that_is_too_old_is_asked_for_less() {
    for (is_mirror, levels) in [(true, [4, 0].as_slice()), (false, &[5, 4, 0])] {
        for oldest in levels {
            let mut world = World::new(is_mirror);
            world.level = *oldest;
            world.publish("a");
            (0..20).for_each(|_| world.step());
            assert_eq!(payloads(&mut world.follower), ["a"]);
            let asked: Vec<u8> = world.asked.iter().map(|(level, _)| *level).collect();
            let expected: Vec<u8> = levels.iter().copied().filter(|level| level >= oldest).collect();
            assert_eq!(asked, expected, "mirror: {is_mirror}");
            let (_, first) = &world.asked[0];
            let (level, last) = world.asked.last().unwrap();
            assert!(last.starts_with(first.as_str()) && (last == first) == (*level > 0), "{first}, {last}");
        }
    }
}

#[test]
fn another_origin_that_is_told_of_is_taken_at_once() {
    let mut world = World::new(false);
    world.publish("a");
    world.wait();
    for body in ["b", "c"] {
        world.replace_origin();
        world.identity = body.to_owned();
        world.publish(body);
        world.follower.origin_changed("other", world.now, &mut world.wire);
        (0..20).for_each(|_| world.step());
        let before = payloads(&mut world.follower);
        world.follower.origin_changed("O", world.now, &mut world.wire);
        (0..20).for_each(|_| world.step());
        assert!(!before.contains(&body.to_owned()) && payloads(&mut world.follower).last().unwrap() == body);
    }
}

#[test]
fn another_origin_of_the_same_name_is_taken_from_its_start() {
    let mut world = World::new(false);
    for body in ["a", "b", "c"] {
        world.publish(body);
        world.step();
    }
    world.wait();
    world.publish("d");
    world.wait();
    world.replace_origin();
    world.publish("e");
    world.wait();
    assert_eq!(payloads(&mut world.follower), ["a", "b", "c", "d", "e"]);
}

/// Source headers of what the follower has.
fn source_headers(world: &mut World) -> Vec<String> {
    let mut all = Vec::new();
    for seq in 1..=world.follower.store().state().last_seq {
        if let Lookup::Found(record) = world.follower.store_mut().get(seq, false) {
            let header = linnet_wire::headers::get(record.headers, "Nats-Stream-Source").unwrap();
            all.push(String::from_utf8(header.to_vec()).unwrap());
        }
    }
    all
}

#[test]
fn what_comes_before_the_answer_waits_for_whose_it_is() {
    let mut world = World::new(false);
    world.late = Some(Vec::new());
    world.publish("a");
    world.publish("b");
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(source_headers(&mut world), [""; 0]);
    world.answer();
    world.step();
    assert_eq!(source_headers(&mut world), ["O 1 > > o first", "O 2 > > o first"]);
}

#[test]
fn what_waits_for_an_answer_that_does_not_come_is_taken_without() {
    let mut world = World::new(false);
    world.late = Some(Vec::new());
    world.publish("a");
    for _ in 0..25 {
        world.step();
    }
    assert_eq!(source_headers(&mut world), ["O 1 > > o"]);
}

#[test]
fn a_mirror_waits_for_no_answer() {
    let mut world = World::new(true);
    world.late = Some(Vec::new());
    world.publish("a");
    for _ in 0..3 {
        world.step();
    }
    assert_eq!(payloads(&mut world.follower), ["a"]);
}

#[test]
fn another_origin_is_noticed_by_what_the_answer_says() {
    let mut world = World::new(false);
    world.is_lenient = true;
    for body in ["a", "b", "c"] {
        world.publish(body);
    }
    world.wait();
    world.replace_origin();
    for body in ["d", "e", "f", "g"] {
        world.publish(body);
    }
    world.wait();
    assert_eq!(payloads(&mut world.follower), ["a", "b", "c", "d", "e", "f", "g"]);
}
