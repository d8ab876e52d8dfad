//! The thread that makes the log durable.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::GroupId;
use linnet_replication::{Log, Ticket, may_use_reserve};
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
/// Bytes that may wait to be written before streams take no more messages.
const QUEUED_MAX: usize = 64 << 20;
/// How long a group that was asked for a checkpoint has before it is asked again, and how long all of those that
/// hold on to the oldest segment have before the log copies what they still need.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the groups that hold on to the oldest segment are listed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

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
    /// Bytes of full batches and of the one being written.
    queued: usize,
    /// The log is nearly as large as it may become, or found no space.
    is_short_of_space: bool,
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
            queued: 0,
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

    /// True if streams should take no more messages for now.
    pub(crate) fn is_pressed(&self) -> bool {
        let state = self.shared.state.lock();
        state.is_short_of_space || state.queued + state.open.bytes() > QUEUED_MAX
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

    /// True if something that may use the log's reserve waits to be written.
    fn has_urgent(&self) -> bool {
        let state = self.shared.state.lock();
        state.open.is_urgent() || state.full.iter().any(|(_, batch)| batch.is_urgent())
    }

    fn add(&self, is_urgent: bool, add: impl FnOnce(&mut Batch)) -> Ticket {
        let mut state = self.shared.state.lock();
        if state.open.bytes() >= BATCH_MAX {
            let next = state.spare.pop().unwrap_or_default();
            let full = std::mem::replace(&mut state.open, next);
            let ticket = state.open_ticket;
            state.queued += full.bytes();
            state.full.push_back((ticket, full));
            state.open_ticket += 1;
        }
        add(&mut state.open);
        if is_urgent {
            state.open.set_urgent(true);
        }
        state.open_ticket
    }
}

impl Log for LogHandle {
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket {
        self.add(may_use_reserve(group, payload), |batch| batch.entry(group, index, term, &[payload]))
    }

    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket {
        self.add(true, |batch| batch.hard_state(group, state))
    }

    fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) -> Ticket {
        self.add(true, |batch| batch.checkpoint(group, applied, term, body))
    }

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.add(true, |batch| batch.end_group(group))
    }
}

/// The writer's own side.
pub(crate) struct LogWriter {
    pub(crate) wal: Wal,
    pub(crate) handle: LogHandle,
    pub(crate) pumps: Vec<PumpHandle>,
    pub(crate) workers: DiskWorkers,
    /// When each group was last asked for a checkpoint.
    pub(crate) asked: HashMap<GroupId, linnet_ids::Mono>,
    /// A batch found no space, and the segment for more messages is not ready since.
    pub(crate) is_stuck: bool,
    /// When the groups that hold on to the oldest segment were last listed.
    pub(crate) looked: Option<linnet_ids::Mono>,
    /// The oldest segment, and since when it is.
    pub(crate) waiting_for: Option<(linnet_wal::SegmentNo, linnet_ids::Mono)>,
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
                Work::Room => self.maintain(),
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
                state.queued += batch.bytes();
                return Work::Batch(ticket, batch);
            }
            if state.is_stopping {
                return Work::Stop;
            }
            if self.wal.needs_seal() {
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
    fn commit(&mut self, ticket: Ticket, mut batch: Batch) -> bool {
        let bytes = batch.bytes();
        let is_urgent = batch.is_urgent();
        loop {
            match self.try_commit(&mut batch, is_urgent) {
                Ok(true) => break,
                Ok(false) => {
                    self.make_room();
                    self.copy_what_is_left();
                    self.pause();
                    self.maintain();
                }
                Err(error) => {
                    self.fail(error);
                    return false;
                }
            }
        }
        {
            let mut state = self.handle.shared.state.lock();
            state.queued = state.queued.saturating_sub(bytes);
            if state.spare.len() < 4 {
                state.spare.push(batch);
            }
        }
        for pump in &self.pumps {
            pump.durable(ticket);
        }
        self.maintain();
        true
    }

    /// False if there is no space. From then on streams take no more messages, and what is urgent may use the reserve,
    /// with everything that was appended before it.
    fn try_commit(&mut self, batch: &mut Batch, is_urgent: bool) -> Result<bool, Error> {
        batch.set_urgent(self.is_stuck && (is_urgent || self.handle.has_urgent()));
        match self.wal.commit(batch) {
            Ok(_) => Ok(true),
            Err(error @ (Error::DiskFull { .. } | Error::Full { .. })) => {
                if !std::mem::replace(&mut self.is_stuck, true) {
                    tracing::warn!("{error}; retrying");
                }
                self.handle.shared.state.lock().is_short_of_space = true;
                Ok(false)
            }
            Err(error) => Err(error),
        }
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
        self.health.fail_log(&error.to_string());
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
        if usage.live_bytes > usage.max_bytes / 8 * 3 {
            self.make_room();
        }
        if usage.live_bytes > usage.max_bytes / 2 {
            self.copy_what_is_left();
        }
        if self.is_stuck && self.wal.is_next_ready() {
            self.is_stuck = false;
            tracing::info!("The write-ahead log goes on");
        }
        let is_large = usage.live_bytes > usage.max_bytes / 4 * 3;
        self.handle.shared.state.lock().is_short_of_space = is_large || self.is_stuck;
    }

    /// Asks the groups that hold on to the oldest segment for checkpoints.
    fn make_room(&mut self) {
        let now = self.clock.mono();
        if self.looked.is_some_and(|last| now.since(last) < LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        self.asked.retain(|_, since| now.since(*since) < PATIENCE);
        let pinning = self.wal.groups_pinning_oldest();
        let state = self.handle.shared.state.lock();
        for (group, _) in pinning {
            if let Some(pump) = state.owners.get(&group)
                && self.asked.insert(group, now).is_none()
            {
                pump.checkpoint(group);
            }
        }
    }

    /// Every opening begins a segment, so a server that keeps dying soon after its start gets over the bound. Such
    /// segments hold little: copying it is quick. More than each once is in vain.
    fn come_below_bound(&mut self) {
        let mut segments = self.wal.usage().live_segments;
        while segments > 0 {
            let usage = self.wal.usage();
            if usage.live_bytes <= usage.max_bytes + usage.reserve_bytes {
                return;
            }
            match self.wal.rewrite_oldest(Unverifiable::Keep) {
                Ok(done) if done.damaged.is_empty() && (done.done || done.records > 0) => {
                    segments -= usize::from(done.done);
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!("Rewriting the oldest segment of the write-ahead log failed: {error}");
                    return;
                }
            }
        }
    }

    /// What groups still hold of the oldest segment although they were asked long ago is written again, so that the
    /// segment becomes free: groups without a pump, and those that have nothing to checkpoint.
    fn copy_what_is_left(&mut self) {
        let oldest = self.wal.usage().oldest;
        let now = self.clock.mono();
        match self.waiting_for {
            Some((segment, since)) if segment == oldest => {
                if now.since(since) >= PATIENCE {
                    self.copy_oldest();
                }
            }
            _ => self.waiting_for = Some((oldest, now)),
        }
    }

    /// One step of copying the oldest segment.
    fn copy_oldest(&mut self) {
        let usage = self.wal.usage();
        let copied = self.wal.rewrite_oldest(Unverifiable::Keep).and_then(|done| {
            // A read may fail and succeed later, so there is no hurry.
            if done.damaged.is_empty() || usage.live_bytes <= usage.max_bytes / 4 * 3 {
                return Ok(());
            }
            // Nobody made them unneeded. Kept, they would hold the segment until the log is full.
            for (group, index) in done.damaged {
                tracing::error!("Write-ahead log: entry {index} of group {group} is damaged and given up");
            }
            self.wal.rewrite_oldest(Unverifiable::GiveUp).map(|_| ())
        });
        if let Err(error) = copied {
            tracing::warn!("Rewriting the oldest segment of the write-ahead log failed: {error}");
        }
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

    use linnet_assets::Entry;
    use linnet_env::{FaultyDisk, ManualClock};
    use linnet_wal::{Config, StoreIdentity};

    use super::*;

    /// Ten seconds of waiting for a disk thread.
    const PAUSES_MAX: u32 = 200;
    const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };

    fn writer() -> (LogWriter, FaultyDisk) {
        let faulty = FaultyDisk::new(1);
        let disk: Arc<dyn linnet_env::Disk> = Arc::new(faulty.clone());
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
        let writer = LogWriter {
            wal,
            handle: LogHandle::new(),
            pumps: Vec::new(),
            workers,
            asked: HashMap::new(),
            is_stuck: false,
            looked: None,
            waiting_for: None,
            clock: Arc::new(ManualClock::default()),
            health: Arc::default(),
        };
        (writer, faulty)
    }

    #[test]
    fn room_is_looked_for_although_nothing_is_appended_any_more() {
        let (mut writer, _) = writer();
        writer.wal.seal().unwrap();
        writer.handle.shared.state.lock().is_short_of_space = true;
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || tell.send(matches!(writer.wait_for_work(), Work::Room)));
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
    }

    /// Messages until one finds no space: the batch that was refused.
    fn fill(writer: &mut LogWriter) -> Batch {
        let message = [&[Entry::MESSAGES_KIND][..], &[7; 20_000]].concat();
        loop {
            let next = writer.wal.last_index(GROUP) + 1;
            writer.handle.append(GROUP, next, 1, &message);
            let mut batch = next_batch(writer);
            if !writer.try_commit(&mut batch, false).unwrap() {
                return batch;
            }
            keep_ready(writer);
        }
    }

    fn next_batch(writer: &mut LogWriter) -> Batch {
        loop {
            match writer.wait_for_work() {
                Work::Batch(_, batch) => return batch,
                Work::Prepared(Ok(prepared)) => writer.wal.install(prepared),
                Work::Prepared(Err(_)) => writer.wal.prepare_failed(),
                _ => panic!("something was appended"),
            }
        }
    }

    /// Prepares what the log wants, as far as the disk allows.
    fn keep_ready(writer: &mut LogWriter) {
        for _ in 0..3 {
            writer.maintain();
            for _ in 0..PAUSES_MAX {
                if !writer.wal.is_preparing() {
                    break;
                }
                writer.pause();
            }
        }
        writer.maintain();
    }

    fn gets_out_of_fullness_by_a_checkpoint(writer: &mut LogWriter, mut refused: Batch) {
        assert!(writer.handle.is_pressed(), "streams take no more messages");
        assert!(!writer.try_commit(&mut refused, false).unwrap(), "messages alone do not use the reserve");
        let applied = writer.wal.last_index(GROUP);
        writer.handle.checkpoint(GROUP, applied, 1, b"files");
        assert!(writer.try_commit(&mut refused, false).unwrap(), "a checkpoint behind it takes it along");
        let mut batch = next_batch(writer);
        assert!(batch.is_urgent() && writer.try_commit(&mut batch, true).unwrap());
        writer.wal.seal().unwrap();
        keep_ready(writer);
        assert!(!writer.handle.is_pressed(), "{:?}", writer.wal.usage());
        fill(writer);
    }

    #[test]
    fn a_log_at_its_bound_takes_a_checkpoint_and_gets_out_of_it() {
        let (mut writer, _) = writer();
        let refused = fill(&mut writer);
        gets_out_of_fullness_by_a_checkpoint(&mut writer, refused);
    }

    #[test]
    fn a_log_on_a_full_disk_takes_a_checkpoint_and_gets_out_of_it() {
        let (mut writer, disk) = writer();
        keep_ready(&mut writer);
        disk.set_capacity(Some(disk.used()));
        let refused = fill(&mut writer);
        gets_out_of_fullness_by_a_checkpoint(&mut writer, refused);
    }
}
