use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use linnet_env::Disk;
use linnet_ids::{StreamSeq, Wall};

use crate::block::Block;
use crate::checkpoint::Pending;
use crate::jobs::{BlockFile, LoadJob, WriteDone, WriteJob, is_shortage};
use crate::layout::Layout;
use crate::pin::Pins;
use crate::read::Reading;
use crate::record::{Record, Seed};
use crate::repair::Hopes;
use crate::subjects::{SubjectId, Subjects};

/// Blocks are not made smaller than this for a small stream: each is a file.
pub(crate) const BLOCK_MIN: usize = 128 << 10;

/// Where a stream keeps its messages.
#[derive(Clone)]
pub enum Kind {
    /// In memory only.
    Memory,
    /// In block files of a directory.
    File {
        /// The disk.
        disk: Arc<dyn Disk>,
        /// The stream's own directory; it exists.
        dir: PathBuf,
    },
}

/// Outcome of looking at a message.
pub enum Lookup<T> {
    /// Here it is.
    Found(T),
    /// No such message.
    Missing,
    /// Its bytes are on disk: run the job, give back its outcome ([`StreamStore::loaded`]), look again.
    Cold(LoadJob),
    /// Its bytes are damaged, and others may have them. [`StreamStore::mark_damaged`] makes it show among the damaged; look
    /// again when it is repaired, or nobody has it.
    Repairing,
    /// Its bytes are damaged; it is never served. [`StreamStore::mark_damaged`] makes it show among the damaged.
    Damaged,
}

/// Sizes and bounds of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Messages.
    pub msgs: u64,
    /// Accounted bytes.
    pub bytes: u64,
    /// Sequence of the oldest message; one past `last_seq` when there is none.
    pub first_seq: StreamSeq,
    /// Highest sequence ever used.
    pub last_seq: StreamSeq,
    /// Timestamp of the newest message ever stored.
    pub last_ts: Option<Wall>,
    /// Messages lost to damage, and their bytes.
    pub lost: (u64, u64),
}

/// A message that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its sequence.
    pub seq: StreamSeq,
    /// Its accounted size.
    pub bytes: u64,
}

/// Messages of one stream.
pub struct StreamStore {
    pub(crate) kind: Kind,
    pub(crate) seed: Seed,
    pub(crate) layout: Layout,
    /// Closed blocks are packed.
    pub(crate) compress: bool,
    /// In the order of their sequences.
    pub(crate) blocks: VecDeque<Block>,
    pub(crate) subjects: Subjects,
    pub(crate) state: State,
    pub(crate) reading: Reading,
    /// Number of the next block file.
    pub(crate) next_block: u64,
    /// No block that starts below has anything to write.
    settled: StreamSeq,
    /// Files that no checkpoint needs once the next one is durable.
    pub(crate) obsolete: Vec<PathBuf>,
    pub(crate) obsolete_bytes: u64,
    pub(crate) damaged: BTreeSet<StreamSeq>,
    pub(crate) hopes: Hopes,
    pub(crate) failed: Option<Arc<io::Error>>,
    pub(crate) disk_full: bool,
    /// Number of the state file that the log names, and of the next one.
    pub(crate) recorded_state: Option<u64>,
    pub(crate) next_state: u64,
    pub(crate) pending: Option<Pending>,
    pub(crate) pins: Pins,
}

impl StreamStore {
    /// An empty store. `first_seq` is the sequence the first message will get; 0 if nobody has chosen one, which gives
    /// 1 and shows 0 until then.
    pub fn new(kind: Kind, seed: Seed, first_seq: StreamSeq, max_per_subject: i64) -> Self {
        Self {
            kind,
            seed,
            layout: Layout::default(),
            compress: false,
            blocks: VecDeque::new(),
            subjects: Subjects::new(max_per_subject),
            state: State { first_seq, last_seq: first_seq.saturating_sub(1), ..State::default() },
            reading: Reading::default(),
            next_block: 1,
            settled: 0,
            obsolete: Vec::new(),
            obsolete_bytes: 0,
            damaged: BTreeSet::new(),
            hopes: Hopes::default(),
            failed: None,
            disk_full: false,
            recorded_state: None,
            next_state: 1,
            pending: None,
            pins: Pins::default(),
        }
    }

    /// The same store with other sizes.
    #[must_use]
    pub fn with_layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// Goes on with other sizes. What is stored stays as it is.
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
    }

    /// Follows the stream's limit of bytes: blocks of a small stream are small, so that what it pushed out does not
    /// fill the disk. 0 or less is no limit.
    pub fn fit_to(&mut self, max_bytes: i64) {
        let usual = Layout::default();
        let max = usize::try_from(max_bytes).ok().filter(|max| *max > 0);
        self.layout.block_max =
            max.map_or(usual.block_max, |max| (max / 8).clamp(BLOCK_MIN, usual.block_max));
        self.layout.extent = usual.extent.min(self.layout.block_max / 2);
    }

    /// Whether blocks that are closed from now on are compressed. Those that are closed stay as they are until they
    /// are rewritten. Sizes do not depend on it, and a memory stream does nothing.
    pub fn set_compression(&mut self, on: bool) {
        self.compress = on;
    }

    /// True for a memory stream.
    pub fn is_memory(&self) -> bool {
        matches!(self.kind, Kind::Memory)
    }

    /// The seed records are encoded with.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Sizes and bounds.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Subjects with messages.
    pub fn subject_count(&self) -> usize {
        self.subjects.len()
    }

    /// Why block files cannot be written any more.
    pub fn failure(&self) -> Option<&Arc<io::Error>> {
        self.failed.as_ref()
    }

    /// Sequences whose records are damaged.
    pub fn damaged(&self) -> &BTreeSet<StreamSeq> {
        &self.damaged
    }

    /// Bytes that are in no block file yet.
    pub fn unwritten(&self) -> usize {
        if self.is_memory() {
            return 0;
        }
        let from = self.blocks.partition_point(|b| b.base() < self.settled);
        self.blocks.range(from..).map(Block::unwritten).sum()
    }

    /// True if the last attempt to write found no space, or no descriptor for a file; writes and checkpoints go on being
    /// tried.
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    /// Bytes of files that the next checkpoint makes removable.
    pub fn obsolete_bytes(&self) -> u64 {
        self.obsolete_bytes
    }

    /// Bytes of files that the checkpoint under way makes removable.
    pub fn leaving_bytes(&self) -> u64 {
        self.pending.as_ref().map_or(0, Pending::obsolete_bytes)
    }

    /// Follows a change of the stream's limit per subject.
    pub fn set_max_per_subject(&mut self, max: i64) {
        if self.subjects.fits(max) {
            return;
        }
        let mut rebuilt = Subjects::new(max);
        let old = std::mem::replace(&mut self.subjects, Subjects::new(max));
        for block in &mut self.blocks {
            block.renumber(|seq, id| rebuilt.add(old.subject(id), seq));
        }
        self.subjects = rebuilt;
    }

    /// Appends an encoded record whose sequence is above the last one. Sequences in between are never used. What
    /// is no record, or has a sequence that was used, is not appended.
    pub fn append(&mut self, record: &[u8]) {
        let Ok((view, len)) = Record::view(record) else {
            debug_assert!(false, "only encoded records are appended");
            return;
        };
        let (seq, timestamp) = (view.seq, view.timestamp);
        if seq <= self.state.last_seq {
            debug_assert!(false, "{seq} is not above {}", self.state.last_seq);
            return;
        }
        let bytes = view.accounted(self.is_memory());
        let has_headers = !view.headers.is_empty();
        let subject = self.subjects.add(view.subject, seq);
        self.open_block(seq).append(seq, subject, &record[..len], has_headers);
        if self.state.msgs == 0 {
            self.state.first_seq = seq;
            self.reading.set_first_time(seq, timestamp);
        }
        self.state.msgs += 1;
        self.state.bytes += bytes;
        self.state.last_seq = seq;
        self.state.last_ts = Some(timestamp);
    }

    /// Uses up sequences without storing anything. Sequence 0 uses up none: it chooses the first one for a store where
    /// nobody has.
    pub fn skip_to(&mut self, last_seq: StreamSeq) {
        if last_seq < self.state.last_seq {
            return;
        }
        self.state.last_seq = last_seq;
        if self.state.msgs == 0 {
            self.state.first_seq = last_seq + 1;
        }
    }

    /// Uses up the sequence of a message that is not stored, and its timestamp.
    pub fn pass_over(&mut self, seq: StreamSeq, timestamp: Wall) {
        self.skip_to(seq);
        self.state.last_ts = Some(timestamp);
    }

    fn open_block(&mut self, seq: StreamSeq) -> &mut Block {
        let layout = self.layout;
        if self.blocks.back().is_none_or(|b| b.is_full(&layout)) {
            self.close_last_block();
            let file = match &self.kind {
                Kind::Memory => None,
                Kind::File { disk, dir } => {
                    Some(BlockFile::new(disk.clone(), dir, self.next_block, seq, self.seed))
                }
            };
            self.blocks.push_back(Block::new(seq, file));
            self.next_block += 1;
        }
        self.blocks.back_mut().expect("a block was just pushed")
    }

    fn close_last_block(&mut self) {
        let Some(last) = self.blocks.back_mut() else { return };
        if last.live() == 0 {
            self.drop_block(self.blocks.len() - 1);
        } else {
            // It stays closed when the blocks behind it go: it may be about to be rewritten.
            last.closed = true;
            if last.is_tail_sparse(&self.layout) {
                last.squeeze();
            }
            last.shrink();
        }
    }

    /// Removes a message. With `erase` its bytes do not survive the next checkpoint.
    pub fn remove(&mut self, seq: StreamSeq, erase: bool) -> Option<Removed> {
        self.forget_damaged(seq);
        let at = self.block_of(seq)?;
        let layout = self.layout;
        let block = self.blocks.get_mut(at)?;
        let removed = block.remove(seq, erase)?;
        if block.is_tail_sparse(&layout) {
            block.squeeze();
        }
        let is_over = block.live() == 0 && (block.closed || at + 1 < self.blocks.len());
        if self.subjects.remove(removed.subject, seq)
            && let Some(last) = self.last_before(seq, removed.subject)
        {
            self.subjects.set_last(removed.subject, last);
        }
        self.state.msgs -= 1;
        self.state.bytes -= removed.accounted;
        if seq == self.state.first_seq {
            self.state.first_seq = self.first_live_from(seq + 1);
        }
        if is_over {
            self.drop_block(at);
        }
        Some(Removed { seq, bytes: removed.accounted })
    }

    /// The newest message of a subject before `seq`.
    fn last_before(&self, seq: StreamSeq, subject: SubjectId) -> Option<StreamSeq> {
        let end = self.blocks.partition_point(|b| b.base() < seq);
        self.blocks.range(..end).rev().find_map(|block| {
            let seqs = block.rows().seqs();
            block.rows().previous_of(seqs.row_from(seq), subject).map(|row| seqs.seq_of(row))
        })
    }

    fn first_live_from(&self, seq: StreamSeq) -> StreamSeq {
        let first = if self.state.msgs == 0 { None } else { self.next(seq, &crate::Filter::all()) };
        first.unwrap_or(self.state.last_seq + 1)
    }

    /// Drops the blocks in which nothing is alive.
    pub(crate) fn drop_empty_blocks(&mut self) {
        let blocks = std::mem::take(&mut self.blocks);
        for block in blocks {
            if block.live() > 0 {
                self.blocks.push_back(block);
            } else {
                self.retire(&block);
            }
        }
    }

    /// A block that begins at `base` has something to write.
    pub(crate) fn unsettle(&mut self, base: StreamSeq) {
        self.settled = self.settled.min(base);
    }

    fn drop_block(&mut self, at: usize) {
        if let Some(block) = self.blocks.remove(at) {
            self.retire(&block);
        }
    }

    /// The block's file is of no use once a checkpoint without it is durable.
    pub(crate) fn retire(&mut self, block: &Block) {
        let Some(file) = &block.file else { return };
        file.retire();
        if !block.is_unwritten() {
            self.obsolete.extend([file.path().to_owned(), file.index_path()]);
            self.obsolete_bytes += u64::from(block.data_len());
        }
    }

    /// Removes everything; sequences go on.
    pub fn clear(&mut self) -> u64 {
        let removed = self.state.msgs;
        for block in std::mem::take(&mut self.blocks) {
            self.retire(&block);
        }
        self.subjects.clear();
        self.damaged.clear();
        self.release_cache();
        self.state.msgs = 0;
        self.state.bytes = 0;
        self.state.first_seq = self.state.last_seq + 1;
        removed
    }

    /// Where the block is that may hold `seq`.
    pub(crate) fn block_of(&self, seq: StreamSeq) -> Option<usize> {
        self.blocks.partition_point(|b| b.base() <= seq).checked_sub(1)
    }

    pub(crate) fn block_with_base(&self, base: StreamSeq) -> Option<usize> {
        self.block_of(base).filter(|at| self.blocks[*at].base() == base)
    }

    /// The block that uses this very file.
    pub(crate) fn block_with_file(&self, file: &Arc<BlockFile>) -> Option<usize> {
        let at = self.block_with_base(file.base())?;
        self.blocks[at].file.as_ref().is_some_and(|f| Arc::ptr_eq(f, file)).then_some(at)
    }

    /// Parts of blocks that are worth writing now: all full parts, or with `all` everything.
    pub fn take_writes(&mut self, all: bool) -> Vec<WriteJob> {
        let mut jobs = Vec::new();
        if self.is_memory() || self.failed.is_some() {
            return jobs;
        }
        let layout = self.layout;
        let from = self.blocks.partition_point(|b| b.base() < self.settled);
        let last = self.blocks.len().saturating_sub(1);
        self.settled =
            match self.blocks.range(from..).find(|b| b.unwritten() > 0).or_else(|| self.blocks.back()) {
                Some(block) => block.base(),
                None => self.settled,
            };
        let from = self.blocks.partition_point(|b| b.base() < self.settled);
        for (at, block) in self.blocks.range_mut(from..).enumerate() {
            let is_last = from + at == last;
            if all || !is_last || block.tail_len() >= layout.extent {
                block.freeze(&layout);
            }
            let Some(file) = block.file.clone() else { continue };
            jobs.extend(block.take_unsent().map(|(offset, data)| WriteJob {
                file: file.clone(),
                offset,
                data,
            }));
        }
        jobs
    }

    /// Takes the outcome of a write. Want of space or descriptors lets a later [`StreamStore::take_writes`] hand the part out
    /// again; any other failure latches: the store writes no more blocks.
    pub fn written(&mut self, done: WriteDone) {
        // What happens to a file that no block uses any more is of no consequence.
        let Some(at) = self.block_with_file(&done.file) else { return };
        match done.result {
            Ok(()) => {
                self.blocks[at].note_part_written(done.offset);
                self.disk_full = false;
            }
            Err(error) if is_shortage(&error) => {
                self.blocks[at].note_part_unsent(done.offset);
                self.disk_full = true;
            }
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn fail(&mut self, error: io::Error) {
        self.failed.get_or_insert_with(|| Arc::new(error));
    }
}
