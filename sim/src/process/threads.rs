//! The log writer and the disk threads.

use std::collections::BTreeMap;

use linnet_env::Clock;
use linnet_ids::GroupId;
use linnet_replication::{GroupJob, Written};
use linnet_wal::Error;

use super::{GroupKey, Job, Process, Slot};

impl Process {
    /// True if the writer has something to write.
    pub(crate) fn writer_has_work(&self) -> bool {
        self.log_failure.is_none()
            && (self.prepared.is_some() || self.stuck.is_some() || !self.log.is_empty())
    }

    /// True if the newest batch waits for its seal.
    pub(crate) fn wants_seal(&self) -> bool {
        self.log_failure.is_none() && !self.writer_has_work() && self.keeper.wal().needs_seal()
    }

    /// One round of the writer's loop.
    pub(crate) fn write_log(&mut self) {
        if self.log_failure.is_some() {
            return;
        }
        self.take_prepared();
        let Some((ticket, mut batch)) = self.stuck.take().or_else(|| self.log.take()) else { return };
        let now = self.clock.mono();
        let urgent_waits = self.log.has_urgent();
        let Self { keeper, slots, checkpoints, .. } = self;
        match keeper.write(&mut batch, urgent_waits, now, &mut |group| ask(slots, checkpoints, group)) {
            Written::Durable => {
                self.work.commits += 1;
                self.is_unsealed = keeper.wal().needs_seal();
                self.durable = self.durable.max(ticket);
            }
            Written::NoSpace(_) => {
                self.work.refused_space += 1;
                self.stuck = Some((ticket, batch));
            }
            Written::Failed(error) => {
                self.fail_log(error);
                return;
            }
        }
        self.maintain();
    }

    pub(crate) fn seal(&mut self) {
        self.take_prepared();
        let now = self.clock.mono();
        let Self { keeper, slots, checkpoints, .. } = self;
        match keeper.seal(now, &mut |group| ask(slots, checkpoints, group)) {
            Written::Durable => self.is_unsealed = keeper.wal().needs_seal(),
            Written::NoSpace(_) => {}
            Written::Failed(error) => self.fail_log(error),
        }
    }

    fn fail_log(&mut self, error: Error) {
        self.work.log_failures += 1;
        self.log_failure = Some(error.to_string());
        self.log_refused = matches!(error, Error::Refused { .. } | Error::TooLarge { .. } | Error::Config);
        self.failure_mail = Some(error);
    }

    fn take_prepared(&mut self) {
        if let Some(outcome) = self.prepared.take() {
            self.keeper.prepared(outcome, self.clock.mono());
        }
    }

    pub(crate) fn maintain(&mut self) {
        let now = self.clock.mono();
        let Self { keeper, slots, checkpoints, .. } = self;
        let upkeep = keeper.maintain(now, &mut |group| ask(slots, checkpoints, group));
        self.is_unsealed |= keeper.wal().needs_seal();
        if let Some(job) = upkeep.prepare {
            self.jobs.push(Job::Prepare(Box::new(job)));
        }
    }

    /// The job itself, or one that goes before it: a directory is not removed before the jobs that write to it.
    fn before_removal(&self, at: usize) -> usize {
        let Some(Job::RemoveDir(_, removed)) = self.jobs.get(at) else { return at };
        let writes = |job: &Job| matches!(job, Job::Group(job, key) if key == removed && !matches!(job, GroupJob::Load(_)));
        self.jobs.iter().take(at).position(writes).unwrap_or(at)
    }

    /// Runs the job at a place of the queue, if there is one.
    pub(crate) fn run_job(&mut self, at: usize) {
        if at >= self.jobs.len() {
            return;
        }
        match self.jobs.remove(self.before_removal(at)) {
            Job::Group(job, key) => {
                self.work.loads += u64::from(matches!(job, GroupJob::Load(_)));
                self.work.floors += u64::from(matches!(job, GroupJob::Floor(..)));
                self.done.push((key, job.run(&*self.disk)));
            }
            Job::Remove(paths) => {
                for path in paths {
                    let _ = self.disk.remove_file(&path);
                }
            }
            Job::RemoveDir(dir, _) => {
                let _ = self.disk.remove_dir_all(&dir);
            }
            Job::Prepare(job) => self.prepared = Some(job.run()),
        }
    }
}

/// Asks a group for a checkpoint, if it runs.
fn ask(slots: &BTreeMap<GroupKey, Slot>, checkpoints: &mut Vec<GroupId>, group: GroupId) -> bool {
    let runs = slots.values().any(|slot| slot.group.group() == group);
    if runs {
        checkpoints.push(group);
    }
    runs
}
