use linnet_ids::GroupId;
use linnet_raft::LogPoint;
use linnet_wal::HardState;

use crate::log::{Log, Ticket};

/// A log that replicas write to.
pub trait ReplicaLog: Log {
    /// Appends an entry and a hard state: both become durable or neither does.
    fn append_with_state(
        &mut self,
        group: GroupId,
        index: u64,
        term: u64,
        payload: &[u8],
        state: &HardState,
    ) -> Ticket;

    /// Gives up a group's log: it goes on behind `last`, with the state that `body` names. The hard state becomes
    /// durable with it or neither does.
    fn install(&mut self, group: GroupId, last: LogPoint, body: &[u8], state: &HardState) -> Ticket;
}
