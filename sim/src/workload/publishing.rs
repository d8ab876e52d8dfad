//! What clients publish.

use linnet_env::Clock as _;
use linnet_ids::{GroupId, Wall};
use linnet_replication::Host as _;
use linnet_wire::headers;

use super::{SECOND, SUBJECTS};
use crate::facts::{FastFacts, PublishFacts};
use crate::process::PublishIn;
use crate::world::World;

/// Where a message stands in its batch.
pub(super) struct BatchPart<'a> {
    id: &'a str,
    seq: u64,
    is_last: bool,
}

impl BatchPart<'_> {
    fn push(&self, block: &mut Vec<u8>) {
        headers::push(block, "Nats-Batch-Id", self.id.as_bytes());
        headers::push(block, "Nats-Batch-Sequence", self.seq.to_string().as_bytes());
        if self.is_last {
            headers::push(block, "Nats-Batch-Commit", b"1");
        }
    }
}
impl World {
    pub(super) fn publish(&mut self, name: &str, group: GroupId) {
        let Some(key) = self.process.key_of(group) else { return };
        let subject = format!("{name}.{}", self.rng.u64(..SUBJECTS)).into_bytes();
        let mut block = Vec::new();
        let mut id = None;
        headers::begin(&mut block, "");
        let bare = block.len();
        if self.rng.u8(..3) == 0 {
            let text = format!("id{}", self.rng.u32(..30));
            headers::push(&mut block, "Nats-Msg-Id", text.as_bytes());
            id = Some(text);
        }
        let (last, last_of_subject) = self.expected(group, &subject);
        if self.rng.u8(..12) == 0 {
            headers::push(&mut block, "Nats-Expected-Last-Sequence", last.to_string().as_bytes());
        }
        if self.rng.u8(..12) == 0 {
            let text = last_of_subject.to_string();
            headers::push(&mut block, "Nats-Expected-Last-Subject-Sequence", text.as_bytes());
        }
        self.push_expectations(name, group, &mut block);
        match self.rng.u8(..40) {
            0 => headers::push(&mut block, "Nats-Rollup", b"sub"),
            1 => headers::push(&mut block, "Nats-Rollup", b"all"),
            2 => headers::push(&mut block, "Anything", b"else"),
            3 => headers::push(&mut block, "Nats-TTL", b"never"),
            4 | 5 => headers::push(&mut block, "Nats-TTL", self.rng.u32(1..20).to_string().as_bytes()),
            _ => {}
        }
        if self.facts.streams.get(&group).is_some_and(|s| s.model.config.allow_msg_schedules) {
            self.push_schedule(name, &mut block);
        }
        if block.len() == bare {
            block.clear();
        } else {
            headers::end(&mut block);
        }
        let filler = if self.rng.u8(..8) == 0 { self.rng.usize(..1500) } else { self.rng.usize(..200) };
        let no = self.facts.publishes.len();
        let sent = PublishFacts {
            no,
            group,
            subject: subject.clone(),
            headers: block.clone(),
            id,
            filler,
            answered: false,
        };
        let mut body = block;
        let header_len = body.len();
        body.extend_from_slice(&sent.payload());
        self.trace.line(|| {
            let head = String::from_utf8_lossy(&body[..header_len]).replace("\r\n", " ");
            format!("publish {no} {} {head}", String::from_utf8_lossy(&subject))
        });
        self.facts.publishes.push(sent);
        self.totals.published += 1;
        let reply = format!("_ack.{no}").into_bytes();
        self.process.publish(key, PublishIn { subject, reply, header_len, body, origin: None });
    }

    /// The rarer things that a message may be said to follow.
    fn push_expectations(&mut self, name: &str, group: GroupId, block: &mut Vec<u8>) {
        let other = if self.rng.bool() { "*".to_owned() } else { self.rng.u64(..SUBJECTS).to_string() };
        let pattern = format!("{name}.{other}");
        let Some(model) = self.facts.streams.get(&group).map(|s| &s.model) else { return };
        match self.rng.u8(..48) {
            0 => headers::push(block, "Nats-Expected-Stream", b"another"),
            1 => headers::push(block, "Nats-Expected-Stream", name.as_bytes()),
            2 => headers::push(block, "Nats-Expected-Last-Msg-Id", b"id3"),
            3 | 4 => headers::push(block, "Nats-Expected-Last-Msg-Id", &model.last_id),
            5..8 => {
                let key = "Nats-Expected-Last-Subject-Sequence";
                let last = model.last_covered(pattern.as_bytes()) + self.rng.u64(..8).saturating_sub(5);
                if headers::get(block, key).is_none() {
                    headers::push(block, key, last.to_string().as_bytes());
                }
                headers::push(block, "Nats-Expected-Last-Subject-Sequence-Subject", pattern.as_bytes());
            }
            _ => {}
        }
    }

    /// Messages to be stored one by one, whose client is told now and then how far it has come.
    pub(super) fn publish_fast(&mut self, name: &str, group: GroupId) {
        let id = format!("f{}", self.facts.publishes.len());
        let (parts, gaps_ok) = (self.rng.u64(2..9), self.rng.bool());
        let missing = if self.rng.u8(..5) == 0 { self.rng.u64(1..=parts) } else { 0 };
        let flow = self.rng.u64(1..5);
        if let Some(stream) = self.facts.streams.get_mut(&group) {
            stream.fast.insert(id.clone(), FastFacts::default());
        }
        let gap = if gaps_ok { "ok" } else { "fail" };
        for seq in (1..=parts).filter(|seq| *seq != missing) {
            let operation = if seq == parts { 2 } else { u8::from(seq > 1) };
            let mut block = Vec::new();
            let mut message_id = None;
            if self.rng.u8(..6) == 0 {
                let text = format!("id{}", self.rng.u32(..30));
                headers::begin(&mut block, "");
                headers::push(&mut block, "Nats-Msg-Id", text.as_bytes());
                headers::end(&mut block);
                message_id = Some(text);
            }
            let no = self.facts.publishes.len();
            if let Some(batch) = self.facts.streams.get_mut(&group).and_then(|s| s.fast.get_mut(&id)) {
                batch.messages.insert(seq, (no, message_id.is_some()));
            }
            let reply = format!("_fast.{id}.{flow}.{gap}.{seq}.{operation}.$FI").into_bytes();
            let filler = Some(self.rng.usize(..200));
            self.send(name, group, block, message_id, filler, reply);
        }
    }

    /// Sometimes makes the message a schedule, or ends one by it.
    fn push_schedule(&mut self, name: &str, block: &mut Vec<u8>) {
        let mut subject = || format!("{name}.{}", self.rng.u64(..SUBJECTS)).into_bytes();
        let (one, other) = (subject(), subject());
        match self.rng.u8(..8) {
            0 => {
                headers::push(block, "Nats-Scheduler", &one);
                headers::push(block, "Nats-Schedule-Next", b"purge");
            }
            1 | 2 => {
                let pattern = if self.rng.bool() {
                    format!("@every {}s", self.rng.u32(1..10))
                } else {
                    let at = self.clock.wall().0 + self.rng.i64(-5 * SECOND..20 * SECOND);
                    format!("@at {}", Wall(at).rfc3339())
                };
                headers::push(block, "Nats-Schedule", pattern.as_bytes());
                headers::push(block, "Nats-Schedule-Target", &one);
                if self.rng.u8(..3) == 0 {
                    headers::push(block, "Nats-Schedule-Source", &other);
                }
            }
            _ => {}
        }
    }

    /// Messages to be stored together; sometimes one is missing.
    pub(super) fn publish_batch(&mut self, name: &str, group: GroupId, counts: bool) {
        let id = format!("b{}", self.facts.publishes.len());
        let parts = self.rng.u64(1..5);
        let missing = if self.rng.u8(..6) == 0 { self.rng.u64(1..=parts) } else { 0 };
        for seq in (1..=parts).filter(|seq| *seq != missing) {
            let part = BatchPart { id: &id, seq, is_last: seq == parts };
            if counts { self.count(name, group, Some(&part)) } else { self.publish_part(name, group, &part) }
        }
    }

    fn publish_part(&mut self, name: &str, group: GroupId, part: &BatchPart<'_>) {
        let mut block = Vec::new();
        headers::begin(&mut block, "");
        part.push(&mut block);
        let mut id = None;
        if self.rng.u8(..4) == 0 {
            let text = format!("id{}", self.rng.u32(..30));
            headers::push(&mut block, "Nats-Msg-Id", text.as_bytes());
            id = Some(text);
        }
        headers::end(&mut block);
        let filler = Some(self.rng.usize(..200));
        let reply = self.ack_subject(part.is_last);
        self.send(name, group, block, id, filler, reply);
    }

    /// Adds to a counter.
    pub(super) fn count(&mut self, name: &str, group: GroupId, part: Option<&BatchPart<'_>>) {
        let mut block = Vec::new();
        headers::begin(&mut block, "");
        headers::push(&mut block, "Nats-Incr", self.rng.i64(-50..100).to_string().as_bytes());
        headers::push(&mut block, "Sim-No", self.facts.publishes.len().to_string().as_bytes());
        if let Some(part) = part {
            part.push(&mut block);
        }
        headers::end(&mut block);
        let reply = self.ack_subject(part.is_none_or(|part| part.is_last));
        self.send(name, group, block, None, None, reply);
    }

    /// Where the next publish is answered, if it is.
    fn ack_subject(&self, wants_answer: bool) -> Vec<u8> {
        if wants_answer { format!("_ack.{}", self.facts.publishes.len()).into_bytes() } else { Vec::new() }
    }

    /// Publishes on a subject of the stream, without `filler` an empty payload.
    fn send(
        &mut self,
        name: &str,
        group: GroupId,
        headers: Vec<u8>,
        id: Option<String>,
        filler: Option<usize>,
        reply: Vec<u8>,
    ) {
        let Some(key) = self.process.key_of(group) else { return };
        let subject = format!("{name}.{}", self.rng.u64(..SUBJECTS)).into_bytes();
        let no = self.facts.publishes.len();
        let header_len = headers.len();
        let mut body = headers.clone();
        let sent = PublishFacts {
            no,
            group,
            subject: subject.clone(),
            headers,
            id,
            filler: filler.unwrap_or_default(),
            answered: false,
        };
        if filler.is_some() {
            body.extend_from_slice(&sent.payload());
        }
        self.trace.line(|| {
            let head = String::from_utf8_lossy(&sent.headers).replace("\r\n", " ");
            format!("publish {no} {} {head}", String::from_utf8_lossy(&subject))
        });
        self.facts.publishes.push(sent);
        self.totals.published += 1;
        self.process.publish(key, PublishIn { subject, reply, header_len, body, origin: None });
    }

    /// Last sequences as a client may know them: of what is visible, sometimes wrong.
    fn expected(&mut self, group: GroupId, subject: &[u8]) -> (u64, u64) {
        let slack = self.rng.u64(..8).saturating_sub(5);
        let Some(stream) = self.facts.streams.get(&group) else { return (0, 0) };
        (stream.model.last + slack, stream.model.last_of(subject) + slack)
    }
}
