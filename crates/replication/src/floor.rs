//! The floor of a stream: a durable promise that no sequence above it was handed out.
//!
//! Damage may take any part of the log, and with it how far sequences got. The floor is kept beside the log, in the
//! name of a file in the group's directory: a group that lost something goes on behind it. So does a stream in memory,
//! which loses everything with the process: whoever reads it finds what comes after that behind what it has seen. A
//! floor is raised in large steps and well before sequences reach it, so that messages seldom wait for the disk.

mod file;

use std::io;
use std::path::Path;
use std::time::Duration;

use linnet_env::Disk;
use linnet_ids::{Mono, StreamSeq};

pub(crate) use file::{Whose, floor_of, is_of_volatile, volatile_floor};

/// Sequences that are reserved at a time, and the floor of a stream that has recorded none. Stores on disk rely on the
/// latter: it may grow, never shrink.
pub const FLOOR_STEP: StreamSeq = 1 << 19;

/// How long after a failure a floor is recorded again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How far the sequences of a stream may go.
pub(crate) struct Floor {
    whose: Whose,
    step: StreamSeq,
    /// Known to be durable.
    durable: StreamSeq,
    /// The newest sequence from which on a higher floor is wanted.
    raise_at: StreamSeq,
    /// The highest floor that was found on disk or tried. A name is used once: a sync that failed may succeed the
    /// next time and have done nothing for the name that was there already.
    highest: StreamSeq,
    is_wanted: bool,
    is_under_way: bool,
    /// Others have what this server may lose.
    is_suspended: bool,
    /// The last attempt failed; when the next one may begin.
    retry_at: Option<Mono>,
}

/// Work for a disk thread: recording a floor.
pub struct FloorJob {
    whose: Whose,
    to: StreamSeq,
}

/// Outcome of a [`FloorJob`].
pub struct FloorDone {
    to: StreamSeq,
    outcome: io::Result<()>,
}

/// What an attempt to raise the floor changed.
pub(crate) enum Raised {
    /// Nothing that needs telling.
    Quietly,
    /// It failed for the first time in a row.
    Failing(io::Error),
    /// It succeeded after it had failed.
    Again,
}

impl Floor {
    /// The floor of a group of which `found` is the highest on disk, 0 if there is none.
    pub(crate) fn new(whose: Whose, step: StreamSeq, found: StreamSeq) -> Self {
        // A process that was killed may have left a name that is not durable: what was found does not count before
        // another one is recorded.
        let mut floor = Self {
            whose,
            step,
            durable: 0,
            raise_at: 0,
            highest: found,
            is_wanted: false,
            is_under_way: false,
            is_suspended: false,
            retry_at: None,
        };
        floor.rest_on(step);
        floor
    }

    /// No floor: any sequence may be handed out.
    pub(crate) fn none() -> Self {
        Self { durable: StreamSeq::MAX, raise_at: StreamSeq::MAX, ..Self::new(Whose::Logged, FLOOR_STEP, 0) }
    }

    /// The floor of a replica, which bounds its sequences while it is the only voter.
    pub(crate) fn of_replica(step: StreamSeq, found: StreamSeq) -> Self {
        Self { is_suspended: true, ..Self::new(Whose::Logged, step, found) }
    }

    /// Others have what this server may lose, or have it no more.
    pub(crate) fn suspend(&mut self, is_suspended: bool) {
        self.is_suspended = is_suspended;
    }

    fn rest_on(&mut self, durable: StreamSeq) {
        self.durable = durable;
        self.raise_at = durable.saturating_sub(self.step / 2);
    }

    /// The sequence behind which a group goes on that lost something and of which `last` is left.
    pub(crate) fn behind_loss(&self, last: StreamSeq) -> StreamSeq {
        let floor = self.durable.max(self.highest);
        if last <= floor {
            return floor;
        }
        // The files are lost as well, or were never written: by a version that knew none.
        last.saturating_add(self.step)
    }

    /// True if the sequence after `head` may be handed out.
    pub(crate) fn allows_after(&mut self, head: StreamSeq) -> bool {
        if self.is_suspended || head < self.raise_at {
            return true;
        }
        self.is_wanted = true;
        head < self.durable
    }

    /// How many sequences after `head` may be handed out.
    pub(crate) fn left_after(&self, head: StreamSeq) -> u64 {
        if self.is_suspended { u64::MAX } else { self.durable.saturating_sub(head) }
    }

    /// When an attempt that failed is to be repeated.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        self.retry_at.filter(|_| !self.is_under_way && !self.is_suspended)
    }

    /// True while a job records a higher one.
    pub(crate) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Begins to raise the floor if that is wanted and not under way.
    pub(crate) fn begin(&mut self, head: StreamSeq, now: Mono) -> Option<FloorJob> {
        if self.is_suspended
            || !self.is_wanted
            || self.is_under_way
            || self.retry_at.is_some_and(|at| now < at)
        {
            return None;
        }
        self.is_under_way = true;
        let to = head.saturating_add(self.step).max(self.highest.saturating_add(1));
        self.highest = to;
        Some(FloorJob { whose: self.whose, to })
    }

    /// Takes the outcome of a job.
    pub(crate) fn done(&mut self, done: FloorDone, now: Mono) -> Raised {
        self.is_under_way = false;
        match done.outcome {
            Ok(()) => {
                self.is_wanted = false;
                self.rest_on(done.to);
                if self.retry_at.take().is_some() { Raised::Again } else { Raised::Quietly }
            }
            Err(error) => {
                let is_first = self.retry_at.replace(now + RETRY_AFTER).is_none();
                if is_first { Raised::Failing(error) } else { Raised::Quietly }
            }
        }
    }
}

impl FloorJob {
    /// Of a group whose sequences wait for nothing.
    pub(crate) fn up_to(whose: Whose, to: StreamSeq) -> Self {
        Self { whose, to }
    }

    /// Does the work in the directory of the group.
    pub(crate) fn run(self, disk: &dyn Disk, dir: &Path) -> FloorDone {
        let outcome = file::record(disk, dir, self.whose, self.to);
        if outcome.is_ok() {
            file::remove_below(disk, dir, self.whose, self.to);
        }
        FloorDone { to: self.to, outcome }
    }
}

impl FloorDone {
    /// How it went.
    pub(crate) fn into_outcome(self) -> io::Result<()> {
        self.outcome
    }
}
