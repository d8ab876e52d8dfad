use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::HashTable;
use linnet_ids::StreamSeq;

/// Streams that keep at most this many messages per subject remember each of their sequences: removing the oldest
/// then needs no search.
const HISTORY_MAX: u64 = 64;

/// What a stream holds of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubjectState {
    /// No message of the subject has a lower sequence. Exact only if `first_is_exact`.
    pub first: StreamSeq,
    /// Sequence of the newest message.
    pub last: StreamSeq,
    /// Number of messages.
    pub msgs: u64,
}

/// Identifies a subject within one store while messages of it exist.
pub(crate) type SubjectId = u32;

/// Subjects with messages. A slot is 56 bytes plus the subject.
pub(crate) struct Subjects {
    slots: Vec<Slot>,
    free: Vec<SubjectId>,
    table: HashTable<SubjectId>,
    hasher: foldhash::fast::RandomState,
    history: bool,
}

struct Slot {
    subject: Box<[u8]>,
    first: StreamSeq,
    last: StreamSeq,
    msgs: u64,
    /// `first` is the sequence of a message, not only a bound.
    first_is_exact: bool,
    #[expect(clippy::box_collection, reason = "most streams have none: a slot should not have room for one")]
    history: Option<Box<VecDeque<StreamSeq>>>,
}

impl Slot {
    /// The newest of one message is the oldest too.
    fn note_if_single(&mut self) {
        if self.msgs == 1 {
            self.first = self.last;
            self.first_is_exact = true;
        }
    }
}

impl Subjects {
    /// An empty set for a stream that keeps at most `max_per_subject` messages of a subject (0 or less: any).
    pub(crate) fn new(max_per_subject: i64) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            history: keeps_history(max_per_subject),
        }
    }

    /// True if the sequences of each subject are remembered one by one; the caller rebuilds the set when the
    /// stream's limit changes this.
    pub(crate) fn fits(&self, max_per_subject: i64) -> bool {
        self.history == keeps_history(max_per_subject)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Ids are below this.
    pub(crate) fn id_bound(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn find(&self, subject: &[u8]) -> Option<SubjectId> {
        let hash = self.hasher.hash_one(subject);
        self.table.find(hash, |id| *self.slots[*id as usize].subject == *subject).copied()
    }

    pub(crate) fn subject(&self, id: SubjectId) -> &[u8] {
        &self.slots[id as usize].subject
    }

    pub(crate) fn state(&self, id: SubjectId) -> SubjectState {
        let slot = &self.slots[id as usize];
        SubjectState { first: slot.first, last: slot.last, msgs: slot.msgs }
    }

    pub(crate) fn first_is_exact(&self, id: SubjectId) -> bool {
        self.slots[id as usize].first_is_exact
    }

    /// A message of the subject was appended.
    pub(crate) fn add(&mut self, subject: &[u8], seq: StreamSeq) -> SubjectId {
        let hash = self.hasher.hash_one(subject);
        let found = self.table.find(hash, |id| *self.slots[*id as usize].subject == *subject).copied();
        let id = found.unwrap_or_else(|| self.insert(hash, subject, seq));
        self.add_known(id, seq)
    }

    /// Like [`Subjects::add`] for a subject that has messages.
    pub(crate) fn add_known(&mut self, id: SubjectId, seq: StreamSeq) -> SubjectId {
        let slot = &mut self.slots[id as usize];
        slot.last = seq;
        slot.msgs += 1;
        if let Some(history) = &mut slot.history {
            history.push_back(seq);
        }
        id
    }

    /// A message of the subject is there again that may have others before and behind it.
    pub(crate) fn add_earlier(&mut self, subject: &[u8], seq: StreamSeq) -> SubjectId {
        let Some(id) = self.find(subject) else { return self.add(subject, seq) };
        let slot = &mut self.slots[id as usize];
        slot.msgs += 1;
        if let Some(history) = &mut slot.history {
            let at = history.partition_point(|known| *known < seq);
            history.insert(at, seq);
        }
        if seq < slot.first {
            slot.first = seq;
            slot.first_is_exact = true;
        }
        slot.last = slot.last.max(seq);
        id
    }

    fn insert(&mut self, hash: u64, subject: &[u8], seq: StreamSeq) -> SubjectId {
        let history = self.history.then(Box::default);
        let slot =
            Slot { subject: subject.into(), first: seq, last: seq, msgs: 0, first_is_exact: true, history };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                SubjectId::try_from(self.slots.len() - 1).expect("fewer than 2^32 subjects in a stream")
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.table.insert_unique(hash, id, |id| hasher.hash_one(&*slots[*id as usize].subject));
        id
    }

    /// A message of the subject was removed. Returns true if the newest one went and others remain: the caller must
    /// find the new newest ([`Subjects::set_last`]).
    pub(crate) fn remove(&mut self, id: SubjectId, seq: StreamSeq) -> bool {
        let slot = &mut self.slots[id as usize];
        slot.msgs -= 1;
        if slot.msgs == 0 {
            let hash = self.hasher.hash_one(&*slot.subject);
            if let Ok(entry) = self.table.find_entry(hash, |other| *other == id) {
                entry.remove();
            }
            self.slots[id as usize].subject = Box::default();
            self.slots[id as usize].history = None;
            self.free.push(id);
            return false;
        }
        if let Some(history) = &mut slot.history {
            if history.front() == Some(&seq) {
                history.pop_front();
            } else if let Ok(at) = history.binary_search(&seq) {
                history.remove(at);
            }
            slot.first = history.front().copied().unwrap_or(slot.first);
            slot.last = history.back().copied().unwrap_or(slot.last);
            return false;
        }
        if slot.first == seq {
            slot.first = seq + 1;
            slot.first_is_exact = false;
        }
        if slot.last == seq {
            return true;
        }
        slot.note_if_single();
        false
    }

    pub(crate) fn set_last(&mut self, id: SubjectId, last: StreamSeq) {
        let slot = &mut self.slots[id as usize];
        slot.last = last;
        slot.note_if_single();
    }

    pub(crate) fn set_first(&mut self, id: SubjectId, first: StreamSeq) {
        let slot = &mut self.slots[id as usize];
        slot.first = first;
        slot.first_is_exact = true;
    }

    /// Forgets every subject.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.free.clear();
        self.table.clear();
    }

    /// Id and state of every subject, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubjectId, &[u8], SubjectState)> {
        self.table.iter().map(|id| (*id, self.subject(*id), self.state(*id)))
    }
}

fn keeps_history(max_per_subject: i64) -> bool {
    u64::try_from(max_per_subject).is_ok_and(|max| (2..=HISTORY_MAX).contains(&max))
}

#[cfg(test)]
mod tests {
    use super::Subjects;

    #[test]
    fn a_subject_lives_while_it_has_messages() {
        let mut subjects = Subjects::new(-1);
        let a = subjects.add(b"a", 1);
        assert_eq!(subjects.add(b"a", 3), a);
        let b = subjects.add(b"b", 2);
        assert_ne!(a, b);
        assert!(!subjects.remove(a, 1));
        assert!(subjects.first_is_exact(a));
        assert_eq!(subjects.state(a).first, 3);
        subjects.remove(a, 3);
        assert_eq!(subjects.find(b"a"), None);
        assert_eq!(subjects.len(), 1);
        assert_eq!(subjects.add(b"c", 4), a);
    }

    #[test]
    fn short_histories_keep_first_and_last_exact() {
        let mut subjects = Subjects::new(5);
        let a = subjects.add(b"a", 1);
        for seq in [4, 9, 12] {
            subjects.add(b"a", seq);
        }
        assert!(!subjects.remove(a, 4));
        assert!(!subjects.remove(a, 12));
        assert!(!subjects.remove(a, 1));
        let state = subjects.state(a);
        assert_eq!((state.first, state.last, state.msgs), (9, 9, 1));
    }
}
