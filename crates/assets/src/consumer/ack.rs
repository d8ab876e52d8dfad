use linnet_ids::StreamSeq;
use linnet_jsapi::policies::AckPolicy;
use linnet_jsapi::subjects::{AckKind, AckSubject};

use super::{Consumer, ConsumerOp, Context};
use crate::output::Advisory;

impl Consumer {
    /// Takes an acknowledgement (jetstream, "Acknowledgement and redelivery"). `reply` asks for confirmation, or
    /// for the next messages.
    pub(crate) fn on_ack(
        &mut self,
        ctx: &mut Context<'_>,
        ack: &AckSubject<'_>,
        payload: &[u8],
        reply: &[u8],
    ) {
        let seq = ack.stream_seq;
        if !self.redelivers() || seq == 0 || seq > self.state.delivered.stream {
            return;
        }
        self.last_activity = ctx.now;
        match AckKind::parse(payload) {
            AckKind::Ack => {
                self.acknowledge(ctx, seq);
                self.confirm(reply);
            }
            AckKind::Next { body } => {
                self.acknowledge(ctx, seq);
                self.on_next_request(ctx, reply, body);
            }
            AckKind::Nak { delay } => {
                self.refuse(ctx, seq, delay);
                self.confirm(reply);
            }
            AckKind::Progress => {
                if let Some(pending) = self.state.pending.get(&seq).filter(|_| !self.is_due(seq)) {
                    let wait = self.ack_wait(pending.deliveries);
                    self.postpone(ctx, seq, wait);
                }
                self.confirm(reply);
            }
            AckKind::Term { reason } => {
                self.terminate(ctx, seq, &String::from_utf8_lossy(reason));
                if self.config.ack_policy == AckPolicy::All {
                    self.acknowledge(ctx, seq);
                }
                self.confirm(reply);
            }
            AckKind::Unknown => self.confirm(reply),
        }
    }

    fn confirm(&mut self, reply: &[u8]) {
        if !reply.is_empty() {
            self.confirmations.push(reply.to_vec());
        }
    }

    fn acknowledge(&mut self, ctx: &mut Context<'_>, seq: StreamSeq) {
        let changed = if self.config.ack_policy == AckPolicy::All {
            self.acknowledge_all(seq)
        } else {
            let deadline = self.deadline_of.remove(&seq);
            let acked = self.state.ack(seq);
            if let Some(pending) = acked {
                self.record(ConsumerOp::Ack { seq, count: 1 });
                self.sample(ctx, seq, pending, deadline);
            }
            acked.is_some()
        };
        if changed {
            self.state.last_acked = Some(ctx.wall.0);
        }
    }

    /// Acknowledges everything up to the message. True if something was pending.
    fn acknowledge_all(&mut self, seq: StreamSeq) -> bool {
        let acked = self.state.ack_all(seq);
        if acked > 0 {
            self.record(ConsumerOp::AckAll { seq });
        }
        acked > 0
    }

    /// The answer to a flow control request says up to where everything is stored.
    pub(super) fn acknowledge_flow(&mut self, ctx: &Context<'_>, seq: StreamSeq) {
        let is_all = self.config.ack_policy == AckPolicy::FlowControl;
        if is_all && self.acknowledge_all(seq.min(self.state.delivered.stream)) {
            self.state.last_acked = Some(ctx.wall.0);
        }
    }

    /// The client wants the message again, at once or after a delay.
    fn refuse(&mut self, ctx: &mut Context<'_>, seq: StreamSeq, delay: Option<std::time::Duration>) {
        let Some(pending) = self.state.pending.get(&seq).copied() else { return };
        ctx.out.advise(Advisory::Naked {
            consumer: self.name.clone(),
            consumer_seq: pending.consumer_seq,
            stream_seq: seq,
            deliveries: pending.deliveries,
        });
        if let Some(delay) = delay {
            if !self.is_due(seq) {
                self.postpone(ctx, seq, delay);
            }
        } else {
            self.deadline_of.remove(&seq);
            if !self.redeliver.contains(&seq) {
                self.redeliver.push_back(seq);
            }
        }
    }

    /// True if a pending message waits to be delivered again: what is not waited for is in that queue.
    fn is_due(&self, seq: StreamSeq) -> bool {
        !self.deadline_of.contains_key(&seq)
    }

    fn terminate(&mut self, ctx: &mut Context<'_>, seq: StreamSeq, reason: &str) {
        self.deadline_of.remove(&seq);
        let Some(pending) = self.state.ack(seq) else { return };
        self.state.last_acked = Some(ctx.wall.0);
        self.record(ConsumerOp::Ack { seq, count: 1 });
        ctx.out.advise(Advisory::Terminated {
            consumer: self.name.clone(),
            consumer_seq: pending.consumer_seq,
            stream_seq: seq,
            deliveries: pending.deliveries,
            reason: reason.to_owned(),
        });
    }

    /// A pending message is not in the stream any more: nobody can acknowledge it.
    pub(super) fn drop_pending(&mut self, ctx: &mut Context<'_>, seq: StreamSeq, reason: &str) {
        self.terminate(ctx, seq, reason);
    }
}
