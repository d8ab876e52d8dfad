use std::collections::{BTreeMap, BTreeSet};

use linnet_ids::{StreamSeq, Wall};
use linnet_store::{Filter, Record, StreamStore};

use crate::support::{Got, get};

pub(crate) type Outcome = Result<(), String>;

/// Fails the check with both values where they differ.
macro_rules! same {
    ($left:expr, $right:expr, $($what:tt)+) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err(format!("{}: store {left:?}, model {right:?}", format_args!($($what)+)));
        }
    }};
}

pub(crate) use same;

/// An operation as the log would hold it.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Append(Vec<u8>),
    Remove(StreamSeq, bool),
    Skip(StreamSeq),
    Clear,
    MaxPerSubject(i64),
}

#[derive(Clone, Debug)]
struct Message {
    subject: Vec<u8>,
    headers: Vec<u8>,
    payload: Vec<u8>,
    timestamp: i64,
}

/// What the stream holds, as plainly as can be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    messages: BTreeMap<StreamSeq, Message>,
    first: StreamSeq,
    pub(crate) last: StreamSeq,
    pub(crate) last_time: i64,
}

pub(crate) fn apply(store: &mut StreamStore, entry: &Entry) {
    match entry {
        Entry::Append(record) => store.append(record),
        Entry::Remove(seq, erase) => {
            store.remove(*seq, *erase);
        }
        Entry::Skip(seq) => store.skip_to(*seq),
        Entry::Clear => {
            store.clear();
        }
        Entry::MaxPerSubject(max) => store.set_max_per_subject(*max),
    }
}

impl Model {
    pub(crate) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Append(bytes) => {
                let (record, _) = Record::view(bytes).unwrap();
                self.last = record.seq;
                self.last_time = record.timestamp.0;
                self.messages.insert(
                    record.seq,
                    Message {
                        subject: record.subject.to_vec(),
                        headers: record.headers.to_vec(),
                        payload: record.payload.to_vec(),
                        timestamp: record.timestamp.0,
                    },
                );
            }
            Entry::Remove(seq, _) => {
                if self.messages.remove(seq).is_some() && self.messages.is_empty() {
                    self.first = self.last + 1;
                }
            }
            Entry::Skip(seq) => {
                if *seq >= self.last {
                    self.last = *seq;
                    if self.messages.is_empty() {
                        self.first = seq + 1;
                    }
                }
            }
            Entry::Clear => {
                self.messages.clear();
                self.first = self.last + 1;
            }
            Entry::MaxPerSubject(_) => {}
        }
    }

    /// A live message, chosen by `pick`.
    pub(crate) fn pick(&self, pick: u64) -> Option<StreamSeq> {
        let count = self.messages.len() as u64;
        let at = usize::try_from(pick.checked_rem(count)?).unwrap();
        self.messages.keys().nth(at).copied()
    }

    fn first(&self) -> StreamSeq {
        self.messages.keys().next().copied().unwrap_or(self.first)
    }

    /// Messages that the filter wants.
    fn wanted(&self, filter: &Filter) -> Vec<StreamSeq> {
        let wanted = self.messages.iter().filter(|(_, m)| filter.matches(&m.subject));
        wanted.map(|(seq, _)| *seq).collect()
    }

    /// Compares everything the store can be asked.
    pub(crate) fn check(&self, store: &mut StreamStore) -> Outcome {
        self.check_state(store)?;
        self.check_messages(store)?;
        for patterns in FILTERS {
            self.check_filter(store, &Filter::new(patterns.iter()))?;
        }
        self.check_subjects(store)?;
        self.check_times(store)
    }

    pub(crate) fn check_state(&self, store: &StreamStore) -> Outcome {
        let overhead = if store.is_memory() { (16, 16) } else { (30, 34) };
        let bytes: usize = self
            .messages
            .values()
            .map(|m| {
                let content = m.subject.len() + m.headers.len() + m.payload.len();
                content + if m.headers.is_empty() { overhead.0 } else { overhead.1 }
            })
            .sum();
        let state = *store.state();
        same!(state.msgs, self.messages.len() as u64, "messages");
        same!(state.bytes, bytes as u64, "bytes");
        same!(state.first_seq, self.first(), "first sequence");
        same!(state.last_seq, self.last, "last sequence");
        same!(state.last_ts.map_or(0, |t| t.0), self.last_time, "last timestamp");
        same!(state.lost, (0, 0), "lost");
        Ok(())
    }

    /// Sequences worth asking for: those around every message.
    fn probes(&self) -> BTreeSet<StreamSeq> {
        let near = self.messages.keys().flat_map(|seq| [seq - 1, *seq, seq + 1]);
        near.chain([0, 1, self.last, self.last + 1, StreamSeq::MAX]).collect()
    }

    fn check_messages(&self, store: &mut StreamStore) -> Outcome {
        let forward = self.probes().into_iter().map(|seq| (seq, true));
        let backward = self.probes().into_iter().rev().map(|seq| (seq, false));
        for (seq, in_order) in forward.chain(backward) {
            let expected = match self.messages.get(&seq).cloned() {
                None => Got::Missing,
                Some(m) => Got::Message {
                    subject: m.subject,
                    headers: m.headers,
                    payload: m.payload,
                    timestamp: m.timestamp,
                },
            };
            same!(get(store, seq, in_order), expected, "message {seq}");
            same!(store.contains(seq), expected != Got::Missing, "existence of {seq}");
        }
        Ok(())
    }

    fn check_filter(&self, store: &StreamStore, filter: &Filter) -> Outcome {
        let wanted = self.wanted(filter);
        for seq in self.probes() {
            let from = wanted.partition_point(|s| *s < seq);
            let what = (filter.patterns(), seq);
            same!(store.next(seq, filter), wanted.get(from).copied(), "next {what:?}");
            let before = from.checked_sub(1).and_then(|at| wanted.get(at)).copied();
            same!(store.previous(seq, filter), before, "previous {what:?}");
            same!(store.count(seq, filter), (wanted.len() - from) as u64, "count {what:?}");
        }
        same!(store.last_of(filter), wanted.last().copied(), "last of {:?}", filter.patterns());
        Ok(())
    }

    fn check_subjects(&self, store: &mut StreamStore) -> Outcome {
        let mut subjects: BTreeMap<Vec<u8>, Vec<StreamSeq>> = BTreeMap::new();
        for (seq, message) in &self.messages {
            subjects.entry(message.subject.clone()).or_default().push(*seq);
        }
        same!(store.subject_count(), subjects.len(), "subjects");
        let mut seen = BTreeMap::new();
        store.for_each_subject(&Filter::all(), |subject, state| {
            seen.insert(subject.to_vec(), (state.msgs, state.last));
        });
        let expected: BTreeMap<_, _> = subjects
            .iter()
            .map(|(subject, seqs)| (subject.clone(), (seqs.len() as u64, seqs[seqs.len() - 1])))
            .collect();
        same!(seen, expected, "subject states");
        for (subject, seqs) in &subjects {
            let state = store.subject(subject).ok_or("a subject is missing")?;
            if state.first > seqs[0] {
                return Err(format!("bound {} above first message {}", state.first, seqs[0]));
            }
            same!(store.first_of(subject), Some(seqs[0]), "first of {subject:?}");
            same!(store.subject(subject).map(|s| s.first), Some(seqs[0]), "exact first of {subject:?}");
        }
        same!(store.subject(b"no.such"), None, "unknown subject");
        same!(store.first_of(b"no.such"), None, "first of unknown subject");
        Ok(())
    }

    fn check_times(&self, store: &mut StreamStore) -> Outcome {
        let first = self.messages.values().next().map(|m| Wall(m.timestamp));
        same!(store.first_timestamp(), first, "first timestamp");
        for (seq, message) in &self.messages {
            same!(store.timestamp(*seq), Some(Wall(message.timestamp)), "timestamp of {seq}");
            for time in [message.timestamp, message.timestamp + 1] {
                let expected = self.messages.iter().find(|(_, m)| m.timestamp >= time).map(|(seq, _)| *seq);
                same!(store.first_at_or_after(Wall(time)), expected, "first at or after {time}");
            }
        }
        same!(store.first_at_or_after(Wall(i64::MAX)), None, "first after everything");
        Ok(())
    }
}

/// Subjects that messages are stored on, and filters that tell them apart in every way.
pub(crate) const SUBJECTS: [&str; 6] = ["a", "a.b", "a.c", "b.b", "b.c.d", "with.*star"];
const FILTERS: [&[&str]; 9] =
    [&[], &[">"], &["a"], &["a.b"], &["a.*"], &["*.b"], &["b.>", "a"], &["with.*star", "a.c"], &["no.such"]];
