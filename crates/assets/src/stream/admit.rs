use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::policies::DiscardPolicy;
use linnet_store::{Filter, RECORD_MAX, encode_record};

use super::batch::{Earlier, check_rollup_in_batch};
use super::cleaning;
use super::counter::{self, NoTotal};
use super::draft::{Draft, Incoming};
use super::fast_batch::is_fast;
use super::ttl::Ttl;
use super::wishes::Wishes;
use super::{Ack, Publish, Stream, StreamLimits};
use crate::entry::Entry;

/// Most bytes of a message's header block (jetstream, "Limits and defaults").
const HEADERS_MAX: usize = 65_535;
/// Most bytes of an entry of several messages: what a busy inbox holds must not become one entry that no segment of
/// the log has room for.
const ENTRY_BYTES: usize = 1 << 20;
/// Bytes a record adds to subject and body.
pub(super) const RECORD_OVERHEAD: usize = 64;

/// What became of a publish.
#[derive(Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is in the current proposal; the publisher is answered when it is applied.
    Stored,
    /// It was stored before, as this sequence; the publisher is answered now or when that one is applied.
    Duplicate(StreamSeq),
    /// It is refused.
    Rejected(ApiError),
    /// It waits for the rest of its batch, or is answered as its batch asks.
    Staged,
    /// It can only be judged once everything in flight is applied; to be offered again then.
    Wait,
}

/// Why a message is not stored.
pub(crate) enum Judged {
    /// It was stored before, as this sequence.
    Duplicate(StreamSeq),
    /// It is refused.
    Refused(ApiError),
    /// It can only be judged once everything in flight is applied.
    Wait,
}

impl Stream {
    /// Judges a publish and, if it is accepted, appends it to the current proposal. One order of checks, the
    /// replicated one (jetstream, "Publishing"). The answer is sent by the stream in every case.
    pub fn admit(
        &mut self,
        publish: &Publish<'_>,
        limits: &StreamLimits,
        now: Wall,
        out: &mut dyn crate::Output,
    ) -> Admitted {
        let mut scratch = std::mem::take(&mut self.scratch);
        let renamed = self.renaming.rename(publish.subject, self.head_seq, now);
        let subject = renamed.as_deref().unwrap_or(publish.subject);
        let mut message = Incoming::new(subject, publish.header_len, publish.body);
        if let Some(header_len) = cleaning::clean(&message, &mut scratch) {
            message = Incoming::new(subject, header_len, &scratch);
        }
        let admitted = match message.wishes.batch {
            _ if is_fast(publish.reply) => self.admit_fast(&message, publish.reply, limits, now, out),
            Some(id) => self.admit_part(id, &message, publish.reply, limits, now, out),
            None => self.admit_single(&message, publish.reply, limits, now, out),
        };
        self.renaming.give_back(renamed);
        self.scratch = scratch;
        admitted
    }

    fn admit_single(
        &mut self,
        message: &Incoming<'_>,
        reply: &[u8],
        limits: &StreamLimits,
        now: Wall,
        out: &mut dyn crate::Output,
    ) -> Admitted {
        let is_silent = reply.is_empty() || self.config.no_ack;
        match self.judge(message, limits, &Earlier::default(), now) {
            Ok(draft) => {
                self.make_room_in_entry(message.subject.len() + draft.body.len());
                self.append_message(message.subject, &draft, message.wishes.id, now);
                if !is_silent {
                    let total = draft.tally.map(|tally| tally.total.to_string()).unwrap_or_default();
                    let ack = Ack { seq: self.head_seq, val: &total, ..Ack::default() };
                    self.acks.push(self.head_seq, ack, reply);
                }
                Admitted::Stored
            }
            Err(Judged::Duplicate(seq)) => {
                let ack = Ack { seq, duplicate: true, ..Ack::default() };
                if is_silent {
                } else if seq <= self.store.state().last_seq {
                    self.send_ack(reply, ack, out);
                } else {
                    self.acks.push(self.head_seq, ack, reply);
                }
                Admitted::Duplicate(seq)
            }
            Err(Judged::Refused(error)) => {
                if !is_silent {
                    self.send_refusal(reply, &error, out);
                }
                Admitted::Rejected(error)
            }
            Err(Judged::Wait) => Admitted::Wait,
        }
    }

    /// Judges a message as if those of its batch before it were stored. What is to be stored of it.
    pub(super) fn judge<'a>(
        &mut self,
        message: &Incoming<'a>,
        limits: &StreamLimits,
        earlier: &Earlier,
        now: Wall,
    ) -> Result<Draft<'a>, Judged> {
        let (subject, wishes) = (message.subject, &message.wishes);
        let mut draft = message.draft();
        self.check_size(message, limits, earlier)?;
        let increment = self.check_increment(message)?;
        if wishes.expected_stream.is_some_and(|name| name != self.config.name.as_bytes()) {
            return Err(errors::STREAM_NOT_MATCH.into());
        }
        if let Some(ttl) = wishes.ttl {
            if !self.config.allow_msg_ttl {
                return Err(errors::MESSAGE_TTL_DISABLED.into());
            }
            let ttl = Ttl::parse(ttl).ok_or(errors::MESSAGE_TTL_INVALID)?;
            if let Some(seconds) = self.longer_life(ttl) {
                draft.set_header("Nats-TTL", Some(seconds.to_string().as_bytes()));
            }
        }
        if !wishes.id.is_empty() && earlier.has_id(wishes.id) {
            return Err(errors::ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE.into());
        }
        if !wishes.id.is_empty()
            && !self.config.duplicate_window.is_zero()
            && let Some(seq) = self.find_duplicate(wishes.id, now)
        {
            return Err(Judged::Duplicate(seq));
        }
        if wishes.source.is_some() {
            return Err(errors::MESSAGE_SOURCE_HDR_NOT_ALLOWED.into());
        }
        if self.config.allow_msg_counter {
            let tally = match message.sourced {
                None => self.incremented(subject, increment, earlier)?,
                Some(sourced) => {
                    let (tally, growth) = self.taken_over(message, sourced, earlier)?;
                    draft.set_header("Nats-Incr", Some(growth.to_string().as_bytes()));
                    tally
                }
            };
            if !tally.sources.is_empty() {
                draft.set_header(counter::SOURCES, Some(&tally.sources));
            }
            draft.set_payload(&counter::body(&tally.total));
            draft.tally = Some(tally);
            self.check_message_size(draft.body.len())?;
        }
        let by_pattern = wishes.expected_subject.is_some_and(|s| !linnet_subject::is_literal(s));
        if by_pattern && !self.in_flight.is_empty() {
            return Err(Judged::Wait);
        }
        self.check_expected_in_batch(message, earlier)?;
        self.check_expected(subject, wishes)?;
        self.check_schedule(message, earlier, &mut draft, now)?;
        self.check_rollup(message, earlier)?;
        draft.bytes = self.accounted_size(subject, draft.header_len, &draft.body);
        if self.config.discard == DiscardPolicy::New {
            self.check_room(subject, draft.bytes, wishes.rollup.is_some(), earlier)?;
        }
        Ok(draft)
    }

    pub(super) fn check_size(
        &self,
        message: &Incoming<'_>,
        limits: &StreamLimits,
        earlier: &Earlier,
    ) -> Result<(), ApiError> {
        self.check_left(message, limits, earlier)?;
        self.check_message_size(message.body.len())?;
        if message.header_len > HEADERS_MAX {
            return Err(errors::STREAM_HEADER_EXCEEDS_MAXIMUM);
        }
        let subject = message.subject.len();
        if subject > usize::from(u16::MAX) || subject + message.body.len() + RECORD_OVERHEAD > RECORD_MAX {
            return Err(errors::stream_store_failed("message too large"));
        }
        Ok(())
    }

    /// Whether the stream takes messages, and what is left to it.
    pub(super) fn check_left(
        &self,
        message: &Incoming<'_>,
        limits: &StreamLimits,
        earlier: &Earlier,
    ) -> Result<(), ApiError> {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED);
        }
        let size = message.body.len() as u64 + earlier.size;
        if limits.server_left.is_some_and(|left| size > left) {
            return Err(errors::INSUFFICIENT_RESOURCES);
        }
        if limits.account_left.is_some_and(|left| size > left) {
            return Err(errors::ACCOUNT_RESOURCES_EXCEEDED);
        }
        Ok(())
    }

    /// The stream's own limit on headers and payload.
    fn check_message_size(&self, size: usize) -> Result<(), ApiError> {
        match usize::try_from(self.config.max_msg_size) {
            Ok(max) if max > 0 && size > max => Err(errors::STREAM_MESSAGE_EXCEEDS_MAXIMUM),
            _ => Ok(()),
        }
    }

    fn find_duplicate(&mut self, id: &[u8], now: Wall) -> Option<StreamSeq> {
        self.forget_ids(now);
        self.dedupe.find(id).or_else(|| self.in_flight.find_id(id))
    }

    /// Forgets the ids that the duplicate window does not cover any more.
    pub(super) fn forget_ids(&mut self, now: Wall) {
        let window = self.config.duplicate_window.0;
        self.dedupe.forget_before(Wall(now.0.saturating_sub(window)));
    }

    fn check_expected(&self, subject: &[u8], wishes: &Wishes<'_>) -> Result<(), ApiError> {
        if let Some(expected) = wishes.expected_last
            && number(expected) != Some(self.head_seq)
        {
            return Err(errors::stream_wrong_last_sequence(self.head_seq));
        }
        match (wishes.expected_last_of_subject, wishes.expected_subject) {
            (None, Some(_)) => return Err(errors::STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID),
            (Some(expected), other) => {
                let last = self.last_of_subject(other.unwrap_or(subject));
                if number(expected) != Some(last) {
                    return Err(errors::stream_wrong_last_sequence(last));
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    /// What is judged behind schedules.
    fn check_rollup(&self, message: &Incoming<'_>, earlier: &Earlier) -> Result<(), ApiError> {
        let wishes = &message.wishes;
        if let Some(rollup) = wishes.rollup {
            if !self.may_roll_up() {
                return Err(errors::stream_rollup_failed("rollup not permitted"));
            }
            let known = rollup.eq_ignore_ascii_case(b"sub") || rollup.eq_ignore_ascii_case(b"all");
            if !known {
                let text = format!("rollup value invalid: {:?}", String::from_utf8_lossy(rollup));
                return Err(errors::stream_rollup_failed(text));
            }
        }
        check_rollup_in_batch(message, earlier)?;
        if let Some(expected) = wishes.expected_last_id {
            let last = self.in_flight.last_id.as_deref().unwrap_or(&self.last_id);
            if last != expected {
                return Err(errors::stream_wrong_last_msg_id(String::from_utf8_lossy(last)));
            }
        }
        Ok(())
    }

    /// Sequence of the newest message on the subject. A literal one counts those in flight; with wildcards nothing is
    /// in flight.
    fn last_of_subject(&self, subject: &[u8]) -> StreamSeq {
        if linnet_subject::is_literal(subject) {
            let in_flight = self.in_flight.subject(subject).map(|(_, seq)| seq);
            return in_flight.or_else(|| self.store.subject(subject).map(|s| s.last)).unwrap_or(0);
        }
        self.store.last_of(&Filter::new([subject])).unwrap_or(0)
    }

    /// Discard new: refuses what would push something out.
    pub(super) fn check_room(
        &self,
        subject: &[u8],
        bytes: u64,
        is_rollup: bool,
        earlier: &Earlier,
    ) -> Result<(), ApiError> {
        let state = self.store.state();
        let msgs = state.msgs + self.in_flight.msgs + earlier.msgs;
        let bytes = state.bytes + self.in_flight.bytes + earlier.bytes + bytes;
        let limit = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        let per_subject = limit(self.config.max_msgs_per_subject);
        let full_subject = per_subject.is_some_and(|max| {
            let stored = self.store.subject(subject).map_or(0, |s| s.msgs);
            let in_flight = self.in_flight.subject(subject).map_or(0, |(n, _)| n);
            stored + in_flight + earlier.on(subject) >= max
        });
        if full_subject && self.config.discard_new_per_subject {
            return if is_rollup {
                Ok(())
            } else {
                Err(errors::stream_store_failed("maximum messages per subject exceeded"))
            };
        }
        // Replacing the subject's oldest message makes the room itself.
        if full_subject && !self.config.discard_new_per_subject {
            return Ok(());
        }
        if limit(self.config.max_msgs).is_some_and(|max| msgs >= max) {
            return Err(errors::stream_store_failed("maximum messages exceeded"));
        }
        if limit(self.config.max_bytes).is_some_and(|max| bytes > max) {
            return Err(errors::stream_store_failed("maximum bytes exceeded"));
        }
        Ok(())
    }

    pub(super) fn accounted_size(&self, subject: &[u8], header_len: usize, body: &[u8]) -> u64 {
        let content = (subject.len() + body.len()) as u64;
        match (self.store.is_memory(), header_len > 0) {
            (true, _) => content + 16,
            (false, false) => content + 30,
            (false, true) => content + 34,
        }
    }

    /// Stores a message of the server itself, as an entry of its own.
    pub(super) fn append_own(&mut self, subject: &[u8], payload: &[u8], token: crate::Token, now: Wall) {
        self.close_messages();
        self.append_made(subject, 0, payload, now);
        let bytes = std::mem::take(&mut self.messages);
        self.proposals.push(super::Proposal::new(bytes, Some(token)));
    }

    /// Appends a message that the server made to the current entry.
    pub(super) fn append_made(&mut self, subject: &[u8], header_len: usize, body: &[u8], now: Wall) {
        let mut draft = Incoming::new(subject, header_len, body).draft();
        draft.bytes = self.accounted_size(subject, header_len, body);
        self.append_message(subject, &draft, b"", now);
    }

    /// Ends the current entry if a message of this size would make it too large.
    pub(super) fn make_room_in_entry(&mut self, size: usize) {
        if self.messages.len() + size + RECORD_OVERHEAD > ENTRY_BYTES {
            self.close_messages();
        }
    }

    /// Appends a message to the current entry.
    pub(super) fn append_message(&mut self, subject: &[u8], draft: &Draft<'_>, id: &[u8], now: Wall) {
        self.head_seq += 1;
        // Timestamps never go back within a stream, whatever the clock does.
        self.head_ts = Wall(self.head_ts.0.max(now.0));
        if self.messages.is_empty() {
            self.messages.push(Entry::MESSAGES_KIND);
        }
        encode_record(
            &mut self.messages,
            self.store.seed(),
            self.head_seq,
            self.head_ts,
            subject,
            draft.header_len,
            &draft.body,
        );
        self.in_flight.add(subject, id, self.head_seq, draft.bytes);
        if self.config.allow_msg_schedules {
            self.schedules.departed(draft.headers());
        }
        if let Some(tally) = &draft.tally {
            self.totals.set(subject, self.head_seq, tally.clone());
        }
    }
}

impl From<ApiError> for Judged {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<NoTotal> for Judged {
    fn from(reason: NoTotal) -> Self {
        match reason {
            NoTotal::Refused(error) => Self::Refused(error),
            NoTotal::Unknown => Self::Wait,
        }
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
