use std::time::Duration;

use linnet_ids::Mono;
use linnet_jsapi::policies::PriorityPolicy;
use linnet_jsapi::requests::NextRequest;
use linnet_jsapi::{Nanos, decode};
use linnet_wire::headers;

use super::pacing::Pause;
use super::{Consumer, Context};
use crate::output::Output;

/// A request for messages that is not served yet.
#[derive(Debug)]
pub struct PullRequest {
    /// Where the messages go.
    pub reply: Vec<u8>,
    /// Messages still wanted; 0 if the request names no number, which asks for one.
    pub batch: u64,
    /// Bytes still wanted, if the request limits them.
    pub max_bytes: Option<u64>,
    /// When it ends unserved.
    pub expires: Option<Mono>,
    /// It ends when nothing is left to deliver.
    pub no_wait: bool,
    /// Interval of heartbeats.
    pub heartbeat: Option<Duration>,
    /// When the next heartbeat is due.
    pub next_heartbeat: Option<Mono>,
    /// It got something.
    pub served: bool,
    pub(super) pause: Pause,
    /// Served only while so many messages are pending or unacknowledged; 0 for always.
    pub(super) min_pending: u64,
    pub(super) min_ack_pending: u64,
    /// Id of the pinned client that it is of, empty for none.
    pub(super) pin: Vec<u8>,
    /// 0 is served first, 9 last.
    pub(super) priority: i64,
}

impl PullRequest {
    fn new(reply: &[u8], wanted: &NextRequest, now: Mono) -> Self {
        let heartbeat = (wanted.heartbeat > Nanos::ZERO).then(|| wanted.heartbeat.to_duration());
        Self {
            reply: reply.to_vec(),
            batch: u64::try_from(wanted.batch).unwrap_or(0),
            max_bytes: u64::try_from(wanted.max_bytes).ok().filter(|n| *n > 0),
            expires: (!wanted.expires.is_zero()).then(|| now + wanted.expires.to_duration()),
            no_wait: wanted.no_wait,
            heartbeat,
            next_heartbeat: heartbeat.map(|h| now + h),
            served: false,
            pause: Pause::default(),
            min_pending: u64::try_from(wanted.min_pending).unwrap_or(0),
            min_ack_pending: u64::try_from(wanted.min_ack_pending).unwrap_or(0),
            pin: wanted.id.clone().into_bytes(),
            priority: wanted.priority,
        }
    }

    /// True if it does not wait for messages that do not exist yet.
    pub(super) fn ends_when_empty(&self) -> bool {
        self.no_wait && (self.expires.is_none() || self.served)
    }
}

/// Sends a status message without payload.
pub(super) fn send_status(ctx: &mut Context<'_>, to: &[u8], status: &str, extra: &[(&str, u64)]) {
    let mut block = Vec::with_capacity(96);
    headers::begin(&mut block, status);
    for (key, value) in extra {
        headers::push(&mut block, key, value.to_string().as_bytes());
    }
    headers::end(&mut block);
    ctx.out.publish(to, b"", b"", block.len(), &block);
}

impl PullRequest {
    /// What is left of the request, for statuses that end it.
    pub(super) fn leftover(&self) -> [(&'static str, u64); 2] {
        [("Nats-Pending-Messages", self.batch), ("Nats-Pending-Bytes", self.max_bytes.unwrap_or(0))]
    }
}

impl Consumer {
    /// Takes a request for messages (jetstream, "Pull consumers") and serves what it can.
    pub(crate) fn on_next_request(&mut self, ctx: &mut Context<'_>, reply: &[u8], body: &[u8]) {
        if reply.is_empty() {
            return;
        }
        if let Some(request) = self.accept_request(ctx, reply, body) {
            self.enqueue(request);
            if self.config.priority_policy == PriorityPolicy::Prioritized {
                // One that came with it may go first.
                self.wants_turn = true;
            } else {
                self.run(ctx);
            }
        }
    }

    /// The request, or `None` with the refusal sent. A request that may not be made keeps an unused consumer no
    /// longer, as in nats-server; one that ends at once because there is nothing does.
    fn accept_request(&mut self, ctx: &mut Context<'_>, reply: &[u8], body: &[u8]) -> Option<PullRequest> {
        if self.is_push() {
            send_status(ctx, reply, "409 Consumer is push based", &[]);
            return None;
        }
        let wanted = match decode::next_request(body) {
            Ok(wanted) => wanted,
            Err(error) => {
                send_status(ctx, reply, &format!("400 Bad Request - {error}"), &[]);
                return None;
            }
        };
        if let Some(refusal) = self.refusal_of(&wanted) {
            send_status(ctx, reply, &refusal, &[]);
            return None;
        }
        let is_json = body.trim_ascii_start().first() == Some(&b'{');
        if let Some(refusal) = self.priority_refusal(&wanted, is_json) {
            send_status(ctx, reply, &format!("400 Bad Request - {refusal}"), &[]);
            return None;
        }
        if self.is_of_another_pin(&wanted.id) {
            send_status(ctx, reply, "423 Nats-Pin-Id mismatch", &[]);
            return None;
        }
        if !wanted.id.is_empty() {
            self.renew_pin(ctx);
        }
        let request = PullRequest::new(reply, &wanted, ctx.now);
        if wanted.expires < Nanos::ZERO {
            self.last_activity = ctx.now;
            send_status(ctx, reply, "408 Request Timeout", &request.leftover());
            return None;
        }
        if wanted.no_wait {
            let available =
                if self.is_paused(ctx) { 0 } else { self.num_pending + self.redeliver.len() as u64 };
            let wanted_before: u64 = self.waiting.iter().map(|r| r.batch).sum();
            if available == 0 && wanted.expires.is_zero() {
                self.last_activity = ctx.now;
                send_status(ctx, reply, "404 No Messages", &[]);
                return None;
            }
            if wanted.expires.is_zero() && !self.waiting.is_empty() && wanted_before >= available {
                send_status(ctx, reply, "408 Requests Pending", &[]);
                return None;
            }
        }
        if !self.make_room(ctx) {
            if wanted.heartbeat.is_zero() {
                send_status(ctx, reply, "409 Exceeded MaxWaiting", &[]);
            }
            return None;
        }
        self.last_activity = ctx.now;
        Some(request)
    }

    /// Why a request is not allowed, if it is not.
    fn refusal_of(&self, wanted: &NextRequest) -> Option<String> {
        let config = &self.config;
        if wanted.heartbeat > Nanos::ZERO && wanted.heartbeat.0.saturating_mul(2) > wanted.expires.0 {
            Some("400 Bad Request - heartbeat value too large".to_owned())
        } else if config.max_batch > 0 && wanted.batch > config.max_batch {
            Some(format!("409 Exceeded MaxRequestBatch of {}", config.max_batch))
        } else if !config.max_expires.is_zero() && wanted.expires > config.max_expires {
            Some(format!("409 Exceeded MaxRequestExpires of {}", config.max_expires))
        } else if config.max_bytes > 0 && wanted.max_bytes > config.max_bytes {
            Some(format!("409 Exceeded MaxRequestMaxBytes of {}", config.max_bytes))
        } else {
            None
        }
    }

    /// True if one more request fits, after dropping those whose requesters are gone.
    fn make_room(&mut self, ctx: &mut Context<'_>) -> bool {
        let max = usize::try_from(self.config.max_waiting).unwrap_or(0).max(1);
        if self.waiting.len() >= max {
            self.waiting.retain(|r| ctx.out.has_interest(&r.reply));
        }
        self.waiting.len() < max
    }

    /// Requests whose requesters are still there.
    pub(crate) fn requests_heard(&self, out: &mut dyn Output) -> u64 {
        self.waiting.iter().filter(|request| out.has_interest(&request.reply)).count() as u64
    }

    /// Ends every request, because the consumer ends.
    pub(crate) fn end_requests(&mut self, ctx: &mut Context<'_>, status: &str, with_leftover: bool) {
        for request in std::mem::take(&mut self.waiting) {
            let leftover = request.leftover();
            send_status(ctx, &request.reply, status, if with_leftover { &leftover } else { &[] });
        }
    }
}
