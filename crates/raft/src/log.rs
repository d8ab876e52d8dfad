//! What a replica knows of its log in memory: terms of all entries behind the checkpoint, bytes of the newest.

use std::collections::VecDeque;

use bytes::Bytes;
use linnet_ids::{LogIndex, Term, chain_next};

/// A place in a log, and everything before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogPoint {
    /// Index of an entry; 0 is the place before the first.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Hash of the history up to and with it.
    pub chain: u64,
}

/// An entry on its way between replicas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Term of the leader that made it.
    pub term: Term,
    /// CRC-32 of the payload.
    pub crc: u32,
    /// Its bytes.
    pub payload: Bytes,
}

impl Entry {
    /// An entry with its checksum.
    pub fn new(term: Term, payload: Bytes) -> Self {
        Self { term, crc: crc32fast::hash(&payload), payload }
    }

    /// True if the payload is what its maker gave.
    pub fn verifies(&self) -> bool {
        crc32fast::hash(&self.payload) == self.crc
    }

    /// What a message and a window count it as.
    pub(crate) fn cost(&self) -> usize {
        self.payload.len() + ENTRY_OVERHEAD
    }
}

/// Bytes an entry takes beside its payload, about.
const ENTRY_OVERHEAD: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TermRun {
    first: LogIndex,
    term: Term,
}

#[derive(Clone, Hash)]
struct Held {
    entry: Entry,
    chain: u64,
}

#[derive(Clone, Hash)]
pub(crate) struct Log {
    /// Everything up to here is in a checkpoint.
    base: LogPoint,
    /// Ascending; empty if nothing is behind the base.
    terms: Vec<TermRun>,
    last: LogPoint,
    /// The newest entries.
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Hash of the history before the oldest of them.
    chain_before_held: u64,
}

impl Log {
    /// A log that ends at `last` with the entries `held`; older ones behind `base` are in no memory. `terms` has the
    /// first index of every term behind the base.
    pub(crate) fn new(
        base: LogPoint,
        terms: impl IntoIterator<Item = (LogIndex, Term)>,
        last: LogPoint,
        held: Vec<Entry>,
    ) -> Self {
        let terms = terms.into_iter().map(|(first, term)| TermRun { first, term }).collect();
        let held_bytes = held.iter().map(Entry::cost).sum();
        let mut log =
            Self { base, terms, last, held: VecDeque::new(), held_bytes, chain_before_held: last.chain };
        if held.len() as u64 == last.index - base.index {
            log.hold_all(held);
        } else {
            log.held_bytes = 0;
        }
        log
    }

    /// Takes entries into memory that reach from the base to the end.
    fn hold_all(&mut self, held: Vec<Entry>) {
        self.chain_before_held = self.base.chain;
        let mut chain = self.base.chain;
        for (index, entry) in (self.base.index + 1..).zip(held) {
            let len = u32::try_from(entry.payload.len()).unwrap_or(u32::MAX);
            chain = chain_next(chain, index, entry.term, len, entry.crc);
            self.held.push_back(Held { entry, chain });
        }
    }

    pub(crate) fn base(&self) -> LogPoint {
        self.base
    }

    pub(crate) fn last(&self) -> LogPoint {
        self.last
    }

    /// Index of the first entry whose bytes are in memory; behind the last if none are.
    pub(crate) fn first_held(&self) -> LogIndex {
        self.last.index + 1 - self.held.len() as u64
    }

    fn held_at(&self, index: LogIndex) -> Option<&Held> {
        let at = index.checked_sub(self.first_held())?;
        self.held.get(usize::try_from(at).ok()?)
    }

    pub(crate) fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.held_at(index).map(|h| &h.entry)
    }

    /// Term of an entry, also of the one the checkpoint ends with.
    pub(crate) fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        let run = self.terms.partition_point(|r| r.first <= index).checked_sub(1)?;
        self.terms.get(run).map(|r| r.term)
    }

    /// Hash of the history up to an entry, where memory has it.
    pub(crate) fn chain_at(&self, index: LogIndex) -> Option<u64> {
        if index == self.last.index {
            return Some(self.last.chain);
        }
        if index == self.base.index {
            return Some(self.base.chain);
        }
        if index + 1 == self.first_held() {
            return Some(self.chain_before_held);
        }
        self.held_at(index).map(|h| h.chain)
    }

    pub(crate) fn point(&self, index: LogIndex) -> Option<LogPoint> {
        Some(LogPoint { index, term: self.term_at(index)?, chain: self.chain_at(index)? })
    }

    pub(crate) fn append(&mut self, entry: Entry) -> LogIndex {
        let index = self.last.index + 1;
        let len = u32::try_from(entry.payload.len()).unwrap_or(u32::MAX);
        let chain = chain_next(self.last.chain, index, entry.term, len, entry.crc);
        if self.terms.last().is_none_or(|r| r.term != entry.term) {
            self.terms.push(TermRun { first: index, term: entry.term });
        }
        self.last = LogPoint { index, term: entry.term, chain };
        self.held_bytes += entry.cost();
        self.held.push_back(Held { entry, chain });
        index
    }

    /// Drops entries from `index` on. `None` if memory does not know the hash of the entry before.
    pub(crate) fn truncate_from(&mut self, index: LogIndex, previous_chain: Option<u64>) -> Option<()> {
        let previous = index.checked_sub(1)?;
        let chain = self.chain_at(previous).or(previous_chain)?;
        let term = self.term_at(previous)?;
        while self.last.index >= index {
            if let Some(dropped) = self.held.pop_back() {
                self.held_bytes -= dropped.entry.cost();
            }
            self.last.index -= 1;
        }
        self.terms.retain(|r| r.first < index);
        if self.held.is_empty() {
            self.chain_before_held = chain;
        }
        self.last = LogPoint { index: previous, term, chain };
        Some(())
    }

    /// The largest index up to `index` whose term is at most `term`, and its term; 0 if none is known.
    pub(crate) fn find_by_term(&self, index: LogIndex, term: Term) -> (LogIndex, Term) {
        let mut at = index.min(self.last.index);
        while at > self.base.index {
            let run = self.terms.partition_point(|r| r.first <= at).checked_sub(1);
            let Some(run) = run.and_then(|run| self.terms.get(run)) else { break };
            if run.term <= term {
                return (at, run.term);
            }
            at = run.first - 1;
        }
        if self.base.term <= term { (self.base.index.min(index), self.base.term) } else { (0, 0) }
    }

    /// Everything up to `to` is in a checkpoint now.
    pub(crate) fn compact(&mut self, to: LogPoint) {
        if to.index <= self.base.index || to.index > self.last.index {
            return;
        }
        let next = self.term_at(to.index + 1);
        self.base = to;
        self.terms.retain(|r| r.first > to.index);
        if let Some(term) = next
            && self.terms.first().is_none_or(|r| r.first > to.index + 1)
        {
            self.terms.insert(0, TermRun { first: to.index + 1, term });
        }
    }

    /// Lets go of the bytes of entries up to `index`, oldest first, until at most `bytes_max` are held.
    pub(crate) fn release(&mut self, index: LogIndex, bytes_max: usize) {
        while self.held_bytes > bytes_max
            && self.first_held() <= index
            && let Some(released) = self.held.pop_front()
        {
            self.held_bytes -= released.entry.cost();
            self.chain_before_held = released.chain;
        }
    }

    /// Begins again behind a checkpoint that came from elsewhere.
    pub(crate) fn reset(&mut self, base: LogPoint) {
        *self = Self::new(base, [], base, Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(terms: &[Term]) -> Log {
        let mut log = Log::new(LogPoint::default(), [], LogPoint::default(), Vec::new());
        for (n, term) in terms.iter().enumerate() {
            log.append(Entry::new(*term, Bytes::from(vec![u8::try_from(n).unwrap()])));
        }
        log
    }

    #[test]
    fn terms_are_found_before_and_behind_a_checkpoint() {
        let mut log = log_of(&[1, 1, 3, 3, 4]);
        let at_3 = LogPoint { index: 3, term: 3, chain: log.chain_at(3).unwrap() };
        log.compact(at_3);
        assert_eq!(
            (0..=6).map(|index| log.term_at(index)).collect::<Vec<_>>(),
            [None, None, None, Some(3), Some(3), Some(4), None]
        );
        log.compact(LogPoint { index: 5, term: 4, chain: log.chain_at(5).unwrap() });
        assert_eq!((log.term_at(4), log.term_at(5), log.last().index), (None, Some(4), 5));
        assert_eq!(log.append(Entry::new(9, Bytes::new())), 6);
        assert_eq!(log.term_at(6), Some(9));
    }

    #[test]
    fn another_tail_has_another_hash_and_the_same_tail_the_same() {
        let (mut log, other) = (log_of(&[1, 1, 2]), log_of(&[1, 1, 2, 2]));
        assert_eq!(log.last().chain, other.chain_at(3).unwrap());
        log.truncate_from(3, None).unwrap();
        assert_eq!(log.last(), LogPoint { index: 2, term: 1, chain: other.chain_at(2).unwrap() });
        log.append(Entry::new(3, Bytes::from_static(b"x")));
        assert_ne!(log.last().chain, other.chain_at(3).unwrap());
        assert_eq!(log.truncate_from(0, None), None);
    }

    #[test]
    fn bytes_that_were_let_go_leave_their_terms() {
        let mut log = log_of(&[1, 2, 3]);
        log.release(2, 0);
        assert_eq!((log.first_held(), log.term_at(1), log.entry(1).is_some()), (3, Some(1), false));
        assert_eq!(log.chain_at(2), log_of(&[1, 2]).chain_at(2), "what comes before the oldest is known");
        assert_eq!(log.truncate_from(2, None), None, "the hash of 1 is gone");
        assert_eq!(log.truncate_from(2, Some(7)), Some(()));
        assert_eq!(log.last(), LogPoint { index: 1, term: 1, chain: 7 });
        log.append(Entry::new(5, Bytes::new()));
        assert_eq!((log.first_held(), log.term_at(2), log.chain_at(1)), (2, Some(5), Some(7)));
    }

    #[test]
    fn the_place_to_meet_is_the_last_one_of_a_term_not_above() {
        let log = log_of(&[1, 1, 4, 4, 6]);
        for ((index, term), expected) in
            [((9, 9), (5, 6)), ((5, 5), (4, 4)), ((4, 3), (2, 1)), ((2, 0), (0, 0)), ((1, 7), (1, 1))]
        {
            assert_eq!(log.find_by_term(index, term), expected, "{index} {term}");
        }
    }
}
