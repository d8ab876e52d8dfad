//! The thread that makes the log durable.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, LogIndex, Mono, PeerId, chain_start};
use linnet_raft::{Entry, LogPoint};
use linnet_replication::{BatchQueue, Log, LogKeeper, Ticket, Written, may_use_reserve};
use linnet_wal::{Batch, Error, HardState, PreparedSegment};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::budget::Budget;
use crate::disk_work::{DiskWork, DiskWorkers};
use crate::pump::{EntriesRead, PumpHandle};

/// Bytes after which a batch takes no more records.
const BATCH_MAX: usize = 4 << 20;
/// Silence after which the last batch is marked durable.
const SEAL_AFTER: Duration = Duration::from_millis(10);
/// Pause before a batch that found no space is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// Bytes of messages that the log's reserve may be used for.
const LEFTOVERS_MAX: usize = 8 << 20;
/// How long the disk must be full before messages are refused instead of waiting for space.
const PATIENCE: Duration = Duration::from_millis(500);
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
    /// Entries to be read; a group waits for one read per member.
    reads: VecDeque<ReadEntries>,
    /// Who wants to know where the log of a group ends.
    ends: Vec<(GroupId, oneshot::Sender<LogPoint>)>,
    /// Who waits for a batch to be durable.
    waits: Vec<(Ticket, oneshot::Sender<()>)>,
    /// Nothing is written any more.
    is_over: bool,
    /// When the write began that is under way.
    writing_since: Option<Mono>,
    /// The log has reached half of its bound, or found no space.
    is_short_of_space: bool,
    /// The disk has been full for a while: what waits for space may wait for long.
    is_disk_full: bool,
    is_stopping: bool,
}

/// Why the log stopped, told to everybody.
#[derive(Clone, Debug)]
pub(crate) struct LogFailure(pub(crate) Error);

impl LogFailure {
    /// What clients are told: nothing of where this server keeps its files.
    pub(crate) fn for_clients(&self) -> String {
        match &self.0 {
            Error::Stopped(failure) => {
                format!("the write-ahead log stopped: {}: {}", failure.action, failure.source.kind())
            }
            _ => "the write-ahead log stopped".to_owned(),
        }
    }
}

impl LogHandle {
    pub(crate) fn new() -> Self {
        let state = State {
            queue: BatchQueue::new(BATCH_MAX),
            prepared: None,
            owners: HashMap::new(),
            reads: VecDeque::new(),
            ends: Vec::new(),
            waits: Vec::new(),
            is_over: false,
            writing_since: None,
            is_short_of_space: false,
            is_disk_full: false,
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

    /// The pump that turns a group's loop.
    pub(crate) fn pump_of(&self, group: GroupId) -> Option<PumpHandle> {
        self.shared.state.lock().owners.get(&group).cloned()
    }

    /// How long the write that is under way has taken; zero if there is none. Waiting for space is not writing.
    pub(crate) fn oldest_write(&self, now: Mono) -> Duration {
        self.shared.state.lock().writing_since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// A write begins, or is done.
    fn note_writing(&self, since: Option<Mono>) {
        self.shared.state.lock().writing_since = since;
    }

    /// Asks for a checkpoint of a group. True if a pump was asked.
    pub(crate) fn ask_for_checkpoint(&self, group: GroupId) -> bool {
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

    /// True if the disk has been full for a while.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.shared.state.lock().is_disk_full
    }

    /// True if the disk is full, nothing more is taken, and what was taken before is so little that the reserve stays
    /// useful: it is written, so that nobody waits for an answer until there is space.
    fn has_leftovers_only(&self) -> bool {
        let state = self.shared.state.lock();
        state.is_disk_full && state.queue.bytes() <= LEFTOVERS_MAX
    }

    /// Has entries read that are not in memory any more, for a member of their group.
    pub(crate) fn read_entries(
        &self,
        group: GroupId,
        peer: PeerId,
        from: LogIndex,
        bytes_max: usize,
        to: PumpHandle,
    ) {
        self.shared.state.lock().reads.push_back(ReadEntries { group, peer, from, bytes_max, to });
        self.shared.work.notify_one();
    }

    /// Where the log of a group ends, of which nothing waits to be written; `None` if the log has nothing of it.
    pub(crate) async fn end_of(&self, group: GroupId) -> Option<LogPoint> {
        let (done, told) = oneshot::channel();
        self.shared.state.lock().ends.push((group, done));
        self.shared.work.notify_one();
        told.await.ok()
    }

    /// Ends a group, of which nothing is appended any more. True once that is durable, false if the log has failed.
    pub(crate) async fn end(&self, group: GroupId) -> bool {
        let (done, told) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            if state.is_over {
                return false;
            }
            let ticket = state.queue.add(true, |batch| batch.end_group(group));
            state.waits.push((ticket, done));
        }
        self.shared.work.notify_one();
        told.await.is_ok()
    }

    /// Everything up to a batch is durable.
    fn written(&self, ticket: Ticket, bytes: usize, batch: Batch) {
        let mut state = self.shared.state.lock();
        state.queue.written(bytes, batch);
        for (_, done) in state.waits.extract_if(.., |(of, _)| *of <= ticket) {
            // Whoever asked may have gone.
            let _ = done.send(());
        }
    }

    /// Nothing is written any more: nobody waits for it.
    fn is_over(&self) {
        let mut state = self.shared.state.lock();
        state.is_over = true;
        state.waits.clear();
    }

    /// Starts writing what was appended.
    pub(crate) fn kick(&self) {
        self.shared.work.notify_one();
    }

    /// Has the writer see whether there is room: streams wait for the disk.
    pub(crate) fn look_for_room(&self) {
        self.shared.state.lock().is_short_of_space = true;
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
        self.shared.state.lock().queue.has_urgent()
    }

    fn add(&self, is_urgent: bool, add: impl FnOnce(&mut Batch)) -> Ticket {
        self.shared.state.lock().queue.add(is_urgent, add)
    }
}

impl Log for LogHandle {
    fn append(&mut self, group: GroupId, index: u64, term: u64, payload: &[u8]) -> Ticket {
        self.add(may_use_reserve(group, payload), |batch| {
            batch.entry(group, index, term, &[payload]);
            if group == GroupId::META {
                batch.make_certain();
            }
        })
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

    fn append_with_state(
        &mut self,
        group: GroupId,
        index: u64,
        term: u64,
        payload: &[u8],
        state: &HardState,
    ) -> Ticket {
        self.add(true, |batch| {
            batch.entry(group, index, term, &[payload]);
            batch.hard_state(group, state);
        })
    }

    fn install(&mut self, group: GroupId, last: LogPoint, body: &[u8], state: &HardState) -> Ticket {
        self.add(true, |batch| {
            batch.install(group, last.index, last.term, last.chain, body);
            batch.hard_state(group, state);
        })
    }
}

/// The writer's own side.
pub(crate) struct LogWriter {
    pub(crate) keeper: LogKeeper,
    pub(crate) handle: LogHandle,
    pub(crate) pumps: Vec<PumpHandle>,
    pub(crate) workers: DiskWorkers,
    /// It was said that a batch found no space, and not yet that there is some again.
    pub(crate) is_stuck: bool,
    pub(crate) budget: Arc<Budget>,
    /// Since when there is no space on the disk, for the log or for the blocks that would relieve it.
    pub(crate) full_since: Option<Mono>,
    /// It was said that preparing a segment failed, and has failed since.
    pub(crate) cannot_prepare: bool,
    pub(crate) clock: Arc<dyn linnet_env::Clock>,
    pub(crate) health: Arc<crate::cell::Health>,
    pub(crate) is_clustered: bool,
}

impl LogWriter {
    /// Writes batches until told to stop or until the log fails. [`LogWriter::maintain`] before.
    pub(crate) fn run(mut self) {
        self.write_all();
        self.handle.is_over();
    }

    fn write_all(&mut self) {
        let mut has_read = false;
        loop {
            let work = self.wait_for_work(has_read);
            has_read = matches!(work, Work::Read(_));
            match work {
                Work::Read(read) => self.read(read),
                Work::Tell(group, done) => self.tell_end(group, done),
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
                    self.prepared(outcome);
                    // The next one may be wanted, too, and a batch may be long in coming.
                    self.maintain();
                }
                Work::Stop => return,
            }
        }
    }

    fn wait_for_work(&self, has_read: bool) -> Work {
        let began = self.clock.mono();
        let mut state = self.handle.shared.state.lock();
        loop {
            if let Some(outcome) = state.prepared.take() {
                return Work::Prepared(outcome);
            }
            if let Some((group, done)) = state.ends.pop() {
                return Work::Tell(group, done);
            }
            // A batch in between: catching up must not hold up what is written.
            if let Some(read) = state.reads.pop_front_if(|_| !has_read) {
                return Work::Read(read);
            }
            if let Some((ticket, batch)) = state.queue.take() {
                return Work::Batch(ticket, batch);
            }
            if let Some(read) = state.reads.pop_front() {
                return Work::Read(read);
            }
            if state.is_stopping {
                return Work::Stop;
            }
            // Pumps notify at every pass, which must not put off what is due.
            let waited = self.clock.mono().since(began);
            if self.keeper.wal().needs_seal() {
                if waited >= SEAL_AFTER
                    || self.handle.shared.work.wait_for(&mut state, SEAL_AFTER).timed_out()
                {
                    return Work::Idle;
                }
            } else if state.is_short_of_space {
                // The streams wait for room, so no batch would come after which it is looked for.
                if waited >= RETRY || self.handle.shared.work.wait_for(&mut state, RETRY).timed_out() {
                    return Work::Room;
                }
            } else {
                self.handle.shared.work.wait(&mut state);
            }
        }
    }

    /// Reads entries; what cannot be read is left out, and whoever waits makes do without.
    fn read(&self, read: ReadEntries) {
        let ReadEntries { group, peer, from, bytes_max, to } = read;
        let wal = self.keeper.wal();
        let mut entries = Vec::new();
        let mut bytes = 0;
        let before = from.saturating_sub(1);
        let previous = match before {
            0 => Some((0, chain_start(group))),
            _ => wal.term(group, before).zip(wal.chain(group, before)),
        };
        if previous.is_some() {
            for index in from..=wal.last_index(group) {
                let Ok(Some(entry)) = wal.read(group, index) else { break };
                bytes += entry.payload.len();
                if bytes > bytes_max && !entries.is_empty() {
                    break;
                }
                entries.push(Entry::new(entry.term, entry.payload.into()));
            }
        }
        let (term, chain) = previous.unwrap_or_default();
        let previous = LogPoint { index: before, term, chain };
        to.entries_read(EntriesRead { group, peer, previous, entries });
    }

    fn tell_end(&self, group: GroupId, done: oneshot::Sender<LogPoint>) {
        let wal = self.keeper.wal();
        let index = wal.last_index(group);
        if let (Some(term), Some(chain)) = (wal.term(group, index), wal.chain(group, index)) {
            let _ = done.send(LogPoint { index, term, chain });
        }
    }

    /// False if the log has failed.
    fn seal(&mut self) -> bool {
        let now = self.clock.mono();
        self.handle.note_writing(Some(now));
        let sealed = self.keeper.seal(now, &mut |group| self.handle.ask_for_checkpoint(group));
        self.handle.note_writing(None);
        match sealed {
            Written::Durable => true,
            Written::NoSpace(error) => {
                if !std::mem::replace(&mut self.is_stuck, true) {
                    tracing::warn!("{error}; retrying");
                }
                self.pause();
                self.maintain();
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
            match self.try_commit(&mut batch) {
                Ok(true) => break,
                Ok(false) => {
                    self.pause();
                    self.maintain();
                }
                Err(error) => {
                    self.fail(error);
                    return false;
                }
            }
        }
        self.handle.written(ticket, bytes, batch);
        for pump in &self.pumps {
            pump.durable(ticket);
        }
        self.maintain();
        true
    }

    /// False if there is no space. From then on streams take no more messages.
    fn try_commit(&mut self, batch: &mut Batch) -> Result<bool, Error> {
        let Self { keeper, handle, .. } = self;
        let may_use_reserve = handle.has_urgent() || handle.has_leftovers_only();
        let now = self.clock.mono();
        handle.note_writing(Some(now));
        let written =
            keeper.write(batch, may_use_reserve, now, &mut |group| handle.ask_for_checkpoint(group));
        handle.note_writing(None);
        match written {
            Written::Durable => Ok(true),
            Written::NoSpace(error) => {
                if !std::mem::replace(&mut self.is_stuck, true) {
                    tracing::warn!("{error}; retrying");
                }
                handle.shared.state.lock().is_short_of_space = true;
                if matches!(error, Error::DiskFull { .. }) {
                    self.full_since.get_or_insert(now);
                } else if !self.workers.lack_space() {
                    self.full_since = None;
                }
                Ok(false)
            }
            Written::Failed(error) => Err(error),
        }
    }

    /// Waits a moment for a segment that is being prepared, or for whatever else makes room.
    fn pause(&mut self) {
        let prepared = {
            let mut state = self.handle.shared.state.lock();
            self.handle.shared.work.wait_for(&mut state, RETRY);
            state.prepared.take()
        };
        if let Some(outcome) = prepared {
            self.prepared(outcome);
        }
    }

    fn prepared(&mut self, outcome: Result<Option<PreparedSegment>, Error>) {
        match &outcome {
            Err(error) if !std::mem::replace(&mut self.cannot_prepare, true) => {
                tracing::warn!("Preparing a segment of the write-ahead log failed: {error}; retrying");
            }
            Err(_) => {}
            Ok(_) => self.cannot_prepare = false,
        }
        self.keeper.prepared(outcome, self.clock.mono());
    }

    fn fail(&self, error: Error) {
        // Operators look for these words of a server that is offline to its cluster.
        match self.is_clustered {
            true => tracing::error!("JetStream cluster unable to write to WAL: {error}"),
            false => tracing::error!("JetStream is stopped: {error}"),
        }
        self.health.fail_log(&error.to_string());
        for pump in &self.pumps {
            pump.log_failed(LogFailure(error.clone()));
        }
    }

    /// Keeps a segment ready and the log within its bound.
    pub(crate) fn maintain(&mut self) {
        let now = self.clock.mono();
        let upkeep = self.keeper.maintain(now, &mut |group| self.handle.ask_for_checkpoint(group));
        if let Some(job) = upkeep.prepare {
            self.workers.submit(DiskWork::Prepare(Box::new(job), self.handle.clone()));
        }
        if self.is_stuck && !self.keeper.is_refused() {
            self.is_stuck = false;
            tracing::info!("The write-ahead log goes on");
        }
        // Nothing is written to blocks, which everything waits for.
        let is_held_up = (upkeep.is_short_of_space || self.budget.is_exceeded()) && self.workers.lack_space();
        if upkeep.is_bare || is_held_up {
            self.full_since.get_or_insert(now);
        } else if !self.keeper.is_refused() {
            self.full_since = None;
        }
        let is_disk_full = self.full_since.is_some_and(|since| now.since(since) >= PATIENCE);
        let mut state = self.handle.shared.state.lock();
        state.is_short_of_space = upkeep.is_short_of_space || is_held_up;
        let was_full = std::mem::replace(&mut state.is_disk_full, is_disk_full);
        drop(state);
        if was_full != is_disk_full {
            self.health.note_disk_full(is_disk_full);
        }
    }
}

/// Entries to be read for a member of a group.
struct ReadEntries {
    group: GroupId,
    peer: PeerId,
    from: LogIndex,
    bytes_max: usize,
    to: PumpHandle,
}

enum Work {
    Read(ReadEntries),
    Tell(GroupId, oneshot::Sender<LogPoint>),
    Batch(Ticket, Batch),
    Prepared(Result<Option<PreparedSegment>, Error>),
    Idle,
    Room,
    Stop,
}

#[cfg(test)]
mod tests;
