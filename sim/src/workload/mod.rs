//! What clients do, chosen by the seed.

mod consumers;
mod consuming;
mod publishing;
pub(crate) mod pushing;
mod reading;

use std::time::Duration;

use linnet_assets::{Command, Purge};
use linnet_ids::GroupId;
use linnet_jsapi::policies::{Compression, DiscardPolicy, RetentionPolicy};
use linnet_jsapi::{Nanos, StreamConfig};
use linnet_replication::Host as _;

use crate::facts::StreamFacts;
use crate::questions::Ask;
use crate::world::{Call, World, usable};

const NAMES: [&str; 3] = ["A", "B", "C"];
/// The priority group of consumers that have one.
pub(crate) const GROUP: &str = "g";
const SUBJECTS: u64 = 5;
const SECOND: i64 = 1_000_000_000;

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
            0..32 => {
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
            32..40 => self.read(&name, group),
            40..57 => self.pull(&name, group),
            57..74 => self.acknowledge(),
            74..82 => self.consumer_call(&name, group),
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
            compression: if pick(&[0, 1]) == 1 { Compression::S2 } else { Compression::None },
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

    fn remove(&mut self, name: &str, group: GroupId) {
        let Some(stream) = self.facts.streams.get(&group) else { return };
        let (first, last) = (stream.model.first(), stream.model.last);
        let somewhere = self.rng.u64(first..=last.max(first) + 3);
        let subject = format!("{name}.{}", self.rng.u64(..SUBJECTS));
        let command = match self.rng.u8(..10) {
            0 => Command::Purge(Purge::default()),
            1 => Command::Purge(Purge { filter: subject, ..Purge::default() }),
            2 => Command::Purge(Purge { below: somewhere, ..Purge::default() }),
            3 => Command::Purge(Purge { keep: self.rng.u64(1..5), ..Purge::default() }),
            4 => Command::Purge(Purge { filter: subject, keep: 1, ..Purge::default() }),
            5 => Command::Purge(Purge { filter: format!("{name}.*"), below: somewhere, ..Purge::default() }),
            6 => Command::Purge(Purge { filter: subject, below: somewhere, ..Purge::default() }),
            _ => Command::DeleteMessage { seq: somewhere, erase: self.rng.bool() },
        };
        let ask = if matches!(command, Command::Purge(_)) { Ask::Purge } else { Ask::Delete };
        self.call_stream(group, command, ask);
    }

    /// Nothing is published without clients any more.
    pub(crate) fn end_schedules(&mut self) {
        let of =
            |s: &StreamFacts| s.model.schedules.keys().map(|subject| (s.group, subject.clone())).collect();
        let schedules: Vec<(GroupId, Vec<u8>)> =
            self.facts.streams.values().flat_map(of as fn(_) -> Vec<_>).collect();
        for (group, subject) in schedules {
            let filter = String::from_utf8_lossy(&subject).into_owned();
            let purge = Purge { filter, ..Purge::default() };
            self.call_stream(group, Command::Purge(purge), Ask::Purge);
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
