//! Who belongs to a group, and the single steps by which that changes.

use linnet_ids::PeerId;

use crate::bytes::{Input, Malformed};

/// A life of a store in a group: drawn at random, durable, drawn anew whenever the store may have forgotten
/// something of the group, never valid again.
pub type Incarnation = u64;

/// Most members of a group.
pub const MEMBERS_MAX: usize = 1024;

/// A member in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replica {
    /// The server.
    pub peer: PeerId,
    /// Its life in the group.
    pub incarnation: Incarnation,
}

impl Replica {
    /// Length of [`Replica::to_bytes`].
    pub const LEN: usize = 16;

    /// Fixed-size form, as votes are stored.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..PeerId::LEN].copy_from_slice(&self.peer.to_bytes());
        out[PeerId::LEN..].copy_from_slice(&self.incarnation.to_le_bytes());
        out
    }

    /// Inverse of [`Replica::to_bytes`]; `None` if the first half is no peer.
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Option<Self> {
        let mut input = Input::new(&bytes);
        input.replica().ok()
    }
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Counts for elections and commits.
    Voter,
    /// Receives the log and does not count.
    Learner,
}

/// A member of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// The server.
    pub peer: PeerId,
    /// The only life of it that is listened to.
    pub incarnation: Incarnation,
    /// What it may do.
    pub role: Role,
}

impl Member {
    /// The member in its life.
    pub fn replica(&self) -> Replica {
        Replica { peer: self.peer, incarnation: self.incarnation }
    }
}

/// Lives that are over and that a group still knows.
const RETIRED_MAX: usize = 64;

/// All members of a group, ordered by peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Membership {
    members: Vec<Member>,
    /// Lives that members were re-admitted after or removed in, newest last: a disk that comes back is told.
    retired: Vec<Replica>,
}

/// One step from a membership to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adds a learner, which begins empty.
    Add(Replica),
    /// Makes a learner a voter.
    Promote(PeerId),
    /// Makes a voter a learner.
    Demote(PeerId),
    /// Removes a member.
    Remove(PeerId),
    /// The member has forgotten what it knew and goes on as another life.
    Reincarnate {
        /// The member.
        peer: PeerId,
        /// The life that is over.
        old: Incarnation,
        /// The one that begins.
        new: Incarnation,
    },
}

impl Change {
    /// Whom it concerns.
    pub fn peer(&self) -> PeerId {
        match *self {
            Self::Add(replica) => replica.peer,
            Self::Promote(peer)
            | Self::Demote(peer)
            | Self::Remove(peer)
            | Self::Reincarnate { peer, .. } => peer,
        }
    }
}

/// A step that leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleChange {
    /// It is there already.
    #[error("peer {0} is a member already")]
    IsMember(PeerId),
    /// It is not there.
    #[error("peer {0} is not a member")]
    NotMember(PeerId),
    /// It is that already.
    #[error("peer {0} has that role already")]
    HasRole(PeerId),
    /// Nobody would be left to decide anything.
    #[error("peer {0} is the last voter")]
    LastVoter(PeerId),
    /// Another life of the member was meant.
    #[error("peer {0} has another incarnation")]
    OtherIncarnation(PeerId),
    /// No more fit.
    #[error("a group has at most {MEMBERS_MAX} members")]
    Full,
}

impl Membership {
    /// A group whose members are all voters.
    pub fn of_voters(replicas: impl IntoIterator<Item = Replica>) -> Self {
        let members = replicas.into_iter().map(|Replica { peer, incarnation }| Member {
            peer,
            incarnation,
            role: Role::Voter,
        });
        Self::from_members(members.collect())
    }

    fn from_members(mut members: Vec<Member>) -> Self {
        members.sort_unstable_by_key(|m| m.peer);
        members.dedup_by_key(|m| m.peer);
        Self { members, retired: Vec::new() }
    }

    /// All members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The members that count.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|m| m.role == Role::Voter)
    }

    /// How many count.
    pub fn voter_count(&self) -> usize {
        self.voters().count()
    }

    /// How many of the voters decide.
    pub fn quorum(&self) -> usize {
        self.voter_count() / 2 + 1
    }

    /// A member.
    pub fn get(&self, peer: PeerId) -> Option<&Member> {
        self.members.binary_search_by_key(&peer, |m| m.peer).ok().and_then(|at| self.members.get(at))
    }

    /// True if the peer counts.
    pub fn is_voter(&self, peer: PeerId) -> bool {
        self.get(peer).is_some_and(|m| m.role == Role::Voter)
    }

    /// True if a member was re-admitted after this life or removed in it.
    pub fn is_retired(&self, replica: Replica) -> bool {
        self.retired.contains(&replica)
    }

    /// Lives that are over, the oldest first, as far as they are remembered.
    pub fn retired(&self) -> &[Replica] {
        &self.retired
    }

    /// The membership after a step.
    pub fn after(&self, change: Change) -> Result<Self, ImpossibleChange> {
        let mut next = self.clone();
        let peer = change.peer();
        let found = next.members.binary_search_by_key(&peer, |m| m.peer);
        let at = match (change, found) {
            (Change::Add(_), Ok(_)) => return Err(ImpossibleChange::IsMember(peer)),
            (Change::Add(replica), Err(_)) if self.is_retired(replica) => {
                return Err(ImpossibleChange::OtherIncarnation(peer));
            }
            (Change::Add(_), Err(_)) if self.members.len() >= MEMBERS_MAX => {
                return Err(ImpossibleChange::Full);
            }
            (Change::Add(Replica { incarnation, .. }), Err(at)) => {
                next.members.insert(at, Member { peer, incarnation, role: Role::Learner });
                return Ok(next);
            }
            (_, Ok(at)) => at,
            (_, Err(_)) => return Err(ImpossibleChange::NotMember(peer)),
        };
        let is_last_voter = self.voter_count() == 1 && self.is_voter(peer);
        let member = &mut next.members[at];
        let role = match change {
            Change::Promote(_) => Role::Voter,
            Change::Demote(_) | Change::Remove(_) if is_last_voter => {
                return Err(ImpossibleChange::LastVoter(peer));
            }
            Change::Demote(_) => Role::Learner,
            Change::Remove(_) => {
                let removed = next.members.remove(at).replica();
                next.retire(removed);
                return Ok(next);
            }
            Change::Reincarnate { old, new, .. } => {
                if member.incarnation != old || old == new {
                    return Err(ImpossibleChange::OtherIncarnation(peer));
                }
                member.incarnation = new;
                next.retire(Replica { peer, incarnation: old });
                return Ok(next);
            }
            Change::Add(_) => return Err(ImpossibleChange::IsMember(peer)),
        };
        if member.role == role {
            return Err(ImpossibleChange::HasRole(peer));
        }
        member.role = role;
        Ok(next)
    }

    /// The membership of a group that one member goes on with alone, in a new life. The others are learners in the lives
    /// that `nobody` has, one for each member, and all former lives are over.
    pub(crate) fn abandoned(&self, by: PeerId, life: Incarnation, nobody: Vec<Incarnation>) -> Self {
        let mut next = self.clone();
        for (member, other) in next.members.iter_mut().zip(nobody) {
            let is_alone = member.peer == by;
            member.incarnation = if is_alone { life } else { other };
            member.role = if is_alone { Role::Voter } else { Role::Learner };
        }
        for member in &self.members {
            next.retire(member.replica());
        }
        next
    }

    fn retire(&mut self, life: Replica) {
        if self.retired.len() == RETIRED_MAX {
            self.retired.remove(0);
        }
        self.retired.push(life);
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        // Bounded by MEMBERS_MAX.
        let count = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for member in &self.members {
            out.extend_from_slice(&member.replica().to_bytes());
            out.push(u8::from(member.role == Role::Voter));
        }
        out.push(u8::try_from(self.retired.len()).unwrap_or(u8::MAX));
        for replica in &self.retired {
            out.extend_from_slice(&replica.to_bytes());
        }
    }

    pub(crate) fn get_from(input: &mut Input<'_>) -> Result<Self, Malformed> {
        let count = usize::from(input.u16()?);
        if count > MEMBERS_MAX {
            return Err(Malformed);
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let Replica { peer, incarnation } = input.replica()?;
            let role = if input.flag()? { Role::Voter } else { Role::Learner };
            if members.last().is_some_and(|last: &Member| last.peer >= peer) {
                return Err(Malformed);
            }
            members.push(Member { peer, incarnation, role });
        }
        let count = usize::from(input.u8()?);
        if count > RETIRED_MAX {
            return Err(Malformed);
        }
        let retired = (0..count).map(|_| input.replica()).collect::<Result<_, _>>()?;
        Ok(Self { members, retired })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerId {
        PeerId::of_name(&format!("n{n}"))
    }

    fn replica(n: u8) -> Replica {
        Replica { peer: peer(n), incarnation: u64::from(n) * 100 }
    }

    fn three() -> Membership {
        Membership::of_voters([replica(1), replica(2), replica(3)])
    }

    #[test]
    fn a_majority_of_voters_decides_and_learners_do_not_count() {
        for (voters, quorum) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)] {
            let group = Membership::of_voters((1..=voters).map(replica));
            assert_eq!(group.quorum(), quorum);
            let with_learner = group.after(Change::Add(replica(9))).unwrap();
            assert_eq!(
                (with_learner.quorum(), with_learner.members().len()),
                (quorum, usize::from(voters) + 1)
            );
            assert_eq!(
                with_learner.after(Change::Promote(peer(9))).unwrap().voter_count(),
                usize::from(voters) + 1
            );
        }
    }

    #[test]
    fn impossible_steps_are_refused() {
        let group = three();
        let one = Membership::of_voters([replica(1)]);
        let old = Change::Reincarnate { peer: peer(1), old: 7, new: 8 };
        let same = Change::Reincarnate { peer: peer(1), old: 100, new: 100 };
        assert_eq!(group.after(Change::Add(replica(1))), Err(ImpossibleChange::IsMember(peer(1))));
        assert_eq!(group.after(Change::Remove(peer(9))), Err(ImpossibleChange::NotMember(peer(9))));
        assert_eq!(group.after(Change::Promote(peer(1))), Err(ImpossibleChange::HasRole(peer(1))));
        assert_eq!(one.after(Change::Remove(peer(1))), Err(ImpossibleChange::LastVoter(peer(1))));
        assert_eq!(one.after(Change::Demote(peer(1))), Err(ImpossibleChange::LastVoter(peer(1))));
        assert_eq!(group.after(old), Err(ImpossibleChange::OtherIncarnation(peer(1))));
        assert_eq!(group.after(same), Err(ImpossibleChange::OtherIncarnation(peer(1))));
    }

    #[test]
    fn a_member_goes_on_as_another_life() {
        let next = three().after(Change::Reincarnate { peer: peer(2), old: 200, new: 5 }).unwrap();
        assert_eq!(next.get(peer(2)).map(|m| (m.incarnation, m.role)), Some((5, Role::Voter)));
        assert_eq!(next.get(peer(1)).map(|m| m.incarnation), Some(100));
        assert!(next.is_retired(replica(2)) && !next.is_retired(replica(1)));
    }

    #[test]
    fn only_the_newest_lives_that_are_over_are_kept() {
        let mut group = three();
        for life in 0..100 {
            let old = group.get(peer(1)).unwrap().incarnation;
            group = group.after(Change::Reincarnate { peer: peer(1), old, new: 1000 + life }).unwrap();
        }
        assert_eq!(group.retired.len(), RETIRED_MAX);
        assert!(group.is_retired(Replica { peer: peer(1), incarnation: 1098 }));
    }

    #[test]
    fn bytes_round_trip_and_disorder_is_refused() {
        let group = three().after(Change::Add(replica(9))).unwrap();
        let group = group.after(Change::Reincarnate { peer: peer(2), old: 200, new: 5 }).unwrap();
        let mut bytes = Vec::new();
        group.put(&mut bytes);
        assert_eq!(Membership::get_from(&mut Input::new(&bytes)), Ok(group));
        for len in 0..bytes.len() {
            assert_eq!(Membership::get_from(&mut Input::new(&bytes[..len])), Err(Malformed), "{len}");
        }
        let (first, second) = (2..2 + Replica::LEN + 1, 2 + Replica::LEN + 1..2 + 2 * (Replica::LEN + 1));
        let swapped = [&bytes[..2], &bytes[second.clone()], &bytes[first], &bytes[second.end..]].concat();
        assert_eq!(Membership::get_from(&mut Input::new(&swapped)), Err(Malformed));
        assert_eq!(Replica::from_bytes(replica(1).to_bytes()), Some(replica(1)));
        assert_eq!(Replica::from_bytes([0xff; Replica::LEN]), None);
    }
}
