use std::io;
use std::path::Path;
use std::sync::Arc;

use linnet_env::{Disk, DiskFile, OpenMode};
use linnet_ids::{StreamSeq, Wall};
use roaring::RoaringBitmap;

use crate::bytes_reader::Reader;
use crate::jobs::{BlockFile, HEADER, is_damage};
use crate::record::Seed;
use crate::rows::Runs;

/// First bytes of a state; the fields follow. The log's checkpoint record holds length and checksum of the state, which
/// stands in the file twice.
const MAGIC: &[u8; 16] = b"linnet state v2\n";

/// First bytes of a state that stands in its file once.
const MAGIC_ONCE: &[u8; 16] = b"linnet state v1\n";

/// The second copy begins at a multiple of this, in bytes: what spoils a sector or page spoils one copy.
const COPY_ALIGN: u64 = 4096;

/// Bytes of a copy verified at a time.
const STEP: usize = 1 << 20;

/// What the log records about a checkpoint: which state file is the valid one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointBody {
    /// Number in the file's name.
    pub number: u64,
    /// Length in bytes of the state in it.
    pub len: u64,
    /// CRC-32 of the state.
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
        let mut reader = Reader(bytes);
        Some(Self { number: reader.u64()?, len: reader.u64()?, crc: reader.u32()? })
    }

    pub(crate) fn file_name(self) -> String {
        state_name(self.number)
    }
}

pub(crate) fn state_name(number: u64) -> String {
    format!("state.{number:010}")
}

/// Content of a state file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SavedState {
    pub(crate) first_seq: StreamSeq,
    pub(crate) last_seq: StreamSeq,
    pub(crate) last_ts: Option<Wall>,
    pub(crate) lost: (u64, u64),
    pub(crate) next_block: u64,
    pub(crate) blocks: Vec<SavedBlock>,
    /// Sequences known to be lost to damage.
    pub(crate) damaged: Vec<StreamSeq>,
    pub(crate) extra: Vec<u8>,
}

/// What a state file says about one block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SavedBlock {
    /// Number of its file.
    pub(crate) number: u64,
    pub(crate) base: StreamSeq,
    /// Data bytes in the file, as they are when unpacked.
    pub(crate) len: u64,
    /// Length of the file if it is packed; else 0.
    pub(crate) packed: u64,
    /// It holds removed records that must go.
    pub(crate) must_rewrite: bool,
    pub(crate) seqs: Runs,
    /// Rows that are not alive.
    pub(crate) dead: RoaringBitmap,
}

impl SavedBlock {
    /// Its file.
    pub(crate) fn file(&self, disk: &Arc<dyn Disk>, dir: &Path, seed: Seed) -> Arc<BlockFile> {
        BlockFile::saved(disk.clone(), dir, self.number, self.base, seed, self.packed)
    }

    /// Length that its file has at least.
    pub(crate) fn file_len(&self) -> u64 {
        if self.packed > 0 { self.packed } else { HEADER + self.len }
    }

    pub(crate) fn is_live(&self, row: usize) -> bool {
        u32::try_from(row).is_ok_and(|row| !self.dead.contains(row))
    }

    /// Live sequences in a range. Costs no more than the rows it has there.
    pub(crate) fn live_between(&self, from: StreamSeq, to: StreamSeq) -> impl Iterator<Item = StreamSeq> {
        let rows = self.seqs.row_from(from)..self.seqs.row_from(to);
        rows.filter(|row| self.is_live(*row)).map(|row| self.seqs.seq_of(row))
    }
}

impl SavedState {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let word = |out: &mut Vec<u8>, n: u64| out.extend_from_slice(&n.to_le_bytes());
        word(&mut out, self.first_seq);
        word(&mut out, self.last_seq);
        word(&mut out, u64::from(self.last_ts.is_some()));
        word(&mut out, self.last_ts.map_or(0, |t| t.0.cast_unsigned()));
        word(&mut out, self.lost.0);
        word(&mut out, self.lost.1);
        word(&mut out, self.next_block);
        word(&mut out, self.blocks.len() as u64);
        for block in &self.blocks {
            word(&mut out, block.number);
            word(&mut out, block.base);
            word(&mut out, block.len);
            word(&mut out, u64::from(block.must_rewrite) | block.packed << 1);
            word(&mut out, block.seqs.len() as u64);
            word(&mut out, block.seqs.parts().len() as u64);
            for (row, seq) in block.seqs.parts() {
                out.extend_from_slice(&row.to_le_bytes());
                word(&mut out, seq);
            }
            word(&mut out, block.dead.serialized_size() as u64);
            block.dead.serialize_into(&mut out).expect("writing to memory does not fail");
        }
        word(&mut out, self.damaged.len() as u64);
        self.damaged.iter().for_each(|seq| word(&mut out, *seq));
        word(&mut out, self.extra.len() as u64);
        out.extend_from_slice(&self.extra);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.strip_prefix(MAGIC).or_else(|| bytes.strip_prefix(MAGIC_ONCE))?;
        let mut reader = Reader(fields);
        let (first_seq, last_seq) = (reader.u64()?, reader.u64()?);
        let (has_ts, ts) = (reader.u64()?, reader.u64()?);
        let lost = (reader.u64()?, reader.u64()?);
        let next_block = reader.u64()?;
        let mut blocks = Vec::new();
        for _ in 0..reader.u64()? {
            blocks.push(decode_block(&mut reader)?);
        }
        let mut damaged = Vec::new();
        for _ in 0..reader.u64()? {
            damaged.push(reader.u64()?);
        }
        let last_ts = (has_ts == 1).then_some(Wall(ts.cast_signed()));
        let extra = reader.blob()?.to_vec();
        Some(Self { first_seq, last_seq, last_ts, lost, next_block, blocks, damaged, extra })
    }
}

fn decode_block(reader: &mut Reader<'_>) -> Option<SavedBlock> {
    let (number, base, len) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let form = reader.u64()?;
    let (must_rewrite, packed) = (form & 1 == 1, form >> 1);
    let rows = u32::try_from(reader.u64()?).ok()?;
    let mut runs = Vec::new();
    for _ in 0..reader.u64()? {
        runs.push((reader.u32()?, reader.u64()?));
    }
    let seqs = Runs::from_parts(runs, rows)?;
    let dead = RoaringBitmap::deserialize_from(reader.blob()?).ok()?;
    Some(SavedBlock { number, base, len, packed, must_rewrite, seqs, dead })
}

/// Writes a new file, or over what an attempt that failed for want of space left behind.
pub(crate) fn write_new(disk: &dyn Disk, path: &Path, content: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    create(disk, path, |file| file.write_all_at(content, 0))
}

/// Writes a state file, like [`write_new`].
pub(crate) fn write_state(disk: &dyn Disk, path: &Path, state: &[u8]) -> io::Result<Arc<dyn DiskFile>> {
    let len = state.len() as u64;
    let gap = usize::try_from(second_copy(len) - len).map_err(io::Error::other)?;
    create(disk, path, |file| {
        file.write_all_at(state, 0)?;
        file.write_zeros_at(gap, len)?;
        file.write_all_at(state, second_copy(len))
    })
}

fn create(
    disk: &dyn Disk,
    path: &Path,
    write: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<Arc<dyn DiskFile>> {
    if disk.exists(path)? {
        disk.remove_file(path)?;
    }
    let file = disk.open(path, OpenMode::Create)?;
    if let Err(error) = write(&*file) {
        // On a full disk it would keep space that nobody uses.
        let _ = disk.remove_file(path);
        return Err(error);
    }
    Ok(file)
}

/// Where the second copy of a state of `len` bytes begins.
fn second_copy(len: u64) -> u64 {
    len.next_multiple_of(COPY_ALIGN)
}

/// A state that was read.
pub(crate) struct ReadState {
    pub(crate) saved: SavedState,
    /// One of its two copies is damaged or missing.
    pub(crate) is_half: bool,
}

/// Reads and verifies the state file that a checkpoint names: one intact copy is enough.
pub(crate) fn read_state(disk: &dyn Disk, dir: &Path, body: CheckpointBody) -> io::Result<ReadState> {
    let file = disk.open(&dir.join(body.file_name()), OpenMode::Read)?;
    match read_copy(&*file, body, 0) {
        Ok(state) => {
            let is_half = state.starts_with(MAGIC) && !is_intact(&*file, body, second_copy(body.len))?;
            Ok(ReadState { saved: decode(&state)?, is_half })
        }
        Err(first) if is_damage(&first) => match read_copy(&*file, body, second_copy(body.len)) {
            Ok(state) => Ok(ReadState { saved: decode(&state)?, is_half: true }),
            Err(second) if is_damage(&second) => Err(first),
            Err(second) => Err(second),
        },
        Err(first) => Err(first),
    }
}

fn decode(state: &[u8]) -> io::Result<SavedState> {
    SavedState::decode(state).ok_or_else(mismatch)
}

fn mismatch() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "state file does not match its checkpoint")
}

/// The copy of the state that begins at `offset`, if it is what was recorded.
fn read_copy(file: &dyn DiskFile, body: CheckpointBody, offset: u64) -> io::Result<Vec<u8>> {
    let len = copy_len(file, body, offset)?;
    let mut state = vec![0; len];
    file.read_exact_at(&mut state, offset)?;
    if crc32fast::hash(&state) != body.crc {
        return Err(mismatch());
    }
    Ok(state)
}

/// Length of a copy, if the file is long enough to hold it.
fn copy_len(file: &dyn DiskFile, body: CheckpointBody, offset: u64) -> io::Result<usize> {
    if file.len()? < offset.saturating_add(body.len) {
        return Err(mismatch());
    }
    usize::try_from(body.len).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

/// True if the copy that begins at `offset` is what was recorded. Takes no memory for it. Fails if the disk does.
fn is_intact(file: &dyn DiskFile, body: CheckpointBody, offset: u64) -> io::Result<bool> {
    match crc_of_copy(file, body, offset) {
        Ok(crc) => Ok(crc == body.crc),
        Err(error) if is_damage(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn crc_of_copy(file: &dyn DiskFile, body: CheckpointBody, offset: u64) -> io::Result<u32> {
    let len = copy_len(file, body, offset)?;
    let mut buffer = vec![0; len.min(STEP)];
    let mut crc = crc32fast::Hasher::new();
    let mut done = 0;
    while done < len {
        buffer.truncate(len - done);
        file.read_exact_at(&mut buffer, offset + done as u64)?;
        crc.update(&buffer);
        done += buffer.len();
    }
    Ok(crc.finalize())
}

/// The owner's state in the state file that a checkpoint names.
pub fn read_owner_state(disk: &dyn Disk, dir: &Path, body: CheckpointBody) -> io::Result<Vec<u8>> {
    read_state(disk, dir, body).map(|read| read.saved.extra)
}

#[cfg(test)]
mod tests {
    use linnet_ids::Wall;

    use super::{CheckpointBody, SavedBlock, SavedState};
    use crate::rows::Runs;

    fn sample() -> SavedState {
        let mut seqs = Runs::default();
        [4, 5, 9, 1 << 40].into_iter().for_each(|seq| seqs.push(seq));
        let dead = [1].into_iter().collect();
        SavedState {
            first_seq: 4,
            last_seq: 1 << 41,
            last_ts: Some(Wall(-3)),
            lost: (1, 70),
            next_block: 3,
            blocks: vec![SavedBlock {
                number: 2,
                base: 3,
                len: 120,
                packed: 75,
                must_rewrite: true,
                seqs,
                dead,
            }],
            damaged: vec![6],
            extra: b"owner".to_vec(),
        }
    }

    #[test]
    fn states_round_trip() {
        let saved = sample();
        assert_eq!(SavedState::decode(&saved.encode()), Some(saved.clone()));
        let live: Vec<u64> = saved.blocks[0].live_between(0, u64::MAX).collect();
        assert_eq!(live, [4, 9, 1 << 40]);
        let body = CheckpointBody { number: 1, len: 2, crc: 3 };
        assert_eq!(CheckpointBody::from_bytes(&body.to_bytes()), Some(body));
    }

    #[test]
    fn a_state_with_any_bit_or_length_changed_does_not_panic() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _ = SavedState::decode(&bad);
        }
        for len in 0..bytes.len() {
            assert_eq!(SavedState::decode(&bytes[..len]), None);
        }
    }
}
