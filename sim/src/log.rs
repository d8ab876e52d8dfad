//! The queue in front of the log: what groups append waits here for the writer, where a mutation may get at it.

use std::collections::BTreeMap;

use linnet_assets::{ConsumerOp, Entry};
use linnet_ids::GroupId;
use linnet_raft::LogPoint;
use linnet_replication::{BatchQueue, Log, Records, Ticket, may_use_reserve};
use linnet_wal::{Batch, HardState};

use crate::mutation::Mutation;
use crate::outbox::{Event, Events};

/// Bytes after which a batch takes no more records.
const BATCH_MAX: usize = 12 << 10;
/// First byte of entries, as the stream's log has them.
const PURGE: u8 = 3;
const DELETE: u8 = 4;
const ATTACH: u8 = 6;
const DELTA: u8 = 8;
const LEADER: u8 = 10;

enum Item {
    Entry { group: GroupId, index: u64, term: u64, payload: Vec<u8> },
    HardState(GroupId, HardState),
    Checkpoint { group: GroupId, applied: u64, term: u64, body: Vec<u8> },
    EndGroup(GroupId),
    Install { group: GroupId, last: LogPoint, body: Vec<u8> },
}

/// Records of one batch.
#[derive(Default)]
struct Items {
    items: Vec<Item>,
    bytes: usize,
    is_urgent: bool,
}

impl Records for Items {
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn is_urgent(&self) -> bool {
        self.is_urgent
    }

    fn mark_urgent(&mut self) {
        self.is_urgent = true;
    }
}

/// An entry a group appended, before any mutation.
pub(crate) struct Appended {
    pub(crate) group: GroupId,
    pub(crate) index: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) ticket: Ticket,
}

/// Batches that wait for the writer.
pub(crate) struct SimLog {
    queue: BatchQueue<Items>,
    mutation: Option<Mutation>,
    bodies: BTreeMap<GroupId, Vec<u8>>,
    /// What was appended since the checks last looked.
    pub(crate) appended: Vec<Appended>,
    /// What happened, in order with what leaves the streams.
    pub(crate) events: Events,
    /// Checkpoints recorded, for the summary.
    pub(crate) checkpoints: u64,
}

impl SimLog {
    pub(crate) fn new(mutation: Option<Mutation>) -> Self {
        Self {
            queue: BatchQueue::new(BATCH_MAX),
            mutation,
            bodies: BTreeMap::new(),
            appended: Vec::new(),
            events: Events::default(),
            checkpoints: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// True if something that may use the log's reserve waits to be written.
    pub(crate) fn has_urgent(&self) -> bool {
        self.queue.has_urgent()
    }

    /// The last ticket handed out.
    pub(crate) fn last_ticket(&self) -> Ticket {
        self.queue.last_ticket()
    }

    /// The next batch to write.
    pub(crate) fn take(&mut self) -> Option<(Ticket, Batch)> {
        let (ticket, Items { mut items, is_urgent, .. }) = self.queue.take()?;
        if self.mutation == Some(Mutation::LoseLastRecord) {
            lose_last(&mut items);
        }
        let mut batch = Batch::new();
        batch.set_urgent(is_urgent);
        for item in items {
            match item {
                Item::Entry { group, index, term, payload } => batch.entry(group, index, term, &[&payload]),
                Item::HardState(group, state) => batch.hard_state(group, &state),
                Item::Checkpoint { group, applied, term, body } => {
                    batch.checkpoint(group, applied, term, &body)
                }
                Item::EndGroup(group) => batch.end_group(group),
                Item::Install { group, last, body } => {
                    batch.install(group, last.index, last.term, last.chain, &body);
                }
            }
        }
        Some((ticket, batch))
    }

    fn add(&mut self, is_urgent: bool, item: Item, bytes: usize) -> Ticket {
        self.add_all(is_urgent, [item], bytes)
    }

    /// Adds items that become durable together.
    fn add_all<const N: usize>(&mut self, is_urgent: bool, items: [Item; N], bytes: usize) -> Ticket {
        self.queue.add(is_urgent, |open| {
            open.items.extend(items);
            open.bytes += bytes;
        })
    }
}

fn lose_last(items: &mut [Item]) {
    if items.len() < 2 {
        return;
    }
    let last = items.iter_mut().rev().find_map(|item| match item {
        Item::Entry { payload, .. } => Some(payload),
        _ => None,
    });
    if let Some(payload) = last {
        *payload = vec![LEADER];
    }
}

fn without_resets(payload: &[u8]) -> Vec<u8> {
    let Ok(Entry::ConsumerDelta(mut delta)) = Entry::decode(payload) else { return payload.to_vec() };
    delta.iter_mut().for_each(|(_, ops)| ops.retain(|op| !matches!(op, ConsumerOp::Reset { .. })));
    Entry::ConsumerDelta(delta).encode()
}

fn with_later_start(payload: &[u8]) -> Vec<u8> {
    let Ok(Entry::ConsumerAttach(mut attach)) = Entry::decode(payload) else { return payload.to_vec() };
    if let Some(state) = &mut attach.state {
        state.delivered.stream += 1;
    }
    Entry::ConsumerAttach(attach).encode()
}

impl Log for SimLog {
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket {
        let kind = payload.first().copied().unwrap_or_default();
        let written = match self.mutation {
            Some(Mutation::LoseConsumerDeltas) if kind == DELTA => vec![DELTA],
            Some(Mutation::LoseRemovals) if kind == PURGE || kind == DELETE => vec![LEADER],
            Some(Mutation::LoseResets) if kind == DELTA => without_resets(payload),
            Some(Mutation::ShiftStarts) if kind == ATTACH => with_later_start(payload),
            _ => payload.to_vec(),
        };
        let bytes = written.len();
        let ticket = self.add(
            may_use_reserve(group, payload),
            Item::Entry { group, index, term, payload: written },
            bytes,
        );
        self.appended.push(Appended { group, index, payload: payload.to_vec(), ticket });
        ticket
    }

    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket {
        self.add(true, Item::HardState(group, state.clone()), 64)
    }

    fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) -> Ticket {
        self.checkpoints += 1;
        let mut body = body.to_vec();
        if self.mutation == Some(Mutation::OldCheckpointBody) {
            let old = self.bodies.insert(group, body.clone());
            body = old.unwrap_or(body);
        }
        let last = self.appended_last(group);
        let too_far = self.mutation == Some(Mutation::CheckpointTooFar);
        let applied = last.filter(|last| too_far && *last > applied).unwrap_or(applied);
        self.add(true, Item::Checkpoint { group, applied, term, body }, 64)
    }

    fn append_with_state(
        &mut self,
        group: GroupId,
        index: u64,
        term: u64,
        payload: &[u8],
        state: &HardState,
    ) -> Ticket {
        let bytes = payload.len() + 64;
        let entry = Item::Entry { group, index, term, payload: payload.to_vec() };
        self.add_all(true, [entry, Item::HardState(group, state.clone())], bytes)
    }

    fn install(&mut self, group: GroupId, last: LogPoint, body: &[u8], state: &HardState) -> Ticket {
        let installed = Item::Install { group, last, body: body.to_vec() };
        self.add_all(true, [installed, Item::HardState(group, state.clone())], 128)
    }

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.add(true, Item::EndGroup(group), 32)
    }

    fn unlogged(&mut self, group: GroupId, payload: &[u8]) {
        self.events.borrow_mut().push(Event::Unlogged { group, payload: payload.to_vec() });
    }
}

impl SimLog {
    /// The newest entry of a group that waits for the writer.
    fn appended_last(&self, group: GroupId) -> Option<u64> {
        let waiting = self.queue.waiting().flat_map(|batch| &batch.items);
        waiting.rev().find_map(|item| match item {
            Item::Entry { group: other, index, .. } if *other == group => Some(*index),
            _ => None,
        })
    }
}
