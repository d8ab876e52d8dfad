//! Calls of clients about consumers.

use linnet_assets::{Command, ConsumerCommand};
use linnet_env::Clock as _;
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, DeliverPolicy, PriorityPolicy, RetentionPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::{ConsumerConfig, Nanos};

use super::pushing::pushing;
use super::{GROUP, SECOND, SUBJECTS};
use crate::questions::Ask;
use crate::world::World;

/// Consumers that wait for requests, and those that do not.
const CONSUMERS: u8 = 3;
const PUSH_CONSUMERS: u8 = 2;

/// What a work queue asks of its consumers: they take everything, and no message is wanted by two.
fn queueing(stream: &str, consumer: u8, config: ConsumerConfig) -> ConsumerConfig {
    ConsumerConfig {
        deliver_policy: DeliverPolicy::All,
        opt_start_seq: 0,
        opt_start_time: None,
        ack_policy: AckPolicy::Explicit,
        filter_subject: format!("{stream}.{consumer}"),
        filter_subjects: Vec::new(),
        ..config
    }
}

fn name_of(number: u8) -> String {
    match number.checked_sub(CONSUMERS) {
        None => format!("c{number}"),
        Some(number) => format!("p{number}"),
    }
}

impl World {
    pub(super) fn consumer_call(&mut self, name: &str, group: GroupId) {
        let number = self.rng.u8(..CONSUMERS + PUSH_CONSUMERS);
        let consumer = name_of(number);
        match self.rng.u8(..12) {
            0 | 1 => {
                self.call_stream(group, Command::Consumer(ConsumerCommand::Delete(consumer)), Ask::Other);
            }
            2 => self.pause(group, consumer),
            3 => self.reset(group, consumer),
            4 if self.rng.bool() => self.unpin(group, consumer),
            _ => self.make_consumer(name, group, number),
        }
    }

    fn pause(&mut self, group: GroupId, consumer: String) {
        let by = self.rng.i64(-SECOND..20 * SECOND);
        let until = (self.rng.u8(..4) > 0).then(|| Wall(self.clock.wall().0 + by));
        let command = ConsumerCommand::Pause { consumer, until };
        self.call_stream(group, Command::Consumer(command), Ask::Pause(until));
    }

    fn reset(&mut self, group: GroupId, consumer: String) {
        let seq = if self.rng.bool() { 0 } else { self.somewhere(group).0 };
        if let Some(stream) = self.facts.streams.get_mut(&group) {
            stream.reset_asked(&consumer);
        }
        let command = ConsumerCommand::Reset { consumer: consumer.clone(), seq };
        self.call_stream(group, Command::Consumer(command), Ask::Reset(consumer));
    }

    fn unpin(&mut self, group: GroupId, consumer: String) {
        self.pulls.unpin(group, &consumer);
        let command = ConsumerCommand::Unpin { consumer: consumer.clone(), group: GROUP.to_owned() };
        self.call_stream(group, Command::Consumer(command), Ask::Unpin(consumer));
    }

    fn make_consumer(&mut self, stream: &str, group: GroupId, number: u8) {
        let config = self.consumer_config(stream, group, number);
        let known = self.facts.streams.get(&group).and_then(|s| s.model.consumers.get(&config.name));
        // An existing one keeps what an update may not change.
        let config = match known.map(|known| &known.config) {
            Some(known) => ConsumerConfig {
                deliver_policy: known.deliver_policy,
                opt_start_seq: known.opt_start_seq,
                opt_start_time: known.opt_start_time,
                ack_policy: known.ack_policy,
                priority_policy: known.priority_policy,
                priority_groups: known.priority_groups.clone(),
                priority_timeout: known.priority_timeout,
                ..config
            },
            None => config,
        };
        let config = match known.map(|known| &known.config) {
            // Which messages were the newest of subjects that it did not want, it does not know.
            Some(known) if known.deliver_policy == DeliverPolicy::LastPerSubject => ConsumerConfig {
                filter_subject: known.filter_subject.clone(),
                filter_subjects: known.filter_subjects.clone(),
                ..config
            },
            _ => config,
        };
        let limits = Box::new(Limits::unlimited());
        let request = CreateConsumerRequest {
            stream: stream.to_owned(),
            config: config.clone(),
            ..CreateConsumerRequest::default()
        };
        let command =
            ConsumerCommand::Create { request: Box::new(request), suggested_name: "x".to_owned(), limits };
        let ask = Ask::Consumer(Box::new(config));
        self.call_stream(group, Command::Consumer(command), ask);
    }

    fn consumer_config(&mut self, stream: &str, group: GroupId, number: u8) -> ConsumerConfig {
        let (seq, time) = self.somewhere(group);
        let other = format!("{stream}.{}", self.rng.u64(2..SUBJECTS));
        let mut pick = |choices: &[i64]| choices[self.rng.usize(..choices.len())];
        let (deliver_policy, opt_start_seq, opt_start_time) = match pick(&[0, 0, 0, 0, 1, 2, 3, 4, 5]) {
            1 => (DeliverPolicy::New, 0, None),
            2 => (DeliverPolicy::LastPerSubject, 0, None),
            3 => (DeliverPolicy::Last, 0, None),
            4 => (DeliverPolicy::ByStartSequence, seq, None),
            5 => (DeliverPolicy::ByStartTime, 0, Some(time)),
            _ => (DeliverPolicy::All, 0, None),
        };
        let is_newest = deliver_policy == DeliverPolicy::LastPerSubject;
        let (filter_subject, filter_subjects) = match pick(&[0, 0, 0, 1, 2]) {
            1 => (format!("{stream}.1"), Vec::new()),
            2 => (String::new(), vec![format!("{stream}.1"), other]),
            _ if is_newest => (format!("{stream}.*"), Vec::new()),
            _ => (String::new(), Vec::new()),
        };
        let backoff =
            if pick(&[0, 0, 0, 1]) == 1 { vec![Nanos(SECOND), Nanos(4 * SECOND)] } else { Vec::new() };
        let (priority_policy, priority_timeout) = match pick(&[0, 0, 0, 0, 0, 1, 2, 3]) {
            1 => (PriorityPolicy::Overflow, 0),
            2 => (PriorityPolicy::PinnedClient, pick(&[2, 8])),
            3 => (PriorityPolicy::Prioritized, 0),
            _ => (PriorityPolicy::None, 0),
        };
        let priority_groups = if priority_policy.is_none() { Vec::new() } else { vec![GROUP.to_owned()] };
        let name = name_of(number);
        let config = ConsumerConfig {
            durable_name: name.clone(),
            name,
            deliver_policy,
            opt_start_seq,
            opt_start_time,
            ack_policy: match pick(&[0, 0, 0, 1, 2]) {
                1 => AckPolicy::All,
                2 => AckPolicy::None,
                _ => AckPolicy::Explicit,
            },
            ack_wait: Nanos(pick(&[1, 5, 30]) * SECOND),
            max_deliver: pick(&[-1, -1, -1, -1, 2, 3]),
            backoff,
            max_ack_pending: pick(&[0, 0, 3]),
            filter_subject,
            filter_subjects,
            priority_policy,
            priority_groups,
            priority_timeout: Nanos(priority_timeout * SECOND),
            headers_only: pick(&[0, 0, 0, 0, 1]) == 1,
            description: format!("{}", pick(&[1, 2, 3])),
            ..ConsumerConfig::default()
        };
        let is_queue = |s: &crate::facts::StreamFacts| s.model.config.retention == RetentionPolicy::WorkQueue;
        let is_queue = self.facts.streams.get(&group).is_some_and(is_queue);
        let config = if is_queue && self.rng.u8(..5) > 0 { queueing(stream, number, config) } else { config };
        if number < CONSUMERS {
            return config;
        }
        let known = self.facts.streams.get(&group).and_then(|s| s.model.consumers.get(&config.name));
        let kind = match known.map(|known| &known.config) {
            None => self.rng.u8(..4),
            // What an update may not change.
            Some(known) if known.ack_policy == AckPolicy::FlowControl => 3,
            Some(known) => u8::from(!known.idle_heartbeat.is_zero()) + u8::from(known.flow_control),
        };
        let ack_policy = known.map_or(config.ack_policy, |known| known.config.ack_policy);
        pushing(stream, ConsumerConfig { ack_policy, ..config }, kind)
    }
}
