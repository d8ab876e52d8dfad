use std::cmp::Reverse;
use std::time::Duration;

use linnet_ids::{Mono, StreamSeq, Wall};

use super::pull::send_status;
use super::push::INTEREST_POLL;
use super::rate::Rate;
use super::replay::Replay;
use super::{Consumer, ConsumerOp, ConsumerState, Context};

/// Outdated entries of the deadline heap tolerated beyond the pending ones.
const STALE_DEADLINES: usize = 1024;

/// How long what became due while the consumer was not led anywhere waits for acknowledgements that are on their way
/// (jetstream, "Timers that clients notice").
const GRACE: Duration = Duration::from_millis(500);

impl Consumer {
    /// Sets for everything that is pending when it is due, for a consumer that begins to work.
    pub(crate) fn await_pending(&mut self, now: Mono, wall: Wall) {
        let pending: Vec<StreamSeq> = self.state.pending.keys().copied().collect();
        self.await_again(&pending, now, wall, now + GRACE);
    }

    /// The time to wait for acknowledgements may have changed: it counts for what is pending as well.
    pub(super) fn reschedule(&mut self, now: Mono, wall: Wall) {
        let waiting: Vec<StreamSeq> = self.deadline_of.keys().copied().collect();
        self.await_again(&waiting, now, wall, now);
    }

    /// Everything that is pending is due at once, in stream order, unless it was delivered as often as allowed.
    pub(super) fn redeliver_all(&mut self) {
        let max = self.max_deliver();
        let may_again = |state: &ConsumerState, seq: &StreamSeq| {
            state.pending.get(seq).is_some_and(|p| max.is_none_or(|max| p.deliveries < max))
        };
        let mut due: Vec<StreamSeq> =
            self.deadline_of.keys().copied().filter(|seq| may_again(&self.state, seq)).collect();
        due.sort_unstable();
        for seq in due {
            self.deadline_of.remove(&seq);
            self.redeliver.push_back(seq);
        }
    }

    /// Sets when these are due, at `earliest` if it was before.
    fn await_again(&mut self, seqs: &[StreamSeq], now: Mono, wall: Wall, earliest: Mono) {
        if !self.redelivers() {
            return;
        }
        for seq in seqs {
            if let Some(pending) = self.state.pending.get(seq) {
                let due = Wall(pending.since).after(self.ack_wait(pending.deliveries));
                self.set_deadline(*seq, earliest.max(now + due.since(wall)));
            }
        }
    }

    /// A message is waited for until then: after a restart as well.
    pub(super) fn postpone(&mut self, ctx: &Context<'_>, seq: StreamSeq, wait: Duration) {
        let Some(deliveries) = self.state.pending.get(&seq).map(|p| p.deliveries) else { return };
        self.set_deadline(seq, ctx.now + wait);
        let since = ctx.wall.after(wait).before(self.ack_wait(deliveries));
        self.state.postpone(seq, deliveries, since);
        self.record(ConsumerOp::Postpone { seq, deliveries, since });
    }

    /// Time from a delivery until the message is due again.
    pub(super) fn ack_wait(&self, deliveries: u64) -> Duration {
        let at = usize::try_from(deliveries.saturating_sub(1)).unwrap_or(usize::MAX);
        let backoff = &self.config.backoff;
        let wait = backoff.get(at).or_else(|| backoff.last()).unwrap_or(&self.config.ack_wait);
        // One more millisecond, so that an acknowledgement on the dot is in time.
        wait.to_duration() + Duration::from_millis(1)
    }

    /// Sets when a pending message is due again.
    pub(super) fn set_deadline(&mut self, seq: StreamSeq, deadline: Mono) {
        self.deadline_of.insert(seq, deadline);
        self.latest_deadline = self.latest_deadline.max(deadline);
        self.deadlines.push(Reverse((deadline, seq)));
        if self.deadlines.len() > 2 * self.deadline_of.len() + STALE_DEADLINES {
            self.deadlines =
                self.deadline_of.iter().map(|(seq, deadline)| Reverse((*deadline, *seq))).collect();
        }
    }

    /// When it wants to be looked at next.
    pub(crate) fn next_due(&mut self) -> Option<Mono> {
        while let Some(Reverse((deadline, seq))) = self.deadlines.peek() {
            if self.deadline_of.get(seq) == Some(deadline) {
                break;
            }
            self.deadlines.pop();
        }
        let pending = self.deadlines.peek().map(|Reverse((deadline, _))| *deadline);
        let requests = self
            .waiting
            .iter()
            .flat_map(|r| [r.expires, r.next_heartbeat, r.pause.until()].into_iter().flatten());
        let push = self.push.as_ref().and_then(|p| {
            if p.is_bound {
                p.next_heartbeat.into_iter().chain(p.pause.until()).min()
            } else {
                p.idle_since.map(|_| self.polled + INTEREST_POLL)
            }
        });
        let inactive = self.inactive_at();
        let is_bound = self.push.as_ref().is_none_or(|push| push.is_bound);
        let speed = [
            self.rate.as_ref().and_then(Rate::waits_until),
            self.replay.as_ref().and_then(Replay::waits_until),
        ];
        let speed = speed.into_iter().flatten().filter(|_| is_bound);
        requests
            .chain(speed)
            .chain(pending)
            .chain(push)
            .chain(inactive)
            .chain(self.resume_at)
            .chain(self.pinned_until())
            .min()
    }

    /// When it counts as unused; `None` if it never does.
    fn inactive_at(&self) -> Option<Mono> {
        if self.config.inactive_threshold.0 <= 0 {
            return None;
        }
        let threshold = self.config.inactive_threshold.to_duration();
        match &self.push {
            Some(push) => push.idle_since.map(|since| since + threshold),
            None => {
                let busy_until =
                    if self.deadline_of.is_empty() { Mono::default() } else { self.latest_deadline };
                // A little later than promised, so that a client that renews on the dot is in time.
                Some(self.last_activity.max(busy_until) + threshold + Duration::from_millis(100))
            }
        }
    }

    /// Does what is due. True if the consumer was unused for too long and must go.
    pub(crate) fn on_timer(&mut self, ctx: &mut Context<'_>) -> bool {
        self.polled = ctx.now;
        self.expire_pending(ctx);
        self.expire_requests(ctx);
        self.resume(ctx);
        self.expire_pin(ctx);
        self.beat(ctx);
        self.run(ctx);
        self.is_inactive(ctx)
    }

    /// Pending messages whose time is up go to the redelivery queue, in stream order, or are given up.
    fn expire_pending(&mut self, ctx: &mut Context<'_>) {
        let mut due = Vec::new();
        while let Some(Reverse((deadline, seq))) = self.deadlines.peek().copied() {
            if deadline > ctx.now {
                break;
            }
            self.deadlines.pop();
            if self.deadline_of.get(&seq) == Some(&deadline) {
                self.deadline_of.remove(&seq);
                due.push(seq);
            }
        }
        due.sort_unstable();
        for seq in due {
            let Some(pending) = self.state.pending.get(&seq) else { continue };
            if self.max_deliver().is_some_and(|max| pending.deliveries >= max) {
                self.exhaust(ctx, seq);
            } else {
                self.redeliver.push_back(seq);
            }
        }
    }

    fn expire_requests(&mut self, ctx: &mut Context<'_>) {
        let now = ctx.now;
        let is_due = |at: Option<Mono>| at.is_some_and(|at| at <= now);
        if !self.waiting.iter().any(|r| is_due(r.expires) || is_due(r.next_heartbeat)) {
            return;
        }
        let last = [
            ("Nats-Last-Consumer", self.state.delivered.consumer),
            ("Nats-Last-Stream", self.state.delivered.stream),
        ];
        let mut kept = std::collections::VecDeque::with_capacity(self.waiting.len());
        for mut request in std::mem::take(&mut self.waiting) {
            if is_due(request.expires) {
                send_status(ctx, &request.reply, "408 Request Timeout", &request.leftover());
                continue;
            }
            if is_due(request.next_heartbeat) {
                send_status(ctx, &request.reply, "100 Idle Heartbeat", &last);
                request.next_heartbeat = request.heartbeat.map(|h| now + h);
            }
            kept.push_back(request);
        }
        self.waiting = kept;
        self.last_activity = now;
    }

    fn is_inactive(&mut self, ctx: &mut Context<'_>) -> bool {
        if self.inactive_at().is_none_or(|at| ctx.now < at) {
            return false;
        }
        // A request that still has its requester keeps the consumer.
        self.waiting.retain(|r| ctx.out.has_interest(&r.reply));
        if self.waiting.is_empty() {
            return true;
        }
        self.last_activity = ctx.now;
        false
    }
}
