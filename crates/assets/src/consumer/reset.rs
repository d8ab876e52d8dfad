//! Beginning anew, and not delivering for a while (jetstream, "Pause, reset, unpin, ordered consumers").

use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::policies::DeliverPolicy;
use linnet_store::StreamStore;

use super::{Consumer, ConsumerOp, Context};
use crate::output::Advisory;

impl Consumer {
    /// Where a reset to `seq` leads, 0 for behind the acknowledgement floor.
    pub(crate) fn reset_target(&self, seq: StreamSeq, store: &StreamStore) -> Result<StreamSeq, ApiError> {
        if seq == 0 {
            return Ok(self.state.ack_floor.stream + 1);
        }
        match self.config.deliver_policy {
            DeliverPolicy::All => Ok(seq),
            DeliverPolicy::ByStartSequence if seq >= self.config.opt_start_seq => Ok(seq),
            DeliverPolicy::ByStartSequence => Err(errors::consumer_invalid_reset("below start seq")),
            DeliverPolicy::ByStartTime => {
                let start = self.config.opt_start_time.unwrap_or_default();
                let first = store.first_at_or_after(start);
                if first.is_some_and(|first| seq < first) {
                    return Err(errors::consumer_invalid_reset("below start time"));
                }
                Ok(seq)
            }
            _ => Err(errors::consumer_invalid_reset("not allowed")),
        }
    }

    /// Begins anew at `next`: what was delivered and is awaited is forgotten, requests that wait go on waiting.
    pub(crate) fn reset(&mut self, next: StreamSeq, store: &StreamStore) {
        self.state.reset(next);
        self.record(ConsumerOp::Reset { next });
        self.next = next;
        self.backlog.clear();
        self.redeliver.clear();
        self.deadlines.clear();
        self.deadline_of.clear();
        self.recount(store);
    }

    /// True if nothing is delivered now. Sees to it that delivering goes on in time.
    pub(super) fn is_paused(&mut self, ctx: &Context<'_>) -> bool {
        let until = self.config.pause_until.filter(|until| *until > ctx.wall);
        self.resume_at = until.map(|until| ctx.now + until_then(ctx.wall, until));
        until.is_some()
    }

    /// Tells that a pause is over.
    pub(super) fn resume(&mut self, ctx: &mut Context<'_>) {
        if self.resume_at.is_none_or(|at| ctx.now < at) || self.is_paused(ctx) {
            return;
        }
        ctx.out.advise(Advisory::Paused {
            consumer: self.name.clone(),
            until: self.config.pause_until,
            paused: false,
        });
    }
}

fn until_then(now: Wall, then: Wall) -> std::time::Duration {
    std::time::Duration::from_nanos(u64::try_from(then.0.saturating_sub(now.0)).unwrap_or(0))
}
