use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use linnet_env::DiskFile;
use linnet_ids::{StreamSeq, Wall};

use crate::block::Block;
use crate::data_reader::DataReader;
use crate::jobs::{BlockFile, LoadDone, LoadJob, is_damage};
use crate::record::Record;
use crate::store::{Lookup, StreamStore};

/// Messages looked at to stand in for one whose timestamp cannot be read.
const NEIGHBOURS: usize = 16;

/// Files of a stream that stay open for reading single messages.
const OPEN_MAX: usize = 8;
/// Bytes of a record that are worth a read by whoever wants it; more are read by somebody else.
const SPOT_MAX: usize = 64 << 10;

/// What is in memory only to make reading faster.
#[derive(Default)]
pub(crate) struct Reading {
    /// Parts of block files, the oldest first.
    cache: VecDeque<Extent>,
    /// Timestamps of the oldest messages, as far as they were read ahead.
    first_times: VecDeque<(StreamSeq, Wall)>,
    /// The record that was read last without a job.
    spot: Option<Spot>,
    /// Files that are kept open for such reads.
    open: VecDeque<Arc<BlockFile>>,
}

/// One record of a block file.
struct Spot {
    file: Arc<BlockFile>,
    offset: usize,
    data: Vec<u8>,
}

struct Extent {
    file: Arc<BlockFile>,
    offset: usize,
    data: Bytes,
}

impl Reading {
    /// The first message and its timestamp are known.
    pub(crate) fn set_first_time(&mut self, seq: StreamSeq, timestamp: Wall) {
        self.first_times.clear();
        self.first_times.push_back((seq, timestamp));
    }

    /// The first messages may be others now.
    pub(crate) fn forget_first_times(&mut self) {
        self.first_times.clear();
    }

    fn cached(&self, file: &Arc<BlockFile>, span: &Range<usize>) -> Option<&[u8]> {
        if let Some(spot) = &self.spot
            && Arc::ptr_eq(&spot.file, file)
            && *span == (spot.offset..spot.offset + spot.data.len())
        {
            return Some(&spot.data);
        }
        let extent = self.cache.iter().rev().find(|e| {
            Arc::ptr_eq(&e.file, file) && e.offset <= span.start && span.end <= e.offset + e.data.len()
        })?;
        extent.data.get(span.start - extent.offset..span.end - extent.offset)
    }

    /// Reads a record if that does not wait for the disk.
    fn spot(&mut self, file: &Arc<BlockFile>, span: Range<usize>) {
        let mut data = self.spot.take().map(|spot| spot.data).unwrap_or_default();
        data.clear();
        data.resize(span.len(), 0);
        if file.try_read(&mut data, span.start) {
            self.spot = Some(Spot { file: file.clone(), offset: span.start, data });
        }
    }

    fn keep_open(&mut self, file: &Arc<BlockFile>, handle: Arc<dyn DiskFile>) {
        file.keep_open(handle);
        if self.open.iter().any(|open| Arc::ptr_eq(open, file)) {
            return;
        }
        while self.open.len() >= OPEN_MAX {
            if let Some(oldest) = self.open.pop_front() {
                oldest.let_go();
            }
        }
        self.open.push_back(file.clone());
    }
}

impl StreamStore {
    /// True if the message exists, damaged or not.
    pub fn contains(&self, seq: StreamSeq) -> bool {
        self.is_live(seq) || self.damaged.contains(&seq)
    }

    pub(crate) fn is_live(&self, seq: StreamSeq) -> bool {
        self.block_of(seq).is_some_and(|at| self.blocks[at].locate(seq).is_some())
    }

    /// Subject of a message, damaged or not.
    pub fn subject_of(&self, seq: StreamSeq) -> Option<&[u8]> {
        let rows = self.blocks[self.block_of(seq)?].rows();
        let row = rows.seqs().row_of(seq).filter(|row| rows.is_live(*row))?;
        Some(self.subjects.subject(rows.subject(row)))
    }

    /// The message. `in_order` reads ahead on disk.
    pub fn get(&self, seq: StreamSeq, in_order: bool) -> Lookup<Record<'_>> {
        if self.damaged.contains(&seq) {
            return self.broken(seq);
        }
        let Some(block) = self.block_of(seq).and_then(|at| self.blocks.get(at)) else {
            return Lookup::Missing;
        };
        let Some(span) = block.locate(seq) else { return Lookup::Missing };
        if let Some(bytes) = block.resident(&span) {
            // These bytes have not left memory since they were verified.
            return match Record::view(bytes) {
                Ok((record, _)) if record.seq == seq => Lookup::Found(record),
                _ => self.broken(seq),
            };
        }
        let Some(file) = &block.file else { return self.broken(seq) };
        if let Some(bytes) = self.reading.cached(file, &span) {
            return self.verify(bytes, seq).map_or_else(|| self.broken(seq), Lookup::Found);
        }
        let ahead = if in_order { self.layout.read_ahead } else { self.layout.read_one };
        let part = block.extend_span(seq, &span, ahead);
        Lookup::Cold(LoadJob {
            file: file.clone(),
            seq,
            offset: part.start,
            needed: span.len(),
            len: part.len(),
            in_order,
        })
    }

    /// The message, for a reader that wants no other: read from its file at once where that does not wait for the
    /// disk.
    pub fn get_one(&mut self, seq: StreamSeq) -> Lookup<Record<'_>> {
        if let Lookup::Cold(job) = self.get(seq, false)
            && job.needed <= SPOT_MAX
        {
            self.reading.spot(&job.file, job.offset..job.offset + job.needed);
        }
        self.get(seq, false)
    }

    /// The record that fills `bytes`, if they are intact.
    pub(crate) fn verify<'a>(&self, bytes: &'a [u8], seq: StreamSeq) -> Option<Record<'a>> {
        match Record::decode(bytes, self.seed) {
            Ok((record, len)) if record.seq == seq && len == bytes.len() => Some(record),
            _ => None,
        }
    }

    /// Takes the outcome of a load. An error is returned. If it says that the bytes are gone or unreadable, the
    /// message counts as damaged from now on; after any other, such as too many open files, the next look-up tries
    /// again.
    pub fn loaded(&mut self, done: LoadDone) -> Result<(), io::Error> {
        if let (Ok(_), Some(handle)) = (&done.result, done.handle) {
            self.reading.keep_open(&done.file, handle);
        }
        match done.result {
            Ok(data) => {
                // Several readers asked for the same: one copy is enough.
                let span = done.offset..done.offset + data.len();
                if self.reading.cached(&done.file, &span).is_some() {
                    return Ok(());
                }
                while self.reading.cache.len() >= self.layout.cache_extents.max(1) {
                    self.reading.cache.pop_front();
                }
                self.reading.cache.push_back(Extent { file: done.file, offset: done.offset, data });
                Ok(())
            }
            // The block has another file by now: the next look-up reads that one.
            Err(_) if self.block_with_file(&done.file).is_none() => Ok(()),
            Err(error) => {
                if is_damage(&error) && self.is_live(done.seq) {
                    self.note_damaged(done.seq);
                }
                Err(error)
            }
        }
    }

    /// Marks a message whose record turned out to be damaged.
    pub fn mark_damaged(&mut self, seq: StreamSeq) {
        self.note_damaged(seq);
    }

    /// Ends the memory of a message that was found to be lost when the store was opened. False if there is none.
    pub fn forget_lost(&mut self, seq: StreamSeq) -> bool {
        !self.is_live(seq) && self.forget_damaged(seq)
    }

    /// The same for all below a sequence; how many there were.
    pub fn forget_lost_below(&mut self, below: StreamSeq) -> u64 {
        let lost: Vec<StreamSeq> = self.damaged.range(..below).copied().collect();
        lost.into_iter().filter(|seq| self.forget_lost(*seq)).count() as u64
    }

    /// Ends the memory of lost messages before the first one that is there. Not while a log is replayed: what it did
    /// not remove is to be told of.
    pub fn forget_lost_before_first(&mut self) {
        if self.damaged.first().is_some_and(|lost| *lost < self.state.first_seq) {
            self.damaged = self.damaged.split_off(&self.state.first_seq);
        }
    }

    /// Frees memory that only speeds up reading.
    pub fn release_cache(&mut self) {
        for file in std::mem::take(&mut self.reading).open {
            file.let_go();
        }
    }

    /// Timestamp of a message, reading its record from disk if need be; `None` if it is damaged.
    pub fn timestamp(&self, seq: StreamSeq) -> Option<Wall> {
        let block = self.blocks.get(self.block_of(seq)?)?;
        let span = block.locate(seq)?;
        if let Some(bytes) = block.resident(&span) {
            return Record::view(bytes).ok().map(|(r, _)| r.timestamp);
        }
        if let Some(bytes) = self.reading.cached(block.file.as_ref()?, &span) {
            return self.verify(bytes, seq).map(|r| r.timestamp);
        }
        let bytes = self.read_now(block, &span)?;
        self.verify(&bytes, seq).map(|r| r.timestamp)
    }

    /// Looks at a message, reading it from disk if need be; `None` if it is not there or damaged. For what is rare or
    /// has been in memory a moment ago: it blocks.
    pub fn inspect<R>(&self, seq: StreamSeq, look: impl FnOnce(&Record<'_>) -> R) -> Option<R> {
        if self.damaged.contains(&seq) {
            return None;
        }
        let block = self.blocks.get(self.block_of(seq)?)?;
        let span = block.locate(seq)?;
        if let Some(bytes) = block.resident(&span) {
            return Record::view(bytes).ok().filter(|(r, _)| r.seq == seq).map(|(r, _)| look(&r));
        }
        if let Some(bytes) = self.reading.cached(block.file.as_ref()?, &span) {
            return self.verified(bytes, seq).map(|r| look(&r));
        }
        let bytes = self.read_now(block, &span)?;
        self.verified(&bytes, seq).map(|r| look(&r))
    }

    fn verified<'a>(&self, bytes: &'a [u8], seq: StreamSeq) -> Option<Record<'a>> {
        let record = self.verify(bytes, seq);
        if record.is_none() {
            self.meet_damage(seq);
        }
        record
    }

    fn read_now(&self, block: &Block, span: &Range<usize>) -> Option<Vec<u8>> {
        let mut bytes = vec![0; span.len()];
        DataReader::open(block.file.as_ref()?).ok()?.read(&mut bytes, span.start).ok()?;
        Some(bytes)
    }

    /// Timestamp of the oldest message, or of one soon after it where damage hides that.
    pub fn first_timestamp(&mut self) -> Option<Wall> {
        if self.state.msgs == 0 {
            return None;
        }
        let first = self.state.first_seq;
        while self.reading.first_times.front().is_some_and(|(seq, _)| *seq < first) {
            self.reading.first_times.pop_front();
        }
        if let Some((seq, timestamp)) = self.reading.first_times.front()
            && *seq == first
        {
            return Some(*timestamp);
        }
        self.read_first_times(first);
        if let Some((seq, timestamp)) = self.reading.first_times.front()
            && *seq == first
        {
            return Some(*timestamp);
        }
        let timestamp = self.timestamp_near(first, self.state.last_seq + 1)?;
        self.reading.set_first_time(first, timestamp);
        Some(timestamp)
    }

    /// Messages expire from the front, one after the other: reads the timestamps of many at once.
    fn read_first_times(&mut self, first: StreamSeq) {
        let Some(block) = self.block_of(first).and_then(|at| self.blocks.get(at)) else { return };
        let Some(span) = block.locate(first) else { return };
        self.reading.first_times.clear();
        if block.resident(&span).is_some() {
            return;
        }
        let part = block.extend_span(first, &span, self.layout.read_ahead);
        let Some(bytes) = self.read_now(block, &part) else { return };
        let mut times = VecDeque::new();
        let mut rest = bytes.as_slice();
        while let Ok((record, len)) = Record::decode(rest, self.seed) {
            times.push_back((record.seq, record.timestamp));
            rest = &rest[len..];
        }
        self.reading.first_times = times;
    }

    /// Timestamp of the first readable of some messages from `seq` on, below `end`.
    fn timestamp_near(&self, seq: StreamSeq, end: StreamSeq) -> Option<Wall> {
        let mut from = seq;
        for _ in 0..NEIGHBOURS {
            let at = self.next(from, &crate::Filter::all()).filter(|at| *at < end)?;
            if let Some(timestamp) = self.timestamp(at) {
                return Some(timestamp);
            }
            from = at + 1;
        }
        None
    }

    /// The first message stored at or after `time`, if any. Timestamps are taken to ascend.
    pub fn first_at_or_after(&self, time: Wall) -> Option<StreamSeq> {
        let all = crate::Filter::all();
        let (mut low, mut high) = (self.state.first_seq, self.state.last_seq + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.next(middle, &all) {
                // What cannot be read may be it.
                Some(seq) if seq < high && self.timestamp_near(seq, high).is_some_and(|t| t < time) => {
                    low = seq + 1;
                }
                _ => high = middle,
            }
        }
        self.next(low, &all)
    }
}
