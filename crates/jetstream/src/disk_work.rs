//! Threads that touch block files, so that no pump waits for a disk.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::Disk;
use linnet_replication::GroupJob;
use linnet_wal::PrepareSegment;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::log_writer::LogHandle;
use crate::pump::{GroupKey, PumpHandle};
use crate::reserve::Reserve;
use crate::scrub::ScrubPiece;

/// Work for a disk thread.
pub(crate) enum DiskWork {
    Group(GroupJob, GroupKey, PumpHandle),
    Remove(Vec<PathBuf>),
    /// The directory of a group that has ended, which nothing else is submitted for any more.
    RemoveDir(PathBuf, GroupKey, MayRemoveDir),
    Prepare(Box<PrepareSegment>, LogHandle),
    /// Make the reserve if it is missing.
    Reserve,
    /// Verify a piece of a block, when there is nothing else to do.
    Scrub(Box<ScrubPiece>),
}

/// Permission to have a directory removed; given back when that is done.
pub(crate) type MayRemoveDir = Option<OwnedSemaphorePermit>;

/// The disk threads: some only read, so that a reader never waits behind a sync.
///
/// What may wait for them:
///
/// | Job | At most |
/// |---|---|
/// | `Load` | one per consumer, which a deleted one may leave behind, and `PARKED_MAX` reads of `assets::Stream` per stream |
/// | `Write` | parts of blocks, which count as unwritten until they are written: beyond the [`Budget`](crate::budget::Budget) streams take no more messages |
/// | `Checkpoint` | one per stream: `StreamGroup` begins none while one is under way |
/// | `Floor` | one per stream: `StreamGroup` begins none while one is under way |
/// | `Remove` | one: more files join it |
/// | `RemoveDir` | [`DIRS_MAX`]: whoever ends a stream waits for [`DiskWorkers::may_remove_dir`] |
/// | `Prepare` | one: the log asks for none while one is under way |
/// | `Reserve` | one, at the start |
/// | `Scrub` | one: the task of `scrub` waits for it |
#[derive(Clone)]
pub(crate) struct DiskWorkers {
    reads: Arc<Queue>,
    writes: Arc<Queue>,
    dirs: Arc<Semaphore>,
    disk: Arc<dyn Disk>,
    reserve: Reserve,
}

#[derive(Default)]
struct Queue {
    jobs: Mutex<Jobs>,
    more: Condvar,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<DiskWork>,
    /// Files of the removal that waits.
    doomed: Vec<PathBuf>,
    /// Groups whose jobs are being done.
    busy: Vec<GroupKey>,
    is_stopping: bool,
}

const READERS: usize = 2;
const WRITERS: usize = 4;
/// Directories of ended streams that may wait for their removal.
const DIRS_MAX: usize = 64;

impl Jobs {
    fn add(&mut self, mut work: DiskWork) {
        match &mut work {
            DiskWork::Remove(files) if !self.doomed.is_empty() => return self.doomed.append(files),
            DiskWork::Remove(files) => self.doomed.append(files),
            DiskWork::Group(GroupJob::Checkpoint(..), key, _) => debug_assert!(
                !self.waiting.iter().any(
                    |w| matches!(w, DiskWork::Group(GroupJob::Checkpoint(..), other, _) if other == key)
                ),
                "a stream has one checkpoint under way"
            ),
            DiskWork::Prepare(..) => debug_assert!(
                !self.waiting.iter().any(|w| matches!(w, DiskWork::Prepare(..))),
                "the log has one segment prepared at a time"
            ),
            DiskWork::Scrub(_) if self.is_stopping => return,
            DiskWork::Group(..) | DiskWork::RemoveDir(..) | DiskWork::Reserve | DiskWork::Scrub(_) => {}
        }
        if work.makes_room() {
            self.waiting.push_front(work);
        } else {
            self.waiting.push_back(work);
        }
    }

    /// The next job that may be done now. Verifying waits until nothing else does. A directory is not removed beside a job that writes to it and would make
    /// it again.
    fn take(&mut self) -> Option<DiskWork> {
        let may_run = |work: &DiskWork| match work {
            DiskWork::RemoveDir(_, key, _) => !self.busy.contains(key),
            DiskWork::Scrub(_) => self.waiting.len() == 1,
            _ => true,
        };
        let at = self.waiting.iter().position(may_run)?;
        let work = self.waiting.remove(at)?;
        self.busy.extend(work.group());
        match work {
            DiskWork::Remove(_) => Some(DiskWork::Remove(std::mem::take(&mut self.doomed))),
            other => Some(other),
        }
    }

    /// A job is done. True if another one may have waited for it.
    fn finish(&mut self, group: Option<GroupKey>) -> bool {
        let at = self.busy.iter().position(|key| Some(*key) == group);
        at.map(|at| self.busy.swap_remove(at)).is_some() && !self.waiting.is_empty()
    }
}

impl DiskWorkers {
    fn new(disk: Arc<dyn Disk>, reserve: Reserve) -> Self {
        let dirs = Arc::new(Semaphore::new(DIRS_MAX));
        Self { reads: Arc::default(), writes: Arc::default(), dirs, disk, reserve }
    }

    /// Starts the threads.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        reserve: Reserve,
    ) -> std::io::Result<(Self, Vec<std::thread::JoinHandle<()>>)> {
        let workers = Self::new(disk, reserve);
        workers.submit(DiskWork::Reserve);
        let mut threads = Vec::new();
        for (queue, count, name) in
            [(&workers.reads, READERS, "js-read"), (&workers.writes, WRITERS, "js-write")]
        {
            for n in 0..count {
                let (queue, disk, reserve) = (queue.clone(), workers.disk.clone(), workers.reserve.clone());
                let thread = std::thread::Builder::new().name(format!("{name}-{n}"));
                threads.push(thread.spawn(move || run(&queue, &disk, &reserve))?);
            }
        }
        Ok((workers, threads))
    }

    pub(crate) fn submit(&self, work: DiskWork) {
        let queue = if matches!(work, DiskWork::Group(GroupJob::Load(_), ..) | DiskWork::Scrub(_)) {
            &self.reads
        } else {
            &self.writes
        };
        queue.jobs.lock().add(work);
        queue.more.notify_one();
    }

    /// True if blocks find no space on the disk.
    pub(crate) fn lack_space(&self) -> bool {
        self.reserve.lacks_space()
    }

    /// Waits until one more directory may wait for its removal.
    pub(crate) async fn may_remove_dir(&self) -> MayRemoveDir {
        // The semaphore is never closed.
        self.dirs.clone().acquire_owned().await.ok()
    }

    /// Ends the threads once their queues are empty.
    pub(crate) fn stop(&self) {
        for queue in [&self.reads, &self.writes] {
            queue.jobs.lock().is_stopping = true;
            queue.more.notify_all();
        }
    }
}

fn run(queue: &Queue, disk: &Arc<dyn Disk>, reserve: &Reserve) {
    loop {
        let work = {
            let mut jobs = queue.jobs.lock();
            loop {
                if let Some(work) = jobs.take() {
                    break work;
                }
                if jobs.is_stopping && jobs.waiting.is_empty() {
                    return;
                }
                queue.more.wait(&mut jobs);
            }
        };
        let group = work.group();
        work.run(disk, reserve);
        if queue.jobs.lock().finish(group) {
            queue.more.notify_all();
        }
    }
}

impl DiskWork {
    /// The group whose directory it works in.
    fn group(&self) -> Option<GroupKey> {
        match self {
            Self::Group(_, key, _) | Self::RemoveDir(_, key, _) => Some(*key),
            Self::Remove(_) | Self::Prepare(..) | Self::Reserve | Self::Scrub(_) => None,
        }
    }

    /// True if it goes ahead of the others: the log waits for it, or the space it gives back is wanted by those behind.
    fn makes_room(&self) -> bool {
        matches!(self, Self::Prepare(..) | Self::Remove(_))
    }

    fn run(self, disk: &Arc<dyn Disk>, reserve: &Reserve) {
        match self {
            Self::Group(job, key, pump) => {
                let is_checkpoint = matches!(job, GroupJob::Checkpoint(..));
                let bytes = job.bytes();
                let done = if !reserve.has_room_for(bytes, is_checkpoint) {
                    reserve.note_refused(bytes);
                    job.refuse(&**disk)
                } else {
                    let done =
                        if is_checkpoint { reserve.with_room(|| job.run(&**disk)) } else { job.run(&**disk) };
                    reserve.note_written(bytes);
                    done
                };
                pump.disk_done(key, done);
            }
            Self::Remove(files) => {
                for file in &files {
                    report_removal(file, disk.remove_file(file));
                }
                reserve.freed(&files);
            }
            Self::RemoveDir(dir, _, _permission) => {
                report_removal(&dir, disk.remove_dir_all(&dir));
                reserve.freed(&[dir]);
            }
            Self::Reserve => reserve.restore(),
            Self::Scrub(piece) => piece.run(),
            Self::Prepare(job, log) => {
                let outcome = job.run();
                if outcome.is_ok() {
                    reserve.restore();
                }
                log.prepared(outcome);
            }
        }
    }
}

fn report_removal(path: &Path, outcome: std::io::Result<()>) {
    if let Err(error) = outcome
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("Removing {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use linnet_env::{FaultyDisk, OpenMode};

    use super::*;

    fn workers() -> DiskWorkers {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
        disk.create_dir_all(Path::new("/dir")).unwrap();
        let reserve = Reserve::new(disk.clone(), Path::new("/dir"));
        DiskWorkers::new(disk, reserve)
    }

    fn run_next(workers: &DiskWorkers) {
        let work = workers.writes.jobs.lock().take().unwrap();
        work.run(&workers.disk, &workers.reserve);
    }

    #[test]
    fn files_to_remove_join_the_removal_that_waits() {
        let workers = workers();
        let files: Vec<PathBuf> = (0..5).map(|n| PathBuf::from(format!("/dir/{n}"))).collect();
        for file in &files {
            workers.disk.open(file, OpenMode::Create).unwrap();
            workers.submit(DiskWork::Remove(vec![file.clone()]));
        }
        assert_eq!(workers.writes.jobs.lock().waiting.len(), 1);
        run_next(&workers);
        assert!(files.iter().all(|file| !workers.disk.exists(file).unwrap()));
        workers.submit(DiskWork::Remove(vec![files[0].clone()]));
        assert_eq!(workers.writes.jobs.lock().waiting.len(), 1);
    }

    #[test]
    fn a_directory_is_not_removed_beside_a_job_that_works_in_it() {
        let remove = |key| DiskWork::RemoveDir("/dir".into(), key, None);
        let taken = |jobs: &mut Jobs| jobs.take().and_then(|work| work.group());
        let mut jobs = Jobs::default();
        jobs.busy.push(1);
        jobs.add(remove(1));
        jobs.add(remove(2));
        assert_eq!((taken(&mut jobs), taken(&mut jobs)), (Some(2), None));
        assert!(jobs.finish(Some(1)), "somebody waited for it");
        assert_eq!(taken(&mut jobs), Some(1));
        assert!(!jobs.finish(None) && !jobs.finish(Some(2)) && !jobs.finish(Some(1)));
        assert!(jobs.busy.is_empty());
    }

    #[test]
    fn files_are_removed_before_more_is_written() {
        let mut jobs = Jobs::default();
        jobs.add(DiskWork::Reserve);
        jobs.add(DiskWork::Remove(vec!["/dir/1".into()]));
        assert!(matches!(jobs.take(), Some(DiskWork::Remove(_))));
        assert!(matches!(jobs.take(), Some(DiskWork::Reserve)));
    }

    #[test]
    fn verifying_waits_until_nothing_else_does() {
        let kind = linnet_store::Kind::Memory;
        let mut store =
            linnet_store::StreamStore::new(kind, linnet_store::Seed::of(linnet_ids::GroupId::META), 0, -1);
        let mut jobs = Jobs::default();
        let (piece, _verified) = ScrubPiece::new(store.pin().read());
        jobs.add(DiskWork::Scrub(Box::new(piece)));
        jobs.add(DiskWork::Reserve);
        assert!(matches!(jobs.take(), Some(DiskWork::Reserve)));
        assert!(matches!(jobs.take(), Some(DiskWork::Scrub(_))));
        jobs.is_stopping = true;
        let (piece, mut verified) = ScrubPiece::new(store.pin().read());
        jobs.add(DiskWork::Scrub(Box::new(piece)));
        assert!(jobs.waiting.is_empty() && verified.try_recv().is_err(), "nobody would take it");
    }

    #[tokio::test]
    async fn directories_that_wait_for_their_removal_are_bounded() {
        let workers = workers();
        for _ in 0..DIRS_MAX {
            let permission = workers.may_remove_dir().await;
            workers.submit(DiskWork::RemoveDir("/dir".into(), 1, permission));
        }
        assert_eq!(workers.dirs.available_permits(), 0);
        run_next(&workers);
        assert!(workers.may_remove_dir().await.is_some());
    }
}
