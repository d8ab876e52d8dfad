//! What clients do, chosen by the seed.

use std::time::Duration;

use linnet_assets::{Command, ConsumerCommand, Purge};
use linnet_env::Clock as _;
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::limits::Limits;
use linnet_jsapi::policies::{AckPolicy, DeliverPolicy, DiscardPolicy, RetentionPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::{ConsumerConfig, Nanos, StreamConfig};
use linnet_replication::Host as _;
use linnet_wire::headers;

use crate::facts::{AckFacts, PublishFacts, StreamFacts};
use crate::flows::Waiter;
use crate::process::{Letter, PublishIn};
use crate::world::{Call, World, usable};

const NAMES: [&str; 3] = ["A", "B", "C"];
const SUBJECTS: u64 = 5;
const SECOND: i64 = 1_000_000_000;

/// Where a message stands in its batch.
struct BatchPart<'a> {
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

/// The configuration of a stream that counts: without what does not go with that.
fn counting(config: StreamConfig) -> StreamConfig {
    StreamConfig {
        allow_msg_counter: true,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        discard_new_per_subject: false,
        allow_msg_ttl: false,
        allow_msg_schedules: false,
        subject_delete_marker_ttl: Nanos::ZERO,
        ..config
    }
}

/// The configuration of a stream with schedules.
fn scheduling(config: StreamConfig) -> StreamConfig {
    StreamConfig {
        allow_msg_schedules: true,
        discard: DiscardPolicy::Old,
        discard_new_per_subject: false,
        ..config
    }
}

impl World {
    /// One thing that some client does.
    pub(crate) fn act(&mut self) {
        let streams = usable(self);
        let picked =
            if streams.is_empty() { None } else { streams.iter().nth(self.rng.usize(..streams.len())) };
        let Some((name, group)) = picked.map(|(n, g)| (n.clone(), *g)) else {
            self.create();
            return;
        };
        match self.rng.u32(..100) {
            0..45 => {
                let config =
                    self.facts.streams.get(&group).map(|s| s.model.config.clone()).unwrap_or_default();
                if config.allow_atomic && self.rng.u8(..3) == 0 {
                    self.publish_batch(&name, group, config.allow_msg_counter);
                    return;
                }
                for _ in 0..self.rng.u32(1..6) {
                    if config.allow_msg_counter {
                        self.count(&name, group, None);
                    } else {
                        self.publish(&name, group);
                    }
                }
            }
            45..58 => self.pull(group),
            58..76 => self.acknowledge(),
            76..82 => self.consumer_call(&name, group),
            82..86 => self.remove(&name, group),
            86..89 => self.update(&name, group),
            89..91 => self.create(),
            91 => self.delete(group),
            _ => self.pass_time(),
        }
    }

    fn stream_config(&mut self, name: &str) -> StreamConfig {
        let mut pick = |choices: &[i64]| choices[self.rng.usize(..choices.len())];
        let discard_new = pick(&[0, 0, 1]) == 1;
        let per_subject = pick(&[-1, -1, 1, 2, 5]);
        let retention = match pick(&[0, 0, 1, 1, 2]) {
            0 => RetentionPolicy::Limits,
            1 => RetentionPolicy::Interest,
            _ => RetentionPolicy::WorkQueue,
        };
        let marker_ttl = pick(&[0, 0, 0, 3 * SECOND]);
        let config = StreamConfig {
            name: name.to_owned(),
            retention,
            subjects: vec![format!("{name}.>")],
            max_consumers: -1,
            max_msgs: pick(&[-1, -1, 3, 20]),
            max_bytes: pick(&[-1, -1, 4000, 20_000]),
            max_age: Nanos(pick(&[0, 0, 10 * SECOND, 60 * SECOND])),
            max_msgs_per_subject: per_subject,
            max_msg_size: -1,
            discard: if discard_new { DiscardPolicy::New } else { DiscardPolicy::Old },
            discard_new_per_subject: discard_new && per_subject > 0 && pick(&[0, 1]) == 1,
            num_replicas: 1,
            duplicate_window: Nanos(pick(&[0, 5 * SECOND, 120 * SECOND])),
            first_seq: u64::try_from(pick(&[0, 0, 1, 100])).unwrap_or(0),
            allow_rollup_hdrs: true,
            allow_msg_ttl: pick(&[0, 0, 1]) == 1 || marker_ttl > 0,
            subject_delete_marker_ttl: Nanos(marker_ttl),
            allow_atomic: pick(&[0, 0, 1]) == 1,
            ..StreamConfig::default()
        };
        match pick(&[0, 0, 0, 0, 1, 2]) {
            0 => config,
            1 => counting(config),
            _ => scheduling(config),
        }
    }

    fn create(&mut self) {
        let used = usable(self);
        let taken = |name: &str| {
            used.contains_key(name) || self.facts.streams.values().any(|s| s.name == name && !s.ending)
        };
        let Some(name) = NAMES.iter().find(|name| !taken(name)) else { return };
        if self.call.is_some() || self.process.log_failure.is_some() {
            return;
        }
        let config = self.stream_config(name);
        self.trace.line(|| format!("create {config:?}"));
        let random = self.rng.u64(..);
        let group = self.process.create_stream(config.clone(), random);
        self.facts.streams.insert(group, StreamFacts::new(name, group, config));
        self.call = Some(Call::Create(group));
    }

    fn update(&mut self, name: &str, group: GroupId) {
        let (Some(key), None) = (self.process.key_of(group), self.call) else { return };
        let Some(slot) = self.process.slots.get(&key) else { return };
        let old = slot.group.stream().config().clone();
        let new = self.stream_config(name);
        let new = match (old.allow_msg_counter, old.allow_msg_schedules) {
            (true, _) => counting(new),
            (false, true) => scheduling(new),
            (false, false) => new,
        };
        // What decides about duplicates stays, so that the model can judge them. A work queue stays one.
        let is_queue = |config: &StreamConfig| config.retention == RetentionPolicy::WorkQueue;
        let keeps = is_queue(&old) || is_queue(&new) || old.allow_msg_counter;
        let retention = if keeps { old.retention } else { new.retention };
        let config = StreamConfig {
            retention,
            duplicate_window: old.duplicate_window,
            allow_msg_ttl: old.allow_msg_ttl || new.allow_msg_ttl,
            allow_msg_counter: old.allow_msg_counter,
            allow_msg_schedules: !old.allow_msg_counter && new.allow_msg_schedules,
            ..new
        };
        self.trace.line(|| format!("update {config:?}"));
        self.process.update_stream(key, config);
        self.call = Some(Call::Update(group));
    }

    fn delete(&mut self, group: GroupId) {
        let (Some(key), None) = (self.process.key_of(group), self.call) else { return };
        self.trace.line(|| format!("delete {group}"));
        self.process.delete_stream(key);
        self.call = Some(Call::Delete(group));
        if let Some(stream) = self.facts.streams.get_mut(&group) {
            stream.ending = true;
        }
    }

    fn publish(&mut self, name: &str, group: GroupId) {
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
        self.process.publish(key, PublishIn { subject, reply, header_len, body });
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
    fn publish_batch(&mut self, name: &str, group: GroupId, counts: bool) {
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
        self.send(name, group, block, id, filler, part.is_last);
    }

    /// Adds to a counter.
    fn count(&mut self, name: &str, group: GroupId, part: Option<&BatchPart<'_>>) {
        let mut block = Vec::new();
        headers::begin(&mut block, "");
        headers::push(&mut block, "Nats-Incr", self.rng.i64(-50..100).to_string().as_bytes());
        headers::push(&mut block, "Sim-No", self.facts.publishes.len().to_string().as_bytes());
        if let Some(part) = part {
            part.push(&mut block);
        }
        headers::end(&mut block);
        self.send(name, group, block, None, None, part.is_none_or(|part| part.is_last));
    }

    /// Publishes on a subject of the stream, without `filler` an empty payload.
    fn send(
        &mut self,
        name: &str,
        group: GroupId,
        headers: Vec<u8>,
        id: Option<String>,
        filler: Option<usize>,
        wants_answer: bool,
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
        let reply = if wants_answer { format!("_ack.{no}").into_bytes() } else { Vec::new() };
        self.process.publish(key, PublishIn { subject, reply, header_len, body });
    }

    /// Last sequences as a client may know them: of what is visible, sometimes wrong.
    fn expected(&mut self, group: GroupId, subject: &[u8]) -> (u64, u64) {
        let slack = self.rng.u64(..8).saturating_sub(5);
        let Some(stream) = self.facts.streams.get(&group) else { return (0, 0) };
        (stream.model.last + slack, stream.model.last_of(subject) + slack)
    }

    fn consumers(&self, group: GroupId) -> Vec<(String, u64)> {
        let Some(stream) = self.facts.streams.get(&group) else { return Vec::new() };
        stream.model.consumers.iter().map(|(name, c)| (name.clone(), c.born)).collect()
    }

    fn pull(&mut self, group: GroupId) {
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

    fn acknowledge(&mut self) {
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

    fn consumer_call(&mut self, name: &str, group: GroupId) {
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

    fn remove(&mut self, name: &str, group: GroupId) {
        let (Some(key), Some(stream)) = (self.process.key_of(group), self.facts.streams.get(&group)) else {
            return;
        };
        let (first, last) = (stream.model.first(), stream.model.last);
        let token = self.process.expect(Waiter::Client);
        let somewhere = self.rng.u64(first..=last.max(first) + 3);
        let subject = format!("{name}.{}", self.rng.u64(..SUBJECTS));
        let command = match self.rng.u8(..8) {
            0 => Command::Purge(Purge::default()),
            1 => Command::Purge(Purge { filter: subject, ..Purge::default() }),
            2 => Command::Purge(Purge { below: somewhere, ..Purge::default() }),
            3 => Command::Purge(Purge { keep: self.rng.u64(1..5), ..Purge::default() }),
            4 => Command::Purge(Purge { filter: subject, keep: 1, ..Purge::default() }),
            _ => Command::DeleteMessage { seq: somewhere, erase: self.rng.bool() },
        };
        self.trace.line(|| format!("{command:?}"));
        self.process.command(key, command, token);
    }

    /// Nothing is published without clients any more.
    pub(crate) fn end_schedules(&mut self) {
        let of =
            |s: &StreamFacts| s.model.schedules.keys().map(|subject| (s.group, subject.clone())).collect();
        let schedules: Vec<(GroupId, Vec<u8>)> =
            self.facts.streams.values().flat_map(of as fn(_) -> Vec<_>).collect();
        for (group, subject) in schedules {
            let Some(key) = self.process.key_of(group) else { continue };
            let token = self.process.expect(Waiter::Client);
            let filter = String::from_utf8_lossy(&subject).into_owned();
            self.process.command(key, Command::Purge(Purge { filter, ..Purge::default() }), token);
        }
    }

    /// Time goes by, or jumps, or the wall clock is set.
    pub(crate) fn pass_time(&mut self) {
        let by = match self.rng.u8(..20) {
            0 => Duration::from_secs(self.rng.u64(60..200)),
            1..5 => Duration::from_secs(self.rng.u64(1..12)),
            _ => Duration::from_millis(self.rng.u64(1..400)),
        };
        if self.rng.u8(..40) == 0 {
            let step = self.rng.i64(-20 * SECOND..20 * SECOND);
            self.trace.line(|| format!("the wall clock steps by {step} ns"));
            self.clock.step_wall(step);
        }
        self.trace.line(|| format!("{by:?} pass"));
        self.advance(by);
    }
}
