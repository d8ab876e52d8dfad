//! A group that has lost the majority of its voters for good, and goes on with those that are left.
//!
//! No rule of consensus allows it: what only the lost ones had is gone, and if they come back the group has two
//! histories. So an operator has to say so, and how many voters must agree. After that nothing is left to chance:
//!
//! * A candidate needs the vote of every voter that can be heard, so that whoever has the most goes on.
//! * The winner writes one hard state: from the end of its log on it is the only voter, in a life of its own; everybody
//!   else is a learner in a life that nobody has, until it is re-admitted; all former lives are over. Whoever comes back
//!   in one is told so, forgets, and is taken in like a replica that lost its disk.
//! * Terms of a new *epoch* begin with it, far above any that elections reach: of two histories the later rescue wins.
//!   Two that did not hear of each other begin at places of their own in it, and one of them wins.
//!
//! An epoch of terms is [`EPOCH`] terms long. The votes are cast in an odd one, and what is founded by them begins in the
//! even one behind it. If lost voters come back while votes are cast, the group goes on as ever, in the odd one.

use std::collections::BTreeSet;
use std::time::Duration;

use linnet_ids::{Mono, PeerId, Term};
use thiserror::Error;

use crate::effect::{Effect, Fault};
use crate::node::Node;

/// Terms of an epoch: more than elections, or voters that decide alone, go through.
const EPOCH: Term = 1 << 48;

/// Terms of an epoch in which one of two rescues apart may begin.
const APART: Term = 1 << 44;

/// What an operator allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rescue {
    /// Voters that must agree at least.
    needed: usize,
    /// Until then.
    until: Mono,
}

/// Why a group is not rescued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotRescued {
    /// The group works.
    #[error("leader is known")]
    LeaderKnown,
    /// As many as that decide nothing, or more than ever have to.
    #[error("rescue quorum must be between 1 and current quorum")]
    OutOfRange,
    /// This replica does not count.
    #[error("not a voting member")]
    NotVoter,
    /// This replica has nothing.
    #[error("log is empty")]
    Empty,
}

/// First term of the epoch behind that of `term`.
fn next_epoch(term: Term) -> Term {
    (term / EPOCH + 1).saturating_mul(EPOCH)
}

fn epoch(term: Term) -> u64 {
    term / EPOCH
}

/// That of the newest rescue: votes alone make none.
pub(crate) fn rescued_epoch(term: Term) -> u32 {
    // An epoch is 48 bits of a term.
    u32::try_from(epoch(term) / 2).unwrap_or(u32::MAX)
}

/// True for terms behind a rescue.
pub(crate) fn has_been_rescued(term: Term) -> bool {
    rescued_epoch(term) > 0
}

/// True in terms in which votes of a rescue are cast, and in those of an ordinary leader after a rescue that came to nothing.
fn is_between(term: Term) -> bool {
    epoch(term) % 2 == 1
}

impl Node {
    /// Allows the voters that can be heard, `needed` at least, to go on without the others, if no leader shows up, for
    /// `within`. How many were needed before.
    pub fn rescue(
        &mut self,
        now: Mono,
        needed: usize,
        within: Duration,
        out: &mut Vec<Effect>,
    ) -> Result<usize, NotRescued> {
        let quorum = self.membership().quorum();
        if self.leader.is_some() || self.is_leader() {
            return Err(NotRescued::LeaderKnown);
        }
        if !self.membership().is_voter(self.me) || !self.remembers() || self.fault().is_some() {
            return Err(NotRescued::NotVoter);
        }
        if needed == 0 || needed > quorum {
            return Err(NotRescued::OutOfRange);
        }
        if self.log.last().index == 0 {
            return Err(NotRescued::Empty);
        }
        self.rescue = Some(Rescue { needed, until: now + within });
        self.step_down(now, out);
        Ok(quorum)
    }

    /// The voters that must agree while a rescue is under way.
    pub fn rescue_quorum(&self) -> Option<usize> {
        self.rescue.map(|rescue| rescue.needed)
    }

    /// A rescue has its time.
    pub(crate) fn end_rescue(&mut self, now: Mono) {
        self.rescue.take_if(|rescue| now >= rescue.until);
    }

    /// When a rescue is over.
    pub(crate) fn rescue_ends_at(&self) -> Option<Mono> {
        self.rescue.map(|rescue| rescue.until)
    }

    /// The voters that can be heard and have not said that they forgot what they knew.
    fn remembering(&self) -> impl Iterator<Item = PeerId> {
        let heard = self.membership().voters().map(|m| m.peer).filter(|peer| self.reachable.contains(peer));
        heard.filter(|peer| !self.declared_amnesia.contains(peer))
    }

    /// True if those that can be heard are too few for an election and enough for a rescue.
    pub(crate) fn may_be_rescued(&self) -> bool {
        let Some(rescue) = self.rescue else { return false };
        let heard = self.remembering().count();
        heard < self.membership().quorum() && heard >= rescue.needed
    }

    /// True if these are enough, and all voters that can be heard and remember.
    pub(crate) fn is_rescued_by(&self, granted: &BTreeSet<PeerId>) -> bool {
        self.may_be_rescued() && self.remembering().all(|peer| granted.contains(&peer))
    }

    /// The next term for a candidate of a rescue: one of an epoch in which nobody has led.
    pub(crate) fn next_rescue_term(&self) -> Term {
        let term = self.hard.term;
        match (is_between(term), epoch(self.log.last().term) == epoch(term)) {
            (true, false) => term + 1,
            (true, true) => next_epoch(next_epoch(term)),
            (false, _) => next_epoch(term),
        }
    }

    /// All that can be heard have voted for this replica: from here on it is the only voter.
    pub(crate) fn go_on_alone(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let last = self.log.last().index;
        let life = self.fresh_incarnation();
        let count = self.membership().members().len();
        let nobody = std::iter::repeat_with(|| self.random.u64(1..)).take(count).collect();
        let membership = self.membership().abandoned(self.me, life, nobody);
        self.rescue = None;
        self.hard = crate::durable::HardState {
            term: next_epoch(self.hard.term) + self.random.u64(..APART),
            vote: None,
            incarnation: life,
            is_amnesiac: false,
            configs: crate::durable::Configs::new(last, membership),
        };
        self.forget_promises();
        self.write_hard_state(out);
        out.push(Effect::Members(self.membership().clone()));
        self.step_down(now, out);
    }

    /// True if a word from `term` comes from behind a rescue that this replica had no part in: it may have more than was
    /// rescued.
    pub(crate) fn missed_rescue(&self, term: Term) -> bool {
        let took_part = is_between(self.hard.term)
            && epoch(term) == epoch(self.hard.term) + 1
            && self.hard.vote.is_some();
        epoch(term) > epoch(self.hard.term) && has_been_rescued(term) && !took_part
    }

    /// What it has may not be part of what was rescued.
    pub(crate) fn lose_history(&mut self, out: &mut Vec<Effect>) {
        self.halt(Fault::OtherHistory(self.commit), out);
    }
}
