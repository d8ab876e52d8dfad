//! A consumer that delivers the newest message of each subject first, across restarts.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linnet_assets::{
    Admitted, Advisory, Answer, Command, ConsumerCommand, Moment, Output, Place, Proposal, Publish, Purge,
    Stream, StreamLimits, StreamSaved, Token,
};
use linnet_env::{Disk, FaultyDisk};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, DeliverPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::subjects::AckSubject;
use linnet_jsapi::{ConsumerConfig, StreamConfig};
use linnet_store::{CheckpointBody, LoadJob, Seed, StreamStore};
use proptest::prelude::*;

/// What left the stream.
#[derive(Default)]
struct Sent {
    delivered: Vec<u64>,
    loads: Vec<LoadJob>,
}

impl Output for Sent {
    fn unique_id(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn publish(&mut self, _: &[u8], _: &[u8], reply: &[u8], _: usize, _: &[u8]) -> usize {
        self.delivered.extend(AckSubject::parse(reply).map(|ack| ack.stream_seq));
        1
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        true
    }

    fn answer(&mut self, _: Token, answer: Answer) {
        // Deleting what is not there is refused; nothing else here is.
        if let Err(error) = answer {
            assert!([10043, 10057].contains(&error.err_code), "{error:?}");
        }
    }

    fn load(&mut self, job: LoadJob) {
        self.loads.push(job);
    }

    fn advise(&mut self, _: Advisory) {}
}

/// A stream with its log and its last checkpoint.
struct Server {
    disk: Arc<dyn Disk>,
    stream: Stream,
    now: Mono,
    log: Vec<Vec<u8>>,
    /// The checkpoint and the number of entries it covers.
    checkpoint: (Option<CheckpointBody>, usize),
    sent: Sent,
}

const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 1 };

fn dir() -> PathBuf {
    PathBuf::from("/stream")
}

fn open(disk: &Arc<dyn Disk>, body: Option<CheckpointBody>, log: &[Vec<u8>], now: Mono) -> Stream {
    let (store, report) = StreamStore::open(disk, dir(), Seed::of(GROUP), body, |_| -1).unwrap();
    let saved: Option<StreamSaved> = serde_json::from_slice(&report.extra).ok();
    let fresh = StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s.*".to_owned()],
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: 4,
        max_consumers: -1,
        num_replicas: 1,
        ..StreamConfig::default()
    };
    let (config, consumers) = saved.map_or((fresh, Vec::new()), |saved| (saved.config, saved.consumers));
    let mut stream = Stream::new(config, Wall(0), Place::default(), store, consumers, now);
    let at = Moment { now, wall: Wall(1), live: false };
    for bytes in log {
        let proposal = Proposal::new(bytes.clone(), None);
        stream.apply(&proposal, at, &mut Sent::default()).unwrap();
    }
    stream.finish_replay(now, Wall(0));
    stream
}

impl Server {
    fn new() -> Self {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
        disk.create_dir_all(&dir()).unwrap();
        let now = Mono::default();
        let stream = open(&disk, None, &[], now);
        Self { disk, stream, now, log: Vec::new(), checkpoint: (None, 0), sent: Sent::default() }
    }

    /// Writes what is proposed and applies it.
    fn commit(&mut self) {
        self.now = self.now + Duration::from_millis(20);
        let at = Moment { now: self.now, wall: Wall(1), live: true };
        for proposal in self.stream.take_proposals(self.now) {
            self.log.push(proposal.bytes.clone());
            self.stream.apply(&proposal, at, &mut self.sent).unwrap();
        }
        self.stream.run_ready(self.now, Wall(1), &mut self.sent);
        while let Some(job) = self.sent.loads.pop() {
            self.stream.on_loaded(job.run(), self.now, Wall(1), &mut self.sent);
        }
    }

    fn publish(&mut self, subject: &str) {
        let publish =
            Publish { subject: subject.as_bytes(), reply: b"", header_len: 0, body: b"x", origin: None };
        let admitted = self.stream.admit(&publish, &StreamLimits::default(), Wall(1), &mut self.sent);
        assert_eq!(admitted, Admitted::Stored);
        self.commit();
    }

    fn command(&mut self, command: Command) {
        self.stream.command(
            command,
            1,
            Moment { now: Mono::default(), wall: Wall(1), live: true },
            &mut self.sent,
        );
        self.commit();
    }

    fn create_consumer(&mut self, filter: &str) {
        let config = ConsumerConfig {
            name: "c".to_owned(),
            durable_name: "c".to_owned(),
            deliver_policy: DeliverPolicy::LastPerSubject,
            ack_policy: AckPolicy::None,
            filter_subject: filter.to_owned(),
            ..ConsumerConfig::default()
        };
        let request =
            CreateConsumerRequest { stream: "S".to_owned(), config, ..CreateConsumerRequest::default() };
        self.command(Command::Consumer(ConsumerCommand::Create {
            request: Box::new(request),
            suggested_name: String::new(),
            limits: Box::new(Limits::unlimited()),
        }));
    }

    /// Asks for messages; the sequences that came.
    fn fetch(&mut self, batch: usize) -> Vec<u64> {
        let body = format!(r#"{{"batch":{batch},"no_wait":true}}"#);
        self.stream.on_next_request("c", b"_r", body.as_bytes(), self.now, Wall(1), &mut self.sent);
        self.commit();
        self.commit();
        std::mem::take(&mut self.sent.delivered)
    }

    fn deliveries(&self) -> u64 {
        self.stream.saved().consumers[0].state.as_ref().unwrap().delivered.consumer
    }

    fn delete(&mut self, seq: u64) {
        self.command(Command::DeleteMessage { seq, erase: false });
    }

    fn take_checkpoint(&mut self) {
        let extra = serde_json::to_vec(&self.stream.saved()).unwrap();
        let Some(job) = self.stream.store_mut().begin_checkpoint(&extra) else { return };
        let (body, _) = self.stream.store_mut().finish_checkpoint(job.run()).unwrap();
        self.checkpoint = (Some(body), self.log.len());
    }

    fn restart(&mut self) {
        self.commit();
        let (body, covered) = self.checkpoint;
        self.stream = open(&self.disk, body, &self.log[covered..], self.now);
    }
}

/// Newest are s.a 1, s.b 4 and s.c 5.
fn with_backlog() -> Server {
    let mut server = Server::new();
    for subject in ["s.a", "s.b", "s.c", "s.b", "s.c"] {
        server.publish(subject);
    }
    server.create_consumer("s.*");
    server
}

#[test]
fn what_is_owed_survives_a_restart_from_the_log() {
    let mut server = with_backlog();
    assert_eq!(server.fetch(1), [1]);
    server.restart();
    server.publish("s.b");
    assert_eq!(server.fetch(9), [4, 5, 6]);
}

#[test]
fn what_is_owed_survives_a_restart_from_a_checkpoint() {
    let mut server = with_backlog();
    assert_eq!(server.fetch(1), [1]);
    server.take_checkpoint();
    server.restart();
    server.publish("s.b");
    assert_eq!(server.fetch(9), [4, 5, 6]);
}

#[test]
fn later_messages_do_not_replace_what_is_owed() {
    let mut server = with_backlog();
    server.publish("s.b");
    server.restart();
    assert_eq!(server.fetch(9), [1, 4, 5, 6]);
}

#[test]
fn a_removed_message_is_not_replaced_by_an_older_one() {
    let mut server = Server::new();
    for subject in ["s.a", "s.b", "s.b", "s.c", "s.b"] {
        server.publish(subject);
    }
    server.create_consumer("s.*");
    assert_eq!(server.fetch(1), [1]);
    server.delete(5);
    server.take_checkpoint();
    server.restart();
    server.delete(3);
    server.restart();
    assert_eq!(server.fetch(9), [4]);
}

#[test]
fn the_end_of_the_backlog_survives_a_restart() {
    let mut server = with_backlog();
    assert_eq!(server.fetch(3), [1, 4, 5]);
    server.restart();
    server.publish("s.a");
    server.restart();
    assert_eq!(server.fetch(9), [6]);
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Delete(u64),
    Purge { subject: u8, keep: u64 },
    Fetch(usize),
    Checkpoint,
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..4_u8).prop_map(Step::Publish),
        4 => (1..30_u64).prop_map(Step::Delete),
        1 => (0..4_u8, 0..3_u64).prop_map(|(subject, keep)| Step::Purge { subject, keep }),
        3 => (1..4_usize).prop_map(Step::Fetch),
        1 => Just(Step::Checkpoint),
        3 => Just(Step::Restart),
    ]
}

fn subject(no: u8) -> String {
    format!("s.{no}")
}

proptest! {
    #[test]
    fn a_restart_changes_nothing(
        before in proptest::collection::vec(0..4_u8, 0..20),
        steps in proptest::collection::vec(any_step(), 0..40),
        filter in prop_oneof![Just("s.*"), Just("s.1")],
    ) {
        let (mut steady, mut restarted) = (Server::new(), Server::new());
        for server in [&mut steady, &mut restarted] {
            before.iter().for_each(|no| server.publish(&subject(*no)));
            server.create_consumer(filter);
        }
        for step in steps.iter().chain([&Step::Fetch(100)]) {
            let mut came = Vec::new();
            for server in [&mut steady, &mut restarted] {
                match step {
                    Step::Publish(no) => server.publish(&subject(*no)),
                    Step::Delete(seq) => server.delete(*seq),
                    Step::Purge { subject: no, keep } => server.command(Command::Purge(Purge {
                        filter: subject(*no),
                        below: 0,
                        keep: *keep,
                    })),
                    Step::Fetch(batch) => came.push(server.fetch(*batch)),
                    Step::Checkpoint | Step::Restart => {}
                }
            }
            match step {
                Step::Fetch(_) => prop_assert_eq!(&came[0], &came[1]),
                Step::Checkpoint => restarted.take_checkpoint(),
                Step::Restart => restarted.restart(),
                _ => {}
            }
        }
        prop_assert_eq!(steady.deliveries(), restarted.deliveries());
    }
}
