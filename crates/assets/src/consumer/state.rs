use std::collections::BTreeMap;

use linnet_ids::{ConsumerSeq, StreamSeq, Wall};
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::policies::{AckPolicy, DeliverPolicy};
use serde::{Deserialize, Serialize};

use super::NewestFirst;

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
}

/// One change of a [`ConsumerState`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerOp {
    /// `count` messages with consecutive sequences from `seq` on were delivered at `at`.
    Deliver {
        /// First message.
        seq: StreamSeq,
        /// Sequence of its delivery; those of the others follow.
        consumer_seq: ConsumerSeq,
        /// How many.
        count: u64,
        /// When.
        at: Wall,
    },
    /// `count` messages with consecutive sequences from `seq` on are done with.
    Ack {
        /// First message.
        seq: StreamSeq,
        /// How many.
        count: u64,
    },
    /// Everything delivered up to `seq` is done with.
    AckAll {
        /// Last message.
        seq: StreamSeq,
    },
    /// Delivered as often as allowed.
    Exhaust {
        /// Message.
        seq: StreamSeq,
    },
    /// The delivery position moved without a delivery.
    MoveTo {
        /// Next message to look at.
        next: StreamSeq,
    },
    /// Everything begins anew.
    Reset {
        /// Next message to look at.
        next: StreamSeq,
    },
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
        let fresh = Pending { consumer_seq: self.delivered.consumer, deliveries: 0 };
        let pending = self.pending.entry(seq).or_insert(fresh);
        pending.deliveries += 1;
        (self.delivered.consumer, pending.deliveries)
    }

    /// Removes a message from what is awaited; what was known of it.
    pub(crate) fn ack(&mut self, seq: StreamSeq) -> Option<Pending> {
        let found = self.pending.remove(&seq).or_else(|| {
            let (consumer_seq, deliveries) = self.exhausted.remove(&seq)?;
            Some(Pending { consumer_seq, deliveries })
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

/// Adds `op` to a list, joining it with the last one where they are consecutive.
pub(crate) fn push_op(ops: &mut Vec<ConsumerOp>, op: ConsumerOp) {
    match (ops.last_mut(), op) {
        (
            Some(ConsumerOp::Deliver { seq, consumer_seq, count, at }),
            ConsumerOp::Deliver { seq: next, consumer_seq: next_delivery, count: 1, at: now },
        ) if *seq + *count == next && *consumer_seq + *count == next_delivery => {
            *count += 1;
            *at = now;
        }
        (Some(ConsumerOp::Ack { seq, count }), ConsumerOp::Ack { seq: next, count: 1 })
            if *seq + *count == next =>
        {
            *count += 1;
        }
        (Some(ConsumerOp::AckAll { seq }), ConsumerOp::AckAll { seq: next }) => *seq = (*seq).max(next),
        _ => ops.push(op),
    }
}

/// Most operations accepted in one encoded list: more is no entry of ours.
const OPS_MAX: u64 = 1 << 24;

impl ConsumerOp {
    /// Appends a consumer's name and operations.
    pub fn encode_list(name: &str, ops: &[Self], out: &mut Vec<u8>) {
        varint(name.len() as u64, out);
        out.extend_from_slice(name.as_bytes());
        varint(ops.len() as u64, out);
        for op in ops {
            match *op {
                Self::Deliver { seq, consumer_seq, count, at } => {
                    out.push(1);
                    varint(seq, out);
                    varint(consumer_seq, out);
                    varint(count, out);
                    varint(at.0.cast_unsigned(), out);
                }
                Self::Ack { seq, count } => {
                    out.push(2);
                    varint(seq, out);
                    varint(count, out);
                }
                Self::AckAll { seq } => {
                    out.push(3);
                    varint(seq, out);
                }
                Self::Exhaust { seq } => {
                    out.push(4);
                    varint(seq, out);
                }
                Self::MoveTo { next } => {
                    out.push(5);
                    varint(next, out);
                }
                Self::Reset { next } => {
                    out.push(6);
                    varint(next, out);
                }
            }
        }
    }

    /// Reads lists written one after the other.
    pub fn decode_lists(mut bytes: &[u8]) -> Option<Vec<(String, Vec<Self>)>> {
        let mut lists = Vec::new();
        while !bytes.is_empty() {
            let len = usize::try_from(read_varint(&mut bytes)?).ok()?;
            let (name, rest) = bytes.split_at_checked(len)?;
            bytes = rest;
            let count = read_varint(&mut bytes).filter(|n| *n <= OPS_MAX)?;
            let mut ops = Vec::new();
            for _ in 0..count {
                ops.push(Self::decode(&mut bytes)?);
            }
            lists.push((String::from_utf8(name.to_vec()).ok()?, ops));
        }
        Some(lists)
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        *bytes = rest;
        let mut next = || read_varint(bytes);
        Some(match kind {
            1 => Self::Deliver {
                seq: next()?,
                consumer_seq: next()?,
                count: next()?,
                at: Wall(next()?.cast_signed()),
            },
            2 => Self::Ack { seq: next()?, count: next()? },
            3 => Self::AckAll { seq: next()? },
            4 => Self::Exhaust { seq: next()? },
            5 => Self::MoveTo { next: next()? },
            6 => Self::Reset { next: next()? },
            _ => return None,
        })
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
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

    fn any_op() -> impl Strategy<Value = ConsumerOp> {
        let n = || 1..20_u64;
        prop_oneof![
            (n(), 1..20_u64, 1..4_u64, any::<i64>()).prop_map(|(seq, consumer_seq, count, at)| {
                ConsumerOp::Deliver { seq, consumer_seq, count, at: Wall(at) }
            }),
            (n(), 1..4_u64).prop_map(|(seq, count)| ConsumerOp::Ack { seq, count }),
            n().prop_map(|seq| ConsumerOp::AckAll { seq }),
            n().prop_map(|seq| ConsumerOp::Exhaust { seq }),
            n().prop_map(|next| ConsumerOp::MoveTo { next }),
        ]
    }

    proptest! {
        #[test]
        fn operations_round_trip(lists in proptest::collection::vec(("[a-z]{0,9}", proptest::collection::vec(any_op(), 0..9)), 0..4)) {
            let mut out = Vec::new();
            for (name, ops) in &lists {
                ConsumerOp::encode_list(name, ops, &mut out);
            }
            prop_assert_eq!(ConsumerOp::decode_lists(&out), Some(lists));
        }

        #[test]
        fn garbage_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = ConsumerOp::decode_lists(&bytes);
        }

        #[test]
        fn repeating_operations_over_a_newer_state_changes_nothing(seqs in proptest::collection::vec((1..9_u64, any::<bool>()), 0..20), from in 0..20_usize) {
            let mut state = ConsumerState::starting_at(1);
            let mut ops = Vec::new();
            for (seq, acked) in seqs {
                let op = if acked && seq <= state.delivered.stream {
                    ConsumerOp::Ack { seq, count: 1 }
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

        #[test]
        fn joining_operations_changes_nothing(ops in proptest::collection::vec(any_op(), 0..40)) {
            let mut joined = Vec::new();
            let (mut a, mut b) = (ConsumerState::starting_at(1), ConsumerState::starting_at(1));
            // First deliveries happen in stream order.
            let mut next = 1;
            let ops: Vec<ConsumerOp> = ops
                .into_iter()
                .map(|op| match op {
                    ConsumerOp::Deliver { seq, consumer_seq, count, at } => {
                        let seq = next + seq % 3;
                        next = seq + count;
                        ConsumerOp::Deliver { seq, consumer_seq, count, at }
                    }
                    other => other,
                })
                .collect();
            for op in &ops {
                push_op(&mut joined, *op);
                a.apply(op, AckPolicy::Explicit);
            }
            joined.iter().for_each(|op| b.apply(op, AckPolicy::Explicit));
            prop_assert_eq!(a.pending, b.pending);
            prop_assert_eq!(a.ack_floor, b.ack_floor);
            prop_assert_eq!(a.delivered, b.delivered);
        }
    }
}
