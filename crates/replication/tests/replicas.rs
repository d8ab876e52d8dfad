//! Three replicas of one stream, over logs in memory and a network that the test turns by hand.

#![allow(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linnet_assets::{
    Answer, Command, CommandOutcome, ConsumerCommand, Moment, Output, Place, Publish, Stream, StreamLimits,
    Token,
};
use linnet_ids::{GroupId, Mono, PeerId, Wall};
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{RetentionPolicy, StorageType};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::{ConsumerConfig, Nanos, StreamConfig};
use linnet_raft::{LogPoint, Membership, Message, Opening, Replica};
use linnet_replication::raft::PeerChange;
use linnet_replication::{Log, StreamGroup, Ticket};
use linnet_store::{Filter, Kind, LoadJob, Lookup, Seed, StreamStore};
use linnet_wal::HardState;

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 4, random: 9 };
const NAMES: [&str; 3] = ["a", "b", "c"];

/// A log whose every batch holds one record and is durable when the test says so.
#[derive(Default)]
struct MemLog {
    last: Ticket,
}

impl MemLog {
    fn add(&mut self) -> Ticket {
        self.last += 1;
        self.last
    }
}

impl Log for MemLog {
    fn append(&mut self, _: GroupId, _: u64, _: u64, _: &[u8]) -> Ticket {
        self.add()
    }
    fn hard_state(&mut self, _: GroupId, _: &HardState) -> Ticket {
        self.add()
    }
    fn checkpoint(&mut self, _: GroupId, _: u64, _: u64, _: &[u8]) -> Ticket {
        self.add()
    }
    fn append_with_state(&mut self, _: GroupId, _: u64, _: u64, _: &[u8], _: &HardState) -> Ticket {
        self.add()
    }
    fn install(&mut self, _: GroupId, _: LogPoint, _: &[u8], _: &HardState) -> Ticket {
        self.add()
    }
    fn end_group(&mut self, _: GroupId) -> Ticket {
        self.add()
    }
}

/// What a replica sent to clients.
#[derive(Default)]
struct Sent {
    published: Vec<(String, String)>,
    answers: Vec<(Token, Answer)>,
}

impl Output for Sent {
    fn publish(&mut self, to: &[u8], _: &[u8], _: &[u8], header_len: usize, body: &[u8]) -> usize {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.published.push((text(to), text(&body[header_len..])));
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
    fn load(&mut self, _: LoadJob) {
        panic!("everything is in memory");
    }
    fn advise(&mut self, _: linnet_assets::Advisory) {}
}

struct Server {
    group: StreamGroup,
    log: MemLog,
    sent: Sent,
}

struct Cluster {
    servers: BTreeMap<PeerId, Server>,
    down: BTreeSet<PeerId>,
    /// A server that does not run, and what comes for it meanwhile.
    paused: Option<(PeerId, Vec<Message>)>,
    now: Mono,
}

fn config() -> StreamConfig {
    StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s.>".to_owned()],
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        max_consumers: -1,
        duplicate_window: Nanos(120_000_000_000),
        num_replicas: 3,
        storage: StorageType::File,
        ..StreamConfig::default()
    }
}

impl Cluster {
    fn new(config: &StreamConfig) -> Self {
        let replica = |name: &str| Replica { peer: PeerId::of_name(name), incarnation: 7 };
        let membership = Membership::of_voters(NAMES.map(replica));
        let now = Mono(1_000_000_000);
        let servers = NAMES.iter().enumerate().map(|(n, name)| {
            let opening = Opening::founding(GROUP, replica(name), membership.clone(), n as u64 + 1);
            let store = StreamStore::new(Kind::Memory, Seed::of(GROUP), 0, config.max_msgs_per_subject);
            let stream = Stream::new(config.clone(), Wall(1), Place::default(), store, Vec::new(), now);
            let mut log = MemLog::default();
            let group = StreamGroup::replica(opening, stream, None, now, &mut log);
            (PeerId::of_name(name), Server { group, log, sent: Sent::default() })
        });
        let mut cluster = Self { servers: servers.collect(), down: BTreeSet::new(), paused: None, now };
        for peer in cluster.peers() {
            cluster.reach(peer, true);
        }
        cluster
    }

    fn peers(&self) -> Vec<PeerId> {
        self.servers.keys().copied().collect()
    }

    /// All others hear a server from here on, or do not any more.
    fn reach(&mut self, peer: PeerId, reachable: bool) {
        let change =
            |peer| if reachable { PeerChange::Reachable(peer) } else { PeerChange::Unreachable(peer) };
        if reachable {
            self.down.remove(&peer)
        } else {
            self.down.insert(peer)
        };
        for other in self.peers() {
            if other != peer {
                let now = self.now;
                let Server { group, log, .. } = self.servers.get_mut(&other).unwrap();
                group.on_peer(now, change(peer), log);
                let Server { group, log, .. } = self.servers.get_mut(&peer).unwrap();
                group.on_peer(now, change(other), log);
            }
        }
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, wall: Wall(self.now.0 as i64), live: true }
    }

    /// Lets everybody act and delivers what they say until nothing happens, then lets time pass.
    fn run(&mut self, passes: usize) {
        for _ in 0..passes {
            let at = self.at();
            let mut messages = Vec::new();
            let paused = self.paused.as_ref().map(|(peer, _)| *peer);
            for (_, server) in self.servers.iter_mut().filter(|(peer, _)| Some(**peer) != paused) {
                let Server { group, log, sent } = server;
                if group.next_due().is_some_and(|due| due <= at.now) {
                    group.on_timer(at, log, sent);
                }
                group.flush(at, log, sent).unwrap();
                let last = log.last;
                group.durable(last, at, log, sent).unwrap();
                group.flush(at, log, sent).unwrap();
                messages.extend(group.outbox().unwrap().take().into_values().flatten());
            }
            for (_, message) in messages {
                if self.down.contains(&message.to.peer) || self.down.contains(&message.from.peer) {
                    continue;
                }
                if let Some((_, mail)) = self.paused.as_mut().filter(|(peer, _)| *peer == message.to.peer) {
                    mail.push(message);
                } else if let Some(Server { group, log, .. }) = self.servers.get_mut(&message.to.peer) {
                    group.on_message(at.now, message, log);
                }
            }
            self.now = self.now + Duration::from_millis(10);
        }
    }

    /// A server stops to run without knowing it.
    fn pause(&mut self, peer: PeerId) {
        self.paused = Some((peer, Vec::new()));
    }

    /// The others hear the one that is paused, or do not any more.
    fn hear_paused(&mut self, is_heard: bool) {
        let (paused, _) = self.paused.as_ref().unwrap();
        let paused = *paused;
        let change = if is_heard { PeerChange::Reachable(paused) } else { PeerChange::Unreachable(paused) };
        for other in self.peers().into_iter().filter(|other| *other != paused) {
            let Server { group, log, .. } = self.servers.get_mut(&other).unwrap();
            group.on_peer(self.now, change, log);
        }
    }

    /// It runs again, and takes what came meanwhile all at once.
    fn resume(&mut self) {
        let (peer, mail) = self.paused.take().unwrap();
        let at = self.at();
        let Server { group, log, sent } = self.servers.get_mut(&peer).unwrap();
        mail.into_iter().for_each(|message| group.on_message(at.now, message, log));
        group.flush(at, log, sent).unwrap();
        assert!(!group.stream().is_leading(), "another one leads");
    }

    /// One server acts alone: what it says is lost.
    fn flush(&mut self, on: PeerId) {
        let at = self.at();
        let Server { group, log, sent } = self.servers.get_mut(&on).unwrap();
        group.flush(at, log, sent).unwrap();
        group.outbox().unwrap().take();
    }

    fn leader(&mut self) -> PeerId {
        for _ in 0..100 {
            self.run(10);
            let paused = self.paused.as_ref().map(|(peer, _)| *peer);
            let leading =
                self.servers.iter().filter(|(peer, _)| !self.down.contains(peer) && Some(**peer) != paused);
            let leading: Vec<_> = leading.filter(|(_, s)| s.group.stream().is_leading()).collect();
            if let [(peer, _)] = leading[..] {
                return *peer;
            }
        }
        panic!("nobody leads");
    }

    fn publish(&mut self, on: PeerId, subject: &str, id: &str, reply: &str) {
        let at = self.at();
        let Server { group, sent, .. } = self.servers.get_mut(&on).unwrap();
        let mut body = Vec::new();
        linnet_wire::headers::begin(&mut body, "");
        linnet_wire::headers::push(&mut body, "Nats-Msg-Id", id.as_bytes());
        linnet_wire::headers::end(&mut body);
        let header_len = body.len();
        body.extend_from_slice(b"payload");
        let publish = Publish {
            subject: subject.as_bytes(),
            reply: reply.as_bytes(),
            header_len,
            body: &body,
            origin: None,
        };
        let (dealt_with, _) = group.offer([publish].into_iter(), &StreamLimits::default(), at, sent);
        assert_eq!(dealt_with, 1, "there is room");
    }

    fn acks(&self, on: PeerId) -> Vec<(String, String)> {
        self.servers[&on].sent.published.clone()
    }

    fn command(&mut self, on: PeerId, command: Command) -> Answer {
        let at = self.at();
        let Server { group, sent, .. } = self.servers.get_mut(&on).unwrap();
        group.stream_mut().command(command, 99, at, sent);
        self.run(20);
        let sent = &mut self.servers.get_mut(&on).unwrap().sent;
        let at = sent.answers.iter().position(|(token, _)| *token == 99).expect("it was answered");
        sent.answers.remove(at).1
    }

    /// Everything a replica holds: its messages and what a checkpoint would keep beside them.
    fn dump(&mut self, of: PeerId) -> String {
        let stream = self.servers.get_mut(&of).unwrap().group.stream_mut();
        let mut text =
            format!("{:?}\n{}\n", stream.store().state(), serde_json::to_string(&stream.saved()).unwrap());
        let mut next = 0;
        while let Some(seq) = stream.store().next(next, &Filter::all()) {
            let Lookup::Found(record) = stream.store_mut().get(seq, true) else { panic!("in memory") };
            text.push_str(&format!("{seq} {:?} {:?} {:?}\n", record.subject, record.headers, record.payload));
            next = seq + 1;
        }
        text
    }

    fn assert_same(&mut self) {
        let dumps: Vec<String> = self.peers().into_iter().map(|peer| self.dump(peer)).collect();
        assert_eq!(dumps[0], dumps[1]);
        assert_eq!(dumps[0], dumps[2]);
    }

    fn other_than(&self, peer: PeerId) -> PeerId {
        self.peers().into_iter().find(|p| *p != peer).unwrap()
    }
}

fn consumer(name: &str) -> Command {
    let config = ConsumerConfig {
        name: name.to_owned(),
        durable_name: name.to_owned(),
        ack_policy: linnet_jsapi::policies::AckPolicy::Explicit,
        ..ConsumerConfig::default()
    };
    let request =
        CreateConsumerRequest { stream: "S".to_owned(), config, ..CreateConsumerRequest::default() };
    Command::Consumer(ConsumerCommand::Create {
        request: Box::new(request),
        suggested_name: name.to_owned(),
        limits: Box::new(Limits::unlimited()),
    })
}

#[test]
fn a_publish_is_acknowledged_once_a_majority_has_it_and_replicas_are_alike() {
    let mut cluster = Cluster::new(&config());
    let leader = cluster.leader();
    cluster.publish(leader, "s.1", "one", "reply.1");
    assert!(cluster.acks(leader).is_empty(), "nobody else has it yet");
    cluster.run(10);
    let expected = ("reply.1".to_owned(), r#"{"stream":"S","seq":1}"#.to_owned());
    assert_eq!(cluster.acks(leader), [expected]);
    cluster.assert_same();
}

#[test]
fn without_a_majority_nothing_is_acknowledged() {
    let mut cluster = Cluster::new(&config());
    let leader = cluster.leader();
    cluster.publish(leader, "s.1", "one", "reply.1");
    cluster.flush(leader);
    for peer in cluster.peers().into_iter().filter(|peer| *peer != leader) {
        cluster.reach(peer, false);
    }
    cluster.run(5);
    assert!(cluster.acks(leader).is_empty());
    for peer in cluster.peers() {
        cluster.reach(peer, true);
    }
    cluster.leader();
    cluster.run(50);
    assert!(cluster.acks(leader).is_empty(), "whether it became part of the log or not");
    cluster.assert_same();
}

#[test]
fn a_new_leader_knows_ids_and_what_the_old_one_decided_alone_is_gone() {
    let mut cluster = Cluster::new(&config());
    let old = cluster.leader();
    cluster.publish(old, "s.1", "one", "reply.1");
    cluster.run(10);
    cluster.publish(old, "s.2", "two", "reply.2");
    cluster.flush(old);
    cluster.reach(old, false);
    cluster.run(1);
    let new = cluster.leader();
    assert_ne!(new, old);
    cluster.publish(new, "s.1", "one", "again");
    cluster.publish(new, "s.3", "three", "reply.3");
    cluster.run(20);
    let texts: Vec<String> = cluster.acks(new).into_iter().map(|(to, body)| format!("{to} {body}")).collect();
    assert_eq!(
        texts,
        [r#"again {"stream":"S","seq":1,"duplicate": true}"#, r#"reply.3 {"stream":"S","seq":2}"#]
    );
    cluster.reach(old, true);
    cluster.run(200);
    assert!(!cluster.servers[&old].group.stream().is_leading());
    assert_eq!(cluster.acks(old).len(), 1, "the one without a majority is not acknowledged");
    cluster.assert_same();
}

#[test]
fn consumers_and_their_state_go_on_at_the_next_leader() {
    let config = StreamConfig { retention: RetentionPolicy::WorkQueue, ..config() };
    let mut cluster = Cluster::new(&config);
    let old = cluster.leader();
    cluster.command(old, consumer("d")).unwrap();
    for n in 1..=4 {
        cluster.publish(old, "s.x", &n.to_string(), "");
    }
    cluster.run(10);
    let at = cluster.at();
    let Server { group, sent, .. } = cluster.servers.get_mut(&old).unwrap();
    group.stream_mut().on_next_request("d", b"inbox", br#"{"batch":3}"#, at.now, at.wall, sent);
    cluster.run(10);
    let at = cluster.at();
    let Server { group, sent, .. } = cluster.servers.get_mut(&old).unwrap();
    assert_eq!(sent.published.iter().filter(|(to, _)| to == "s.x" || to == "inbox").count(), 3);
    let subject = "$JS.ACK.S.d.1.1.1.1000.1";
    let ack = linnet_jsapi::subjects::AckSubject::parse(subject.as_bytes()).unwrap();
    assert!(group.stream_mut().on_ack(&ack, b"+ACK", b"sure", at.now, at.wall, sent));
    cluster.run(10);
    assert!(cluster.acks(old).iter().any(|(to, _)| to == "sure"), "a majority knows of it");
    cluster.assert_same();
    cluster.reach(old, false);
    let new = cluster.leader();
    let Ok(CommandOutcome::Consumer(info)) =
        cluster.command(new, Command::Consumer(ConsumerCommand::Info("d".to_owned())))
    else {
        panic!("the consumer is there");
    };
    assert_eq!((info.num_ack_pending, info.num_pending), (2, 1));
    assert_eq!(cluster.servers[&new].group.stream().store().state().msgs, 3, "the acknowledged one is gone");
    cluster.reach(old, true);
    cluster.run(200);
    cluster.assert_same();
}

#[test]
fn a_follower_refuses_to_decide_and_a_leader_that_steps_down_tells_who_waits() {
    let mut cluster = Cluster::new(&config());
    let leader = cluster.leader();
    let follower = cluster.other_than(leader);
    let refused = cluster.command(follower, Command::Delete).unwrap_err();
    assert_eq!(refused.err_code, 10009);
    for peer in cluster.peers().into_iter().filter(|peer| *peer != leader) {
        cluster.reach(peer, false);
    }
    let at = cluster.at();
    let Server { group, sent, .. } = cluster.servers.get_mut(&leader).unwrap();
    group.stream_mut().command(Command::Purge(Default::default()), 7, at, sent);
    cluster.run(1000);
    let answers = &cluster.servers[&leader].sent.answers;
    assert!(
        matches!(&answers[..], [(7, Err(error))] if error.err_code == 10008),
        "it stepped down and said so: {answers:?}"
    );
}

#[test]
fn a_planned_hand_over_refuses_no_publish() {
    let mut cluster = Cluster::new(&config());
    let old = cluster.leader();
    let new = cluster.other_than(old);
    cluster.publish(old, "s.1", "one", "reply.1");
    let now = cluster.now;
    let Server { group, log, .. } = cluster.servers.get_mut(&old).unwrap();
    group.transfer(now, new, Duration::from_secs(1), log).unwrap();
    cluster.run(30);
    assert!(cluster.servers[&new].group.stream().is_leading());
    assert_eq!(cluster.acks(old).len(), 1, "what was decided before is acknowledged");
    cluster.assert_same();
}

#[test]
fn entries_of_the_next_leader_confirm_nothing_that_the_overtaken_one_decided() {
    let mut cluster = Cluster::new(&config());
    let old = cluster.leader();
    // Nobody hears of these, and they have the places of what the next leader writes.
    for n in 1..=3 {
        cluster.publish(old, "s.1", &format!("lost {n}"), &format!("lost.{n}"));
        cluster.flush(old);
    }
    cluster.pause(old);
    cluster.hear_paused(false);
    let new = cluster.leader();
    cluster.hear_paused(true);
    for n in 1..=3 {
        cluster.publish(new, "s.1", &format!("kept {n}"), &format!("kept.{n}"));
        cluster.run(100);
    }
    assert_eq!(cluster.acks(new).len(), 3);
    cluster.resume();
    assert_eq!(cluster.acks(old), [], "what it decided is not in the log");
    for peer in cluster.peers() {
        cluster.reach(peer, true);
    }
    cluster.run(100);
    cluster.assert_same();
}

#[test]
fn a_leader_that_was_overtaken_sends_nothing_that_the_next_one_may_have_settled() {
    let mut cluster = Cluster::new(&config());
    let old = cluster.leader();
    cluster.command(old, consumer("d")).unwrap();
    cluster.publish(old, "s.1", "one", "");
    cluster.run(10);
    let at = cluster.at();
    let Server { group, log, sent } = cluster.servers.get_mut(&old).unwrap();
    group.stream_mut().on_next_request("d", b"inbox", b"1", at.now, at.wall, sent);
    group.flush(at, log, sent).unwrap();
    // The others get the entry that says so, and what they answer is not read before all that follows.
    let messages = group.outbox().unwrap().take();
    let before = cluster.acks(old).len();
    cluster.pause(old);
    for (_, message) in messages.into_values().flatten() {
        let Server { group, log, .. } = cluster.servers.get_mut(&message.to.peer).unwrap();
        group.on_message(at.now, message, log);
    }
    cluster.run(1);
    cluster.hear_paused(false);
    let new = cluster.leader();
    cluster.hear_paused(true);
    let Ok(CommandOutcome::Consumer(info)) =
        cluster.command(new, Command::Consumer(ConsumerCommand::Info("d".to_owned())))
    else {
        panic!("the consumer is there");
    };
    assert_eq!(info.num_ack_pending, 1, "the delivery is part of the log");
    // What the others answered comes too late to be believed.
    let term = cluster.servers[&new].group.status().unwrap().term;
    cluster.paused.as_mut().unwrap().1.retain(|message| message.term == term);
    cluster.resume();
    assert_eq!(cluster.acks(old).len(), before, "it may have been acknowledged since");
}
