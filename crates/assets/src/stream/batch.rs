//! Messages that are stored together or not at all (jetstream, "Atomic batch publish").
//!
//! The parts of a batch wait in memory until one of them commits it. Then all are judged, each as if those before it
//! were stored, and written as one entry of the log: after a crash there is all of the batch or nothing.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use linnet_ids::{Mono, Wall};
use linnet_jsapi::API_LEVEL;
use linnet_jsapi::errors::{self, ApiError};
use parking_lot::RwLock;

use super::admit::{Admitted, Judged};
use super::counter::Tally;
use super::draft::{Draft, Incoming};
use super::{Ack, Stream, StreamLimits};
use crate::output::{Abandoned, Advisory, Output};

/// Longest id of a batch.
const ID_MAX: usize = 64;
/// Most bytes of a batch: an entry of the log has to hold them.
const BYTES_MAX: usize = 32 << 20;
/// Most bytes that unfinished batches of a stream hold in memory.
const STAGED_MAX: usize = 64 << 20;

/// Bounds of atomic batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchBounds {
    /// Messages of one batch, at most [`BatchBounds::MESSAGES_MAX`].
    pub messages: u64,
    /// Unfinished batches of one stream.
    pub per_stream: usize,
    /// Unfinished batches of the server.
    pub total: usize,
    /// Time after which a batch that nothing is added to is dropped.
    pub timeout: Duration,
}

impl BatchBounds {
    /// More messages than this make no batch, whatever is configured: they take their sequences at once.
    pub const MESSAGES_MAX: u64 = 100_000;
}

impl Default for BatchBounds {
    fn default() -> Self {
        Self { messages: 1000, per_stream: 50, total: 1000, timeout: Duration::from_secs(10) }
    }
}

/// The bounds in force on a server, and how many batches are unfinished there.
#[derive(Debug, Default)]
pub struct BatchLimits {
    bounds: RwLock<BatchBounds>,
    /// Unfinished batches.
    pub(super) open: AtomicUsize,
    /// Unfinished fast batches.
    pub(super) fast_open: AtomicUsize,
}

impl BatchLimits {
    /// With these bounds.
    pub fn new(bounds: BatchBounds) -> Self {
        Self { bounds: RwLock::new(bounds), ..Self::default() }
    }

    /// The bounds in force.
    pub fn bounds(&self) -> BatchBounds {
        *self.bounds.read()
    }

    /// Other bounds hold from now on. What is under way and has more messages ends with its next one; a time that has
    /// begun goes on.
    pub fn set_bounds(&self, bounds: BatchBounds) {
        *self.bounds.write() = bounds;
    }
}

/// The unfinished batches of a stream.
#[derive(Default)]
pub(super) struct Batches {
    open: HashMap<String, Batch>,
    bytes: usize,
}

struct Batch {
    parts: Vec<Part>,
    bytes: usize,
    /// When it is dropped if nothing is added to it; `None` since a part came until the clock is looked at.
    until: Option<Mono>,
    _slot: Slot,
}

struct Part {
    subject: Vec<u8>,
    header_len: usize,
    body: Vec<u8>,
}

impl Part {
    fn of(message: &Incoming<'_>) -> Self {
        let mut draft = message.draft();
        if message.wishes.api_level.is_some() {
            draft.set_header("Nats-Required-Api-Level", None);
        }
        Self {
            subject: message.subject.to_vec(),
            header_len: draft.header_len,
            body: draft.body.into_owned(),
        }
    }

    fn size(&self) -> usize {
        self.subject.len() + self.body.len()
    }
}

/// A place among the unfinished batches of the server.
struct Slot(Arc<BatchLimits>);

impl Slot {
    fn take(limits: &Arc<BatchLimits>) -> Option<Self> {
        let slot = Self(limits.clone());
        (limits.open.fetch_add(1, Ordering::Relaxed) < limits.bounds().total).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Batches {
    fn remove(&mut self, id: &str) -> Option<Batch> {
        let batch = self.open.remove(id)?;
        self.bytes -= batch.bytes;
        Some(batch)
    }

    fn put_back(&mut self, id: &str, batch: Batch) {
        self.bytes += batch.bytes;
        self.open.insert(id.to_owned(), batch);
    }

    /// True if there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// What was added to since the last time is kept for so long from now on.
    pub(super) fn note_time(&mut self, now: Mono, timeout: Duration) {
        for batch in self.open.values_mut() {
            batch.until.get_or_insert(now + timeout);
        }
    }

    /// When the first batch is to be dropped.
    pub(super) fn next_due(&self) -> Option<Mono> {
        self.open.values().filter_map(|batch| batch.until).min()
    }

    /// Drops batches that nothing was added to for long.
    pub(super) fn drop_old(&mut self, now: Mono, out: &mut dyn Output) {
        let is_old = |batch: &Batch| batch.until.is_some_and(|until| until <= now);
        let mut old: Vec<String> =
            self.open.iter().filter(|(_, batch)| is_old(batch)).map(|(id, _)| id.clone()).collect();
        old.sort_unstable();
        for id in old {
            self.remove(&id);
            out.advise(Advisory::BatchAbandoned { batch: id, reason: Abandoned::Timeout });
        }
    }
}

/// What the parts of a batch before the one that is judged will have changed.
#[derive(Default)]
pub(super) struct Earlier {
    pub(super) msgs: u64,
    pub(super) bytes: u64,
    /// Bytes of subjects, headers and payloads.
    pub(super) size: u64,
    subjects: HashMap<Vec<u8>, u64>,
    ids: HashSet<Vec<u8>>,
    totals: HashMap<Vec<u8>, Tally>,
}

impl Earlier {
    /// Messages on a subject.
    pub(super) fn on(&self, subject: &[u8]) -> u64 {
        self.subjects.get(subject).copied().unwrap_or(0)
    }

    pub(super) fn has_id(&self, id: &[u8]) -> bool {
        self.ids.contains(id)
    }

    /// The value of a counter.
    pub(super) fn tally(&self, subject: &[u8]) -> Option<&Tally> {
        self.totals.get(subject)
    }

    fn note(&mut self, message: &Incoming<'_>, draft: &Draft<'_>) {
        self.msgs += 1;
        self.bytes += draft.bytes;
        self.size += draft.body.len() as u64;
        *self.subjects.entry(message.subject.to_vec()).or_default() += 1;
        if !message.wishes.id.is_empty() {
            self.ids.insert(message.wishes.id.to_vec());
        }
        if let Some(tally) = &draft.tally {
            self.totals.insert(message.subject.to_vec(), tally.clone());
        }
    }
}

/// What a part does to its batch.
enum Step {
    Stage,
    /// The batch ends, with this part or before it.
    Commit {
        including: bool,
    },
}

impl Stream {
    /// Takes a part of a batch. It is answered in every case.
    pub(super) fn admit_part(
        &mut self,
        id: &[u8],
        message: &Incoming<'_>,
        reply: &[u8],
        limits: &StreamLimits,
        now: Wall,
        out: &mut dyn Output,
    ) -> Admitted {
        let admitted = match self.place_part(id, message, limits, out) {
            Ok((_, Step::Stage)) => {
                if !reply.is_empty() && !self.config.no_ack {
                    out.publish(reply, b"", b"", 0, b"");
                }
                return Admitted::Staged;
            }
            Ok((id, Step::Commit { including })) => {
                self.commit(&id, including.then_some(message), reply, limits, now)
            }
            Err(error) => Admitted::Rejected(error),
        };
        if let Admitted::Rejected(error) = &admitted
            && !reply.is_empty()
            && !self.config.no_ack
        {
            self.send_refusal(reply, error, out);
        }
        admitted
    }

    /// Finds the batch of a part, or begins it, and adds the part unless it commits the batch.
    fn place_part(
        &mut self,
        id: &[u8],
        message: &Incoming<'_>,
        limits: &StreamLimits,
        out: &mut dyn Output,
    ) -> Result<(String, Step), ApiError> {
        if !self.config.allow_atomic {
            return Err(errors::ATOMIC_PUBLISH_DISABLED);
        }
        let id = std::str::from_utf8(id).ok().filter(|id| id.len() <= ID_MAX);
        let id = id.ok_or(errors::ATOMIC_PUBLISH_INVALID_BATCH_ID)?;
        let seq = message.wishes.batch_seq.and_then(number).ok_or(errors::ATOMIC_PUBLISH_MISSING_SEQ)?;
        let mut abandon = |batches: &mut Batches, reason: Abandoned| {
            batches.remove(id);
            out.advise(Advisory::BatchAbandoned { batch: id.to_owned(), reason });
        };
        if message.wishes.api_level.and_then(number).is_some_and(|level| level > API_LEVEL) {
            abandon(&mut self.batches, Abandoned::Unsupported);
            return Err(errors::REQUIRED_API_LEVEL);
        }
        self.check_size(message, limits, &Earlier::default())?;
        let bounds = self.place.batches.bounds();
        let staged = self.batches.open.get(id).map_or(0, |batch| batch.parts.len() as u64);
        let is_new = staged == 0;
        if is_new && seq != 1 {
            let is_large = seq > bounds.messages;
            return Err(if is_large { too_large(&bounds) } else { errors::ATOMIC_PUBLISH_INCOMPLETE_BATCH });
        }
        let step = match message.wishes.batch_commit {
            None => Step::Stage,
            Some(b"1") => Step::Commit { including: true },
            Some(b"eob") => Step::Commit { including: false },
            Some(_) => {
                self.batches.remove(id);
                return Err(errors::ATOMIC_PUBLISH_INVALID_BATCH_COMMIT);
            }
        };
        let ends_empty = is_new && matches!(step, Step::Commit { including: false });
        if seq != staged + 1 || ends_empty {
            abandon(&mut self.batches, Abandoned::Incomplete);
            return Err(errors::ATOMIC_PUBLISH_INCOMPLETE_BATCH);
        }
        let part = Part::of(message);
        let bytes = part.size() + self.batches.open.get(id).map_or(0, |batch| batch.bytes);
        let is_stored = !matches!(step, Step::Commit { including: false });
        if is_stored && (seq > bounds.messages || bytes > BYTES_MAX) {
            abandon(&mut self.batches, Abandoned::Large);
            return Err(too_large(&bounds));
        }
        if is_new && matches!(step, Step::Commit { .. }) {
            return Ok((id.to_owned(), step));
        }
        if is_new {
            let slot =
                Slot::take(&self.place.batches).filter(|_| self.batches.open.len() < bounds.per_stream);
            let slot = slot.ok_or(errors::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT)?;
            let batch = Batch { parts: Vec::new(), bytes: 0, until: None, _slot: slot };
            self.batches.open.insert(id.to_owned(), batch);
        }
        if matches!(step, Step::Stage) {
            if self.batches.bytes + part.size() > STAGED_MAX {
                abandon(&mut self.batches, Abandoned::Large);
                return Err(errors::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT);
            }
            self.batches.bytes += part.size();
            if let Some(batch) = self.batches.open.get_mut(id) {
                batch.bytes = bytes;
                batch.until = None;
                batch.parts.push(part);
            }
        }
        Ok((id.to_owned(), step))
    }

    /// Judges all parts and proposes them as one entry. One that is refused refuses all.
    fn commit(
        &mut self,
        id: &str,
        last: Option<&Incoming<'_>>,
        reply: &[u8],
        limits: &StreamLimits,
        now: Wall,
    ) -> Admitted {
        let batch = self.batches.remove(id);
        let ends_before = last.is_none();
        let last = last.map(Part::of);
        let staged = batch.as_ref().map(|batch| batch.parts.as_slice()).unwrap_or_default();
        let parts: Vec<Incoming<'_>> = staged
            .iter()
            .chain(&last)
            .map(|part| Incoming::new(&part.subject, part.header_len, &part.body))
            .collect();
        let judged = if parts.len() as u64 > self.room {
            Err(Judged::Wait)
        } else {
            self.judge_all(&parts, limits, now)
        };
        let mut drafts = match judged {
            Ok(drafts) => drafts,
            Err(Judged::Wait) => {
                drop(parts);
                if let Some(batch) = batch {
                    self.batches.put_back(id, batch);
                }
                return Admitted::Wait;
            }
            Err(Judged::Duplicate(_)) => {
                return Admitted::Rejected(errors::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE);
            }
            Err(Judged::Refused(error)) => return Admitted::Rejected(error),
        };
        if let Some((draft, message)) = drafts.last_mut().zip(parts.last()).filter(|_| ends_before) {
            // Readers see where the batch ends. What it may be long was judged as it was sent.
            draft.set_header("Nats-Batch-Commit", Some(b"1"));
            draft.bytes = self.accounted_size(message.subject, draft.header_len, &draft.body);
        }
        self.close_messages();
        for (message, draft) in parts.iter().zip(drafts) {
            self.append_message(message.subject, &draft, message.wishes.id, now);
        }
        self.close_messages();
        if !reply.is_empty() && !self.config.no_ack {
            let ack = Ack { seq: self.head_seq, batch: Some((id, parts.len() as u64)), ..Ack::default() };
            self.acks.push(self.head_seq, ack, reply);
        }
        Admitted::Stored
    }

    fn judge_all<'a>(
        &mut self,
        parts: &[Incoming<'a>],
        limits: &StreamLimits,
        now: Wall,
    ) -> Result<Vec<Draft<'a>>, Judged> {
        let mut earlier = Earlier::default();
        let mut drafts = Vec::with_capacity(parts.len());
        for message in parts {
            if message.wishes.expected_last_id.is_some() {
                let header = "Nats-Expected-Last-Msg-Id";
                return Err(errors::atomic_publish_unsupported_header_batch(header).into());
            }
            let draft = self.judge(message, limits, &earlier, now)?;
            earlier.note(message, &draft);
            drafts.push(draft);
        }
        Ok(drafts)
    }

    /// What a part may not expect because of those before it in its batch: they are not stored yet, so that it is
    /// refused also where they will meet what it expects.
    pub(super) fn check_expected_in_batch(
        &self,
        message: &Incoming<'_>,
        earlier: &Earlier,
    ) -> Result<(), ApiError> {
        let wishes = &message.wishes;
        if let Some(expected) = wishes.expected_last.filter(|_| earlier.msgs > 0) {
            let last = self.head_seq + earlier.msgs;
            let is_met = number(expected) == Some(last);
            let met = errors::STREAM_WRONG_LAST_SEQUENCE_CONSTANT;
            return Err(if is_met { met } else { errors::stream_wrong_last_sequence(last) });
        }
        let followed = wishes.expected_subject.unwrap_or(message.subject);
        if wishes.expected_last_of_subject.is_some() && earlier.on(followed) > 0 {
            return Err(errors::STREAM_WRONG_LAST_SEQUENCE_CONSTANT);
        }
        Ok(())
    }
}

/// What a part may not remove: those before it in its batch.
pub(super) fn check_rollup_in_batch(message: &Incoming<'_>, earlier: &Earlier) -> Result<(), ApiError> {
    let wishes = &message.wishes;
    let is = |scope: &str| wishes.rollup.is_some_and(|r| r.eq_ignore_ascii_case(scope.as_bytes()));
    if (is("sub") || wishes.schedule.is_some()) && earlier.on(message.subject) > 0 {
        return Err(errors::stream_rollup_failed("batch rollup sub invalid"));
    }
    if is("all") && earlier.msgs > 0 {
        return Err(errors::stream_rollup_failed("batch rollup all invalid"));
    }
    Ok(())
}

fn too_large(bounds: &BatchBounds) -> ApiError {
    errors::atomic_publish_too_large_batch(bounds.messages)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
