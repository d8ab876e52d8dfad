//! The end of a life of the server, and the beginning of the next.

use std::hash::Hasher;
use std::path::Path;

use linnet_env::{Disk, FaultCounters};
use linnet_seal::HEADER_BYTES;

use super::{World, shared};
use crate::Mode;
use crate::invariants::{Check, answered, broken, secrecy};
use crate::restore::{self, OpenFailed};

/// Openings tried in a row before the store counts as closed for good.
const OPENINGS_MAX: u32 = 12;
/// Lives of a run that may end with damage.
const DAMAGES_MAX: u32 = 2;

impl World {
    /// Adds up what the process did before it goes.
    pub(crate) fn count_work(&mut self) {
        let work = std::mem::take(&mut self.process.work);
        self.totals.commits += work.commits;
        self.totals.checkpoints += std::mem::take(&mut self.process.log.checkpoints);
        self.totals.rewrites += self.process.keeper.take_rewrites();
        self.totals.refused_space += work.refused_space;
        self.totals.loads += work.loads;
        self.totals.floors += work.floors;
        self.totals.log_failures += work.log_failures;
    }

    /// The process ends, by power loss or by itself, and starts again; perhaps more than once.
    pub(crate) fn restart(&mut self, power_loss: bool) -> Check {
        self.count_work();
        self.restarts += 1;
        self.was_unsealed = self.process.is_unsealed;
        self.end_life(power_loss)?;
        if self.mode == Mode::Damage && self.restarts > 1 && self.damages < DAMAGES_MAX {
            self.damage()?;
        }
        for attempt in 0..OPENINGS_MAX {
            // A later opening of the same restart may fall too, but not for ever.
            if attempt < 4 && self.mode == Mode::Faults && self.rng.u8(..4) == 0 {
                self.disk.power_off_after(self.rng.u64(..40));
            }
            if attempt > 3 {
                // Somebody makes room: a store on a full disk opens only while a segment is left that was made ahead.
                self.disk.set_capacity(None);
            }
            let before = self.disk.counters();
            let disk = shared(&self.disk, self.mutation, self.ring.as_ref(), self.rng.u64(..));
            let opened = restore::open(disk, &self.dir, &self.clock, self.mutation);
            let is_off = self.disk.is_off();
            match opened {
                Ok((mut process, found)) if !is_off => {
                    process.ids = self.process.ids;
                    self.process = process;
                    self.trace.line(|| format!("opened: {:?}", found.report));
                    if !self.is_damaged && !found.report.damages.is_empty() {
                        return broken("log", format!("damage is reported: {:?}", found.report.damages));
                    }
                    if !self.is_damaged {
                        answered::calls_hold(&self.facts, &found)?;
                    }
                    self.adopt(found)?;
                    return self.observe();
                }
                Ok(_) => {}
                Err(OpenFailed::Refused(reason)) => {
                    self.trace.line(|| format!("opening failed: {reason}"));
                    let free = self.disk.free_space(&self.dir).unwrap_or(0);
                    let has_no_space = free < restore::wal_config().segment_bytes + HEADER_BYTES;
                    let struck = has_no_space || faults(&self.disk.counters()) > faults(&before);
                    if !is_off && !struck && self.is_damaged {
                        // What is said is said: nothing is lost in silence.
                        self.gave_up = true;
                        return Ok(());
                    }
                    if !is_off && !struck {
                        return broken("opening", format!("the store cannot be opened: {reason}"));
                    }
                }
            }
            self.totals.reopened += 1;
            let power_loss = self.rng.bool();
            self.end_life(power_loss)?;
        }
        broken("opening", "the store cannot be opened")
    }

    fn end_life(&mut self, power_loss: bool) -> Check {
        self.trace.line(|| if power_loss { "power loss".to_owned() } else { "kill".to_owned() });
        self.call = None;
        self.questions.forget();
        self.pulls.forget_all();
        self.asked.clear();
        self.taken.clear();
        self.restoring = None;
        if power_loss {
            self.disk.crash(self.rng.u64(..));
        } else {
            self.disk.kill();
        }
        for (path, len) in self.disk.files_below(Path::new("/")) {
            self.hash.write(path.as_os_str().as_encoded_bytes());
            self.hash.write_u64(len);
            if let Ok(bytes) = self.disk.read(&path) {
                self.hash.write(&bytes);
                if self.ring.is_some() {
                    secrecy::is_kept(&path, &bytes)?;
                }
            }
        }
        Ok(())
    }
}

/// Faults that may make an opening fail.
fn faults(counters: &FaultCounters) -> u64 {
    counters.sync_errors + counters.write_errors + counters.no_space
}
