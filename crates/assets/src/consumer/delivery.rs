use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_jsapi::subjects::AckSubject;
use linnet_store::{Lookup, Record};
use linnet_wire::headers;

use super::pacing::Turn;
use super::pull::send_status;
use super::rate::Rate;
use super::{Consumer, ConsumerOp, Context};
use crate::output::Advisory;

/// The message to deliver next.
#[derive(Clone, Copy)]
struct Pick {
    seq: StreamSeq,
    again: bool,
}

/// Why delivering stopped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// Nobody wants anything.
    NoDemand,
    /// Nothing is left that may be delivered now.
    NoMessage,
    /// The next message is being read from disk.
    Loading,
    /// It is not time for the next message.
    Early,
    /// It is somebody else's turn.
    TurnOver,
}

impl Consumer {
    /// Delivers what is wanted and available, as much as fits into a turn.
    pub(crate) fn run(&mut self, ctx: &mut Context<'_>) {
        if let Some(push) = &mut self.push {
            push.look_for_interest(ctx);
        }
        if let Some(rate) = &mut self.rate {
            rate.end_wait(ctx.now);
        }
        if let Some(replay) = &mut self.replay {
            replay.end_wait(ctx.now);
        }
        let mut turn = Turn::begin();
        let stop = loop {
            if self.loading.is_some() {
                break Stop::Loading;
            }
            if !self.has_demand(ctx) {
                break Stop::NoDemand;
            }
            if turn.is_over() {
                break Stop::TurnOver;
            }
            if self.is_paused(ctx) {
                break Stop::NoMessage;
            }
            let Some(pick) = self.pick(ctx) else { break Stop::NoMessage };
            // Only a look at the store's memory or a job for the disk: never waits.
            match ctx.store.get(pick.seq, true) {
                Lookup::Found(record) => {
                    let stored = record.timestamp;
                    if !self.is_time(pick, stored, ctx.now) {
                        break Stop::Early;
                    }
                    turn.charge(self.deliver(ctx, pick));
                }
                Lookup::Missing => {
                    turn.charge(0);
                    self.skip(ctx, pick);
                }
                Lookup::Repairing => {
                    ctx.store.mark_damaged(pick.seq);
                    self.loading = Some(pick.seq);
                }
                Lookup::Damaged => {
                    ctx.store.mark_damaged(pick.seq);
                    ctx.out.advise(Advisory::Damaged { stream_seq: pick.seq });
                    self.skip(ctx, pick);
                }
                Lookup::Cold(job) => {
                    ctx.out.load(job);
                    self.loading = Some(pick.seq);
                }
            }
        };
        if stop == Stop::NoMessage {
            self.end_satisfied_requests(ctx);
        }
        self.wants_turn = stop == Stop::TurnOver;
        self.ask_for_flow(ctx);
    }

    /// True if somebody would take a message now: for requests, the one at the front.
    fn has_demand(&mut self, ctx: &mut Context<'_>) -> bool {
        if let Some(push) = &mut self.push {
            let waits_until = self.rate.as_ref().and_then(Rate::waits_until);
            return waits_until.is_none() && push.may_deliver(ctx);
        }
        self.bring_to_front(ctx)
    }

    /// True unless the message has to keep its distance from the one before.
    fn is_time(&mut self, pick: Pick, stored: Wall, now: Mono) -> bool {
        self.replay.as_mut().is_none_or(|replay| pick.again || replay.is_time(pick.seq, stored, now))
    }

    /// Redeliveries first, then the backlog, then new messages unless too many are pending.
    fn pick(&mut self, ctx: &Context<'_>) -> Option<Pick> {
        while let Some(seq) = self.redeliver.front().copied() {
            if self.state.pending.contains_key(&seq) {
                return Some(Pick { seq, again: true });
            }
            self.redeliver.pop_front();
        }
        if self.max_ack_pending().is_some_and(|max| self.state.pending.len() >= max) {
            return None;
        }
        if let Some(seq) = self.backlog.front().copied() {
            return Some(Pick { seq, again: false });
        }
        if self.next > ctx.store.state().last_seq {
            return None;
        }
        match ctx.store.next(self.next, &self.filter) {
            Some(seq) => Some(Pick { seq, again: false }),
            None => {
                self.next = ctx.store.state().last_seq + 1;
                self.num_pending = 0;
                None
            }
        }
    }

    /// The message is not there any more or cannot be read.
    fn skip(&mut self, ctx: &mut Context<'_>, pick: Pick) {
        if pick.again {
            self.redeliver.pop_front();
            self.drop_pending(ctx, pick.seq, "Message deleted by stream limits");
        } else {
            self.pass(pick.seq);
        }
    }

    /// Moves the position past a message that was picked.
    fn pass(&mut self, seq: StreamSeq) {
        self.num_pending = self.num_pending.saturating_sub(1);
        if self.backlog.front() == Some(&seq) {
            self.backlog.pop_front();
        } else {
            self.next = seq + 1;
        }
    }

    /// Returns the bytes sent.
    fn deliver(&mut self, ctx: &mut Context<'_>, pick: Pick) -> u64 {
        let before = self.state.pending.get(&pick.seq).map_or(0, |p| p.deliveries);
        if pick.again && self.max_deliver().is_some_and(|max| before >= max) {
            self.redeliver.pop_front();
            self.exhaust(ctx, pick.seq);
            return 0;
        }
        if self.push.is_none() {
            self.pin_front(ctx);
        }
        let Lookup::Found(record) = ctx.store.get(pick.seq, true) else { return 0 };
        let stored = record.timestamp;
        let pending = if pick.again { self.num_pending } else { self.num_pending.saturating_sub(1) };
        self.scratch.clear();
        let ack = AckSubject {
            stream: ctx.stream,
            consumer: &self.name,
            delivered: before + 1,
            stream_seq: pick.seq,
            consumer_seq: self.state.delivered.consumer + 1,
            timestamp: record.timestamp.0,
            pending,
        };
        ack.write(&mut self.scratch);
        let pin = self.pin.as_ref().map(|pin| pin.id.as_slice());
        let (header_len, body) = shape(&record, self.config.headers_only, pin, &mut self.body);
        let size = (record.subject.len() + self.scratch.len() + body.len()) as u64;
        let now = ctx.now;
        let reached = match &mut self.push {
            Some(_) if self.rate.as_mut().is_some_and(|rate| !rate.allows(size, now)) => return 0,
            Some(push) => {
                let reached = ctx.out.publish(&push.subject, record.subject, &self.scratch, header_len, body);
                push.note_sent(reached, size, ctx);
                reached
            }
            None => {
                let Some(request) = self.waiting.front_mut() else { return 0 };
                if request.max_bytes.is_some_and(|left| size > left) {
                    let request = self.waiting.pop_front();
                    if let Some(request) = request {
                        send_status(
                            ctx,
                            &request.reply,
                            "409 Message Size Exceeds MaxBytes",
                            &request.leftover(),
                        );
                    }
                    return 0;
                }
                ctx.out.publish(&request.reply, record.subject, &self.scratch, header_len, body)
            }
        };
        if reached == 0 {
            // Interest vanished between selection and sending: no attempt was made.
            if self.push.is_none() {
                self.waiting.pop_front();
            }
            return 0;
        }
        self.note_delivered(ctx, pick);
        if let Some(rate) = &mut self.rate {
            rate.charge(size, now);
        }
        if let Some(replay) = &mut self.replay {
            replay.note(stored, now);
        }
        if self.push.is_none() {
            self.charge_request(ctx, size);
        }
        size
    }

    fn note_delivered(&mut self, ctx: &Context<'_>, pick: Pick) {
        let policy = self.config.ack_policy;
        let (consumer_seq, deliveries) = self.state.deliver(pick.seq, ctx.wall, policy);
        self.record(ConsumerOp::Deliver { seq: pick.seq, consumer_seq, count: 1, at: ctx.wall });
        self.last_activity = ctx.now;
        if pick.again {
            self.redeliver.pop_front();
        } else {
            self.pass(pick.seq);
        }
        if self.redelivers() {
            let deadline = ctx.now + self.ack_wait(deliveries);
            self.set_deadline(pick.seq, deadline);
        }
    }

    /// Takes a delivered message off the request at the front, which then goes to the end of the line.
    fn charge_request(&mut self, ctx: &mut Context<'_>, size: u64) {
        let Some(mut request) = self.waiting.pop_front() else { return };
        request.batch = request.batch.saturating_sub(1);
        request.served = true;
        request.max_bytes = request.max_bytes.map(|left| left.saturating_sub(size));
        request.next_heartbeat = request.heartbeat.map(|h| ctx.now + h);
        request.pause.look(ctx, &request.reply);
        if request.batch > 0 {
            self.enqueue(request);
        } else if request.max_bytes.is_some_and(|left| left > 0) {
            send_status(ctx, &request.reply, "409 Batch Completed", &request.leftover());
        }
    }

    /// Requests that do not wait end here: nothing is left for them.
    fn end_satisfied_requests(&mut self, ctx: &mut Context<'_>) {
        if !self.waiting.iter().any(|r| r.ends_when_empty()) {
            return;
        }
        let mut kept = std::collections::VecDeque::with_capacity(self.waiting.len());
        for request in std::mem::take(&mut self.waiting) {
            if request.ends_when_empty() {
                send_status(ctx, &request.reply, "404 No Messages", &[]);
            } else {
                kept.push_back(request);
            }
        }
        self.waiting = kept;
    }

    /// The message was delivered as often as allowed.
    pub(super) fn exhaust(&mut self, ctx: &mut Context<'_>, seq: StreamSeq) {
        self.deadline_of.remove(&seq);
        if let Some(pending) = self.state.exhaust(seq) {
            self.record(ConsumerOp::Exhaust { seq });
            ctx.out.advise(Advisory::MaxDeliveries {
                consumer: self.name.clone(),
                stream_seq: seq,
                deliveries: pending.deliveries,
            });
        }
    }
}

/// What is sent of a record: header block length and body.
fn shape<'a>(
    record: &Record<'a>,
    headers_only: bool,
    pin: Option<&[u8]>,
    buffer: &'a mut Vec<u8>,
) -> (usize, &'a [u8]) {
    if !headers_only && pin.is_none() {
        return (record.headers.len(), record.body);
    }
    buffer.clear();
    headers::reopen(buffer, record.headers);
    if let Some(pin) = pin {
        headers::push(buffer, "Nats-Pin-Id", pin);
    }
    if headers_only {
        headers::push(buffer, "Nats-Msg-Size", record.payload.len().to_string().as_bytes());
    }
    headers::end(buffer);
    let header_len = buffer.len();
    if !headers_only {
        buffer.extend_from_slice(record.payload);
    }
    (header_len, buffer)
}
