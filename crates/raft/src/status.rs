use linnet_ids::{LogIndex, PeerId, Term};

use crate::effect::Fault;
use crate::membership::{Membership, Replica, Role as MemberRole};
use crate::node::{Node, Role};

/// What a replica shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its term.
    pub term: Term,
    /// Whom it takes for the leader.
    pub leader: Option<PeerId>,
    /// It has known a leader since it was opened.
    pub had_leader: bool,
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

    /// True if this replica, which lives as `me`, has a committed vote and everything that is committed. One that has the
    /// entries and was not taken in yet belongs to nothing: a rescue may go on without it ever having belonged.
    pub fn belongs(&self, me: Replica) -> bool {
        let votes = |member: &crate::Member| member.replica() == me && member.role == MemberRole::Voter;
        self.is_current
            && !self.is_amnesiac
            && !self.is_removed
            && self.is_membership_committed
            && self.membership.get(me.peer).is_some_and(votes)
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
            had_leader: self.had_leader,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_committed_vote_of_this_life_belongs() {
        let me = Replica { peer: PeerId::of_name("n1"), incarnation: 4 };
        let other = Replica { peer: PeerId::of_name("n2"), incarnation: 4 };
        let status = Status {
            term: 3,
            leader: Some(other.peer),
            had_leader: true,
            is_leader: false,
            is_candidate: false,
            commit: 9,
            applied: 9,
            last: 9,
            last_term: 3,
            is_amnesiac: false,
            is_current: true,
            is_removed: false,
            membership: Membership::of_voters([me, other]),
            is_membership_committed: true,
            rescue_quorum: None,
            forgetful: Vec::new(),
            fault: None,
        };
        assert!(status.belongs(me));
        assert!(!status.belongs(Replica { incarnation: 5, ..me }), "the vote is that of a life before");
        assert!(!Status { is_amnesiac: true, ..status.clone() }.belongs(me));
        assert!(!Status { is_membership_committed: false, ..status.clone() }.belongs(me));
        assert!(!Status { is_removed: true, ..status.clone() }.belongs(me));
        assert!(!Status { is_current: false, ..status.clone() }.belongs(me));
        let learner = Membership::of_voters([other]).after(crate::Change::Add(me)).unwrap();
        assert!(!Status { membership: learner, ..status }.belongs(me));
    }
}
