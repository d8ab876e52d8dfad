use std::collections::BTreeMap;
use std::time::Duration;

use linnet_ids::{Mono, PeerId};

use super::{Ballot, BallotEffect, BallotMessage, BallotRecord, ClusterId, Founding};

fn peer(n: usize) -> PeerId {
    PeerId::of_name(&format!("n{n}"))
}

/// A server with its disk.
struct Server {
    record: Option<BallotRecord>,
    ballot: Option<Ballot>,
    exists: Option<ClusterId>,
}

struct World {
    random: fastrand::Rng,
    now: Mono,
    servers: Vec<Server>,
    network: Vec<(usize, usize, BallotMessage)>,
    /// Groups that a majority of their voters founded at one time.
    worked: BTreeMap<ClusterId, Founding>,
    /// Where two groups worked, if that happened.
    split: bool,
    given_up: u64,
}

impl World {
    fn new(seed: u64, servers: usize) -> Self {
        let fresh = || Server { record: None, ballot: None, exists: None };
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: Mono(1),
            servers: (0..servers).map(|_| fresh()).collect(),
            network: Vec::new(),
            worked: BTreeMap::new(),
            split: false,
            given_up: 0,
        }
    }

    fn start(&mut self, at: usize) {
        if self.servers[at].ballot.is_some() {
            return;
        }
        let mut out = Vec::new();
        let seed = self.random.u64(..);
        let record = self.servers[at].record.clone();
        let mut ballot = Ballot::open(peer(at), record, seed, self.now, &mut out);
        ballot.expect((0..self.servers.len()).map(peer));
        self.servers[at].ballot = Some(ballot);
        self.carry_out(at, out);
    }

    fn with(&mut self, at: usize, act: impl FnOnce(&mut Ballot, Mono, &mut Vec<BallotEffect>)) {
        let mut out = Vec::new();
        let now = self.now;
        if let Some(ballot) = &mut self.servers[at].ballot {
            act(ballot, now, &mut out);
            self.carry_out(at, out);
        }
    }

    fn carry_out(&mut self, at: usize, effects: Vec<BallotEffect>) {
        for effect in effects {
            match effect {
                BallotEffect::Write(record) => self.servers[at].record = Some(record),
                BallotEffect::Send(to, message) => {
                    let to = (0..self.servers.len()).find(|n| peer(*n) == to);
                    if let Some(to) = to.filter(|_| self.network.len() < 100) {
                        self.network.push((at, to, message));
                    }
                }
                BallotEffect::Founded(_) => {}
                BallotEffect::Exists(founding) => self.servers[at].exists = Some(founding.cluster),
                BallotEffect::GivenUp(_) => self.given_up += 1,
                BallotEffect::Left(_) => self.servers[at].exists = None,
            }
        }
        self.look();
    }

    /// Notes groups that work.
    fn look(&mut self) {
        let founded = self.servers.iter().filter_map(|s| s.record.as_ref()?.founded.clone());
        for founding in founded.collect::<Vec<_>>() {
            let has_founded = |voter: &linnet_raft::Replica| {
                self.servers.iter().enumerate().any(|(at, s)| {
                    peer(at) == voter.peer
                        && s.record.as_ref().is_some_and(|r| {
                            r.life == voter.incarnation && r.founded.as_ref() == Some(&founding)
                        })
                })
            };
            if founding.voters.iter().filter(|v| has_founded(v)).count() >= founding.majority() {
                self.worked.insert(founding.cluster, founding);
            }
        }
        self.split |= self.worked.len() > 1;
    }

    fn step(&mut self, wipes: bool) {
        let at = self.random.usize(..self.servers.len());
        match self.random.u8(..100) {
            0..60 => self.deliver(true),
            60..80 => self.pass_time(),
            80..86 => self.servers[at].ballot = None,
            86..89 if wipes && self.worked.is_empty() => {
                self.servers[at].ballot = None;
                self.servers[at].record = None;
            }
            89..91 => {
                // It is configured for fewer for a while.
                let few: Vec<PeerId> = (0..self.servers.len()).filter(|n| *n != at).map(peer).collect();
                let other = self.random.usize(..self.servers.len());
                self.with(other, |ballot, _, _| ballot.expect(few));
            }
            _ => self.start(at),
        }
    }

    fn deliver(&mut self, is_lossy: bool) {
        if self.network.is_empty() {
            return;
        }
        let at = self.random.usize(..self.network.len());
        let kind = if is_lossy { self.random.u8(..100) } else { 50 };
        let (from, to, message) =
            if kind < 10 { self.network[at].clone() } else { self.network.swap_remove(at) };
        if (10..20).contains(&kind) {
            return;
        }
        self.with(to, |ballot, now, out| ballot.on_message(now, peer(from), message, out));
    }

    fn pass_time(&mut self) {
        self.now = self.now + Duration::from_millis(self.random.u64(1..250));
        for at in 0..self.servers.len() {
            self.with(at, |ballot, now, out| ballot.on_timeout(now, out));
        }
    }

    fn settle(&mut self) {
        for at in 0..self.servers.len() {
            self.start(at);
            let all: Vec<PeerId> = (0..self.servers.len()).map(peer).collect();
            self.with(at, |ballot, _, _| ballot.expect(all));
        }
        for _ in 0..1500 {
            if self.network.is_empty() {
                self.pass_time();
            } else {
                self.deliver(false);
            }
        }
    }

    fn clusters(&self) -> Vec<Option<ClusterId>> {
        let of =
            |s: &Server| s.record.as_ref().and_then(|r| r.founded.as_ref()).map(|f| f.cluster).or(s.exists);
        self.servers.iter().map(of).collect()
    }
}

fn walk(seed: u64, servers: usize, wipes: bool) -> u64 {
    let mut world = World::new(seed, servers);
    for _ in 0..300 {
        world.step(wipes);
    }
    world.settle();
    assert!(!world.split, "seed {seed}: two groups work: {:?}", world.worked);
    let clusters = world.clusters();
    assert!(clusters[0].is_some() && clusters.iter().all(|c| *c == clusters[0]), "seed {seed}: {clusters:?}");
    world.given_up
}

fn seeds(count: u64) -> u64 {
    std::env::var("LINNET_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(count)
}

#[test]
fn one_group_is_founded_whatever_is_lost_or_restarted() {
    for seed in 0..seeds(150) {
        walk(seed, 3, false);
    }
}

#[test]
fn one_group_is_founded_even_if_servers_are_wiped_before() {
    for seed in 0..seeds(120) {
        walk(seed, 3, true);
        walk(seed, 5, true);
    }
}

#[test]
fn who_is_not_expected_has_no_say() {
    let mut out = Vec::new();
    let mut ballot = Ballot::open(peer(0), None, 1, Mono(1), &mut out);
    ballot.expect([peer(1)]);
    for n in 2..100 {
        let stand = BallotMessage::Stand { life: 5, accepted: None, founded: None };
        ballot.on_message(Mono(1), peer(n), stand, &mut out);
    }
    assert_eq!((ballot.heard.len(), ballot.missing(Mono(1))), (0, vec![peer(1)]));
}

#[test]
fn nothing_is_founded_while_somebody_is_missing() {
    let mut world = World::new(1, 3);
    world.start(0);
    world.start(1);
    for _ in 0..500 {
        world.pass_time();
        while !world.network.is_empty() {
            world.deliver(false);
        }
    }
    assert_eq!(world.clusters(), [None, None, None]);
    let missing = world.servers[0].ballot.as_ref().map(|b| b.missing(world.now));
    assert_eq!(missing, Some(vec![peer(2)]));
    world.settle();
    assert!(world.clusters()[2].is_some());
}

/// Three servers that have founded a cluster, and one that has founded another one alone.
fn founded_apart() -> (World, ClusterId, ClusterId) {
    let mut world = World::new(1, 4);
    let mut out = Vec::new();
    let mut alone = Ballot::open(peer(3), None, 9, Mono(1), &mut out);
    alone.on_timeout(Mono(1), &mut out);
    world.servers[3].ballot = Some(alone);
    world.carry_out(3, out);
    for at in 0..3 {
        world.start(at);
        world.with(at, |ballot, _, _| ballot.expect((0..3).map(peer)));
    }
    for _ in 0..500 {
        world.pass_time();
        while !world.network.is_empty() {
            world.deliver(false);
        }
    }
    let clusters = world.clusters();
    let (theirs, lone) = (clusters[0].unwrap(), clusters[3].unwrap());
    assert!(theirs != lone && clusters[1..3].iter().all(|cluster| *cluster == Some(theirs)));
    (world, theirs, lone)
}

#[test]
fn who_leaves_a_cluster_that_was_dissolved_joins_another_one_as_another_life() {
    let (mut world, theirs, lone) = founded_apart();
    let life = |world: &World| world.servers[3].record.as_ref().unwrap().life;
    let before = life(&world);
    world.with(3, |ballot, _, out| ballot.leave(theirs, out));
    assert_eq!(world.clusters()[3], Some(lone), "it does not belong to that one");
    world.with(3, |ballot, _, out| ballot.leave(lone, out));
    assert_ne!(life(&world), before);
    world.with(3, |ballot, _, _| ballot.expect((0..4).map(peer)));
    for _ in 0..50 {
        world.pass_time();
        while !world.network.is_empty() {
            world.deliver(false);
        }
    }
    assert_eq!(world.servers[3].exists, Some(theirs));
    world.servers[3].ballot = None;
    world.start(3);
    assert!(world.servers[3].ballot.as_ref().is_some_and(|ballot| ballot.is_dissolved(lone)), "for ever");
}

#[test]
fn whoever_still_belongs_to_a_dissolved_cluster_is_told_and_leaves_it() {
    let (mut world, theirs, _) = founded_apart();
    world.with(0, |ballot, _, out| ballot.leave(theirs, out));
    // The first one asks where the others stand.
    for _ in 0..50 {
        world.pass_time();
        while !world.network.is_empty() {
            world.deliver(false);
        }
    }
    let dissolved = |at: usize| world.servers[at].ballot.as_ref().is_some_and(|b| b.is_dissolved(theirs));
    assert!((0..3).all(dissolved));
    assert!(world.clusters()[..3].iter().all(|cluster| *cluster != Some(theirs)));
}
