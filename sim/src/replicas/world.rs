//! Servers, clients, and what they saw.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use linnet_ids::{LogIndex, PeerId, StreamSeq};
use linnet_raft::{Membership, Opening, Replica, Standing};

use super::opening::{GROUP, Start};
use super::server::{Letter, Life, Passed};
use super::{ReplicaEvent, ReplicaMutation};
use crate::field::{Counts, Field, Happening, Machine, Parcel};

/// Simulated time under faults.
const FAULTS_FOR: Duration = Duration::from_secs(10);
/// Simulated time in which a cluster without faults has to come to rest, and clients go on.
const HEAL_WITHIN: Duration = Duration::from_secs(14);
/// Passes of loops in a phase of a run.
const STEPS_MAX: u64 = 300_000;
/// Time without clients.
const SILENCE: Duration = Duration::from_secs(4);

/// Everything that one seed makes happen.
pub(super) struct World {
    seed: u64,
    pub(super) field: Field<Life>,
    has_clients: bool,
    pub(super) events: Counts<ReplicaEvent>,
    /// Hash of the state at places of the log, with whose it was.
    pub(super) states: BTreeMap<LogIndex, (u64, usize, Option<String>)>,
    /// Where publishers were told that a number is.
    pub(super) stored: BTreeMap<u64, StreamSeq>,
    pub(super) unconfirmed: BTreeSet<u64>,
    pub(super) next_number: u64,
    /// Reply subjects of messages that clients got and did not acknowledge.
    pub(super) deliveries: VecDeque<Vec<u8>>,
    /// Sequences whose acknowledgement was confirmed.
    pub(super) confirmed: BTreeSet<StreamSeq>,
    /// What clients may have removed.
    pub(super) removed_below: StreamSeq,
    pub(super) removed: BTreeSet<StreamSeq>,
    /// The highest sequence that any replica was seen with.
    pub(super) newest_known: StreamSeq,
    pub(super) mutation: Option<ReplicaMutation>,
}

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut field = Field::new(seed, traced);
        let peer = |n: usize| PeerId::of_name(&format!("s{n}"));
        let founders: Vec<Replica> =
            (0..3).map(|n| Replica { peer: peer(n), incarnation: n as u64 + 1 }).collect();
        let membership = Membership::of_voters(founders.clone());
        for me in founders {
            let founding = Opening::founding(GROUP, me, membership.clone(), 0);
            field.machines.push(Machine::new(me.peer, Some(founding), &mut field.random));
        }
        Self {
            seed,
            field,
            has_clients: true,
            events: BTreeMap::new(),
            states: BTreeMap::new(),
            stored: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            next_number: 0,
            deliveries: VecDeque::new(),
            confirmed: BTreeSet::new(),
            removed_below: 0,
            removed: BTreeSet::new(),
            newest_known: 0,
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
        self.field.plan_fault(Duration::from_secs(1));
        self.run_for(FAULTS_FOR);
        self.heal();
        let heals = HEAL_WITHIN * if self.is_slow() { 4 } else { 1 };
        self.run_for(heals);
        if !self.field.has_failed() {
            self.check_lag();
        }
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
                    let pause = Duration::from_micros(self.field.random.u64(1000..40_000));
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
                self.fail("a server is never done".to_owned());
            }
        }
        self.field.now = self.field.now.max(until);
    }

    /// A pass of a server's loop.
    fn pass(&mut self, at: usize) {
        let (now, others, is_faulty) = (self.field.now, self.field.others(at), self.field.is_faulty);
        let Machine { peer: me, write_time, life: Some(life), .. } = &mut self.field.machines[at] else {
            return;
        };
        let (me, write_time) = (*me, *write_time);
        life.is_shaky = is_faulty;
        let before = life.group.status().map(|s| s.applied);
        let passed = life.pass(now, me, &others, write_time);
        let has_applied = life.group.status().map(|s| s.applied) != before;
        self.newest_known = self.newest_known.max(life.group.stream().store().state().last_seq);
        self.take_in(at, passed);
        if has_applied && self.field.random.u8(..3) == 0 {
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
        let counts =
            self.field.machines[at].life.as_mut().map(|life| std::mem::take(&mut life.transfers.counts));
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
        let is_slow = self.is_slow();
        for (peer, letter) in letters {
            let is_chunk = matches!(letter, Letter::Parcel(Parcel::Chunk(_)));
            let extra = if is_slow && is_chunk { Duration::from_millis(600) } else { Duration::ZERO };
            self.field.transmit(at, peer, letter, extra);
        }
        if log_failed || self.field.machines[at].disk.is_off() {
            self.field.log_failed(at);
        } else if let Some(failure) = failure {
            self.fail(format!("s{at}: {failure}"));
        }
    }

    /// Starts a server that does not run.
    pub(super) fn start(&mut self, at: usize) {
        let now = self.field.now;
        let Field { machines, random, .. } = &mut self.field;
        let machine = &mut machines[at];
        if machine.life.is_some() {
            return;
        }
        let boot = machine.next_boot(random);
        machine.disk.ignore_syncs(self.mutation == Some(ReplicaMutation::IgnoreSyncs));
        let start = Start {
            me: machine.peer,
            disk: &machine.disk,
            store_id: machine.store_id,
            founding: machine.founding.clone(),
            boot,
            seed: self.seed,
            mutation: self.mutation,
        };
        match Life::open(start, now) {
            Ok(life) => {
                machine.life = Some(life);
                self.note(|| format!("s{at} starts"));
            }
            Err(error) => self.field.failed_start(at, &error),
        }
    }

    pub(super) fn leader(&self) -> Option<usize> {
        let status = |at: usize| self.field.machines[at].life.as_ref().and_then(|l| l.group.status());
        let leads = |at: &usize| {
            self.field.machines[*at].life.as_ref().is_some_and(|l| l.group.stream().is_leading())
        };
        (0..self.field.machines.len()).filter(leads).max_by_key(|at| status(*at).map(|s| s.term))
    }
}
