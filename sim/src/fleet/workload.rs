//! What clients do, and what they are told.

use linnet_assets::{Command, ConsumerCommand};
use linnet_ids::GroupId;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, RetentionPolicy, StorageType};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::subjects::AckSubject;
use linnet_jsapi::{ConsumerConfig, Nanos, StreamConfig};

use super::api::{Api, AsLed};
use super::opening::peer;
use super::server::{Call, Life, Publication};
use super::world::World;
use super::{FleetEvent, FleetMutation};
use crate::field::ToClient;

/// The only consumer of each stream.
const CONSUMER: &str = "d";
/// Names of streams.
const NAMES: [&str; 3] = ["S0", "S1", "S2"];
/// Deliveries that clients may still acknowledge.
const DELIVERIES_MAX: usize = 30;
/// Messages of a batch.
const BATCH: u64 = 3;
/// The limit on messages that some streams have.
const LIMIT: i64 = 120;

pub(super) fn subject(stream: &str, number: u64) -> String {
    format!("{}.{}", stream.to_lowercase(), number % 7)
}

pub(super) fn payload(number: (u64, u64)) -> Vec<u8> {
    let len = usize::try_from(number.0 * 37 % 300).unwrap_or(0);
    format!("{}.{} {}", number.0, number.1, "x".repeat(len)).into_bytes()
}

fn config(name: &str, seed: u64, replicas: i64) -> StreamConfig {
    let is_queue = name == "S1";
    let is_memory = name == "S2" && seed.is_multiple_of(4);
    StreamConfig {
        name: name.to_owned(),
        subjects: vec![format!("{}.>", name.to_lowercase())],
        max_msgs: if seed.is_multiple_of(3) { LIMIT } else { -1 },
        max_bytes: -1,
        max_msgs_per_subject: -1,
        max_consumers: -1,
        max_msg_size: -1,
        allow_atomic: true,
        retention: if is_queue { RetentionPolicy::WorkQueue } else { RetentionPolicy::Limits },
        duplicate_window: Nanos::from_secs(120),
        storage: if is_memory { StorageType::Memory } else { StorageType::File },
        num_replicas: replicas,
        ..StreamConfig::default()
    }
}

fn create_consumer(stream: &str) -> Command {
    let config = ConsumerConfig {
        name: CONSUMER.to_owned(),
        durable_name: CONSUMER.to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Nanos::from_secs(2),
        ..ConsumerConfig::default()
    };
    let request = CreateConsumerRequest { stream: stream.to_owned(), config, ..Default::default() };
    Command::Consumer(ConsumerCommand::Create {
        request: Box::new(request),
        suggested_name: CONSUMER.to_owned(),
        limits: Box::new(Limits::unlimited()),
    })
}

impl World {
    /// One client does something at one server.
    pub(super) fn client(&mut self) {
        let mut at = self.field.random.usize(..self.field.machines.len());
        let name = NAMES[self.field.random.usize(..NAMES.len())];
        // Every server hears everything: who leads is met more often than by chance.
        if self.field.random.u8(..4) > 0 {
            let leads = |life: &Life| life.slots.values().any(|s| s.stream == name && s.leads());
            let led = self.field.machines.iter().position(|m| m.life.as_ref().is_some_and(leads));
            at = led.unwrap_or(at);
        }
        match self.field.random.u8(..100) {
            0..50 => self.publish(at, name),
            50..56 => self.publish_batch(at, name),
            56..70 => self.with(at, |life| life.call(name, Call::Pull(CONSUMER))),
            70..88 => self.acknowledge(at),
            88..92 => self.with(at, |life| {
                let token = life.new_token();
                life.call(name, Call::Command(create_consumer(name), token));
            }),
            _ => self.administer(at, name),
        }
    }

    /// An administrator's call, which every server hears.
    fn administer(&mut self, at: usize, name: &str) {
        // Streams in memory have several replicas here.
        let replicas = match self.field.random.u8(..6) {
            0 if name != "S2" => 1,
            1 => 2,
            _ => 3,
        };
        let api = match self.field.random.u8(..100) {
            0..60 => Api::Create(Box::new(config(name, self.seed, replicas))),
            60..75 if self.is_calm => Api::Create(Box::new(config(name, self.seed, replicas))),
            60..78 => {
                let replicas = [1, 1, 2, 3, 3, 5][self.field.random.usize(..6)];
                let max_msgs = if self.field.random.bool() { LIMIT } else { -1 };
                for facts in self.facts.streams.values_mut().filter(|f| f.name == name && max_msgs > 0) {
                    facts.limit = Some(LIMIT.unsigned_abs());
                }
                let replicas = if name == "S2" { 3 } else { replicas };
                let Some(as_led) = self.as_led(name) else { return };
                Api::Update { stream: name.to_owned(), max_msgs, replicas, as_led }
            }
            78..86 if !self.is_calm => Api::Delete(name.to_owned()),
            86..90 if !self.is_calm && name != "S2" => {
                let stays = self.field.random.bool();
                Api::RemovePeer { stream: name.to_owned(), peer: peer(at), stays }
            }
            90..98 if !self.is_calm && name != "S2" => Api::Move { stream: name.to_owned(), from: peer(at) },
            98.. if !self.is_calm => Api::CancelMove(name.to_owned()),
            _ => return,
        };
        for at in 0..self.field.machines.len() {
            let api = api.clone();
            self.with(at, |life| life.api(api));
        }
    }

    /// A stream as its leader describes it; `None` if it has none.
    fn as_led(&self, name: &str) -> Option<AsLed> {
        let lives = self.field.machines.iter().filter_map(|machine| machine.life.as_ref());
        lives.filter_map(|life| life.describe(name)).next()
    }

    /// A new message, or one again that nobody has confirmed.
    fn publish(&mut self, at: usize, name: &'static str) {
        let unconfirmed = self.unconfirmed.iter().filter(|(_, of)| *of == name);
        let pick = self.field.random.usize(..unconfirmed.clone().count().max(1));
        let again = unconfirmed.clone().nth(pick).filter(|_| self.field.random.u8(..3) == 0);
        let number = again.map(|(number, _)| *number).unwrap_or_else(|| {
            self.next_number += 1;
            self.next_number
        });
        self.unconfirmed.insert((number, name));
        let mut headers = "NATS/1.0\r\n".to_owned();
        if self.mutation != Some(FleetMutation::IgnoreIds) {
            headers.push_str(&format!("Nats-Msg-Id: {number}\r\n"));
        }
        if self.field.random.u8(..12) == 0 {
            let newest = self.facts.streams.values().filter(|f| f.name == name && !f.is_ending);
            let newest = newest.flat_map(|f| f.stored.values()).max().copied().unwrap_or_default();
            headers.push_str(&format!("Nats-Expected-Last-Sequence: {newest}\r\n"));
        }
        headers.push_str("\r\n");
        self.send(at, name, (number, 0), headers, format!("ack.{number}"));
    }

    /// Messages that are stored together or not at all.
    fn publish_batch(&mut self, at: usize, name: &'static str) {
        self.next_number += 1;
        let number = self.next_number;
        self.count(FleetEvent::BatchSent);
        for part in 1..=BATCH {
            let mut headers =
                format!("NATS/1.0\r\nNats-Batch-Id: b{number}\r\nNats-Batch-Sequence: {part}\r\n");
            let mut reply = String::new();
            if part == BATCH {
                headers.push_str("Nats-Batch-Commit: 1\r\n");
                reply = format!("batch.{number}");
            }
            headers.push_str("\r\n");
            self.send(at, name, (number, part), headers, reply);
        }
    }

    fn send(&mut self, at: usize, name: &str, number: (u64, u64), headers: String, reply: String) {
        let header_len = headers.len();
        let body = [headers.into_bytes(), payload(number)].concat();
        let publication = Publication { subject: subject(name, number.0), reply, header_len, body };
        self.with(at, |life| life.call(name, Call::Publish(publication)));
    }

    /// A client acknowledges a message that it got, as often as it likes and to a server that may not lead any more.
    fn acknowledge(&mut self, at: usize) {
        let with: Vec<GroupId> = self
            .facts
            .streams
            .iter()
            .filter(|(_, f)| !f.deliveries.is_empty())
            .map(|(group, _)| *group)
            .collect();
        if with.is_empty() {
            return;
        }
        let group = with[self.field.random.usize(..with.len())];
        let Some(facts) = self.facts.streams.get(&group) else { return };
        let pick = self.field.random.usize(..facts.deliveries.len());
        let Some(subject) = facts.deliveries.get(pick).cloned() else { return };
        if let Some(slot) = self.field.life(at).and_then(|life| life.slot_of(group)) {
            slot.calls.push(Call::Acknowledge(subject));
        }
    }

    /// Clients read what a server sent.
    pub(super) fn read_sent(&mut self, at: usize) {
        let Some(life) = self.field.life(at) else { return };
        let mut letters = Vec::new();
        for slot in life.slots.values_mut().filter(|slot| !slot.sent.letters.is_empty()) {
            letters.push((slot.group.group(), std::mem::take(&mut slot.sent.letters)));
        }
        for (group, letters) in letters {
            for letter in letters {
                match letter {
                    ToClient::Delivery(subject) => self.delivered(at, group, subject),
                    ToClient::Answer(to, body) => self.answered(at, group, &to, &body),
                }
            }
        }
    }

    fn answered(&mut self, at: usize, group: GroupId, to: &str, body: &str) {
        let number = |prefix| to.strip_prefix(prefix).and_then(|n| n.parse::<u64>().ok());
        if let Some(number) = number("ack.") {
            self.publish_answered(at, group, number, 1, body);
        } else if let Some(number) = number("batch.") {
            self.publish_answered(at, group, number, BATCH, body);
        } else if let Some(seq) = number("sure.") {
            self.count(FleetEvent::Confirmed);
            self.note(|| format!("s{at} confirms the acknowledgement of {seq} in {group}"));
            if let Some(facts) = self.facts.streams.get_mut(&group) {
                facts.confirmed.insert(seq);
            }
        }
    }

    fn publish_answered(&mut self, at: usize, group: GroupId, number: u64, parts: u64, body: &str) {
        let Ok(answer) = serde_json::from_str::<serde_json::Value>(body) else {
            return self.fail(format!("s{at} answers {body}"));
        };
        let seq = answer.get("seq").and_then(serde_json::Value::as_u64);
        let Some(seq) = seq.filter(|_| answer.get("error").is_none()) else { return };
        self.count(match answer.get("duplicate") {
            Some(_) => FleetEvent::Duplicate,
            None if parts > 1 => FleetEvent::BatchStored,
            None => FleetEvent::Stored,
        });
        self.note(|| format!("s{at} stored {number} at {seq} in {group}"));
        let Some(facts) = self.facts.streams.get_mut(&group) else { return };
        let name = facts.name.clone();
        self.unconfirmed.retain(|(n, of)| *n != number || *of != name);
        for part in 0..parts {
            let key = (number, if parts > 1 { part + 1 } else { 0 });
            let seq = seq + 1 + part - parts;
            // Not even a stream that lost what only it had gives a sequence twice.
            if let Some((other, _)) = facts.stored.iter().find(|(other, at)| **at == seq && **other != key)
                && !facts.is_memory
            {
                let text = format!("{key:?} and {other:?} were both stored at {seq} in {group}");
                return self.fail(text);
            }
            let known = facts.stored.insert(key, seq);
            if let Some(known) = known.filter(|known| *known != seq && !facts.may_be_removed(*known)) {
                let text = format!("{number} was stored at {known} and is at {seq} in {group}");
                return self.fail(text);
            }
        }
    }

    /// A message reaches a client.
    fn delivered(&mut self, at: usize, group: GroupId, subject: Vec<u8>) {
        let Some(ack) = AckSubject::parse(&subject) else {
            return self.fail(format!("s{at} delivers a message that cannot be acknowledged"));
        };
        let (seq, times) = (ack.stream_seq, ack.delivered);
        self.note(|| format!("s{at} delivers {seq} of {group} for the {times}. time"));
        self.count(if times > 1 { FleetEvent::Redelivered } else { FleetEvent::Delivered });
        self.check_delivery(at, group, seq);
        let Some(facts) = self.facts.streams.get_mut(&group) else { return };
        facts.delivered.insert(seq);
        if facts.deliveries.len() >= DELIVERIES_MAX {
            facts.deliveries.pop_front();
        }
        facts.deliveries.push_back(subject);
    }
}
