use std::collections::BTreeMap;

use linnet_ids::{ConsumerSeq, StreamSeq, Wall};
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::policies::{AckPolicy, DeliverPolicy};
use serde::{Deserialize, Serialize};

use super::{ConsumerOp, NewestFirst};

/// What survives of a consumer: how far it delivered, what is acknowledged, what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerState {
    /// Highest delivered sequences.
    pub delivered: Floor,
    /// Everything up to here is acknowledged. Behind it lie only pending and exhausted messages.
    pub ack_floor: Floor,
    /// Delivered and not acknowledged.
    pub pending: BTreeMap<StreamSeq, Pending>,
    /// Delivered as often as allowed and never acknowledged: their first delivery and number of deliveries.
    pub exhausted: BTreeMap<StreamSeq, (ConsumerSeq, u64)>,
    /// When the last delivery was, nanoseconds since the Unix epoch.
    pub last_delivered: Option<i64>,
    /// When the last acknowledgement was, nanoseconds since the Unix epoch.
    pub last_acked: Option<i64>,
    /// For a consumer that delivers the newest message of each subject first: which those are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<NewestFirst>,
}

/// A pair of sequences that belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Floor {
    /// Sequence of the delivery.
    pub consumer: ConsumerSeq,
    /// Sequence of the message.
    pub stream: StreamSeq,
}

/// A message that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Sequence of its first delivery.
    pub consumer_seq: ConsumerSeq,
    /// Deliveries so far.
    pub deliveries: u64,
    /// From when on its acknowledgement is waited for, nanoseconds since the Unix epoch.
    #[serde(default)]
    pub since: i64,
}

/// The wait for the acknowledgement of a delivery begins with the next whole millisecond, so that deliveries stand
/// together in the log although their times differ a little.
pub(super) fn waits_since(delivered: Wall) -> Wall {
    const MILLISECOND: i64 = 1_000_000;
    Wall(delivered.0.saturating_add(MILLISECOND - 1).div_euclid(MILLISECOND).saturating_mul(MILLISECOND))
}

impl ConsumerState {
    /// State of a consumer whose first message is at or after `first`.
    pub fn starting_at(first: StreamSeq) -> Self {
        let floor = Floor { consumer: 0, stream: first.saturating_sub(1) };
        Self { delivered: floor, ack_floor: floor, ..Self::default() }
    }

    /// State of a consumer that is new in a stream that ends at `last`, and whose first message is at or after `first`.
    pub(crate) fn of_new(config: &ConsumerConfig, first: StreamSeq, last: StreamSeq) -> Self {
        let mut state = Self::starting_at(first);
        if config.deliver_policy == DeliverPolicy::LastPerSubject {
            state.newest = Some(NewestFirst::up_to(last));
        }
        state
    }

    /// Moves the start of a consumer that has delivered nothing yet back to `first`, if it is behind it.
    pub(crate) fn start_at(&mut self, first: StreamSeq) {
        let floor = first.saturating_sub(1);
        self.delivered.stream = self.delivered.stream.min(floor);
        self.ack_floor.stream = self.ack_floor.stream.min(floor);
    }

    /// Applies a change. Repeating one that is part of the state already does no harm, so a log may be replayed over
    /// a newer state.
    pub fn apply(&mut self, op: &ConsumerOp, policy: AckPolicy) {
        match *op {
            ConsumerOp::Deliver { seq, consumer_seq, count, at } => {
                for (seq, consumer_seq) in (seq..seq + count).zip(consumer_seq..) {
                    // Counting a delivery twice would use up the attempts of its message.
                    if consumer_seq > self.delivered.consumer {
                        self.delivered.consumer = consumer_seq - 1;
                        self.deliver(seq, at, policy);
                    }
                }
            }
            ConsumerOp::Ack { seq, count } => {
                for seq in seq..seq + count {
                    self.ack(seq);
                }
            }
            ConsumerOp::AckAll { seq } => {
                self.ack_all(seq);
            }
            ConsumerOp::Postpone { seq, deliveries, since } => self.postpone(seq, deliveries, since),
            ConsumerOp::Exhaust { seq } => {
                self.exhaust(seq);
            }
            ConsumerOp::MoveTo { next } => self.move_to(next),
            ConsumerOp::Reset { next } => self.reset(next),
        }
    }

    /// Begins anew at `next`. Nothing before it is owed any more, also of the newest of each subject.
    pub(crate) fn reset(&mut self, next: StreamSeq) {
        let newest = self.newest.take().map(|_| NewestFirst::up_to(0));
        *self = Self { newest, ..Self::starting_at(next) };
    }

    /// Notes a delivery; its consumer sequence and how often the message was delivered.
    pub(crate) fn deliver(&mut self, seq: StreamSeq, at: Wall, policy: AckPolicy) -> (ConsumerSeq, u64) {
        self.delivered.consumer += 1;
        self.delivered.stream = self.delivered.stream.max(seq);
        self.last_delivered = Some(at.0);
        if let Some(newest) = self.newest.as_mut().filter(|n| n.until <= self.delivered.stream) {
            newest.passed_over.clear();
        }
        if policy == AckPolicy::None {
            self.ack_floor = self.delivered;
            return (self.delivered.consumer, 1);
        }
        let since = waits_since(at).0;
        let fresh = Pending { consumer_seq: self.delivered.consumer, deliveries: 0, since };
        let pending = self.pending.entry(seq).or_insert(fresh);
        pending.deliveries += 1;
        pending.since = since;
        (self.delivered.consumer, pending.deliveries)
    }

    /// The wait for a message that was delivered that often begins at `since`.
    pub(crate) fn postpone(&mut self, seq: StreamSeq, deliveries: u64, since: Wall) {
        if let Some(pending) = self.pending.get_mut(&seq).filter(|p| p.deliveries == deliveries) {
            pending.since = since.0;
        }
    }

    /// Removes a message from what is awaited; what was known of it.
    pub(crate) fn ack(&mut self, seq: StreamSeq) -> Option<Pending> {
        let found = self.pending.remove(&seq).or_else(|| {
            let (consumer_seq, deliveries) = self.exhausted.remove(&seq)?;
            // Nothing was waited for any more.
            Some(Pending { consumer_seq, deliveries, since: 0 })
        })?;
        self.raise_floor();
        Some(found)
    }

    /// Removes everything up to `seq`; how many that were.
    pub(crate) fn ack_all(&mut self, seq: StreamSeq) -> usize {
        let before = self.pending.len() + self.exhausted.len();
        self.pending = self.pending.split_off(&(seq + 1));
        self.exhausted = self.exhausted.split_off(&(seq + 1));
        self.raise_floor();
        before - self.pending.len() - self.exhausted.len()
    }

    pub(crate) fn exhaust(&mut self, seq: StreamSeq) -> Option<Pending> {
        let pending = self.pending.remove(&seq)?;
        self.exhausted.insert(seq, (pending.consumer_seq, pending.deliveries));
        self.raise_floor();
        Some(pending)
    }

    /// Forgets what is awaited of messages that do not exist.
    pub(crate) fn drop_missing(&mut self, exists: impl Fn(StreamSeq) -> bool) {
        let before = self.pending.len() + self.exhausted.len();
        self.pending.retain(|seq, _| exists(*seq));
        self.exhausted.retain(|seq, _| exists(*seq));
        if self.pending.len() + self.exhausted.len() < before {
            self.raise_floor();
        }
    }

    /// Messages below `next` will not be delivered any more.
    pub(crate) fn move_to(&mut self, next: StreamSeq) {
        let last = next.saturating_sub(1);
        self.delivered.stream = self.delivered.stream.max(last);
        self.raise_floor();
    }

    fn raise_floor(&mut self) {
        let first_pending = self.pending.first_key_value().map(|(seq, p)| (*seq, p.consumer_seq));
        let first_exhausted = self.exhausted.first_key_value().map(|(seq, (consumer, _))| (*seq, *consumer));
        let floor = match first_pending.into_iter().chain(first_exhausted).min() {
            Some((stream, consumer)) => Floor { consumer: consumer - 1, stream: stream - 1 },
            None => self.delivered,
        };
        // Redelivered messages carry old consumer sequences; the floor never goes back.
        self.ack_floor.consumer = self.ack_floor.consumer.max(floor.consumer);
        self.ack_floor.stream = self.ack_floor.stream.max(floor.stream);
    }

    /// Messages delivered more than once and not acknowledged.
    pub fn redelivered(&self) -> u64 {
        let again = self.pending.values().filter(|p| p.deliveries > 1).count();
        again as u64 + self.exhausted.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(first: StreamSeq, deliveries: &[StreamSeq]) -> ConsumerState {
        let mut state = ConsumerState::starting_at(first);
        for seq in deliveries {
            state.deliver(*seq, Wall(1), AckPolicy::Explicit);
        }
        state
    }

    #[test]
    fn floor_is_below_the_oldest_pending_and_jumps_when_nothing_is_pending() {
        let mut s = state(1, &[1, 3, 7]);
        s.ack(3);
        assert_eq!(s.ack_floor, Floor { consumer: 0, stream: 0 });
        s.ack(1);
        assert_eq!(s.ack_floor, Floor { consumer: 2, stream: 6 });
        s.ack(7);
        assert_eq!(s.ack_floor, Floor { consumer: 3, stream: 7 });
    }

    #[test]
    fn exhausted_messages_hold_the_floor_until_a_late_ack() {
        let mut s = state(1, &[1, 2]);
        s.exhaust(1);
        s.ack(2);
        assert_eq!(s.ack_floor.stream, 0);
        assert!(s.pending.is_empty());
        assert!(s.ack(1).is_some());
        assert_eq!(s.ack_floor.stream, 2);
    }

    #[test]
    fn acknowledging_all_takes_everything_up_to_a_sequence() {
        let mut s = state(1, &[1, 2, 5, 9]);
        assert_eq!(s.ack_all(5), 3);
        assert_eq!(s.pending.len(), 1);
        assert_eq!(s.ack_floor, Floor { consumer: 3, stream: 8 });
    }

    proptest! {
        #[test]
        fn repeating_operations_over_a_newer_state_changes_nothing(seqs in proptest::collection::vec((1..9_u64, 0..3_u8), 0..20), from in 0..20_usize) {
            let mut state = ConsumerState::starting_at(1);
            let mut ops = Vec::new();
            for (seq, what) in seqs {
                let pending = state.pending.get(&seq);
                let op = if what == 0 && seq <= state.delivered.stream {
                    ConsumerOp::Ack { seq, count: 1 }
                } else if let Some(pending) = pending.filter(|_| what == 1) {
                    let (deliveries, since) = (pending.deliveries, Wall(ops.len() as i64));
                    ConsumerOp::Postpone { seq, deliveries, since }
                } else {
                    // What was acknowledged is not delivered again.
                    let seq = if state.pending.contains_key(&seq) { seq } else { state.delivered.stream + 1 };
                    ConsumerOp::Deliver { seq, consumer_seq: state.delivered.consumer + 1, count: 1, at: Wall(1) }
                };
                state.apply(&op, AckPolicy::Explicit);
                ops.push(op);
            }
            let before = state.clone();
            ops.iter().skip(from).for_each(|op| state.apply(op, AckPolicy::Explicit));
            prop_assert_eq!(before, state);
        }
    }
}
