use linnet_ids::{LogIndex, PeerId, Term};

use crate::effect::Fault;
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
    /// It has everything that any leader has said to be committed, and has applied it.
    pub is_current: bool,
    /// It knows that it does not belong to the group any more.
    pub is_removed: bool,
    /// The members.
    pub membership: Membership,
    /// What made them so is committed.
    pub is_membership_committed: bool,
    /// Voters that must agree while the group is being rescued; see [`Node::rescue`].
    pub rescue_quorum: Option<usize>,
    /// Voters that have forgotten what they knew, as they said when they were asked for their votes last.
    pub forgetful: Vec<PeerId>,
    /// Why it takes no part any more, if that is so.
    pub fault: Option<Fault>,
}

impl Status {
    /// Higher after each rescue of the group ([`Node::rescue`]), and 0 before the first one.
    pub fn epoch(&self) -> u32 {
        crate::rescue::rescued_epoch(self.term)
    }
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
    /// Its last entry.
    pub last: LogIndex,
    /// What the group has committed, as far as any leader said.
    pub committed: LogIndex,
}

impl Node {
    /// It has everything that any leader has said to be committed, the first entry of the present one too, and has applied
    /// it.
    pub fn is_current(&self) -> bool {
        let committed = self.commit.max(self.told);
        let is_of_present_term = || self.log.term_at(self.commit) == Some(self.hard.term);
        self.is_leading()
            || (self.leader.is_some()
                && self.verified >= committed
                && self.applied >= committed
                && self.commit > 0
                && is_of_present_term())
    }

    /// How far it is.
    pub fn bearing(&self) -> Bearing {
        Bearing {
            leader: self.leader,
            is_leader: self.is_leader(),
            is_amnesiac: !self.remembers(),
            applied: self.applied,
            last: self.log.last().index,
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
            rescue_quorum: self.rescue_quorum(),
            forgetful: self.declared_amnesia.iter().copied().collect(),
            fault: self.fault(),
        }
    }
}
