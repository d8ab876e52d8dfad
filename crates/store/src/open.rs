use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use linnet_env::Disk;
use linnet_ids::StreamSeq;
use thiserror::Error;

use crate::block::Block;
use crate::checkpoint::{CheckpointBody, SavedBlock, read_state};
use crate::jobs::{BlockFile, HEADER, MAGIC};
use crate::record::Seed;
use crate::record::{FIXED, Record, RecordError};
use crate::store::{Kind, StreamStore};

/// Bytes of a block in memory at a time while it is scanned.
const CHUNK: usize = 1 << 20;

/// The store cannot be opened as the checkpoint describes it.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The state file is missing, unreadable or not the one that was recorded.
    #[error("{path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The directory cannot be listed.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

/// What opening found.
#[derive(Debug, Default)]
pub struct OpenReport {
    /// Sequences whose record is damaged or missing.
    pub lost: Vec<StreamSeq>,
    /// Files in the directory that the checkpoint does not name.
    pub strays: Vec<PathBuf>,
    /// The owner's state saved with the checkpoint.
    pub extra: Vec<u8>,
}

impl StreamStore {
    /// Opens the store as the last durable checkpoint describes it; without one it is empty. What the log holds
    /// beyond the checkpoint is appended by the caller afterwards.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: PathBuf,
        seed: Seed,
        checkpoint: Option<CheckpointBody>,
        max_per_subject: impl FnOnce(&[u8]) -> i64,
    ) -> Result<(Self, OpenReport), OpenError> {
        let mut report = OpenReport::default();
        let kind = Kind::File { disk: disk.clone(), dir: dir.clone() };
        let Some(body) = checkpoint else {
            report.strays = list(disk, &dir, &[])?;
            return Ok((Self::new(kind, seed, 1, max_per_subject(&[])), report));
        };
        let saved = read_state(&**disk, &dir, body)
            .map_err(|source| OpenError::State { path: dir.join(body.file_name()), source })?;
        let mut store = Self::new(kind, seed, 1, max_per_subject(&saved.extra));
        let mut named = vec![body.file_name()];
        for block in saved.blocks {
            named.push(block.name.clone());
            store.recover_block(disk, &dir, block, &mut report.lost);
        }
        store.state.last_seq = saved.last_seq;
        store.state.last_ts = saved.last_ts;
        store.state.lost.0 += saved.lost.0;
        store.state.lost.1 += saved.lost.1;
        store.state.first_seq = match store.next(0, &crate::Filter::all()) {
            Some(first) => first,
            None => saved.first_seq.max(if saved.last_seq > 0 { saved.last_seq + 1 } else { 0 }),
        };
        store.next_block = saved.next_block;
        store.checkpoint_number = body.number;
        report.strays = list(disk, &dir, &named)?;
        report.extra = saved.extra;
        Ok((store, report))
    }

    fn recover_block(
        &mut self,
        disk: &Arc<dyn Disk>,
        dir: &std::path::Path,
        saved: SavedBlock,
        lost: &mut Vec<StreamSeq>,
    ) {
        let file = BlockFile::new(disk.clone(), dir.join(&saved.name));
        let mut block = Block::new(saved.base, Some(file.clone()));
        let end = saved.base + saved.rows;
        let mut expected = saved.base;
        let mut scanner = Scanner::new(&file, saved.len);
        let is_dead =
            |seq: StreamSeq| u32::try_from(seq - saved.base).is_ok_and(|row| saved.dead.contains(row));
        while let Some(piece) = scanner.next(self.seed, expected, end) {
            match piece {
                Piece::Record { seq, len, subject, has_headers, accounted } => {
                    self.note_missing(expected..seq, &is_dead, lost);
                    expected = seq + 1;
                    if is_dead(seq) {
                        block.recover_dead_row(seq, len, has_headers);
                        continue;
                    }
                    let id = self.subjects.add(&subject, seq);
                    block.recover_row(seq, id, len, has_headers);
                    self.state.msgs += 1;
                    self.state.bytes += accounted;
                }
                Piece::Garbage(len) => block.recover_gap(expected, end, len),
            }
        }
        self.note_missing(expected..end, &is_dead, lost);
        block.fill_to(end);
        block.synced = u32::try_from(block.data_len()).unwrap_or(u32::MAX);
        if block.live > 0 {
            self.blocks.push_back(block);
        } else {
            self.obsolete.push(file.path().to_owned());
        }
    }

    /// Live sequences that should have been met and were not.
    fn note_missing(
        &mut self,
        range: std::ops::Range<StreamSeq>,
        is_dead: &impl Fn(StreamSeq) -> bool,
        lost: &mut Vec<StreamSeq>,
    ) {
        for seq in range.filter(|seq| !is_dead(*seq)) {
            self.damaged.insert(seq);
            self.state.lost.0 += 1;
            lost.push(seq);
        }
    }
}

fn list(disk: &Arc<dyn Disk>, dir: &std::path::Path, named: &[String]) -> Result<Vec<PathBuf>, OpenError> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(OpenError::Directory { path: dir.to_owned(), source }),
    };
    let strays = entries.into_iter().filter(|e| !e.is_dir && !named.contains(&e.name));
    Ok(strays.map(|e| dir.join(e.name)).collect())
}

/// A stretch of a block file.
enum Piece {
    Record {
        seq: StreamSeq,
        len: usize,
        subject: Vec<u8>,
        has_headers: bool,
        accounted: u64,
    },
    /// Bytes that are no record, or one that cannot be where it is.
    Garbage(usize),
}

/// Goes through a block file record by record; after damage it searches for the next record whose checksum and
/// sequence fit.
struct Scanner<'a> {
    file: &'a BlockFile,
    len: u64,
    /// Bytes from `start` on.
    buffer: Vec<u8>,
    start: u64,
    at: usize,
    unreadable: bool,
}

impl<'a> Scanner<'a> {
    fn new(file: &'a BlockFile, len: u64) -> Self {
        let mut magic = [0; MAGIC.len()];
        let readable = file.for_reading().and_then(|f| f.read_exact_at(&mut magic, 0));
        let unreadable = readable.is_err();
        Self { file, len, buffer: Vec::new(), start: 0, at: 0, unreadable }
    }

    /// The bytes at the current position, at least `wanted` of them if the block has that many.
    fn window(&mut self, wanted: usize) -> &[u8] {
        let have = self.buffer.len() - self.at;
        let left = self.len - self.start - self.at as u64;
        if have < wanted && (have as u64) < left {
            self.buffer.drain(..self.at);
            self.start += self.at as u64;
            self.at = 0;
            let target = usize::try_from(left.min(wanted.max(CHUNK) as u64)).unwrap_or(CHUNK);
            let old = self.buffer.len();
            self.buffer.resize(target, 0);
            let read = self
                .file
                .for_reading()
                .and_then(|f| f.read_at(&mut self.buffer[old..], HEADER + self.start + old as u64))
                .unwrap_or(0);
            self.buffer.truncate(old + read);
            if read == 0 {
                // The file is shorter than recorded, or this stretch cannot be read.
                self.unreadable = true;
            }
        }
        &self.buffer[self.at..]
    }

    fn next(&mut self, seed: Seed, expected: StreamSeq, end: StreamSeq) -> Option<Piece> {
        if self.unreadable || self.start + self.at as u64 >= self.len {
            return None;
        }
        match self.record(seed, expected, end) {
            Some(piece) => Some(piece),
            None => Some(Piece::Garbage(self.resynchronise(seed, expected, end))),
        }
    }

    /// The record at the current position, if it is one that may be here.
    fn record(&mut self, seed: Seed, expected: StreamSeq, end: StreamSeq) -> Option<Piece> {
        let announced = {
            let fixed = self.window(FIXED);
            match Record::view(fixed) {
                Ok((_, len)) => len,
                Err(RecordError::Truncated) => u32::from_le_bytes(fixed.get(..4)?.try_into().ok()?) as usize,
                Err(_) => return None,
            }
        };
        let left = self.len - self.start - self.at as u64;
        if announced as u64 > left {
            return None;
        }
        let (record, len) = Record::decode(self.window(announced), seed).ok()?;
        if record.seq < expected || record.seq >= end {
            return None;
        }
        let piece = Piece::Record {
            seq: record.seq,
            len,
            subject: record.subject.to_vec(),
            has_headers: !record.headers.is_empty(),
            accounted: record.accounted(false),
        };
        self.at += len;
        Some(piece)
    }

    /// Moves to the next position that holds a record; how many bytes were skipped.
    fn resynchronise(&mut self, seed: Seed, expected: StreamSeq, end: StreamSeq) -> usize {
        let mut skipped = 0;
        loop {
            self.at += 1;
            skipped += 1;
            if self.start + self.at as u64 >= self.len {
                return skipped;
            }
            let fixed = self.window(FIXED);
            if fixed.is_empty() {
                return skipped;
            }
            let seq = fixed.get(8..16).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
            let plausible =
                seq.is_some_and(|s| (expected..end).contains(&s)) && fixed.get(30..32) == Some(&[0, 0]);
            if plausible {
                let back = self.at;
                if self.record(seed, expected, end).is_some() {
                    self.at = back;
                    return skipped;
                }
            }
        }
    }
}
