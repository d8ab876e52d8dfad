//! What a stream should hold: a plain map, replayed from its log entries, written without looking at the store.

mod consumer;
mod select;
mod start;
mod subjects;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use linnet_assets::{ConsumerOp, Entry, Purge, RestoreMark};
use linnet_jsapi::policies::{DeliverPolicy, RetentionPolicy, StorageType};
use linnet_jsapi::{StreamConfig, SubjectTransform};
use linnet_store::Record;
use linnet_wire::headers;

pub(crate) use consumer::ModelConsumer;
pub(crate) use select::Selection;

use crate::invariants::{content, schedules};

/// A message as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) subject: Vec<u8>,
    pub(crate) headers: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) time: i64,
}

impl Message {
    /// What the message counts for in `bytes` of a stream.
    fn size(&self, storage: StorageType) -> u64 {
        let fixed = match storage {
            StorageType::Memory => 16,
            StorageType::File if self.headers.is_empty() => 30,
            StorageType::File => 34,
        };
        (self.subject.len() + self.headers.len() + self.payload.len() + fixed) as u64
    }

    pub(crate) fn header(&self, key: &str) -> Option<&[u8]> {
        headers::get(&self.headers, key)
    }
}

/// The state of a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) config: StreamConfig,
    pub(crate) messages: BTreeMap<u64, Message>,
    pub(crate) last: u64,
    /// Where it begins was chosen, or something emptied it: it shows a first sequence although none was used.
    pub(crate) has_begun: bool,
    pub(crate) consumers: BTreeMap<String, ModelConsumer>,
    pub(crate) deleted: bool,
    /// Messages with a time to live of their own: when it ends, if it does.
    pub(crate) ttls: BTreeMap<u64, Option<i64>>,
    /// Schedules by subject: sequence, and when each is due.
    pub(crate) schedules: BTreeMap<Vec<u8>, (u64, i64)>,
    /// How many messages purges and deletions removed whose callers may wait for the answer.
    pub(crate) removed: VecDeque<u64>,
    /// Sequences of messages stored by the last entry.
    pub(crate) stored: Vec<u64>,
    /// It is being restored from a backup.
    pub(crate) restoring: bool,
    /// Nobody wanted the newest message.
    pub(crate) passed_over: bool,
    /// Id of the newest message.
    pub(crate) last_id: Vec<u8>,
    /// Duplicate windows before the one in force, each with the last sequence of its time.
    windows: Vec<(u64, i64)>,
    /// Subject transforms before the one in force.
    transforms: Vec<Option<SubjectTransform>>,
}

/// What a message says of its counter.
pub(crate) fn total_of(message: &Message) -> Option<i64> {
    content::integer(message.payload.strip_prefix(b"{\"val\":\"")?.strip_suffix(b"\"}")?)
}

/// A time to live as clients here and markers have it; `None` for never.
fn seconds(ttl: &[u8]) -> Option<i64> {
    std::str::from_utf8(ttl).ok()?.trim_end_matches('s').parse().ok()
}

fn limit(n: i64) -> usize {
    usize::try_from(n).ok().filter(|n| *n > 0).unwrap_or(usize::MAX)
}

impl Model {
    pub(crate) fn new(config: StreamConfig) -> Self {
        let (last, has_begun) = (config.first_seq.saturating_sub(1), config.first_seq > 0);
        Self { config, last, has_begun, ..Self::default() }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.messages.values().map(|message| message.size(self.config.storage)).sum()
    }

    pub(crate) fn first(&self) -> u64 {
        self.messages.keys().next().copied().unwrap_or(self.last + 1)
    }

    /// What the stream shows as its first sequence.
    pub(crate) fn shown_first(&self) -> u64 {
        if self.has_begun || self.last > 0 { self.first() } else { 0 }
    }

    pub(crate) fn subjects(&self) -> BTreeMap<&[u8], u64> {
        let mut counts = BTreeMap::new();
        for message in self.messages.values() {
            *counts.entry(message.subject.as_slice()).or_default() += 1;
        }
        counts
    }

    pub(crate) fn last_of(&self, subject: &[u8]) -> u64 {
        self.messages.iter().rev().find(|(_, m)| m.subject == subject).map_or(0, |(seq, _)| *seq)
    }

    /// The shortest time for which the id of a message was to be known since it was stored.
    pub(crate) fn window_since(&self, seq: u64) -> i64 {
        let later = self.windows.iter().filter(|(until, _)| seq <= *until).map(|(_, window)| *window);
        later.chain([self.config.duplicate_window.0]).min().unwrap_or(0)
    }

    /// The newest message that a pattern covers.
    pub(crate) fn last_covered(&self, pattern: &[u8]) -> u64 {
        let mut newest = self.messages.iter().rev();
        newest.find(|(_, m)| linnet_subject::is_subset(&m.subject, pattern)).map_or(0, |(seq, _)| *seq)
    }

    /// The newest message of every subject, of some messages.
    fn newest(&self, of: impl Fn(&Message) -> bool) -> BTreeSet<u64> {
        let messages = self.messages.iter().filter(|(_, message)| of(message));
        let by_subject: BTreeMap<&[u8], u64> =
            messages.map(|(seq, m)| (m.subject.as_slice(), *seq)).collect();
        by_subject.into_values().collect()
    }

    /// True if the age of the stream does not concern the message.
    pub(crate) fn is_exempt(&self, seq: u64) -> bool {
        self.ttls.get(&seq) == Some(&None)
    }

    /// True if the message has expired at a time.
    pub(crate) fn is_over(&self, seq: u64, message: &Message, at: i64) -> bool {
        let age = self.config.max_age.0;
        let by_age = age > 0 && !self.is_exempt(seq) && message.time + age <= at;
        by_age || self.end_of(seq).is_some_and(|end| end <= at)
    }

    /// What the newest message of a counter says.
    pub(crate) fn total(&self, subject: &[u8]) -> i64 {
        let newest = self.messages.values().rev().find(|m| m.subject == subject);
        newest.and_then(total_of).unwrap_or(0)
    }

    /// Headers of a message as they are stored, of those a client sent.
    pub(crate) fn headers_of(&self, sent: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = content::list(sent);
        let life = self.config.subject_delete_marker_ttl.0 / 1_000_000_000;
        let ttl = headers::get(sent, "Nats-TTL").and_then(seconds);
        if ttl.is_some_and(|ttl| ttl < life) && self.config.max_msgs_per_subject != 1 {
            all.retain(|(key, _)| key != b"Nats-TTL");
            all.push((b"Nats-TTL".to_vec(), life.to_string().into_bytes()));
        }
        let is_schedule = headers::get(sent, "Nats-Schedule").is_some();
        if is_schedule && headers::get(sent, "Nats-Rollup").is_none() {
            all.push((b"Nats-Rollup".to_vec(), b"sub".to_vec()));
        }
        all
    }

    /// When the message's own time is over.
    pub(crate) fn end_of(&self, seq: u64) -> Option<i64> {
        self.ttls.get(&seq).copied().flatten()
    }

    /// Applies the entry at `index`. False if it cannot be understood.
    pub(crate) fn apply(&mut self, index: u64, entry: &[u8]) -> bool {
        self.stored.clear();
        let Ok(entry) = Entry::decode(entry) else { return false };
        match entry {
            Entry::Messages(records) => self.store(records),
            Entry::Config(config) => self.configure(*config),
            Entry::Purge(purge) => self.purge(&purge),
            Entry::Delete { seq, .. } => {
                let was_there = self.messages.remove(&seq).is_some();
                self.removed.push_back(u64::from(was_there));
            }
            Entry::Expire(cutoff) => {
                let ttls = &self.ttls;
                self.messages.retain(|seq, m| m.time > cutoff.0 || ttls.get(seq) == Some(&None));
            }
            Entry::ExpireOwn(now) => {
                let ttls = &self.ttls;
                self.messages.retain(|seq, _| !matches!(ttls.get(seq), Some(Some(end)) if *end <= now.0));
            }
            Entry::ConsumerAttach(attach) => {
                if let Some(state) = attach.state {
                    let by_subject = attach.config.deliver_policy == DeliverPolicy::LastPerSubject;
                    let mut consumer = ModelConsumer::new(index, attach.config, &state);
                    if by_subject {
                        let newest = self.newest(|message| consumer.covers(message));
                        consumer.begin_with(newest, self.last);
                    }
                    self.consumers.insert(attach.name, consumer);
                } else if let Some(known) = self.consumers.get_mut(&attach.name) {
                    known.configure(attach.config, self.last);
                }
            }
            Entry::ConsumerDetach(name) => {
                let existed = self.consumers.remove(&name).is_some();
                if existed && self.consumers.is_empty() && self.config.retention == RetentionPolicy::Interest
                {
                    self.messages.clear();
                }
            }
            Entry::ConsumerDelta(delta) => {
                for (name, ops) in delta {
                    self.consumers_acted(&name, &ops);
                }
            }
            Entry::Sweep { .. } if self.config.retention != RetentionPolicy::Interest => {}
            Entry::Sweep { from, to } => {
                let seqs: Vec<u64> = self.messages.range(from..=to).map(|(seq, _)| *seq).collect();
                seqs.into_iter().for_each(|seq| self.release(seq));
            }
            Entry::Leader | Entry::Owner(_) => {}
            Entry::Restore(mark) => self.restore(&mark),
            Entry::Deleted => self.deleted = true,
            Entry::Skip(last) => {
                self.last = self.last.max(last);
                self.has_begun = true;
            }
        }
        let messages = &self.messages;
        self.schedules.retain(|_, (seq, _)| messages.contains_key(seq));
        true
    }

    /// It is to be restored from a backup, which says where it begins.
    pub(crate) fn begin_restoring(&mut self) {
        let config = std::mem::take(&mut self.config);
        *self = Self { config, restoring: true, ..Self::default() };
    }

    fn restore(&mut self, mark: &RestoreMark) {
        match *mark {
            RestoreMark::Begin => self.begin_restoring(),
            RestoreMark::Position { last_seq, .. } => {
                self.has_begun |= last_seq > 0;
                self.last = self.last.max(last_seq);
            }
            RestoreMark::Removed { first, last } => {
                self.messages.retain(|seq, _| !(first..=last).contains(seq))
            }
            RestoreMark::Done => {
                self.restoring = false;
                self.limit_subjects();
                self.limit_all();
            }
        }
    }

    /// A message may move a schedule on, end one, or be one.
    fn schedule(&mut self, seq: u64, message: &Message, is_wanted: bool) {
        let scheduler = message.header("Nats-Scheduler").unwrap_or_default();
        if let Some((scheduled, due)) = self.schedules.get_mut(scheduler) {
            match message.header("Nats-Schedule-Next") {
                Some(b"purge") => {
                    self.messages.remove(scheduled);
                    self.schedules.remove(scheduler);
                }
                next => *due = next.and_then(schedules::time).unwrap_or(*due),
            }
        }
        if is_wanted {
            self.schedules.remove(&message.subject);
            let first = message.header("Nats-Schedule").and_then(|p| schedules::first(p, message.time));
            self.schedules.extend(first.map(|due| (message.subject.clone(), (seq, due))));
        }
    }

    fn store(&mut self, mut records: &[u8]) {
        while let Ok((record, len)) = Record::view(records) {
            records = &records[len..];
            let message = Message {
                subject: record.subject.to_vec(),
                headers: record.headers.to_vec(),
                payload: record.payload.to_vec(),
                time: record.timestamp.0,
            };
            self.last = record.seq;
            self.stored.push(record.seq);
            self.last_id = message.header("Nats-Msg-Id").unwrap_or_default().to_vec();
            let rollup = message.header("Nats-Rollup").map(<[u8]>::to_ascii_lowercase);
            let subject = message.subject.clone();
            if let Some(ttl) = message.header("Nats-TTL").filter(|_| self.config.allow_msg_ttl) {
                let seconds = seconds(ttl);
                self.ttls.insert(record.seq, seconds.map(|s| message.time + s * 1_000_000_000));
            }
            let is_wanted = self.consumers.values().any(|c| c.needs(record.seq, &message));
            let is_kept = self.restoring || self.config.retention != RetentionPolicy::Interest;
            let is_wanted = is_wanted || is_kept;
            if self.config.allow_msg_schedules {
                self.schedule(record.seq, &message, is_wanted);
            }
            self.passed_over = !is_wanted;
            if !is_wanted {
                self.ttls.remove(&record.seq);
                continue;
            }
            self.messages.insert(record.seq, message);
            let may_roll_up = self.config.allow_rollup_hdrs && !self.config.deny_purge;
            match rollup.as_deref().filter(|_| may_roll_up && !self.restoring) {
                Some(b"sub") => self.messages.retain(|seq, m| *seq == record.seq || m.subject != subject),
                Some(b"all") => self.messages.retain(|seq, _| *seq == record.seq),
                _ => {}
            }
            // Until a restore is complete, more may be there than will stay.
            if !self.restoring {
                self.limit_subject(&subject);
                self.limit_all();
            }
        }
    }

    fn consumers_acted(&mut self, name: &str, ops: &[ConsumerOp]) {
        for op in ops {
            let Some(consumer) = self.consumers.get_mut(name) else { return };
            let done = consumer.act(op);
            match self.config.retention {
                RetentionPolicy::Limits => {}
                RetentionPolicy::WorkQueue => self.messages.retain(|seq, _| !done.contains(seq)),
                RetentionPolicy::Interest => done.into_iter().for_each(|seq| self.release(seq)),
            }
        }
    }

    /// The message goes if nobody needs it.
    fn release(&mut self, seq: u64) {
        let is_needed = |message| self.consumers.values().any(|c| c.needs(seq, message));
        if self.messages.get(&seq).is_some_and(|message| !is_needed(message)) {
            self.messages.remove(&seq);
        }
    }

    fn limit_subject(&mut self, subject: &[u8]) {
        let seqs: Vec<u64> =
            self.messages.iter().filter(|(_, m)| m.subject == subject).map(|(seq, _)| *seq).collect();
        let excess = seqs.len().saturating_sub(limit(self.config.max_msgs_per_subject));
        for seq in &seqs[..excess] {
            self.messages.remove(seq);
        }
    }

    fn limit_subjects(&mut self) {
        let subjects: Vec<Vec<u8>> = self.subjects().keys().map(|s| s.to_vec()).collect();
        for subject in subjects {
            self.limit_subject(&subject);
            self.limit_all();
        }
    }

    fn limit_all(&mut self) {
        while self.messages.len() > limit(self.config.max_msgs)
            || (self.config.max_bytes > 0 && self.bytes() > self.config.max_bytes.unsigned_abs())
        {
            self.messages.pop_first();
        }
    }

    fn configure(&mut self, config: StreamConfig) {
        let tighter = limit(config.max_msgs_per_subject) < limit(self.config.max_msgs_per_subject);
        if config.duplicate_window != self.config.duplicate_window {
            self.windows.push((self.last, self.config.duplicate_window.0));
        }
        if config.subject_transform != self.config.subject_transform {
            self.transforms.push(self.config.subject_transform.take());
        }
        self.config = config;
        if tighter {
            self.limit_subjects();
        }
        self.limit_all();
    }

    fn purge(&mut self, purge: &Purge) {
        let wanted = |m: &Message| {
            purge.filter.is_empty() || linnet_subject::is_subset(&m.subject, purge.filter.as_bytes())
        };
        let seqs: Vec<u64> = self.messages.iter().filter(|(_, m)| wanted(m)).map(|(seq, _)| *seq).collect();
        let keep = usize::try_from(purge.keep).unwrap_or(usize::MAX);
        let before = self.messages.len();
        for seq in &seqs[..seqs.len().saturating_sub(keep)] {
            if purge.below == 0 || *seq < purge.below {
                self.messages.remove(seq);
            }
        }
        self.removed.push_back((before - self.messages.len()) as u64);
        let of_all = matches!(purge.filter.as_str(), "" | ">");
        if of_all && purge.below > 0 && self.messages.is_empty() {
            self.last = self.last.max(purge.below - 1);
        }
        self.has_begun |= of_all && purge.below == 0 && purge.keep == 0;
    }
}
