//! After an opening: the evidence is held against what was found, and becomes the base of what follows.

use std::path::{Path, PathBuf};

use linnet_env::{DamageKind, Disk};
use linnet_ids::GroupId;
use linnet_jsapi::policies::{RetentionPolicy, StorageType};
use linnet_replication::{Host as _, Restored};
use linnet_seal::HEADER_BYTES;
use linnet_store::Filter;
use linnet_wal::{FoundDamageKind, Report};

use crate::facts::StreamFacts;
use crate::invariants::{Check, broken, consumers, content, damage, durability, state};
use crate::model::{Model, ModelConsumer};
use crate::process::GroupKey;
use crate::restore::{Found, FoundStream};
use crate::world::World;

impl World {
    /// Checks every stream that was found and lets the evidence follow it.
    pub(crate) fn adopt(&mut self, found: Found) -> Check {
        let adopted = self.adopt_all(found);
        self.facts.streams.values_mut().for_each(StreamFacts::forget_requests);
        adopted
    }

    fn adopt_all(&mut self, found: Found) -> Check {
        let Found { meta, meta_last, streams, report } = found;
        // A durable batch that no later one vouches for and that rots looks unfinished: outside the promise.
        self.may_look_torn = self.was_unsealed && report.torn_tail.is_some();
        let meta_is_whole = is_whole(&meta);
        self.keep_damaged(&streams, &report);
        self.adopt_stream(GroupId::META, meta_last, &meta)?;
        let mut here = vec![GroupId::META];
        for stream in streams {
            here.push(stream.group);
            match &stream.outcome {
                Ok(_) if stream.ended => {}
                Ok(restored) => self.adopt_stream(stream.group, stream.last, restored)?,
                Err(reason) => {
                    self.trace.line(|| format!("{} is not served: {reason}", stream.name));
                    here.pop();
                }
            }
        }
        let gone: Vec<GroupId> = self.facts.streams.keys().copied().filter(|g| !here.contains(g)).collect();
        for group in gone {
            let Some(stream) = self.facts.streams.get_mut(&group) else { continue };
            if stream.created && !stream.ending && self.is_damaged && meta_is_whole {
                let named = self.process.key_of(group).is_some();
                self.trace.line(|| format!("{} is gone, named {named}", group));
            }
            stream.ending = true;
        }
        Ok(())
    }

    fn adopt_stream(&mut self, group: GroupId, last: Option<u64>, restored: &Restored) -> Check {
        let Some(key) = self.process.key_of(group) else { return Ok(()) };
        let Some(mut stream) = self.facts.streams.remove(&group) else {
            return broken("answered", format!("group {group} is there and nobody made it"));
        };
        let adopted = self.adopt_into(&mut stream, key, last, restored);
        self.facts.streams.insert(group, stream);
        adopted
    }

    fn adopt_into(
        &mut self,
        stream: &mut StreamFacts,
        key: GroupKey,
        last: Option<u64>,
        restored: &Restored,
    ) -> Check {
        let Some(slot) = self.process.slots.get_mut(&key) else { return Ok(()) };
        stream.created = true;
        let was_ending = std::mem::take(&mut stream.ending);
        // Its deletion was answered, its floor went with its directory, and now the log does not know.
        stream.model.removed.clear();
        let came_back = std::mem::take(&mut stream.ended);
        let saved = slot.group.stream().saved();
        self.trace.line(|| {
            let (applied, name) = (stream.applied, &stream.name);
            format!("{name}: log ends at {last:?}, {applied} applied before, {restored:?}")
        });
        if saved.config.storage == StorageType::Memory {
            let may_differ = self.is_damaged || stream.is_changing;
            if !may_differ && saved.config != stream.model.config {
                return broken("state", format!("{}: the configuration is another one", stream.name));
            }
            let last = slot.group.stream().store().state().last_seq;
            self.held.retain(|held| held.group != stream.group);
            stream.lost_floor |= came_back || (was_ending && self.is_damaged);
            return stream.restart_in_memory(saved.config, last);
        }
        let store = slot.group.stream_mut().store_mut();
        if self.is_damaged {
            let last = last.unwrap_or(0);
            let kept = stream.applied.min(last);
            let _ = stream.entries.split_off(&(last + 1));
            if kept == stream.applied {
                stream.apply_while(&self.facts.evidence(i64::MAX), |index, _| index <= last)?;
            }
            damage::is_contained(stream, store, restored, self.may_look_torn)?;
            stream.is_lossy = true;
            stream.entries.clear();
            stream.applied = last;
            let mut model = Model::new(saved.config.clone());
            model.last = store.state().last_seq;
            model.has_begun = store.state().first_seq > 0;
            model.ttls = saved.ttls.iter().copied().collect();
            let mut next = 0;
            while let Some(seq) = store.next(next, &Filter::all()) {
                next = seq + 1;
                // One that cannot be read is there all the same: limits and purges count it.
                let read = content::read(store, seq).ok();
                if let Some(message) = read.or_else(|| stream.model.messages.get(&seq).cloned()) {
                    model.messages.insert(seq, message);
                }
            }
            for (seq, due) in &saved.schedules {
                if let Some(message) = model.messages.get(seq) {
                    model.schedules.insert(message.subject.clone(), (*seq, *due));
                }
            }
            for attach in saved.consumers {
                let state = attach.state.unwrap_or_default();
                let consumer = ModelConsumer::new(last, attach.config, &state);
                model.consumers.insert(attach.name, consumer);
            }
            if self.may_look_torn || came_back {
                stream.visible_last = model.last;
                stream.acked.retain(|seq, _| *seq <= model.last);
            }
            stream.model = model;
            return Ok(());
        }
        if !is_whole(restored) {
            return broken("damage", format!("{}: damage is reported: {restored:?}", stream.name));
        }
        durability::log_reaches(stream, last.unwrap_or(0))?;
        match last {
            None => stream.restart_empty(),
            Some(last) => {
                let _ = stream.entries.split_off(&(last + 1));
                let evidence = self.facts.evidence(self.facts.max_wall);
                stream.apply_while(&evidence, |index, _| index <= last)?;
                stream.model.removed.clear();
                state::equals_model(stream, store)?;
                state::subjects_equal_model(stream, store)?;
                state::assets_equal_model(stream, &saved)?;
                content::holds_all(stream, store)?;
            }
        }
        for attach in &saved.consumers {
            if let Some(consumer) = stream.model.consumers.get(&attach.name)
                && let Some(facts) = stream.consumers.get(&(attach.name.clone(), consumer.born))
                && !consumer.config.sourcing
            {
                consumers::keeps_promises(stream, attach, facts)?;
            }
        }
        if stream.model.config.retention == RetentionPolicy::Limits {
            // A checkpoint may know more of what its consumers did than the log does.
            for attach in &saved.consumers {
                let consumer = stream.model.consumers.get_mut(&attach.name);
                if let Some((consumer, state)) = consumer.zip(attach.state.as_ref()) {
                    consumer.go_on_from(state);
                }
            }
        }
        Ok(())
    }

    /// Blocks of which nothing can be read, and segments of which something cannot, stay on disk, aside.
    fn keep_damaged(&mut self, streams: &[FoundStream], report: &Report) {
        let found = report.damages.iter().filter(|d| d.kind != FoundDamageKind::Recorded);
        for no in found.map(|d| d.segment).filter(|no| *no != report.new_segment) {
            let names = ["wal", "quarantine"]
                .map(|dir| PathBuf::from(format!("/store/jetstream/{dir}/{no:010}.wal")));
            // One that rotted to zeros is a blank segment like any other.
            let header = if self.ring.is_some() { HEADER_BYTES } else { 0 };
            let content =
                |bytes: &[u8]| bytes.iter().skip(usize::try_from(header).unwrap_or(0)).all(|b| *b == 0);
            let is_blank = self.disk.read(&names[0]).is_ok_and(|bytes| content(&bytes));
            if !is_blank {
                self.keep(names);
            }
        }
        for restored in streams.iter().filter_map(|s| s.outcome.as_ref().ok()) {
            for path in &restored.ruined {
                let aside =
                    path.parent().zip(path.file_name()).map(|(dir, name)| dir.join("quarantine").join(name));
                self.keep([path.clone(), aside.unwrap_or_default()]);
            }
        }
    }

    fn keep(&mut self, names: [PathBuf; 2]) {
        if names.iter().any(|name| self.disk.exists(name).unwrap_or(false)) {
            self.kept.push(names);
        }
    }

    /// Damages something that is stored.
    pub(crate) fn damage(&mut self) -> Check {
        damage::nothing_is_deleted(&self.disk, &self.kept)?;
        self.damages += 1;
        for _ in 0..self.rng.u8(1..3) {
            let kind = DamageKind::ALL[self.rng.usize(..DamageKind::ALL.len())];
            let dir = if self.rng.bool() { "/store/jetstream/groups" } else { "/store/jetstream/wal" };
            let seed = self.rng.u64(..);
            if let Some((path, sector)) = self.disk.damage_at_random(Path::new(dir), kind, seed) {
                self.is_damaged = true;
                self.trace.line(|| format!("damage: {kind:?} of sector {sector} of {}", path.display()));
            }
        }
        let disk = &self.disk;
        self.kept.retain(|names| names.iter().any(|name| disk.exists(name).unwrap_or(true)));
        Ok(())
    }
}

fn is_whole(restored: &Restored) -> bool {
    restored.damage.is_none() && restored.lost.is_empty() && restored.lost_entries.is_empty()
}
