use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use linnet_ids::StreamSeq;
use roaring::RoaringBitmap;

use crate::jobs::BlockFile;
use crate::record::accounted;
use crate::subjects::SubjectId;

/// Data bytes after which a block is closed.
pub(crate) const BLOCK_MAX: usize = 8 << 20;
/// Unwritten bytes after which a part of a block is handed out for writing.
pub(crate) const EXTENT: usize = 1 << 20;
/// Rows after which a block is closed however small its data is.
const ROWS_MAX: usize = 1 << 18;
/// A jump in the sequences larger than this starts a new block instead of filling the index with holes.
pub(crate) const GAP_MAX: u64 = 4096;
/// A block that lost more than half of its data is rewritten if that frees at least this much.
const SQUEEZE_MIN: u64 = 64 * 1024;

/// Marks in the subject column that the record has headers.
const HAS_HEADERS: u32 = 1 << 31;

/// A run of consecutive sequences and their records.
pub(crate) struct Block {
    /// Sequence of the first row.
    pub(crate) base: StreamSeq,
    /// Where each row's record starts. A record ends where the next one starts; an empty one is a hole.
    offsets: Vec<u32>,
    /// Subject of each row, with [`HAS_HEADERS`].
    subjects: Vec<u32>,
    /// Rows whose message was removed.
    dead: RoaringBitmap,
    data_len: u32,
    pub(crate) live: u32,
    /// Encoded bytes of live rows.
    live_bytes: u64,
    /// The file holds the data up to here.
    written: u32,
    /// Parts up to here have been handed out for writing: their layout is fixed.
    handed_out: u32,
    /// Data behind `written` that does not change any more, by offset.
    frozen: VecDeque<(u32, Bytes)>,
    tail_start: u32,
    tail: Vec<u8>,
    /// `None` for memory streams.
    pub(crate) file: Option<Arc<BlockFile>>,
    closed: bool,
    /// The file's durable part.
    pub(crate) synced: u32,
    /// A removed record must not stay readable on disk.
    pub(crate) must_rewrite: bool,
}

/// A live row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) seq: StreamSeq,
    pub(crate) subject: SubjectId,
}

impl Block {
    pub(crate) fn new(base: StreamSeq, file: Option<Arc<BlockFile>>) -> Self {
        Self {
            base,
            offsets: Vec::new(),
            subjects: Vec::new(),
            dead: RoaringBitmap::new(),
            data_len: 0,
            live: 0,
            live_bytes: 0,
            written: 0,
            handed_out: 0,
            frozen: VecDeque::new(),
            tail_start: 0,
            tail: Vec::new(),
            file,
            closed: false,
            synced: 0,
            must_rewrite: false,
        }
    }

    /// One past the last row's sequence.
    pub(crate) fn end(&self) -> StreamSeq {
        self.base + self.offsets.len() as u64
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len()
    }

    pub(crate) fn data_len(&self) -> usize {
        self.data_len as usize
    }

    pub(crate) fn dead(&self) -> &RoaringBitmap {
        &self.dead
    }

    pub(crate) fn unwritten(&self) -> usize {
        (self.data_len - self.written) as usize
    }

    /// True if nothing may be appended any more.
    pub(crate) fn is_full(&self) -> bool {
        self.closed || self.data_len() >= BLOCK_MAX || self.rows() >= ROWS_MAX
    }

    /// Appends a record in memory. `seq` is at or after [`Block::end`].
    pub(crate) fn append(&mut self, seq: StreamSeq, subject: SubjectId, record: &[u8], has_headers: bool) {
        self.push_row(seq, subject, record.len(), has_headers);
        self.tail.extend_from_slice(record);
    }

    /// Registers a record that is in the file already.
    pub(crate) fn recover_row(&mut self, seq: StreamSeq, subject: SubjectId, len: usize, has_headers: bool) {
        self.push_row(seq, subject, len, has_headers);
        self.written = self.data_len;
        self.tail_start = self.data_len;
    }

    /// Registers a removed record that is still in the file.
    pub(crate) fn recover_dead_row(&mut self, seq: StreamSeq, len: usize, has_headers: bool) {
        self.recover_row(seq, 0, len, has_headers);
        let row = u32::try_from(self.offsets.len() - 1).unwrap_or(u32::MAX);
        self.dead.insert(row);
        self.live -= 1;
        self.live_bytes -= len as u64;
    }

    /// Registers file bytes that hold no usable record, as a dead row so that its neighbours keep their lengths.
    /// Nothing is appended to such a block any more.
    pub(crate) fn recover_gap(&mut self, seq: StreamSeq, end: StreamSeq, len: usize) {
        self.closed = true;
        if seq < end {
            self.fill_to(seq + 1);
            self.data_len += u32::try_from(len).unwrap_or(0);
            self.written = self.data_len;
            self.tail_start = self.data_len;
        }
    }

    fn push_row(&mut self, seq: StreamSeq, subject: SubjectId, len: usize, has_headers: bool) {
        self.fill_to(seq);
        self.offsets.push(self.data_len);
        self.subjects.push(subject | if has_headers { HAS_HEADERS } else { 0 });
        self.data_len += u32::try_from(len).expect("a block is far smaller than 4 GiB");
        self.live += 1;
        self.live_bytes += len as u64;
    }

    /// Adds holes up to, not including, `seq`.
    pub(crate) fn fill_to(&mut self, seq: StreamSeq) {
        while self.end() < seq {
            let row = u32::try_from(self.offsets.len()).unwrap_or(u32::MAX);
            self.offsets.push(self.data_len);
            self.subjects.push(0);
            self.dead.insert(row);
        }
    }

    fn row_of(&self, seq: StreamSeq) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.base)?).ok().filter(|row| *row < self.offsets.len())
    }

    fn is_live(&self, row: usize) -> bool {
        u32::try_from(row).is_ok_and(|r| !self.dead.contains(r))
    }

    fn span(&self, row: usize) -> Range<usize> {
        let start = self.offsets[row] as usize;
        let end = self.offsets.get(row + 1).map_or(self.data_len(), |o| *o as usize);
        start..end
    }

    /// Where the record of a live message is in the block's data.
    pub(crate) fn locate(&self, seq: StreamSeq) -> Option<Range<usize>> {
        let row = self.row_of(seq).filter(|row| self.is_live(*row))?;
        Some(self.span(row))
    }

    /// The first live row at or after `seq` that `wanted` accepts.
    pub(crate) fn next_live(&self, seq: StreamSeq, mut wanted: impl FnMut(SubjectId) -> bool) -> Option<Row> {
        let start = usize::try_from(seq.saturating_sub(self.base)).ok()?;
        let none_dead = self.dead.is_empty();
        for row in start..self.offsets.len() {
            let subject = self.subjects[row] & !HAS_HEADERS;
            if (none_dead || self.is_live(row)) && wanted(subject) {
                return Some(Row { seq: self.base + row as u64, subject });
            }
        }
        None
    }

    /// The last live row before `seq` that `wanted` accepts.
    pub(crate) fn previous_live(
        &self,
        seq: StreamSeq,
        mut wanted: impl FnMut(SubjectId) -> bool,
    ) -> Option<Row> {
        let end = usize::try_from(seq.saturating_sub(self.base)).ok()?.min(self.offsets.len());
        (0..end).rev().find_map(|row| {
            let subject = self.subjects[row] & !HAS_HEADERS;
            (self.is_live(row) && wanted(subject)).then(|| Row { seq: self.base + row as u64, subject })
        })
    }

    /// Calls `visit` for every live row at or after `seq`.
    pub(crate) fn for_each_live(&self, seq: StreamSeq, mut visit: impl FnMut(Row)) {
        let mut next = seq;
        while let Some(row) = self.next_live(next, |_| true) {
            visit(row);
            next = row.seq + 1;
        }
    }

    /// Removes a message; its subject and accounted size.
    pub(crate) fn remove(&mut self, seq: StreamSeq, memory: bool) -> Option<(SubjectId, u64)> {
        let row = self.row_of(seq).filter(|row| self.is_live(*row))?;
        let len = self.span(row).len();
        self.dead.insert(u32::try_from(row).ok()?);
        self.live -= 1;
        self.live_bytes -= len as u64;
        let column = self.subjects[row];
        Some((column & !HAS_HEADERS, accounted(len, column & HAS_HEADERS != 0, memory)))
    }

    /// The bytes of a span if they are in memory.
    pub(crate) fn resident(&self, span: &Range<usize>) -> Option<&[u8]> {
        let tail_start = self.tail_start as usize;
        if span.start >= tail_start {
            return self.tail.get(span.start - tail_start..span.end - tail_start);
        }
        let at = self.frozen.partition_point(|(start, _)| *start as usize <= span.start).checked_sub(1)?;
        let (start, bytes) = self.frozen.get(at)?;
        bytes.get(span.start - *start as usize..span.end - *start as usize)
    }

    /// The span of whole records from `span` on, of at most `max` bytes and at least that one record.
    pub(crate) fn extend_span(&self, seq: StreamSeq, span: &Range<usize>, max: usize) -> Range<usize> {
        let end = self.written as usize;
        let mut to = span.end;
        let first = usize::try_from(seq.saturating_sub(self.base)).unwrap_or(usize::MAX);
        for row in first.saturating_add(1)..self.offsets.len() {
            let candidate = self.span(row).end;
            if candidate > end || candidate - span.start > max {
                break;
            }
            to = candidate;
        }
        span.start..to
    }

    /// Closes the part of the data that is still appended to; later appends start another part.
    pub(crate) fn freeze(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.tail));
        self.frozen.push_back((self.tail_start, bytes));
        self.tail_start = self.data_len;
    }

    pub(crate) fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// The frozen parts that were not handed out for writing yet; they are now.
    pub(crate) fn take_unsent(&mut self) -> Vec<(u32, Bytes)> {
        let from = self.handed_out.max(self.written);
        let parts: Vec<_> = self.frozen.iter().filter(|(start, _)| *start >= from).cloned().collect();
        self.handed_out = self.tail_start.max(self.handed_out);
        parts
    }

    /// The frozen parts that the file is not known to hold.
    pub(crate) fn unwritten_parts(&mut self) -> Vec<(u32, Bytes)> {
        self.handed_out = self.tail_start.max(self.handed_out);
        self.frozen.iter().cloned().collect()
    }

    /// The part that ends at `end` is in the file. Parts finish in any order; memory is freed from the front.
    pub(crate) fn note_part_written(&mut self, end: u32) {
        if self.frozen.front().is_some_and(|(start, bytes)| *start as usize + bytes.len() == end as usize) {
            self.written = self.written.max(end);
            self.frozen.pop_front();
        }
    }

    /// The file holds everything before `end`.
    pub(crate) fn note_written(&mut self, end: u32) {
        self.written = self.written.max(end);
        while self
            .frozen
            .front()
            .is_some_and(|(start, bytes)| *start as usize + bytes.len() <= self.written as usize)
        {
            self.frozen.pop_front();
        }
    }

    /// Gives every live row the subject id that `assign` names, after the subjects were numbered anew.
    pub(crate) fn renumber(&mut self, mut assign: impl FnMut(Row) -> SubjectId) {
        for row in 0..self.offsets.len() {
            if self.is_live(row) {
                let column = self.subjects[row];
                let id = assign(Row { seq: self.base + row as u64, subject: column & !HAS_HEADERS });
                self.subjects[row] = id | (column & HAS_HEADERS);
            }
        }
    }

    /// True if more than half of the data belongs to removed messages.
    pub(crate) fn is_sparse(&self) -> bool {
        let dead = u64::from(self.data_len) - self.live_bytes;
        dead > self.live_bytes && dead >= SQUEEZE_MIN
    }

    /// True if no byte of the block has been handed to a disk.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.written == 0 && self.handed_out == 0
    }

    /// Drops removed records from a block whose data is in memory.
    pub(crate) fn squeeze(&mut self) {
        let mut data = Vec::with_capacity(usize::try_from(self.live_bytes).unwrap_or(0));
        let mut offsets = Vec::with_capacity(self.offsets.len());
        for row in 0..self.offsets.len() {
            offsets.push(u32::try_from(data.len()).unwrap_or(u32::MAX));
            if self.is_live(row)
                && let Some(bytes) = self.resident(&self.span(row))
            {
                data.extend_from_slice(bytes);
            }
        }
        self.data_len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.offsets = offsets;
        self.frozen.clear();
        self.tail = data;
        self.tail_start = 0;
        self.must_rewrite = false;
    }

    /// The spans of live records, for rewriting the file without the others.
    pub(crate) fn live_spans(&self) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        for row in (0..self.offsets.len()).filter(|row| self.is_live(*row)) {
            let span = self.span(row);
            match spans.last_mut() {
                Some(last) if last.end == span.start => last.end = span.end,
                _ => spans.push(span),
            }
        }
        spans
    }

    /// Takes over a file that holds exactly `spans` of the old data, one after the other.
    pub(crate) fn adopt_rewritten(&mut self, spans: &[Range<usize>], file: Arc<BlockFile>) {
        let mut moved = 0_usize;
        let mut at = 0;
        let mut offsets = Vec::with_capacity(self.offsets.len());
        let mut dropped = RoaringBitmap::new();
        for row in 0..self.offsets.len() {
            let span = self.span(row);
            while spans.get(at).is_some_and(|s| s.end <= span.start) {
                moved += spans[at].len();
                at += 1;
            }
            let inside = spans.get(at).filter(|s| s.start <= span.start);
            offsets
                .push(u32::try_from(moved + inside.map_or(0, |s| span.start - s.start)).unwrap_or(u32::MAX));
            if inside.is_none_or(|s| span.is_empty() || span.end > s.end) {
                dropped.insert(u32::try_from(row).unwrap_or(u32::MAX));
            }
        }
        let total: usize = spans.iter().map(Range::len).sum();
        self.dead |= dropped;
        self.offsets = offsets;
        self.data_len = u32::try_from(total).unwrap_or(u32::MAX);
        self.written = self.data_len;
        self.synced = self.data_len;
        self.frozen.clear();
        self.tail.clear();
        self.tail_start = self.data_len;
        self.file = Some(file);
        self.must_rewrite = false;
    }
}
