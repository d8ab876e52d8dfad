//! States of a small group, and what may happen next in them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use linnet_raft::{Change, Message, Node};

use crate::disk::Disk;
use crate::walk::{caught, is_dispensable};
use crate::world::{Event, World, peer};

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Deliver(usize),
    Lose(usize),
    /// Delivered, and to be delivered again.
    Repeat(usize),
    SyncOne(usize),
    SyncAll(usize),
    Timeout(usize),
    /// The server takes its leader for lost.
    Doubt(usize),
    /// Nothing reaches the server any more.
    Deafen(usize),
    Propose(usize),
    Read(usize),
    Transfer(usize, usize),
    Checkpoint(usize),
    /// Stops and starts; so many of the waiting writes are there.
    Restart(usize, usize),
    Wipe(usize),
    Remount(usize),
    Remove(usize, usize),
    Promote(usize, usize),
}

/// How often things may happen that are not the work of the group itself.
#[derive(Clone, Copy, Debug, Default, Hash)]
pub(crate) struct Budget {
    pub(crate) repeats: u8,
    pub(crate) timeouts: u8,
    pub(crate) doubts: u8,
    pub(crate) deafness: u8,
    pub(crate) proposals: u8,
    pub(crate) reads: u8,
    pub(crate) transfers: u8,
    pub(crate) checkpoints: u8,
    pub(crate) restarts: u8,
    pub(crate) wipes: u8,
    pub(crate) remounts: u8,
    pub(crate) removals: u8,
    pub(crate) promotions: u8,
    /// How often the schedule may depart from the ordinary one; no matter how often if there is no ordinary one.
    pub(crate) departures: Option<u8>,
}

/// A schedule, newest step first.
pub(crate) struct Path(pub(crate) Option<(Arc<Self>, Step)>);

pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) budget: Budget,
    pub(crate) path: Arc<Path>,
}

impl State {
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut state = DefaultHasher::new();
        self.budget.hash(&mut state);
        (&self.world.ghost, &self.world.reads, &self.world.deaf).hash(&mut state);
        for server in &self.world.servers {
            if let Some(node) = &server.node {
                node.hash_state(&mut state);
            }
            server.disk.hash_state(&mut state);
            server.old_disk.as_ref().map(|disk| &disk.durable).hash(&mut state);
            (server.applied, server.state).hash(&mut state);
        }
        let of = |message: &Message| {
            let mut state = DefaultHasher::new();
            message.hash(&mut state);
            state.finish()
        };
        let mail = self.world.network.iter().map(of);
        if self.world.is_mail_a_set {
            mail.fold(0, u64::wrapping_add).hash(&mut state);
        } else {
            mail.for_each(|message| message.hash(&mut state));
        }
        state.finish()
    }

    /// What happens if nothing goes wrong.
    fn ordinary(&self) -> Option<Step> {
        let waiting = self.world.servers.iter().position(|s| s.node.is_some() && s.disk.waits() > 0);
        waiting.map(Step::SyncAll).or_else(|| self.world.has_mail().then_some(Step::Deliver(0)))
    }

    pub(crate) fn choices(&self) -> Vec<Step> {
        let mut steps = self.all_choices();
        if self.budget.departures == Some(0) {
            steps.retain(|step| !self.is_departure(*step));
        }
        steps
    }

    /// What is asked of a group at rest is no departure.
    fn is_departure(&self, step: Step) -> bool {
        match (self.ordinary(), step) {
            (Some(ordinary), step) => ordinary != step,
            (None, Step::Restart(..) | Step::Wipe(_) | Step::Remount(_)) => true,
            (None, _) => false,
        }
    }

    fn all_choices(&self) -> Vec<Step> {
        let (world, left) = (&self.world, self.budget);
        let mut steps: Vec<Step> = (0..world.network.len()).map(Step::Deliver).collect();
        if left.repeats > 0 {
            steps.extend((0..world.network.len()).map(Step::Repeat));
        }
        if left.departures.is_some() {
            steps.extend((0..world.network.len()).map(Step::Lose));
        }
        for (at, server) in world.servers.iter().enumerate() {
            let Some(node) = &server.node else { continue };
            let waits = server.disk.waits();
            if waits > 1 {
                steps.push(Step::SyncOne(at));
            }
            if waits > 0 {
                steps.push(Step::SyncAll(at));
            }
            if left.timeouts > 0 && node.next_timeout().is_some() && self.may_time_out(at) {
                steps.push(Step::Timeout(at));
            }
            if left.proposals > 0 && node.is_leading() {
                steps.push(Step::Propose(at));
            }
            if left.reads > 0 && node.is_leading() {
                steps.push(Step::Read(at));
            }
            if left.checkpoints > 0 && server.applied > server.disk.visible.base.index {
                steps.push(Step::Checkpoint(at));
            }
            self.faults_of(at, node, waits, &mut steps);
        }
        steps
    }

    fn faults_of(&self, at: usize, node: &Node, waits: usize, steps: &mut Vec<Step>) {
        let left = self.budget;
        let others = (0..self.world.servers.len()).filter(|other| *other != at);
        if left.doubts > 0 && node.status().leader.is_some_and(|leader| leader != peer(at)) {
            steps.push(Step::Doubt(at));
        }
        if left.deafness > 0 && !self.world.deaf.contains(&at) {
            steps.push(Step::Deafen(at));
        }
        if left.restarts > 0 {
            steps.extend((0..=waits).map(|kept| Step::Restart(at, kept)));
        }
        if left.wipes > 0 && is_dispensable(&self.world, at) {
            steps.push(Step::Wipe(at));
        }
        if left.remounts > 0 && self.world.servers[at].old_disk.is_some() && is_dispensable(&self.world, at) {
            steps.push(Step::Remount(at));
        }
        if node.is_leading() && left.transfers > 0 {
            steps.extend(others.clone().map(|to| Step::Transfer(at, to)));
        }
        if node.is_leading() && left.removals > 0 {
            steps.extend(others.clone().map(|other| Step::Remove(at, other)));
        }
        if node.is_leading() && left.promotions > 0 {
            steps.extend(others.map(|other| Step::Promote(at, other)));
        }
    }

    /// Before there was any leader all servers are alike: the first one stands.
    fn may_time_out(&self, at: usize) -> bool {
        at == 0 || self.world.servers.iter().any(|s| s.disk.visible.hard.as_ref().is_some_and(|h| h.term > 0))
    }

    /// The state after a step, or what is wrong with it.
    pub(crate) fn after(&self, step: Step) -> Result<Self, String> {
        let mut next = Self {
            world: self.world.clone(),
            budget: self.budget,
            path: Arc::new(Path(Some((Arc::clone(&self.path), step)))),
        };
        caught(|| next.take(step)).map(|()| next)
    }

    fn take(&mut self, step: Step) {
        let is_departure = self.is_departure(step);
        let Self { world, budget, .. } = self;
        if is_departure {
            budget.departures = budget.departures.map(|left| left - 1);
        }
        match step {
            Step::Deliver(mail) => {
                let message = world.network.remove(mail);
                world.deliver(message);
            }
            Step::Lose(mail) => {
                world.network.remove(mail);
            }
            Step::Repeat(mail) => {
                budget.repeats -= 1;
                world.deliver(world.network[mail].clone());
            }
            Step::SyncOne(at) => world.sync(at, 1),
            Step::SyncAll(at) => world.sync(at, usize::MAX),
            Step::Timeout(at) => {
                budget.timeouts -= 1;
                world.time_out(at);
            }
            Step::Doubt(at) => {
                budget.doubts -= 1;
                world.doubt(at);
            }
            Step::Deafen(at) => {
                budget.deafness -= 1;
                world.deafen(at);
            }
            Step::Read(at) => {
                budget.reads -= 1;
                let _ = world.read(at);
            }
            Step::Propose(at) => {
                budget.proposals -= 1;
                world.propose(at);
            }
            Step::Transfer(at, to) => {
                budget.transfers -= 1;
                let _ = world.transfer(at, peer(to));
            }
            Step::Checkpoint(at) => {
                budget.checkpoints -= 1;
                world.checkpoint(at);
            }
            Step::Restart(at, kept) => {
                budget.restarts -= 1;
                world.crash_keeping(at, kept);
                world.start_with(at, life_seed(world, at));
            }
            Step::Wipe(at) => {
                budget.wipes -= 1;
                world.crash_keeping(at, 0);
                world.wipe(at);
                world.start_with(at, life_seed(world, at));
            }
            Step::Remount(at) => {
                budget.remounts -= 1;
                world.crash_keeping(at, 0);
                world.remount(at);
                world.start_with(at, life_seed(world, at));
            }
            Step::Promote(at, other) => {
                budget.promotions -= 1;
                let _ = world.change(at, Change::Promote(peer(other)));
            }
            Step::Remove(at, other) => {
                budget.removals -= 1;
                let _ = world.change(at, Change::Remove(peer(other)));
            }
        }
    }
}

/// No two openings have the same seed, and the same openings in another order have the same seeds.
fn life_seed(world: &World, at: usize) -> u64 {
    2 * (1000 * at as u64 + world.events.get(&Event::Crash).copied().unwrap_or(0))
}

impl Disk {
    fn hash_state<H: Hasher>(&self, state: &mut H) {
        self.durable.hash(state);
        self.hash_waiting(state);
    }
}
