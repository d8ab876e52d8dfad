//! What clients do with consumers.

use linnet_assets::{Command, ConsumerCommand};
use linnet_ids::GroupId;
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, DeliverPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::{ConsumerConfig, Nanos};
use linnet_replication::Host as _;

use super::SECOND;
use crate::facts::AckFacts;
use crate::flows::Waiter;
use crate::process::Letter;
use crate::world::World;

impl World {
    fn consumers(&self, group: GroupId) -> Vec<(String, u64)> {
        let Some(stream) = self.facts.streams.get(&group) else { return Vec::new() };
        stream.model.consumers.iter().map(|(name, c)| (name.clone(), c.born)).collect()
    }

    pub(super) fn pull(&mut self, group: GroupId) {
        let consumers = self.consumers(group);
        if consumers.is_empty() {
            return;
        }
        let (consumer, _) = consumers[self.rng.usize(..consumers.len())].clone();
        let batch = self.rng.u32(1..12);
        let payload = match self.rng.u8(..3) {
            0 => format!("{batch}"),
            1 => format!(r#"{{"batch":{batch},"no_wait":true}}"#),
            _ => format!(r#"{{"batch":{batch},"expires":3000000000,"idle_heartbeat":1000000000}}"#),
        };
        self.request(group, &consumer, payload);
    }

    pub(crate) fn request(&mut self, group: GroupId, consumer: &str, payload: String) {
        let Some(key) = self.process.key_of(group) else { return };
        self.next_pull += 1;
        let reply = format!("_pull.{}", self.next_pull).into_bytes();
        self.trace.line(|| format!("pull {consumer} {payload}"));
        let letter = Letter::Next { consumer: consumer.to_owned(), payload: payload.into_bytes(), reply };
        self.process.letter(key, letter);
    }

    pub(super) fn acknowledge(&mut self) {
        for _ in 0..self.rng.u32(1..5) {
            if self.held.is_empty() {
                return;
            }
            let at = self.rng.usize(..self.held.len());
            let payload: &[u8] = match self.rng.u8(..14) {
                0 => b"-NAK",
                1 => b"-NAK 2s",
                2 => b"+WPI",
                3 => b"+TERM no",
                4 => b"+NXT 2",
                _ => b"+ACK",
            };
            let confirm = self.rng.u8(..3) > 0;
            self.send_ack(at, payload, confirm);
        }
    }

    /// Acknowledges a held message. What ends the message is not held any longer, mostly.
    pub(crate) fn send_ack(&mut self, at: usize, payload: &[u8], confirm: bool) {
        let Some(held) = self.held.get(at) else { return };
        let (group, consumer, seq) = (held.group, held.consumer.clone(), held.seq);
        let Some(key) = self.process.key_of(group) else {
            self.held.swap_remove(at);
            return;
        };
        let is_final = !payload.starts_with(b"-NAK") && !payload.starts_with(b"+WPI");
        let config = self.facts.streams.get(&group).and_then(|s| s.model.consumers.get(&consumer));
        let policy = config.map(|c| c.config.ack_policy);
        let born = held.born;
        let is_all = policy == Some(AckPolicy::All) && !payload.starts_with(b"+TERM");
        let no = self.facts.acks.len();
        let subject = held.ack.clone();
        let wants_next = payload.starts_with(b"+NXT");
        let reply = match (wants_next, confirm) {
            (true, _) => {
                self.next_pull += 1;
                format!("_pull.{}", self.next_pull)
            }
            (false, true) => format!("_conf.{no}"),
            (false, false) => String::new(),
        };
        if is_final
            && let Some(facts) = self
                .facts
                .streams
                .get_mut(&group)
                .and_then(|s| s.consumers.get_mut(&(consumer.clone(), born)))
        {
            if is_all {
                let below: Vec<u64> = facts.delivered.range(..=seq).map(|(seq, _)| *seq).collect();
                facts.acked.extend(below);
            }
            facts.acked.insert(seq);
        }
        self.trace.line(|| {
            let text = String::from_utf8_lossy(payload).into_owned();
            format!("{text} {consumer} {seq} reply {reply}")
        });
        self.facts.acks.push(AckFacts { group, consumer, born, seq, is_final, is_all });
        let letter = Letter::Ack { subject, payload: payload.to_vec(), reply: reply.into_bytes() };
        self.process.letter(key, letter);
        if is_final && self.rng.u8(..10) > 0 {
            self.held.swap_remove(at);
        }
    }

    pub(super) fn consumer_call(&mut self, name: &str, group: GroupId) {
        let Some(key) = self.process.key_of(group) else { return };
        let consumer = format!("c{}", self.rng.u8(..3));
        let token = self.process.expect(Waiter::Client);
        if self.rng.u8(..5) == 0 {
            self.trace.line(|| format!("delete consumer {consumer}"));
            self.process.command(key, Command::Consumer(ConsumerCommand::Delete(consumer)), token);
            return;
        }
        let mut pick = |choices: &[i64]| choices[self.rng.usize(..choices.len())];
        let filtered = pick(&[0, 0, 1]) == 1;
        let deliver_policy = match pick(&[0, 0, 0, 0, 1, 2, 3]) {
            1 => DeliverPolicy::New,
            2 => DeliverPolicy::LastPerSubject,
            3 => DeliverPolicy::Last,
            _ => DeliverPolicy::All,
        };
        let filter_subject = match deliver_policy {
            DeliverPolicy::LastPerSubject => format!("{name}.*"),
            _ if filtered => format!("{name}.1"),
            _ => String::new(),
        };
        let config = ConsumerConfig {
            durable_name: consumer.clone(),
            name: consumer.clone(),
            deliver_policy,
            ack_policy: match pick(&[0, 0, 0, 1, 2]) {
                1 => AckPolicy::All,
                2 => AckPolicy::None,
                _ => AckPolicy::Explicit,
            },
            ack_wait: Nanos(pick(&[1, 5, 30]) * SECOND),
            max_deliver: pick(&[-1, -1, -1, 2]),
            max_ack_pending: pick(&[0, 0, 3]),
            filter_subject,
            description: format!("{}", pick(&[1, 2, 3])),
            ..ConsumerConfig::default()
        };
        // An existing one keeps what an update may not change, and its filter, so that it wants the same messages.
        let known = self.facts.streams.get(&group).and_then(|s| s.model.consumers.get(&consumer));
        let config = match known {
            Some(known) => ConsumerConfig {
                deliver_policy: known.config.deliver_policy,
                ack_policy: known.config.ack_policy,
                filter_subject: known.config.filter_subject.clone(),
                max_deliver: known.config.max_deliver,
                ..config
            },
            None => config,
        };
        self.trace.line(|| format!("create consumer {config:?}"));
        let request =
            CreateConsumerRequest { stream: name.to_owned(), config, ..CreateConsumerRequest::default() };
        let command = ConsumerCommand::Create {
            request: Box::new(request),
            suggested_name: "x".to_owned(),
            limits: Box::new(Limits::unlimited()),
        };
        self.process.command(key, Command::Consumer(command), token);
    }
}
