//! What is durable of a consumer's state. Retention goes by it alone, so that a message is removed at the same place
//! of the log wherever the log is applied.

use linnet_ids::StreamSeq;
use linnet_jsapi::policies::AckPolicy;

use super::{Consumer, ConsumerOp, ConsumerState};

impl Consumer {
    /// Follows what is durable from here on, or no more.
    pub(crate) fn follow_committed(&mut self, follow: bool) {
        if !follow {
            self.committed = None;
        } else if self.committed.is_none() {
            self.committed = Some(Box::new(self.state.clone()));
        }
    }

    /// Follows what several replicas have in common: the log does not say when something was acknowledged last.
    pub(crate) fn follow_replicated(&mut self) {
        self.follow_committed(true);
        if let Some(state) = &mut self.committed {
            state.last_acked = None;
        }
    }

    /// The state, and what of it is durable.
    pub(super) fn states_mut(&mut self) -> impl Iterator<Item = &mut ConsumerState> {
        std::iter::once(&mut self.state).chain(self.committed.as_deref_mut())
    }

    /// What a checkpoint keeps.
    pub(crate) fn saved_state(&self) -> &ConsumerState {
        self.committed.as_deref().unwrap_or(&self.state)
    }

    /// Takes in operations that have become durable. Returns the messages that the consumer is done with because of
    /// them, and whether there may be others that it will never deliver.
    pub(crate) fn commit(&mut self, ops: &[ConsumerOp]) -> (Vec<StreamSeq>, bool) {
        let mut done = Vec::new();
        let policy = self.config.ack_policy;
        let Some(state) = &mut self.committed else { return (done, false) };
        let before = state.delivered.stream;
        for op in ops {
            match *op {
                ConsumerOp::Deliver { seq, count, .. } => {
                    state.apply(op, policy);
                    if policy == AckPolicy::None {
                        done.extend(seq..seq + count);
                    }
                }
                ConsumerOp::Ack { seq, count } => {
                    done.extend((seq..seq + count).filter(|seq| state.ack(*seq).is_some()));
                }
                ConsumerOp::AckAll { seq } => {
                    let pending = state.pending.range(..=seq).map(|(seq, _)| *seq);
                    done.extend(pending.chain(state.exhausted.range(..=seq).map(|(seq, _)| *seq)));
                    state.ack_all(seq);
                }
                ConsumerOp::Postpone { .. }
                | ConsumerOp::Exhaust { .. }
                | ConsumerOp::MoveTo { .. }
                | ConsumerOp::Reset { .. } => {
                    state.apply(op, policy);
                }
            }
        }
        let after = state.delivered.stream;
        let is_through = state.newest.as_ref().is_some_and(|n| before < n.until && n.until <= after);
        let has_moved =
            ops.iter().any(|op| matches!(op, ConsumerOp::MoveTo { .. } | ConsumerOp::Reset { .. }));
        (done, is_through || has_moved)
    }

    /// True if a message that it wants is still to be delivered or acknowledged.
    pub(crate) fn owes(&self, seq: StreamSeq) -> bool {
        let state = self.saved_state();
        seq > state.delivered.stream || state.pending.contains_key(&seq) || state.exhausted.contains_key(&seq)
    }
}
