use std::collections::BTreeMap;

use linnet_ids::GroupId;
use linnet_raft::LogPoint;
use linnet_replication::{BatchQueue, Log, Ticket};
use linnet_wal::{Batch, HardState};

/// Bytes after which a batch takes no more.
const BATCH_MAX: usize = 4 << 10;

/// What a broken server does to what it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// Terms are written down as they were first, and votes never.
    Terms,
}

/// Batches that wait for the writer.
pub(crate) struct WalQueue {
    pub(crate) batches: BatchQueue<Batch>,
    spoil: Option<Spoil>,
    first_terms: BTreeMap<GroupId, u64>,
}

impl WalQueue {
    pub(crate) fn new(spoil: Option<Spoil>) -> Self {
        Self { batches: BatchQueue::new(BATCH_MAX), spoil, first_terms: BTreeMap::new() }
    }

    /// What is written of a hard state.
    fn written(&mut self, group: GroupId, state: &HardState) -> HardState {
        let first_term = *self.first_terms.entry(group).or_insert(state.term);
        match self.spoil {
            Some(Spoil::Terms) => HardState { term: first_term, vote: None, ..state.clone() },
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
        let state = self.written(group, state);
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
