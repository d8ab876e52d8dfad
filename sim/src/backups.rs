//! Backups that clients take of streams, and streams that they restore from them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use linnet_assets::{Attach, Command, Entry, RestoreMark, RestorePart, Snapshot};
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::DeliverPolicy;
use linnet_replication::{Assignment, Change, Site};
use linnet_store::{Seed, encode_record};

use crate::facts::StreamFacts;
use crate::flows::Waiter;
use crate::invariants::{Check, backups, broken};
use crate::model::Message;
use crate::process::{GroupKey, Process};
use crate::questions::Ask;
use crate::restore::{FLOOR_STEP, place};
use crate::world::{Call, World, usable};

/// Backups that clients keep.
const KEPT: usize = 3;
/// Name of a restored stream whose own name is taken.
const COPY: &str = "R";
/// Messages that are sent at once.
const PART: usize = 3;

/// A stream at one moment, not read yet.
pub(crate) struct Taken {
    group: GroupId,
    name: String,
    snapshot: Arc<Snapshot>,
    expected: BTreeMap<u64, Message>,
}

/// A stream as a client keeps it.
#[derive(Clone)]
pub(crate) struct Backup {
    config: StreamConfig,
    last: (u64, Option<Wall>),
    messages: BTreeMap<u64, Message>,
    consumers: Vec<Attach>,
}

/// A stream that is being restored.
pub(crate) struct UnderWay {
    group: GroupId,
    key: GroupKey,
    assignment: Assignment,
    /// Parts that are not answered.
    left: usize,
    /// Consumers that come behind the messages.
    consumers: Vec<Attach>,
}

impl World {
    /// Takes a backup, reads one that was taken, or restores a stream.
    pub(crate) fn back_up(&mut self) -> Check {
        match self.rng.u8(..3) {
            0 => self.take_snapshot(),
            1 => return self.read_snapshot(),
            _ => self.restore(),
        }
        Ok(())
    }

    fn take_snapshot(&mut self) {
        let streams = usable(self);
        let own: Vec<GroupId> = streams
            .values()
            .filter(|group| {
                self.facts.streams.get(group).is_some_and(|s| !s.model.config.subjects.is_empty())
            })
            .copied()
            .collect();
        if let Some(group) = own.get(self.rng.usize(..own.len().max(1))) {
            self.call_stream(*group, Command::Snapshot { consumers: true }, Ask::Other);
        }
    }

    /// The stream answered with what it was at this moment.
    pub(crate) fn snapshot_taken(&mut self, snapshot: &Arc<Snapshot>) {
        let name = &snapshot.config.name;
        let of = self.facts.streams.values().find(|s| s.name == *name && s.created && !s.ending);
        if let Some(stream) = of.filter(|stream| !stream.is_lossy) {
            let expected = stream.model.messages.clone();
            let (group, name, snapshot) = (stream.group, name.clone(), snapshot.clone());
            self.taken.push(Taken { group, name, snapshot, expected });
        }
    }

    fn read_snapshot(&mut self) -> Check {
        let Some(Taken { group, name, snapshot, expected }) = self.taken.pop() else { return Ok(()) };
        // The files of a stream go with it, whoever reads them.
        let is_gone = self.facts.streams.get(&group).is_none_or(|stream| stream.ending);
        let Some(pinned) = snapshot.messages.lock().take() else { return Ok(()) };
        let mut reader = pinned.read();
        let mut messages = BTreeMap::new();
        loop {
            match reader.next_record() {
                Ok(Some(record)) => messages.insert(
                    record.seq,
                    Message {
                        subject: record.subject.to_vec(),
                        headers: record.headers.to_vec(),
                        payload: record.payload.to_vec(),
                        time: record.timestamp.0,
                    },
                ),
                Ok(None) => break,
                Err(error) if is_gone || self.is_damaged || self.disk.is_off() => {
                    self.trace.line(|| format!("the snapshot of {name} cannot be read: {error}"));
                    return Ok(());
                }
                Err(error) => return broken("backups", format!("{name}: {error}")),
            };
        }
        backups::is_as_it_was(&name, &messages, &expected)?;
        let is_simple =
            |c: &Attach| !c.config.sourcing && c.config.deliver_policy != DeliverPolicy::LastPerSubject;
        let backup = Backup {
            config: snapshot.config.clone(),
            last: (snapshot.state.last_seq, snapshot.state.last_ts),
            messages,
            consumers: snapshot.consumers.iter().filter(|c| is_simple(c)).cloned().collect(),
        };
        self.backups.truncate(KEPT - 1);
        self.backups.insert(0, backup);
        self.totals.backups += 1;
        Ok(())
    }

    /// Begins to restore a stream, beside the one of its name if that is there.
    fn restore(&mut self) {
        if self.call.is_some() || self.process.log_failure.is_some() || self.disk.is_off() {
            return;
        }
        let is_free = |name: &str| !self.facts.streams.values().any(|s| s.name == name && !s.ending);
        let Some(mut backup) = self.backups.first().cloned() else { return };
        if !is_free(&backup.config.name) {
            COPY.clone_into(&mut backup.config.name);
        }
        if !is_free(&backup.config.name) {
            return;
        }
        let random = self.rng.u64(..);
        let (config, last) = (backup.config.clone(), backup.last);
        let Ok((group, key, assignment)) = self.process.begin_restored(config.clone(), last.0, random) else {
            return;
        };
        self.trace.line(|| format!("restore {} as {group}", config.name));
        let mut facts = StreamFacts::new(&backup.config.name, group, config);
        facts.backup = Some(backup.messages.clone());
        facts.model.begin_restoring();
        self.facts.streams.insert(group, facts);
        self.call = Some(Call::Create(group));
        let mut parts: Vec<RestorePart> = parts_of(group, &backup.messages);
        parts.push(RestorePart::Mark(RestoreMark::Position {
            last_seq: last.0,
            last_ts: last.1.map(|time| time.0),
        }));
        let left = parts.len();
        self.restoring = Some(UnderWay { group, key, assignment, left, consumers: backup.consumers });
        parts.into_iter().for_each(|part| self.process.send_part(key, part));
    }

    /// A part of a backup was taken, or was not.
    pub(crate) fn part_answered(&mut self, ok: bool) {
        let Some(mut under_way) = self.restoring.take() else { return };
        if !ok {
            self.call = None;
            if let Some(stream) = self.facts.streams.get_mut(&under_way.group) {
                stream.ending = true;
            }
            return;
        }
        under_way.left -= 1;
        if under_way.left > 0 {
            self.restoring = Some(under_way);
            return;
        }
        let (key, consumers) = (under_way.key, std::mem::take(&mut under_way.consumers));
        if consumers.is_empty() {
            let change = Change::finish_restore(under_way.assignment);
            self.process.start(change, Some(key), true);
            return;
        }
        under_way.left = consumers.len();
        self.restoring = Some(under_way);
        for attach in consumers {
            self.process.send_part(key, RestorePart::Consumer(Box::new(attach)));
        }
    }
}

impl Process {
    fn begin_restored(
        &mut self,
        config: StreamConfig,
        last: u64,
        random: u64,
    ) -> io::Result<(GroupId, GroupKey, Assignment)> {
        let group = GroupId { epoch: 0, meta_index: self.next_meta_index, random };
        self.next_meta_index += 1;
        let at = self.at();
        let account = "$G".to_owned();
        let assignment = Assignment {
            account,
            group: group.to_string(),
            created: at.wall.0,
            live: false,
            members: Vec::new(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config,
        };
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        let site = Site { disk, dir, place: place(), floor_step: FLOOR_STEP };
        let solo = assignment.begin_restored(group, &site, last, at.now)?;
        Ok((group, self.install(None, solo, None), assignment))
    }

    fn send_part(&mut self, key: GroupKey, part: RestorePart) {
        let token = self.expect(Waiter::Restore);
        self.command(key, Command::Restore(part), token);
    }
}

/// The messages as entries of the group that is to have them.
fn parts_of(group: GroupId, messages: &BTreeMap<u64, Message>) -> Vec<RestorePart> {
    let all: Vec<(&u64, &Message)> = messages.iter().collect();
    let parts = all.chunks(PART).map(|part| {
        let mut bytes = vec![Entry::MESSAGES_KIND];
        for (seq, message) in part {
            let body = [message.headers.as_slice(), &message.payload].concat();
            let (time, header_len) = (Wall(message.time), message.headers.len());
            encode_record(&mut bytes, Seed::of(group), **seq, time, &message.subject, header_len, &body);
        }
        RestorePart::Messages(bytes)
    });
    parts.collect()
}
