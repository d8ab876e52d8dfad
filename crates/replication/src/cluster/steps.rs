//! From the members that a group has to those that it shall have, one step at a time.
//!
//! Those that come catch up before they vote. A voter that is not wanted and cannot be heard goes before they do, one
//! that can be heard goes after: no step makes the group need somebody who is not there. The leader goes last, once
//! another one leads.

use linnet_ids::PeerId;
use linnet_raft::{Change, Member, MemberProgress, Role, Status};

/// Entries that a learner may lack when it begins to vote: a group that is written to never stands still.
const LACKS_AT_MOST: u64 = 1024;

/// What the leader of a group knows.
pub struct Standpoint<'a> {
    /// This server.
    pub me: PeerId,
    /// What its replica shows of itself.
    pub status: &'a Status,
    /// How far members are.
    pub progress: &'a dyn Fn(PeerId) -> Option<MemberProgress>,
    /// True for servers that can be heard.
    pub is_heard: &'a dyn Fn(PeerId) -> bool,
    /// The members that the group shall have.
    pub wanted: &'a [PeerId],
}

/// What its leader does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A step of the membership.
    Change(Change),
    /// Take this server in, in the life that it names.
    TakeIn(PeerId),
    /// Hand leadership to this member.
    HandOver(PeerId),
    /// Nothing can be done now.
    Wait,
    /// The members are those that are wanted.
    Done,
}

impl Standpoint<'_> {
    /// What is to be done now.
    pub fn next(&self) -> Step {
        let members = self.status.membership.members();
        if self.wanted.is_empty() || !self.status.is_leader {
            return Step::Wait;
        }
        if !self.status.is_membership_committed {
            return Step::Wait;
        }
        let surplus = || members.iter().filter(|m| !self.wanted.contains(&m.peer) && m.peer != self.me);
        if let Some(gone) = surplus().find(|m| m.role == Role::Learner || !(self.is_heard)(m.peer)) {
            return Step::Change(Change::Remove(gone.peer));
        }
        let is_absent = |peer: &&PeerId| self.status.membership.get(**peer).is_none();
        let absent: Vec<PeerId> = self.wanted.iter().filter(is_absent).copied().collect();
        if let Some(peer) = absent.iter().find(|peer| (self.is_heard)(**peer)) {
            return Step::TakeIn(*peer);
        }
        let learners = || members.iter().filter(|m| m.role == Role::Learner);
        let ready = || learners().filter(|m| self.has_caught_up(m.peer));
        // Of two voters neither can be done without: the second one waits for the third, if that is on its way.
        let coming = learners().filter(|m| (self.is_heard)(m.peer)).count();
        let is_alone = self.status.membership.voter_count() == 1;
        if let Some(first) = ready().next().filter(|_| !is_alone || coming < 2 || ready().count() > 1) {
            return Step::Change(Change::Promote(first.peer));
        }
        if !absent.is_empty() || learners().next().is_some() {
            return Step::Wait;
        }
        // Those first that the others would wait for: one that nobody names any more may never begin.
        let behind_first = || {
            let (ready, behind): (Vec<&Member>, Vec<&Member>) =
                surplus().partition(|m| self.has_caught_up(m.peer));
            behind.into_iter().chain(ready)
        };
        match behind_first().find(|gone| self.can_do_without(gone)) {
            Some(gone) => Step::Change(Change::Remove(gone.peer)),
            None if surplus().next().is_some() => Step::Wait,
            None if self.wanted.contains(&self.me) => Step::Done,
            None => self.successor().map_or(Step::Wait, Step::HandOver),
        }
    }

    fn has_caught_up(&self, peer: PeerId) -> bool {
        let has_enough = |p: MemberProgress| p.matched.saturating_add(LACKS_AT_MOST) >= self.status.commit;
        (self.progress)(peer).is_some_and(|p| !p.is_amnesiac && !p.is_catching_up && has_enough(p))
            && (self.is_heard)(peer)
    }

    /// Those that stay are a majority of their own that has what is committed.
    fn can_do_without(&self, gone: &Member) -> bool {
        let stay = self.status.membership.voters().map(|m| m.peer).filter(|peer| *peer != gone.peer);
        let (able, others): (Vec<PeerId>, Vec<PeerId>) =
            stay.partition(|peer| *peer == self.me || self.has_caught_up(*peer));
        able.len() > others.len()
    }

    /// The wanted voter that has most.
    fn successor(&self) -> Option<PeerId> {
        let voters = self.status.membership.voters().map(|m| m.peer);
        let able = voters.filter(|peer| *peer != self.me && self.has_caught_up(*peer));
        able.max_by_key(|peer| (self.progress)(*peer).map(|p| p.matched))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use linnet_raft::{Membership, Replica};

    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId::of_name(name)
    }

    fn peers(names: &str) -> Vec<PeerId> {
        names.split_whitespace().map(peer).collect()
    }

    /// A group led by a member, of which every step succeeds at once.
    struct Group {
        leader: PeerId,
        membership: Membership,
        dead: BTreeSet<PeerId>,
        matched: BTreeMap<PeerId, u64>,
        is_committed: bool,
    }

    const COMMIT: u64 = 10_000;

    impl Group {
        fn of(names: &str) -> Self {
            let all = peers(names);
            let voters = all.iter().map(|peer| Replica { peer: *peer, incarnation: 1 });
            let membership = Membership::of_voters(voters);
            let matched = all.iter().map(|peer| (*peer, COMMIT)).collect();
            Self { leader: all[0], membership, dead: BTreeSet::new(), matched, is_committed: true }
        }

        fn next(&self, wanted: &str) -> Step {
            let status = Status {
                term: 1,
                leader: Some(self.leader),
                had_leader: true,
                is_leader: true,
                is_candidate: false,
                commit: COMMIT,
                applied: COMMIT,
                last: COMMIT,
                last_term: 1,
                is_amnesiac: false,
                is_current: true,
                is_removed: false,
                membership: self.membership.clone(),
                is_membership_committed: self.is_committed,
                rescue_quorum: None,
                forgetful: Vec::new(),
                fault: None,
            };
            let progress = |peer| {
                let matched = self.matched.get(&peer).copied().unwrap_or(0);
                Some(MemberProgress { matched, heard: None, is_catching_up: false, is_amnesiac: false })
            };
            Standpoint {
                me: self.leader,
                status: &status,
                progress: &progress,
                is_heard: &|peer| !self.dead.contains(&peer),
                wanted: &peers(wanted),
            }
            .next()
        }

        /// All steps to what is wanted, in words. No step leaves fewer voters that live than decide.
        fn steps(&mut self, wanted: &str) -> Vec<String> {
            let names = ["a", "b", "c", "d", "e", "f"];
            let name = |of: PeerId| names.into_iter().find(|name| peer(name) == of).unwrap();
            let mut steps = Vec::new();
            loop {
                let step = self.next(wanted);
                steps.push(match step {
                    Step::Change(Change::Promote(peer)) => format!("promote {}", name(peer)),
                    Step::Change(Change::Remove(peer)) => format!("remove {}", name(peer)),
                    Step::TakeIn(peer) => format!("add {}", name(peer)),
                    Step::HandOver(peer) => format!("lead {}", name(peer)),
                    Step::Done => return steps,
                    Step::Wait | Step::Change(_) => {
                        steps.push("wait".to_owned());
                        return steps;
                    }
                });
                let change = match step {
                    Step::Change(change) => change,
                    Step::TakeIn(peer) => {
                        self.matched.insert(peer, COMMIT);
                        Change::Add(Replica { peer, incarnation: 2 })
                    }
                    Step::HandOver(peer) => {
                        self.leader = peer;
                        continue;
                    }
                    Step::Wait | Step::Done => unreachable!(),
                };
                self.membership = self.membership.after(change).unwrap();
                let living = self.membership.voters().filter(|m| !self.dead.contains(&m.peer)).count();
                assert!(living >= self.membership.quorum(), "after {steps:?}");
                assert!(steps.len() < 50);
            }
        }
    }

    #[test]
    fn a_group_that_is_as_it_shall_be_is_left_alone() {
        assert_eq!(Group::of("a b c").next("c b a"), Step::Done);
        assert_eq!(Group::of("a b c").next(""), Step::Wait, "nobody is named");
    }

    #[test]
    fn a_live_member_goes_after_the_one_that_replaces_it() {
        assert_eq!(Group::of("a b c").steps("a b d"), ["add d", "promote d", "remove c"]);
    }

    #[test]
    fn a_dead_member_goes_first() {
        let mut group = Group::of("a b c");
        group.dead.insert(peer("c"));
        assert_eq!(group.steps("a b d"), ["remove c", "add d", "promote d"]);
    }

    #[test]
    fn a_leader_that_is_not_wanted_hands_over_before_it_goes() {
        let steps = Group::of("a b c").steps("b c d");
        assert_eq!(steps[..2], ["add d", "promote d"]);
        assert!(steps[2].starts_with("lead "), "{steps:?}");
        assert_eq!(steps[3..], ["remove a"]);
    }

    #[test]
    fn groups_grow_and_shrink() {
        // Who is promoted first is a matter of ids.
        let sorted = |mut steps: Vec<String>| {
            steps[2..].sort();
            steps
        };
        let steps = sorted(Group::of("a b c").steps("a b c d e"));
        assert_eq!(steps, ["add d", "add e", "promote d", "promote e"]);
        assert_eq!(sorted(Group::of("a").steps("a b c")), ["add b", "add c", "promote b", "promote c"]);
        assert_eq!(Group::of("a").steps("a b"), ["add b", "promote b"]);
        assert_eq!(Group::of("a").steps("b"), ["add b", "promote b", "lead b", "remove a"]);
        let steps = Group::of("a b c d e").steps("a c e");
        assert_eq!(steps.iter().collect::<BTreeSet<_>>().len(), 2);
        assert!(steps.iter().all(|step| step == "remove b" || step == "remove d"), "{steps:?}");
        assert_eq!(Group::of("a b c").steps("a").len(), 2);
        let steps = Group::of("a b c").steps("b");
        assert_eq!((steps.len(), steps.last().map(String::as_str)), (3, Some("remove a")));
    }

    #[test]
    fn a_group_moves_as_a_whole() {
        let mut group = Group::of("a b c");
        group.steps("d e f");
        let mut members: Vec<PeerId> = group.membership.members().iter().map(|m| m.peer).collect();
        members.sort_unstable();
        let mut wanted = peers("d e f");
        wanted.sort_unstable();
        assert_eq!(members, wanted);
    }

    #[test]
    fn one_that_has_not_caught_up_does_not_vote_and_nobody_goes_for_it() {
        let mut group = Group::of("a b c");
        let d = Replica { peer: peer("d"), incarnation: 2 };
        group.membership = group.membership.after(Change::Add(d)).unwrap();
        assert_eq!(group.next("a b d"), Step::Wait);
        group.matched.insert(peer("d"), COMMIT - LACKS_AT_MOST);
        assert_eq!(group.next("a b d"), Step::Change(Change::Promote(peer("d"))));
    }

    #[test]
    fn the_second_voter_waits_for_the_third_if_that_is_on_its_way() {
        let mut group = Group::of("a");
        for name in ["b", "c"] {
            let learner = Replica { peer: peer(name), incarnation: 2 };
            group.membership = group.membership.after(Change::Add(learner)).unwrap();
        }
        group.matched.insert(peer("b"), COMMIT);
        assert_eq!(group.next("a b c"), Step::Wait, "c has nothing");
        group.matched.insert(peer("c"), COMMIT);
        assert!(matches!(group.next("a b c"), Step::Change(Change::Promote(_))));
        group.dead.insert(peer("c"));
        assert_eq!(group.next("a b c"), Step::Change(Change::Promote(peer("b"))), "c cannot be heard");
    }

    #[test]
    fn a_wanted_member_that_cannot_be_heard_is_waited_for() {
        let mut group = Group::of("a b c");
        group.dead.insert(peer("d"));
        assert_eq!(group.next("a b d"), Step::Wait);
        let mut group = Group::of("a b c");
        group.dead.insert(peer("b"));
        assert_eq!(group.next("a b c"), Step::Done, "it may come back");
    }

    #[test]
    fn one_step_waits_for_the_other() {
        let mut group = Group::of("a b c");
        group.is_committed = false;
        assert_eq!(group.next("a b d"), Step::Wait);
    }

    #[test]
    fn one_that_never_began_goes_before_those_that_would_have_to_do_without_it() {
        let mut group = Group::of("a b c");
        group.matched.insert(peer("c"), 0);
        assert_eq!(group.steps("a"), ["remove c", "remove b"]);
        let mut group = Group::of("a b c");
        group.matched.insert(peer("b"), 0);
        assert_eq!(group.steps("a"), ["remove b", "remove c"]);
    }

    #[test]
    fn nobody_goes_while_those_that_stay_lack_what_is_committed() {
        let mut group = Group::of("a b c d");
        group.matched.insert(peer("b"), 0);
        group.matched.insert(peer("c"), 0);
        assert_eq!(group.next("a b c"), Step::Wait);
    }
}
