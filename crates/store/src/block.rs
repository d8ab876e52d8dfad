use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use linnet_ids::StreamSeq;

use crate::jobs::BlockFile;
use crate::layout::Layout;
use crate::pin::PinnedBlock;
use crate::record::accounted;
use crate::rows::{HAS_HEADERS, Rows};
use crate::subjects::SubjectId;

/// A run of rows and their records. The data is first in the tail, where removed records can still be dropped;
/// then in parts that are handed out for writing, whose layout is fixed; then only in the file.
pub(crate) struct Block {
    /// Sequence the block was begun with; no row is below.
    base: StreamSeq,
    /// Shared with those who read the block as it was; copied by the first change after that.
    rows: Arc<Rows>,
    data_len: u32,
    /// Encoded bytes of live rows.
    live_bytes: u64,
    /// Data in front of the tail that the file is not known to hold.
    parts: VecDeque<Part>,
    tail_start: u32,
    /// Shared as the rows are.
    tail: Arc<Vec<u8>>,
    /// Encoded bytes of live rows in the tail.
    tail_live: u64,
    /// `None` for memory streams.
    pub(crate) file: Option<Arc<BlockFile>>,
    /// Nothing is appended any more.
    pub(crate) closed: bool,
    /// The file's durable part.
    pub(crate) synced: u32,
    /// A removed record must not stay readable on disk.
    pub(crate) must_rewrite: bool,
    /// A removed record in the tail must not reach the disk.
    must_squeeze: bool,
    /// Its index file has been written, or at least was tried.
    pub(crate) has_index: bool,
    /// The file holds bytes that are no record. It is not rewritten only to save space: that would delete them.
    pub(crate) is_damaged: bool,
}

struct Part {
    start: u32,
    data: Bytes,
    /// Handed out for writing.
    sent: bool,
    /// In the file, but something in front of it is not.
    done: bool,
}

impl Part {
    fn end(&self) -> usize {
        self.start as usize + self.data.len()
    }
}

/// A removed row.
pub(crate) struct RemovedRow {
    pub(crate) subject: SubjectId,
    pub(crate) accounted: u64,
}

fn to_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a block is far smaller than 4 GiB")
}

/// The same bytes, without a copy.
fn shared_bytes(bytes: Arc<Vec<u8>>) -> Bytes {
    struct Shared(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Shared {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    match Arc::try_unwrap(bytes) {
        Ok(bytes) => Bytes::from(bytes),
        Err(shared) => Bytes::from_owner(Shared(shared)),
    }
}

impl Block {
    pub(crate) fn new(base: StreamSeq, file: Option<Arc<BlockFile>>) -> Self {
        Self {
            base,
            rows: Arc::default(),
            data_len: 0,
            live_bytes: 0,
            parts: VecDeque::new(),
            tail_start: 0,
            tail: Arc::default(),
            tail_live: 0,
            file,
            closed: false,
            synced: 0,
            must_rewrite: false,
            must_squeeze: false,
            has_index: false,
            is_damaged: false,
        }
    }

    /// A block whose data is in its file.
    pub(crate) fn recovered(base: StreamSeq, file: Arc<BlockFile>, rows: Rows, data_len: u32) -> Self {
        let live = (0..rows.len()).filter(|row| rows.is_live(*row));
        let live_bytes = if rows.live_count() as usize == rows.len() {
            u64::from(data_len)
        } else {
            live.map(|row| rows.span(row, data_len as usize).len() as u64).sum()
        };
        let mut block = Self::new(base, Some(file));
        block.rows = Arc::new(rows);
        block.data_len = data_len;
        block.live_bytes = live_bytes;
        block.tail_start = data_len;
        block.synced = data_len;
        block
    }

    /// A closed block whose data is in memory and is to be written.
    pub(crate) fn rebuilt(base: StreamSeq, file: Arc<BlockFile>, rows: Rows, data: Vec<u8>) -> Self {
        let mut block = Self::recovered(base, file, rows, to_u32(data.len()));
        block.closed = true;
        block.synced = 0;
        block.parts.push_back(Part { start: 0, data: data.into(), sent: false, done: false });
        block
    }

    pub(crate) fn base(&self) -> StreamSeq {
        self.base
    }

    /// One past the last row's sequence.
    pub(crate) fn end(&self) -> StreamSeq {
        self.rows.seqs().end().max(self.base)
    }

    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }

    pub(crate) fn live(&self) -> u32 {
        self.rows.live_count()
    }

    pub(crate) fn data_len(&self) -> u32 {
        self.data_len
    }

    /// Bytes that the file is not known to hold.
    pub(crate) fn unwritten(&self) -> usize {
        let from = self.parts.front().map_or(self.tail_start, |p| p.start);
        (self.data_len - from) as usize
    }

    /// True if nothing may be appended any more.
    pub(crate) fn is_full(&self, layout: &Layout) -> bool {
        self.closed || self.data_len as usize >= layout.block_max || self.rows.len() >= layout.rows_max
    }

    /// True if no byte of the block has been handed to a disk.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.tail_start == 0
    }

    /// Appends a record in memory. `seq` is at or after [`Block::end`].
    pub(crate) fn append(&mut self, seq: StreamSeq, subject: SubjectId, record: &[u8], has_headers: bool) {
        let subject = subject | if has_headers { HAS_HEADERS } else { 0 };
        Arc::make_mut(&mut self.rows).push(seq, self.data_len, subject, true);
        self.data_len += to_u32(record.len());
        self.live_bytes += record.len() as u64;
        self.tail_live += record.len() as u64;
        Arc::make_mut(&mut self.tail).extend_from_slice(record);
    }

    fn span(&self, row: usize) -> Range<usize> {
        self.rows.span(row, self.data_len as usize)
    }

    /// The subject of a live message, with the mark of headers.
    pub(crate) fn live_subject(&self, seq: StreamSeq) -> Option<u32> {
        self.live_row(seq).map(|row| self.rows.marked_subject(row))
    }

    fn live_row(&self, seq: StreamSeq) -> Option<usize> {
        self.rows.seqs().row_of(seq).filter(|row| self.rows.is_live(*row))
    }

    /// Where the record of a live message is in the block's data.
    pub(crate) fn locate(&self, seq: StreamSeq) -> Option<Range<usize>> {
        self.live_row(seq).map(|row| self.span(row))
    }

    /// Removes a message. With `erase` its bytes are not to survive the next checkpoint.
    pub(crate) fn remove(&mut self, seq: StreamSeq, erase: bool) -> Option<RemovedRow> {
        let row = self.live_row(seq)?;
        let span = self.span(row);
        Arc::make_mut(&mut self.rows).kill(row);
        self.live_bytes -= span.len() as u64;
        let in_tail = span.start >= self.tail_start as usize;
        if in_tail {
            self.tail_live -= span.len() as u64;
        }
        if self.file.is_some() && erase {
            if in_tail {
                self.must_squeeze = true;
            } else {
                self.must_rewrite = true;
            }
        }
        let accounted = accounted(span.len(), self.rows.has_headers(row), self.file.is_none());
        Some(RemovedRow { subject: self.rows.subject(row), accounted })
    }

    /// The bytes of a span if they are in memory.
    pub(crate) fn resident(&self, span: &Range<usize>) -> Option<&[u8]> {
        let tail_start = self.tail_start as usize;
        if span.start >= tail_start {
            return self.tail.get(span.start - tail_start..span.end - tail_start);
        }
        let at = self.parts.partition_point(|p| p.start as usize <= span.start).checked_sub(1)?;
        let part = self.parts.get(at)?;
        let start = part.start as usize;
        part.data.get(span.start - start..span.end - start)
    }

    /// The block as it is now, for whoever reads it while it changes.
    pub(crate) fn pin(&self) -> PinnedBlock {
        let mut resident: Vec<(usize, Bytes)> =
            self.parts.iter().map(|part| (part.start as usize, part.data.clone())).collect();
        if !self.tail.is_empty() {
            resident.push((self.tail_start as usize, shared_bytes(self.tail.clone())));
        }
        PinnedBlock {
            rows: self.rows.clone(),
            data_len: self.data_len as usize,
            resident,
            file: self.file.clone(),
        }
    }

    /// From `span`, the one of `seq`, on: whole records in the file, of at most `max` bytes and at least that one.
    pub(crate) fn extend_span(&self, seq: StreamSeq, span: &Range<usize>, max: usize) -> Range<usize> {
        let written = self.parts.front().map_or(self.tail_start, |p| p.start) as usize;
        let limit = written.min(span.start + max);
        let next = self.rows.seqs().row_from(seq + 1);
        let later = self.rows.offsets.get(next..).unwrap_or_default();
        let fitting = later.partition_point(|offset| *offset as usize <= limit);
        let to = match fitting.checked_sub(1).and_then(|at| later.get(at)) {
            _ if self.data_len as usize <= limit => self.data_len as usize,
            Some(offset) => *offset as usize,
            None => span.end,
        };
        span.start..to.max(span.end)
    }

    /// True if dropping the removed records of the tail is worth its cost.
    pub(crate) fn is_tail_sparse(&self, layout: &Layout) -> bool {
        let dead = self.tail.len() as u64 - self.tail_live;
        dead > self.tail_live && dead >= layout.squeeze_min
    }

    /// Drops removed records from the tail.
    pub(crate) fn squeeze(&mut self) {
        self.must_squeeze = false;
        if self.tail.len() as u64 == self.tail_live {
            return;
        }
        let tail_start = self.tail_start as usize;
        let first = self.rows.offsets.partition_point(|offset| (*offset as usize) < tail_start);
        let mut data = Vec::with_capacity(usize::try_from(self.tail_live).unwrap_or(0));
        let rows = Arc::make_mut(&mut self.rows);
        for row in first..rows.len() {
            // The next row's offset still is the old one.
            let span = rows.span(row, self.data_len as usize);
            rows.offsets[row] = to_u32(tail_start + data.len());
            if rows.is_live(row) {
                data.extend_from_slice(&self.tail[span.start - tail_start..span.end - tail_start]);
            }
        }
        self.data_len = to_u32(tail_start + data.len());
        self.tail = Arc::new(data);
    }

    /// Fixes the layout of the tail, which becomes a part to be written.
    pub(crate) fn freeze(&mut self, layout: &Layout) {
        let dead = self.tail.len() as u64 - self.tail_live;
        if self.must_squeeze || self.is_tail_sparse(layout) || (dead > 0 && dead >= self.tail_live / 4) {
            self.squeeze();
        }
        if self.tail.is_empty() {
            return;
        }
        let data = shared_bytes(std::mem::take(&mut self.tail));
        self.parts.push_back(Part { start: self.tail_start, data, sent: false, done: false });
        self.tail_start = self.data_len;
        self.tail_live = 0;
    }

    /// Gives back memory that only appending needs.
    pub(crate) fn shrink(&mut self) {
        if let Some(tail) = Arc::get_mut(&mut self.tail) {
            tail.shrink_to_fit();
        }
    }

    pub(crate) fn tail_len(&self) -> usize {
        self.tail.len()
    }

    /// The parts that were not handed out for writing yet; they are now.
    pub(crate) fn take_unsent(&mut self) -> impl Iterator<Item = (u32, Bytes)> {
        self.parts.iter_mut().filter(|p| !p.sent).map(|part| {
            part.sent = true;
            (part.start, part.data.clone())
        })
    }

    /// The parts that the file is not known to hold; they count as handed out.
    pub(crate) fn take_not_done(&mut self) -> Vec<(u32, Bytes)> {
        let missing = self.parts.iter_mut().filter(|p| !p.done);
        missing
            .map(|part| {
                part.sent = true;
                (part.start, part.data.clone())
            })
            .collect()
    }

    /// The part at `start` is in the file. Parts finish in any order; memory is freed from the front.
    pub(crate) fn note_part_written(&mut self, start: u32) {
        if let Ok(at) = self.parts.binary_search_by_key(&start, |p| p.start) {
            self.parts[at].done = true;
        }
        self.drop_done();
    }

    /// The part at `start` could not be written for want of space and is to be handed out again.
    pub(crate) fn note_part_unsent(&mut self, start: u32) {
        if let Ok(at) = self.parts.binary_search_by_key(&start, |p| p.start) {
            self.parts[at].sent = false;
        }
    }

    /// Nothing that was handed out is known to have been written.
    pub(crate) fn note_all_unsent(&mut self) {
        self.parts.iter_mut().for_each(|p| p.sent = p.done);
    }

    /// The file holds everything before `end`.
    pub(crate) fn note_written(&mut self, end: u32) {
        self.parts.iter_mut().filter(|p| p.end() <= end as usize).for_each(|p| p.done = true);
        self.drop_done();
    }

    fn drop_done(&mut self) {
        while self.parts.front().is_some_and(|p| p.done) {
            self.parts.pop_front();
        }
    }

    /// Gives every live row the subject id that `assign` names, after the subjects were numbered anew.
    pub(crate) fn renumber(&mut self, mut assign: impl FnMut(StreamSeq, SubjectId) -> SubjectId) {
        let mut from = 0;
        while let Some(row) = self.rows.next_live(from) {
            let id = assign(self.rows.seqs().seq_of(row), self.rows.subject(row));
            Arc::make_mut(&mut self.rows).set_subject(row, id);
            from = row + 1;
        }
    }

    /// True if some of the data belongs to removed messages.
    pub(crate) fn has_dead(&self) -> bool {
        self.file.is_some() && u64::from(self.data_len) > self.live_bytes
    }

    /// True if more than half of the data belongs to removed messages.
    pub(crate) fn is_sparse(&self, layout: &Layout) -> bool {
        let dead = u64::from(self.data_len) - self.live_bytes;
        dead > self.live_bytes && dead >= layout.squeeze_min
    }

    /// The spans of live records, for rewriting the file without the others; none longer than `max`, unless it is one
    /// record.
    pub(crate) fn live_spans(&self, max: usize) -> Vec<Range<usize>> {
        let mut spans: Vec<Range<usize>> = Vec::new();
        let mut from = 0;
        while let Some(row) = self.rows.next_live(from) {
            let span = self.span(row);
            match spans.last_mut() {
                Some(last) if last.end == span.start && span.end - last.start <= max => last.end = span.end,
                _ => spans.push(span),
            }
            from = row + 1;
        }
        spans
    }

    /// Takes over a file that holds exactly `spans` of the old data, one after the other. Rows removed since the
    /// spans were taken keep their bytes.
    pub(crate) fn adopt_rewritten(&mut self, spans: &[Range<usize>], file: Arc<BlockFile>) {
        let mut moved = 0_usize;
        let mut at = 0;
        for offset in &mut Arc::make_mut(&mut self.rows).offsets {
            let start = *offset as usize;
            while let Some(span) = spans.get(at).filter(|s| s.end <= start) {
                moved += span.len();
                at += 1;
            }
            let inside = spans.get(at).filter(|s| s.start <= start);
            *offset = to_u32(moved + inside.map_or(0, |s| start - s.start));
        }
        self.data_len = to_u32(spans.iter().map(Range::len).sum());
        self.synced = self.data_len;
        self.parts.clear();
        self.tail_start = self.data_len;
        self.file = Some(file);
        self.has_index = false;
    }
}
