use linnet_assets::Entry;
use linnet_ids::GroupId;
use linnet_wal::HardState;

/// Names a batch of the log. Batches become durable in order.
pub type Ticket = u64;

/// True for entries that may use what the log keeps in reserve when it or the disk is full: all but the messages of
/// ordinary streams. They are small, and some of them are what makes room again.
pub fn may_use_reserve(group: GroupId, entry: &[u8]) -> bool {
    group == GroupId::META || entry.first() != Some(&Entry::MESSAGES_KIND)
}

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
