//! Packed block files: the data of a closed block in compressed frames of whole records.
//!
//! A frame can be read without the others and has a checksum of its own, so that damage stays inside it and no
//! decoder sees damaged bytes. A table in front says where the frames are; without it they are found by their marks.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use linnet_env::DiskFile;
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use crate::bytes_reader::Reader;
use crate::jobs::is_damage;
use crate::record::{RECORD_MAX, Seed};
use crate::scan::read_around_damage;

/// First bytes of a packed block file. Checksum and length of the table follow, 4 bytes each, then the table, then
/// the frames.
pub(crate) const MAGIC: &[u8; 16] = b"linnet packed 1\n";
/// Where the table's entries start.
const TABLE: usize = MAGIC.len() + 8;
/// Bytes of the table for each frame: where its data ends in the block, where it ends itself behind the table.
const ENTRY: usize = 8;
/// First bytes of a frame.
const MARK: &[u8; 4] = b"\xf5fr\n";
/// Bytes of a frame in front of its data: mark, checksum, where it starts in the block, length, packed length.
const FRAME_HEADER: usize = 20;

/// What checksums of a file are started from: neither another stream's nor another block's frame passes.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) seed: Seed,
    /// Number of the file.
    pub(crate) number: u64,
}

impl Key {
    fn checksum(self, parts: &[&[u8]]) -> u32 {
        let number = self.number.to_le_bytes();
        self.seed.checksum_of(std::iter::once(number.as_slice()).chain(parts.iter().copied()))
    }
}

/// Where a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Its place in the block's data.
    start: u32,
    end: u32,
    /// Its place in the file.
    at: u32,
    file_end: u32,
}

impl Frame {
    pub(crate) fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Its place in the file.
    pub(crate) fn place(&self) -> u64 {
        u64::from(self.at)
    }

    /// Reads the frame's data.
    pub(crate) fn read(&self, file: &dyn DiskFile, key: Key) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.file_end.saturating_sub(self.at) as usize];
        file.read_exact_at(&mut bytes, u64::from(self.at))?;
        let (header, data) = Header::verified(&bytes, key).ok_or_else(damaged)?;
        if (header.start, header.len) != (self.start, self.end - self.start) {
            return Err(damaged());
        }
        header.unpack(data).ok_or_else(damaged)
    }
}

/// The error for what is not there or no frame.
pub(crate) fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a compressed part of a block is damaged")
}

struct Header {
    start: u32,
    len: u32,
    packed: u32,
}

impl Header {
    fn checksum(&self, key: Key, data: &[u8]) -> u32 {
        let fields = [self.start.to_le_bytes(), self.len.to_le_bytes(), self.packed.to_le_bytes()];
        key.checksum(&[fields.as_flattened(), data])
    }

    /// The frame at the front of `bytes` and its packed data, if both are intact.
    fn verified(bytes: &[u8], key: Key) -> Option<(Self, &[u8])> {
        let mut reader = Reader(bytes.strip_prefix(MARK.as_slice())?);
        let crc = reader.u32()?;
        let header = Self { start: reader.u32()?, len: reader.u32()?, packed: reader.u32()? };
        let data = reader.bytes(header.packed as usize)?;
        let is_sound = header.packed <= header.len && header.start.checked_add(header.len).is_some();
        (is_sound && header.checksum(key, data) == crc).then_some((header, data))
    }

    fn unpack(&self, data: &[u8]) -> Option<Vec<u8>> {
        let len = self.len as usize;
        if self.packed == self.len {
            return Some(data.to_vec());
        }
        if len > RECORD_MAX || decompress_len(data).ok()? != len {
            return None;
        }
        Decoder::new().decompress_vec(data).ok()
    }
}

/// Puts records into frames.
pub(crate) struct Packer {
    key: Key,
    /// Bytes of records that a frame holds, unless one record is longer.
    frame_max: usize,
    encoder: Encoder,
    /// Finished frames and, for each, where its data ends and where it ends.
    frames: Vec<u8>,
    ends: Vec<(u32, u32)>,
    /// Records of the frame that is being filled, and where they start in the block.
    open: Vec<u8>,
    start: usize,
}

fn to_u32(len: usize) -> u32 {
    u32::try_from(len).expect("a block is far smaller than 4 GiB")
}

impl Packer {
    pub(crate) fn new(key: Key, frame_max: usize) -> Self {
        let (encoder, frames, ends, open) = (Encoder::new(), Vec::new(), Vec::new(), Vec::new());
        Self { key, frame_max, encoder, frames, ends, open, start: 0 }
    }

    /// Adds whole records, which stay in one frame.
    pub(crate) fn add(&mut self, records: &[u8]) {
        if !self.open.is_empty() && self.open.len() + records.len() > self.frame_max {
            self.close_frame();
        }
        self.open.extend_from_slice(records);
    }

    fn close_frame(&mut self) {
        let plain = std::mem::take(&mut self.open);
        let mut packed = vec![0; max_compress_len(plain.len())];
        let data = match self.encoder.compress(&plain, &mut packed) {
            Ok(len) if len < plain.len() => packed.get(..len).unwrap_or(&plain),
            _ => &plain,
        };
        let header =
            Header { start: to_u32(self.start), len: to_u32(plain.len()), packed: to_u32(data.len()) };
        self.frames.extend_from_slice(MARK);
        for field in [header.checksum(self.key, data), header.start, header.len, header.packed] {
            self.frames.extend_from_slice(&field.to_le_bytes());
        }
        self.frames.extend_from_slice(data);
        self.start += plain.len();
        self.ends.push((to_u32(self.start), to_u32(self.frames.len())));
    }

    /// Content of the file, if it is smaller than the records by enough to be worth unpacking them.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if !self.open.is_empty() {
            self.close_frame();
        }
        let len = TABLE + self.ends.len() * ENTRY + self.frames.len();
        if len > self.start - self.start / 16 {
            return None;
        }
        let mut table = to_u32(self.ends.len()).to_le_bytes().to_vec();
        for (end, file_end) in &self.ends {
            table.extend_from_slice(&end.to_le_bytes());
            table.extend_from_slice(&file_end.to_le_bytes());
        }
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.key.checksum(&[&table]).to_le_bytes());
        out.extend_from_slice(&table);
        out.extend_from_slice(&self.frames);
        Some(out)
    }
}

/// The frames of a packed file of `len` bytes, in order. Where the table is damaged they are searched for.
pub(crate) fn read_frames(file: &dyn DiskFile, key: Key, len: u64) -> io::Result<Vec<Frame>> {
    match read_table(file, key, len) {
        Ok(Some(frames)) => Ok(frames),
        Ok(None) => search(file, key, len),
        Err(e) if is_damage(&e) => search(file, key, len),
        Err(e) => Err(e),
    }
}

fn read_table(file: &dyn DiskFile, key: Key, len: u64) -> io::Result<Option<Vec<Frame>>> {
    let mut fixed = [0; TABLE];
    file.read_exact_at(&mut fixed, 0)?;
    let mut reader = Reader(&fixed[MAGIC.len()..]);
    let (Some(crc), Some(count)) = (reader.u32(), reader.u32()) else { return Ok(None) };
    let bytes = count as usize * ENTRY;
    if (TABLE + bytes) as u64 > len {
        return Ok(None);
    }
    let mut entries = vec![0; bytes];
    file.read_exact_at(&mut entries, TABLE as u64)?;
    if key.checksum(&[&count.to_le_bytes(), &entries]) != crc {
        return Ok(None);
    }
    Ok(decode_table(&entries))
}

fn decode_table(entries: &[u8]) -> Option<Vec<Frame>> {
    let base = u32::try_from(TABLE + entries.len()).ok()?;
    let mut reader = Reader(entries);
    let mut frames = Vec::with_capacity(entries.len() / ENTRY);
    let (mut start, mut at) = (0, base);
    while !reader.0.is_empty() {
        let (end, file_end) = (reader.u32()?, base.checked_add(reader.u32()?)?);
        if end < start || file_end < at {
            return None;
        }
        frames.push(Frame { start, end, at, file_end });
        (start, at) = (end, file_end);
    }
    Some(frames)
}

/// Finds intact frames by their marks.
fn search(file: &dyn DiskFile, key: Key, len: u64) -> io::Result<Vec<Frame>> {
    let bytes = read_around_damage(file, 0, len)?;
    // A frame that verifies is what was written at that place of this block: there are no two versions of it.
    let mut found = BTreeMap::new();
    let mut at = 0;
    while let Some(next) = bytes.get(at..).and_then(|rest| rest.windows(MARK.len()).position(|w| w == MARK)) {
        at += next;
        match Header::verified(bytes.get(at..).unwrap_or_default(), key) {
            Some((header, data)) => {
                let file_end = at + FRAME_HEADER + data.len();
                let (start, end) = (header.start, header.start + header.len);
                found.insert(start, Frame { start, end, at: to_u32(at), file_end: to_u32(file_end) });
                at = file_end;
            }
            None => at += 1,
        }
    }
    Ok(found.into_values().collect())
}
