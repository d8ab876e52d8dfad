use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use linnet_env::{Disk, OpenMode};
use linnet_ids::{StreamSeq, Wall};
use roaring::RoaringBitmap;

use crate::jobs::{BlockFile, HEADER};
use crate::store::{Kind, StreamStore};

/// First bytes of a state file; CRC-32 of what follows comes next.
const MAGIC: &[u8; 16] = b"linnet state v1\n";
/// Bytes copied at a time when a block is rewritten.
const COPY: usize = 1 << 20;

/// What the log records about a checkpoint: which state file is the valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointBody {
    /// Number in the file's name.
    pub number: u64,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-32 of the whole file.
    pub crc: u32,
}

impl CheckpointBody {
    /// Length of [`CheckpointBody::to_bytes`].
    pub const LEN: usize = 20;

    /// Fixed-size little-endian form.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..16].copy_from_slice(&self.len.to_le_bytes());
        out[16..].copy_from_slice(&self.crc.to_le_bytes());
        out
    }

    /// Inverse of [`CheckpointBody::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let word = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
        let crc = u32::from_le_bytes(bytes.get(16..)?.try_into().ok()?);
        Some(Self { number: word(0)?, len: word(8)?, crc })
    }

    pub(crate) fn file_name(self) -> String {
        format!("state.{:010}", self.number)
    }
}

/// Makes the blocks durable and writes a state file that describes them. Runs on any thread; meanwhile the store
/// goes on.
pub struct CheckpointJob {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    number: u64,
    writes: Vec<(Arc<BlockFile>, u32, Bytes)>,
    rewrites: Vec<Rewrite>,
    syncs: Vec<Arc<BlockFile>>,
    state: Vec<u8>,
}

struct Rewrite {
    from: Arc<BlockFile>,
    to: Arc<BlockFile>,
    spans: Vec<Range<usize>>,
}

/// Outcome of a [`CheckpointJob`], to be given back to the store.
pub struct CheckpointTaken {
    result: io::Result<CheckpointBody>,
}

impl CheckpointTaken {
    /// Why it failed, if it did.
    pub fn error(&self) -> Option<&io::Error> {
        self.result.as_ref().err()
    }
}

/// What the store remembers while a checkpoint runs.
pub(crate) struct Pending {
    /// Blocks by their first sequence: how much of each is on disk when the job is done.
    covered: Vec<(StreamSeq, u32)>,
    rewritten: Vec<(StreamSeq, Arc<BlockFile>, Vec<Range<usize>>)>,
    obsolete: Vec<PathBuf>,
}

impl CheckpointJob {
    /// Runs the job; blocks.
    pub fn run(self) -> CheckpointTaken {
        CheckpointTaken { result: self.try_run() }
    }

    fn try_run(self) -> io::Result<CheckpointBody> {
        for (file, offset, data) in &self.writes {
            file.for_writing()?.write_all_at(data, HEADER + u64::from(*offset))?;
        }
        for rewrite in &self.rewrites {
            rewrite.run()?;
        }
        for file in self.syncs.iter().chain(self.rewrites.iter().map(|r| &r.to)) {
            file.for_writing()?.sync_data()?;
        }
        let mut content = Vec::with_capacity(self.state.len() + 20);
        content.extend_from_slice(MAGIC);
        content.extend_from_slice(&crc32fast::hash(&self.state).to_le_bytes());
        content.extend_from_slice(&self.state);
        let body =
            CheckpointBody { number: self.number, len: content.len() as u64, crc: crc32fast::hash(&content) };
        let path = self.dir.join(body.file_name());
        if self.disk.exists(&path)? {
            // Left over from a checkpoint that never reached the log.
            self.disk.remove_file(&path)?;
        }
        let file = self.disk.open(&path, OpenMode::Create)?;
        file.write_all_at(&content, 0)?;
        file.sync_data()?;
        self.disk.sync_dir(&self.dir)?;
        Ok(body)
    }
}

impl Rewrite {
    fn run(&self) -> io::Result<()> {
        let from = self.from.for_reading()?;
        let to = self.to.for_writing()?;
        let mut at = HEADER;
        let mut buffer = Vec::new();
        for span in &self.spans {
            let mut next = span.start;
            while next < span.end {
                let len = (span.end - next).min(COPY);
                buffer.resize(len, 0);
                from.read_exact_at(&mut buffer, HEADER + next as u64)?;
                to.write_all_at(&buffer, at)?;
                at += len as u64;
                next += len;
            }
        }
        Ok(())
    }
}

impl StreamStore {
    /// True while a checkpoint's outcome is awaited.
    pub fn is_checkpointing(&self) -> bool {
        self.pending.is_some()
    }

    /// Starts a checkpoint of everything appended so far. `extra` is the owner's own state, returned by the next
    /// opening. `None` for a memory stream, while another checkpoint runs, or after a write failure.
    pub fn begin_checkpoint(&mut self, extra: &[u8]) -> Option<CheckpointJob> {
        let Kind::File { disk, dir } = self.kind.clone() else { return None };
        if self.pending.is_some() || self.failed.is_some() {
            return None;
        }
        if self.blocks.back().is_some_and(|b| b.must_rewrite) {
            // A block that is appended to cannot be rewritten: close it.
            let (file, next) = (self.new_file(), self.state.last_seq + 1);
            if let Some(last) = self.blocks.back_mut() {
                last.freeze();
            }
            self.blocks.push_back(crate::block::Block::new(next, file));
            self.next_block += 1;
        }
        let mut writes = Vec::new();
        let mut syncs = Vec::new();
        let mut pending = Pending {
            covered: Vec::new(),
            rewritten: Vec::new(),
            obsolete: std::mem::take(&mut self.obsolete),
        };
        self.obsolete_bytes = 0;
        let mut rewrites = Vec::new();
        let last = self.blocks.len().saturating_sub(1);
        for at in 0..self.blocks.len() {
            self.blocks[at].freeze();
            let block = &mut self.blocks[at];
            let Some(file) = block.file.clone() else { continue };
            let parts = block.unwritten_parts();
            let fully_written = parts.is_empty();
            writes.extend(parts.into_iter().map(|(offset, data)| (file.clone(), offset, data)));
            let end = u32::try_from(block.data_len()).unwrap_or(u32::MAX);
            if block.synced < end {
                syncs.push(file.clone());
            }
            pending.covered.push((block.base, end));
            let rewrite =
                at != last && fully_written && block.live > 0 && (block.must_rewrite || block.is_sparse());
            if rewrite {
                let spans = self.blocks[at].live_spans();
                let to = self.new_file()?;
                self.next_block += 1;
                rewrites.push(Rewrite { from: file.clone(), to: to.clone(), spans: spans.clone() });
                pending.obsolete.push(file.path().to_owned());
                pending.rewritten.push((self.blocks[at].base, to, spans));
            }
        }
        if self.checkpoint_number > 0 {
            let old = CheckpointBody { number: self.checkpoint_number, len: 0, crc: 0 };
            pending.obsolete.push(dir.join(old.file_name()));
        }
        let number = self.checkpoint_number + 1;
        let state = self.encode_state(&pending, extra);
        self.pending = Some(pending);
        Some(CheckpointJob { disk, dir, number, writes, rewrites, syncs, state })
    }

    /// Takes the outcome of a checkpoint. On success: what to record in the log, and which files may be deleted
    /// once that record is durable. A failure latches.
    pub fn finish_checkpoint(&mut self, taken: CheckpointTaken) -> Option<(CheckpointBody, Vec<PathBuf>)> {
        let pending = self.pending.take()?;
        let body = match taken.result {
            Ok(body) => body,
            Err(error) => {
                self.obsolete.extend(pending.obsolete);
                self.fail(error);
                return None;
            }
        };
        for (base, end) in pending.covered {
            if let Some(block) = self.blocks.iter_mut().find(|b| b.base == base) {
                block.note_written(end);
                block.synced = end;
            }
        }
        for (base, file, spans) in pending.rewritten {
            match self.blocks.iter_mut().find(|b| b.base == base) {
                Some(block) => block.adopt_rewritten(&spans, file),
                // Emptied meanwhile: the new file is referenced by this checkpoint and dies with the next.
                None => self.obsolete.push(file.path().to_owned()),
            }
        }
        self.checkpoint_number = body.number;
        Some((body, pending.obsolete))
    }

    fn encode_state(&self, pending: &Pending, extra: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let word = |out: &mut Vec<u8>, n: u64| out.extend_from_slice(&n.to_le_bytes());
        word(&mut out, self.state.first_seq);
        word(&mut out, self.state.last_seq);
        word(&mut out, u64::from(self.state.last_ts.is_some()));
        word(&mut out, self.state.last_ts.map_or(0, |t| t.0.cast_unsigned()));
        word(&mut out, self.state.lost.0);
        word(&mut out, self.state.lost.1);
        word(&mut out, self.next_block);
        word(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            let rewritten = pending.rewritten.iter().find(|(base, ..)| *base == block.base);
            let (path, len) = match (rewritten, &block.file) {
                (Some((_, file, spans)), _) => (file.path().to_owned(), spans.iter().map(Range::len).sum()),
                (None, Some(file)) => (file.path().to_owned(), block.data_len()),
                (None, None) => (PathBuf::new(), 0),
            };
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            blob(&mut out, name.as_bytes());
            word(&mut out, block.base);
            word(&mut out, block.rows() as u64);
            word(&mut out, len as u64);
            let mut dead = Vec::with_capacity(block.dead().serialized_size());
            // Writing to memory cannot fail.
            block.dead().serialize_into(&mut dead).expect("bitmap serialises");
            blob(&mut out, &dead);
        }
        blob(&mut out, extra);
        out
    }
}

fn blob(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A decoded state file.
pub(crate) struct SavedState {
    pub(crate) first_seq: StreamSeq,
    pub(crate) last_seq: StreamSeq,
    pub(crate) last_ts: Option<Wall>,
    pub(crate) lost: (u64, u64),
    pub(crate) next_block: u64,
    pub(crate) blocks: Vec<SavedBlock>,
    pub(crate) extra: Vec<u8>,
}

pub(crate) struct SavedBlock {
    pub(crate) name: String,
    pub(crate) base: StreamSeq,
    pub(crate) rows: u64,
    pub(crate) len: u64,
    pub(crate) dead: RoaringBitmap,
}

/// Reads and verifies the state file that a checkpoint names.
pub(crate) fn read_state(disk: &dyn Disk, dir: &Path, body: CheckpointBody) -> io::Result<SavedState> {
    let content = disk.read(&dir.join(body.file_name()))?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "state file does not match its checkpoint");
    if content.len() as u64 != body.len || crc32fast::hash(&content) != body.crc {
        return Err(broken());
    }
    let rest = content.strip_prefix(MAGIC.as_slice()).and_then(|r| r.get(4..)).ok_or_else(broken)?;
    decode_state(&mut Reader(rest)).ok_or_else(broken)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    fn blob(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.word()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}

fn decode_state(reader: &mut Reader<'_>) -> Option<SavedState> {
    let (first_seq, last_seq) = (reader.word()?, reader.word()?);
    let (has_ts, ts) = (reader.word()?, reader.word()?);
    let lost = (reader.word()?, reader.word()?);
    let next_block = reader.word()?;
    let count = reader.word()?;
    let mut blocks = Vec::new();
    for _ in 0..count {
        let name = std::str::from_utf8(reader.blob()?).ok()?.to_owned();
        let (base, rows, len) = (reader.word()?, reader.word()?, reader.word()?);
        let dead = RoaringBitmap::deserialize_from(reader.blob()?).ok()?;
        blocks.push(SavedBlock { name, base, rows, len, dead });
    }
    let last_ts = (has_ts == 1).then_some(Wall(ts.cast_signed()));
    Some(SavedState {
        first_seq,
        last_seq,
        last_ts,
        lost,
        next_block,
        blocks,
        extra: reader.blob()?.to_vec(),
    })
}
