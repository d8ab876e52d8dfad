use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

/// Which numbered parts were asked for, have arrived and are done, when they arrive in any order.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// All before are done.
    done: u64,
    /// The next one to ask for.
    next: u64,
    /// All before have been asked for at some time.
    asked: u64,
    /// Arrived before one that is missing; no more than were asked for at once.
    early: BTreeMap<u64, Bytes>,
}

/// What an arrived part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// The one that is due.
    Due,
    /// One that has to wait for another.
    Early,
    /// It was here before.
    Known,
    /// Nobody asked for it.
    NotAsked,
}

impl Order {
    /// All before are done.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Numbers below `end` to ask for, so that `window` are on their way.
    pub(super) fn ask(&mut self, window: usize, end: u64) -> Vec<u64> {
        let end = end.min(self.done.saturating_add(window as u64));
        let numbers: Range<u64> = self.next..end;
        let missing = numbers.filter(|number| !self.early.contains_key(number)).collect();
        self.next = self.next.max(end);
        self.asked = self.asked.max(self.next);
        missing
    }

    /// What is on its way will not arrive.
    pub(super) fn ask_again(&mut self) {
        self.next = self.done;
    }

    pub(super) fn arrival(&self, number: u64) -> Arrival {
        if number >= self.asked {
            Arrival::NotAsked
        } else if number < self.done || self.early.contains_key(&number) {
            Arrival::Known
        } else if number == self.done {
            Arrival::Due
        } else {
            Arrival::Early
        }
    }

    /// Keeps one that arrived early.
    pub(super) fn keep(&mut self, number: u64, chunk: Bytes) {
        self.early.insert(number, chunk);
    }

    /// The one that was due is done; the next one, if it is here.
    pub(super) fn advance(&mut self) -> Option<Bytes> {
        self.done += 1;
        self.next = self.next.max(self.done);
        self.early.remove(&self.done)
    }
}
