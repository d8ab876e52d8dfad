//! A group with one voter becomes a replicated one, whose first voter is the server that has everything.
//!
//! The group is held: it takes nothing in, and what it took in becomes durable and is applied. Then it takes another
//! seat at the end of its log. The hard state that names this server as the only voter is the record that decides:
//! without it the log opens as that of a group with one voter, with it as that of a replica, and what is in the log is
//! the same. Other members begin with nothing and get the state.

use linnet_assets::{Moment, Output};
use linnet_ids::Term;
use linnet_jsapi::errors;
use linnet_raft::{LogPoint, Opening, Replica as Member};

use crate::group::{LogPosition, Seat, StreamGroup};
use crate::log::Log;
use crate::replica::Replica;

/// What a group with one voter becomes.
pub(crate) struct Succession {
    me: Member,
    last: LogPoint,
    term: Term,
    seed: u64,
}

/// How far a group is that was asked to hold still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Something is under way.
    Waits,
    /// Everything that the log has is durable and applied. It ends at this index.
    Still(u64),
    /// It is a replica already.
    Replica,
}

impl StreamGroup {
    /// Takes nothing in and delivers nothing from here on, until it leads as a replica or [`StreamGroup::let_go`].
    pub fn hold(&mut self) -> Hold {
        let Seat::Solo(solo) = &self.seat else { return Hold::Replica };
        let end = solo.end();
        self.is_held = true;
        let is_still = self.stream.settle() && !self.is_checkpointing() && !self.floor.is_under_way();
        match end {
            Some((_, last)) if is_still && last == self.applied.index => Hold::Still(last),
            _ => Hold::Waits,
        }
    }

    /// Goes on as it was.
    pub fn let_go(&mut self) {
        if matches!(self.seat, Seat::Solo(_)) && self.successor.is_none() {
            self.is_held = false;
        }
    }

    /// True while it is held: its mail waits.
    pub fn is_held(&self) -> bool {
        self.is_held
    }

    /// Becomes at its next turn the first replica of a group, in the life that `me` names. It must be held, and its log
    /// end at `last`; else nothing happens and the answer is false. A stream in memory has no log: its place in the
    /// history of the group begins at any `last` but the first.
    pub fn open_up(&mut self, me: Member, last: LogPoint, seed: u64) -> bool {
        let is_volatile = self.stream.store().is_memory();
        let is_still = match self.hold() {
            Hold::Still(index) => is_volatile || index == last.index,
            Hold::Waits | Hold::Replica => false,
        };
        let Seat::Solo(solo) = &self.seat else { return false };
        let Some((term, _)) = solo.end().filter(|_| is_still && last.index > 0) else { return false };
        self.successor = Some(Box::new(Succession { me, last, term, seed }));
        true
    }

    /// Takes the seat that was prepared. Until it leads, its mail waits.
    pub(crate) fn succeed(&mut self, at: Moment, log: &mut dyn Log, out: &mut dyn Output) {
        let Some(next) = self.successor.take() else { return };
        let Succession { me, last, term, seed } = *next;
        self.stream.become_replica();
        self.stream.follow(&errors::CLUSTER_NOT_AVAIL, at, out);
        let opening = Opening::alone(self.group(), me, last, term, seed);
        let owner = self.stream.owner().cloned();
        let mut replica = Replica::open(opening, owner, self.stream.store().is_memory(), at.now, log);
        replica.ask_for_peers();
        self.applied = LogPosition { index: last.index, term: last.term };
        self.seat = Seat::Replica(Box::new(replica));
    }
}

#[cfg(test)]
mod tests;
