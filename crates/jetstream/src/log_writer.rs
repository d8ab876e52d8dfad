//! The thread that makes the log durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::GroupId;
use linnet_replication::{BatchQueue, Log, LogKeeper, Ticket, Written};
use linnet_wal::{Batch, Error, HardState, PreparedSegment};
use parking_lot::{Condvar, Mutex};

use crate::disk_work::{DiskWork, DiskWorkers};
use crate::pump::PumpHandle;

/// Bytes after which a batch takes no more records.
const BATCH_MAX: usize = 4 << 20;
/// Silence after which the last batch is marked durable.
const SEAL_AFTER: Duration = Duration::from_millis(10);
/// Pause before a batch that found no space is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes that may wait to be written before streams take no more messages.
const QUEUED_MAX: usize = 64 << 20;
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
    queue: BatchQueue<Batch>,
    prepared: Option<Result<Option<PreparedSegment>, Error>>,
    owners: HashMap<GroupId, PumpHandle>,
    /// The log is nearly as large as it may become.
    is_short_of_space: bool,
    is_stopping: bool,
}

/// Why the log stopped, told to everybody.
#[derive(Clone, Debug)]
pub(crate) struct LogFailure(pub(crate) Error);

impl LogHandle {
    pub(crate) fn new() -> Self {
        let state = State {
            queue: BatchQueue::new(BATCH_MAX),
            prepared: None,
            owners: HashMap::new(),
            is_short_of_space: false,
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

    /// True if a pump was asked.
    fn ask_for_checkpoint(&self, group: GroupId) -> bool {
        let pump = self.shared.state.lock().owners.get(&group).cloned();
        if let Some(pump) = &pump {
            pump.checkpoint(group);
        }
        pump.is_some()
    }

    /// True if streams should take no more messages for now.
    pub(crate) fn is_pressed(&self) -> bool {
        let state = self.shared.state.lock();
        state.is_short_of_space || state.queue.bytes() > QUEUED_MAX
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
        self.shared.state.lock().queue.add(add)
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
    pub(crate) keeper: LogKeeper,
    pub(crate) handle: LogHandle,
    pub(crate) pumps: Vec<PumpHandle>,
    pub(crate) workers: DiskWorkers,
    /// The last batch found no space.
    pub(crate) is_stuck: bool,
    pub(crate) clock: Arc<dyn linnet_env::Clock>,
    pub(crate) health: Arc<crate::cell::Health>,
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
                Work::Idle => {
                    if !self.seal() {
                        return;
                    }
                }
                Work::Room => self.maintain(),
                Work::Prepared(outcome) => {
                    if let Err(error) = &outcome {
                        tracing::warn!("Preparing a segment of the write-ahead log failed: {error}");
                    }
                    self.keeper.prepared(outcome);
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
            if let Some((ticket, batch)) = state.queue.take() {
                return Work::Batch(ticket, batch);
            }
            if state.is_stopping {
                return Work::Stop;
            }
            if self.keeper.wal().needs_seal() {
                if self.handle.shared.work.wait_for(&mut state, SEAL_AFTER).timed_out() {
                    return Work::Idle;
                }
            } else if state.is_short_of_space {
                // The streams wait for room, so no batch would come after which it is looked for.
                if self.handle.shared.work.wait_for(&mut state, RETRY).timed_out() {
                    return Work::Room;
                }
            } else {
                self.handle.shared.work.wait(&mut state);
            }
        }
    }

    /// False if the log has failed.
    fn seal(&mut self) -> bool {
        let now = self.clock.mono();
        match self.keeper.seal(now, &mut |group| self.handle.ask_for_checkpoint(group)) {
            Written::Durable => true,
            Written::NoSpace(error) => {
                tracing::warn!("{error}; retrying");
                self.pause();
                true
            }
            Written::Failed(error) => {
                self.fail(error);
                false
            }
        }
    }

    /// False if the log has failed.
    fn commit(&mut self, ticket: Ticket, mut batch: Batch) -> bool {
        let bytes = batch.bytes();
        loop {
            let now = self.clock.mono();
            match self.keeper.write(&mut batch, now, &mut |group| self.handle.ask_for_checkpoint(group)) {
                Written::Durable => {
                    if std::mem::take(&mut self.is_stuck) {
                        tracing::info!("The write-ahead log goes on");
                    }
                    break;
                }
                Written::NoSpace(error) => {
                    if !std::mem::replace(&mut self.is_stuck, true) {
                        tracing::warn!("{error}; retrying");
                    }
                    self.pause();
                    self.maintain();
                }
                Written::Failed(error) => {
                    self.fail(error);
                    return false;
                }
            }
        }
        self.handle.shared.state.lock().queue.written(bytes, batch);
        for pump in &self.pumps {
            pump.durable(ticket);
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
        if let Some(outcome) = prepared {
            self.keeper.prepared(outcome);
        }
    }

    fn fail(&self, error: Error) {
        tracing::error!("JetStream is stopped: {error}");
        self.health.fail_log(&error.to_string());
        for pump in &self.pumps {
            pump.log_failed(LogFailure(error.clone()));
        }
    }

    /// Keeps a segment ready and the log below half of its bound.
    fn maintain(&mut self) {
        let now = self.clock.mono();
        let upkeep = self.keeper.maintain(now, &mut |group| self.handle.ask_for_checkpoint(group));
        if let Some(job) = upkeep.prepare {
            self.workers.submit(DiskWork::Prepare(Box::new(job), self.handle.clone()));
        }
        self.handle.shared.state.lock().is_short_of_space = upkeep.is_short_of_space;
    }
}

enum Work {
    Batch(Ticket, Batch),
    Prepared(Result<Option<PreparedSegment>, Error>),
    Idle,
    Room,
    Stop,
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use linnet_env::{FaultyDisk, ManualClock};
    use linnet_wal::{Config, StoreIdentity, Wal};

    use super::*;

    fn writer() -> LogWriter {
        let disk: Arc<dyn linnet_env::Disk> = Arc::new(FaultyDisk::new(1));
        let config = Config {
            segment_bytes: 64 << 10,
            first_segment_bytes: 64 << 10,
            max_bytes: 512 << 10,
            reserve_segments: 1,
        };
        let dir = Path::new("/store");
        disk.create_dir_all(dir).unwrap();
        let wal = Wal::open(disk.clone(), dir, config, StoreIdentity { store_id: [1; 16] }).unwrap().wal;
        let (workers, _) = DiskWorkers::start(disk).unwrap();
        LogWriter {
            keeper: LogKeeper::new(wal),
            handle: LogHandle::new(),
            pumps: Vec::new(),
            workers,
            is_stuck: false,
            clock: Arc::new(ManualClock::default()),
            health: Arc::default(),
        }
    }

    #[test]
    fn room_is_looked_for_although_nothing_is_appended_any_more() {
        let mut writer = writer();
        assert!(writer.seal());
        writer.handle.shared.state.lock().is_short_of_space = true;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(matches!(writer.wait_for_work(), Work::Room)));
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
    }
}
