//! Threads that touch block files, so that no pump waits for a disk.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use linnet_env::Disk;
use linnet_replication::GroupJob;
use linnet_wal::PrepareSegment;
use parking_lot::{Condvar, Mutex};

use crate::log_writer::LogHandle;
use crate::pump::{GroupKey, PumpHandle};

/// Work for a disk thread.
pub(crate) enum DiskWork {
    Group(GroupJob, GroupKey, PumpHandle),
    Remove(Vec<PathBuf>),
    RemoveDir(PathBuf),
    Prepare(Box<PrepareSegment>, LogHandle),
}

/// The disk threads: some only read, so that a reader never waits behind a sync.
#[derive(Clone)]
pub(crate) struct DiskWorkers {
    reads: Arc<Queue>,
    writes: Arc<Queue>,
    disk: Arc<dyn Disk>,
}

/// Jobs of one kind. Bounded by what asks for them: a consumer waits for one load at a time, a stream has one
/// checkpoint under way, unwritten parts are at most what a checkpoint interval holds.
#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    more: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<DiskWork>,
    is_stopping: bool,
}

const READERS: usize = 2;
const WRITERS: usize = 2;

impl DiskWorkers {
    /// Starts the threads.
    pub(crate) fn start(disk: Arc<dyn Disk>) -> std::io::Result<(Self, Vec<std::thread::JoinHandle<()>>)> {
        let workers = Self { reads: Arc::default(), writes: Arc::default(), disk };
        let mut threads = Vec::new();
        for (queue, count, name) in
            [(&workers.reads, READERS, "js-read"), (&workers.writes, WRITERS, "js-write")]
        {
            for n in 0..count {
                let (queue, disk) = (queue.clone(), workers.disk.clone());
                let thread = std::thread::Builder::new().name(format!("{name}-{n}"));
                threads.push(thread.spawn(move || run(&queue, &disk))?);
            }
        }
        Ok((workers, threads))
    }

    pub(crate) fn submit(&self, work: DiskWork) {
        let queue =
            if matches!(work, DiskWork::Group(GroupJob::Load(_), ..)) { &self.reads } else { &self.writes };
        queue.jobs.lock().waiting.push_back(work);
        queue.more.notify_one();
    }

    /// Ends the threads once their queues are empty.
    pub(crate) fn stop(&self) {
        for queue in [&self.reads, &self.writes] {
            queue.jobs.lock().is_stopping = true;
            queue.more.notify_all();
        }
    }
}

fn run(queue: &Queue, disk: &Arc<dyn Disk>) {
    loop {
        let work = {
            let mut jobs = queue.jobs.lock();
            loop {
                if let Some(work) = jobs.waiting.pop_front() {
                    break work;
                }
                if jobs.is_stopping {
                    return;
                }
                queue.more.wait(&mut jobs);
            }
        };
        match work {
            DiskWork::Group(job, key, pump) => pump.disk_done(key, job.run(&**disk)),
            DiskWork::Remove(paths) => {
                for path in paths {
                    if let Err(error) = disk.remove_file(&path)
                        && error.kind() != std::io::ErrorKind::NotFound
                    {
                        tracing::warn!("Removing {}: {error}", path.display());
                    }
                }
            }
            DiskWork::RemoveDir(dir) => {
                if let Err(error) = disk.remove_dir_all(&dir)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!("Removing {}: {error}", dir.display());
                }
            }
            DiskWork::Prepare(job, log) => log.prepared(job.run()),
        }
    }
}
