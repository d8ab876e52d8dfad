use linnet_ids::GroupId;
use linnet_raft::LogPoint;
use linnet_replication::raft::ReplicaLog;
use linnet_replication::{BatchQueue, Log, Ticket};
use linnet_wal::{Batch, HardState};

/// Bytes after which a batch takes no more.
const BATCH_MAX: usize = 4 << 10;

/// Batches that wait for the writer.
pub(super) struct WalQueue(pub(super) BatchQueue<Batch>);

impl WalQueue {
    pub(super) fn new() -> Self {
        Self(BatchQueue::new(BATCH_MAX))
    }

    fn add(&mut self, add: impl FnOnce(&mut Batch)) -> Ticket {
        self.0.add(true, add)
    }
}

impl Log for WalQueue {
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket {
        self.add(|batch| batch.entry(group, index, term, &[payload]))
    }

    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket {
        self.add(|batch| batch.hard_state(group, state))
    }

    fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) -> Ticket {
        self.add(|batch| batch.checkpoint(group, applied, term, body))
    }

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.add(|batch| batch.end_group(group))
    }
}

impl ReplicaLog for WalQueue {
    fn append_with_state(
        &mut self,
        group: GroupId,
        index: u64,
        term: u64,
        payload: &[u8],
        state: &HardState,
    ) -> Ticket {
        self.add(|batch| {
            batch.entry(group, index, term, &[payload]);
            batch.hard_state(group, state);
        })
    }

    fn install(&mut self, group: GroupId, last: LogPoint, body: &[u8], state: &HardState) -> Ticket {
        self.add(|batch| {
            batch.install(group, last.index, last.term, last.chain, body);
            batch.hard_state(group, state);
        })
    }
}
