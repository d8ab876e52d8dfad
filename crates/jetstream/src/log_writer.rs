//! The thread that makes the log durable.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::GroupId;
use linnet_replication::{Log, Ticket};
use linnet_wal::{Batch, Error, HardState, PreparedSegment, Unverifiable, Wal};
use parking_lot::{Condvar, Mutex};

use crate::disk_work::{DiskWork, DiskWorkers};
use crate::pump::PumpHandle;

/// Bytes after which a batch takes no more records.
const BATCH_MAX: usize = 4 << 20;
/// Silence after which the last batch is marked durable.
const SEAL_AFTER: Duration = Duration::from_millis(10);
/// Pause before a batch that found no space is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Groups asked for a checkpoint at a time.
const CHECKPOINTS_AT_ONCE: usize = 32;
/// How long groups that were asked for a checkpoint have before the log copies what they still need.
const PATIENCE: Duration = Duration::from_secs(2);

/// The writing end that pumps share.
#[derive(Clone)]
pub(crate) struct LogHandle {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    /// Full batches, oldest first.
    full: VecDeque<(Ticket, Batch)>,
    open: Batch,
    open_ticket: Ticket,
    spare: Vec<Batch>,
    prepared: Option<Result<Option<PreparedSegment>, Error>>,
    owners: HashMap<GroupId, PumpHandle>,
    is_stopping: bool,
}

/// Why the log stopped, told to everybody.
#[derive(Clone, Debug)]
pub(crate) struct LogFailure(pub(crate) Error);

impl LogHandle {
    pub(crate) fn new() -> Self {
        let state = State {
            full: VecDeque::new(),
            open: Batch::new(),
            open_ticket: 1,
            spare: Vec::new(),
            prepared: None,
            owners: HashMap::new(),
            is_stopping: false,
        };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), work: Condvar::new() }) }
    }

    /// Which pump to ask for a checkpoint of a group.
    pub(crate) fn own(&self, group: GroupId, pump: PumpHandle) {
        self.shared.state.lock().owners.insert(group, pump);
    }

    pub(crate) fn disown(&self, group: GroupId) {
        self.shared.state.lock().owners.remove(&group);
    }

    /// Starts writing what was appended.
    pub(crate) fn kick(&self) {
        self.shared.work.notify_one();
    }

    /// Takes the outcome of preparing a segment.
    pub(crate) fn prepared(&self, outcome: Result<Option<PreparedSegment>, Error>) {
        self.shared.state.lock().prepared = Some(outcome);
        self.shared.work.notify_one();
    }

    /// Ends the thread once everything appended is written.
    pub(crate) fn stop(&self) {
        self.shared.state.lock().is_stopping = true;
        self.shared.work.notify_one();
    }

    fn add(&self, add: impl FnOnce(&mut Batch)) -> Ticket {
        let mut state = self.shared.state.lock();
        if state.open.bytes() >= BATCH_MAX {
            let next = state.spare.pop().unwrap_or_default();
            let full = std::mem::replace(&mut state.open, next);
            let ticket = state.open_ticket;
            state.full.push_back((ticket, full));
            state.open_ticket += 1;
        }
        add(&mut state.open);
        state.open_ticket
    }
}

impl Log for LogHandle {
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket {
        self.add(|batch| batch.entry(group, index, term, &[payload]))
    }

    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket {
        self.add(|batch| batch.hard_state(group, state))
    }

    fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) -> Ticket {
        self.add(|batch| batch.checkpoint(group, applied, term, body))
    }

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.add(|batch| batch.end_group(group))
    }
}

/// The writer's own side.
pub(crate) struct LogWriter {
    pub(crate) wal: Wal,
    pub(crate) handle: LogHandle,
    pub(crate) pumps: Vec<PumpHandle>,
    pub(crate) workers: DiskWorkers,
    pub(crate) asked: Option<(linnet_wal::SegmentNo, linnet_ids::Mono)>,
    pub(crate) clock: Arc<dyn linnet_env::Clock>,
}

impl LogWriter {
    /// Writes batches until told to stop or until the log fails.
    pub(crate) fn run(mut self) {
        self.maintain();
        loop {
            match self.wait_for_work() {
                Work::Batch(ticket, batch) => {
                    if !self.commit(ticket, batch) {
                        return;
                    }
                }
                Work::Idle => match self.wal.seal() {
                    Ok(_) => {}
                    Err(error) if error.is_retryable() => {
                        // Nothing was written. The batch is durable all the same; only its loss would go unnoticed.
                        tracing::warn!("{error}; retrying");
                        self.make_room();
                        self.pause();
                    }
                    Err(error) => {
                        self.fail(error);
                        return;
                    }
                },
                Work::Prepared(Ok(prepared)) => self.wal.install(prepared),
                Work::Prepared(Err(error)) => {
                    tracing::warn!("Preparing a segment of the write-ahead log failed: {error}");
                    self.wal.prepare_failed();
                }
                Work::Stop => return,
            }
        }
    }

    fn wait_for_work(&self) -> Work {
        let mut state = self.handle.shared.state.lock();
        loop {
            if let Some(outcome) = state.prepared.take() {
                return Work::Prepared(outcome);
            }
            if let Some((ticket, batch)) = state.full.pop_front() {
                return Work::Batch(ticket, batch);
            }
            if !state.open.is_empty() {
                let next = state.spare.pop().unwrap_or_default();
                let batch = std::mem::replace(&mut state.open, next);
                let ticket = state.open_ticket;
                state.open_ticket += 1;
                return Work::Batch(ticket, batch);
            }
            if state.is_stopping {
                return Work::Stop;
            }
            if self.wal.needs_seal() {
                if self.handle.shared.work.wait_for(&mut state, SEAL_AFTER).timed_out() {
                    return Work::Idle;
                }
            } else {
                self.handle.shared.work.wait(&mut state);
            }
        }
    }

    /// False if the log has failed.
    fn commit(&mut self, ticket: Ticket, mut batch: Batch) -> bool {
        loop {
            match self.wal.commit(&mut batch) {
                Ok(_) => break,
                Err(error @ (Error::DiskFull { .. } | Error::Full { .. })) => {
                    tracing::warn!("{error}; retrying");
                    self.make_room();
                    self.pause();
                    self.maintain();
                }
                Err(error) => {
                    self.fail(error);
                    return false;
                }
            }
        }
        for pump in &self.pumps {
            pump.durable(ticket);
        }
        {
            let mut state = self.handle.shared.state.lock();
            if state.spare.len() < 4 {
                state.spare.push(batch);
            }
        }
        self.maintain();
        true
    }

    /// Waits a moment for a segment that is being prepared, or for whatever else makes room.
    fn pause(&mut self) {
        let prepared = {
            let mut state = self.handle.shared.state.lock();
            self.handle.shared.work.wait_for(&mut state, RETRY);
            state.prepared.take()
        };
        match prepared {
            Some(Ok(prepared)) => self.wal.install(prepared),
            Some(Err(_)) => self.wal.prepare_failed(),
            None => {}
        }
    }

    fn fail(&self, error: Error) {
        tracing::error!("JetStream is stopped: {error}");
        for pump in &self.pumps {
            pump.log_failed(LogFailure(error.clone()));
        }
    }

    /// Keeps a segment ready and the log below half of its bound.
    fn maintain(&mut self) {
        if let Some(job) = self.wal.prepare_next() {
            self.workers.submit(DiskWork::Prepare(Box::new(job), self.handle.clone()));
        }
        self.come_below_bound();
        let usage = self.wal.usage();
        if usage.live_bytes > usage.max_bytes / 2 {
            self.make_room();
        }
    }

    /// Every opening begins a segment, so a server that keeps dying soon after its start gets over the bound. Such
    /// segments hold little: copying it is quick.
    fn come_below_bound(&mut self) {
        loop {
            let usage = self.wal.usage();
            if usage.live_bytes <= usage.max_bytes {
                return;
            }
            match self.wal.rewrite_oldest(Unverifiable::Keep) {
                Ok(done) if done.damaged.is_empty() && (done.done || done.records > 0) => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!("Rewriting the oldest segment of the write-ahead log failed: {error}");
                    return;
                }
            }
        }
    }

    /// Asks the groups that hold on to the oldest segment for checkpoints; what they still hold later is copied.
    fn make_room(&mut self) {
        let oldest = self.wal.usage().oldest;
        let now = self.clock.mono();
        match self.asked {
            Some((segment, since)) if segment == oldest => {
                if now.since(since) < PATIENCE {
                    return;
                }
                match self.wal.rewrite_oldest(Unverifiable::Keep) {
                    Ok(done) if done.damaged.is_empty() => {}
                    // A read may fail and succeed later, so there is no hurry.
                    Ok(_) if self.wal.usage().live_bytes <= self.wal.usage().max_bytes / 4 * 3 => {}
                    Ok(done) => {
                        // Nobody made them unneeded. Kept, they would hold the segment until the log is full.
                        for (group, index) in done.damaged {
                            tracing::error!(
                                "Write-ahead log: entry {index} of group {group} is damaged and given up"
                            );
                        }
                        if let Err(error) = self.wal.rewrite_oldest(Unverifiable::GiveUp) {
                            tracing::warn!(
                                "Rewriting the oldest segment of the write-ahead log failed: {error}"
                            );
                        }
                    }
                    Err(error) => {
                        tracing::warn!("Rewriting the oldest segment of the write-ahead log failed: {error}")
                    }
                }
            }
            _ => {
                self.asked = Some((oldest, now));
                let pinning = self.wal.groups_pinning_oldest();
                let state = self.handle.shared.state.lock();
                for (group, _) in pinning.into_iter().take(CHECKPOINTS_AT_ONCE) {
                    if let Some(pump) = state.owners.get(&group) {
                        pump.checkpoint(group);
                    }
                }
            }
        }
    }
}

enum Work {
    Batch(Ticket, Batch),
    Prepared(Result<Option<PreparedSegment>, Error>),
    Idle,
    Stop,
}
