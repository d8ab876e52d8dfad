//! What nodes want done, and what they are asked for.

use std::time::Duration;

use bytes::Bytes;
use linnet_ids::{LogIndex, PeerId};
use linnet_raft::{
    Change, Effect, Entry, Message, Node, Refused, Replica, Snapshot, Standing, WriteNo, is_reserved,
};

use crate::disk::Write;
use crate::mutation::Mutation;
use crate::world::{Event, World};

/// A message may be delivered this long after it was sent, also to a later life.
const IN_FLIGHT_MAX: usize = 400;

impl World {
    pub(crate) fn carry_out(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            self.carry_out_one(at, effect);
        }
        if self.has(Mutation::AcknowledgedBeforeSync)
            && let Some(no) = self.servers[at].disk.newest()
            && no > self.servers[at].reported
        {
            self.report_durable(at, no);
        }
        let now = self.now;
        let mut out = Vec::new();
        if let Some(node) = self.servers[at].node.as_mut() {
            node.flush(now, &mut out);
        }
        if out.is_empty() {
            self.servers[at].timer = self.servers[at].node.as_ref().and_then(Node::next_timeout);
        } else {
            self.carry_out(at, out);
        }
        let outcome = self.check_progress(at);
        self.require(outcome);
    }

    fn carry_out_one(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Append { write, .. } | Effect::HardState { write, .. } => {
                self.write(at, write, effect);
            }
            Effect::Install { .. } => {}
            Effect::Send(message) => self.send(at, message),
            Effect::Committed(index) => self.commit(at, index),
            Effect::Standing(standing) => self.stand(at, standing),
            Effect::Read { peer: to, from, bytes_max } => self.read_log(at, to, from, bytes_max),
            Effect::SnapshotWanted { peer: to } => self.give_snapshot(at, to),
            Effect::SnapshotOffered(snapshot) => self.take_snapshot(at, &snapshot),
            Effect::ReadsConfirmed { number, index } => self.reads_confirmed(at, number, index),
            Effect::ReadsDropped => self.reads.retain(|(peer, _), _| *peer != self.servers[at].peer),
            Effect::Halted(fault) if self.is_rescued => self.note(|_| format!("n{at} halted: {fault}")),
            Effect::Halted(fault) => self.fail(&format!("{:?} halted: {fault}", self.servers[at].peer)),
            Effect::Remembers => self.readmitted(at),
            Effect::Amnesiac => self.forgotten(at),
            Effect::Members(members) => {
                self.note(|world| format!("n{at} has members {}", world.tell_members(&members)))
            }
        }
    }

    fn write(&mut self, at: usize, write: WriteNo, effect: Effect) {
        let is_entry = matches!(effect, Effect::Append { .. });
        let effect = self.mutate_write(at, effect);
        self.servers[at].disk.write(Some(write), Write::Effect(effect));
        if is_entry {
            let outcome = self.check_append(at);
            self.require(outcome);
        }
    }

    pub(crate) fn report_durable(&mut self, at: usize, no: WriteNo) {
        self.servers[at].reported = no;
        self.with(at, |node, now, out| node.on_durable(now, no, out));
    }

    fn readmitted(&mut self, at: usize) {
        self.note(|_| format!("n{at} remembers"));
        self.count(Event::Readmitted);
        let life = self.life(at);
        let outcome = self.check_counts(at, life);
        self.require(outcome);
    }

    /// The life that its disk is in is over.
    fn forgotten(&mut self, at: usize) {
        self.know_life(self.life(at));
        self.note(|_| format!("n{at} is amnesiac"));
        let image = self.servers[at].disk.durable.clone();
        if let Some(hard) = &image.hard {
            let life = Replica { peer: self.servers[at].peer, incarnation: hard.incarnation };
            self.ghost.depart(life, image);
        }
    }

    pub(crate) fn life(&self, at: usize) -> Replica {
        let incarnation = self.node(at).map_or(0, Node::incarnation);
        Replica { peer: self.servers[at].peer, incarnation }
    }

    fn send(&mut self, at: usize, message: Message) {
        let outcome = self.check_promise(at, &message);
        self.require(outcome);
        if self.is_mail_a_set && self.network.contains(&message) {
            return;
        }
        if self.network.len() >= IN_FLIGHT_MAX {
            let lost = self.random.usize(..self.network.len());
            self.network.swap_remove(lost);
        }
        self.network.push(message);
    }

    /// Entries up to `index` are committed, says a replica.
    fn commit(&mut self, at: usize, index: LogIndex) {
        for index in self.servers[at].applied + 1..=index {
            let Some(entry) = self.servers[at].disk.visible.entry(index).cloned() else {
                self.fail(&format!("n{at} says {index} is committed and does not have it"))
            };
            match self.ghost.commit(index, &entry) {
                Ok(true) => self.require(self.check_release(at, index)),
                Ok(false) => {}
                Err(text) => self.require(Err(format!("n{at}: {text}"))),
            }
            self.note(|world| format!("n{at} applies {index}: {}", world.tell_entry(&entry)));
            self.acknowledge(at, index, &entry);
            let server = &mut self.servers[at];
            server.state = next_state(server.state, &entry.payload);
            server.applied = index;
        }
        self.with(at, |node, _, out| node.on_applied(index, out));
    }

    fn acknowledge(&mut self, at: usize, index: LogIndex, entry: &Entry) {
        let peer = self.servers[at].peer;
        let is_own = self.servers[at].node.as_ref().is_some_and(|n| n.is_leading());
        let proposed = self.proposed.get(&(peer, index));
        if is_own && proposed.is_some_and(|(term, payload)| *term == entry.term && *payload == entry.payload)
        {
            self.ghost.acknowledged.insert(index, entry.payload.clone());
            self.note(|_| format!("n{at} acknowledges {index}"));
            self.count(Event::Acknowledged);
        }
    }

    fn stand(&mut self, at: usize, standing: Standing) {
        self.note(|world| world.tell_standing(at, standing));
        if let Standing::Elected(term) = standing {
            self.count(Event::LeaderElected);
            let outcome = self.check_elected(at, term);
            self.require(outcome);
        }
        self.servers[at].standing = standing;
    }

    fn read_log(&mut self, at: usize, to: PeerId, from: LogIndex, bytes_max: usize) {
        self.count(Event::FromDisk);
        let image = &self.servers[at].disk.visible;
        let mut bytes = 0;
        let entries: Vec<Entry> = (from..=image.last().index)
            .map_while(|index| image.entry(index).cloned())
            .take_while(|entry| {
                bytes += entry.payload.len();
                bytes <= bytes_max
            })
            .collect();
        let previous = if from > image.base.index { image.point(from - 1) } else { image.base };
        self.with(at, |node, now, out| node.on_read(now, to, previous, entries, out));
    }

    fn give_snapshot(&mut self, at: usize, to: PeerId) {
        let server = &self.servers[at];
        let image = &server.disk.visible;
        let body = Bytes::copy_from_slice(&image.state.to_le_bytes());
        let last = image.base;
        let is_later_hidden = self.has(Mutation::MembersOfLater);
        self.with(at, |node, now, out| {
            let (since, membership) = node.members_at(last.index);
            let membership = membership.clone();
            let since = if is_later_hidden { since.min(last.index) } else { since };
            node.send_snapshot(now, to, Snapshot { last, membership, since, body }, out);
        });
    }

    fn take_snapshot(&mut self, at: usize, snapshot: &Snapshot) {
        let mut out = Vec::new();
        let now = self.now;
        let Some(node) = self.servers[at].node.as_mut() else { return };
        if !node.install(now, snapshot, &mut out) {
            return self.carry_out(at, out);
        }
        let state = u64::from_le_bytes(snapshot.body[..].try_into().unwrap());
        let server = &mut self.servers[at];
        for effect in &out {
            if let Effect::Install { last, state: hard, write } = effect
                && self.mutation != Some(Mutation::InstallNotPersisted)
            {
                let install = Write::Install { last: *last, hard: hard.clone(), state };
                server.disk.write(Some(*write), install);
            }
        }
        (server.state, server.applied) = (state, snapshot.last.index);
        self.note(|_| format!("n{at} begins anew behind {}", snapshot.last.index));
        self.count(Event::SnapshotInstalled);
        self.carry_out(at, out);
    }

    fn reads_confirmed(&mut self, at: usize, number: u64, index: LogIndex) {
        let peer = self.servers[at].peer;
        let ready: Vec<u64> = self.reads.range((peer, 0)..=(peer, number)).map(|((_, n), _)| *n).collect();
        for number in ready {
            let Some(asked_at) = self.reads.remove(&(peer, number)) else { continue };
            if index < asked_at {
                self.fail(&format!(
                    "n{at} would answer a read from {index}, {asked_at} was acknowledged before"
                ));
            }
            self.note(|_| format!("n{at} may answer read {number} from {index}"));
            self.count(Event::ReadConfirmed);
        }
    }

    /// Somebody asks a server that takes itself for the leader.
    pub(crate) fn propose(&mut self, at: usize) {
        self.next_value += 1;
        let payload = Bytes::from(format!("v{}", self.next_value));
        if self.node(at).is_some_and(Node::is_leading) {
            // Whoever is refused asks again, or not.
            let _ = self.propose_value(at, payload);
        }
    }

    pub(crate) fn propose_value(&mut self, at: usize, payload: Bytes) -> Result<LogIndex, Refused> {
        let term = self.node(at).map_or(0, |n| n.status().term);
        let peer = self.servers[at].peer;
        let mut out = Vec::new();
        let node = self.servers[at].node.as_mut().ok_or(Refused::NotLeader)?;
        let result = node.propose([payload.clone()], &mut out);
        if let Ok(index) = result {
            self.proposed.insert((peer, index), (term, payload));
        }
        self.carry_out(at, out);
        result
    }

    pub(crate) fn read(&mut self, at: usize) -> Result<(), Refused> {
        self.next_read += 1;
        let number = self.next_read;
        let newest = self.ghost.acknowledged.keys().next_back().copied().unwrap_or(0);
        let peer = self.servers[at].peer;
        self.reads.insert((peer, number), newest);
        let result = self.with(at, |node, _, out| node.read(number, out)).unwrap_or(Err(Refused::NotLeader));
        if result.is_err() {
            self.reads.remove(&(peer, number));
        } else if self.has(Mutation::ReadUnconfirmed) {
            self.reads_confirmed(at, number, self.servers[at].applied);
        }
        result
    }

    pub(crate) fn change(&mut self, at: usize, change: Change) -> Result<LogIndex, Refused> {
        let result = self
            .with(at, |node, now, out| node.change_membership(now, change, out))
            .unwrap_or(Err(Refused::NotLeader));
        if result.is_ok() {
            self.count(match change {
                Change::Add(_) => Event::MemberAdded,
                Change::Promote(_) => Event::MemberPromoted,
                _ => Event::MemberRemoved,
            });
        }
        result
    }

    pub(crate) fn transfer(&mut self, at: usize, to: PeerId) -> Result<(), Refused> {
        let within = Duration::from_secs(1);
        let result =
            self.with(at, |node, now, _| node.transfer(now, to, within)).unwrap_or(Err(Refused::NotLeader));
        if result.is_ok() {
            self.count(Event::Transfer);
        }
        result
    }

    /// Makes a checkpoint of what is applied.
    pub(crate) fn checkpoint(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if server.node.is_none() {
            return;
        }
        let is_ahead = self.mutation == Some(Mutation::CheckpointAhead);
        let applied = if is_ahead { server.disk.visible.last().index } else { server.applied };
        if applied <= server.disk.visible.base.index {
            return;
        }
        let to = server.disk.visible.point(applied);
        server.disk.write(None, Write::Checkpoint { to, state: server.state });
        // The checkpoint is durable before the log forgets anything.
        let waits = server.disk.waits();
        if let Some(no) = server.disk.sync(waits) {
            self.report_durable(at, no);
        }
        self.with(at, |node, _, _| node.compact(to));
    }
}

fn next_state(state: u64, payload: &[u8]) -> u64 {
    if is_reserved(payload) { state } else { linnet_ids::fold(state, u64::from(crc32fast::hash(payload))) }
}
