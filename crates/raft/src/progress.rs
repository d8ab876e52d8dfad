//! What a leader knows of another member.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};

use linnet_ids::{LogIndex, Mono};

use crate::membership::Incarnation;
use crate::message::{Appended, Outcome};

/// Bytes of entries that may be on their way to a member.
pub(crate) const WINDOW_BYTES: usize = 4 << 20;
/// Messages that may be on their way to a member.
const WINDOW_MESSAGES: usize = 256;

/// How entries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// Where the member's log ends is unknown: one message at a time.
    Probe { is_sent: bool },
    /// Entries follow each other without waiting.
    Stream,
    /// Entries are being read for it.
    Reading { is_probe: bool },
    /// It gets a state.
    Snapshot { index: LogIndex, is_sent: bool, is_heard: bool },
}

#[derive(Clone, Debug)]
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
    /// The member's log is ours up to here, perhaps not durably; while probing, what is being asked.
    held: LogIndex,
    pub(crate) commit_sent: LogIndex,
    commit_answered: LogIndex,
    pub(crate) round_sent: u64,
    /// Answers to earlier rounds may be from before it restarted, perhaps with another disk.
    pub(crate) counts_from: u64,
    round_answered: u64,
    /// What it had durably before it may have restarted.
    owed: LogIndex,
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
            held: next.saturating_sub(1),
            commit_sent: 0,
            commit_answered: 0,
            round_sent: 0,
            counts_from: 0,
            round_answered: 0,
            owed: 0,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            waiting_since: None,
            heard: None,
        }
    }

    /// Feeds what is on its way and what was answered.
    pub(crate) fn hash_window<H: Hasher>(&self, state: &mut H) {
        (self.held, self.commit_answered, self.round_answered, self.counts_from, self.owed).hash(state);
        self.in_flight.hash(state);
    }

    /// What counts for a majority.
    pub(crate) fn counted(&self) -> LogIndex {
        if self.remembers { self.matched } else { 0 }
    }

    pub(crate) fn may_stream(&self) -> bool {
        self.in_flight_bytes < WINDOW_BYTES && self.in_flight.len() < WINDOW_MESSAGES
    }

    /// The member said, for a life that is over or has not begun to count, that it has forgotten what it knew.
    pub(crate) fn forgot(&mut self, now: Mono) {
        self.heard = Some(now);
        self.remembers = false;
        self.is_amnesiac = true;
        self.matched = 0;
    }

    /// It may be another life now, or have another disk: only answers to this round and later ones count.
    pub(crate) fn doubt(&mut self, round: u64) {
        self.remembers = false;
        self.counts_from = round;
        self.owed = self.owed.max(self.matched);
    }

    /// True if a member whose log ends at `index`, as it answers, has lost entries that it had durably. An answer from
    /// before it may have restarted tells nothing.
    pub(crate) fn has_lost(&self, index: LogIndex, round: u64) -> bool {
        index < self.owed && round >= self.counts_from
    }

    /// It has lost what it had durably: it counts for nothing in this life, and is told so again and again.
    pub(crate) fn lost(&mut self, now: Mono) {
        self.heard = Some(now);
        self.remembers = false;
        self.matched = 0;
        self.mode = Mode::Probe { is_sent: true };
        self.waiting_since = Some(now);
    }

    pub(crate) fn sent(&mut self, last: LogIndex, bytes: usize, now: Mono) {
        self.next = last + 1;
        self.in_flight.push_back((last, bytes));
        self.in_flight_bytes += bytes;
        self.waiting_since.get_or_insert(now);
    }

    /// The member's log is ours up to `held`, up to `durable` durably.
    pub(crate) fn matched(&mut self, durable: LogIndex, held: LogIndex) {
        self.matched = self.matched.max(durable);
        self.held = match self.mode {
            Mode::Probe { .. } => held.max(self.matched),
            _ => self.held.max(held),
        };
        match self.mode {
            Mode::Reading { .. } => {}
            Mode::Snapshot { index, .. } if durable < index => {}
            Mode::Probe { .. } => self.stream_from(held + 1),
            Mode::Stream | Mode::Snapshot { .. } => self.stream_from(self.next.max(held + 1)),
        }
        while let Some((_, bytes)) = self.in_flight.pop_front_if(|(last, _)| *last <= durable) {
            self.in_flight_bytes -= bytes;
        }
    }

    /// The member answered. It is waited for as long as it may lack something that was sent.
    pub(crate) fn answered(&mut self, appended: &Appended, now: Mono) {
        self.heard = Some(now);
        // Within a life nobody forgets: who says so after having counted said it before.
        self.remembers |= appended.remembers && appended.round >= self.counts_from;
        self.is_amnesiac = !self.remembers && !appended.remembers;
        self.commit_answered = self.commit_answered.max(appended.commit);
        self.round_answered = self.round_answered.max(appended.round.min(self.round_sent));
        if let Mode::Snapshot { is_heard, .. } = &mut self.mode {
            *is_heard |= appended.outcome == Outcome::Heard;
        }
        let is_owed = match self.mode {
            Mode::Stream | Mode::Reading { .. } => {
                self.matched + 1 < self.next
                    || self.commit_answered < self.commit_sent
                    || self.round_answered < self.round_sent
            }
            Mode::Probe { is_sent } | Mode::Snapshot { is_sent, .. } => is_sent,
        };
        self.waiting_since = is_owed.then_some(now);
    }

    /// The newest round that counts as answered.
    pub(crate) fn counted_round(&self) -> u64 {
        if self.remembers { self.round_answered } else { 0 }
    }

    /// Nothing can follow what was sent; `next` may be the place.
    pub(crate) fn mismatched(&mut self, next: LogIndex, now: Mono) {
        let is_news = next > self.matched;
        self.probe(next);
        if !is_news {
            // An old answer, or the member lost what it had: not a reason to ask without pause.
            self.mode = Mode::Probe { is_sent: true };
            self.waiting_since = Some(now);
        }
    }

    /// No answer came: what was sent may be lost.
    pub(crate) fn ask_again(&mut self) {
        self.probe(self.held + 1);
    }

    fn stream_from(&mut self, next: LogIndex) {
        self.next = next;
        self.mode = Mode::Stream;
    }

    /// Begins to find out again where the member's log ends.
    pub(crate) fn probe(&mut self, next: LogIndex) {
        self.next = next.max(self.matched + 1);
        self.held = self.next - 1;
        self.mode = Mode::Probe { is_sent: false };
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        self.waiting_since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(commit: LogIndex, round: u64) -> Appended {
        Appended { outcome: Outcome::Heard, commit, round, remembers: true }
    }

    #[test]
    fn a_window_closes_and_opens_with_what_is_durable() {
        let mut progress = Progress::new(1, 5);
        progress.matched(4, 4);
        progress.sent(6, WINDOW_BYTES / 2, Mono(1));
        assert!(progress.may_stream());
        progress.sent(8, WINDOW_BYTES / 2, Mono(2));
        assert!(!progress.may_stream());
        progress.matched(6, 8);
        assert!(progress.may_stream());
        assert_eq!((progress.next, progress.matched), (9, 6));
    }

    #[test]
    fn an_answer_is_awaited_until_nothing_that_was_sent_can_be_lacking() {
        let mut progress = Progress::new(1, 5);
        progress.matched(4, 4);
        progress.sent(6, 10, Mono(1));
        (progress.commit_sent, progress.round_sent) = (4, 2);
        progress.matched(4, 6);
        progress.answered(&answer(3, 2), Mono(2));
        assert_eq!(progress.waiting_since, Some(Mono(2)), "held, not durable");
        progress.matched(6, 6);
        progress.answered(&answer(3, 2), Mono(3));
        assert_eq!(progress.waiting_since, Some(Mono(3)), "commit");
        progress.answered(&answer(4, 1), Mono(4));
        assert_eq!(progress.waiting_since, None, "an older round was answered after a newer one");
    }

    #[test]
    fn who_may_have_forgotten_counts_for_nothing() {
        let mut progress = Progress::new(1, 5);
        progress.matched(4, 4);
        progress.round_sent = 7;
        progress.answered(&Appended { remembers: false, ..answer(0, 7) }, Mono(1));
        assert_eq!((progress.counted(), progress.counted_round(), progress.is_amnesiac), (0, 0, true));
        progress.answered(&answer(0, 7), Mono(2));
        assert_eq!((progress.counted(), progress.counted_round(), progress.is_amnesiac), (4, 7, false));
    }

    #[test]
    fn an_old_answer_does_not_make_a_member_forget() {
        let mut progress = Progress::new(1, 5);
        progress.matched(4, 4);
        progress.answered(&answer(0, 0), Mono(1));
        progress.answered(&Appended { remembers: false, ..answer(0, 0) }, Mono(2));
        assert_eq!((progress.counted(), progress.is_amnesiac), (4, false));
        progress.forgot(Mono(3));
        assert_eq!((progress.counted(), progress.is_amnesiac), (0, true));
    }

    #[test]
    fn a_round_that_was_not_asked_for_is_not_answered() {
        let mut progress = Progress::new(1, 5);
        progress.round_sent = 3;
        progress.answered(&answer(0, u64::MAX), Mono(1));
        assert_eq!(progress.counted_round(), 3);
    }

    #[test]
    fn probing_never_goes_below_what_matches_and_repeats_nothing_that_is_held() {
        let mut progress = Progress::new(1, 9);
        progress.matched(4, 4);
        progress.sent(6, 10, Mono(1));
        progress.matched(4, 6);
        progress.ask_again();
        assert_eq!((progress.next, progress.waiting_since), (7, None));
        assert_eq!(progress.mode, Mode::Probe { is_sent: false });
        progress.probe(2);
        assert_eq!(progress.next, 5);
    }

    #[test]
    fn a_question_that_nobody_answers_is_asked_again_where_it_was() {
        let mut progress = Progress::new(1, 9);
        progress.mode = Mode::Probe { is_sent: true };
        progress.ask_again();
        assert_eq!((progress.next, progress.mode), (9, Mode::Probe { is_sent: false }));
        progress.matched(4, 4);
        progress.sent(6, 10, Mono(1));
        progress.ask_again();
        assert_eq!(progress.next, 5, "what the answer told, not what was asked");
    }

    #[test]
    fn who_lacks_what_it_had_before_it_restarted_has_lost_it() {
        let mut progress = Progress::new(1, 5);
        progress.matched(4, 4);
        assert!(!progress.has_lost(2, 9), "an old answer to an old question");
        progress.doubt(7);
        assert!(!progress.has_lost(2, 6), "the answer is from before");
        assert!(!progress.has_lost(4, 7));
        assert!(progress.has_lost(3, 7));
        progress.lost(Mono(1));
        progress.answered(&Appended { remembers: false, ..answer(0, 8) }, Mono(2));
        assert_eq!(progress.counted(), 0);
        progress.doubt(9);
        assert!(progress.has_lost(3, 9), "it is the same life");
    }
}
