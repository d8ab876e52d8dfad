//! Schedules of a small group, breadth first: what can be delivered, synced, lost, wiped or time out is a choice, and
//! after each the ghost looks whether what must hold still does. States that differ only in times or in numbers of
//! writes are one state.
//!
//! There are two ways to bound that. *Every* schedule is followed to a depth; messages are a set then, and one that is
//! never chosen is one that is lost. Or every schedule is followed to its *end* that departs from the ordinary one
//! (what waits for a disk is synced, the oldest message is delivered) a few times at most. Of levels that are larger
//! than the budget allows a sample is followed; up to which depth everything was, is reported.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::Mono;
use linnet_raft::{Change, Message, Node, Replica};

use crate::disk::Disk;
use crate::mutation::Mutation;
use crate::walk::{caught, is_dispensable};
use crate::world::{Event, World, peer};

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
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
}

/// How often things may happen that are not the work of the group itself.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Budget {
    repeats: u8,
    timeouts: u8,
    doubts: u8,
    deafness: u8,
    proposals: u8,
    reads: u8,
    transfers: u8,
    checkpoints: u8,
    restarts: u8,
    wipes: u8,
    remounts: u8,
    removals: u8,
    /// How often the schedule may depart from the ordinary one; no matter how often if there is no ordinary one.
    departures: Option<u8>,
}

/// A schedule, newest step first.
struct Path(Option<(Arc<Self>, Step)>);

struct State {
    world: World,
    budget: Budget,
    path: Arc<Path>,
}

/// What was explored.
#[derive(Debug, Default)]
struct Explored {
    states: usize,
    steps: usize,
    complete_depth: usize,
    depth: usize,
    /// Nothing was left to be done.
    is_exhausted: bool,
}

impl State {
    fn fingerprint(&self) -> u64 {
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

    fn choices(&self) -> Vec<Step> {
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
            steps.extend(others.map(|other| Step::Remove(at, other)));
        }
    }

    /// Before there was any leader all servers are alike: the first one stands.
    fn may_time_out(&self, at: usize) -> bool {
        at == 0 || self.world.servers.iter().any(|s| s.disk.visible.hard.as_ref().is_some_and(|h| h.term > 0))
    }

    /// The state after a step, or what is wrong with it.
    fn after(&self, step: Step) -> Result<Self, String> {
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

impl World {
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

    /// Makes a server stand, and lets the group come to rest.
    pub(crate) fn elect(&mut self, at: usize) {
        self.with(at, |node, now, _| node.campaign(now));
        self.with(at, |node, now, out| node.on_timeout(now, out));
        self.quiesce();
    }
}

impl Disk {
    fn hash_state<H: Hasher>(&self, state: &mut H) {
        self.durable.hash(state);
        self.hash_waiting(state);
    }
}

/// Explores from a world on: every level completely while it is small, then a sample of each.
fn explore(world: World, budget: Budget, limits: Limits) -> Result<Explored, String> {
    let mut world = world;
    world.is_mail_a_set = budget.departures.is_none();
    let mut random = fastrand::Rng::with_seed(world.seed);
    let mut level = vec![State { world, budget, path: Arc::new(Path(None)) }];
    let mut seen = HashSet::from([level[0].fingerprint()]);
    let mut explored = Explored::default();
    let mut is_complete = true;
    while !level.is_empty() && explored.depth < limits.depth && seen.len() < limits.states {
        let mut next = Vec::new();
        for state in &level {
            for step in state.choices() {
                explored.steps += 1;
                let after = state.after(step).map_err(|text| told(state, step, &text))?;
                if seen.insert(after.fingerprint()) {
                    next.push(after);
                }
            }
        }
        explored.depth += 1;
        if std::env::var_os("LINNET_LEVELS").is_some() {
            eprintln!("depth {}: {} states", explored.depth, next.len());
        }
        if next.len() > limits.width {
            is_complete = false;
            random.shuffle(&mut next);
            next.truncate(limits.width);
        }
        if is_complete {
            explored.complete_depth = explored.depth;
        }
        level = next;
    }
    explored.states = seen.len();
    explored.is_exhausted = level.is_empty() && is_complete;
    Ok(explored)
}

#[derive(Clone, Copy)]
struct Limits {
    /// States of a level that are followed.
    width: usize,
    states: usize,
    depth: usize,
}

impl Limits {
    /// `LINNET_STATES` explores more, of all configurations.
    fn new(states: usize) -> Self {
        let asked = std::env::var("LINNET_STATES").ok().and_then(|n| n.parse().ok());
        let states = asked.unwrap_or(states);
        Self { width: states / 3, states, depth: 400 }
    }
}

fn told(state: &State, last: Step, text: &str) -> String {
    let mut steps = vec![last];
    let mut path = &state.path;
    while let Some((before, step)) = &path.0 {
        steps.push(*step);
        path = before;
    }
    steps.reverse();
    format!("{text}\nafter {steps:?}")
}

fn run(name: &str, world: World, budget: Budget, states: usize) {
    match explore(world, budget, Limits::new(states)) {
        Ok(explored) => eprintln!("{name}: {explored:?}"),
        Err(text) => panic!("{name}: {text}"),
    }
}

/// Every schedule that departs from the ordinary one once, to its end; then those that do so more often, and all to a
/// depth, while the budget lasts.
fn run_to_the_end(name: &str, world: &World, budget: Budget, states: usize) {
    for departures in [Some(1), Some(2), Some(3), None] {
        let budget = Budget { departures, ..budget };
        let how = departures.map_or("all to a depth".into(), |n| format!("{n} departures"));
        run(&format!("{name}, {how}"), world.clone(), budget, states);
    }
}

/// A group with a leader and one acknowledged entry.
fn led(servers: usize, voters: usize) -> World {
    let mut world = World::new(1, servers, voters);
    world.elect(0);
    world.propose(0);
    world.quiesce();
    for at in voters..servers {
        let replica = Replica { peer: peer(at), incarnation: 100 + at as u64 };
        world.change(0, Change::Add(replica)).unwrap();
        world.start_added(at, replica.incarnation);
        world.quiesce();
    }
    world
}

#[test]
fn every_first_election_of_three() {
    let budget = Budget { timeouts: 4, repeats: 1, restarts: 1, doubts: 1, ..Budget::default() };
    run_to_the_end("first election of 3", &World::new(1, 3, 3), budget, 4_000);
}

#[test]
fn every_change_of_leaders_of_three() {
    let budget = Budget { timeouts: 3, doubts: 2, proposals: 2, restarts: 1, ..Budget::default() };
    run_to_the_end("leaders of 3", &led(3, 3), budget, 4_000);
}

#[test]
fn every_wipe_and_remount_of_three() {
    let budget = Budget { timeouts: 3, doubts: 1, proposals: 2, wipes: 1, remounts: 1, ..Budget::default() };
    run_to_the_end("wipes of 3", &led(3, 3), budget, 4_000);
}

#[test]
fn every_wipe_and_remount_of_two() {
    let budget =
        Budget { timeouts: 3, proposals: 2, wipes: 2, remounts: 1, restarts: 1, ..Budget::default() };
    run_to_the_end("wipes of 2", &led(2, 2), budget, 4_000);
}

#[test]
fn every_wipe_of_two_with_a_learner() {
    let budget = Budget { timeouts: 3, proposals: 1, wipes: 2, restarts: 1, repeats: 1, ..Budget::default() };
    run_to_the_end("wipes of 2 and a learner", &led(3, 2), budget, 4_000);
}

#[test]
fn every_snapshot_and_transfer_of_three() {
    let budget =
        Budget { timeouts: 3, proposals: 1, checkpoints: 2, wipes: 1, transfers: 1, ..Budget::default() };
    run_to_the_end("snapshots of 3", &led(3, 3), budget, 4_000);
}

#[test]
fn every_read_of_three() {
    run_to_the_end("reads of 3", &led(3, 3), READS, 4_000);
}

/// What a leader needs that does not know that it leads no more.
const READS: Budget = Budget {
    timeouts: 1,
    doubts: 2,
    deafness: 1,
    proposals: 1,
    reads: 1,
    repeats: 0,
    transfers: 0,
    checkpoints: 0,
    restarts: 0,
    wipes: 0,
    remounts: 0,
    removals: 0,
    departures: None,
};

#[test]
fn a_read_that_nobody_confirms_is_noticed() {
    let mut world = led(3, 3);
    world.mutation = Some(Mutation::ReadUnconfirmed);
    let budget = Budget { departures: Some(0), ..READS };
    let noticed = explore(world, budget, Limits::new(4_000)).err();
    assert!(noticed.as_ref().is_some_and(|text| text.contains("would answer a read")), "{noticed:?}");
}

#[test]
fn every_removal_of_three() {
    let budget =
        Budget { timeouts: 3, doubts: 1, proposals: 1, removals: 2, restarts: 1, ..Budget::default() };
    run_to_the_end("removals of 3", &led(3, 3), budget, 4_000);
}

#[test]
fn time_and_numbers_of_writes_do_not_make_another_state() {
    let state = |world: World| State { world, budget: Budget::default(), path: Arc::new(Path(None)) };
    let (one, mut other) = (led(3, 3), led(3, 3));
    other.now = other.now + Duration::from_secs(9);
    let same = state(one.clone()).fingerprint();
    assert_eq!(same, state(other.clone()).fingerprint());
    other.propose(0);
    assert_ne!(same, state(other).fingerprint());
}
