use linnet_ids::GroupId;
use linnet_wal::HardState;

/// Names a batch of the log. Batches become durable in order.
pub type Ticket = u64;

/// Where a group writes. Nothing is durable before the ticket returned by the call is.
pub trait Log {
    /// Appends an entry; `index` is the group's last plus one.
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket;
    /// Records the group's term and membership.
    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket;
    /// Records a checkpoint: entries up to `applied` are not needed any more.
    fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) -> Ticket;
    /// Gives up everything the log holds of a group.
    fn end_group(&mut self, group: GroupId) -> Ticket;
}
