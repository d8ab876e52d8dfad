//! What a consumer should have done and still wants.

use std::collections::BTreeSet;

use linnet_assets::{ConsumerOp, ConsumerState};
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::policies::AckPolicy;

use super::Message;

/// A consumer that should exist.
#[derive(Clone, Debug)]
pub(crate) struct ModelConsumer {
    /// Index of the entry that made it.
    pub(crate) born: u64,
    pub(crate) config: ConsumerConfig,
    /// How often it began anew.
    pub(crate) resets: u64,
    /// First sequence it wants.
    start: u64,
    /// Messages it wants of those stored before it was made, and the last sequence of that time; `None` if it wants
    /// all from its start on.
    newest: Option<(BTreeSet<u64>, u64)>,
    /// Last sequence that its log says was delivered or passed over.
    reached: u64,
    /// Messages that its log says were delivered, and not that they were done with.
    open: BTreeSet<u64>,
    /// Filters it had before, each with the last sequence of that time.
    had: Vec<(u64, Vec<String>)>,
}

impl ModelConsumer {
    /// One that begins with this state and wants everything behind it.
    pub(crate) fn new(born: u64, config: ConsumerConfig, state: &ConsumerState) -> Self {
        let reached = state.delivered.stream;
        let open = state.pending.keys().chain(state.exhausted.keys()).copied().collect();
        let (start, newest, had) = (reached + 1, None, Vec::new());
        Self { born, config, resets: 0, start, newest, reached, open, had }
    }

    /// It was opened with this state, which its log need not tell in full.
    pub(crate) fn go_on_from(&mut self, state: &ConsumerState) {
        self.reached = self.reached.max(state.delivered.stream);
        self.open = state.pending.keys().chain(state.exhausted.keys()).copied().collect();
    }

    /// Of what is stored now, up to `until`, it wants these only.
    pub(super) fn begin_with(&mut self, newest: BTreeSet<u64>, until: u64) {
        // They may have changed since the log was told where it begins.
        self.reached = newest.first().map_or(self.reached, |first| self.reached.min(first - 1));
        self.newest = Some((newest, until));
    }

    /// It gets another configuration when the stream ends at `last`.
    pub(super) fn configure(&mut self, config: ConsumerConfig, last: u64) {
        let old = std::mem::replace(&mut self.config, config);
        if old.filters() != self.config.filters() {
            self.had.push((last, old.filters().to_vec()));
        }
    }

    /// Takes what its log says it did; the messages that it is done with since.
    pub(super) fn act(&mut self, op: &ConsumerOp) -> Vec<u64> {
        match *op {
            ConsumerOp::Deliver { seq, count, .. } => {
                let delivered = seq..seq + count;
                self.reached = self.reached.max(seq + count - 1);
                if self.config.ack_policy == AckPolicy::None {
                    return delivered.collect();
                }
                self.open.extend(delivered);
                Vec::new()
            }
            ConsumerOp::Ack { seq, count } => {
                (seq..seq + count).filter(|seq| self.open.remove(seq)).collect()
            }
            ConsumerOp::AckAll { seq } => {
                let later = self.open.split_off(&(seq + 1));
                std::mem::replace(&mut self.open, later).into_iter().collect()
            }
            ConsumerOp::Exhaust { .. } | ConsumerOp::Postpone { .. } => Vec::new(),
            ConsumerOp::Reset { next } => {
                self.reached = next.saturating_sub(1);
                self.start = next;
                self.newest = None;
                self.open.clear();
                self.resets += 1;
                Vec::new()
            }
            ConsumerOp::MoveTo { next } => {
                self.reached = self.reached.max(next.saturating_sub(1));
                Vec::new()
            }
        }
    }

    /// True if the message keeps it from being done.
    pub(super) fn needs(&self, seq: u64, message: &Message) -> bool {
        self.covers(message) && (seq > self.reached || self.open.contains(&seq))
    }

    /// True if it filters for the subject of the message.
    pub(crate) fn covers(&self, message: &Message) -> bool {
        is_covered(self.config.filters(), message)
    }

    /// True if its filters and its deliver policy want the message.
    pub(crate) fn wants(&self, seq: u64, message: &Message) -> bool {
        let in_time = match &self.newest {
            Some((newest, until)) => seq > *until || newest.contains(&seq),
            None => seq >= self.start,
        };
        in_time && self.covers(message)
    }

    /// True if it wants the message and always did: it did not pass it by under other filters.
    pub(crate) fn always_wanted(&self, seq: u64, message: &Message) -> bool {
        let mut later = self.had.iter().filter(|(until, _)| seq <= *until);
        self.wants(seq, message) && later.all(|(_, filters)| is_covered(filters, message))
    }

    /// First sequence that it wants, at least 1.
    pub(crate) fn start(&self) -> u64 {
        self.start.max(1)
    }

    /// True if it wants all messages behind a sequence, so that those can be counted.
    pub(crate) fn is_plain(&self) -> bool {
        self.newest.is_none()
    }
}

fn is_covered(filters: &[String], message: &Message) -> bool {
    let covers = |filter: &String| linnet_subject::is_subset(&message.subject, filter.as_bytes());
    filters.is_empty() || filters.iter().any(covers)
}
