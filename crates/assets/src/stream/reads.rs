//! Reading single messages: `MSG.GET` and direct get.

use std::collections::VecDeque;

use linnet_ids::StreamSeq;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StoredMessage;
use linnet_jsapi::requests::MsgGetRequest;
use linnet_store::{Filter, Lookup, Record};
use linnet_wire::headers;

use super::Stream;
use crate::output::{Advisory, Output, Token};
use crate::stream::CommandOutcome;

/// Most subjects a direct get of many answers for.
const MULTI_MAX: usize = 1024;
/// Reads that may wait for the disk at a time, per stream.
const PARKED_MAX: usize = 4096;

/// A read that waits for the disk.
pub(super) enum ParkedGet {
    Api { seq: StreamSeq, no_hdr: bool, token: Token },
    Direct(Direct),
}

/// A direct get in progress.
pub(super) struct Direct {
    reply: Vec<u8>,
    no_hdr: bool,
    kind: Kind,
}

enum Kind {
    Single(StreamSeq),
    Batch { next: StreamSeq, filter: Filter, left: u64, bytes_left: u64, last: StreamSeq, pending: u64 },
    Multi { seqs: VecDeque<StreamSeq>, left: u64, bytes_left: u64, last: StreamSeq, up_to: StreamSeq },
}

/// The error for a message whose stored bytes are damaged: a code of our own in a range that the reference server
/// does not use.
fn damaged() -> ApiError {
    ApiError { code: 500, err_code: 10900, description: "message damaged".into() }
}

impl Stream {
    /// `MSG.GET`.
    pub(super) fn get(&mut self, request: MsgGetRequest, token: Token, out: &mut dyn Output) {
        if request.is_bad_for_stream_get() {
            out.answer(token, Err(errors::BAD_REQUEST));
            return;
        }
        match self.select(&request) {
            Some(seq) => {
                self.get_one(seq, request.no_hdr, token, out);
            }
            None => out.answer(token, Err(errors::NO_MESSAGE_FOUND)),
        }
    }

    /// The message a request with one selector means.
    fn select(&self, request: &MsgGetRequest) -> Option<StreamSeq> {
        if !request.last_by_subj.is_empty() {
            return self.last_on(request.last_by_subj.as_bytes());
        }
        let from = match request.start_time {
            Some(time) => self.store.first_at_or_after(time)?,
            None => request.seq,
        };
        if !request.next_by_subj.is_empty() {
            return self.store.next(from, &Filter::new([request.next_by_subj.as_bytes()]));
        }
        Some(from)
    }

    fn last_on(&self, pattern: &[u8]) -> Option<StreamSeq> {
        if linnet_subject::is_literal(pattern) {
            return self.store.subject(pattern).map(|state| state.last);
        }
        self.store.last_of(&Filter::new([pattern]))
    }

    fn get_one(&mut self, seq: StreamSeq, no_hdr: bool, token: Token, out: &mut dyn Output) {
        let answer = match self.store.get_one(seq) {
            Lookup::Found(record) => Ok(CommandOutcome::Message(Box::new(stored_message(&record, no_hdr)))),
            Lookup::Missing => Err(errors::NO_MESSAGE_FOUND),
            Lookup::Repairing => {
                self.store.mark_damaged(seq);
                if self.gets.len() < PARKED_MAX {
                    self.gets.push((seq, ParkedGet::Api { seq, no_hdr, token }));
                    return;
                }
                Err(errors::STREAM_TOO_MANY_REQUESTS)
            }
            Lookup::Damaged => {
                self.store.mark_damaged(seq);
                out.advise(Advisory::Damaged { stream_seq: seq });
                Err(damaged())
            }
            Lookup::Cold(job) => {
                if self.gets.len() < PARKED_MAX {
                    out.load(job);
                    self.gets.push((seq, ParkedGet::Api { seq, no_hdr, token }));
                    return;
                }
                Err(errors::STREAM_TOO_MANY_REQUESTS)
            }
        };
        out.answer(token, answer);
    }

    /// `DIRECT.GET`: `subject` is the one in the request's own subject, if it has one.
    pub fn direct_get(
        &mut self,
        subject: Option<&str>,
        body: &[u8],
        reply: &[u8],
        max_bytes: u64,
        out: &mut dyn Output,
    ) {
        if reply.is_empty() {
            return;
        }
        if let Some(subject) = subject
            && body.is_empty()
        {
            let Some(seq) = self.last_on(subject.as_bytes()) else {
                return status(out, reply, "404 Message Not Found", &[]);
            };
            return self.go_on(Direct { reply: reply.to_vec(), no_hdr: false, kind: Kind::Single(seq) }, out);
        }
        let Ok(mut request) = linnet_jsapi::decode_lenient::<MsgGetRequest>(body) else {
            return status(out, reply, "408 Malformed Request", &[]);
        };
        if let Some(subject) = subject {
            if request.is_bad_beside_a_subject() {
                return status(out, reply, "408 Bad Request", &[]);
            }
            request = MsgGetRequest {
                last_by_subj: subject.to_owned(),
                no_hdr: request.no_hdr,
                ..MsgGetRequest::default()
            };
        } else if body.trim_ascii().is_empty() || request.is_empty_for_direct_get() {
            return status(out, reply, "408 Empty Request", &[]);
        }
        if request.is_bad_for_direct_get() {
            return status(out, reply, "408 Bad Request", &[]);
        }
        let bytes_left = match request.max_bytes {
            0 => max_bytes,
            // The message that reaches the bound is still sent, and there is always one.
            wanted => u64::try_from(wanted).unwrap_or(0).max(1),
        };
        let kind = if !request.multi_last.is_empty() {
            match self.select_many(&request, bytes_left) {
                Ok(kind) => kind,
                Err(text) => return status(out, reply, text, &[]),
            }
        } else if request.batch != 0 {
            match self.select_batch(&request, bytes_left) {
                Some(kind) => kind,
                None => return status(out, reply, "404 Message Not Found", &[]),
            }
        } else {
            match self.select(&request) {
                Some(seq) => Kind::Single(seq),
                None => return status(out, reply, "404 Message Not Found", &[]),
            }
        };
        // Several subjects could not be told apart without headers.
        let no_hdr = request.no_hdr && !matches!(kind, Kind::Multi { .. });
        self.go_on(Direct { reply: reply.to_vec(), no_hdr, kind }, out);
    }

    fn select_batch(&self, request: &MsgGetRequest, bytes_left: u64) -> Option<Kind> {
        let filter = match request.next_by_subj.as_str() {
            "" => Filter::all(),
            pattern => Filter::new([pattern.as_bytes()]),
        };
        let from = match request.start_time {
            Some(time) => self.store.first_at_or_after(time).unwrap_or(StreamSeq::MAX),
            None => request.seq,
        };
        let Ok(left) = u64::try_from(request.batch) else {
            // Nothing is asked for, which is answered with how much there is, also if that is nothing.
            let pending = self.store.count(from, &filter);
            return Some(Kind::Batch { next: from, filter, left: 0, bytes_left, last: 0, pending });
        };
        let next = self.store.next(from, &filter)?;
        let pending = self.store.count(next, &filter);
        Some(Kind::Batch { next, filter, left, bytes_left, last: 0, pending })
    }

    fn select_many(&self, request: &MsgGetRequest, bytes_left: u64) -> Result<Kind, &'static str> {
        let filter = Filter::new(request.multi_last.iter().map(String::as_bytes));
        let last = self.store.state().last_seq;
        let up_to = match request.up_to_time {
            Some(time) => self.store.first_at_or_after(time).map_or(last, |seq| seq.saturating_sub(1)),
            None if request.up_to_seq > 0 => request.up_to_seq.min(last),
            None => last,
        };
        let mut subjects: Vec<(Vec<u8>, StreamSeq)> = Vec::new();
        self.store.for_each_subject(&filter, |subject, state| subjects.push((subject.to_vec(), state.last)));
        if subjects.len() > MULTI_MAX {
            return Err("413 Too Many Results");
        }
        let newest = subjects.into_iter().filter_map(|(subject, newest)| {
            if newest <= up_to {
                Some(newest)
            } else {
                self.store.previous(up_to + 1, &Filter::new([subject]))
            }
        });
        let mut seqs: Vec<StreamSeq> = newest.filter(|seq| *seq >= request.seq).collect();
        seqs.sort_unstable();
        if seqs.is_empty() {
            return Err("404 No Results");
        }
        let left = u64::try_from(request.batch).ok().filter(|n| *n > 0).unwrap_or(u64::MAX);
        Ok(Kind::Multi { seqs: seqs.into(), left, bytes_left, last: 0, up_to })
    }

    /// Sends what a direct get still owes until it is done or must wait for the disk.
    fn go_on(&mut self, mut direct: Direct, out: &mut dyn Output) {
        loop {
            let (seq, extra): (StreamSeq, Vec<(&'static str, u64)>) = match &mut direct.kind {
                Kind::Single(seq) => (*seq, Vec::new()),
                Kind::Batch { next, filter, left, bytes_left, last, pending } => {
                    let found =
                        if *left > 0 && *bytes_left > 0 { self.store.next(*next, filter) } else { None };
                    let Some(seq) = found else {
                        let extra = [("Nats-Num-Pending", *pending), ("Nats-Last-Sequence", *last)];
                        status(out, &direct.reply, "204 EOB", &extra);
                        return;
                    };
                    (
                        seq,
                        vec![("Nats-Num-Pending", pending.saturating_sub(1)), ("Nats-Last-Sequence", *last)],
                    )
                }
                Kind::Multi { seqs, left, bytes_left, last, up_to } => {
                    let found = seqs.front().copied().filter(|_| *left > 0 && *bytes_left > 0);
                    let pending = seqs.len() as u64;
                    let Some(seq) = found else {
                        let extra = [
                            ("Nats-Num-Pending", pending),
                            ("Nats-Last-Sequence", *last),
                            ("Nats-UpTo-Sequence", *up_to),
                        ];
                        status(out, &direct.reply, "204 EOB", &extra);
                        return;
                    };
                    (seq, vec![("Nats-Num-Pending", pending - 1), ("Nats-Last-Sequence", *last)])
                }
            };
            let is_single = matches!(direct.kind, Kind::Single(_));
            let found = if is_single { self.store.get_one(seq) } else { self.store.get(seq, true) };
            let size = match found {
                Lookup::Found(record) => {
                    let sending = Sending {
                        to: &direct.reply,
                        stream: &self.config.name,
                        no_hdr: direct.no_hdr,
                        extra: &extra,
                        block: &mut self.scratch,
                    };
                    sending.send(out, &record);
                    (record.subject.len() + record.body.len()) as u64
                }
                Lookup::Missing => {
                    if matches!(direct.kind, Kind::Single(_)) {
                        status(out, &direct.reply, "404 Message Not Found", &[]);
                    }
                    0
                }
                Lookup::Damaged => {
                    self.store.mark_damaged(seq);
                    out.advise(Advisory::Damaged { stream_seq: seq });
                    status(out, &direct.reply, "500 message damaged", &[]);
                    return;
                }
                awaited @ (Lookup::Cold(_) | Lookup::Repairing) => {
                    let job = if let Lookup::Cold(job) = awaited { Some(job) } else { None };
                    if job.is_none() {
                        self.store.mark_damaged(seq);
                    }
                    if self.gets.len() >= PARKED_MAX {
                        status(out, &direct.reply, "429 Too Many Requests", &[]);
                        return;
                    }
                    if let Some(job) = job {
                        out.load(job);
                    }
                    self.gets.push((seq, ParkedGet::Direct(direct)));
                    return;
                }
            };
            match &mut direct.kind {
                Kind::Single(_) => return,
                Kind::Batch { next, left, bytes_left, last, pending, .. } => {
                    *next = seq + 1;
                    *left -= 1;
                    *bytes_left = bytes_left.saturating_sub(size);
                    *pending = pending.saturating_sub(1);
                    *last = seq;
                }
                Kind::Multi { seqs, left, bytes_left, last, .. } => {
                    seqs.pop_front();
                    *left -= 1;
                    *bytes_left = bytes_left.saturating_sub(size);
                    *last = seq;
                }
            }
        }
    }

    /// Tries every read again that waits for the message.
    pub(super) fn resume_gets(&mut self, seq: StreamSeq, out: &mut dyn Output) {
        let waiting = self.gets.extract_if(.., |(awaited, _)| *awaited == seq);
        let resumed: Vec<ParkedGet> = waiting.map(|(_, parked)| parked).collect();
        for parked in resumed {
            match parked {
                ParkedGet::Api { seq, no_hdr, token } => self.get_one(seq, no_hdr, token, out),
                ParkedGet::Direct(direct) => self.go_on(direct, out),
            }
        }
    }
}

fn stored_message(record: &Record<'_>, no_hdr: bool) -> StoredMessage {
    StoredMessage {
        subject: String::from_utf8_lossy(record.subject).into_owned(),
        seq: record.seq,
        hdrs: if no_hdr { Vec::new() } else { record.headers.to_vec() },
        data: record.payload.to_vec(),
        time: record.timestamp,
    }
}

/// A record as an answer; `block` is room for its headers.
struct Sending<'a> {
    to: &'a [u8],
    stream: &'a str,
    no_hdr: bool,
    extra: &'a [(&'static str, u64)],
    block: &'a mut Vec<u8>,
}

impl Sending<'_> {
    fn send(self, out: &mut dyn Output, record: &Record<'_>) {
        if self.no_hdr {
            out.publish(self.to, b"", b"", 0, record.payload);
            return;
        }
        let body = self.block;
        body.clear();
        headers::reopen(body, record.headers);
        headers::push(body, "Nats-Stream", self.stream.as_bytes());
        headers::push(body, "Nats-Subject", record.subject);
        headers::push_number(body, "Nats-Sequence", record.seq);
        body.extend_from_slice(b"Nats-Time-Stamp: ");
        record.timestamp.write_rfc3339(body);
        body.extend_from_slice(b"\r\n");
        for (key, value) in self.extra {
            headers::push_number(body, key, *value);
        }
        headers::end(body);
        let header_len = body.len();
        body.extend_from_slice(record.payload);
        out.publish(self.to, b"", b"", header_len, body);
    }
}

fn status(out: &mut dyn Output, to: &[u8], text: &str, extra: &[(&str, u64)]) {
    let mut block = Vec::with_capacity(96);
    headers::begin(&mut block, text);
    for (key, value) in extra {
        headers::push_number(&mut block, key, *value);
    }
    headers::end(&mut block);
    out.publish(to, b"", b"", block.len(), &block);
}
