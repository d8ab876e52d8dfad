//! Servers, clients, and what they saw.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linnet_env::FaultyDisk;
use linnet_ids::{GroupId, PeerId};
use linnet_raft::{Membership, Replica, Standing};

use super::facts::{Facts, StreamFacts, Told};
use super::opening::{Founding, open, peer};
use super::server::{Life, META_KEY, Passed};
use super::{FleetEvent, FleetMutation};
use crate::field::{Counts, Field, Happening, Machine};

/// Simulated time under faults.
const FAULTS_FOR: Duration = Duration::from_secs(9);
/// Simulated time in which a cluster without faults has to come to rest, and clients go on.
const HEAL_WITHIN: Duration = Duration::from_secs(10);
/// Passes of loops in a phase of a run.
const STEPS_MAX: u64 = 400_000;
/// Time without clients.
const SILENCE: Duration = Duration::from_secs(14);

/// A disk that was taken out: with the id of its store, and what the server began as.
type OldDisk = (FaultyDisk, [u8; 16], Option<Founding>);

/// Everything that one seed makes happen.
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) field: Field<Life>,
    has_clients: bool,
    /// Nobody deletes or moves streams any more.
    pub(super) is_calm: bool,
    pub(super) events: Counts<FleetEvent>,
    pub(super) facts: Facts,
    pub(super) unconfirmed: BTreeSet<(u64, &'static str)>,
    pub(super) next_number: u64,
    /// Servers that never come back, for an operator to take out.
    pub(super) gone: BTreeSet<usize>,
    /// Servers whose disk is full.
    pub(super) full: BTreeSet<usize>,
    /// What servers had before they were wiped.
    pub(super) old_disks: BTreeMap<usize, OldDisk>,
    /// Servers whose log was damaged, or that had an old disk: they may have what nobody knows any more.
    pub(super) marred: BTreeSet<usize>,
    pub(super) mutation: Option<FleetMutation>,
}

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut field = Field::new(seed, traced);
        let count = 3 + field.random.usize(..3);
        let founders: Vec<Replica> =
            (0..count).map(|n| Replica { peer: peer(n), incarnation: n as u64 + 1 }).collect();
        let voters = Membership::of_voters(founders.clone());
        for me in founders {
            let founding = Founding { me, voters: voters.clone() };
            field.machines.push(Machine::new(me.peer, Some(founding), &mut field.random));
        }
        Self {
            seed,
            field,
            has_clients: true,
            is_calm: false,
            events: BTreeMap::new(),
            facts: Facts::default(),
            unconfirmed: BTreeSet::new(),
            next_number: 0,
            gone: BTreeSet::new(),
            full: BTreeSet::new(),
            old_disks: BTreeMap::new(),
            marred: BTreeSet::new(),
            mutation: None,
        }
    }

    pub(super) fn count(&mut self, event: FleetEvent) {
        *self.events.entry(event).or_default() += 1;
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        self.field.note(text);
    }

    pub(super) fn fail(&mut self, text: String) {
        self.field.fail(text);
    }

    pub(super) fn with(&mut self, at: usize, act: impl FnOnce(&mut Life)) {
        if let Some(life) = self.field.life(at) {
            act(life);
        }
    }

    /// Runs the seed to its end.
    pub(super) fn run(&mut self) -> Result<(), String> {
        (0..self.field.machines.len()).for_each(|at| self.start(at));
        self.field.plan_client(Duration::ZERO);
        self.field.plan_fault(Duration::from_millis(1500));
        self.run_for(FAULTS_FOR);
        self.heal();
        self.is_calm = true;
        self.run_for(HEAL_WITHIN);
        self.has_clients = false;
        self.run_for(SILENCE);
        if !self.field.has_failed() {
            self.check_rest();
        }
        match self.field.failure.take() {
            Some(failure) => Err(format!("{failure} (seed {})", self.seed)),
            None => Ok(()),
        }
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.field.now + time;
        let most = self.field.steps + STEPS_MAX;
        while !self.field.has_failed()
            && let Some(happening) = self.field.next(until)
        {
            match happening {
                Happening::Pass(at) => self.pass(at),
                Happening::Client if self.has_clients => {
                    self.client();
                    if self.is_calm && self.field.random.u8(..20) == 0 {
                        self.remove_the_gone();
                    }
                    let pause = Duration::from_micros(self.field.random.u64(1000..50_000));
                    self.field.plan_client(pause);
                }
                Happening::Fault => {
                    self.fault();
                    let pause = Duration::from_millis(self.field.random.u64(5..700));
                    self.field.plan_fault(pause);
                }
                Happening::Client | Happening::Nothing => {}
            }
            if self.field.steps > most {
                let now = self.field.now;
                let lives = self.field.machines.iter().filter_map(|machine| machine.life.as_ref());
                let occupied: Vec<String> = lives.map(|life| life.occupation(now)).collect();
                self.fail(format!("a server is never done: {occupied:#?}"));
            }
        }
        self.field.now = self.field.now.max(until);
    }

    /// A pass of a server's loops.
    fn pass(&mut self, at: usize) {
        let (now, others) = (self.field.now, self.field.others(at));
        let Machine { write_time, life: Some(life), .. } = &mut self.field.machines[at] else { return };
        let passed = life.pass(now, &others, *write_time);
        self.take_in(at, passed);
        self.read_sent(at);
        if self.field.random.u8(..8) == 0 {
            self.compare_all(at);
        }
    }

    fn take_in(&mut self, at: usize, passed: Passed) {
        let Passed { letters, standings, told, checkpoints, failure, log_failed, store_failed } = passed;
        for (group, standing) in standings {
            self.note(|| format!("s{at} {group} {standing:?}"));
            if let Standing::Elected(term) = standing {
                self.count(if group == GroupId::META {
                    FleetEvent::MetaElected
                } else {
                    FleetEvent::Elected
                });
                self.check_leader(at, group, term);
            }
        }
        for told in told {
            self.hear(at, told);
        }
        *self.events.entry(FleetEvent::Checkpoint).or_default() += checkpoints;
        self.count_transfers(at);
        for (peer, letter) in letters {
            self.field.transmit(at, peer, letter, Duration::ZERO);
        }
        // A sync that fails may be one of the blocks: then the server ends as well, and comes back.
        if log_failed || store_failed || self.field.machines[at].disk.is_off() {
            self.field.log_failed(at);
        } else if let Some(failure) = failure {
            self.fail(format!("s{at}: {failure}"));
        }
    }

    fn count_transfers(&mut self, at: usize) {
        let Some(life) = self.field.life(at) else { return };
        let (mut begun, mut done) = (0, 0);
        for slot in life.slots.values_mut() {
            let counts = std::mem::take(&mut slot.transfers.counts);
            (begun, done) = (begun + counts.begun, done + counts.done);
        }
        for (event, times) in [(FleetEvent::TransferBegun, begun), (FleetEvent::TransferDone, done)] {
            if times > 0 {
                *self.events.entry(event).or_default() += times;
                self.note(|| format!("s{at} {event:?}"));
            }
        }
    }

    fn hear(&mut self, at: usize, told: Told) {
        self.note(|| format!("s{at} {told:?}"));
        let event = match told {
            Told::Step => FleetEvent::MemberStep,
            Told::Assigned(assignment) => {
                let Some(group) = assignment.group_id() else { return };
                self.check_group_is_new(group, &assignment);
                self.check_seed(&assignment);
                let servers = assignment.replicas().into_iter().filter_map(|r| self.server(r.peer)).collect();
                let facts = StreamFacts { servers, ..StreamFacts::of(&assignment) };
                self.facts.streams.entry(group).or_insert(facts);
                FleetEvent::Assigned
            }
            Told::Ending(group) => {
                if let Some(facts) = self.facts.streams.get_mut(&group) {
                    facts.is_ending = true;
                }
                return;
            }
            Told::Reseeded => FleetEvent::Reseeded,
            Told::GaveUp => FleetEvent::GaveUp,
            Told::Inherited { from, group } => {
                self.check_inherited(at, from, group);
                FleetEvent::Inherited
            }
            Told::Begun(group) => {
                self.facts.streams.entry(group).or_default().servers.insert(at);
                FleetEvent::Begun
            }
            Told::Removed(group) => {
                self.note(|| format!("s{at} has removed {group}"));
                FleetEvent::Removed
            }
            Told::Created => FleetEvent::Created,
            Told::NotCreated => FleetEvent::NotCreated,
            Told::Updated => FleetEvent::Updated,
            Told::ScaledUp => FleetEvent::ScaledUp,
            Told::ScaledDown => FleetEvent::ScaledDown,
            Told::OpenedUp => FleetEvent::OpenedUp,
            Told::PeerReplaced => FleetEvent::PeerReplaced,
            Told::Shaped => FleetEvent::Shaped,
            Told::LostAlone(group) => {
                let is_lost = self.facts.streams.get(&group).is_some_and(|facts| facts.is_lost);
                if !is_lost {
                    self.fail(format!("s{at} has lost {group}"));
                }
                return;
            }
            Told::SetAside(group) => {
                // Only what nobody can know of any more: the catalogue waits for everybody who has something.
                if !self.marred.contains(&at) {
                    self.fail(format!("s{at} sets {group} aside"));
                }
                FleetEvent::SetAside
            }
            Told::Moved => FleetEvent::Moved,
            Told::MoveCancelled => FleetEvent::MoveCancelled,
            Told::Deleted => FleetEvent::Deleted,
        };
        self.count(event);
    }

    /// Starts a server that does not run.
    pub(super) fn start(&mut self, at: usize) {
        let now = self.field.now;
        let Field { machines, random, .. } = &mut self.field;
        let machine = &mut machines[at];
        if machine.life.is_some() || self.gone.contains(&at) {
            return;
        }
        let boot = machine.next_boot(random);
        match open(machine, boot, now, self.mutation) {
            Ok(life) => {
                machine.life = Some(life);
                self.note(|| format!("s{at} starts"));
            }
            // Its log is rotten from the beginning: an operator moves the store away.
            Err(error) if self.marred.contains(&at) && error.contains("nothing") => {
                self.note(|| format!("s{at} has nothing left: {error}"));
                self.field.wipe(at);
                self.start(at);
            }
            Err(error) => self.field.failed_start(at, &error),
        }
    }

    /// The servers that run or will run again.
    pub(super) fn staying(&self) -> Vec<usize> {
        (0..self.field.machines.len()).filter(|at| !self.gone.contains(at)).collect()
    }

    /// The server that leads the catalogue's group in the latest term.
    pub(super) fn meta_leader(&self) -> Option<usize> {
        let term =
            |at: &usize| self.field.machines[*at].life.as_ref().and_then(Life::meta_status).map(|s| s.term);
        let leads = |at: &usize| self.field.machines[*at].life.as_ref().is_some_and(Life::leads_meta);
        (0..self.field.machines.len()).filter(leads).max_by_key(term)
    }

    /// A server by its id.
    pub(super) fn server(&self, peer: PeerId) -> Option<usize> {
        self.field.position(peer)
    }

    /// Keys of the groups on a server.
    pub(super) fn keys(&self, at: usize) -> Vec<u64> {
        let life = self.field.machines[at].life.as_ref();
        debug_assert!(life.is_none_or(|life| life.slots.contains_key(&META_KEY)));
        life.map(|life| life.slots.keys().copied().collect()).unwrap_or_default()
    }
}
