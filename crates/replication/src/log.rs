use std::collections::VecDeque;

use linnet_assets::Entry;
use linnet_ids::GroupId;
use linnet_raft::LogPoint;
use linnet_wal::{Batch, HardState};

/// Batches that are kept for use again.
const SPARE_MAX: usize = 4;

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
    /// Appends an entry of a replica and a hard state: both become durable or neither does.
    fn append_with_state(
        &mut self,
        group: GroupId,
        index: u64,
        term: u64,
        payload: &[u8],
        state: &HardState,
    ) -> Ticket;
    /// Gives up the log of a replica: it goes on behind `last`, with the state that `body` names. The hard state becomes
    /// durable with it or neither does.
    fn install(&mut self, group: GroupId, last: LogPoint, body: &[u8], state: &HardState) -> Ticket;
    /// Gives up everything the log holds of a group.
    fn end_group(&mut self, group: GroupId) -> Ticket;
    /// A group that lives in memory alone is about to apply this in place of appending it.
    fn unlogged(&mut self, group: GroupId, payload: &[u8]) {
        let _ = (group, payload);
    }
}

/// What a [`BatchQueue`] collects.
pub trait Records: Default {
    /// Bytes of what has a size of its own.
    fn bytes(&self) -> usize;
    /// True if nothing was added.
    fn is_empty(&self) -> bool;
    /// True if something in it may use the log's reserve.
    fn is_urgent(&self) -> bool;
    /// Something in it may.
    fn mark_urgent(&mut self);
}

impl Records for Batch {
    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn is_empty(&self) -> bool {
        self.is_empty()
    }

    fn is_urgent(&self) -> bool {
        self.is_urgent()
    }

    fn mark_urgent(&mut self) {
        self.set_urgent(true);
    }
}

/// What groups append, in batches that wait for the writer of the log.
pub struct BatchQueue<B> {
    /// Full batches, oldest first.
    full: VecDeque<(Ticket, B)>,
    open: B,
    open_ticket: Ticket,
    spare: Vec<B>,
    batch_max: usize,
    /// Bytes of full batches and of those being written.
    queued: usize,
}

impl<B: Records> BatchQueue<B> {
    /// A batch takes no more records once it has `batch_max` bytes.
    pub fn new(batch_max: usize) -> Self {
        Self {
            full: VecDeque::new(),
            open: B::default(),
            open_ticket: 1,
            spare: Vec::new(),
            batch_max,
            queued: 0,
        }
    }

    /// Adds a record; the ticket of its batch. `is_urgent` if it may use the log's reserve.
    pub fn add(&mut self, is_urgent: bool, add: impl FnOnce(&mut B)) -> Ticket {
        if self.open.bytes() >= self.batch_max {
            let full = self.close();
            self.full.push_back(full);
        }
        add(&mut self.open);
        if is_urgent {
            self.open.mark_urgent();
        }
        self.open_ticket
    }

    /// The next batch to write.
    pub fn take(&mut self) -> Option<(Ticket, B)> {
        self.full.pop_front().or_else(|| (!self.open.is_empty()).then(|| self.close()))
    }

    fn close(&mut self) -> (Ticket, B) {
        let next = self.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.open, next);
        self.queued += batch.bytes();
        self.open_ticket += 1;
        (self.open_ticket - 1, batch)
    }

    /// A batch that had `bytes` is written and empty again.
    pub fn written(&mut self, bytes: usize, batch: B) {
        self.queued = self.queued.saturating_sub(bytes);
        if self.spare.len() < SPARE_MAX {
            self.spare.push(batch);
        }
    }

    /// Bytes that are not written yet.
    pub fn bytes(&self) -> usize {
        self.queued + self.open.bytes()
    }

    /// True if nothing waits for the writer.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open.is_empty()
    }

    /// True if something that may use the log's reserve waits to be written.
    pub fn has_urgent(&self) -> bool {
        self.waiting().any(Records::is_urgent)
    }

    /// The last ticket handed out.
    pub fn last_ticket(&self) -> Ticket {
        self.open_ticket
    }

    /// The batches that wait for the writer, oldest first.
    pub fn waiting(&self) -> impl DoubleEndedIterator<Item = &B> {
        self.full.iter().map(|(_, batch)| batch).chain([&self.open])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Odd ones are urgent.
    #[derive(Default)]
    struct Numbers(Vec<u64>);

    impl Records for Numbers {
        fn bytes(&self) -> usize {
            self.0.len()
        }

        fn is_empty(&self) -> bool {
            self.0.is_empty()
        }

        fn is_urgent(&self) -> bool {
            self.0.iter().any(|n| n % 2 == 1)
        }

        fn mark_urgent(&mut self) {
            assert!(self.is_urgent());
        }
    }

    #[test]
    fn a_record_without_bytes_is_written() {
        let mut queue = BatchQueue::<Batch>::new(3);
        queue.add(true, |batch| batch.end_group(GroupId::META));
        assert!(!queue.is_empty() && queue.take().is_some());
    }

    #[test]
    fn batches_keep_the_order_and_their_tickets() {
        let mut queue = BatchQueue::<Numbers>::new(3);
        let tickets: Vec<Ticket> = (0..7).map(|n| queue.add(n % 2 == 1, |batch| batch.0.push(n))).collect();
        assert_eq!(tickets, [1, 1, 1, 2, 2, 2, 3]);
        assert_eq!(queue.bytes(), 7);
        let (first, batch) = queue.take().unwrap();
        assert_eq!((first, batch.0.as_slice()), (1, [0, 1, 2].as_slice()));
        assert_eq!(queue.bytes(), 7);
        queue.written(3, Numbers::default());
        assert_eq!(queue.bytes(), 4);
        assert_eq!(queue.take().map(|(ticket, _)| ticket), Some(2));
        assert_eq!(queue.take().map(|(ticket, _)| ticket), Some(3));
        assert!(queue.is_empty() && queue.take().is_none());
        assert_eq!(queue.add(false, |batch| batch.0.push(8)), 4);
        assert!(!queue.has_urgent());
        assert_eq!(queue.add(true, |batch| batch.0.push(9)), 4);
        assert!(queue.has_urgent());
    }
}
