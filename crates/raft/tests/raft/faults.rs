//! What goes wrong with disks, processes and the network, and how time passes.

use std::time::Duration;

use linnet_ids::Mono;
use linnet_raft::{Membership, Message, Node, Opening, Replica};

use crate::disk::Disk;
use crate::mutation::Mutation;
use crate::world::{Event, GROUP, Server, World, peer};

impl World {
    pub(crate) fn sync(&mut self, at: usize, count: usize) {
        let reports_newest = self.has(Mutation::SyncReportsNewest);
        let server = &mut self.servers[at];
        let count = count.min(server.disk.waits());
        if server.node.is_none() || count == 0 {
            return;
        }
        let newest = server.disk.newest();
        if let Some(no) = server.disk.sync(count) {
            self.report_durable(at, newest.filter(|_| reports_newest).unwrap_or(no));
        }
    }

    pub(crate) fn crash(&mut self, at: usize) {
        let survivors = self.random.usize(..=self.servers[at].disk.waits());
        self.crash_keeping(at, survivors);
    }

    /// Of what waited for the disk, the oldest `survivors` are there.
    pub(crate) fn crash_keeping(&mut self, at: usize, survivors: usize) {
        self.count(Event::Crash);
        self.note(|_| format!("n{at} crashes"));
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
        let seed = if self.has(Mutation::LifeUsedTwice) { 2 * at as u64 } else { self.random.u64(..) };
        self.start_with(at, seed);
    }

    pub(crate) fn start_with(&mut self, at: usize, seed: u64) {
        self.note(|_| format!("n{at} starts"));
        let image = &self.servers[at].disk.durable;
        let remembered = self.founders.get(peer(at)).filter(|_| self.has(Mutation::WipedStoreRemembers));
        let opening = match &self.servers[at].founding {
            Some(founding) if image.hard.is_none() => Opening { seed, ..founding.clone() },
            None if image.hard.is_none()
                && let Some(member) = remembered =>
            {
                Opening::founding(GROUP, member.replica(), self.founders.clone(), seed)
            }
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
        self.ghost.may_count(me);
        self.open(at, opening);
    }

    /// The disk of a stopped server is replaced by an empty one.
    pub(crate) fn wipe(&mut self, at: usize) {
        self.count(Event::Wipe);
        self.note(|_| format!("n{at} is wiped"));
        let server = &mut self.servers[at];
        let old = std::mem::replace(&mut server.disk, Disk::new(GROUP));
        server.founding = None;
        self.depart(at, &old);
        self.servers[at].old_disk.get_or_insert(old);
    }

    fn depart(&mut self, at: usize, disk: &Disk) {
        if let Some(hard) = &disk.durable.hard {
            let life = Replica { peer: peer(at), incarnation: hard.incarnation };
            self.ghost.depart(life, disk.durable.clone());
        }
    }

    /// The disk that was taken out of a stopped server comes back.
    pub(crate) fn remount(&mut self, at: usize) -> bool {
        let Some(old) = self.servers[at].old_disk.take() else { return false };
        self.count(Event::Remount);
        self.note(|_| format!("n{at} gets its old disk back"));
        let taken_out = std::mem::replace(&mut self.servers[at].disk, old);
        self.depart(at, &taken_out);
        // A life belongs to the store that drew it.
        self.servers[at].founding = None;
        true
    }

    /// A server that belongs to the group no more is told so, and gives up what it has of it.
    pub(crate) fn give_up(&mut self, at: usize) {
        if self.servers[at].node.is_some() {
            self.crash(at);
        }
        self.note(|_| format!("n{at} gives up"));
        let taken_out = self.servers[at].disk.clone();
        self.depart(at, &taken_out);
        self.servers[at] = Server::new(at);
    }

    pub(crate) fn set_cut(&mut self, a: usize, b: usize, is_cut: bool) {
        let pair = (a.min(b), a.max(b));
        let changed = if is_cut { self.cut.insert(pair) } else { self.cut.remove(&pair) };
        if a == b || !changed {
            return;
        }
        self.note(|_| format!("n{a} and n{b} {}", if is_cut { "are cut" } else { "hear each other" }));
        for (at, other) in [(a, b), (b, a)] {
            let is_up = self.servers[other].node.is_some() && !is_cut;
            self.with(at, |node, now, out| node.set_reachable(now, peer(other), is_up, out));
        }
    }

    /// Nothing reaches a server any more, and nobody knows.
    pub(crate) fn deafen(&mut self, at: usize) {
        self.count(Event::Deafness);
        self.note(|_| format!("n{at} is deaf"));
        self.deaf.insert(at);
    }

    pub(crate) fn heal_network(&mut self) {
        self.deaf.clear();
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
        self.deliver(message);
    }

    /// A message arrives, if its servers hear each other.
    pub(crate) fn deliver(&mut self, mut message: Message) {
        let (Some(from), Some(to)) = (self.at(message.from.peer), self.at(message.to.peer)) else { return };
        if !self.hears(from, to) || self.deaf.contains(&to) {
            return;
        }
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(&bytes.into()).as_ref(), Ok(&message));
        self.note(|world| world.tell_message(&message));
        self.mutate_tail(to, &message);
        self.mutate_delivery(to, &mut message);
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

    /// What a replica waits for is due.
    pub(crate) fn time_out(&mut self, at: usize) {
        if let Some(due) = self.node(at).and_then(Node::next_timeout) {
            self.now = Mono(self.now.0.max(due.0));
            self.with(at, |node, now, out| node.on_timeout(now, out));
        }
    }

    /// A server does not hear its leader for a moment.
    pub(crate) fn doubt(&mut self, at: usize) {
        let Some(leader) = self.node(at).and_then(|n| n.status().leader) else { return };
        self.with(at, |node, now, out| node.set_reachable(now, leader, false, out));
        self.with(at, |node, now, out| node.set_reachable(now, leader, true, out));
    }

    /// Everything that is on its way arrives, and no time passes.
    pub(crate) fn quiesce(&mut self) {
        for _ in 0..10_000 {
            for at in 0..self.servers.len() {
                self.sync(at, usize::MAX);
            }
            if self.has_mail() {
                let message = self.network.remove(0);
                self.deliver(message);
            } else if self.servers.iter().all(|s| s.node.is_none() || s.disk.waits() == 0) {
                return;
            }
        }
        self.fail("messages follow each other without end");
    }

    /// Makes a server stand, and stops once it is elected.
    pub(crate) fn elect_in_part(&mut self, at: usize) {
        self.with(at, |node, now, _| node.campaign(now));
        self.with(at, |node, now, out| node.on_timeout(now, out));
        while !self.node(at).is_some_and(|node| node.status().is_leader) && self.has_mail() {
            let message = self.network.remove(0);
            self.deliver(message);
            for server in 0..self.servers.len() {
                self.sync(server, usize::MAX);
            }
        }
    }

    /// Makes a server stand, and lets the group come to rest.
    pub(crate) fn elect(&mut self, at: usize) {
        self.with(at, |node, now, _| node.campaign(now));
        self.with(at, |node, now, out| node.on_timeout(now, out));
        self.quiesce();
    }
}
