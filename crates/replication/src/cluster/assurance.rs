//! When a server may take its copy of the catalogue for what the catalogue says.
//!
//! A leader's word that was on its way for long, since before this server started or while it was cut off, says less than is
//! committed by now. So a server that begins to follow asks its leader, and knows enough once it has what was answered.

use linnet_ids::{LogIndex, PeerId, Term};
use linnet_raft::Status;

/// What the leader that this server follows said when it was asked.
#[derive(Debug, Default)]
pub struct Assurance {
    following: Option<(PeerId, Term)>,
    is_asked: bool,
    /// What was committed then.
    committed: Option<LogIndex>,
}

impl Assurance {
    /// Whom to ask now, if anybody, what is committed. [`Assurance::answered`] afterwards.
    pub fn asks(&mut self, status: &Status) -> Option<PeerId> {
        let following = status.leader.filter(|_| !status.is_leader).map(|leader| (leader, status.term));
        if self.following != following {
            *self = Self { following, ..Self::default() };
        }
        let (leader, _) = following?;
        (self.committed.is_none() && !std::mem::replace(&mut self.is_asked, true)).then_some(leader)
    }

    /// What a leader says to this; `None` if this replica does not lead, or does not know it yet.
    pub fn answer(status: &Status) -> Option<(Term, LogIndex)> {
        (status.is_leader && status.is_current).then_some((status.term, status.commit))
    }

    /// The server that was asked has answered with its term and what is committed, or not at all.
    pub fn answered(&mut self, from: PeerId, answer: Option<(Term, LogIndex)>) {
        match (self.following, answer) {
            (Some(following), Some((term, committed))) if following == (from, term) => {
                self.committed = Some(committed);
            }
            (Some((leader, _)), _) if leader == from => self.is_asked = false,
            _ => {}
        }
    }

    /// True if the replica with this status has everything that is decided, as far as it can know.
    pub fn is_current(&self, status: &Status) -> bool {
        let following = status.leader.map(|leader| (leader, status.term));
        let is_assured =
            || self.following == following && self.committed.is_some_and(|c| status.applied >= c);
        status.is_current && (status.is_leader || is_assured())
    }
}

#[cfg(test)]
mod tests {
    use linnet_raft::Membership;

    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId::of_name(name)
    }

    fn follower(leader: Option<&str>, term: Term, applied: LogIndex) -> Status {
        Status {
            term,
            leader: leader.map(peer),
            had_leader: true,
            is_leader: false,
            is_candidate: false,
            commit: applied,
            applied,
            last: applied,
            last_term: term,
            is_amnesiac: false,
            is_current: leader.is_some(),
            is_removed: false,
            membership: Membership::of_voters([]),
            is_membership_committed: true,
            rescue_quorum: None,
            forgetful: Vec::new(),
            fault: None,
        }
    }

    #[test]
    fn a_word_from_before_a_start_is_not_enough() {
        let mut assurance = Assurance::default();
        let behind = follower(Some("a"), 2, 5);
        assert!(behind.is_current && !assurance.is_current(&behind));
        assert_eq!(assurance.asks(&behind), Some(peer("a")));
        assert_eq!(assurance.asks(&behind), None, "it is asked");
        assurance.answered(peer("a"), Some((2, 7)));
        assert!(!assurance.is_current(&behind), "it lacks two entries");
        assert!(assurance.is_current(&follower(Some("a"), 2, 7)));
        assert_eq!(assurance.asks(&behind), None);
    }

    #[test]
    fn every_leader_is_asked_and_one_that_does_not_answer_again() {
        let mut assurance = Assurance::default();
        let follows = follower(Some("a"), 2, 7);
        assert_eq!(assurance.asks(&follows), Some(peer("a")));
        assurance.answered(peer("b"), None);
        assert_eq!(assurance.asks(&follows), None);
        assurance.answered(peer("a"), None);
        assert_eq!(assurance.asks(&follows), Some(peer("a")));
        assurance.answered(peer("a"), Some((1, 7)));
        assert!(!assurance.is_current(&follows), "of another term");
        assert_eq!(assurance.asks(&follows), Some(peer("a")));
        assurance.answered(peer("a"), Some((2, 7)));
        assert!(assurance.is_current(&follows));
        assert_eq!(assurance.asks(&follower(None, 2, 7)), None);
        assert!(!assurance.is_current(&follower(None, 2, 7)));
        assert_eq!(assurance.asks(&follows), Some(peer("a")), "it was cut off meanwhile");
        assert!(!assurance.is_current(&follows));
        assert_eq!(assurance.asks(&follower(Some("a"), 3, 7)), Some(peer("a")));
    }

    #[test]
    fn a_leader_knows_and_says_what_is_committed() {
        let mut leader = follower(Some("a"), 2, 5);
        (leader.is_leader, leader.commit) = (true, 6);
        let mut assurance = Assurance::default();
        assert_eq!((assurance.asks(&leader), assurance.is_current(&leader)), (None, true));
        assert_eq!(Assurance::answer(&leader), Some((2, 6)));
        leader.is_current = false;
        assert_eq!(Assurance::answer(&leader), None, "the first entry of its term is not committed");
        assert_eq!(Assurance::answer(&follower(Some("a"), 2, 5)), None);
    }
}
