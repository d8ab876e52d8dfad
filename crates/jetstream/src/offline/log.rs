use std::collections::HashSet;

use linnet_ids::GroupId;
use linnet_raft::LogPoint;
use linnet_replication::{Log, Ticket};
use linnet_wal::{Batch, HardState};

/// What is to be written to the log next.
#[derive(Default)]
pub(super) struct PendingLog {
    pub(super) batch: Batch,
    ends: Vec<GroupId>,
    /// Ticket of `batch`.
    pub(super) ticket: Ticket,
}

impl PendingLog {
    /// These groups do not end.
    pub(super) fn keep(&mut self, groups: impl Iterator<Item = GroupId>) {
        let kept: HashSet<GroupId> = groups.collect();
        self.ends.retain(|group| !kept.contains(group));
    }

    /// Adds to the batch what waits.
    pub(super) fn close(&mut self) {
        for group in self.ends.drain(..) {
            self.batch.end_group(group);
        }
    }
}

impl Log for PendingLog {
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket {
        self.batch.entry(group, index, term, &[payload]);
        self.ticket
    }

    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket {
        self.batch.hard_state(group, state);
        self.ticket
    }

    fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) -> Ticket {
        self.batch.checkpoint(group, applied, term, body);
        self.ticket
    }

    fn append_with_state(
        &mut self,
        group: GroupId,
        index: u64,
        term: u64,
        payload: &[u8],
        state: &HardState,
    ) -> Ticket {
        self.batch.entry(group, index, term, &[payload]);
        self.batch.hard_state(group, state);
        self.ticket
    }

    fn install(&mut self, group: GroupId, last: LogPoint, body: &[u8], state: &HardState) -> Ticket {
        self.batch.install(group, last.index, last.term, last.chain, body);
        self.batch.hard_state(group, state);
        self.ticket
    }

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.ends.push(group);
        self.ticket
    }
}
