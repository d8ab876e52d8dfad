//! Streams with one replica: how they become the first of several, and what stands in for one that is lost.

use std::time::Duration;

use linnet_assets::{Moment, Place};
use linnet_env::Rng as _;
use linnet_ids::{GroupId, Mono};
use linnet_raft::{LogPoint, Replica};
use linnet_replication::{Assignment, Hold};

use super::facts::Told;
use super::server::Life;

/// How long what is under way may take until the stream goes on as it was, and is tried again.
const STILL_WITHIN: Duration = Duration::from_secs(2);

impl Life {
    /// Makes a stream that this server holds alone the first replica of its group, once nothing is under way in it.
    pub(super) fn open_up(&mut self, at: Moment, group: GroupId) {
        let until = *self.clerk.opening_up.entry(group).or_insert(at.now + STILL_WITHIN);
        let me = Replica { peer: self.me(), incarnation: self.rng.next_u64().max(1) };
        let seed = self.rng.next_u64();
        let end = self.end_of(group);
        let Some(slot) = self.slot_of(group) else { return };
        slot.is_awake = true;
        let has_begun = match slot.group.hold() {
            Hold::Still(last) => {
                end.filter(|end| end.index == last).is_some_and(|end| slot.group.open_up(me, end, seed))
            }
            Hold::Waits | Hold::Replica => false,
        };
        if has_begun {
            self.passed.told.push(Told::OpenedUp);
        }
        if has_begun || until <= at.now {
            slot_let_go(self, group);
            self.clerk.opening_up.remove(&group);
        }
    }

    /// A stream that held still to get other replicas shall have none.
    pub(super) fn stay_alone(&mut self, group: GroupId) {
        if self.clerk.opening_up.remove(&group).is_some() {
            slot_let_go(self, group);
        }
    }

    /// Where the log of a group ends.
    fn end_of(&self, group: GroupId) -> Option<LogPoint> {
        let wal = self.wal();
        let index = wal.last_index(group);
        let (term, chain) = wal.term(group, index).zip(wal.chain(group, index))?;
        Some(LogPoint { index, term, chain })
    }

    /// Makes a stream known that is lost: what is in its place refuses everything.
    pub(super) fn install_lost(&mut self, assignment: &Assignment, group: GroupId, now: Mono) {
        let stand_in = assignment.stand_in(group, Place::default(), now);
        self.install(None, stand_in, now);
        if let Some(slot) = self.slot_of(group) {
            slot.is_lost = true;
        }
        // One that never lived has lost nothing but the server that it was to begin on.
        if assignment.live {
            self.passed.told.push(Told::LostAlone(group));
        }
    }
}

fn slot_let_go(life: &mut Life, group: GroupId) {
    if let Some(slot) = life.slot_of(group) {
        slot.group.let_go();
    }
}
