//! Messages that are stored one by one while their client is told only now and then how far it has come (jetstream,
//! "Fast batch publish").
//!
//! What the stream knows of a batch is in memory alone: after a restart it is unknown, and its client begins a new one.

mod reply;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_jsapi::API_LEVEL;
use linnet_jsapi::errors::{self, ApiError};

use super::admit::{Admitted, Judged};
use super::batch::{BatchLimits, Earlier};
use super::draft::Incoming;
use super::{Ack, Stream, StreamLimits};
use crate::output::Output;

use reply::{FastReply, Operation};
pub(super) use reply::{flow_ack, is_fast};

/// Unfinished batches of one stream.
const PER_STREAM: usize = 1000;
/// Unfinished batches of the server.
const TOTAL: usize = 50_000;
/// Messages between two acknowledgements, over all unfinished batches of a stream.
const UNACKNOWLEDGED_MAX: u64 = 500;

/// The unfinished fast batches of a stream.
#[derive(Default)]
pub(super) struct FastBatches {
    open: HashMap<String, FastBatch>,
}

struct FastBatch {
    /// Sequence in the batch of the newest message.
    last: u64,
    /// The same up to which acknowledgements are on their way.
    acknowledged: u64,
    /// Messages between acknowledgements.
    every: u64,
    /// Sequence in the stream of the newest message that is stored.
    stored: StreamSeq,
    /// When it is forgotten if nothing comes; `None` since a message came until the clock is looked at.
    until: Option<Mono>,
    _slot: Slot,
}

/// A place among the unfinished batches of the server.
struct Slot(Arc<BatchLimits>);

impl Slot {
    fn take(limits: &Arc<BatchLimits>) -> Option<Self> {
        let slot = Self(limits.clone());
        (limits.fast_open.fetch_add(1, Ordering::Relaxed) < TOTAL).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fast_open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FastBatches {
    /// True if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// What was added to since the last time is kept for so long from now on.
    pub(super) fn note_time(&mut self, now: Mono, timeout: Duration) {
        for batch in self.open.values_mut() {
            batch.until.get_or_insert(now + timeout);
        }
    }

    /// When the first batch is to be forgotten.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.open.values().filter_map(|batch| batch.until).min()
    }

    /// Forgets batches of which nothing came for long.
    pub(super) fn drop_old(&mut self, now: Mono) {
        self.open.retain(|_, batch| batch.until.is_none_or(|until| until > now));
    }

    /// How many messages a batch may have unacknowledged.
    fn share(&self, flow: u64) -> u64 {
        flow.min(UNACKNOWLEDGED_MAX / self.open.len().max(1) as u64).max(1)
    }

    fn begin(&mut self, reply: &FastReply<'_>, limits: &Arc<BatchLimits>) -> Result<(), ApiError> {
        let slot = Slot::take(limits).filter(|_| self.open.len() < PER_STREAM);
        let slot = slot.ok_or(errors::BATCH_PUBLISH_TOO_MANY_INFLIGHT)?;
        let every = if self.open.is_empty() { self.share(reply.flow) } else { 1 };
        let batch = FastBatch { last: 0, acknowledged: 0, every, stored: 0, until: None, _slot: slot };
        self.open.insert(reply.id.to_owned(), batch);
        Ok(())
    }

    /// How far the batch has come is acknowledged at regular sequences. Which one is due, and how many follow.
    fn advance(&mut self, reply: &FastReply<'_>) -> Option<(u64, u64)> {
        let share = self.share(reply.flow);
        let batch = self.open.get_mut(reply.id)?;
        let passed = (batch.last - batch.acknowledged) / batch.every;
        if passed == 0 {
            return None;
        }
        batch.acknowledged += passed * batch.every;
        batch.every =
            if batch.every > share { (batch.every / 2).max(share) } else { (batch.every * 2).min(share) };
        Some((batch.acknowledged, batch.every))
    }
}

impl Stream {
    /// Takes a message of a fast batch. It is answered as its batch asks.
    pub(super) fn admit_fast(
        &mut self,
        message: &Incoming<'_>,
        reply: &[u8],
        limits: &StreamLimits,
        now: Wall,
        out: &mut dyn Output,
    ) -> Admitted {
        match self.place_fast(message, reply) {
            Ok(fast) => self.take_fast(&fast, message, reply, limits, now, out),
            // Where nothing is acknowledged, a batch that is none is not answered either.
            Err(error) if self.config.no_ack => Admitted::Rejected(error),
            Err(error) => self.refuse_fast(error, reply, out),
        }
    }

    fn refuse_fast(&self, error: ApiError, reply: &[u8], out: &mut dyn Output) -> Admitted {
        self.send_refusal(reply, &error, out);
        Admitted::Rejected(error)
    }

    /// Reads the reply subject and finds out whether the batch may be or begin.
    fn place_fast<'a>(&mut self, message: &Incoming<'_>, reply: &'a [u8]) -> Result<FastReply<'a>, ApiError> {
        if !self.config.allow_batched {
            return Err(errors::BATCH_PUBLISH_DISABLED);
        }
        let fast = FastReply::parse(reply)?;
        let level =
            message.wishes.api_level.and_then(|level| std::str::from_utf8(level).ok()?.parse::<u64>().ok());
        if level.is_some_and(|level| level > API_LEVEL) {
            self.fast.open.remove(fast.id);
            return Err(errors::REQUIRED_API_LEVEL);
        }
        let begins = matches!(fast.operation, Operation::Start | Operation::Commit) && fast.seq == 1;
        if !begins && !self.fast.open.contains_key(fast.id) {
            return Err(errors::BATCH_PUBLISH_UNKNOWN_BATCH_ID);
        }
        Ok(fast)
    }

    fn take_fast(
        &mut self,
        fast: &FastReply<'_>,
        message: &Incoming<'_>,
        reply: &[u8],
        limits: &StreamLimits,
        now: Wall,
        out: &mut dyn Output,
    ) -> Admitted {
        let last = self.fast.open.get(fast.id).map_or(0, |batch| batch.last);
        if fast.operation == Operation::Ping {
            return self.answer_ping(fast, last, reply, out);
        }
        let is_gap = fast.seq != last + 1;
        if is_gap && (!fast.gaps_ok || fast.seq <= last) {
            out.publish(reply, b"", b"", 0, &reply::gap(last + 1, fast.seq));
            self.finish_fast(fast.id, last, reply, out);
            return Admitted::Staged;
        }
        // Judged before anything is changed or said: it may have to wait and be offered again.
        let stripped = message.wishes.api_level.map(|_| {
            let mut draft = message.draft();
            draft.set_header("Nats-Required-Api-Level", None);
            draft
        });
        let stripped = stripped.as_ref().map(|d| Incoming::new(message.subject, d.header_len, &d.body));
        let message = stripped.as_ref().unwrap_or(message);
        let is_stored = fast.operation != Operation::End;
        let judged = is_stored.then(|| self.judge(message, limits, &Earlier::default(), now));
        if matches!(judged, Some(Err(Judged::Wait))) {
            return Admitted::Wait;
        }
        if last == 0
            && let Err(error) = self.begin_fast(fast, reply, out)
        {
            return self.refuse_fast(error, reply, out);
        }
        if is_gap {
            out.publish(reply, b"", b"", 0, &reply::gap(last + 1, fast.seq));
        }
        let stored = match judged {
            None => None,
            Some(Ok(draft)) => {
                self.make_room_in_entry(message.subject.len() + draft.body.len());
                self.append_message(message.subject, &draft, message.wishes.id, now);
                Some(self.head_seq)
            }
            Some(Err(Judged::Duplicate(seq))) if last == 0 && fast.operation == Operation::Commit => {
                self.fast.open.remove(fast.id);
                let ack = Ack { seq, duplicate: true, batch: Some((fast.id, 1)), ..Ack::default() };
                self.answer_when_applied(seq, ack, reply, out);
                return Admitted::Duplicate(seq);
            }
            Some(Err(Judged::Refused(error))) => return self.refuse_in_batch(fast, error, reply, out),
            Some(Err(Judged::Duplicate(_) | Judged::Wait)) => None,
        };
        self.follow_fast(fast, stored, reply, out);
        Admitted::Staged
    }

    /// Begins a batch, and grants its client what may be unacknowledged.
    fn begin_fast(
        &mut self,
        fast: &FastReply<'_>,
        reply: &[u8],
        out: &mut dyn Output,
    ) -> Result<(), ApiError> {
        let limits = self.place.batches.clone();
        self.fast.begin(fast, &limits)?;
        if fast.operation == Operation::Start && !self.config.no_ack {
            let every = self.fast.open.get(fast.id).map_or(1, |batch| batch.every);
            out.publish(reply, b"", b"", 0, &flow_ack(0, every));
        }
        Ok(())
    }

    /// The batch has come to this message: acknowledges it if it is time, or ends the batch.
    fn follow_fast(
        &mut self,
        fast: &FastReply<'_>,
        stored: Option<StreamSeq>,
        reply: &[u8],
        out: &mut dyn Output,
    ) {
        let count = if fast.operation == Operation::End { fast.seq - 1 } else { fast.seq };
        if let Some(batch) = self.fast.open.get_mut(fast.id) {
            batch.until = None;
            batch.last = count;
            batch.stored = stored.unwrap_or(batch.stored);
        }
        if matches!(fast.operation, Operation::Commit | Operation::End) {
            self.finish_fast(fast.id, count, reply, out);
        } else if let Some(flow) = self.fast.advance(fast) {
            self.acks.push(self.head_seq, Ack { flow: Some(flow), ..Ack::default() }, reply);
        }
    }

    /// A message is refused. The batch goes on if it may have gaps, and otherwise ends before the message.
    fn refuse_in_batch(
        &mut self,
        fast: &FastReply<'_>,
        error: ApiError,
        reply: &[u8],
        out: &mut dyn Output,
    ) -> Admitted {
        if fast.seq == 1 && !fast.gaps_ok {
            self.fast.open.remove(fast.id);
            return self.refuse_fast(error, reply, out);
        }
        out.publish(reply, b"", b"", 0, &reply::refusal(fast.seq, &error));
        if !fast.gaps_ok || fast.operation == Operation::Commit {
            self.finish_fast(fast.id, fast.seq - 1, reply, out);
        } else if let Some(batch) = self.fast.open.get_mut(fast.id) {
            batch.until = None;
            batch.last = fast.seq;
        }
        Admitted::Rejected(error)
    }

    /// Tells how far the batch has come. Messages that the client has sent and that are not here are missing.
    fn answer_ping(
        &mut self,
        fast: &FastReply<'_>,
        last: u64,
        reply: &[u8],
        out: &mut dyn Output,
    ) -> Admitted {
        if fast.seq > last {
            out.publish(reply, b"", b"", 0, &reply::gap(last + 1, fast.seq + 1));
            if !fast.gaps_ok {
                self.finish_fast(fast.id, last, reply, out);
                return Admitted::Staged;
            }
        }
        if let Some(batch) = self.fast.open.get_mut(fast.id) {
            batch.until = None;
            batch.last = batch.last.max(fast.seq);
        }
        self.fast.advance(fast);
        let flow = self.fast.open.get(fast.id).map(|batch| (batch.acknowledged, batch.every));
        self.answer_when_applied(self.head_seq, Ack { flow, ..Ack::default() }, reply, out);
        Admitted::Staged
    }

    /// Ends a batch; its client is told when everything in it is applied.
    fn finish_fast(&mut self, id: &str, count: u64, reply: &[u8], out: &mut dyn Output) {
        let Some(batch) = self.fast.open.remove(id) else { return };
        let ack = Ack { seq: batch.stored, batch: Some((id, count)), ..Ack::default() };
        self.answer_when_applied(self.head_seq, ack, reply, out);
    }

    /// Answers once everything up to a sequence is applied, at once if it is.
    fn answer_when_applied(&mut self, seq: StreamSeq, ack: Ack<'_>, reply: &[u8], out: &mut dyn Output) {
        if seq <= self.store.state().last_seq {
            self.send_ack(reply, ack, out);
        } else {
            self.acks.push(seq, ack, reply);
        }
    }
}
