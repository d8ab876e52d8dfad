use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::policies::DiscardPolicy;
use linnet_store::{Filter, RECORD_MAX, encode_record};
use linnet_wire::headers;

use super::ack_queue::Ack;
use super::ttl::Ttl;
use super::{Publish, Stream, StreamLimits};
use crate::entry::Entry;

/// Most bytes of a message's header block (jetstream, "Limits and defaults").
const HEADERS_MAX: usize = 65_535;
/// Most bytes of an entry of several messages: what a busy inbox holds must not become one entry that no segment of
/// the log has room for.
const ENTRY_BYTES: usize = 1 << 20;
/// Bytes a record adds to subject and body.
const RECORD_OVERHEAD: usize = 64;

/// What became of a publish.
#[derive(Debug, PartialEq, Eq)]
pub enum Admitted {
    /// It is in the current proposal; the publisher is answered when it is applied.
    Stored,
    /// It was stored before, as this sequence; the publisher is answered now or when that one is applied.
    Duplicate(StreamSeq),
    /// It is refused.
    Rejected(ApiError),
    /// It can only be judged once everything in flight is applied; to be offered again then.
    Wait,
}

/// What the headers of a publish ask for.
#[derive(Default)]
struct Wishes<'a> {
    id: &'a [u8],
    expected_stream: Option<&'a [u8]>,
    expected_last: Option<&'a [u8]>,
    expected_last_of_subject: Option<&'a [u8]>,
    expected_subject: Option<&'a [u8]>,
    expected_last_id: Option<&'a [u8]>,
    rollup: Option<&'a [u8]>,
    ttl: Option<&'a [u8]>,
    source: Option<&'a [u8]>,
    /// A header of a feature that the stream does not have.
    refused: Option<ApiError>,
}

impl<'a> Wishes<'a> {
    fn read(block: &'a [u8]) -> Self {
        let mut wishes = Self::read_all(block);
        for wish in [
            &mut wishes.expected_stream,
            &mut wishes.expected_last,
            &mut wishes.expected_last_of_subject,
            &mut wishes.expected_subject,
            &mut wishes.expected_last_id,
            &mut wishes.rollup,
            &mut wishes.ttl,
            &mut wishes.source,
        ] {
            wish.take_if(|value| value.is_empty());
        }
        wishes
    }

    /// Also the headers without a value, which ask for nothing.
    fn read_all(block: &'a [u8]) -> Self {
        let mut wishes = Self::default();
        for (key, value) in headers::iter(block) {
            if !key.starts_with(b"Nats-") {
                continue;
            }
            let refused = match key {
                b"Nats-Msg-Id" => {
                    if wishes.id.is_empty() {
                        wishes.id = value;
                    }
                    continue;
                }
                b"Nats-Expected-Stream" => {
                    wishes.expected_stream.get_or_insert(value);
                    continue;
                }
                b"Nats-Expected-Last-Sequence" => {
                    wishes.expected_last.get_or_insert(value);
                    continue;
                }
                b"Nats-Expected-Last-Subject-Sequence" => {
                    wishes.expected_last_of_subject.get_or_insert(value);
                    continue;
                }
                b"Nats-Expected-Last-Subject-Sequence-Subject" => {
                    wishes.expected_subject.get_or_insert(value);
                    continue;
                }
                b"Nats-Expected-Last-Msg-Id" => {
                    wishes.expected_last_id.get_or_insert(value);
                    continue;
                }
                b"Nats-Rollup" => {
                    wishes.rollup.get_or_insert(value);
                    continue;
                }
                b"Nats-TTL" => {
                    wishes.ttl.get_or_insert(value);
                    continue;
                }
                b"Nats-Stream-Source" => {
                    wishes.source.get_or_insert(value);
                    continue;
                }
                _ if value.is_empty() => continue,
                b"Nats-Incr" => errors::MESSAGE_INCR_DISABLED,
                b"Nats-Batch-Id" => errors::ATOMIC_PUBLISH_DISABLED,
                b"Nats-Schedule" => errors::MESSAGE_SCHEDULES_DISABLED,
                _ => continue,
            };
            wishes.refused.get_or_insert(refused);
        }
        wishes
    }
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
        let admitted = self.judge(publish, limits, now);
        if publish.reply.is_empty() || self.config.no_ack {
            return admitted;
        }
        match &admitted {
            Admitted::Stored => {
                let ack = Ack { seq: self.head_seq, duplicate: false };
                self.acks.push(self.head_seq, ack, publish.reply);
            }
            Admitted::Duplicate(seq) => {
                let ack = Ack { seq: *seq, duplicate: true };
                if *seq <= self.store.state().last_seq {
                    self.send_ack(publish.reply, ack, out);
                } else {
                    self.acks.push(self.head_seq, ack, publish.reply);
                }
            }
            Admitted::Rejected(error) => self.send_refusal(publish.reply, error, out),
            Admitted::Wait => {}
        }
        admitted
    }

    fn judge(&mut self, publish: &Publish<'_>, limits: &StreamLimits, now: Wall) -> Admitted {
        let body = without_status(publish, &mut self.scratch);
        let (header_len, body) = match body {
            Some(header_len) => (header_len, std::mem::take(&mut self.scratch)),
            None => (publish.header_len, Vec::new()),
        };
        let message = if body.is_empty() { publish.body } else { &body };
        let renamed = self.renaming.rename(publish.subject, self.head_seq, now);
        let subject = renamed.as_deref().unwrap_or(publish.subject);
        let admitted = self.judge_message(subject, header_len, message, limits, now);
        self.renaming.give_back(renamed);
        self.scratch = body;
        admitted
    }

    fn judge_message(
        &mut self,
        subject: &[u8],
        header_len: usize,
        body: &[u8],
        limits: &StreamLimits,
        now: Wall,
    ) -> Admitted {
        let block = body.get(..header_len).unwrap_or_default();
        let wishes = if block.is_empty() { Wishes::default() } else { Wishes::read(block) };
        if let Err(error) = self.check_size(subject, header_len, body, limits) {
            return Admitted::Rejected(error);
        }
        if let Some(error) = &wishes.refused {
            return Admitted::Rejected(error.clone());
        }
        if wishes.expected_stream.is_some_and(|name| name != self.config.name.as_bytes()) {
            return Admitted::Rejected(errors::STREAM_NOT_MATCH);
        }
        let mut longer = None;
        if let Some(ttl) = wishes.ttl {
            if !self.config.allow_msg_ttl {
                return Admitted::Rejected(errors::MESSAGE_TTL_DISABLED);
            }
            let Some(ttl) = Ttl::parse(ttl) else { return Admitted::Rejected(errors::MESSAGE_TTL_INVALID) };
            longer = self.with_longer_life(ttl, block, header_len, body);
        }
        let (header_len, body) = match &longer {
            Some((header_len, body)) => (*header_len, body.as_slice()),
            None => (header_len, body),
        };
        if !wishes.id.is_empty()
            && !self.config.duplicate_window.is_zero()
            && let Some(seq) = self.find_duplicate(wishes.id, now)
        {
            return Admitted::Duplicate(seq);
        }
        if wishes.source.is_some() {
            return Admitted::Rejected(errors::MESSAGE_SOURCE_HDR_NOT_ALLOWED);
        }
        let by_pattern = wishes.expected_subject.is_some_and(|s| !linnet_subject::is_literal(s));
        if by_pattern && !self.in_flight.is_empty() {
            return Admitted::Wait;
        }
        if let Err(error) = self.check_expectations(subject, &wishes) {
            return Admitted::Rejected(error);
        }
        let bytes = self.accounted_size(subject, header_len, body);
        if self.config.discard == DiscardPolicy::New
            && let Err(error) = self.check_room(subject, bytes, wishes.rollup.is_some())
        {
            return Admitted::Rejected(error);
        }
        self.propose_message(subject, header_len, body, wishes.id, bytes, now);
        Admitted::Stored
    }

    fn check_size(
        &self,
        subject: &[u8],
        header_len: usize,
        body: &[u8],
        limits: &StreamLimits,
    ) -> Result<(), ApiError> {
        if self.config.sealed {
            return Err(errors::STREAM_SEALED);
        }
        let size = body.len() as u64;
        if limits.server_left.is_some_and(|left| size > left) {
            return Err(errors::INSUFFICIENT_RESOURCES);
        }
        if limits.account_left.is_some_and(|left| size > left) {
            return Err(errors::ACCOUNT_RESOURCES_EXCEEDED);
        }
        let max = usize::try_from(self.config.max_msg_size).ok().filter(|max| *max > 0);
        if max.is_some_and(|max| body.len() > max) {
            return Err(errors::STREAM_MESSAGE_EXCEEDS_MAXIMUM);
        }
        if header_len > HEADERS_MAX {
            return Err(errors::STREAM_HEADER_EXCEEDS_MAXIMUM);
        }
        if subject.len() > usize::from(u16::MAX) || subject.len() + body.len() + RECORD_OVERHEAD > RECORD_MAX
        {
            return Err(errors::stream_store_failed("message too large"));
        }
        Ok(())
    }

    fn find_duplicate(&mut self, id: &[u8], now: Wall) -> Option<StreamSeq> {
        let window = self.config.duplicate_window.0;
        self.dedupe.forget_before(Wall(now.0.saturating_sub(window)));
        self.dedupe.find(id).or_else(|| self.in_flight.find_id(id))
    }

    fn check_expectations(&self, subject: &[u8], wishes: &Wishes<'_>) -> Result<(), ApiError> {
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
        if let Some(rollup) = wishes.rollup {
            if !self.config.allow_rollup_hdrs || self.config.deny_purge {
                return Err(errors::stream_rollup_failed("rollup not permitted"));
            }
            let known = rollup.eq_ignore_ascii_case(b"sub") || rollup.eq_ignore_ascii_case(b"all");
            if !known {
                let text = format!("rollup value invalid: {:?}", String::from_utf8_lossy(rollup));
                return Err(errors::stream_rollup_failed(text));
            }
        }
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
    fn check_room(&self, subject: &[u8], bytes: u64, is_rollup: bool) -> Result<(), ApiError> {
        let state = self.store.state();
        let limit = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        let per_subject = limit(self.config.max_msgs_per_subject);
        let full_subject = per_subject.is_some_and(|max| {
            let stored = self.store.subject(subject).map_or(0, |s| s.msgs);
            let in_flight = self.in_flight.subject(subject).map_or(0, |(n, _)| n);
            stored + in_flight >= max
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
        if limit(self.config.max_msgs).is_some_and(|max| state.msgs + self.in_flight.msgs >= max) {
            return Err(errors::stream_store_failed("maximum messages exceeded"));
        }
        if limit(self.config.max_bytes).is_some_and(|max| state.bytes + self.in_flight.bytes + bytes > max) {
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
        let bytes = self.accounted_size(subject, 0, payload);
        self.propose_message(subject, 0, payload, b"", bytes, now);
        let bytes = std::mem::take(&mut self.messages);
        self.proposals.push(super::Proposal { bytes, token: Some(token), confirmations: Vec::new() });
    }

    pub(super) fn propose_message(
        &mut self,
        subject: &[u8],
        header_len: usize,
        body: &[u8],
        id: &[u8],
        bytes: u64,
        now: Wall,
    ) {
        self.head_seq += 1;
        // Timestamps never go back within a stream, whatever the clock does.
        self.head_ts = Wall(self.head_ts.0.max(now.0));
        if self.messages.len() + subject.len() + body.len() + RECORD_OVERHEAD > ENTRY_BYTES {
            self.close_messages();
        }
        if self.messages.is_empty() {
            self.messages.push(Entry::MESSAGES_KIND);
        }
        encode_record(
            &mut self.messages,
            self.store.seed(),
            self.head_seq,
            self.head_ts,
            subject,
            header_len,
            body,
        );
        self.in_flight.add(subject, id, self.head_seq, bytes);
    }
}

/// A publisher's header block may start with a status; it is removed before storing. Returns the new header length
/// with the message in `out`, or `None` if nothing has to change.
fn without_status(publish: &Publish<'_>, out: &mut Vec<u8>) -> Option<usize> {
    let block = publish.body.get(..publish.header_len)?;
    if block.is_empty() || headers::status(block).is_empty() {
        return None;
    }
    out.clear();
    headers::retain(out, block, |_| false);
    let header_len = out.len();
    out.extend_from_slice(publish.body.get(publish.header_len..)?);
    Some(header_len)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
