//! Random work, cut off at random points, over a disk that keeps only what it must.

use std::path::Path;

use linnet_env::{Disk as _, FaultyDisk};
use linnet_wal::{Error, Opened, PrepareSegment, Step, Unverifiable, Wal};

use crate::model::{Model, Op, apply_all, batch_of, contents, difference, live_contents, open, random_ops};

/// Seeds of a sweep: few in an ordinary run, as many as `LINNET_SEEDS` says in a long one.
pub(crate) fn seeds(ordinary: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("LINNET_SEEDS").ok().and_then(|n| n.parse().ok());
    0..asked.unwrap_or(ordinary)
}

struct World {
    rng: fastrand::Rng,
    disk: FaultyDisk,
    /// What was acknowledged.
    model: Model,
    /// What was under way when the log stopped: all or nothing of it may be found.
    pending: Option<Vec<Op>>,
    /// File work that goes on between batches.
    job: Option<PrepareSegment>,
}

impl World {
    fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self { rng, disk: FaultyDisk::new(seed), model: Model::new(), pending: None, job: None }
    }

    /// Checks an opened log against the model, and learns what became of the pending batch.
    fn check(&mut self, opened: &Opened) -> Result<(), String> {
        if !opened.report.damages.is_empty() {
            return Err(format!("damage without a cause: {:?}", opened.report.damages));
        }
        let found = contents(opened)?;
        let without = difference(&found, &self.model);
        if let (Some(_), Some(pending)) = (&without, self.pending.take()) {
            let mut with = self.model.clone();
            apply_all(&pending, &mut with);
            if found == with {
                self.model = with;
                return Ok(());
            }
        }
        without.map_or(Ok(()), Err)
    }

    /// One process life: opens, checks, works until it ends or the power goes off.
    fn live(&mut self) -> Result<(), String> {
        let mut wal = match open(&self.disk) {
            Ok(_) if self.disk.is_off() => return Ok(()),
            Ok(opened) => {
                self.check(&opened)?;
                opened.wal
            }
            Err(_) if self.is_down() => return Ok(()),
            Err(Error::NoSpaceToOpen { .. }) if self.has_no_space() => {
                self.disk.set_capacity(None);
                return Ok(());
            }
            Err(e) => return Err(format!("open: {e}")),
        };
        self.job = None;
        for _ in 0..self.rng.usize(1..30) {
            if !self.work(&mut wal)? {
                return Ok(());
            }
        }
        if self.disk.is_off() { Ok(()) } else { live_contents(&wal, &self.model) }
    }

    fn is_down(&self) -> bool {
        self.disk.is_off() || self.disk.counters().sync_errors + self.disk.counters().write_errors > 0
    }

    /// One action. Answers false when the log has stopped.
    fn work(&mut self, wal: &mut Wal) -> Result<bool, String> {
        let result = match self.rng.u8(..10) {
            0 => wal.seal().map(|_| ()),
            1 => wal.rewrite_oldest(Unverifiable::Keep).map(|_| ()),
            2..5 => return self.prepare(wal).map(|()| true),
            _ => {
                let ops = random_ops(&mut self.rng, &self.model, 4, 9000);
                match wal.commit(&mut batch_of(&ops)) {
                    Ok(_) => {
                        apply_all(&ops, &mut self.model);
                        Ok(())
                    }
                    Err(e) => {
                        if matches!(e, Error::Stopped(_)) {
                            self.pending = Some(ops);
                        }
                        Err(e)
                    }
                }
            }
        };
        match result {
            Ok(()) => Ok(true),
            Err(Error::Full { .. }) => {
                Self::make_space(wal);
                Ok(true)
            }
            Err(Error::TooLarge { .. }) => Ok(true),
            Err(Error::DiskFull { .. }) if self.has_no_space() => Ok(true),
            Err(Error::Stopped(_)) if self.is_down() => {
                let mut again = batch_of(&random_ops(&mut self.rng, &self.model, 1, 100));
                match wal.commit(&mut again) {
                    Err(Error::Stopped(_)) => Ok(false),
                    _ if again.is_empty() => Ok(false),
                    other => Err(format!("a stopped log answered {other:?}")),
                }
            }
            Err(_) if self.is_down() => Ok(false),
            Err(e) => Err(format!("work: {e}")),
        }
    }

    /// A step of the file work, begun if there is none; now and then all of it at once.
    fn prepare(&mut self, wal: &mut Wal) -> Result<(), String> {
        let Some(mut job) = self.job.take().or_else(|| wal.prepare_next()) else { return Ok(()) };
        let whole = self.rng.u8(..4) == 0;
        let mut outcome = job.step();
        while whole && matches!(outcome, Ok(Step::More)) {
            outcome = job.step();
        }
        match outcome {
            Ok(Step::More) => self.job = Some(job),
            Ok(Step::Done(prepared)) => wal.install(prepared),
            Err(_) if self.is_down() => wal.prepare_failed(),
            Err(Error::DiskFull { .. }) if self.has_no_space() => wal.prepare_failed(),
            Err(e) => return Err(format!("prepare: {e}")),
        }
        Ok(())
    }

    /// True if the disk has no room for a segment and what it leaves, or refused a write.
    fn has_no_space(&self) -> bool {
        let free = self.disk.free_space(Path::new("/store")).unwrap_or(0);
        self.disk.counters().no_space > 0 || free < 96 << 10
    }

    fn make_space(wal: &mut Wal) {
        for _ in 0..8 {
            if wal.rewrite_oldest(Unverifiable::Keep).is_err() {
                return;
            }
        }
    }

    fn end_life(&mut self) {
        match self.rng.u8(..4) {
            0 => self.disk.kill(),
            1 => {
                self.disk.kill();
                self.disk.crash(self.rng.u64(..));
            }
            _ => self.disk.crash(self.rng.u64(..)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    /// Failing writes and syncs.
    Failures,
    /// A disk that has little or no space left for a life.
    FullDisk,
}

pub(crate) fn run(seed: u64, ignore_syncs: bool, faults: Faults) -> Result<(), String> {
    let mut world = World::new(seed);
    world.disk.ignore_syncs(ignore_syncs);
    for _ in 0..world.rng.usize(2..7) {
        let cut = world.rng.u64(1..120);
        if faults == Faults::FullDisk {
            let free = world.rng.u64(..200_000);
            let is_full = world.rng.u8(..3) > 0;
            world.disk.set_capacity(is_full.then(|| world.disk.used() + free.saturating_sub(100_000)));
        }
        if faults == Faults::Failures {
            match world.rng.u8(..3) {
                0 => world.disk.fail_sync_after(cut / 2),
                1 => world.disk.fail_write_after(cut * 2000),
                _ => world.disk.power_off_after(cut),
            }
        } else if world.rng.u8(..5) > 0 {
            world.disk.power_off_after(cut);
        }
        world.live()?;
        world.end_life();
    }
    world.disk.set_capacity(None);
    let mut opened = open(&world.disk);
    while faults == Faults::Failures && opened.is_err() && world.is_down() {
        // Faults that have not struck yet may strike here; each strikes once.
        world.disk.kill();
        opened = open(&world.disk);
    }
    let opened = opened.map_err(|e| format!("last open: {e}"))?;
    world.check(&opened)
}

#[test]
fn acknowledged_batches_survive_every_crash_whole_and_in_order() {
    for seed in seeds(1500) {
        run(seed, false, Faults::None).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn a_failed_write_or_sync_never_loses_an_acknowledged_batch() {
    for seed in seeds(1000) {
        run(seed, false, Faults::Failures).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn a_full_disk_never_loses_an_acknowledged_batch() {
    for seed in seeds(1000) {
        run(seed, false, Faults::FullDisk).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn the_check_notices_syncs_that_do_nothing() {
    let noticed = (0..30).filter(|seed| run(*seed, true, Faults::None).is_err()).count();
    assert!(noticed > 20, "only {noticed} of 30 seeds fail without syncs");
}
