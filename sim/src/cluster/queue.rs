use linnet_ids::GroupId;
use linnet_raft::LogPoint;
use linnet_replication::{BatchQueue, Log, Ticket};
use linnet_wal::{Batch, HardState};

use super::ClusterMutation;

/// Bytes after which a batch takes no more.
const BATCH_MAX: usize = 4 << 10;

/// Batches that wait for the writer.
pub(crate) struct WalQueue {
    pub(crate) batches: BatchQueue<Batch>,
    mutation: Option<ClusterMutation>,
    first_term: Option<u64>,
}

impl WalQueue {
    pub(crate) fn new(mutation: Option<ClusterMutation>) -> Self {
        Self { batches: BatchQueue::new(BATCH_MAX), mutation, first_term: None }
    }

    /// What is written of a hard state.
    fn written(&mut self, state: &HardState) -> HardState {
        let first_term = *self.first_term.get_or_insert(state.term);
        match self.mutation {
            Some(ClusterMutation::ForgetTerms) => HardState { term: first_term, vote: None, ..state.clone() },
            _ => state.clone(),
        }
    }

    fn add(&mut self, add: impl FnOnce(&mut Batch)) -> Ticket {
        self.batches.add(true, add)
    }
}

impl Log for WalQueue {
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket {
        self.add(|batch| batch.entry(group, index, term, &[payload]))
    }

    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket {
        let state = self.written(state);
        self.add(|batch| batch.hard_state(group, &state))
    }

    fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) -> Ticket {
        self.add(|batch| batch.checkpoint(group, applied, term, body))
    }

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.add(|batch| batch.end_group(group))
    }

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
