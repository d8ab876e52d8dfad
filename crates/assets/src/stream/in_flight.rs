use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use linnet_ids::StreamSeq;

/// What admitted messages will have changed once they are applied. Decisions look at the stream's state and at
/// this, so that a second message is judged as if the first were stored already.
#[derive(Default)]
pub(super) struct InFlight {
    /// Messages and accounted bytes that will be added.
    pub(super) msgs: u64,
    pub(super) bytes: u64,
    ids: HashMap<Vec<u8>, StreamSeq>,
    /// By keyed hash of the subject: messages in flight and the sequence of the newest.
    subjects: HashMap<u64, (u64, StreamSeq), foldhash::fast::RandomState>,
    hasher: RandomState,
    /// Id of the newest message, empty if it has none; `None` when nothing is in flight.
    pub(super) last_id: Option<Vec<u8>>,
}

impl InFlight {
    pub(super) fn add(&mut self, subject: &[u8], id: &[u8], seq: StreamSeq, bytes: u64) {
        self.msgs += 1;
        self.bytes += bytes;
        let entry = self.subjects.entry(self.hasher.hash_one(subject)).or_insert((0, seq));
        entry.0 += 1;
        entry.1 = seq;
        if !id.is_empty() {
            self.ids.insert(id.to_vec(), seq);
        }
        let last = self.last_id.get_or_insert_default();
        last.clear();
        last.extend_from_slice(id);
    }

    /// A message was applied.
    pub(super) fn remove(&mut self, subject: &[u8], id: &[u8], bytes: u64) {
        self.msgs = self.msgs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        let hash = self.hasher.hash_one(subject);
        if let Some(entry) = self.subjects.get_mut(&hash) {
            entry.0 -= 1;
            if entry.0 == 0 {
                self.subjects.remove(&hash);
            }
        }
        if !id.is_empty() {
            self.ids.remove(id);
        }
        if self.msgs == 0 {
            self.last_id = None;
        }
    }

    pub(super) fn find_id(&self, id: &[u8]) -> Option<StreamSeq> {
        self.ids.get(id).copied()
    }

    /// Messages of the subject in flight and the sequence of the newest.
    pub(super) fn subject(&self, subject: &[u8]) -> Option<(u64, StreamSeq)> {
        if self.subjects.is_empty() {
            return None;
        }
        self.subjects.get(&self.hasher.hash_one(subject)).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.msgs == 0
    }
}
