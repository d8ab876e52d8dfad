//! How consumers learn of new messages and of time.

use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_jsapi::policies::AckPolicy;
use linnet_jsapi::subjects::AckSubject;
use linnet_store::LoadDone;

use super::unsent::Holding;
use super::{Moment, Stream};
use crate::consumer::{Consumer, Context};
use crate::output::{Advisory, Output};

impl Stream {
    /// Counts a stored message in at every consumer that wants it.
    pub(super) fn feed(&mut self, seq: StreamSeq, subject: &[u8]) {
        if self.by_name.is_empty() {
            return;
        }
        self.wants.matches(subject, &mut self.matches);
        for id in self.matches.plain() {
            if let Some(consumer) = self.consumers.get_mut(*id) {
                consumer.on_stored(seq);
                if consumer.is_hungry() && !consumer.is_ready {
                    consumer.is_ready = true;
                    self.ready.push(*id);
                }
            }
        }
    }

    pub(super) fn mark_ready(&mut self, id: usize) {
        if let Some(consumer) = self.consumers.get_mut(id)
            && !consumer.is_ready
        {
            consumer.is_ready = true;
            self.ready.push(id);
        }
    }

    pub(super) fn add_wants(&mut self, id: usize) {
        let Some(consumer) = self.consumers.get(id) else { return };
        if consumer.filter.is_all() {
            self.wants.insert(b">", None, id);
        }
        for pattern in consumer.filter.patterns() {
            self.wants.insert(pattern, None, id);
        }
    }

    pub(super) fn remove_wants(&mut self, id: usize) {
        let Some(consumer) = self.consumers.get(id) else { return };
        if consumer.filter.is_all() {
            self.wants.remove(b">", None, &id);
        }
        for pattern in consumer.filter.patterns() {
            self.wants.remove(pattern, None, &id);
        }
    }

    /// Lets one consumer act, then notes what changed about it. `None` if it is not there or acts no more.
    pub(super) fn with_consumer<R>(
        &mut self,
        id: usize,
        now: Mono,
        wall: Wall,
        out: &mut dyn Output,
        act: impl FnOnce(&mut Consumer, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let consumer = self.consumers.get_mut(id).filter(|consumer| !consumer.is_replaced)?;
        let holds = self.is_replica && consumer.config.ack_policy != AckPolicy::None;
        let mut out = Holding { out, unsent: &mut self.unsent, holds };
        let mut ctx = Context { stream: &self.config.name, store: &mut self.store, out: &mut out, now, wall };
        let result = act(consumer, &mut ctx);
        if consumer.is_dirty() {
            self.dirty_since.get_or_insert(now);
        }
        let wants_turn = std::mem::take(&mut consumer.wants_turn);
        self.touch_timer(id);
        if wants_turn {
            self.mark_ready(id);
        }
        Some(result)
    }

    /// Keeps the timer list in step with what a consumer wants.
    pub(super) fn touch_timer(&mut self, id: usize) {
        let Some(consumer) = self.consumers.get_mut(id) else { return };
        let due = consumer.next_due();
        if due == consumer.timer {
            return;
        }
        if let Some(old) = consumer.timer {
            self.timers.remove(&(old, id));
        }
        if let Some(due) = due {
            self.timers.insert((due, id));
        }
        consumer.timer = due;
    }

    /// Gives every consumer a turn that may have something to deliver. Those that have more keep the stream due.
    pub fn run_ready(&mut self, now: Mono, wall: Wall, out: &mut dyn Output) {
        if self.restoring || self.follows {
            return;
        }
        let mut ready = std::mem::take(&mut self.ready);
        for id in ready.drain(..) {
            self.with_consumer(id, now, wall, out, |consumer, ctx| {
                consumer.is_ready = false;
                consumer.run(ctx);
            });
        }
        if self.ready.is_empty() {
            self.ready = ready;
        }
    }

    pub(super) fn run_consumer_timers(&mut self, now: Mono, wall: Wall, out: &mut dyn Output) {
        let mut unused = Vec::new();
        let mut looked_at = Vec::new();
        while let Some((due, id)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, id));
            if let Some(consumer) = self.consumers.get_mut(id) {
                consumer.timer = None;
                looked_at.push(id);
            }
        }
        for id in looked_at {
            if self.with_consumer(id, now, wall, out, Consumer::on_timer) == Some(true)
                && let Some(consumer) = self.consumers.get(id)
            {
                unused.push(consumer.name.clone());
            }
        }
        for name in unused {
            if self.is_direct(&name) {
                self.apply_detach(&name, Moment { now, wall, live: true }, out);
            } else {
                self.propose_detach(&name, None);
            }
        }
    }

    /// A request for messages of a consumer.
    pub fn on_next_request(
        &mut self,
        consumer: &str,
        reply: &[u8],
        body: &[u8],
        now: Mono,
        wall: Wall,
        out: &mut dyn Output,
    ) {
        if let Some(id) = self.by_name.get(consumer).copied() {
            self.with_consumer(id, now, wall, out, |consumer, ctx| {
                consumer.on_next_request(ctx, reply, body)
            });
        }
    }

    /// An acknowledgement. False if there is no such consumer, or none that listens.
    pub fn on_ack(
        &mut self,
        ack: &AckSubject<'_>,
        payload: &[u8],
        reply: &[u8],
        now: Mono,
        wall: Wall,
        out: &mut dyn Output,
    ) -> bool {
        if self.deleted {
            return false;
        }
        let Some(id) = self.by_name.get(ack.consumer).copied() else { return false };
        if self.consumers.get(id).is_none_or(|consumer| consumer.config.ack_policy == AckPolicy::None) {
            return false;
        }
        self.with_consumer(id, now, wall, out, |consumer, ctx| {
            consumer.on_ack(ctx, ack, payload, reply);
            // Room for more, or something to deliver again.
            if consumer.is_hungry() {
                consumer.run(ctx);
            }
        });
        true
    }

    /// Somebody began to listen to the deliver subject of a push consumer.
    pub fn on_interest(&mut self, consumer: &str, now: Mono, wall: Wall, out: &mut dyn Output) {
        if let Some(id) = self.by_name.get(consumer).copied() {
            self.with_consumer(id, now, wall, out, Consumer::run);
        }
    }

    /// A client answered a flow control request of a push consumer.
    pub fn on_flow_answer(
        &mut self,
        consumer: &str,
        subject: &[u8],
        block: &[u8],
        now: Mono,
        wall: Wall,
        out: &mut dyn Output,
    ) {
        if let Some(id) = self.by_name.get(consumer).copied() {
            self.with_consumer(id, now, wall, out, |consumer, ctx| {
                consumer.on_flow_answer(ctx, subject, block)
            });
        }
    }

    /// A part of a block that was asked for is here, or cannot be read.
    pub fn on_loaded(&mut self, done: LoadDone, now: Mono, wall: Wall, out: &mut dyn Output) {
        let seq = done.seq();
        if self.store.loaded(done).is_err() {
            for seq in self.store.damaged().iter().filter(|seq| !self.store.is_repairing(**seq)) {
                out.advise(Advisory::Damaged { stream_seq: *seq });
            }
        }
        self.resume_readers(seq, now, wall, out);
    }

    /// Whoever waits for a message looks again.
    pub(super) fn resume_readers(&mut self, seq: StreamSeq, now: Mono, wall: Wall, out: &mut dyn Output) {
        let waiting: Vec<usize> =
            self.consumers.iter_mut().filter_map(|(id, c)| c.on_loaded(seq).then_some(id)).collect();
        for id in waiting {
            self.with_consumer(id, now, wall, out, Consumer::run);
        }
        self.resume_gets(seq, out);
    }
}
