//! What the writer of the log does besides writing: room for the next segment, and a log within its bound.

use std::collections::HashMap;
use std::time::Duration;

use linnet_ids::{GroupId, Mono};
use linnet_wal::{Batch, Error, PrepareSegment, PreparedSegment, SegmentNo, Unverifiable, Usage, Wal};

/// How long a group that was asked for a checkpoint has before it is asked again, and how long all of those that
/// hold on to the oldest segment have before the log copies what they still need.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the groups that hold on to the oldest segment are listed.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Pause before a segment that could not be prepared is tried again.
const PREPARE_AGAIN: Duration = Duration::from_millis(50);

/// Eighths of the bound from which groups are asked for checkpoints.
const ASK: u64 = 2;
/// Eighths of the bound from which what groups still hold is copied.
const COPY: u64 = 3;
/// Eighths of the bound from which streams wait. What was taken before, segments that lie ready and those that wait
/// for their removal come on top; all of it stays within the bound.
const WAIT: u64 = 4;

/// Asks a group for a checkpoint; false if nobody runs the group.
pub type AskGroup<'a> = &'a mut dyn FnMut(GroupId) -> bool;

/// How writing went.
pub enum Written {
    /// It is durable.
    Durable,
    /// There is no space now. Groups were asked to make some; to be tried again.
    NoSpace(Error),
    /// The log is at its end.
    Failed(Error),
}

/// What is to be done so that the log goes on.
pub struct Upkeep {
    /// A segment to prepare; [`LogKeeper::prepared`] takes the outcome.
    pub prepare: Option<PrepareSegment>,
    /// The log has reached half of its bound, or found no space: streams should take no more messages.
    pub is_short_of_space: bool,
    /// The disk has no space for a segment, and the reserve is used up.
    pub is_bare: bool,
}

/// The log in the hands of its writer.
pub struct LogKeeper {
    wal: Wal,
    /// When each group was last asked for a checkpoint.
    asked: HashMap<GroupId, Mono>,
    /// When the groups that hold on to the oldest segment were last listed.
    looked: Option<Mono>,
    /// The oldest segment, and since when it is.
    waiting_for: Option<(SegmentNo, Mono)>,
    /// A batch found no space, and the segment for more messages is not ready since.
    is_refused: bool,
    /// When preparing a segment failed.
    failed: Option<Mono>,
    /// The disk has no space for a segment. Without the reserve, what streams take might have to wait for long.
    is_cramped: bool,
    rewrites: u64,
}

impl LogKeeper {
    /// Takes charge of an open log.
    pub fn new(wal: Wal) -> Self {
        let is_cramped = !wal.can_make_segment();
        Self {
            wal,
            is_cramped,
            asked: HashMap::new(),
            looked: None,
            waiting_for: None,
            is_refused: false,
            failed: None,
            rewrites: 0,
        }
    }

    /// The log.
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Steps of copying the oldest segment since the last call.
    pub fn take_rewrites(&mut self) -> u64 {
        std::mem::take(&mut self.rewrites)
    }

    /// True since a batch found no space, until there is space for messages again.
    pub fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Writes a batch. [`LogKeeper::maintain`] afterwards. Once a batch found no space, what is urgent may use the
    /// reserve, with everything that was appended before it: `urgent_waits` if something urgent waits behind this batch.
    pub fn write(&mut self, batch: &mut Batch, urgent_waits: bool, now: Mono, ask: AskGroup<'_>) -> Written {
        let is_urgent = batch.is_urgent();
        batch.set_urgent(self.is_refused && (is_urgent || urgent_waits));
        match self.wal.commit(batch) {
            Ok(_) => Written::Durable,
            Err(error @ (Error::DiskFull { .. } | Error::Full { .. })) => {
                self.is_refused = true;
                batch.set_urgent(is_urgent);
                self.make_room(now, ask);
                self.copy_what_is_left(now);
                Written::NoSpace(error)
            }
            Err(error) => Written::Failed(error),
        }
    }

    /// Marks the last batch as durable. Without space nothing is written: the batch is durable all the same, only its
    /// loss would go unnoticed.
    pub fn seal(&mut self, now: Mono, ask: AskGroup<'_>) -> Written {
        match self.wal.seal() {
            Ok(_) => Written::Durable,
            Err(error) if error.is_retryable() => {
                self.make_room(now, ask);
                Written::NoSpace(error)
            }
            Err(error) => Written::Failed(error),
        }
    }

    /// Takes the outcome of preparing a segment. After a failure the next attempt waits a little.
    pub fn prepared(&mut self, outcome: Result<Option<PreparedSegment>, Error>, now: Mono) {
        match outcome {
            Ok(prepared) => {
                self.failed = None;
                self.is_cramped = false;
                self.wal.install(prepared);
            }
            Err(_) => {
                self.failed = Some(now);
                self.is_cramped = true;
                self.wal.prepare_failed();
            }
        }
    }

    /// Keeps a segment ready and the log at about a quarter of its bound.
    pub fn maintain(&mut self, now: Mono, ask: AskGroup<'_>) -> Upkeep {
        let may_prepare = self.failed.is_none_or(|at| now.since(at) >= PREPARE_AGAIN);
        let prepare = if may_prepare { self.wal.prepare_next() } else { None };
        self.come_below_bound();
        let usage = self.wal.usage();
        if is_above(usage, ASK) {
            self.make_room(now, ask);
        }
        if is_above(usage, COPY) {
            self.copy_what_is_left(now);
        }
        self.is_refused &= !self.wal.is_next_ready();
        let is_bare = self.is_cramped && !self.wal.has_reserve();
        Upkeep { prepare, is_short_of_space: is_above(usage, WAIT) || self.is_refused || is_bare, is_bare }
    }

    /// Asks the groups that hold on to the oldest segment for checkpoints.
    fn make_room(&mut self, now: Mono, ask: AskGroup<'_>) {
        if self.looked.is_some_and(|last| now.since(last) < LOOK_EVERY) {
            return;
        }
        self.looked = Some(now);
        self.asked.retain(|_, since| now.since(*since) < PATIENCE);
        for (group, _) in self.wal.groups_pinning_oldest() {
            if !self.asked.contains_key(&group) && ask(group) {
                self.asked.insert(group, now);
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
                    self.rewrites += 1;
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
    /// segment becomes free: groups that nobody runs, and those that have nothing to checkpoint.
    fn copy_what_is_left(&mut self, now: Mono) {
        let oldest = self.wal.usage().oldest;
        match self.waiting_for {
            Some((segment, since)) if segment == oldest => {
                if now.since(since) >= PATIENCE
                    && let Err(error) = self.copy_oldest()
                {
                    tracing::warn!("Rewriting the oldest segment of the write-ahead log failed: {error}");
                }
            }
            _ => self.waiting_for = Some((oldest, now)),
        }
    }

    /// One step of copying the oldest segment.
    fn copy_oldest(&mut self) -> Result<(), Error> {
        let usage = self.wal.usage();
        let done = self.wal.rewrite_oldest(Unverifiable::Keep)?;
        self.rewrites += 1;
        // A read may fail and succeed later, so there is no hurry.
        if done.damaged.is_empty() || !is_above(usage, WAIT) {
            return Ok(());
        }
        // Nobody made them unneeded. Kept, they would hold the segment until the log is full.
        for (group, index) in done.damaged {
            tracing::error!("Write-ahead log: entry {index} of group {group} is damaged and given up");
        }
        self.wal.rewrite_oldest(Unverifiable::GiveUp).map(|_| ())
    }
}

/// True if the log takes more than so many eighths of its bound.
fn is_above(usage: Usage, eighths: u64) -> bool {
    usage.live_bytes > usage.max_bytes / 8 * eighths
}
