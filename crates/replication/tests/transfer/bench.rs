//! A stream without a log: what it proposes is applied at once.

use std::time::Duration;

use linnet_assets::{
    Advisory, Answer, Command, CommandOutcome, ConsumerCommand, Entry, Moment, Output, Place, Proposal,
    Publish, Stream, StreamLimits, Token, Waiter,
};
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::info::AccountLimits;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, StorageType};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::subjects::AckSubject;
use linnet_jsapi::{ConsumerConfig, Nanos, StreamConfig};
use linnet_store::{Filter, Kind, LoadJob, Lookup, Seed, StreamStore, encode_record};

pub(crate) const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };
/// When everything happens.
pub(crate) const START: Wall = Wall(1_700_000_000_000_000_000);

/// What left the stream.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) answers: Vec<(Token, Answer)>,
    /// Reply subjects of deliveries.
    deliveries: Vec<Vec<u8>>,
    /// What was published: acknowledgements.
    pub(crate) published: Vec<String>,
    loads: Vec<LoadJob>,
}

impl Output for Sent {
    fn publish(&mut self, _: &[u8], _: &[u8], reply: &[u8], _: usize, body: &[u8]) -> usize {
        if reply.is_empty() {
            self.published.push(String::from_utf8_lossy(body).into_owned());
        } else {
            self.deliveries.push(reply.to_vec());
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

    fn load(&mut self, job: LoadJob) {
        self.loads.push(job);
    }

    fn advise(&mut self, _: Advisory) {}
}

/// A stream and those it talks to.
pub(crate) struct Bench {
    pub(crate) stream: Stream,
    pub(crate) sent: Sent,
    pub(crate) at: Moment,
    /// Every entry of its log.
    pub(crate) log: Vec<Vec<u8>>,
}

pub(crate) fn config(storage: StorageType) -> StreamConfig {
    StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["s.>".to_owned()],
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: -1,
        max_msg_size: -1,
        max_consumers: -1,
        duplicate_window: Nanos::from_secs(120),
        allow_msg_ttl: true,
        allow_rollup_hdrs: true,
        storage,
        ..StreamConfig::default()
    }
}

/// Headers with these lines.
pub(crate) fn headers(lines: &[&str]) -> Vec<u8> {
    if lines.is_empty() {
        return Vec::new();
    }
    format!("NATS/1.0\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

impl Bench {
    pub(crate) fn new(kind: Kind, config: StreamConfig) -> Self {
        let store = StreamStore::new(kind, Seed::of(GROUP), config.first_seq, config.max_msgs_per_subject);
        let stream = Stream::new(config, START, Place::default(), store, Vec::new(), Mono::default());
        let mut bench = Self::over(stream);
        bench.stream.record_config();
        bench.settle();
        bench
    }

    pub(crate) fn over(stream: Stream) -> Self {
        let at = Moment { now: Mono::default(), wall: START, live: true };
        Self { stream, sent: Sent::default(), at, log: Vec::new() }
    }

    /// Lets everything proposed be applied, until nothing is left.
    pub(crate) fn settle(&mut self) {
        loop {
            self.at.now = self.at.now + Duration::from_millis(20);
            let proposals = self.stream.take_proposals(self.at.now);
            if proposals.is_empty() {
                break;
            }
            for proposal in proposals {
                self.stream.apply(&proposal, self.at, &mut self.sent).unwrap();
                self.log.push(proposal.bytes);
            }
            self.stream.run_deferred(self.at, &mut self.sent);
        }
        self.stream.run_ready(self.at.now, self.at.wall, &mut self.sent);
        while !self.sent.loads.is_empty() {
            for job in std::mem::take(&mut self.sent.loads) {
                let Moment { now, wall, .. } = self.at;
                self.stream.on_loaded(job.run(), now, wall, &mut self.sent);
            }
        }
    }

    /// Stores a message; what its publisher is told.
    pub(crate) fn publish(&mut self, subject: &str, lines: &[&str], payload: &[u8]) -> String {
        let block = headers(lines);
        let body = [block.as_slice(), payload].concat();
        self.at.wall = Wall(self.at.wall.0 + 1_000_000);
        let subject = subject.as_bytes();
        let publish =
            Publish { subject, reply: b"reply", header_len: block.len(), body: &body, origin: None };
        self.stream.admit(&publish, &StreamLimits::default(), self.at.wall, &mut self.sent);
        self.settle();
        self.sent.published.pop().unwrap_or_default()
    }

    pub(crate) fn command(&mut self, command: Command) -> CommandOutcome {
        self.stream.command(command, 1, self.at, &mut self.sent);
        self.settle();
        self.sent.answers.pop().unwrap().1.unwrap()
    }

    pub(crate) fn add_consumer(&mut self, name: &str, filter: &str) {
        let config = ConsumerConfig {
            name: name.to_owned(),
            durable_name: name.to_owned(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Nanos::from_secs(30),
            filter_subject: filter.to_owned(),
            ..ConsumerConfig::default()
        };
        let unlimited = AccountLimits { max_consumers: -1, ..AccountLimits::default() };
        self.command(Command::Consumer(ConsumerCommand::Create {
            request: Box::new(CreateConsumerRequest { stream: "S".to_owned(), config, ..Default::default() }),
            suggested_name: String::new(),
            limits: Box::new(Limits { account: Some(unlimited), ..Limits::default() }),
        }));
    }

    /// Delivers up to `count` messages of a consumer; how many came.
    pub(crate) fn pull(&mut self, consumer: &str, count: usize) -> usize {
        let before = self.sent.deliveries.len();
        let Self { stream, sent, at, .. } = self;
        stream.on_next_request(consumer, b"inbox", count.to_string().as_bytes(), at.now, at.wall, sent);
        self.settle();
        self.sent.deliveries.len() - before
    }

    /// Acknowledges one of the deliveries.
    pub(crate) fn acknowledge(&mut self, delivery: usize, word: &[u8]) {
        let reply = self.sent.deliveries[delivery].clone();
        let ack = AckSubject::parse(&reply).unwrap();
        self.stream.on_ack(&ack, word, b"", self.at.now, self.at.wall, &mut self.sent);
        self.settle();
    }

    /// Stores a message that came from another stream.
    pub(crate) fn take_over(&mut self, subject: &str, line: &str) {
        let mut entry = Entry::Messages(&[]).encode();
        let seq = self.stream.store().state().last_seq + 1;
        let block = headers(&[line]);
        encode_record(&mut entry, Seed::of(GROUP), seq, START, subject.as_bytes(), block.len(), &block);
        let proposal = Proposal { bytes: entry.clone(), waiter: Waiter::default() };
        self.stream.apply(&proposal, self.at, &mut self.sent).unwrap();
        self.log.push(entry);
        self.settle();
    }

    /// Applies entries of another replica's log.
    pub(crate) fn follow(&mut self, entries: &[Vec<u8>]) {
        for bytes in entries {
            let proposal = Proposal { bytes: bytes.clone(), waiter: Waiter::default() };
            self.stream.apply(&proposal, Moment { live: false, ..self.at }, &mut self.sent).unwrap();
        }
    }

    pub(crate) fn dump(&mut self) -> Dump {
        dump(&mut self.stream)
    }
}

/// Everything that two replicas of a stream must have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Dump {
    pub(crate) state: String,
    /// Configuration, consumers and whatever else a checkpoint keeps.
    saved: serde_json::Value,
    subjects: Vec<(String, u64, StreamSeq)>,
    /// Sequence, time, subject, headers and payload.
    pub(crate) messages: Vec<(StreamSeq, i64, String, Vec<u8>)>,
    pub(crate) damaged: Vec<StreamSeq>,
}

pub(crate) fn dump(stream: &mut Stream) -> Dump {
    let state = format!("{:?} {:?}", stream.state(), stream.store().state().lost);
    let mut saved = stream.saved();
    saved.consumers.sort_by(|a, b| a.name.cmp(&b.name));
    let saved = serde_json::to_value(&saved).unwrap();
    let store = stream.store_mut();
    let mut subjects = Vec::new();
    store.for_each_subject(&Filter::all(), |subject, state| {
        subjects.push((String::from_utf8_lossy(subject).into_owned(), state.msgs, state.last));
    });
    subjects.sort();
    let mut messages = Vec::new();
    let mut from = 0;
    while let Some(seq) = store.next(from, &Filter::all()) {
        from = seq + 1;
        messages.extend(message(store, seq));
    }
    let damaged = store.damaged().iter().copied().collect();
    Dump { state, saved, subjects, messages, damaged }
}

fn message(store: &mut StreamStore, seq: StreamSeq) -> Option<(StreamSeq, i64, String, Vec<u8>)> {
    for _ in 0..3 {
        match store.get(seq, true) {
            Lookup::Found(record) => {
                let subject = String::from_utf8_lossy(record.subject).into_owned();
                return Some((seq, record.timestamp.0, subject, record.body.to_vec()));
            }
            Lookup::Cold(job) => drop(store.loaded(job.run())),
            Lookup::Damaged | Lookup::Repairing => {
                store.mark_damaged(seq);
                return None;
            }
            Lookup::Missing => return None,
        }
    }
    panic!("message {seq} cannot be read");
}
