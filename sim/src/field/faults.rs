//! What breaks.

use std::time::Duration;

use super::events::Fault;
use super::machine::Life;
use super::{Field, Machine};

/// What only the world of a simulator can do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// Start this server, if it does not run.
    Restart(usize),
    /// Hand a leadership of the first to the second.
    HandOver(usize, usize),
    /// Something of its own.
    Own,
    /// Nothing is left to do.
    Nothing,
}

impl<L: Life> Field<L> {
    /// One fault, or the end of some; what the world has to do for it.
    pub(crate) fn break_something(&mut self) -> Wish {
        let at = self.random.usize(..self.machines.len());
        let other = self.random.usize(..self.machines.len());
        match self.random.u8(..100) {
            0..8 => self.stop(at, Fault::PowerLoss),
            8..16 if self.machines[at].life.is_some() => {
                let operations = self.random.u64(..40);
                self.machines[at].disk.power_off_after(operations);
            }
            16..24 => self.stop(at, Fault::Kill),
            24..46 => return Wish::Restart(at),
            46..53 => self.pause(at),
            53..59 if at != other => self.cut_both(at, other),
            59..64 if at != other => self.cut_one_way(at, other),
            64..76 => self.heal_network(),
            76..80 => self.slow_disk(at),
            80..84 if self.machines[at].life.is_some() => {
                let successes = self.random.u64(..6);
                self.machines[at].disk.fail_sync_after(successes);
            }
            84..90 if at != other => return Wish::HandOver(at, other),
            90.. => return Wish::Own,
            _ => {}
        }
        Wish::Nothing
    }

    /// A server ends.
    pub(crate) fn stop(&mut self, at: usize, how: Fault) {
        if self.machines[at].life.take().is_none() {
            return;
        }
        self.count(how);
        self.note(|| format!("s{at} {how:?}"));
        match how {
            Fault::Kill | Fault::FailedSync => self.machines[at].disk.kill(),
            _ => {
                let seed = self.random.u64(..);
                self.machines[at].disk.crash(seed);
            }
        }
        self.machines[at].paused_until = self.now;
    }

    /// A write or sync of the log failed: what runs on it ends.
    pub(crate) fn log_failed(&mut self, at: usize) {
        let how = if self.machines[at].disk.is_off() { Fault::PowerLossInWrite } else { Fault::FailedSync };
        self.stop(at, how);
    }

    fn pause(&mut self, at: usize) {
        let time = Duration::from_millis(self.random.u64(50..5000));
        self.count(Fault::Pause);
        self.note(|| format!("s{at} is paused for {time:?}"));
        self.machines[at].paused_until = self.now + time;
    }

    fn cut_both(&mut self, at: usize, other: usize) {
        self.count(Fault::Cut);
        self.note(|| format!("s{at} and s{other} are cut"));
        self.cut.insert((at, other));
        self.cut.insert((other, at));
    }

    fn cut_one_way(&mut self, at: usize, other: usize) {
        self.count(Fault::OneWayCut);
        self.note(|| format!("s{other} does not hear s{at}"));
        self.cut.insert((at, other));
    }

    fn heal_network(&mut self) {
        self.note(|| "the network heals".to_owned());
        self.cut.clear();
    }

    fn slow_disk(&mut self, at: usize) {
        let is_slow = self.random.bool();
        let micros = if is_slow { self.random.u64(20_000..5_000_000) } else { self.random.u64(100..3000) };
        if is_slow {
            self.count(Fault::SlowDisk);
            self.note(|| format!("s{at} has a slow disk"));
        }
        self.machines[at].write_time = Duration::from_micros(micros);
    }

    pub(crate) fn wipe(&mut self, at: usize) {
        self.count(Fault::Wipe);
        self.note(|| format!("s{at} is wiped"));
        let Self { machines, random, .. } = self;
        machines[at].wipe(random);
    }

    /// A store could not be opened: because of a fault, if `is_excused`.
    pub(crate) fn failed_start(&mut self, at: usize, error: &str) {
        let is_off = self.machines[at].disk.is_off();
        if !is_off && !self.is_faulty {
            return self.fail(format!("s{at} cannot open its store: {error}"));
        }
        self.note(|| format!("s{at} does not come up: {error}"));
        self.count(Fault::FailedStart);
        let seed = self.random.u64(..);
        self.machines[at].disk.crash(seed);
    }

    /// Everything is connected and works; who does not run is to be started.
    pub(crate) fn heal(&mut self) {
        self.is_faulty = false;
        self.cut.clear();
        self.note(|| "everything is healed".to_owned());
        for at in 0..self.machines.len() {
            let now = self.now;
            let machine: &mut Machine<L> = &mut self.machines[at];
            machine.paused_until = now;
            machine.write_time = Duration::from_micros(500);
            machine.disk.power_off_after(u64::MAX);
            machine.disk.fail_sync_after(u64::MAX);
            if machine.disk.is_off() {
                self.stop(at, Fault::PowerLoss);
            }
        }
    }
}
