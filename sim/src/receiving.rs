//! What clients get, held against what they may get.

use linnet_ids::GroupId;
use linnet_jsapi::policies::{AckPolicy, StorageType};
use linnet_jsapi::subjects::AckSubject;
use linnet_wire::headers;

use crate::invariants::deliveries::Delivery;
use crate::invariants::{Check, beats, broken, content, deliveries, fast, pulls, republished};
use crate::world::{FlowAsk, Held, World};

/// A message with a reply subject.
struct Letter<'a> {
    reply: &'a [u8],
    subject: &'a [u8],
    headers: &'a [u8],
    payload: &'a [u8],
}

/// The number of the request that is answered there.
fn pull_number(to: &[u8]) -> Option<u64> {
    std::str::from_utf8(to).ok()?.strip_prefix("_pull.")?.parse().ok()
}

impl World {
    pub(crate) fn sent(
        &mut self,
        group: GroupId,
        to: &[u8],
        shown: &[u8],
        reply: &[u8],
        header_len: usize,
        body: &[u8],
    ) -> Check {
        let text = String::from_utf8_lossy(to).into_owned();
        if let Some(no) = text.strip_prefix("_ack.").and_then(|n| n.parse().ok()) {
            return self.acknowledged(group, no, body);
        }
        if let Some(no) = text.strip_prefix("_conf.").and_then(|n| n.parse().ok()) {
            self.confirmed(no);
            return Ok(());
        }
        if let Some(no) = text.strip_prefix("_read.").and_then(|n| n.parse().ok()) {
            let (headers, payload) = body.split_at(header_len);
            self.totals.reads += u64::from(self.questions.replied(no, headers, payload, &self.facts)?);
            return Ok(());
        }
        if let Some(id) = text.strip_prefix("_fast.").and_then(|rest| rest.split('.').next()) {
            let Some(stream) = self.facts.streams.get_mut(&group) else { return Ok(()) };
            self.totals.fast += 1;
            return fast::is_told_rightly(stream, id, body);
        }
        if text.starts_with("_again.") {
            let Some(stream) = self.facts.streams.get_mut(&group) else { return Ok(()) };
            self.totals.republished += 1;
            let (headers, payload) = body.split_at(header_len);
            return republished::is_next(stream, to, headers, payload);
        }
        if let Some(consumer) = text.strip_prefix("_push.").filter(|_| !reply.starts_with(b"$JS.ACK.")) {
            return self.pushed(group, consumer, reply, body);
        }
        if !reply.is_empty() {
            let (headers, payload) = body.split_at(header_len);
            return self.delivered(group, to, &Letter { reply, subject: shown, headers, payload });
        }
        if let Some(no) = pull_number(to) {
            self.pulls.told(no, headers::status(body));
        }
        Ok(())
    }

    fn acknowledged(&mut self, group: GroupId, no: usize, body: &[u8]) -> Check {
        let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let (Some(stream), Some(publish)) =
            (self.facts.streams.get_mut(&group), self.facts.publishes.get_mut(no))
        else {
            return broken("content", format!("publish {no} is answered and was never made"));
        };
        if std::mem::replace(&mut publish.answered, true) {
            return broken("content", format!("{}: publish {no} is answered twice", stream.name));
        }
        if json.get("error").is_some() {
            self.totals.refused += 1;
            return Ok(());
        }
        let seq = json.get("seq").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if json.get("duplicate").and_then(serde_json::Value::as_bool) == Some(true) {
            self.totals.duplicates += 1;
            let original = stream.stored.get(&seq).copied();
            let id = publish.id.clone();
            let same = original.and_then(|o| self.facts.publishes.get(o)).is_some_and(|o| o.id == id);
            if !same || id.is_none() {
                return broken(
                    "duplicates",
                    format!("{}: publish {no} is no duplicate of {seq}", stream.name),
                );
            }
            return Ok(());
        }
        content::is_acknowledged_once(stream, no, seq)?;
        republished::went_before(stream, seq)?;
        stream.acked.insert(seq, no);
        match stream.model.config.storage {
            StorageType::File => self.totals.acknowledged += 1,
            StorageType::Memory => self.totals.acknowledged_in_memory += 1,
        }
        Ok(())
    }

    fn confirmed(&mut self, no: usize) {
        let Some(ack) = self.facts.acks.get(no).filter(|a| a.is_final) else { return };
        self.totals.confirmed += 1;
        let key = (ack.consumer.clone(), ack.born);
        if let Some(facts) = self.facts.streams.get_mut(&ack.group).and_then(|s| s.consumers.get_mut(&key))
            && facts.epoch == ack.epoch
        {
            facts.confirm(ack.seq, ack.is_all);
        }
    }

    fn delivered(&mut self, group: GroupId, to: &[u8], letter: &Letter<'_>) -> Check {
        let Letter { reply, subject, headers, payload } = *letter;
        let Some(ack) = AckSubject::parse(reply) else {
            return broken("deliveries", "no acknowledgement subject");
        };
        let (now, wall) = (self.facts.now, self.facts.wall);
        let Some(stream) = self.facts.streams.get_mut(&group) else { return Ok(()) };
        let Some(consumer) = stream.model.consumers.get(ack.consumer) else {
            let text = format!("{}: {} delivers and does not exist", stream.name, ack.consumer);
            return broken("deliveries", text);
        };
        let key = (ack.consumer.to_owned(), consumer.born);
        stream.consumers.entry(key.clone()).or_default();
        let delivery = Delivery { ack, reply, subject, headers, payload, now, wall };
        if let Some(facts) = stream.consumers.get(&key).filter(|_| !stream.is_lossy) {
            deliveries::is_right(stream, consumer, facts, &delivery)?;
            if let Some(no) = pull_number(to) {
                pulls::is_due(&self.pulls, no, &consumer.config, facts, &delivery)?;
            }
        }
        if let Some(no) = pull_number(to) {
            let pin = headers::get(headers, "Nats-Pin-Id");
            let may_end = self.questions.is_unpinning(group, ack.consumer);
            self.pulls.got(no, delivery.size(), pin.map(|id| (id, may_end)), now);
        }
        let (seq, attempt) = (ack.stream_seq, ack.delivered);
        if let Some(facts) = stream.consumers.get_mut(&key) {
            facts.got(seq, delivery.ack.consumer_seq, attempt, &consumer.config, now);
        }
        self.totals.delivered += 1;
        self.trace.line(|| format!("delivered {} {seq} as {}", ack.consumer, ack.consumer_seq));
        if consumer.config.ack_policy == AckPolicy::FlowControl {
            return Ok(());
        }
        let (consumer, born) = key;
        self.held.push(Held { group, consumer, born, seq, ack: reply.to_vec() });
        Ok(())
    }

    /// Something that is no message came at the deliver subject of a consumer.
    fn pushed(&mut self, group: GroupId, place: &str, reply: &[u8], block: &[u8]) -> Check {
        let consumer = place.split('.').next_back().unwrap_or_default().to_owned();
        let stalled = headers::get(block, "Nats-Consumer-Stalled").map(<[u8]>::to_vec);
        let asked = if reply.is_empty() { stalled } else { Some(reply.to_vec()) };
        if let Some(subject) = asked {
            self.asked.push(FlowAsk { group, consumer: consumer.clone(), subject });
        }
        let now = self.facts.now;
        let Some(stream) = self.facts.streams.get_mut(&group) else { return Ok(()) };
        let Some(known) = stream.model.consumers.get(&consumer) else {
            return broken("deliveries", format!("{}: {consumer} beats and does not exist", stream.name));
        };
        let key = (consumer, known.born);
        stream.consumers.entry(key.clone()).or_default();
        if let Some(facts) = stream.consumers.get(&key).filter(|_| !stream.is_lossy && reply.is_empty()) {
            beats::is_due(stream, known, facts, block, now)?;
        }
        if let Some(facts) = stream.consumers.get_mut(&key).filter(|_| reply.is_empty()) {
            facts.heard(now);
        }
        self.totals.beats += 1;
        Ok(())
    }
}
