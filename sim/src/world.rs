//! The simulated world: one server, its disk and clock, clients, faults, and the checks after every step.

mod restarts;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linnet_assets::CommandOutcome;
use linnet_env::{Clock, Disk, FaultyDisk, ManualClock, SeededRng};
use linnet_ids::{GroupId, Wall};
use linnet_replication::Host as _;
use linnet_seal::{Cipher, KeyRing, MasterKey, SealedDisk};

use crate::backups::{Backup, Taken, UnderWay};
use crate::facts::{Facts, StreamFacts};
use crate::flows::Waiter;
use crate::invariants::{Check, Violation, broken, usage};
use crate::mutation::{MutatedDisk, Mutation};
use crate::outbox::Event;
use crate::process::Process;
use crate::pulls::Pulls;
use crate::questions::Questions;
use crate::restore;
use crate::trace::Trace;
use crate::{Mode, invariants::state};

/// A message a client holds and may acknowledge.
pub(crate) struct Held {
    pub(crate) group: GroupId,
    pub(crate) consumer: String,
    pub(crate) born: u64,
    pub(crate) seq: u64,
    pub(crate) ack: Vec<u8>,
}

/// A flow control request that a client has not answered.
pub(crate) struct FlowAsk {
    pub(crate) group: GroupId,
    pub(crate) consumer: String,
    pub(crate) subject: Vec<u8>,
}

/// An API call about a stream that is under way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Create(GroupId),
    Update(GroupId),
    Delete(GroupId),
}

pub(crate) struct World {
    pub(crate) rng: fastrand::Rng,
    pub(crate) disk: FaultyDisk,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) process: Process,
    pub(crate) facts: Facts,
    pub(crate) held: Vec<Held>,
    pub(crate) asked: Vec<FlowAsk>,
    pub(crate) taken: Vec<Taken>,
    pub(crate) backups: Vec<Backup>,
    pub(crate) restoring: Option<UnderWay>,
    pub(crate) call: Option<Call>,
    pub(crate) questions: Questions,
    pub(crate) pulls: Pulls,
    pub(crate) trace: Trace,
    pub(crate) mode: Mode,
    pub(crate) restarts: u64,
    pub(crate) hash: DefaultHasher,
    pub(crate) totals: Totals,
    pub(crate) is_damaged: bool,
    /// Lives that ended with damage.
    pub(crate) damages: u32,
    pub(crate) gave_up: bool,
    /// The last batch of the life that ended was not marked durable by a later one.
    pub(crate) was_unsealed: bool,
    pub(crate) may_look_torn: bool,
    /// Damaged files that must stay, under one name or the other.
    pub(crate) kept: Vec<[PathBuf; 2]>,
    mutation: Option<Mutation>,
    /// The store is encrypted.
    pub(crate) ring: Option<Arc<KeyRing>>,
    dir: PathBuf,
}

/// What a run did, for the summary.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_in_memory: u64,
    pub(crate) duplicates: u64,
    pub(crate) refused: u64,
    pub(crate) delivered: u64,
    /// Heartbeats and flow control requests at deliver subjects.
    pub(crate) beats: u64,
    pub(crate) confirmed: u64,
    /// Answers to fast batches.
    pub(crate) fast: u64,
    pub(crate) republished: u64,
    /// Messages between streams.
    pub(crate) handed_over: u64,
    /// Backups read, and streams restored from one.
    pub(crate) backups: u64,
    pub(crate) restored: u64,
    pub(crate) calls: u64,
    pub(crate) reads: u64,
    pub(crate) commits: u64,
    pub(crate) checkpoints: u64,
    pub(crate) rewrites: u64,
    pub(crate) refused_space: u64,
    pub(crate) loads: u64,
    pub(crate) floors: u64,
    pub(crate) log_failures: u64,
    pub(crate) reopened: u64,
}

impl World {
    pub(crate) fn new(
        seed: u64,
        mode: Mode,
        mutation: Option<Mutation>,
        trace: Trace,
    ) -> Result<Self, Violation> {
        let rng = fastrand::Rng::with_seed(seed);
        let disk = FaultyDisk::new(seed);
        disk.ignore_syncs(mutation == Some(Mutation::IgnoreSyncs));
        let clock = Arc::new(ManualClock::at(Wall(1_700_000_000_000_000_000)));
        let dir = PathBuf::from("/store/jetstream");
        let mut facts = Facts::default();
        let meta = StreamFacts::new("_catalogue_", GroupId::META, linnet_replication::catalogue_config());
        facts.streams.insert(GroupId::META, meta);
        let ring = ring_of(seed);
        let opened = restore::open(shared(&disk, mutation, ring.as_ref(), seed), &dir, &clock, mutation);
        let Ok((process, _)) = opened else { return broken("opening", "a new store cannot be opened") };
        let mut world = Self {
            rng,
            disk,
            clock,
            process,
            facts,
            held: Vec::new(),
            asked: Vec::new(),
            taken: Vec::new(),
            backups: Vec::new(),
            restoring: None,
            call: None,
            questions: Questions::default(),
            pulls: Pulls::default(),
            trace,
            mode,
            restarts: 0,
            hash: DefaultHasher::new(),
            totals: Totals::default(),
            is_damaged: false,
            damages: 0,
            gave_up: false,
            was_unsealed: false,
            may_look_torn: false,
            kept: Vec::new(),
            mutation,
            ring,
            dir,
        };
        world.observe()?;
        Ok(world)
    }

    /// One turn of one of the server's loops, and what follows from it.
    pub(crate) fn turn_server(&mut self) -> Check {
        let mut choices: Vec<u8> = Vec::new();
        let process = &self.process;
        if process.pump_has_work() {
            choices.extend([0, 0, 0]);
        }
        if process.writer_has_work() {
            choices.extend([1, 1]);
        }
        if !process.jobs.is_empty() {
            choices.extend([2, 2]);
        }
        if process.wants_seal() && self.rng.u8(..4) == 0 {
            choices.push(3);
        }
        if !process.wire.parcels.is_empty() {
            choices.extend([4, 4]);
        }
        match choices.get(self.rng.usize(..choices.len().max(1))) {
            Some(4) => {
                let is_lost = self.mode != Mode::Calm && self.rng.u8(..30) == 0;
                self.totals.handed_over += 1;
                if let Some(parcel) = self.process.wire.parcels.front() {
                    self.trace.line(|| format!("{parcel} is handed over, lost {is_lost}"));
                }
                self.process.hand_over(is_lost);
            }
            Some(0) => self.process.pump(),
            Some(1) => self.process.write_log(),
            Some(2) => {
                // Several threads take jobs from the front: order is kept only roughly.
                let at = self.rng.usize(..self.process.jobs.len().min(4));
                self.process.run_job(at);
            }
            Some(3) => self.process.seal(),
            _ => return Ok(()),
        }
        self.observe()
    }

    /// Lets the server work until nothing is under way, or for so many turns.
    pub(crate) fn settle(&mut self, turns: u32) -> Check {
        for _ in 0..turns {
            if self.process.is_quiet() {
                break;
            }
            self.turn_server()?;
            if self.process.is_stuck() {
                self.advance(Duration::from_millis(2100));
            }
        }
        Ok(())
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        self.facts.max_wall = self.facts.max_wall.max(self.clock.wall().0);
    }

    /// Looks at everything that left the server, then at its state.
    pub(crate) fn observe(&mut self) -> Check {
        self.facts.max_wall = self.facts.max_wall.max(self.clock.wall().0);
        self.facts.wall = self.clock.wall().0;
        self.facts.now = self.clock.mono();
        let is_off = self.disk.is_off();
        let appended = std::mem::take(&mut self.process.log.appended);
        self.facts.appended(appended)?;
        loop {
            let events = self.process.events.take();
            if events.is_empty() {
                break;
            }
            for event in events {
                self.event(event)?;
            }
            let appended = std::mem::take(&mut self.process.log.appended);
            self.facts.appended(appended)?;
        }
        if !is_off {
            self.check_log()?;
        }
        for slot in self.process.slots.values().filter(|s| !s.failed) {
            if let Some(stream) = self.facts.streams.get(&slot.group.group()).filter(|s| !s.is_lossy) {
                state::equals_model(stream, slot.group.stream().store())?;
            }
        }
        Ok(())
    }

    /// The log fails only if the disk did, and stays within its bound.
    fn check_log(&self) -> Check {
        let counters = self.disk.counters();
        let faults = counters.sync_errors + counters.write_errors + counters.reads_failed;
        if let Some(failure) = &self.process.log_failure
            && (faults == 0 || self.process.log_refused)
        {
            return broken("log", format!("the log stopped and the disk is well: {failure}"));
        }
        usage::is_bounded(&self.process.keeper.wal().usage(), &restore::wal_config())
    }

    fn event(&mut self, event: Event) -> Check {
        match event {
            Event::Sent { group, to, shown, reply, header_len, body } => {
                self.hash.write(&to);
                self.hash.write(&body);
                self.sent(group, &to, &shown, &reply, header_len, &body)
            }
            Event::Answered { token, answer } => {
                self.hash.write_u64(token);
                match self.process.waiters.remove(&token) {
                    Some(Waiter::Flow(flow)) => self.process.flow_answered(flow, *answer),
                    Some(Waiter::Asker(asker)) => self.process.origin_answered(asker, &answer),
                    Some(Waiter::Restore) => self.part_answered(answer.is_ok()),
                    Some(Waiter::Nobody) => {}
                    Some(Waiter::Client) => {
                        if let Ok(CommandOutcome::Snapshot(snapshot)) = &*answer {
                            self.snapshot_taken(snapshot);
                        }
                        self.totals.calls += u64::from(answer.is_ok());
                        self.questions.answered(token, &answer, &mut self.facts)?;
                    }
                    None => return broken("answered", "a command was answered twice"),
                }
                Ok(())
            }
            Event::Applying { group, ticket } => {
                self.facts.applying(group, ticket)?;
                self.questions.changed(group, &self.facts);
                Ok(())
            }
            Event::Unlogged { group, payload } => {
                self.facts.unlogged(group, &payload)?;
                self.questions.changed(group, &self.facts);
                Ok(())
            }
            Event::Damaged { group, seq } if !self.is_damaged => {
                broken("damage", format!("group {group}: {seq} is called damaged and is not"))
            }
            Event::Damaged { .. } => Ok(()),
            Event::FlowDone { ok } => {
                self.call_done(ok);
                Ok(())
            }
        }
    }

    fn call_done(&mut self, ok: bool) {
        let Some(call) = self.call.take() else { return };
        self.totals.calls += u64::from(ok);
        let (Call::Create(group) | Call::Update(group) | Call::Delete(group)) = call;
        let Some(stream) = self.facts.streams.get_mut(&group) else { return };
        self.trace.line(|| format!("call about {} answered {ok}", stream.name));
        match call {
            Call::Create(_) => {
                stream.created |= ok;
                self.totals.restored += u64::from(ok && stream.backup.is_some());
            }
            Call::Delete(_) => stream.ended |= ok,
            Call::Update(_) => stream.is_changing &= !ok,
        }
    }
}

/// The disk as the server gets it.
fn shared(
    disk: &FaultyDisk,
    mutation: Option<Mutation>,
    ring: Option<&Arc<KeyRing>>,
    salt: u64,
) -> Arc<dyn Disk> {
    let mut shared: Arc<dyn Disk> = Arc::new(disk.clone());
    if let Some(mutation) = mutation {
        shared = Arc::new(MutatedDisk { disk: shared, mutation });
    }
    match ring.filter(|_| mutation != Some(Mutation::PlainFiles)) {
        Some(ring) => Arc::new(SealedDisk::new(shared, ring.clone(), Arc::new(SeededRng::new(salt)))),
        None => shared,
    }
}

/// The key of an encrypted store: one run in four has one.
fn ring_of(seed: u64) -> Option<Arc<KeyRing>> {
    let cipher = if seed.is_multiple_of(8) { Cipher::Aes } else { Cipher::ChaCha };
    let ring = || KeyRing::new(cipher, Arc::new(MasterKey::new("simulated")), []);
    seed.is_multiple_of(4).then(|| Arc::new(ring()))
}

/// Streams by name that clients may use now.
pub(crate) fn usable(world: &World) -> BTreeMap<String, GroupId> {
    let streams = world.facts.streams.values().filter(|s| s.created && !s.ending && s.group != GroupId::META);
    let here = streams.filter(|s| world.process.key_of(s.group).is_some());
    here.map(|s| (s.name.clone(), s.group)).collect()
}
