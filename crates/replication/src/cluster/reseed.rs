//! Streams in memory of which too few remember anything: their servers were restarted (rule R8).
//!
//! Such a group cannot go on, because nobody can say what was promised. Once every member has said how it stands, those
//! that remember give up what they promised, durably, so that the group can never go on; then the leader of the
//! catalogue's group has the stream begin again, as a new group, on the member that holds most of it, or empty if none
//! holds anything.

use std::collections::BTreeMap;

use linnet_ids::{GroupId, LogIndex, PeerId, Term};
use linnet_jsapi::policies::StorageType;
use linnet_raft::{Member, Status};
use serde::{Deserialize, Serialize};

use super::placed::in_life;
use crate::catalogue::{Assignment, Placed};

/// How a replica of a group stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// It has forgotten what it promised, if it promised anything.
    pub is_amnesiac: bool,
    /// It knows a leader, or leads.
    pub has_leader: bool,
    /// Term and index of the last entry that it holds; zeros if it holds nothing.
    pub last: (Term, LogIndex),
    /// The members that vote, as far as it knows.
    pub voters: Vec<PeerId>,
}

/// What becomes of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebirth {
    /// It may go on.
    Wait,
    /// It cannot go on, and these have to give up what they promised.
    GiveUp(Vec<PeerId>),
    /// It is over: another one begins, on the member that holds most; empty if nobody holds anything.
    Begin(Option<PeerId>),
}

impl Standing {
    /// That of a replica.
    pub fn of(status: &Status) -> Self {
        Self {
            is_amnesiac: status.is_amnesiac,
            has_leader: status.is_leader || status.leader.is_some(),
            last: (status.last_term, status.last),
            voters: status.membership.voters().map(|member| member.peer).collect(),
        }
    }
}

impl Rebirth {
    /// Of a group of which every member in the catalogue has said how it stands; `is_there` knows the servers of the
    /// cluster. A voter that was not asked and is there may remember.
    pub fn of(standings: &BTreeMap<PeerId, Standing>, is_there: impl Fn(PeerId) -> bool) -> Self {
        if standings.is_empty() || standings.values().any(|standing| standing.has_leader) {
            return Self::Wait;
        }
        let may_count = |voter: &PeerId| match standings.get(voter) {
            Some(standing) => !standing.is_amnesiac,
            None => is_there(*voter),
        };
        let may_go_on = |standing: &Standing| {
            let able = standing.voters.iter().filter(|voter| may_count(voter)).count();
            able > standing.voters.len() / 2
        };
        let remembering = || standings.iter().filter(|(_, standing)| !standing.is_amnesiac);
        if remembering().any(|(_, standing)| may_go_on(standing)) {
            return Self::Wait;
        }
        let given: Vec<PeerId> = remembering().map(|(peer, _)| *peer).collect();
        if !given.is_empty() {
            return Self::GiveUp(given);
        }
        let holders = standings.iter().filter(|(_, standing)| standing.last > (0, 0));
        Self::Begin(holders.max_by_key(|(peer, standing)| (standing.last, **peer)).map(|(peer, _)| *peer))
    }
}

impl Assignment {
    /// True for a stream of which too few members may remember anything because they were restarted.
    pub fn may_be_forgotten(&self) -> bool {
        self.config.storage == StorageType::Memory && self.is_shared()
    }

    /// True for a stream that never lived, and of which too many founders have lost their disks since: the catalogue's
    /// group has the `members`. Nothing of it was ever acknowledged, so it may begin as another group (rule A3).
    pub fn is_stillborn(&self, members: &[Member]) -> bool {
        let founders: Vec<&Placed> = self.members.iter().filter(|placed| placed.life > 0).collect();
        let is_able = |placed: &&&Placed| {
            let peer: Option<PeerId> = placed.peer.parse().ok();
            peer.is_some_and(|peer| in_life(peer, members).life == placed.life)
        };
        let able = founders.iter().filter(is_able).count();
        let is_begun = self.live || self.ended || self.continues.is_some();
        let is_known = |placed: &Placed| members.iter().any(|member| member.peer.to_string() == placed.peer);
        !is_begun && !founders.is_empty() && able <= founders.len() / 2 && self.members.iter().any(is_known)
    }

    /// True for a stream that has several replicas.
    pub fn is_shared(&self) -> bool {
        !self.ended && !self.is_alone()
    }

    /// The same stream as another group, with what `seed` holds of it, or empty; the catalogue's group has the `members`.
    pub fn begin_anew(&self, group: GroupId, members: &[Member], seed: Option<PeerId>) -> Self {
        let mut peers: Vec<PeerId> = self.replicas().into_iter().map(|replica| replica.peer).collect();
        if let Some(seed) = seed.filter(|seed| !peers.contains(seed)) {
            peers.pop();
            peers.push(seed);
        }
        let place = |peer: PeerId| match seed {
            Some(seed) if seed != peer => Placed { peer: peer.to_string(), life: 0 },
            _ => in_life(peer, members),
        };
        Self {
            group: group.to_string(),
            live: false,
            members: peers.into_iter().map(place).collect(),
            reshaping: None,
            continues: seed.map(|_| self.group.clone()),
            ..self.clone()
        }
        .in_place_of(self)
    }
}

#[cfg(test)]
mod tests {
    use linnet_jsapi::StreamConfig;
    use linnet_raft::Role;

    use super::*;

    fn peer(name: &str) -> PeerId {
        PeerId::of_name(name)
    }

    fn peers(names: &str) -> Vec<PeerId> {
        names.split_whitespace().map(peer).collect()
    }

    fn standing(is_amnesiac: bool, last: (Term, LogIndex)) -> Standing {
        Standing { is_amnesiac, has_leader: false, last, voters: peers("a b c") }
    }

    /// Of a, b and c: whether each remembers, and what it holds.
    fn rebirth(standings: [(bool, (Term, LogIndex)); 3]) -> Rebirth {
        let standings = standings.map(|(remembers, last)| standing(!remembers, last));
        Rebirth::of(&peers("a b c").into_iter().zip(standings).collect(), |_| true)
    }

    #[test]
    fn a_stream_that_never_lived_begins_once_more_if_its_founders_are_gone() {
        let member = |name: &str, incarnation| Member { peer: peer(name), incarnation, role: Role::Voter };
        let group = GroupId { epoch: 0, meta_index: 1, random: 1 };
        let lives = |a, b, c| [member("a", a), member("b", b), member("c", c)];
        let new = |names| {
            Assignment::new_stream("A", StreamConfig::default(), 1, group, &peers(names), &lives(1, 1, 1))
        };
        let (one, three) = (new("a"), new("a b c"));
        assert!(!one.is_stillborn(&lives(1, 2, 2)) && one.is_stillborn(&lives(2, 1, 1)));
        assert!(!three.is_stillborn(&lives(2, 1, 1)) && three.is_stillborn(&lives(2, 2, 1)));
        assert!(!one.is_stillborn(&lives(1, 1, 1)[1..]), "nobody is left to begin it");
        let lived = Assignment { live: true, ..one.clone() };
        assert!(!lived.is_stillborn(&lives(2, 1, 1)));
        let next = GroupId { meta_index: 2, ..group };
        let anew = one.begin_anew(next, &lives(2, 1, 1), None);
        assert!(!anew.is_stillborn(&lives(2, 1, 1)) && anew.is_over(group));
    }

    #[test]
    fn a_group_of_which_a_majority_remembers_goes_on() {
        assert_eq!(rebirth([(true, (1, 5)), (true, (1, 4)), (false, (0, 0))]), Rebirth::Wait);
    }

    #[test]
    fn those_that_remember_give_up_before_another_group_begins() {
        let of_b = rebirth([(false, (0, 0)), (true, (1, 4)), (false, (0, 0))]);
        assert_eq!(of_b, Rebirth::GiveUp(peers("b")));
    }

    #[test]
    fn it_begins_with_what_the_most_advanced_holds_or_empty() {
        let of_b = rebirth([(false, (1, 9)), (false, (2, 4)), (false, (2, 3))]);
        assert_eq!(of_b, Rebirth::Begin(Some(peer("b"))));
        assert_eq!(rebirth([(false, (0, 0)); 3]), Rebirth::Begin(None));
    }

    #[test]
    fn a_group_that_is_led_or_has_a_voter_elsewhere_is_waited_for() {
        let mut standings: BTreeMap<PeerId, Standing> =
            peers("a b").into_iter().map(|peer| (peer, standing(peer == self::peer("b"), (1, 1)))).collect();
        assert_eq!(Rebirth::of(&standings, |_| true), Rebirth::Wait, "c may remember");
        assert_eq!(
            Rebirth::of(&standings, |of| of != peer("c")),
            Rebirth::GiveUp(peers("a")),
            "it was taken out"
        );
        standings.get_mut(&peer("b")).unwrap().has_leader = true;
        assert_eq!(Rebirth::of(&standings, |_| false), Rebirth::Wait);
        assert_eq!(Rebirth::of(&BTreeMap::new(), |_| false), Rebirth::Wait);
    }

    #[test]
    fn only_the_one_that_holds_most_may_begin_and_the_others_join_it() {
        let group = |meta_index| GroupId { epoch: 0, meta_index, random: 1 };
        let members: Vec<Member> = linnet_raft::Membership::of_voters(
            peers("a b c d").into_iter().map(|peer| linnet_raft::Replica { peer, incarnation: 7 }),
        )
        .members()
        .to_vec();
        let config =
            StreamConfig { storage: StorageType::Memory, num_replicas: 3, ..StreamConfig::default() };
        let old = Assignment::new_stream("A", config, 1, group(1), &peers("a b c"), &members);
        let lives =
            |of: &Assignment| of.replicas().iter().map(|r| (r.peer, r.incarnation)).collect::<Vec<_>>();
        let next = old.begin_anew(group(2), &members, Some(peer("b")));
        assert_eq!(lives(&next), [(peer("a"), 0), (peer("b"), 7), (peer("c"), 0)]);
        assert_eq!(next.continues, Some(group(1).to_string()));
        let empty = old.begin_anew(group(2), &members, None);
        assert!(lives(&empty).iter().all(|(_, life)| *life == 7) && empty.continues.is_none());
        let other = old.begin_anew(group(2), &members, Some(peer("d")));
        assert_eq!(lives(&other).last(), Some(&(peer("d"), 7)), "one that was to leave");
    }
}
