use std::time::Duration;

use linnet_ids::Mono;
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::policies::AckPolicy;
use linnet_wire::headers;

use super::pacing::Pause;
use super::{Consumer, Context};
use crate::output::Output;

/// Flow control window at the start and at most (jetstream, "Delivery and push consumers").
const WINDOW_START: u64 = 2 << 20;
const WINDOW_MAX: u64 = 32 << 20;
/// How often interest in the deliver subject is looked for while there is none, besides being told of it.
pub(super) const INTEREST_POLL: Duration = Duration::from_secs(2);

/// The delivery side of a push consumer.
pub(crate) struct Push {
    pub(super) subject: Vec<u8>,
    /// The queue group that has to listen, empty for anybody.
    group: Vec<u8>,
    heartbeat: Option<Duration>,
    pub(super) next_heartbeat: Option<Mono>,
    flow: Option<Flow>,
    pub(super) pause: Pause,
    /// Somebody listens.
    pub(super) is_bound: bool,
    /// Since when nobody listens.
    pub(super) idle_since: Option<Mono>,
}

#[derive(Default)]
struct Flow {
    window: u64,
    /// Bytes sent and not answered for.
    outstanding: u64,
    /// The request that waits for its answer: its subject and the bytes it asks about.
    asked: Option<(Vec<u8>, u64)>,
    count: u64,
}

/// True if somebody listens for whom messages are meant.
fn is_heard(subject: &[u8], group: &[u8], out: &mut dyn Output) -> bool {
    if group.is_empty() { out.has_interest(subject) } else { out.has_queue_interest(subject, group) }
}

impl Push {
    pub(super) fn of(config: &ConsumerConfig) -> Option<Self> {
        config.is_push().then(|| Self {
            subject: config.deliver_subject.clone().into_bytes(),
            group: config.deliver_group.clone().into_bytes(),
            heartbeat: (!config.idle_heartbeat.is_zero()).then(|| config.idle_heartbeat.to_duration()),
            next_heartbeat: None,
            flow: config.flow_control.then(|| Flow { window: WINDOW_START, ..Flow::default() }),
            pause: Pause::default(),
            is_bound: false,
            idle_since: None,
        })
    }

    /// True if somebody listens and has room.
    pub(super) fn may_deliver(&mut self, ctx: &mut Context<'_>) -> bool {
        self.is_bound
            && self.flow.as_ref().is_none_or(|f| f.outstanding < f.window)
            && self.pause.is_over(ctx, &self.subject)
    }

    pub(super) fn look_for_interest(&mut self, ctx: &mut Context<'_>) {
        self.is_bound = is_heard(&self.subject, &self.group, ctx.out);
        if self.is_bound {
            self.idle_since = None;
            if self.next_heartbeat.is_none() {
                self.next_heartbeat = self.heartbeat.map(|h| ctx.now + h);
            }
        } else {
            self.idle_since.get_or_insert(ctx.now);
            self.next_heartbeat = None;
        }
    }

    pub(super) fn note_sent(&mut self, reached: usize, size: u64, ctx: &mut Context<'_>) {
        let now = ctx.now;
        if reached == 0 {
            self.is_bound = false;
            self.idle_since.get_or_insert(now);
            return;
        }
        self.next_heartbeat = self.heartbeat.map(|h| now + h);
        if let Some(flow) = &mut self.flow {
            flow.outstanding += size + self.subject.len() as u64;
        }
        self.pause.look(ctx, &self.subject);
    }

    /// The subject of the answer that is awaited.
    pub(super) fn stalled_on(&self) -> Option<&[u8]> {
        self.flow.as_ref()?.asked.as_ref().map(|(subject, _)| subject.as_slice())
    }
}

impl Consumer {
    /// True if it is a push consumer to which somebody listens.
    pub(crate) fn is_heard(&self, out: &mut dyn Output) -> bool {
        self.push.as_ref().is_some_and(|push| is_heard(&push.subject, &push.group, out))
    }

    /// Asks the client how far it is, when half of the window is used up, or of what may be unacknowledged.
    pub(super) fn ask_for_flow(&mut self, ctx: &mut Context<'_>) {
        let many = self.acks_by_flow()
            && self.max_ack_pending().is_some_and(|max| self.state.pending.len() >= max.div_ceil(2));
        let flow = self.push.as_ref().and_then(|push| push.flow.as_ref());
        if flow.is_some_and(|flow| many || flow.outstanding >= flow.window / 2) {
            self.request_flow(ctx);
        }
    }

    fn acks_by_flow(&self) -> bool {
        self.config.ack_policy == AckPolicy::FlowControl
    }

    fn request_flow(&mut self, ctx: &mut Context<'_>) {
        let Some(push) = &mut self.push else { return };
        let Some(flow) = push.flow.as_mut().filter(|flow| flow.asked.is_none()) else { return };
        flow.count += 1;
        let subject = format!("$JS.FC.{}.{}.{:04}", ctx.stream, self.name, flow.count % 10_000).into_bytes();
        let mut block = Vec::with_capacity(48);
        headers::begin(&mut block, "100 FlowControl Request");
        headers::end(&mut block);
        if ctx.out.publish(&push.subject, b"", &subject, block.len(), &block) > 0 {
            flow.asked = Some((subject, flow.outstanding));
        }
    }

    /// The client answered a flow control request.
    pub(crate) fn on_flow_answer(&mut self, ctx: &mut Context<'_>, subject: &[u8], block: &[u8]) {
        let Some(flow) = self.push.as_mut().and_then(|p| p.flow.as_mut()) else { return };
        if flow.asked.as_ref().is_none_or(|(asked, _)| asked != subject) {
            return;
        }
        if let Some((_, bytes)) = flow.asked.take() {
            flow.outstanding = flow.outstanding.saturating_sub(bytes);
            flow.window = (flow.window * 2).min(WINDOW_MAX);
        }
        let stored =
            headers::get(block, "Nats-Last-Stream").and_then(|v| str::from_utf8(v).ok()?.parse().ok());
        if let Some(stored) = stored {
            self.acknowledge_flow(ctx, stored);
        }
        self.last_activity = ctx.now;
        self.run(ctx);
    }

    /// Sends the heartbeat of a push consumer that is due.
    pub(super) fn beat(&mut self, ctx: &mut Context<'_>) {
        let consumer = self.state.delivered.consumer;
        // What was looked at and not wanted is passed as well.
        let passed = if self.num_pending == 0 { self.next - 1 } else { 0 };
        let stream = self.state.delivered.stream.max(passed);
        let Some(push) = &mut self.push else { return };
        let Some(interval) = push.heartbeat else { return };
        if push.next_heartbeat.is_none_or(|due| ctx.now < due) {
            return;
        }
        let mut block = Vec::with_capacity(96);
        headers::begin(&mut block, "100 Idle Heartbeat");
        headers::push(&mut block, "Nats-Last-Consumer", consumer.to_string().as_bytes());
        headers::push(&mut block, "Nats-Last-Stream", stream.to_string().as_bytes());
        if let Some(subject) = push.stalled_on() {
            headers::push(&mut block, "Nats-Consumer-Stalled", subject);
        }
        headers::end(&mut block);
        ctx.out.publish(&push.subject, b"", b"", block.len(), &block);
        push.next_heartbeat = Some(ctx.now + interval);
        // What came last may not be enough to ask for otherwise.
        if self.acks_by_flow() && !self.state.pending.is_empty() {
            self.request_flow(ctx);
        }
    }
}
