//! What happened to a consumer, as the log holds it.

use linnet_ids::{ConsumerSeq, StreamSeq, Wall};

use super::state::waits_since;

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
    /// The wait for the acknowledgement of a pending message begins anew.
    Postpone {
        /// Message.
        seq: StreamSeq,
        /// How often it had been delivered: after another delivery this means nothing any more.
        deliveries: u64,
        /// When the wait begins. For a message that its client wants later, such that it ends then.
        since: Wall,
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

/// Adds `op` to a list, joining it with the last one where they are consecutive.
pub(crate) fn push_op(ops: &mut Vec<ConsumerOp>, op: ConsumerOp) {
    match (ops.last_mut(), op) {
        (
            Some(ConsumerOp::Deliver { seq, consumer_seq, count, at }),
            ConsumerOp::Deliver { seq: next, consumer_seq: next_delivery, count: 1, at: now },
        ) if *seq + *count == next
            && *consumer_seq + *count == next_delivery
            && waits_since(*at) == waits_since(now) =>
        {
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
                Self::Postpone { seq, deliveries, since } => {
                    out.push(7);
                    varint(seq, out);
                    varint(deliveries, out);
                    varint(since.0.cast_unsigned(), out);
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
            7 => Self::Postpone { seq: next()?, deliveries: next()?, since: Wall(next()?.cast_signed()) },
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
    use linnet_jsapi::policies::AckPolicy;
    use proptest::prelude::*;

    use super::*;
    use crate::consumer::ConsumerState;

    fn any_op() -> impl Strategy<Value = ConsumerOp> {
        let n = || 1..20_u64;
        prop_oneof![
            (n(), 1..20_u64, 1..4_u64, 0..5_000_000_i64).prop_map(|(seq, consumer_seq, count, at)| {
                ConsumerOp::Deliver { seq, consumer_seq, count, at: Wall(at) }
            }),
            (n(), 1..4_u64).prop_map(|(seq, count)| ConsumerOp::Ack { seq, count }),
            n().prop_map(|seq| ConsumerOp::AckAll { seq }),
            n().prop_map(|seq| ConsumerOp::Exhaust { seq }),
            n().prop_map(|next| ConsumerOp::MoveTo { next }),
            n().prop_map(|next| ConsumerOp::Reset { next }),
            (n(), n(), any::<i64>()).prop_map(|(seq, deliveries, since)| {
                ConsumerOp::Postpone { seq, deliveries, since: Wall(since) }
            }),
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
