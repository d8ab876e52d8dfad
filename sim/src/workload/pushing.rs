//! What clients do about consumers that send them messages unasked.

use std::collections::BTreeSet;

use linnet_ids::GroupId;
use linnet_jsapi::policies::{AckPolicy, PriorityPolicy};
use linnet_jsapi::{ConsumerConfig, Nanos};
use linnet_replication::Host as _;
use linnet_wire::headers;

use super::SECOND;
use crate::process::Letter;
use crate::world::{FlowAsk, World};

/// True if the consumer of this name is a push consumer.
pub(crate) fn is_push(consumer: &str) -> bool {
    consumer.starts_with('p')
}

/// True if the consumer of this name waits for requests.
pub(crate) fn is_pull(consumer: &str) -> bool {
    consumer.starts_with('c')
}

fn deliver_subject(stream: &str, consumer: &str) -> String {
    format!("_push.{stream}.{consumer}")
}

/// The configuration of a consumer that sends unasked, with heartbeats, flow control, or neither.
pub(super) fn pushing(stream: &str, config: ConsumerConfig, kind: u8) -> ConsumerConfig {
    let beats = Nanos(if kind == 0 { 0 } else { SECOND });
    let config = ConsumerConfig {
        deliver_subject: deliver_subject(stream, &config.name),
        priority_policy: PriorityPolicy::None,
        priority_groups: Vec::new(),
        priority_timeout: Nanos::ZERO,
        idle_heartbeat: beats,
        flow_control: kind > 1,
        max_ack_pending: if config.ack_policy == AckPolicy::None { 0 } else { config.max_ack_pending },
        ..config
    };
    if kind < 3 {
        return config;
    }
    ConsumerConfig {
        ack_policy: AckPolicy::FlowControl,
        ack_wait: Nanos::ZERO,
        backoff: Vec::new(),
        max_deliver: -1,
        max_ack_pending: 4,
        ..config
    }
}

impl World {
    /// Begins or ceases to listen to a consumer, or answers its flow control requests.
    pub(super) fn turn_to(&mut self, stream: &str, consumer: &str) {
        if !self.asked.is_empty() && self.rng.bool() {
            self.answer_flow();
            return;
        }
        let subject = deliver_subject(stream, consumer);
        if self.rng.u8(..3) > 0 {
            self.listen(subject);
        } else {
            self.trace.line(|| format!("nobody listens to {subject}"));
            self.process.heard.remove(&subject);
        }
    }

    /// Every consumer that sends there hears of it.
    fn listen(&mut self, subject: String) {
        self.trace.line(|| format!("somebody listens to {subject}"));
        if !self.process.heard.insert(subject.clone()) {
            return;
        }
        // Nobody finds a stream that is being restored.
        let streams = self.facts.streams.values().filter(|s| s.created);
        let all = streams.flat_map(|s| s.model.consumers.iter().map(move |(name, c)| (s.group, name, c)));
        let there = all.filter(|(_, _, consumer)| consumer.config.deliver_subject == subject);
        let told: Vec<(GroupId, String)> = there.map(|(group, name, _)| (group, name.clone())).collect();
        for (group, consumer) in told {
            if let Some(key) = self.process.key_of(group) {
                self.process.letter(key, Letter::Interest { consumer });
            }
        }
    }

    /// Somebody listens to every push consumer.
    pub(crate) fn listen_to_all(&mut self) {
        let consumers = self.facts.streams.values().flat_map(|s| s.model.consumers.values());
        let all: BTreeSet<String> = consumers
            .map(|consumer| consumer.config.deliver_subject.clone())
            .filter(|subject| subject.starts_with("_push."))
            .collect();
        all.into_iter().for_each(|subject| self.listen(subject));
    }

    /// Answers the flow control requests: everything that came is stored.
    pub(crate) fn answer_flow(&mut self) {
        for FlowAsk { group, consumer, subject } in std::mem::take(&mut self.asked) {
            let Some(key) = self.process.key_of(group) else { continue };
            let Some(stream) = self.facts.streams.get_mut(&group) else { continue };
            let Some(known) = stream.model.consumers.get(&consumer) else { continue };
            let policy = known.config.ack_policy;
            let facts = stream.consumers.get_mut(&(consumer.clone(), known.born));
            let mut block = Vec::new();
            if let Some((facts, last)) = facts.and_then(|facts| facts.newest().map(|last| (facts, last)))
                && policy == AckPolicy::FlowControl
            {
                facts.ack(last, true);
                headers::begin(&mut block, "");
                headers::push(&mut block, "Nats-Last-Stream", last.to_string().as_bytes());
                headers::end(&mut block);
            }
            self.trace.line(|| format!("answer to {}", String::from_utf8_lossy(&subject)));
            self.process.letter(key, Letter::Flow { consumer, subject, headers: block });
        }
    }
}
