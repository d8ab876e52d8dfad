use linnet_ids::{LogIndex, PeerId, Term};

use crate::membership::Membership;
use crate::node::{Node, Role};

/// What a replica shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its term.
    pub term: Term,
    /// Whom it takes for the leader.
    pub leader: Option<PeerId>,
    /// It was elected.
    pub is_leader: bool,
    /// It stands for election.
    pub is_candidate: bool,
    /// What it knows to be committed.
    pub commit: LogIndex,
    /// What is applied.
    pub applied: LogIndex,
    /// Where its log ends.
    pub last: LogIndex,
    /// Term of the last entry.
    pub last_term: Term,
    /// It counts for nothing until it is re-admitted.
    pub is_amnesiac: bool,
    /// It has everything that the leader has committed as far as it knows, and has applied it.
    pub is_current: bool,
    /// It knows that it does not belong to the group any more.
    pub is_removed: bool,
    /// The members.
    pub membership: Membership,
    /// What made them so is committed.
    pub is_membership_committed: bool,
}

/// How far a replica is, for whoever looks after every turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bearing {
    /// Whom it takes for the leader.
    pub leader: Option<PeerId>,
    /// It was elected.
    pub is_leader: bool,
    /// It counts for nothing until it is re-admitted.
    pub is_amnesiac: bool,
    /// What is applied.
    pub applied: LogIndex,
    /// What the group has committed, as far as any leader said.
    pub committed: LogIndex,
}

impl Node {
    /// It has everything that the leader has committed as far as it knows, and has applied it.
    pub fn is_current(&self) -> bool {
        self.is_leader()
            || (self.leader.is_some()
                && self.verified >= self.commit
                && self.applied >= self.commit
                && self.commit > 0)
    }

    /// How far it is.
    pub fn bearing(&self) -> Bearing {
        Bearing {
            leader: self.leader,
            is_leader: self.is_leader(),
            is_amnesiac: !self.remembers(),
            applied: self.applied,
            committed: self.commit.max(self.told),
        }
    }

    /// What it shows of itself.
    pub fn status(&self) -> Status {
        Status {
            term: self.hard.term,
            leader: self.leader,
            is_leader: self.is_leader(),
            is_candidate: matches!(self.role, Role::PreCandidate { .. } | Role::Candidate { .. }),
            commit: self.commit,
            applied: self.applied,
            last: self.log.last().index,
            last_term: self.log.last().term,
            is_amnesiac: !self.remembers(),
            is_current: self.is_current(),
            is_removed: self.is_removed(),
            membership: self.membership().clone(),
            is_membership_committed: self.hard.configs.latest().0 <= self.commit,
        }
    }
}
