//! What a consumer of the origin sends.

use linnet_ids::{Mono, StreamSeq, Wall};
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::limits::FIRST_SEQ_MAX;
use linnet_jsapi::policies::AckPolicy;
use linnet_jsapi::subjects::AckSubject;
use linnet_wire::headers;
use serde::Deserialize;

use super::{FLOW_WAITING_MAX, FlowRequest, Origin, Role, State};
use crate::output::{Advisory, Output};

/// Error of an origin that is not the stream it was (jetstream, "Mirrors and sources").
const IDENTITY_MISMATCH: u16 = 10225;
/// What a server answers that does not know what is asked: its API level is lower, or it does not know a field.
const TOO_OLD: [u16; 2] = [10185, 10025];

/// What is of interest in the answer to a request for a consumer.
#[derive(Deserialize)]
struct Answer {
    error: Option<ApiError>,
    config: Option<ConsumerConfig>,
    #[serde(default)]
    num_pending: u64,
}

/// What to do about something that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Nothing.
    Nothing,
    /// A message to be stored: its sequence and time at the origin.
    Message {
        /// Sequence.
        seq: StreamSeq,
        /// When the origin stored it.
        at: Wall,
    },
    /// Everything up to this sequence was looked at.
    Passed(StreamSeq),
    /// Something is missing.
    Gap,
}

impl Origin {
    /// Looks at what arrived on the present link. [`Origin::took`] once a message is dealt with.
    pub(crate) fn look_at(
        &mut self,
        reply: &[u8],
        block: &[u8],
        stored: (StreamSeq, StreamSeq),
        now: Mono,
        wall: Wall,
        out: &mut dyn Output,
    ) -> Arrival {
        let (State::Asked { delivered, .. } | State::Up { delivered, .. }) = &self.state else {
            return Arrival::Nothing;
        };
        let delivered = *delivered;
        if let State::Up { last, .. } = &mut self.state {
            *last = now;
        }
        self.heard = Some(wall);
        if headers::status(block).starts_with(b"100") {
            return self.on_status(reply, block, delivered, stored, out);
        }
        let Some(ack) = AckSubject::parse(reply) else { return Arrival::Nothing };
        if ack.stream_seq > FIRST_SEQ_MAX {
            return Arrival::Nothing;
        }
        if ack.consumer_seq != delivered + 1 || ack.delivered > 1 {
            return if ack.consumer_seq <= delivered { Arrival::Nothing } else { Arrival::Gap };
        }
        if self.note_lag(ack.pending) {
            out.advise(Advisory::CaughtUp);
        }
        if ack.stream_seq <= self.position {
            // A durable consumer delivers again what it was not told to be stored.
            self.took(ack.stream_seq);
            return Arrival::Nothing;
        }
        Arrival::Message { seq: ack.stream_seq, at: Wall(ack.timestamp) }
    }

    fn on_status(
        &mut self,
        reply: &[u8],
        block: &[u8],
        delivered: u64,
        (head, stored): (StreamSeq, StreamSeq),
        out: &mut dyn Output,
    ) -> Arrival {
        let number = |key| headers::get(block, key).and_then(|v| str::from_utf8(v).ok()?.parse().ok());
        if !reply.is_empty() {
            let position = self.position;
            self.wait_for(FlowRequest { reply: reply.to_vec(), stored: head, delivered, position });
            self.answer_flow(stored, out);
            return Arrival::Nothing;
        }
        if let Some(stalled) = headers::get(block, "Nats-Consumer-Stalled")
            && !self.flow.iter().any(|request| request.reply == stalled)
        {
            // The answer got lost. It counts as an acknowledgement, so that this one, too, waits for what is stored.
            let position = self.position;
            self.wait_for(FlowRequest { reply: stalled.to_vec(), stored: head, delivered, position });
            self.answer_flow(stored, out);
        }
        match number("Nats-Last-Consumer") {
            Some(last) if last > delivered => Arrival::Gap,
            Some(last) if last == delivered => {
                if self.note_lag(0) {
                    out.advise(Advisory::CaughtUp);
                }
                let passed = number("Nats-Last-Stream").filter(|seq| *seq <= FIRST_SEQ_MAX);
                passed.map_or(Arrival::Nothing, Arrival::Passed)
            }
            _ => Arrival::Nothing,
        }
    }

    fn wait_for(&mut self, request: FlowRequest) {
        if self.flow.len() < FLOW_WAITING_MAX {
            self.flow.push_back(request);
        }
    }

    /// The message that was looked at last is dealt with.
    pub(crate) fn took(&mut self, seq: StreamSeq) {
        self.position = self.position.max(seq);
        if let State::Asked { delivered, .. } | State::Up { delivered, .. } = &mut self.state {
            *delivered += 1;
        }
    }

    /// The answer to the request for a consumer.
    pub(crate) fn on_answer(
        &mut self,
        block: &[u8],
        payload: &[u8],
        now: Mono,
        wall: Wall,
        out: &mut dyn Output,
    ) {
        let State::Asked { link, delivered, .. } = &self.state else { return };
        let (link, delivered) = (*link, *delivered);
        if headers::status(block).starts_with(b"503") {
            return self.fail(self.setup_failed("no responders"), now, out);
        }
        let answer: Answer = match serde_json::from_slice(payload) {
            Ok(answer) => answer,
            Err(error) => return self.fail(self.setup_failed(&error.to_string()), now, out),
        };
        if let Some(error) = answer.error {
            if error.err_code == IDENTITY_MISMATCH {
                self.forget_origin();
                self.begin_anew(now, out);
                return;
            }
            if TOO_OLD.contains(&error.err_code) && self.ask_for_less(now, out) {
                return;
            }
            return self.fail(error, now, out);
        }
        let policy = answer.config.map_or(AckPolicy::None, |config| config.ack_policy);
        if self.config.consumer.is_some() && policy != AckPolicy::FlowControl {
            let error = match self.role {
                Role::Mirror => errors::MIRROR_CONSUMER_REQUIRES_ACK_FC,
                Role::Source => errors::SOURCE_CONSUMER_REQUIRES_ACK_FC,
            };
            return self.fail(error, now, out);
        }
        if let Some(identity) = headers::get(block, "Nats-Stream-Identity") {
            let identity = String::from_utf8_lossy(identity).into_owned();
            let is_another = !self.identity.is_empty() && self.identity != identity;
            if is_another && self.role == Role::Source {
                // Who resets a consumer is not refused for naming another stream: what was asked for is none of this one's.
                self.forget_origin();
                self.identity = identity;
                self.begin_anew(now, out);
                return;
            }
            self.identity = identity;
        }
        self.error = None;
        self.failures = 0;
        self.heard = Some(wall);
        if delivered == 0 {
            self.lag = answer.num_pending;
        }
        // The counting of every consumer that is made or reset begins anew.
        self.state = State::Up { link, last: now, delivered };
    }
}

/// Tells the consumer up to where its messages are stored, which is what it takes for an acknowledgement.
pub(super) fn send_flow_answer(to: &[u8], delivered: u64, position: StreamSeq, out: &mut dyn Output) {
    let mut block = Vec::with_capacity(80);
    let mut digits = itoa::Buffer::new();
    headers::begin(&mut block, "");
    headers::push(&mut block, "Nats-Last-Consumer", digits.format(delivered).as_bytes());
    headers::push(&mut block, "Nats-Last-Stream", digits.format(position).as_bytes());
    headers::end(&mut block);
    out.publish(to, b"", b"", block.len(), &block);
}

/// A message of an origin without the headers that were meant for the origin alone: length of its header block, and
/// block and payload. `source` is the value of a header that says where it comes from.
pub(crate) fn clean_headers<'a>(
    header_len: usize,
    body: &'a [u8],
    source: Option<&[u8]>,
    out: &'a mut Vec<u8>,
) -> (usize, &'a [u8]) {
    let (block, payload) = body.split_at_checked(header_len).unwrap_or((b"", body));
    let is_meant_for_origin =
        |key: &[u8]| key.starts_with(b"Nats-Expected-") || key.starts_with(b"Nats-Batch-");
    let must_drop = headers::iter(block).any(|(key, _)| is_meant_for_origin(key));
    if source.is_none() && !must_drop {
        return (header_len, body);
    }
    out.clear();
    let mut kept = Vec::with_capacity(block.len());
    headers::retain(&mut kept, block, |key| {
        is_meant_for_origin(key) || (source.is_some() && key == b"Nats-Stream-Source")
    });
    match source {
        Some(source) => {
            headers::reopen(out, &kept);
            headers::push(out, "Nats-Stream-Source", source);
            headers::end(out);
        }
        None => out.extend_from_slice(&kept),
    }
    let header_len = out.len();
    out.extend_from_slice(payload);
    (header_len, out)
}
