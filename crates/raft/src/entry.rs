//! Entries that belong to consensus itself. All others are opaque.

use bytes::Bytes;
use linnet_ids::PeerId;

use crate::bytes::{Input, Malformed};
use crate::membership::{Change, Membership};

/// Entries of the state machine begin with a byte below this one.
pub const RESERVED_FROM: u8 = 0xF0;

const LEADING: u8 = 0xF0;
const MEMBERSHIP: u8 = 0xF1;

const ADD: u8 = 1;
const PROMOTE: u8 = 2;
const DEMOTE: u8 = 3;
const REMOVE: u8 = 4;
const REINCARNATE: u8 = 5;

/// True if the entry is for consensus and not for the state machine.
pub fn is_reserved(payload: &[u8]) -> bool {
    payload.first().is_some_and(|kind| *kind >= RESERVED_FROM)
}

/// A step of the membership, with what comes of it: who reads only this entry knows the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipEntry {
    /// The step.
    pub change: Change,
    /// The members after it.
    pub membership: Membership,
}

/// The first entry of every leader.
pub(crate) fn leading() -> Bytes {
    Bytes::from_static(&[LEADING])
}

impl MembershipEntry {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![MEMBERSHIP];
        let (kind, words) = match self.change {
            Change::Add(replica) => (ADD, [replica.incarnation, 0]),
            Change::Promote(_) => (PROMOTE, [0, 0]),
            Change::Demote(_) => (DEMOTE, [0, 0]),
            Change::Remove(_) => (REMOVE, [0, 0]),
            Change::Reincarnate { old, new, .. } => (REINCARNATE, [old, new]),
        };
        out.push(kind);
        out.extend_from_slice(&self.change.peer().to_bytes());
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        self.membership.put(&mut out);
        out.into()
    }

    /// The step that an entry holds; `None` if it holds none.
    pub fn decode(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut input = Input::new(payload);
        match input.u8()? {
            MEMBERSHIP => {}
            LEADING => return input.end().map(|()| None),
            kind if kind < RESERVED_FROM => return Ok(None),
            _ => return Err(Malformed),
        }
        let kind = input.u8()?;
        let replica = input.replica()?;
        let (peer, first, second): (PeerId, _, _) = (replica.peer, replica.incarnation, input.u64()?);
        let change = match kind {
            ADD => Change::Add(replica),
            PROMOTE => Change::Promote(peer),
            DEMOTE => Change::Demote(peer),
            REMOVE => Change::Remove(peer),
            REINCARNATE => Change::Reincarnate { peer, old: first, new: second },
            _ => return Err(Malformed),
        };
        let membership = Membership::get_from(&mut input)?;
        input.end()?;
        Ok(Some(Self { change, membership }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Replica;

    #[test]
    fn every_step_round_trips() {
        let peer = PeerId::of_name("n1");
        let replica = Replica { peer, incarnation: 4 };
        let changes = [
            Change::Add(replica),
            Change::Promote(peer),
            Change::Demote(peer),
            Change::Remove(peer),
            Change::Reincarnate { peer, old: 4, new: u64::MAX },
        ];
        for change in changes {
            let entry = MembershipEntry { change, membership: Membership::of_voters([replica]) };
            let bytes = entry.encode();
            assert!(is_reserved(&bytes));
            assert_eq!(MembershipEntry::decode(&bytes), Ok(Some(entry)));
            assert_eq!(MembershipEntry::decode(&bytes[..bytes.len() - 1]), Err(Malformed));
        }
    }

    #[test]
    fn other_entries_hold_no_step() {
        assert_eq!(MembershipEntry::decode(&leading()), Ok(None));
        assert_eq!(MembershipEntry::decode(&[1, 2, 3]), Ok(None));
        assert_eq!(MembershipEntry::decode(&[]), Err(Malformed));
        assert_eq!(MembershipEntry::decode(&[0xF7]), Err(Malformed));
        assert!(!is_reserved(&[1]) && is_reserved(&leading()) && !is_reserved(&[]));
    }
}
