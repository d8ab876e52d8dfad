//! Reading a store as it was at one moment, while it goes on.
//!
//! A [`Pinned`] shares the index and the unwritten data of each block with the store; what the store changes
//! afterwards, it copies first, block by block. Files that the store has no use for any more stay until nobody reads
//! them.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use linnet_ids::StreamSeq;
use thiserror::Error;

use crate::data_reader::DataReader;
use crate::jobs::{BlockFile, HEADER, is_damage};
use crate::record::{Record, Seed};
use crate::rows::Rows;
use crate::store::StreamStore;

/// Bytes read from a file at once, unless one record is longer.
const READ_AT_ONCE: usize = 256 << 10;

/// The messages of a stream at one moment.
#[derive(Clone)]
pub struct Pinned {
    pub(crate) seed: Seed,
    pub(crate) blocks: VecDeque<PinnedBlock>,
    pub(crate) damaged: BTreeSet<StreamSeq>,
    /// Keeps files from being deleted.
    _hold: Arc<()>,
}

/// A block at one moment.
#[derive(Clone)]
pub(crate) struct PinnedBlock {
    pub(crate) rows: Arc<Rows>,
    pub(crate) data_len: usize,
    /// Data that may not be in the file, with where it starts.
    pub(crate) resident: Vec<(usize, Bytes)>,
    pub(crate) file: Option<Arc<BlockFile>>,
}

/// Who reads the store as it was, and what stays for them.
#[derive(Default)]
pub(crate) struct Pins {
    readers: Vec<Weak<()>>,
    /// Files to be deleted when nobody reads any more.
    held: Vec<PathBuf>,
}

/// A message cannot be read.
#[derive(Debug, Error)]
pub enum PinReadError {
    /// Its record is damaged.
    #[error("message {0} is damaged")]
    Damaged(StreamSeq),
    /// The disk refused for now.
    #[error("message {seq} cannot be read: {source}")]
    Io {
        /// The message.
        seq: StreamSeq,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Debug for Pinned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pinned").field("blocks", &self.blocks.len()).finish_non_exhaustive()
    }
}

impl StreamStore {
    /// The messages as they are now. Until it is dropped, no file is deleted that it may read.
    pub fn pin(&mut self) -> Pinned {
        let blocks = self.blocks.iter().map(crate::block::Block::pin).collect();
        self.pin_those(blocks)
    }

    pub(crate) fn pin_those(&mut self, blocks: VecDeque<PinnedBlock>) -> Pinned {
        let hold = Arc::new(());
        self.pins.readers.retain(|reader| reader.strong_count() > 0);
        self.pins.readers.push(Arc::downgrade(&hold));
        Pinned { seed: self.seed, blocks, damaged: self.damaged.clone(), _hold: hold }
    }

    /// Takes files that the store has no use for; those that nobody reads, and may be deleted.
    pub fn release_files(&mut self, files: Vec<PathBuf>) -> Vec<PathBuf> {
        self.pins.held.extend(files);
        self.pins.readers.retain(|reader| reader.strong_count() > 0);
        if self.pins.readers.is_empty() { std::mem::take(&mut self.pins.held) } else { Vec::new() }
    }

    /// True if files are kept only for those who read the store as it was.
    pub fn holds_files(&self) -> bool {
        !self.pins.held.is_empty()
    }
}

impl Pinned {
    /// One of its blocks.
    pub(crate) fn only(&self, block: &PinnedBlock) -> Self {
        let blocks = [block.clone()].into();
        Self { seed: self.seed, blocks, damaged: BTreeSet::new(), _hold: self._hold.clone() }
    }

    /// Begins to read, in the order of sequences.
    pub fn read(self) -> PinReader {
        PinReader { pinned: self, row: 0, loaded: 0..0, data: Bytes::new(), reader: None, needed: 0..0 }
    }
}

/// Reads the messages of a [`Pinned`], one after the other. It blocks.
pub struct PinReader {
    pinned: Pinned,
    /// The next row of the first block that is left.
    row: usize,
    /// Which part of the block `data` is.
    loaded: Range<usize>,
    data: Bytes,
    reader: Option<DataReader>,
    /// The record that is looked at.
    needed: Range<usize>,
}

impl PinReader {
    /// The next message; `None` at the end. What is known to be damaged is left out, other damage is an error.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, PinReadError> {
        let Some(seq) = self.next_seq() else { return Ok(None) };
        let seed = self.pinned.seed;
        let bytes = self.bytes(seq)?;
        match Record::decode(bytes, seed) {
            Ok((record, len)) if record.seq == seq && len == bytes.len() => Ok(Some(record)),
            _ => Err(PinReadError::Damaged(seq)),
        }
    }

    /// The bytes of the record that was gone to last, whether they are intact or not.
    pub(crate) fn bytes(&mut self, seq: StreamSeq) -> Result<&[u8], PinReadError> {
        self.load(seq)?;
        let at = self.needed.start - self.loaded.start;
        self.data.get(at..at + self.needed.len()).ok_or(PinReadError::Damaged(seq))
    }

    /// Begins at a row of the first block.
    pub(crate) fn go_to(&mut self, row: usize) {
        self.row = row;
    }

    /// Where the record that was looked at last stands, or the frame that it is packed in.
    pub(crate) fn place(&self) -> (PathBuf, u64) {
        let file = self.pinned.blocks.front().and_then(|block| block.file.as_ref());
        let path = file.map_or_else(PathBuf::new, |file| file.path().to_owned());
        let start = self.needed.start;
        (path, self.reader.as_ref().map_or(HEADER + start as u64, |reader| reader.place(start)))
    }

    /// Length of the record that was looked at last.
    pub(crate) fn record_len(&self) -> u64 {
        self.needed.len() as u64
    }

    /// Goes to the next row that is alive and not known to be damaged.
    pub(crate) fn next_seq(&mut self) -> Option<StreamSeq> {
        loop {
            let block = self.pinned.blocks.front()?;
            let Some(row) = block.rows.next_live(self.row) else {
                self.next_block();
                continue;
            };
            self.row = row + 1;
            let seq = block.rows.seqs().seq_of(row);
            if !self.pinned.damaged.contains(&seq) {
                self.needed = block.rows.span(row, block.data_len);
                return Some(seq);
            }
        }
    }

    fn next_block(&mut self) {
        self.pinned.blocks.pop_front();
        self.row = 0;
        self.loaded = 0..0;
        self.data = Bytes::new();
        self.reader = None;
    }

    /// Makes sure that the record is in memory.
    fn load(&mut self, seq: StreamSeq) -> Result<(), PinReadError> {
        if self.loaded.start <= self.needed.start && self.needed.end <= self.loaded.end {
            return Ok(());
        }
        let Some(block) = self.pinned.blocks.front() else { return Ok(()) };
        let start = self.needed.start;
        if let Some((at, data)) = block.resident.iter().rev().find(|(at, _)| *at <= start) {
            self.loaded = *at..*at + data.len();
            self.data = data.clone();
            return Ok(());
        }
        let failed = |source| match is_damage(&source) {
            true => PinReadError::Damaged(seq),
            false => PinReadError::Io { seq, source },
        };
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let file = block.file.as_ref().ok_or(PinReadError::Damaged(seq))?;
                self.reader.insert(DataReader::open(file).map_err(failed)?)
            }
        };
        let in_file = block.resident.first().map_or(block.data_len, |(at, _)| *at);
        let end = in_file.min(start + READ_AT_ONCE).max(self.needed.end);
        let mut data = vec![0; end - start];
        if reader.read(&mut data, start).is_err() {
            // What is behind the record must not keep it from being read.
            data.truncate(self.needed.len());
            reader.read(&mut data, start).map_err(failed)?;
        }
        self.loaded = start..start + data.len();
        self.data = Bytes::from(data);
        Ok(())
    }
}
