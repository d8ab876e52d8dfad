//! Servers, the network between them, clients, and what they saw.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use linnet_env::FaultyDisk;
use linnet_ids::{LogIndex, Mono, PeerId, StreamSeq};
use linnet_raft::{Membership, Opening, Replica, Standing};

use super::opening::{GROUP, Start};
use super::server::{Letter, Life, Passed};
use super::{ReplicaEvent, ReplicaMutation};

/// Simulated time under faults.
const FAULTS_FOR: Duration = Duration::from_secs(10);
/// Simulated time in which a cluster without faults has to come to rest, and clients go on.
const HEAL_WITHIN: Duration = Duration::from_secs(14);
/// Passes of loops in a phase of a run.
const STEPS_MAX: u64 = 300_000;
/// Time without clients.
const SILENCE: Duration = Duration::from_secs(4);

/// A server, whether it runs or not.
pub(super) struct Server {
    pub(super) peer: PeerId,
    pub(super) disk: FaultyDisk,
    pub(super) store_id: [u8; 16],
    pub(super) founding: Option<Opening>,
    pub(super) life: Option<Life>,
    /// It does not run until then.
    pub(super) paused_until: Mono,
    boots: u64,
}

/// Something that will happen.
enum Due {
    Letter { from: usize, to: usize, letter: Letter },
    Client,
    Fault,
}

/// Everything that one seed makes happen.
pub(super) struct World {
    seed: u64,
    pub(super) random: fastrand::Rng,
    pub(super) now: Mono,
    pub(super) servers: Vec<Server>,
    heap: BinaryHeap<Reverse<(Mono, u64)>>,
    due: BTreeMap<u64, Due>,
    next_due: u64,
    /// Letters from the first to the second are lost.
    pub(super) cut: BTreeSet<(usize, usize)>,
    is_faulty: bool,
    has_clients: bool,
    pub(super) events: BTreeMap<ReplicaEvent, u64>,
    pub(super) steps: u64,
    pub(super) trace: Option<Vec<String>>,
    /// Hash of the state at places of the log, with whose it was.
    pub(super) states: BTreeMap<LogIndex, (u64, usize, Option<String>)>,
    /// Where publishers were told that a number is.
    pub(super) stored: BTreeMap<u64, StreamSeq>,
    pub(super) unconfirmed: BTreeSet<u64>,
    pub(super) next_number: u64,
    /// Sequences whose acknowledgement was confirmed.
    pub(super) confirmed: BTreeSet<StreamSeq>,
    /// What clients may have removed.
    pub(super) removed_below: StreamSeq,
    pub(super) removed: BTreeSet<StreamSeq>,
    /// The highest sequence that any replica was seen with.
    pub(super) newest_known: StreamSeq,
    failure: Option<String>,
    pub(super) mutation: Option<ReplicaMutation>,
}

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let peer = |n: usize| PeerId::of_name(&format!("s{n}"));
        let founders: Vec<Replica> =
            (0..3).map(|n| Replica { peer: peer(n), incarnation: n as u64 + 1 }).collect();
        let membership = Membership::of_voters(founders.clone());
        let servers = founders.into_iter().map(|me| Server {
            peer: me.peer,
            disk: FaultyDisk::new(random.u64(..)),
            store_id: random.u128(..).to_le_bytes(),
            founding: Some(Opening::founding(GROUP, me, membership.clone(), 0)),
            life: None,
            paused_until: Mono(0),
            boots: 0,
        });
        let servers = servers.collect();
        Self {
            seed,
            random,
            now: Mono(1_000_000),
            servers,
            heap: BinaryHeap::new(),
            due: BTreeMap::new(),
            next_due: 0,
            cut: BTreeSet::new(),
            is_faulty: true,
            has_clients: true,
            events: BTreeMap::new(),
            steps: 0,
            trace: traced.then(Vec::new),
            states: BTreeMap::new(),
            stored: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            next_number: 0,
            confirmed: BTreeSet::new(),
            removed_below: 0,
            removed: BTreeSet::new(),
            newest_known: 0,
            failure: None,
            mutation: None,
        }
    }

    /// Chunks take so long that a state takes longer to arrive than consensus waits for it.
    fn is_slow(&self) -> bool {
        self.seed % 10 == 7
    }

    /// The stream keeps only so many messages.
    pub(super) fn has_limit(&self) -> bool {
        self.seed.is_multiple_of(3)
    }

    pub(super) fn count(&mut self, event: ReplicaEvent) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10} {}", self.now.0 / 1000, text()));
        }
    }

    pub(super) fn fail(&mut self, text: String) {
        self.note(|| format!("FAILED {text}"));
        self.failure.get_or_insert(text);
    }

    pub(super) fn with(&mut self, at: usize, act: impl FnOnce(&mut Life)) {
        if let Some(life) = &mut self.servers[at].life {
            act(life);
        }
    }

    fn plan(&mut self, after: Duration, due: Due) {
        self.next_due += 1;
        self.heap.push(Reverse((self.now + after, self.next_due)));
        self.due.insert(self.next_due, due);
    }

    /// Runs the seed to its end.
    pub(super) fn run(&mut self) -> Result<(), String> {
        (0..self.servers.len()).for_each(|at| self.start(at));
        self.plan(Duration::ZERO, Due::Client);
        self.plan(Duration::from_secs(1), Due::Fault);
        self.run_for(FAULTS_FOR);
        self.is_faulty = false;
        self.heal();
        let heals = HEAL_WITHIN * if self.is_slow() { 4 } else { 1 };
        self.run_for(heals);
        if self.failure.is_none() {
            self.check_lag();
        }
        self.has_clients = false;
        self.run_for(SILENCE);
        if self.failure.is_none() {
            self.check_rest();
        }
        match self.failure.take() {
            Some(failure) => Err(format!("{failure} (seed {})", self.seed)),
            None => Ok(()),
        }
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        let most = self.steps + STEPS_MAX;
        while self.failure.is_none() && self.step(until) {
            if self.steps > most {
                self.fail("a server is never done".to_owned());
            }
        }
        self.now = self.now.max(until);
    }

    /// The next thing happens; false if that would be later than `until`.
    fn step(&mut self, until: Mono) -> bool {
        let planned = self.heap.peek().map(|Reverse((at, _))| *at);
        let server = self.next_server();
        let next = [planned, server.map(|(at, _)| at)].into_iter().flatten().min();
        let Some(next) = next.filter(|at| *at <= until) else { return false };
        self.now = self.now.max(next);
        match server {
            Some((at, server)) if Some(at) <= planned || planned.is_none() => self.pass(server),
            _ => self.happen(),
        }
        true
    }

    fn next_server(&self) -> Option<(Mono, usize)> {
        let wants = |(at, server): (usize, &Server)| {
            let life = server.life.as_ref()?;
            Some((life.next_due(self.now).max(server.paused_until).max(self.now), at))
        };
        self.servers.iter().enumerate().filter_map(wants).min()
    }

    fn happen(&mut self) {
        let Some(Reverse((_, id))) = self.heap.pop() else { return };
        match self.due.remove(&id) {
            Some(Due::Letter { from, to, letter }) if !self.cut.contains(&(from, to)) => {
                let peer = self.servers[from].peer;
                self.with(to, |life| life.mail.push_back((peer, letter)));
            }
            Some(Due::Client) if self.has_clients => {
                self.client();
                let pause = Duration::from_micros(self.random.u64(1000..40_000));
                self.plan(pause, Due::Client);
            }
            Some(Due::Fault) if self.is_faulty => {
                self.fault();
                let pause = Duration::from_millis(self.random.u64(5..700));
                self.plan(pause, Due::Fault);
            }
            _ => {}
        }
    }

    /// A pass of a server's loop.
    fn pass(&mut self, at: usize) {
        self.steps += 1;
        let (now, me) = (self.now, self.servers[at].peer);
        let others: Vec<PeerId> = self.servers.iter().map(|s| s.peer).filter(|peer| *peer != me).collect();
        let write_time = Duration::from_micros(self.random.u64(100..2500));
        let Some(life) = &mut self.servers[at].life else { return };
        life.is_shaky = self.is_faulty;
        let before = life.group.status().map(|s| s.applied);
        let passed = life.pass(now, me, &others, write_time);
        let has_applied = life.group.status().map(|s| s.applied) != before;
        self.newest_known = self.newest_known.max(life.group.stream().store().state().last_seq);
        self.take_in(at, passed);
        if has_applied && self.random.u8(..3) == 0 {
            self.compare(at);
        }
        self.read_sent(at);
    }

    fn take_in(&mut self, at: usize, passed: Passed) {
        let Passed { letters, standings, checkpoints, failure, log_failed } = passed;
        for standing in standings {
            self.note(|| format!("s{at} {standing:?}"));
            if matches!(standing, Standing::Leading(_)) {
                self.count(ReplicaEvent::Leading);
            }
        }
        let counts = self.servers[at].life.as_mut().map(|life| std::mem::take(&mut life.transfers.counts));
        let counts = counts.unwrap_or_default();
        for (event, times) in [
            (ReplicaEvent::Checkpoint, checkpoints),
            (ReplicaEvent::TransferBegun, counts.begun),
            (ReplicaEvent::TransferDone, counts.done),
            (ReplicaEvent::TransferGivenUp, counts.given_up),
        ] {
            if times > 0 {
                self.note(|| format!("s{at} {event:?}"));
                *self.events.entry(event).or_default() += times;
            }
        }
        for (peer, letter) in letters {
            self.transmit(at, peer, letter);
        }
        if self.servers[at].disk.is_off() {
            self.stop(at, ReplicaEvent::PowerLoss);
        } else if log_failed {
            self.fail(format!("the log of s{at} failed"));
        } else if let Some(failure) = failure {
            self.fail(format!("s{at}: {failure}"));
        }
    }

    /// Sends a letter, which may be lost, late or doubled.
    fn transmit(&mut self, from: usize, to: PeerId, letter: Letter) {
        let Some(to) = self.servers.iter().position(|s| s.peer == to) else { return };
        if self.cut.contains(&(from, to)) {
            return;
        }
        let mut delay = Duration::from_micros(self.random.u64(20..400));
        if self.is_slow() && matches!(letter, Letter::Chunk(_)) {
            delay += Duration::from_millis(600);
        }
        if self.is_faulty {
            match self.random.u16(..1000) {
                0..5 if !matches!(letter, Letter::Frame(_)) => return,
                5..10 => {
                    self.count(ReplicaEvent::Late);
                    delay = Duration::from_millis(self.random.u64(1..3000));
                }
                10..15 => {
                    self.count(ReplicaEvent::Twice);
                    let again = Duration::from_millis(self.random.u64(0..500));
                    self.plan(again, Due::Letter { from, to, letter: letter.clone() });
                }
                _ => {}
            }
        }
        self.plan(delay, Due::Letter { from, to, letter });
    }

    /// Starts a server that does not run.
    pub(super) fn start(&mut self, at: usize) {
        let now = self.now;
        let server = &mut self.servers[at];
        if server.life.is_some() {
            return;
        }
        server.boots += 1;
        let boot = server.boots << 32 | u64::from(self.random.u32(..));
        server.disk.ignore_syncs(self.mutation == Some(ReplicaMutation::IgnoreSyncs));
        let start = Start {
            me: server.peer,
            disk: &server.disk,
            store_id: server.store_id,
            founding: server.founding.clone(),
            boot,
            seed: self.seed,
            mutation: self.mutation,
        };
        match Life::open(start, now) {
            Ok(life) => {
                server.life = Some(life);
                self.note(|| format!("s{at} starts"));
            }
            Err(_) if server.disk.is_off() => {
                let seed = self.random.u64(..);
                self.servers[at].disk.crash(seed);
                self.note(|| format!("s{at} does not come up"));
            }
            Err(error) => self.fail(format!("s{at} cannot open its store: {error}")),
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let status = |at: usize| self.servers[at].life.as_ref().and_then(|l| l.group.status());
        let leads =
            |at: &usize| self.servers[*at].life.as_ref().is_some_and(|l| l.group.stream().is_leading());
        (0..self.servers.len()).filter(leads).max_by_key(|at| status(*at).map(|s| s.term))
    }
}
