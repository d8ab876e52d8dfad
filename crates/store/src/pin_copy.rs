//! Copying the records of a pinned store, any part at any time.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;

use linnet_ids::StreamSeq;

use crate::data_reader::DataReader;
use crate::jobs::is_damage;
use crate::pin::{PinReadError, Pinned, PinnedBlock};
use crate::record::Record;

/// Bytes read at once, unless one record is longer.
const READ_AT_ONCE: usize = 1 << 20;

/// The data of a [`Pinned`] seen as one row of bytes, block after block, with what is dead in it. A record belongs to
/// the place where it begins.
pub struct PinnedData {
    pinned: Pinned,
    /// Where the data of each block begins.
    starts: Vec<u64>,
    len: u64,
}

/// A message whose record is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedMessage {
    /// Its sequence.
    pub seq: StreamSeq,
    /// Bytes of its record.
    pub len: u32,
}

impl fmt::Debug for PinnedData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinnedData").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Pinned {
    /// The messages by place.
    pub fn by_place(self) -> PinnedData {
        let mut len = 0;
        let starts = self.blocks.iter().map(|block| {
            let start = len;
            len += block.data_len as u64;
            start
        });
        let starts = starts.collect();
        PinnedData { pinned: self, starts, len }
    }
}

impl PinnedData {
    /// Number of places.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if there is no message.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends to `out` the records that begin at `places`, verified and verbatim, in the order of their sequences.
    /// Those that are damaged are left out and returned. It blocks. After an error `out` holds some of them.
    pub fn copy(&self, places: Range<u64>, out: &mut Vec<u8>) -> Result<Vec<DamagedMessage>, PinReadError> {
        let mut copying = Copying { pinned: &self.pinned, out, damaged: Vec::new() };
        let first = self.starts.partition_point(|start| *start <= places.start).saturating_sub(1);
        let blocks = self.pinned.blocks.iter().zip(&self.starts).skip(first);
        for (block, start) in blocks.take_while(|(_, start)| **start < places.end) {
            let within = |place: u64| {
                let at = place.saturating_sub(*start);
                usize::try_from(at).unwrap_or(usize::MAX).min(block.data_len)
            };
            copying.block(block, within(places.start)..within(places.end))?;
        }
        Ok(copying.damaged)
    }
}

/// Records that follow one another in one place of the block's data.
struct Piece {
    rows: VecDeque<(StreamSeq, usize)>,
    span: Range<usize>,
    /// Which resident part holds them; `None` for the file.
    part: Option<usize>,
}

struct Copying<'a> {
    pinned: &'a Pinned,
    out: &'a mut Vec<u8>,
    damaged: Vec<DamagedMessage>,
}

impl Copying<'_> {
    /// Copies the records that begin in a part of a block.
    fn block(&mut self, block: &PinnedBlock, places: Range<usize>) -> Result<(), PinReadError> {
        let mut reader = None;
        let mut piece: Option<Piece> = None;
        let row_at = |place: usize| block.rows.offsets.partition_point(|offset| (*offset as usize) < place);
        let end = row_at(places.end);
        let mut next = block.rows.next_live(row_at(places.start)).filter(|row| *row < end);
        while let Some(row) = next {
            next = block.rows.next_live(row + 1).filter(|row| *row < end);
            let seq = block.rows.seqs().seq_of(row);
            let span = block.rows.span(row, block.data_len);
            if self.pinned.damaged.contains(&seq) {
                self.flush(block, piece.take(), &mut reader)?;
                self.note_damaged(seq, span.len());
                continue;
            }
            let part = block.resident.iter().rposition(|(at, _)| *at <= span.start);
            let fits = piece.as_ref().is_some_and(|piece| {
                piece.span.end == span.start
                    && piece.part == part
                    && span.end - piece.span.start <= READ_AT_ONCE
            });
            if !fits {
                self.flush(block, piece.take(), &mut reader)?;
            }
            let piece = piece.get_or_insert_with(|| Piece {
                rows: VecDeque::new(),
                span: span.start..span.start,
                part,
            });
            piece.rows.push_back((seq, span.len()));
            piece.span.end = span.end;
        }
        self.flush(block, piece, &mut reader)
    }

    fn note_damaged(&mut self, seq: StreamSeq, len: usize) {
        self.damaged.push(DamagedMessage { seq, len: u32::try_from(len).unwrap_or(u32::MAX) });
    }

    fn flush(
        &mut self,
        block: &PinnedBlock,
        piece: Option<Piece>,
        reader: &mut Option<DataReader>,
    ) -> Result<(), PinReadError> {
        let Some(piece) = piece else { return Ok(()) };
        let Some((first, _)) = piece.rows.front().copied() else { return Ok(()) };
        let at = self.out.len();
        if let Some((start, data)) = piece.part.and_then(|part| block.resident.get(part)) {
            let bytes = data.get(piece.span.start - start..piece.span.end - start);
            self.out.extend_from_slice(bytes.unwrap_or_default());
        } else if let Err(error) = self.read(block, &piece.span, reader) {
            self.out.truncate(at);
            if !is_damage(&error) {
                return Err(PinReadError::Io { seq: first, source: error });
            }
            return self.one_by_one(block, &piece, reader);
        }
        self.verify(at, &piece);
        Ok(())
    }

    /// Copies what can be read of a piece that cannot be read at once.
    fn one_by_one(
        &mut self,
        block: &PinnedBlock,
        piece: &Piece,
        reader: &mut Option<DataReader>,
    ) -> Result<(), PinReadError> {
        let mut start = piece.span.start;
        for (seq, len) in piece.rows.iter().copied() {
            let span = start..start + len;
            start = span.end;
            let at = self.out.len();
            match self.read(block, &span, reader) {
                Ok(()) => self.verify(at, &Piece { rows: [(seq, len)].into(), span, part: None }),
                Err(error) => {
                    self.out.truncate(at);
                    if !is_damage(&error) {
                        return Err(PinReadError::Io { seq, source: error });
                    }
                    self.note_damaged(seq, len);
                }
            }
        }
        Ok(())
    }

    fn read(
        &mut self,
        block: &PinnedBlock,
        span: &Range<usize>,
        reader: &mut Option<DataReader>,
    ) -> io::Result<()> {
        if reader.is_none() {
            let file = block.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
            *reader = Some(DataReader::open(file)?);
        }
        let at = self.out.len();
        self.out.resize(at + span.len(), 0);
        match reader {
            Some(reader) => reader.read(&mut self.out[at..], span.start),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Takes out again what is no intact record of the piece whose bytes begin at `at`.
    fn verify(&mut self, at: usize, piece: &Piece) {
        let (mut from, mut to) = (at, at);
        for (seq, len) in piece.rows.iter().copied() {
            let bytes = self.out.get(from..from + len).unwrap_or_default();
            let is_intact = Record::decode(bytes, self.pinned.seed)
                .is_ok_and(|(record, read)| record.seq == seq && read == len);
            if is_intact {
                if from > to {
                    self.out.copy_within(from..from + len, to);
                }
                to += len;
            } else {
                self.note_damaged(seq, len);
            }
            from += len;
        }
        self.out.truncate(to);
    }
}
