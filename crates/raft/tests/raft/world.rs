//! A group of production nodes over fake disks, a fake network and a fake clock, driven by one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use linnet_ids::{GroupId, LogIndex, Mono, PeerId, Term};
use linnet_raft::{
    Change, Effect, Entry, Member, Membership, Message, Node, Opening, Replica, Snapshot, Standing,
    is_reserved,
};

use crate::disk::{Disk, Write};

pub(crate) const GROUP: GroupId = GroupId { epoch: 0, meta_index: 7, random: 99 };

/// A message may be delivered this long after it was sent, also to a later life.
const IN_FLIGHT_MAX: usize = 400;

pub(crate) fn peer(n: usize) -> PeerId {
    PeerId::of_name(&format!("n{n}"))
}

/// A server with a replica.
pub(crate) struct Server {
    pub(crate) peer: PeerId,
    pub(crate) node: Option<Node>,
    pub(crate) disk: Disk,
    /// As what it begins while its disk has nothing of the group and never had.
    founding: Option<Opening>,
    /// A disk that was taken out and may come back.
    old_disk: Option<Disk>,
    /// Hash of everything applied, and up to where.
    pub(crate) state: u64,
    pub(crate) applied: LogIndex,
    released: LogIndex,
    standing: Standing,
    timer: Option<Mono>,
}

/// Kinds of faults, to count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Crash,
    Wipe,
    Remount,
    Partition,
    Drop,
    Duplicate,
    LeaderElected,
    SnapshotInstalled,
    MemberAdded,
    MemberPromoted,
    MemberRemoved,
    Transfer,
    ReadConfirmed,
    Acknowledged,
    FromDisk,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) random: fastrand::Rng,
    pub(crate) now: Mono,
    pub(crate) servers: Vec<Server>,
    network: Vec<Message>,
    /// Pairs that do not hear each other.
    cut: BTreeSet<(usize, usize)>,
    /// What is committed, as the first one to say so has it.
    pub(crate) committed: BTreeMap<LogIndex, Entry>,
    /// What a publisher was told.
    pub(crate) acknowledged: BTreeMap<LogIndex, Bytes>,
    proposed: BTreeMap<(PeerId, LogIndex), (Term, Bytes)>,
    leaders: BTreeMap<Term, PeerId>,
    reads: BTreeMap<(PeerId, u64), LogIndex>,
    next_read: u64,
    next_value: u64,
    pub(crate) events: BTreeMap<Event, u64>,
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    /// `voters` of `servers` found the group.
    pub(crate) fn new(seed: u64, servers: usize, voters: usize) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let founders: Vec<Replica> =
            (0..voters).map(|n| Replica { peer: peer(n), incarnation: n as u64 + 1 }).collect();
        let mut world = Self {
            seed,
            random,
            now: Mono(1),
            servers: (0..servers).map(Server::new).collect(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            committed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            proposed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_read: 0,
            next_value: 0,
            events: BTreeMap::new(),
            trace: std::env::var_os("LINNET_TRACE").map(|_| Vec::new()),
        };
        let membership = Membership::of_voters(founders.clone());
        for (at, me) in founders.into_iter().enumerate() {
            let seed = world.random.u64(..);
            let opening = Opening::founding(GROUP, me, membership.clone(), seed);
            world.servers[at].disk.durable.members = membership.clone();
            world.servers[at].disk.visible.members = membership.clone();
            world.servers[at].founding = Some(opening.clone());
            world.open(at, opening);
        }
        world
    }

    pub(crate) fn count(&mut self, event: Event) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>9} {}", self.now.0 / 1000, text()));
        }
    }

    fn fail(&self, text: &str) -> ! {
        for server in &self.servers {
            if let Some(node) = &server.node {
                eprintln!("{:?} {} {:?}", server.peer, node.incarnation(), node.status());
                for other in &self.servers {
                    eprintln!("  {:?} {:?}", other.peer, node.progress(other.peer));
                }
            }
        }
        for line in self.trace.iter().flatten() {
            eprintln!("{line}");
        }
        panic!("seed {}: {text}", self.seed);
    }

    fn open(&mut self, at: usize, opening: Opening) {
        let mut out = Vec::new();
        let (now, base) = (self.now, opening.base.index);
        let mut node = Node::open(opening, now, &mut out);
        for other in 0..self.servers.len() {
            if other != at && self.servers[other].node.is_some() && self.hears(at, other) {
                node.set_reachable(now, peer(other), true, &mut out);
            }
        }
        let server = &mut self.servers[at];
        server.node = Some(node);
        (server.state, server.applied, server.released) = (server.disk.durable.state, base, base);
        server.standing = Standing::Leaderless;
        self.carry_out(at, out);
        for other in 0..self.servers.len() {
            if other != at && self.hears(at, other) {
                self.with(other, |node, now, out| {
                    node.set_reachable(now, peer(at), true, out);
                    node.on_restarted(now, peer(at), out);
                });
            }
        }
    }

    pub(crate) fn hears(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a.min(b), a.max(b)))
    }

    /// Lets a node act, then does what it wants.
    pub(crate) fn with<R>(
        &mut self,
        at: usize,
        act: impl FnOnce(&mut Node, Mono, &mut Vec<Effect>) -> R,
    ) -> Option<R> {
        let mut out = Vec::new();
        let now = self.now;
        let node = self.servers[at].node.as_mut()?;
        let result = act(node, now, &mut out);
        self.carry_out(at, out);
        Some(result)
    }

    fn carry_out(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            self.carry_out_one(at, effect);
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
    }

    fn carry_out_one(&mut self, at: usize, effect: Effect) {
        match effect {
            Effect::Append { write, .. } | Effect::HardState { write, .. } => {
                self.servers[at].disk.write(Some(write), Write::Effect(effect));
            }
            Effect::Install { .. } => {}
            Effect::Send(message) => self.send(message),
            Effect::Committed(index) => self.commit(at, index),
            Effect::Standing(standing) => self.stand(at, standing),
            Effect::Read { peer: to, from, bytes_max } => self.read_log(at, to, from, bytes_max),
            Effect::SnapshotWanted { peer: to } => self.give_snapshot(at, to),
            Effect::SnapshotOffered(snapshot) => self.take_snapshot(at, &snapshot),
            Effect::ReadsConfirmed { number, index } => self.reads_confirmed(at, number, index),
            Effect::ReadsDropped => self.reads.retain(|(peer, _), _| *peer != self.servers[at].peer),
            Effect::Halted(fault) => self.fail(&format!("{:?} halted: {fault}", self.servers[at].peer)),
            Effect::Remembers => self.note(|| format!("n{at} remembers")),
            Effect::Amnesiac => self.note(|| format!("n{at} is amnesiac")),
            Effect::Members(members) => self.note(|| format!("n{at} members {members:?}")),
        }
    }

    fn send(&mut self, message: Message) {
        self.note(|| format!("send {message:?}"));
        if self.network.len() >= IN_FLIGHT_MAX {
            let lost = self.random.usize(..self.network.len());
            self.network.swap_remove(lost);
        }
        self.network.push(message);
    }

    /// Entries up to `index` are committed, says a replica.
    fn commit(&mut self, at: usize, index: LogIndex) {
        self.servers[at].released = index;
        for index in self.servers[at].applied + 1..=index {
            let Some(entry) = self.servers[at].disk.visible.entry(index).cloned() else {
                self.fail(&format!("n{at} says {index} is committed and does not have it"))
            };
            match self.committed.get(&index) {
                Some(known) if *known != entry => {
                    let text = format!("n{at} commits {entry:?} at {index}, where {known:?} was committed");
                    self.fail(&text)
                }
                Some(_) => {}
                None => {
                    self.committed.insert(index, entry.clone());
                }
            }
            self.note(|| format!("n{at} applies {index} of term {}", entry.term));
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
            self.acknowledged.insert(index, entry.payload.clone());
            self.count(Event::Acknowledged);
        }
    }

    fn stand(&mut self, at: usize, standing: Standing) {
        self.note(|| format!("n{at} {standing:?}"));
        let peer = self.servers[at].peer;
        if let Standing::Elected(term) = standing {
            self.count(Event::LeaderElected);
            if let Some(other) = self.leaders.insert(term, peer)
                && other != peer
            {
                self.fail(&format!("{other:?} and {peer:?} lead in term {term}"));
            }
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
        let snapshot = Snapshot { last: image.base, membership: image.members.clone(), body };
        self.with(at, |node, now, out| node.send_snapshot(now, to, snapshot, out));
    }

    fn take_snapshot(&mut self, at: usize, snapshot: &Snapshot) {
        let mut out = Vec::new();
        let now = self.now;
        let Some(node) = self.servers[at].node.as_mut() else { return };
        if !node.install(now, snapshot, &mut out) {
            return self.carry_out(at, out);
        }
        let state = u64::from_le_bytes(snapshot.body[..].try_into().unwrap());
        let members = snapshot.membership.clone();
        let server = &mut self.servers[at];
        for effect in &out {
            if let Effect::Install { last, state: hard, write } = effect {
                let install =
                    Write::Install { last: *last, hard: hard.clone(), state, members: members.clone() };
                server.disk.write(Some(*write), install);
            }
        }
        (server.state, server.applied, server.released) = (state, snapshot.last.index, snapshot.last.index);
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
            self.count(Event::ReadConfirmed);
        }
    }

    /// Somebody asks a server that takes itself for the leader.
    pub(crate) fn propose(&mut self, at: usize) {
        self.next_value += 1;
        let payload = Bytes::from(format!("v{}", self.next_value));
        let term = self.servers[at].node.as_ref().map(|n| n.status().term);
        let peer = self.servers[at].peer;
        let given = payload.clone();
        let mut out = Vec::new();
        let Some(node) = self.servers[at].node.as_mut().filter(|n| n.is_leading()) else { return };
        if let Ok(index) = node.propose([given], &mut out) {
            self.proposed.insert((peer, index), (term.unwrap_or(0), payload));
        }
        self.carry_out(at, out);
    }

    pub(crate) fn read(&mut self, at: usize) {
        self.next_read += 1;
        let number = self.next_read;
        let newest = self.acknowledged.keys().next_back().copied().unwrap_or(0);
        let peer = self.servers[at].peer;
        self.reads.insert((peer, number), newest);
        if !matches!(self.with(at, |node, _, out| node.read(number, out)), Some(Ok(()))) {
            self.reads.remove(&(peer, number));
        }
    }

    pub(crate) fn change(&mut self, at: usize, change: Change) -> bool {
        let done =
            self.with(at, |node, now, out| node.change_membership(now, change, out).is_ok()) == Some(true);
        if done {
            self.count(match change {
                Change::Add(_) => Event::MemberAdded,
                Change::Promote(_) => Event::MemberPromoted,
                _ => Event::MemberRemoved,
            });
        }
        done
    }

    pub(crate) fn transfer(&mut self, at: usize, to: PeerId) {
        let within = Duration::from_secs(1);
        if self.with(at, |node, now, _| node.transfer(now, to, within).is_ok()) == Some(true) {
            self.count(Event::Transfer);
        }
    }

    /// Makes a checkpoint of what is applied.
    pub(crate) fn checkpoint(&mut self, at: usize) {
        let server = &mut self.servers[at];
        let Some(node) = &mut server.node else { return };
        let applied = server.applied;
        if applied <= server.disk.visible.base.index {
            return;
        }
        let to = server.disk.visible.point(applied);
        let members = node.members_at(applied).clone();
        server.disk.write(None, Write::Checkpoint { to, state: server.state, members });
        // The checkpoint is durable before the log forgets anything.
        let waits = server.disk.waits();
        if let Some(no) = server.disk.sync(waits) {
            self.with(at, |node, now, out| node.on_durable(now, no, out));
        }
        self.with(at, |node, _, _| node.compact(to));
    }

    pub(crate) fn sync(&mut self, at: usize, count: usize) {
        let server = &mut self.servers[at];
        let count = count.min(server.disk.waits());
        if server.node.is_some()
            && let Some(no) = server.disk.sync(count)
        {
            self.with(at, |node, now, out| node.on_durable(now, no, out));
        }
    }

    pub(crate) fn crash(&mut self, at: usize) {
        self.count(Event::Crash);
        self.note(|| format!("n{at} crashes"));
        let survivors = self.random.usize(..=self.servers[at].disk.waits());
        let server = &mut self.servers[at];
        server.node = None;
        server.timer = None;
        server.disk.crash(survivors);
        let peer = server.peer;
        self.reads.retain(|(p, _), _| *p != peer);
        for other in 0..self.servers.len() {
            self.with(other, |node, now, out| node.set_reachable(now, peer, false, out));
        }
    }

    pub(crate) fn start(&mut self, at: usize) {
        if self.servers[at].node.is_some() {
            return;
        }
        self.note(|| format!("n{at} starts"));
        let seed = self.random.u64(..);
        let image = &self.servers[at].disk.durable;
        let opening = match &self.servers[at].founding {
            Some(founding) if image.hard.is_none() => Opening { seed, ..founding.clone() },
            _ => image.opening(GROUP, peer(at), seed),
        };
        self.open(at, opening);
    }

    /// A server that the group added begins empty, in the life the group expects.
    pub(crate) fn start_added(&mut self, at: usize, incarnation: u64) {
        let seed = self.random.u64(..);
        let me = Replica { peer: peer(at), incarnation };
        self.servers[at].disk = Disk::new(GROUP);
        let opening = Opening::founding(GROUP, me, Membership::default(), seed);
        self.servers[at].founding = Some(opening.clone());
        self.open(at, opening);
    }

    /// The disk of a stopped server is replaced by an empty one.
    pub(crate) fn wipe(&mut self, at: usize) {
        self.count(Event::Wipe);
        self.note(|| format!("n{at} is wiped"));
        let server = &mut self.servers[at];
        let old = std::mem::replace(&mut server.disk, Disk::new(GROUP));
        server.founding = None;
        server.old_disk.get_or_insert(old);
    }

    /// The disk that was taken out of a stopped server comes back.
    pub(crate) fn remount(&mut self, at: usize) -> bool {
        let Some(old) = self.servers[at].old_disk.take() else { return false };
        self.count(Event::Remount);
        self.note(|| format!("n{at} gets its old disk back"));
        self.servers[at].disk = old;
        // A life belongs to the store that drew it.
        self.servers[at].founding = None;
        true
    }

    /// A server that belongs to the group no more is told so, and gives up what it has of it.
    pub(crate) fn give_up(&mut self, at: usize) {
        if self.servers[at].node.is_some() {
            self.crash(at);
        }
        self.note(|| format!("n{at} gives up"));
        self.servers[at] = Server::new(at);
    }

    pub(crate) fn set_cut(&mut self, a: usize, b: usize, is_cut: bool) {
        let pair = (a.min(b), a.max(b));
        let changed = if is_cut { self.cut.insert(pair) } else { self.cut.remove(&pair) };
        if a == b || !changed {
            return;
        }
        self.note(|| format!("n{a} and n{b} {}", if is_cut { "are cut" } else { "hear each other" }));
        for (at, other) in [(a, b), (b, a)] {
            let is_up = self.servers[other].node.is_some() && !is_cut;
            self.with(at, |node, now, out| node.set_reachable(now, peer(other), is_up, out));
        }
    }

    pub(crate) fn heal_network(&mut self) {
        for (a, b) in self.cut.clone() {
            self.set_cut(a, b, false);
        }
    }

    /// Delivers, loses or repeats one message.
    pub(crate) fn deliver_one(&mut self, is_lossy: bool) {
        if self.network.is_empty() {
            return;
        }
        let at = if self.random.u8(..) < 200 { 0 } else { self.random.usize(..self.network.len()) };
        let kind = if is_lossy { self.random.u8(..100) } else { 50 };
        let message = match kind {
            0..5 => {
                self.count(Event::Drop);
                self.network.remove(at);
                return;
            }
            5..10 => {
                self.count(Event::Duplicate);
                self.network[at].clone()
            }
            _ => self.network.remove(at),
        };
        let of = |peer: PeerId| self.servers.iter().position(|s| s.peer == peer);
        let (Some(from), Some(to)) = (of(message.from.peer), of(message.to.peer)) else { return };
        if !self.hears(from, to) {
            return;
        }
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(&bytes.into()).as_ref(), Ok(&message));
        self.note(|| format!("deliver {message:?}"));
        self.with(to, |node, now, out| node.on_message(now, message, out));
    }

    pub(crate) fn has_mail(&self) -> bool {
        !self.network.is_empty()
    }

    /// Lets time pass until the next timer, at most `limit`.
    pub(crate) fn pass_time(&mut self, limit: Duration) {
        let next = self.servers.iter().filter_map(|s| s.timer).min();
        let limit = self.now + limit;
        self.now = next.map_or(limit, |next| next.min(limit)).max(self.now);
        for at in 0..self.servers.len() {
            if self.servers[at].timer.is_some_and(|due| due <= self.now) {
                self.with(at, |node, now, out| node.on_timeout(now, out));
            }
        }
    }

    /// Everybody who is up, and leads.
    pub(crate) fn leader(&self) -> Option<usize> {
        self.servers
            .iter()
            .enumerate()
            .filter(|(_, s)| s.node.as_ref().is_some_and(|n| n.is_leading()))
            .max_by_key(|(_, s)| s.node.as_ref().map(|n| n.status().term))
            .map(|(at, _)| at)
    }

    /// The newest membership that any disk holds.
    pub(crate) fn membership(&self) -> Membership {
        let of = |server: &Server| {
            let image = &server.disk.visible;
            let last = image.last();
            image.hard.as_ref().map(|hard| ((last.term, last.index), hard.membership().clone()))
        };
        self.servers.iter().filter_map(of).max_by_key(|(last, _)| *last).map(|(_, m)| m).unwrap_or_default()
    }

    /// Every membership that some disk holds: any of them may be the one that counts.
    pub(crate) fn memberships(&self) -> Vec<Membership> {
        let hards = self.servers.iter().filter_map(|s| s.disk.visible.hard.as_ref());
        let mut found: Vec<Membership> = hards.map(|hard| hard.membership().clone()).collect();
        found.dedup();
        found
    }

    /// Without faults, lets the group come to rest.
    pub(crate) fn settle(&mut self, within: Duration) {
        self.heal_network();
        for at in 0..self.servers.len() {
            if self.servers[at].disk.durable.hard.is_some() || self.membership().get(peer(at)).is_some() {
                self.start(at);
            }
        }
        let until = self.now + within;
        let mut turns = 0;
        while self.now < until || self.has_mail() {
            turns += 1;
            if turns > 100_000 {
                self.fail("the group does not come to rest");
            }
            for at in 0..self.servers.len() {
                self.sync(at, usize::MAX);
            }
            if self.has_mail() {
                self.deliver_one(false);
            } else {
                self.pass_time(Duration::from_millis(500));
                // Servers compare what they think of their groups.
                for at in 0..self.servers.len() {
                    self.with(at, |node, _, out| node.verify(out));
                }
            }
        }
    }

    /// One of three voters is being removed, the step reached only the one that it removes, and one of the two that
    /// would be left has forgotten what it knew: two voters bear no loss, whoever counts them.
    fn is_dead_end(&self) -> bool {
        let newest = self.membership();
        let has_forgotten = |m: &Member| self.servers.iter().all(|s| s.peer != m.peer || !s.remembers(*m));
        newest.voter_count() == 2
            && newest.voters().any(has_forgotten)
            && self.memberships().iter().any(|other| other.voter_count() == 3)
    }

    /// After [`World::settle`]: one leader, and all members have what was acknowledged.
    pub(crate) fn check_settled(&self) {
        let Some(leader) = self.leader() else {
            if self.is_dead_end() {
                return;
            }
            self.fail("no leader after everything was healed")
        };
        let members = self.servers[leader].node.as_ref().map(|n| n.status().membership).unwrap_or_default();
        let applied = self.servers[leader].applied;
        for (at, server) in self.servers.iter().enumerate() {
            let Some(node) = &server.node else { continue };
            let Some(member) = members.get(server.peer) else { continue };
            let status = node.status();
            if status.is_amnesiac || member.incarnation != node.incarnation() {
                self.fail(&format!("n{at} was not re-admitted: {status:?}"));
            }
            if server.applied != applied || server.state != self.servers[leader].state {
                self.fail(&format!("n{at} has applied {} and the leader {applied}", server.applied));
            }
        }
        if let Some((newest, _)) = self.acknowledged.last_key_value()
            && applied < *newest
        {
            self.fail(&format!("{newest} was acknowledged, {applied} is what is left"));
        }
        for (index, payload) in &self.acknowledged {
            if self.committed.get(index).map(|e| &e.payload) != Some(payload) {
                self.fail(&format!("{index} was acknowledged and is something else"));
            }
        }
    }
}

impl Server {
    fn new(at: usize) -> Self {
        Self {
            peer: peer(at),
            node: None,
            disk: Disk::new(GROUP),
            founding: None,
            old_disk: None,
            state: 0,
            applied: 0,
            released: 0,
            standing: Standing::Leaderless,
            timer: None,
        }
    }

    /// It counts as the member it is in its group.
    pub(crate) fn remembers(&self, member: Member) -> bool {
        match (&self.node, &self.disk.durable.hard) {
            (Some(node), _) => !node.status().is_amnesiac && node.incarnation() == member.incarnation,
            (None, Some(hard)) => !hard.is_amnesiac && hard.incarnation == member.incarnation,
            (None, None) => false,
        }
    }
}

fn next_state(state: u64, payload: &[u8]) -> u64 {
    if is_reserved(payload) { state } else { linnet_ids::fold(state, u64::from(crc32fast::hash(payload))) }
}
