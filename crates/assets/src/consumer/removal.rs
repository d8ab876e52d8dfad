use linnet_ids::{StreamSeq, Wall};
use linnet_store::{Filter, StreamStore};
use linnet_subject::{is_subset, overlaps};

use super::{Consumer, ConsumerOp, Context};

impl Consumer {
    /// True if [`Consumer::before_removed`] has to be told of the removal of the message.
    pub(crate) fn reckons_with(&self, seq: StreamSeq) -> bool {
        // Delivered, but not durably: it may be owed again.
        let is_uncommitted = self
            .committed
            .as_ref()
            .is_some_and(|c| (c.delivered.stream + 1..=self.state.delivered.stream).contains(&seq));
        self.state.newest.as_ref().is_some_and(|newest| {
            (is_uncommitted && seq <= newest.until)
                || self.backlog.binary_search(&seq).is_ok()
                || newest.passed_over.contains(&seq)
        })
    }

    /// A message on `subject` is about to be removed.
    pub(crate) fn before_removed(&mut self, store: &mut StreamStore, seq: StreamSeq, subject: &[u8]) {
        if !self.reckons_with(seq) {
            return;
        }
        for state in self.states_mut() {
            if let Some(newest) = &mut state.newest {
                newest.before_removed(store, seq, subject);
            }
        }
    }

    /// A wanted message was removed from the stream.
    pub(crate) fn on_removed(&mut self, ctx: &mut Context<'_>, seq: StreamSeq) {
        if seq >= self.next {
            if seq <= self.counted {
                self.num_pending = self.num_pending.saturating_sub(1);
            }
        } else if let Ok(at) = self.backlog.binary_search(&seq) {
            self.backlog.remove(at);
            self.num_pending = self.num_pending.saturating_sub(1);
        } else if self.state.pending.contains_key(&seq) {
            self.drop_pending(ctx, seq, "Unacknowledged message was deleted");
        } else if self.state.ack(seq).is_some() {
            // That it was given up is told already.
            self.record(ConsumerOp::Ack { seq, count: 1 });
        }
    }

    /// Many messages were removed, all of them within `purged`.
    pub(crate) fn on_purged(&mut self, store: &StreamStore, purged: &Filter, wall: Wall) {
        if let Some(next) = self.first_after(store, purged).filter(|next| *next > self.next) {
            self.next = next;
            self.state.move_to(next);
            self.record(ConsumerOp::MoveTo { next });
        }
        if self.give_up_missing(store) {
            self.state.last_acked = Some(wall.0);
        }
        for newest in self.states_mut().filter_map(|state| state.newest.as_mut()) {
            newest.passed_over.retain(|seq| store.contains(*seq));
        }
        self.recount(store);
    }

    /// Awaits nothing any more of messages that do not exist. True if it did.
    pub(crate) fn give_up_missing(&mut self, store: &StreamStore) -> bool {
        let pending = self.state.pending.keys().chain(self.state.exhausted.keys());
        let gone: Vec<StreamSeq> = pending.copied().filter(|seq| !store.contains(*seq)).collect();
        let mut has_given_up = false;
        for seq in gone {
            self.deadline_of.remove(&seq);
            if self.state.ack(seq).is_some() {
                self.record(ConsumerOp::Ack { seq, count: 1 });
                has_given_up = true;
            }
        }
        has_given_up
    }

    /// Where the consumer may go on when messages within `purged` were removed: at what is left within `purged` if it wanted
    /// nothing else, at the start of the stream if it did, as far as the two have to do with each other.
    fn first_after(&self, store: &StreamStore, purged: &Filter) -> Option<StreamSeq> {
        let state = store.state();
        let first = state.first_seq.max(1);
        if purged.is_all() || self.filter.is_all() {
            return Some(first);
        }
        let within = |of: fn(&[u8], &[u8]) -> bool, own: &[u8]| purged.patterns().iter().any(|p| of(own, p));
        let mut own = self.filter.patterns().iter();
        if own.clone().all(|own| within(is_subset, own)) {
            return Some(store.next(first, purged).unwrap_or(state.last_seq + 1));
        }
        own.any(|own| within(overlaps, own)).then_some(first)
    }
}
