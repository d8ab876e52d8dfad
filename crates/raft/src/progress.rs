//! What a leader knows of another member.

use std::collections::VecDeque;

use linnet_ids::{LogIndex, Mono};

use crate::membership::Incarnation;

/// Bytes of entries that may be on their way to a member.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;
/// Messages that may be on their way to a member.
const WINDOW_MESSAGES: usize = 256;

/// How entries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Where the member's log ends is unknown: one message at a time.
    Probe { is_sent: bool },
    /// Entries follow each other without waiting.
    Stream,
    /// Entries are being read for it.
    Reading { is_probe: bool },
    /// It gets a state.
    Snapshot { index: LogIndex, is_sent: bool },
}

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) incarnation: Incarnation,
    /// The member's log is ours up to here, durably.
    pub(crate) matched: LogIndex,
    /// What to send next.
    pub(crate) next: LogIndex,
    pub(crate) mode: Mode,
    /// It counts: it said that it remembers.
    pub(crate) remembers: bool,
    /// It said that it does not.
    pub(crate) is_amnesiac: bool,
    pub(crate) commit_sent: LogIndex,
    pub(crate) round_sent: u64,
    pub(crate) round_answered: u64,
    in_flight: VecDeque<(LogIndex, usize)>,
    in_flight_bytes: usize,
    /// Since when an answer is due.
    pub(crate) waiting_since: Option<Mono>,
    pub(crate) heard: Option<Mono>,
}

impl Progress {
    pub(crate) fn new(incarnation: Incarnation, next: LogIndex) -> Self {
        Self {
            incarnation,
            matched: 0,
            next,
            mode: Mode::Probe { is_sent: false },
            remembers: false,
            is_amnesiac: false,
            commit_sent: 0,
            round_sent: 0,
            round_answered: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            waiting_since: None,
            heard: None,
        }
    }

    /// What counts for a majority.
    pub(crate) fn counted(&self) -> LogIndex {
        if self.remembers { self.matched } else { 0 }
    }

    pub(crate) fn may_stream(&self) -> bool {
        self.in_flight_bytes < WINDOW_BYTES && self.in_flight.len() < WINDOW_MESSAGES
    }

    pub(crate) fn sent(&mut self, last: LogIndex, bytes: usize, now: Mono) {
        self.next = last + 1;
        self.in_flight.push_back((last, bytes));
        self.in_flight_bytes += bytes;
        self.waiting_since.get_or_insert(now);
    }

    /// The member's log is ours up to `held`, up to `durable` durably.
    pub(crate) fn matched(&mut self, durable: LogIndex, held: LogIndex, now: Mono) {
        self.matched = self.matched.max(durable);
        match self.mode {
            Mode::Reading { .. } => {}
            Mode::Snapshot { index, .. } if durable < index => return,
            Mode::Probe { .. } => self.stream_from(held + 1),
            Mode::Stream | Mode::Snapshot { .. } => self.stream_from(self.next.max(held + 1)),
        }
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(last, _)| *last <= durable) {
            self.in_flight_bytes -= bytes;
        }
        self.waiting_since = (!self.in_flight.is_empty()).then_some(now);
    }

    fn stream_from(&mut self, next: LogIndex) {
        self.next = next;
        self.mode = Mode::Stream;
    }

    /// Begins to find out again where the member's log ends.
    pub(crate) fn probe(&mut self, next: LogIndex) {
        self.next = next.max(self.matched + 1);
        self.mode = Mode::Probe { is_sent: false };
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.waiting_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_closes_and_opens_with_what_is_durable() {
        let mut progress = Progress::new(1, 5);
        progress.matched(4, 4, Mono(0));
        progress.sent(6, WINDOW_BYTES / 2, Mono(1));
        assert!(progress.may_stream());
        progress.sent(8, WINDOW_BYTES / 2, Mono(2));
        assert!(!progress.may_stream());
        progress.matched(6, 8, Mono(3));
        assert!(progress.may_stream());
        assert_eq!((progress.next, progress.matched, progress.waiting_since), (9, 6, Some(Mono(3))));
        progress.matched(8, 8, Mono(4));
        assert_eq!(progress.waiting_since, None);
    }

    #[test]
    fn who_may_have_forgotten_counts_for_nothing() {
        let mut progress = Progress::new(1, 5);
        progress.matched(4, 4, Mono(0));
        assert_eq!(progress.counted(), 0);
        progress.remembers = true;
        assert_eq!(progress.counted(), 4);
    }

    #[test]
    fn probing_never_goes_below_what_matches() {
        let mut progress = Progress::new(1, 9);
        progress.matched(4, 4, Mono(0));
        progress.sent(6, 10, Mono(1));
        progress.probe(2);
        assert_eq!((progress.next, progress.waiting_since), (5, None));
        assert_eq!(progress.mode, Mode::Probe { is_sent: false });
    }
}
