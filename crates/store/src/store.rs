use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use linnet_env::Disk;
use linnet_ids::{StreamSeq, Wall};

use crate::block::{Block, EXTENT, GAP_MAX};
use crate::checkpoint::Pending;
use crate::filter::{Filter, Scan};
use crate::jobs::{BlockFile, HEADER, LoadDone, LoadJob, WriteDone, WriteJob};
use crate::record::{FIXED, Record, Seed};
use crate::subjects::{SubjectState, Subjects};

/// Bytes read ahead for a reader that goes through the stream in order, and for one that wants one message.
const READ_AHEAD: usize = 256 * 1024;
const READ_ONE: usize = 8 * 1024;
/// Parts of closed blocks kept in memory per stream.
const CACHE_EXTENTS: usize = 4;

/// Where a stream keeps its messages.
#[derive(Clone)]
pub enum Kind {
    /// In memory only.
    Memory,
    /// In block files of a directory.
    File {
        /// The disk.
        disk: Arc<dyn Disk>,
        /// The stream's own directory.
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
    /// Its bytes are damaged; it is never served.
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
    pub(crate) blocks: VecDeque<Block>,
    pub(crate) subjects: Subjects,
    pub(crate) state: State,
    /// Timestamp of the oldest message, if known.
    first_ts: Option<(StreamSeq, Wall)>,
    pub(crate) next_block: u64,
    cache: VecDeque<Extent>,
    /// Files that no checkpoint needs once the next one is durable.
    pub(crate) obsolete: Vec<PathBuf>,
    pub(crate) obsolete_bytes: u64,
    pub(crate) damaged: BTreeSet<StreamSeq>,
    pub(crate) failed: Option<Arc<io::Error>>,
    pub(crate) checkpoint_number: u64,
    pub(crate) pending: Option<Pending>,
}

struct Extent {
    file: Arc<BlockFile>,
    offset: usize,
    data: Bytes,
}

impl StreamStore {
    /// An empty store. `first_seq` is the sequence the first message will get.
    pub fn new(kind: Kind, seed: Seed, first_seq: StreamSeq, max_per_subject: i64) -> Self {
        let first_seq = first_seq.max(1);
        Self {
            kind,
            seed,
            blocks: VecDeque::new(),
            subjects: Subjects::new(max_per_subject),
            // A fresh stream shows 0 and 0; one that starts elsewhere shows where.
            state: State {
                first_seq: if first_seq > 1 { first_seq } else { 0 },
                last_seq: first_seq - 1,
                ..State::default()
            },
            first_ts: None,
            next_block: 1,
            cache: VecDeque::new(),
            obsolete: Vec::new(),
            obsolete_bytes: 0,
            damaged: BTreeSet::new(),
            failed: None,
            checkpoint_number: 0,
            pending: None,
        }
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
        if self.is_memory() { 0 } else { self.blocks.iter().map(Block::unwritten).sum() }
    }

    /// Bytes of files that the next checkpoint makes removable.
    pub fn obsolete_bytes(&self) -> u64 {
        self.obsolete_bytes
    }

    /// Follows a change of the stream's limit per subject.
    pub fn set_max_per_subject(&mut self, max: i64) {
        if self.subjects.fits(max) {
            return;
        }
        let mut rebuilt = Subjects::new(max);
        let old = std::mem::replace(&mut self.subjects, Subjects::new(max));
        for block in &mut self.blocks {
            block.renumber(|row| rebuilt.add(old.subject(row.subject), row.seq));
        }
        self.subjects = rebuilt;
    }

    /// Appends an encoded record whose sequence is above the last one. Sequences in between become holes.
    pub fn append(&mut self, record: &[u8]) {
        let Ok((view, _)) = Record::view(record) else { return };
        let (seq, timestamp) = (view.seq, view.timestamp);
        let bytes = view.accounted(self.is_memory());
        let has_headers = !view.headers.is_empty();
        let subject = self.subjects.add(view.subject, seq);
        self.open_block(seq).append(seq, subject, record, has_headers);
        if self.state.msgs == 0 {
            self.state.first_seq = seq;
            self.first_ts = Some((seq, timestamp));
        }
        self.state.msgs += 1;
        self.state.bytes += bytes;
        self.state.last_seq = seq;
        self.state.last_ts = Some(timestamp);
    }

    /// Uses up sequences without storing anything.
    pub fn skip_to(&mut self, last_seq: StreamSeq) {
        if last_seq <= self.state.last_seq {
            return;
        }
        self.state.last_seq = last_seq;
        if self.state.msgs == 0 {
            self.state.first_seq = last_seq + 1;
        }
    }

    fn open_block(&mut self, seq: StreamSeq) -> &mut Block {
        let needs_new = self.blocks.back().is_none_or(|b| b.is_full() || seq > b.end() + GAP_MAX);
        if needs_new {
            self.close_last_block();
            let file = self.new_file();
            self.blocks.push_back(Block::new(seq, file));
            self.next_block += 1;
        }
        self.blocks.back_mut().expect("a block was just pushed")
    }

    fn close_last_block(&mut self) {
        if let Some(last) = self.blocks.back_mut() {
            if last.is_unwritten() && last.is_sparse() {
                last.squeeze();
            }
            last.freeze();
        }
        self.drop_if_empty(self.blocks.len().wrapping_sub(1));
    }

    pub(crate) fn new_file(&self) -> Option<Arc<BlockFile>> {
        let Kind::File { disk, dir } = &self.kind else { return None };
        Some(BlockFile::new(disk.clone(), dir.join(format!("{:010}.blk", self.next_block))))
    }

    fn block_of(&self, seq: StreamSeq) -> Option<usize> {
        let at = self.blocks.partition_point(|b| b.base <= seq).checked_sub(1)?;
        (seq < self.blocks[at].end()).then_some(at)
    }

    /// True if the message exists, damaged or not.
    pub fn contains(&self, seq: StreamSeq) -> bool {
        self.block_of(seq).is_some_and(|at| self.blocks[at].locate(seq).is_some())
    }

    /// Subject of a message.
    pub fn subject_of(&self, seq: StreamSeq) -> Option<&[u8]> {
        let row = self.blocks[self.block_of(seq)?].next_live(seq, |_| true).filter(|row| row.seq == seq)?;
        Some(self.subjects.subject(row.subject))
    }

    /// The message. `in_order` reads ahead on disk.
    pub fn get(&self, seq: StreamSeq, in_order: bool) -> Lookup<Record<'_>> {
        if self.damaged.contains(&seq) {
            return Lookup::Damaged;
        }
        let Some(at) = self.block_of(seq) else { return Lookup::Missing };
        let block = &self.blocks[at];
        let Some(span) = block.locate(seq) else { return Lookup::Missing };
        if let Some(bytes) = block.resident(&span) {
            return match Record::view(bytes) {
                Ok((record, _)) if record.seq == seq => Lookup::Found(record),
                _ => Lookup::Damaged,
            };
        }
        let Some(file) = &block.file else { return Lookup::Damaged };
        if let Some(bytes) = self.cached(file, &span) {
            return match Record::decode(bytes, self.seed) {
                Ok((record, _)) if record.seq == seq => Lookup::Found(record),
                _ => Lookup::Damaged,
            };
        }
        let span = block.extend_span(seq, &span, if in_order { READ_AHEAD } else { READ_ONE });
        Lookup::Cold(LoadJob { file: file.clone(), offset: span.start, len: span.len() })
    }

    fn cached(&self, file: &Arc<BlockFile>, span: &Range<usize>) -> Option<&[u8]> {
        let extent = self.cache.iter().find(|e| {
            Arc::ptr_eq(&e.file, file) && e.offset <= span.start && span.end <= e.offset + e.data.len()
        })?;
        extent.data.get(span.start - extent.offset..span.end - extent.offset)
    }

    /// Takes the outcome of a load. A read error marks nothing: the next look-up tries again; unless `final_try`,
    /// then every message in the part counts as damaged.
    pub fn loaded(&mut self, done: LoadDone) -> Result<(), io::Error> {
        match done.result {
            Ok(data) => {
                if self.cache.len() >= CACHE_EXTENTS {
                    self.cache.pop_front();
                }
                self.cache.push_back(Extent { file: done.file, offset: done.offset, data });
                Ok(())
            }
            Err(error) => {
                let Some(block) =
                    self.blocks.iter().find(|b| b.file.as_ref().is_some_and(|f| Arc::ptr_eq(f, &done.file)))
                else {
                    return Ok(());
                };
                let mut unreadable = Vec::new();
                block.for_each_live(block.base, |row| {
                    if block
                        .locate(row.seq)
                        .is_some_and(|s| s.start >= done.offset && s.end <= done.offset + done.len)
                    {
                        unreadable.push(row.seq);
                    }
                });
                self.damaged.extend(unreadable);
                Err(error)
            }
        }
    }

    /// Marks a message whose record turned out to be damaged.
    pub fn mark_damaged(&mut self, seq: StreamSeq) {
        self.damaged.insert(seq);
    }

    /// Frees memory that only speeds up reading.
    pub fn release_cache(&mut self) {
        self.cache = VecDeque::new();
    }

    /// Timestamp of a message, reading the fixed part of its record from disk if need be.
    pub fn timestamp(&self, seq: StreamSeq) -> Option<Wall> {
        let block = &self.blocks[self.block_of(seq)?];
        let span = block.locate(seq)?;
        if let Some(bytes) = block.resident(&span).or_else(|| self.cached(block.file.as_ref()?, &span)) {
            return Record::view(bytes).ok().map(|(r, _)| r.timestamp);
        }
        let mut fixed = [0; FIXED];
        let file = block.file.as_ref()?.for_reading().ok()?;
        file.read_exact_at(&mut fixed, HEADER + span.start as u64).ok()?;
        let nanos: [u8; 8] = fixed.get(16..24)?.try_into().ok()?;
        Some(Wall(i64::from_le_bytes(nanos)))
    }

    /// Timestamp of the oldest message.
    pub fn first_timestamp(&mut self) -> Option<Wall> {
        if self.state.msgs == 0 {
            return None;
        }
        let first = self.state.first_seq;
        if let Some((seq, timestamp)) = self.first_ts
            && seq == first
        {
            return Some(timestamp);
        }
        let timestamp = self.timestamp(first)?;
        self.first_ts = Some((first, timestamp));
        Some(timestamp)
    }

    /// The first message stored at or after `time`, if any.
    pub fn first_at_or_after(&self, time: Wall) -> Option<StreamSeq> {
        let (mut low, mut high) = (self.state.first_seq, self.state.last_seq + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next(middle, &Filter::all()) {
                Some(seq) if seq < high => {
                    if self.timestamp(seq).is_some_and(|t| t >= time) {
                        high = middle;
                    } else {
                        low = seq + 1;
                    }
                }
                _ => high = middle,
            }
        }
        self.next(low, &Filter::all())
    }

    /// The first message at or after `seq` on a wanted subject.
    pub fn next(&self, seq: StreamSeq, filter: &Filter) -> Option<StreamSeq> {
        let mut from = seq.max(self.state.first_seq);
        if let Some(only) = filter.literal() {
            let state = self.subjects.state(self.subjects.find(only)?);
            if state.last < from {
                return None;
            }
            from = from.max(state.first);
        }
        let mut scan = Scan::new(filter, &self.subjects);
        let start = self.blocks.partition_point(|b| b.end() <= from);
        self.blocks.iter().skip(start).find_map(|b| b.next_live(from, |id| scan.wants(id))).map(|row| row.seq)
    }

    /// The last message before `seq` on a wanted subject.
    pub fn previous(&self, seq: StreamSeq, filter: &Filter) -> Option<StreamSeq> {
        let mut before = seq.min(self.state.last_seq + 1);
        if let Some(only) = filter.literal() {
            before = before.min(self.subjects.state(self.subjects.find(only)?).last + 1);
        }
        let mut scan = Scan::new(filter, &self.subjects);
        let end = self.blocks.partition_point(|b| b.base < before);
        let blocks = self.blocks.iter().take(end).rev();
        blocks.filter_map(|b| b.previous_live(before, |id| scan.wants(id))).map(|row| row.seq).next()
    }

    /// Number of messages at or after `seq` on wanted subjects.
    pub fn count(&self, seq: StreamSeq, filter: &Filter) -> u64 {
        if seq <= self.state.first_seq {
            if filter.is_all() {
                return self.state.msgs;
            }
            let wanted = self.subjects.iter().filter(|(_, subject, _)| filter.matches(subject));
            return wanted.map(|(_, _, state)| state.msgs).sum();
        }
        if let Some(only) = filter.literal() {
            let Some(id) = self.subjects.find(only) else { return 0 };
            let state = self.subjects.state(id);
            if state.last < seq {
                return 0;
            }
            if state.first >= seq {
                return state.msgs;
            }
        }
        let mut scan = Scan::new(filter, &self.subjects);
        let start = self.blocks.partition_point(|b| b.end() <= seq);
        let mut count = 0;
        for block in self.blocks.iter().skip(start) {
            block.for_each_live(seq.max(block.base), |row| count += u64::from(scan.wants(row.subject)));
        }
        count
    }

    /// State of one literal subject.
    pub fn subject(&self, subject: &[u8]) -> Option<SubjectState> {
        self.subjects.find(subject).map(|id| self.subjects.state(id))
    }

    /// Calls `visit` with every subject the filter wants, in no order.
    pub fn for_each_subject(&self, filter: &Filter, mut visit: impl FnMut(&[u8], SubjectState)) {
        if let Some(only) = filter.literal() {
            if let Some(state) = self.subject(only) {
                visit(only, state);
            }
            return;
        }
        for (_, subject, state) in self.subjects.iter().filter(|(_, subject, _)| filter.matches(subject)) {
            visit(subject, state);
        }
    }

    /// The newest message on a wanted subject.
    pub fn last_of(&self, filter: &Filter) -> Option<StreamSeq> {
        let mut last = None;
        self.for_each_subject(filter, |_, state| last = last.max(Some(state.last)));
        last
    }

    /// The oldest message of a literal subject.
    pub fn first_of(&mut self, subject: &[u8]) -> Option<StreamSeq> {
        let id = self.subjects.find(subject)?;
        if self.subjects.first_is_exact(id) {
            return Some(self.subjects.state(id).first);
        }
        let from = self.subjects.state(id).first;
        let start = self.blocks.partition_point(|b| b.end() <= from);
        let found = self.blocks.iter().skip(start).find_map(|b| b.next_live(from, |other| other == id))?;
        self.subjects.set_first(id, found.seq);
        Some(found.seq)
    }

    /// Removes a message. With `erase` its bytes do not survive the next checkpoint.
    pub fn remove(&mut self, seq: StreamSeq, erase: bool) -> Option<Removed> {
        let at = self.block_of(seq)?;
        let memory = self.is_memory();
        let (subject, bytes) = self.blocks[at].remove(seq, memory)?;
        self.damaged.remove(&seq);
        if self.subjects.remove(subject, seq)
            && let Some(last) = self.last_before(seq, subject)
        {
            self.subjects.set_last(subject, last);
        }
        self.state.msgs -= 1;
        self.state.bytes -= bytes;
        let block = &mut self.blocks[at];
        block.must_rewrite |= erase && !block.is_unwritten();
        if block.is_unwritten() && (block.is_sparse() || erase) {
            block.squeeze();
        }
        if seq == self.state.first_seq {
            self.state.first_seq = self.first_live_from(seq + 1);
        }
        if at + 1 < self.blocks.len() {
            self.drop_if_empty(at);
        }
        Some(Removed { seq, bytes })
    }

    fn last_before(&self, seq: StreamSeq, subject: u32) -> Option<StreamSeq> {
        let end = self.blocks.partition_point(|b| b.base < seq);
        self.blocks
            .iter()
            .take(end)
            .rev()
            .find_map(|b| b.previous_live(seq, |id| id == subject))
            .map(|row| row.seq)
    }

    fn first_live_from(&self, seq: StreamSeq) -> StreamSeq {
        if self.state.msgs == 0 {
            return self.state.last_seq + 1;
        }
        let start = self.blocks.partition_point(|b| b.end() <= seq);
        let found = self.blocks.iter().skip(start).find_map(|b| b.next_live(seq, |_| true));
        found.map_or(self.state.last_seq + 1, |row| row.seq)
    }

    fn drop_if_empty(&mut self, at: usize) {
        if self.blocks.get(at).is_some_and(|b| b.live == 0)
            && let Some(block) = self.blocks.remove(at)
        {
            self.retire(&block);
        }
    }

    /// The block's file is of no use once a checkpoint without it is durable.
    fn retire(&mut self, block: &Block) {
        if let Some(file) = &block.file
            && !block.is_unwritten()
        {
            self.obsolete.push(file.path().to_owned());
            self.obsolete_bytes += block.data_len() as u64;
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
        self.state.msgs = 0;
        self.state.bytes = 0;
        self.state.first_seq = self.state.last_seq + 1;
        removed
    }

    /// Parts of blocks that are worth writing now: all full parts, or with `all` everything.
    pub fn take_writes(&mut self, all: bool) -> Vec<WriteJob> {
        let mut jobs = Vec::new();
        if self.is_memory() || self.failed.is_some() {
            return jobs;
        }
        let last = self.blocks.len().wrapping_sub(1);
        for at in 0..self.blocks.len() {
            let block = &mut self.blocks[at];
            if all || block.tail_len() >= EXTENT {
                block.freeze();
            }
            // A closed block with nothing alive is dropped instead; an open one starts afresh.
            if at == last && block.live == 0 && block.is_unwritten() && block.data_len() >= EXTENT {
                block.squeeze();
                continue;
            }
            let Some(file) = block.file.clone() else { continue };
            let parts: Vec<(u32, Bytes)> = block.take_unsent();
            jobs.extend(parts.into_iter().map(|(offset, data)| WriteJob {
                file: file.clone(),
                offset,
                data,
            }));
        }
        jobs
    }

    /// Takes the outcome of a write. A failure latches: the store writes no more blocks.
    pub fn written(&mut self, done: WriteDone) {
        match done.result {
            Ok(()) => {
                let block = self
                    .blocks
                    .iter_mut()
                    .rev()
                    .find(|b| b.file.as_ref().is_some_and(|f| Arc::ptr_eq(f, &done.file)));
                if let Some(block) = block {
                    block.note_part_written(done.end);
                }
            }
            Err(error) => self.fail(error),
        }
    }

    pub(crate) fn fail(&mut self, error: io::Error) {
        self.failed.get_or_insert_with(|| Arc::new(error));
    }
}
