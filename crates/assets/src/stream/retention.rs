//! Interest and work queues: messages that go because of what consumers did (jetstream, "Limits, discard, retention").
//!
//! A message of a stream with interest retention goes when no consumer that wants its subject owes anything for it; a
//! message of a work queue goes when the consumer that wants it is done with it. Both happen where the log says so:
//! where an acknowledgement is applied, where a consumer ends, and in sweeps, which look for messages that nobody owes
//! anything for since a consumer ended or changed.

use linnet_ids::StreamSeq;
use linnet_jsapi::policies::RetentionPolicy;
use linnet_store::Filter;

use super::{Moment, Stream};
use crate::consumer::ConsumerOp;
use crate::entry::Entry;
use crate::output::Output;

/// Sequences that one sweep looks at.
const SWEEP_MAX: u64 = 8192;

/// How far the stream has been swept.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Where to go on; `None` if there is nothing to look for.
    next: Option<StreamSeq>,
    in_flight: bool,
}

impl Sweep {
    /// True if a sweep is to be proposed.
    pub(super) fn is_due(&self) -> bool {
        self.next.is_some() && !self.in_flight
    }
}

impl Stream {
    /// True if consumers decide what stays.
    pub(super) fn is_kept_by_consumers(&self) -> bool {
        self.config.retention != RetentionPolicy::Limits
    }

    /// Takes what consumers did, now that it is durable, and removes what nobody needs any more.
    pub(super) fn apply_delta(
        &mut self,
        delta: Vec<(String, Vec<ConsumerOp>)>,
        at: Moment,
        out: &mut dyn Output,
    ) {
        if at.live {
            self.delta_in_flight = false;
            self.send_delivered(out);
            if !self.is_kept_by_consumers() && !self.is_replica {
                return;
            }
        }
        for (name, ops) in delta {
            let Some(id) = self.by_name.get(&name).copied() else { continue };
            let Some(consumer) = self.consumers.get_mut(id) else { continue };
            if !at.live {
                consumer.replay(&ops);
            }
            // What was done with before a consumer began anew goes, although it would owe it again afterwards.
            for ops in ops.chunk_by(|_, next| !matches!(next, ConsumerOp::Reset { .. })) {
                self.commit_delta(id, ops, at, out);
            }
        }
    }

    fn commit_delta(&mut self, id: usize, ops: &[ConsumerOp], at: Moment, out: &mut dyn Output) {
        let Some(consumer) = self.consumers.get_mut(id) else { return };
        let (done, has_left_out_some) = consumer.commit(ops);
        for seq in done {
            self.release_message(seq, at, out);
        }
        if has_left_out_some {
            self.sweep_all();
        }
    }

    /// A consumer is done with the message.
    fn release_message(&mut self, seq: StreamSeq, at: Moment, out: &mut dyn Output) {
        let goes = match self.config.retention {
            RetentionPolicy::Limits => false,
            RetentionPolicy::WorkQueue => true,
            RetentionPolicy::Interest => !self.is_owed(seq),
        };
        if goes {
            self.remove_message(seq, false, at, out);
        }
    }

    /// True if a consumer owes something for a stored message. One that is lost may have been wanted by any of them:
    /// what was still owed stays known as lost.
    fn is_owed(&mut self, seq: StreamSeq) -> bool {
        let Some(subject) = self.store.subject_of(seq) else {
            return self.store.contains(seq) && self.consumers.iter().any(|(_, c)| c.owes(seq));
        };
        self.wants.matches(subject, &mut self.matches);
        self.matches.plain().iter().any(|id| self.consumers.get(*id).is_some_and(|c| c.owes(seq)))
    }

    /// True if a message that arrives is not stored, because nobody is interested in it.
    pub(super) fn is_unwanted(&mut self, seq: StreamSeq, subject: &[u8]) -> bool {
        if self.config.retention != RetentionPolicy::Interest {
            return false;
        }
        self.wants.matches(subject, &mut self.matches);
        !self.matches.plain().iter().any(|id| self.consumers.get(*id).is_some_and(|c| c.owes(seq)))
    }

    /// A consumer is gone. Without any left, nobody is interested in anything.
    pub(super) fn release_consumer(&mut self) {
        if self.config.retention != RetentionPolicy::Interest {
            return;
        }
        if self.by_name.is_empty() && self.store.state().msgs > 0 {
            self.store.clear();
            self.ttls.retain(|_| false);
            self.schedules.retain(|_| false);
        } else {
            self.sweep_all();
        }
    }

    /// The consumer is about to be replaced by another one of its name. What it did until now goes into the log before
    /// that one; what it did later would be counted as that one's, so that it does nothing.
    pub(super) fn prepare_replacement(&mut self, name: &str) {
        self.write_delta();
        if let Some(consumer) = self.by_name.get(name).and_then(|id| self.consumers.get_mut(*id)) {
            consumer.is_replaced = true;
        }
    }

    /// The retention is about to change. What consumers did until now goes into the log before that, so that their
    /// state is what will be durable when it changes.
    pub(super) fn prepare_retention(&mut self) {
        self.write_delta();
        self.is_retention_in_flight = true;
        for (_, consumer) in &mut self.consumers {
            consumer.follow_committed(true);
        }
    }

    /// The retention changed.
    pub(super) fn follow_retention(&mut self) {
        self.is_retention_in_flight = false;
        let follow = self.is_kept_by_consumers() || self.is_replica;
        for (_, consumer) in &mut self.consumers {
            consumer.follow_committed(follow);
        }
        self.sweep_all();
    }

    /// True if a consumer that comes into being follows what is durable.
    pub(super) fn follows_committed(&self) -> bool {
        self.is_kept_by_consumers() || self.is_retention_in_flight || self.is_replica
    }

    /// Looks through the whole stream, step by step, for messages that nobody owes anything for. Those of a work queue
    /// may wait for a consumer that does not exist yet.
    pub(super) fn sweep_all(&mut self) {
        self.sweep.next = (self.config.retention == RetentionPolicy::Interest).then_some(0);
    }

    /// Proposes the next step of a sweep.
    pub(super) fn propose_sweep(&mut self) {
        if !self.sweep.is_due() || self.restoring {
            return;
        }
        self.sweep.next = self.sweep.next.and_then(|from| self.store.next(from, &Filter::all()));
        if let Some(from) = self.sweep.next {
            self.sweep.in_flight = true;
            let to = (from + SWEEP_MAX - 1).min(self.store.state().last_seq);
            self.sweep.next = Some(to + 1);
            self.propose(&Entry::Sweep { from, to }, None);
        }
    }

    pub(super) fn apply_sweep(&mut self, from: StreamSeq, to: StreamSeq, at: Moment, out: &mut dyn Output) {
        if at.live {
            self.sweep.in_flight = false;
        }
        if self.config.retention != RetentionPolicy::Interest {
            return;
        }
        let mut next = from;
        while let Some(seq) = self.store.next(next, &Filter::all()).filter(|seq| *seq <= to) {
            if !self.is_owed(seq) {
                self.remove_message(seq, false, at, out);
            }
            next = seq + 1;
        }
    }
}
