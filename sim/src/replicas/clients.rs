//! What clients do, and what they are told.

use linnet_assets::{Command, ConsumerCommand, Purge};
use linnet_ids::StreamSeq;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::AckPolicy;
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::subjects::AckSubject;
use linnet_jsapi::{ConsumerConfig, Nanos};

use super::ReplicaEvent;

use super::server::{Call, Publication};
use super::world::World;
use crate::field::ToClient;

/// The only consumer.
pub(super) const CONSUMER: &str = "d";

/// Deliveries that clients may still acknowledge.
const DELIVERIES_MAX: usize = 40;

/// Subject of what a client publishes under a number.
pub(super) fn subject(number: u64) -> String {
    format!("s.{}", number % 9)
}

pub(super) fn payload(number: u64) -> Vec<u8> {
    let len = usize::try_from(number * 37 % 400).unwrap_or(0);
    format!("{number} {}", "x".repeat(len)).into_bytes()
}

fn create_consumer() -> Command {
    let config = ConsumerConfig {
        name: CONSUMER.to_owned(),
        durable_name: CONSUMER.to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Nanos::from_secs(2),
        ..ConsumerConfig::default()
    };
    let request = CreateConsumerRequest { stream: "S".to_owned(), config, ..Default::default() };
    Command::Consumer(ConsumerCommand::Create {
        request: Box::new(request),
        suggested_name: CONSUMER.to_owned(),
        limits: Box::new(Limits::unlimited()),
    })
}

impl World {
    /// One client does something at one server.
    pub(super) fn client(&mut self) {
        let at = self.field.random.usize(..self.field.machines.len());
        match self.field.random.u8(..100) {
            0..62 => self.publish(at),
            62..74 => self.with(at, |life| life.call(Call::Pull(CONSUMER))),
            74..92 => self.acknowledge(at),
            92..94 => self.with(at, |life| life.call(Call::Command(create_consumer()))),
            94..97 => {
                let below = self.newest().saturating_sub(self.field.random.u64(20..120));
                self.removed_below = self.removed_below.max(below);
                let purge = Purge { below, ..Purge::default() };
                if below > 0 {
                    self.remove(at, Command::Purge(purge));
                }
            }
            _ => {
                let seq = self.field.random.u64(..=self.newest());
                self.removed.insert(seq);
                let erase = self.field.random.bool();
                self.remove(at, Command::DeleteMessage { seq, erase });
            }
        }
    }

    fn newest(&self) -> StreamSeq {
        self.stored.values().max().copied().unwrap_or_default()
    }

    fn remove(&mut self, at: usize, command: Command) {
        self.with(at, |life| life.call(Call::Command(command)));
        self.count(ReplicaEvent::Removed);
    }

    /// A new message, or one again that nobody has confirmed.
    fn publish(&mut self, at: usize) {
        let number = match self.unconfirmed.len() {
            0 => None,
            len if self.field.random.u8(..3) == 0 => {
                let pick = self.field.random.usize(..len);
                self.unconfirmed.iter().nth(pick).copied()
            }
            _ => None,
        };
        let number = number.unwrap_or_else(|| {
            self.next_number += 1;
            self.unconfirmed.insert(self.next_number);
            self.next_number
        });
        let mut headers = format!("NATS/1.0\r\nNats-Msg-Id: {number}\r\n");
        if self.field.random.u8(..12) == 0 {
            headers.push_str(&format!("Nats-Expected-Last-Sequence: {}\r\n", self.newest()));
        }
        if number.is_multiple_of(11) {
            headers.push_str("Nats-TTL: 1h\r\n");
        }
        headers.push_str("\r\n");
        let header_len = headers.len();
        let body = [headers.into_bytes(), payload(number)].concat();
        let publication =
            Publication { subject: subject(number), reply: format!("ack.{number}"), header_len, body };
        self.with(at, |life| life.call(Call::Publish(publication)));
    }

    /// A client acknowledges a message that it got, as often as it likes and to a server that may not lead any more.
    fn acknowledge(&mut self, at: usize) {
        let len = self.deliveries.len();
        if len > 0 {
            let pick = self.field.random.usize(..len);
            if let Some(subject) = self.deliveries.get(pick).cloned() {
                self.with(at, |life| life.call(Call::Acknowledge(subject)));
            }
        }
    }

    /// Clients read what a server sent.
    pub(super) fn read_sent(&mut self, at: usize) {
        let Some(life) = &mut self.field.machines[at].life else { return };
        life.sent.answers.clear();
        for letter in std::mem::take(&mut life.sent.letters) {
            match letter {
                ToClient::Delivery(subject) => self.delivered(at, subject),
                ToClient::Answer(to, body) => {
                    if let Some(number) = to.strip_prefix("ack.").and_then(|n| n.parse().ok()) {
                        self.publish_answered(at, number, &body);
                    } else if let Some(seq) = to.strip_prefix("sure.").and_then(|n| n.parse().ok()) {
                        self.count(ReplicaEvent::Confirmed);
                        self.note(|| format!("s{at} confirms the acknowledgement of {seq}"));
                        self.confirmed.insert(seq);
                    }
                }
            }
        }
    }

    /// A message reaches a client: none whose acknowledgement was confirmed before.
    fn delivered(&mut self, at: usize, subject: Vec<u8>) {
        let Some(ack) = AckSubject::parse(&subject) else {
            return self.fail(format!("s{at} delivers a message that cannot be acknowledged"));
        };
        let (seq, times) = (ack.stream_seq, ack.delivered);
        self.note(|| format!("s{at} delivers {seq} for the {times}. time"));
        self.count(if times > 1 { ReplicaEvent::Redelivered } else { ReplicaEvent::Delivered });
        if self.confirmed.contains(&seq) {
            self.fail(format!("s{at} delivers {seq}, whose acknowledgement was confirmed"));
        }
        if self.deliveries.len() >= DELIVERIES_MAX {
            self.deliveries.pop_front();
        }
        self.deliveries.push_back(subject);
    }

    fn publish_answered(&mut self, at: usize, number: u64, body: &str) {
        let Ok(answer) = serde_json::from_str::<serde_json::Value>(body) else {
            return self.fail(format!("s{at} answers {body}"));
        };
        let Some(seq) =
            answer.get("seq").and_then(serde_json::Value::as_u64).filter(|_| answer.get("error").is_none())
        else {
            return;
        };
        let is_duplicate = answer.get("duplicate").is_some();
        self.count(if is_duplicate { ReplicaEvent::Duplicate } else { ReplicaEvent::Stored });
        self.note(|| format!("s{at} stored {number} at {seq}"));
        self.unconfirmed.remove(&number);
        // After its removal a message may be stored again.
        let known = self.stored.insert(number, seq);
        if let Some(known) = known.filter(|known| *known != seq && !self.may_be_removed(*known)) {
            self.fail(format!("{number} was stored at {known} and is at {seq}"));
        }
    }

    pub(super) fn may_be_removed(&self, seq: StreamSeq) -> bool {
        seq < self.removed_below
            || self.removed.contains(&seq)
            || (self.has_limit() && seq + 150 <= self.newest_known)
    }
}
