//! What clients do, chosen by the seed.

mod configs;
mod consumers;
mod consuming;
mod publishing;
pub(crate) mod pushing;
mod reading;

use std::time::Duration;

use linnet_assets::{Command, Purge};
use linnet_ids::GroupId;
use linnet_replication::Host as _;

use crate::facts::StreamFacts;
use crate::questions::Ask;
use crate::world::{Call, World, usable};

const NAMES: [&str; 3] = ["A", "B", "C"];
/// A mirror, and a stream with sources.
const FOLLOWERS: [&str; 2] = ["M", "S"];
/// The priority group of consumers that have one.
pub(crate) const GROUP: &str = "g";
const SUBJECTS: u64 = 5;
const SECOND: i64 = 1_000_000_000;

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
                if config.subjects.is_empty() {
                    self.read(&name, group);
                    return;
                }
                if config.allow_atomic && self.rng.u8(..3) == 0 {
                    self.publish_batch(&name, group, config.allow_msg_counter);
                    return;
                }
                if config.allow_batched && !config.allow_msg_counter && self.rng.u8(..3) == 0 {
                    self.publish_fast(&name, group);
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

    fn create(&mut self) {
        let used = usable(self);
        let taken = |name: &str| {
            used.contains_key(name) || self.facts.streams.values().any(|s| s.name == name && !s.ending)
        };
        let follows = used.contains_key("A") && self.rng.u8(..3) == 0;
        let names: &[&str] = if follows { &FOLLOWERS } else { &NAMES };
        let Some(name) = names.iter().find(|name| !taken(name)) else { return };
        if self.call.is_some() || self.process.log_failure.is_some() {
            return;
        }
        let config = if follows { self.follower_config(name) } else { self.stream_config(name) };
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
        if old.sealed || old.subjects.is_empty() {
            return;
        }
        let new = self.stream_config(name);
        let config = if self.rng.u8(..8) == 0 { configs::sealed(&old) } else { configs::changed(&old, new) };
        self.trace.line(|| format!("update {config:?}"));
        self.process.update_stream(key, config);
        self.call = Some(Call::Update(group));
        if let Some(stream) = self.facts.streams.get_mut(&group) {
            stream.is_changing = true;
        }
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
        // What a purge skips in a mirror that mirror does not take.
        if stream.model.config.mirror.is_some() {
            return;
        }
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
