//! Servers, the network between them, clients, and what they saw.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use bytes::Bytes;
use linnet_env::FaultyDisk;
use linnet_ids::{LogIndex, Mono, PeerId, Term, fold};
use linnet_raft::{Membership, Opening, Replica, Standing};
use linnet_replication::raft::RaftEvent;

use super::counter::number_of;
use super::server::{GROUP, Life, Passed};
use super::{ClusterEvent, ClusterMutation};

/// Simulated time under faults.
const FAULTS_FOR: Duration = Duration::from_secs(12);
/// Simulated time in which a cluster without faults has to come to rest.
const REST_WITHIN: Duration = Duration::from_secs(15);
/// Within this time of the last fault a cluster has a leader again.
const LEADER_WITHIN: Duration = Duration::from_secs(8);

/// A server, whether it runs or not.
pub(super) struct Server {
    pub(super) peer: PeerId,
    pub(super) disk: FaultyDisk,
    pub(super) store_id: [u8; 16],
    /// A disk that was replaced.
    pub(super) old: Option<(FaultyDisk, [u8; 16])>,
    pub(super) founding: Option<Opening>,
    pub(super) life: Option<Life>,
    /// It does not run until then.
    pub(super) paused_until: Mono,
    pub(super) write_time: Duration,
    /// Something was done to its log.
    pub(super) is_damaged: bool,
    /// How often it was started.
    pub(super) boots: u64,
}

/// Something that will happen.
enum Due {
    Frame { from: usize, to: usize, bytes: Bytes },
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
    /// Frames from the first to the second are lost.
    pub(super) cut: BTreeSet<(usize, usize)>,
    pub(super) is_faulty: bool,
    pub(super) events: BTreeMap<ClusterEvent, u64>,
    pub(super) steps: u64,
    pub(super) hash: u64,
    pub(super) trace: Option<Vec<String>>,
    pub(super) committed: BTreeMap<LogIndex, (Term, Option<Bytes>)>,
    pub(super) acknowledged: BTreeMap<LogIndex, u64>,
    leaders: BTreeMap<Term, PeerId>,
    next_number: u64,
    failure: Option<String>,
    pub(super) mutation: Option<ClusterMutation>,
}

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = if random.u8(..4) == 0 { 5 } else { 3 };
        let peer = |n: usize| PeerId::of_name(&format!("s{n}"));
        let founders: Vec<Replica> =
            (0..count).map(|n| Replica { peer: peer(n), incarnation: n as u64 + 1 }).collect();
        let membership = Membership::of_voters(founders.clone());
        let servers = founders.into_iter().map(|me| Server {
            peer: me.peer,
            disk: FaultyDisk::new(random.u64(..)),
            store_id: random.u128(..).to_le_bytes(),
            old: None,
            founding: Some(Opening::founding(GROUP, me, membership.clone(), 0)),
            life: None,
            paused_until: Mono(0),
            write_time: Duration::from_micros(random.u64(100..3000)),
            is_damaged: false,
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
            events: BTreeMap::new(),
            steps: 0,
            hash: seed,
            trace: traced.then(Vec::new),
            committed: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            leaders: BTreeMap::new(),
            next_number: 0,
            failure: None,
            mutation: None,
        }
    }

    pub(super) fn count(&mut self, event: ClusterEvent) {
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

    fn plan(&mut self, after: Duration, due: Due) {
        self.next_due += 1;
        self.heap.push(Reverse((self.now + after, self.next_due)));
        self.due.insert(self.next_due, due);
    }

    /// Runs the seed to its end.
    pub(super) fn run(&mut self) -> Result<(), String> {
        for at in 0..self.servers.len() {
            self.start(at);
        }
        self.plan(Duration::ZERO, Due::Client);
        self.plan(Duration::from_secs(1), Due::Fault);
        self.run_for(FAULTS_FOR);
        self.is_faulty = false;
        self.heal();
        self.run_for(LEADER_WITHIN);
        if self.failure.is_none() && self.leader().is_none() {
            self.fail(format!("no leader within {LEADER_WITHIN:?} after the last fault"));
        }
        self.run_for(REST_WITHIN);
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
        while self.failure.is_none() && self.step(until) {}
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
            let due = if life.mail.is_empty() && !life.has_work() { life.next_due() } else { self.now };
            Some((due.max(server.paused_until).max(self.now), at))
        };
        self.servers.iter().enumerate().filter_map(wants).min()
    }

    fn happen(&mut self) {
        let Some(Reverse((_, id))) = self.heap.pop() else { return };
        match self.due.remove(&id) {
            Some(Due::Frame { from, to, bytes }) => self.arrive(from, to, bytes),
            Some(Due::Client) => {
                self.client();
                let pause = Duration::from_micros(self.random.u64(200..20_000));
                self.plan(pause, Due::Client);
            }
            Some(Due::Fault) if self.is_faulty => {
                self.fault();
                let pause = Duration::from_millis(self.random.u64(5..900));
                self.plan(pause, Due::Fault);
            }
            Some(Due::Fault) | None => {}
        }
    }

    fn arrive(&mut self, from: usize, to: usize, bytes: Bytes) {
        if self.cut.contains(&(from, to)) {
            return;
        }
        if let Some(life) = &mut self.servers[to].life {
            life.mail.push_back(bytes);
        }
    }

    /// Adds, or asks for the sum. Clients are many and in no order.
    fn client(&mut self) {
        let at = self.random.usize(..self.servers.len());
        self.next_number += 1;
        let number = self.next_number;
        let newest = self.acknowledged.last_key_value().map_or(0, |(index, _)| *index);
        let asks = self.random.u8(..8) == 0;
        let is_paused = self.servers[at].paused_until > self.now;
        let Some(life) = self.servers[at].life.as_mut().filter(|_| !is_paused) else { return };
        if asks {
            life.ask(number, newest);
        } else if let Some(index) = life.add(number)
            && self.mutation == Some(ClusterMutation::AckOnProposal)
        {
            self.acknowledged.insert(index, number);
        }
    }

    /// A pass of a server's loop.
    fn pass(&mut self, at: usize) {
        self.steps += 1;
        let now = self.now;
        let others: Vec<PeerId> = self.servers.iter().map(|s| s.peer).collect();
        let others: Vec<PeerId> = others.into_iter().filter(|p| *p != self.servers[at].peer).collect();
        let write_time = self.servers[at].write_time;
        let Some(life) = &mut self.servers[at].life else { return };
        let passed = life.pass(now, &others, write_time);
        self.take_in(at, passed);
    }

    fn take_in(&mut self, at: usize, passed: Passed) {
        let Passed { frames, applied, events, reads_from_log, checkpoints, snapshots, log_failed } = passed;
        for (index, term, payload) in applied {
            self.check_committed(at, index, term, payload.as_ref());
            self.acknowledge(at, index, term, payload.as_ref());
        }
        for event in &events {
            self.take_event(at, event);
        }
        self.check_reads(at);
        for (event, times) in [
            (ClusterEvent::ReadFromLog, reads_from_log),
            (ClusterEvent::Checkpoint, checkpoints),
            (ClusterEvent::Snapshot, snapshots),
        ] {
            if times > 0 {
                *self.events.entry(event).or_default() += times;
            }
        }
        for (peer, bytes) in frames {
            self.transmit(at, peer, &bytes);
        }
        if log_failed {
            self.log_failed(at);
        }
    }

    fn take_event(&mut self, at: usize, event: &RaftEvent) {
        self.note(|| format!("s{at} {event:?}"));
        match event {
            RaftEvent::Standing(Standing::Elected(term)) => {
                self.count(ClusterEvent::Election);
                let peer = self.servers[at].peer;
                let other = self.leaders.insert(*term, peer);
                if let Some(other) = other.filter(|other| *other != peer) {
                    self.fail(format!("{other} and {peer} lead in term {term}"));
                }
            }
            RaftEvent::Standing(Standing::Leading(_)) => {}
            RaftEvent::Standing(_) => {
                if let Some(life) = &mut self.servers[at].life {
                    life.pending.clear();
                }
            }
            RaftEvent::Amnesiac => self.count(ClusterEvent::Amnesia),
            RaftEvent::Remembers => self.count(ClusterEvent::Readmission),
            RaftEvent::Halted(fault) => self.fail(format!("s{at} halted: {fault}")),
            _ => {}
        }
    }

    fn acknowledge(&mut self, at: usize, index: LogIndex, term: Term, payload: Option<&Bytes>) {
        let Some(life) = &mut self.servers[at].life else { return };
        let pending = life.pending.remove(&index);
        let is_own = payload.is_some_and(|p| pending == Some((term, number_of(p))));
        if let Some((_, number)) = pending.filter(|_| is_own) {
            self.acknowledged.insert(index, number);
            self.hash = fold(self.hash, number);
            self.count(ClusterEvent::Acknowledged);
        }
    }

    /// Sends a frame, which may be lost, late or doubled.
    fn transmit(&mut self, from: usize, to: PeerId, bytes: &[u8]) {
        let Some(to) = self.servers.iter().position(|s| s.peer == to) else { return };
        self.hash = fold(self.hash, u64::from(crc32fast::hash(bytes)));
        if self.cut.contains(&(from, to)) {
            return;
        }
        let bytes = Bytes::copy_from_slice(bytes);
        let mut delay = Duration::from_micros(self.random.u64(20..400));
        if self.is_faulty {
            match self.random.u16(..1000) {
                0..5 => return self.reset(from, to),
                5..10 => {
                    self.count(ClusterEvent::Late);
                    delay = Duration::from_millis(self.random.u64(1..4000));
                }
                10..15 => {
                    self.count(ClusterEvent::Twice);
                    let again = Duration::from_millis(self.random.u64(0..500));
                    self.plan(again, Due::Frame { from, to, bytes: bytes.clone() });
                }
                _ => {}
            }
        }
        self.plan(delay, Due::Frame { from, to, bytes });
    }

    /// The connection between two servers breaks.
    fn reset(&mut self, from: usize, to: usize) {
        self.count(ClusterEvent::Reset);
        let now = self.now;
        for (at, other) in [(from, to), (to, from)] {
            let peer = self.servers[other].peer;
            if let Some(life) = &mut self.servers[at].life {
                life.on_disconnected(now, peer);
            }
        }
    }

    pub(super) fn start(&mut self, at: usize) {
        let now = self.now;
        let server = &mut self.servers[at];
        if server.life.is_some() {
            return;
        }
        // A process number is larger than all before it, also over a replaced store.
        server.boots += 1;
        let boot = server.boots << 32 | u64::from(self.random.u32(..));
        let founding = server.founding.clone();
        server.disk.ignore_syncs(self.mutation == Some(ClusterMutation::IgnoreSyncs));
        let me = server.peer;
        server.life = Life::open(me, &server.disk, server.store_id, founding, boot, now, self.mutation);
        if self.servers[at].life.is_none()
            && (self.servers[at].disk.is_off() || self.is_faulty && !self.servers[at].is_damaged)
        {
            // The power went or a sync failed while the store was opened.
            self.note(|| format!("s{at} does not come up"));
            self.count(ClusterEvent::FailedStart);
            let seed = self.random.u64(..);
            self.servers[at].disk.crash(seed);
        } else if self.servers[at].life.is_none() && self.servers[at].is_damaged {
            // Nothing in the log can be read: an operator moves the store away.
            self.servers[at].is_damaged = false;
            self.wipe(at);
            self.start(at);
        } else if self.servers[at].life.is_none() {
            self.fail(format!("s{at} cannot open its store"));
        } else {
            self.note(|| format!("s{at} starts"));
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let leads = |s: &Server| s.life.as_ref().is_some_and(|l| l.driver.node().is_leading());
        let term = |at: &usize| self.servers[*at].life.as_ref().map(|l| l.driver.status().term);
        (0..self.servers.len()).filter(|at| leads(&self.servers[*at])).max_by_key(term)
    }
}
