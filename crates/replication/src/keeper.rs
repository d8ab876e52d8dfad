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
    /// Bytes of the batch that found no space last.
    refused_bytes: u64,
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
            refused_bytes: 0,
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
                self.refused_bytes = batch.bytes() as u64;
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
        // On a small disk a log far below its bound takes all that there is.
        let has_no_room = self.is_refused || self.is_bare();
        if is_above(usage, ASK) || has_no_room {
            self.make_room(now, ask);
        }
        if is_above(usage, COPY) || (has_no_room && self.is_little_held(usage)) {
            self.copy_what_is_left(now);
        }
        // A disk may have space for two segments and never for a third one.
        let is_roomy = self.wal.has_reserve() && self.wal.is_current_roomy(self.refused_bytes);
        self.is_refused &= !(self.wal.is_next_ready() || is_roomy);
        if self.is_refused && usage.live_segments == 1 && self.wal.has_reserve() && self.is_little_held(usage)
        {
            self.leave_current();
        }
        let is_bare = self.is_bare();
        Upkeep { prepare, is_short_of_space: is_above(usage, WAIT) || self.is_refused || is_bare, is_bare }
    }

    /// True if the disk has no space for a segment, and the reserve is used up.
    fn is_bare(&self) -> bool {
        self.is_cramped && !self.wal.has_reserve()
    }

    /// True if groups hold so little of the oldest segment that writing it again takes less than it gives.
    fn is_little_held(&self, usage: Usage) -> bool {
        let held: u64 = self.wal.groups_pinning_oldest().iter().map(|(_, bytes)| bytes).sum();
        held < usage.live_bytes / usage.live_segments.max(1) as u64 / 8
    }

    /// Goes on in the reserve: a segment of which hardly anything is needed becomes the next one once it is not the
    /// current one any more.
    fn leave_current(&mut self) {
        if let Err(error) = self.wal.leave_current() {
            tracing::warn!("Beginning another segment of the write-ahead log failed: {error}");
        }
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use linnet_env::FaultyDisk;
    use linnet_wal::{Config, StoreIdentity};

    use super::*;

    const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };
    const OTHER: GroupId = GroupId { epoch: 0, meta_index: 2, random: 7 };

    /// A log far below its bound on a disk that has no space for another segment of it, and when that is.
    fn cramped(first_segment_bytes: u64) -> (LogKeeper, Mono) {
        let disk = FaultyDisk::new(1);
        let config = Config {
            segment_bytes: 512 << 10,
            first_segment_bytes,
            max_bytes: 64 << 20,
            reserve_segments: 1,
            ahead_after: 0,
        };
        let dir = Path::new("/store");
        linnet_env::Disk::create_dir_all(&disk, dir).unwrap();
        let identity = StoreIdentity { store_id: [1; 16] };
        let mut keeper =
            LogKeeper::new(Wal::open(Arc::new(disk.clone()), dir, config, identity).unwrap().wal);
        upkeep(&mut keeper, Mono(0), &mut |_| true);
        upkeep(&mut keeper, Mono(0), &mut |_| true);
        disk.set_capacity(Some(disk.used()));
        let mut now = Mono(0);
        write(&mut keeper, now, |batch| batch.entry(OTHER, 1, 1, &[b"little"]));
        for index in 1.. {
            now = now + PREPARE_AGAIN;
            let is_durable = write(&mut keeper, now, |batch| batch.entry(GROUP, index, 1, &[&[7; 20_000]]));
            upkeep(&mut keeper, now, &mut |_| true);
            if !is_durable {
                break;
            }
        }
        assert!(keeper.is_refused() && !is_above(keeper.wal().usage(), ASK));
        (keeper, now)
    }

    fn write(keeper: &mut LogKeeper, now: Mono, add: impl FnOnce(&mut Batch)) -> bool {
        let mut batch = Batch::new();
        add(&mut batch);
        matches!(keeper.write(&mut batch, false, now, &mut |_| true), Written::Durable)
    }

    fn upkeep(keeper: &mut LogKeeper, now: Mono, ask: AskGroup<'_>) {
        if let Some(job) = keeper.maintain(now, ask).prepare {
            keeper.prepared(job.run(), now);
        }
    }

    #[test]
    fn groups_are_asked_again_although_nothing_more_is_written() {
        let (mut keeper, now) = cramped(512 << 10);
        let mut asked = Vec::new();
        upkeep(&mut keeper, now + PATIENCE, &mut |group| {
            asked.push(group);
            true
        });
        assert!(asked.contains(&GROUP), "{asked:?}");
    }

    /// A group has a checkpoint, and some time passes.
    fn let_go(keeper: &mut LogKeeper, mut now: Mono) -> Mono {
        let last = keeper.wal().last_index(GROUP);
        let mut batch = Batch::new();
        batch.checkpoint(GROUP, last, 1, b"files");
        batch.set_urgent(true);
        assert!(matches!(keeper.write(&mut batch, true, now, &mut |_| true), Written::Durable));
        for _ in 0..10 {
            now = now + PATIENCE;
            upkeep(keeper, now, &mut |_| true);
        }
        now
    }

    #[test]
    fn what_others_hold_is_copied_once_a_group_lets_go() {
        let (mut keeper, now) = cramped(512 << 10);
        let before = keeper.wal().usage().oldest;
        let_go(&mut keeper, now);
        let usage = keeper.wal().usage();
        assert!(usage.oldest > before && !keeper.is_refused(), "{usage:?}");
    }

    #[test]
    fn a_log_goes_on_where_the_disk_has_space_for_two_segments_only() {
        let (mut keeper, mut now) = cramped(64 << 10);
        for _ in 0..3 {
            now = let_go(&mut keeper, now);
            assert!(!keeper.is_refused(), "{:?}", keeper.wal().usage());
            let mut written = 0;
            while !keeper.is_refused() {
                let next = keeper.wal().last_index(GROUP) + 1;
                written += u64::from(write(&mut keeper, now, |b| b.entry(GROUP, next, 1, &[&[7; 20_000]])));
                upkeep(&mut keeper, now, &mut |_| true);
            }
            assert!(written > 5, "{written}");
        }
    }
}
