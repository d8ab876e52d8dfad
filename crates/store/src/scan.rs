use std::io;

use linnet_env::DiskFile;
use linnet_ids::StreamSeq;

use crate::block_index::BlockIndex;
use crate::jobs::{BlockFile, HEADER, is_damage};
use crate::packed::{Frame, Key};
use crate::record::{FIXED, Record, Seed};
use crate::state_file::SavedBlock;

/// Bytes asked of the disk at once.
const CHUNK: usize = 1 << 20;
/// Bytes asked of it again where it cannot read: what a disk loses at once.
const SECTOR: usize = 512;

/// The data of a block file, at most `len` bytes. Sectors that cannot be read, and damaged frames of a packed file, come
/// back as zeros, which no record survives; the end of the file ends the data. Only an error that says nothing about what
/// is stored is returned.
pub(crate) fn read_data(file: &BlockFile, len: u64) -> io::Result<Vec<u8>> {
    let handle = file.for_reading()?;
    match file.frames(&*handle)? {
        None => read_around_damage(&*handle, HEADER, len),
        Some(frames) => unpack(&*handle, file.key(), &frames, len),
    }
}

fn unpack(handle: &dyn DiskFile, key: Key, frames: &[Frame], len: u64) -> io::Result<Vec<u8>> {
    let mut data = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?];
    for frame in frames {
        let Some(place) = data.get_mut(frame.span()) else { continue };
        match frame.read(handle, key) {
            Ok(bytes) => place.copy_from_slice(&bytes),
            Err(e) if is_damage(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(data)
}

/// At most `len` bytes of a file from `from` on, with zeros for sectors that cannot be read.
pub(crate) fn read_around_damage(file: &dyn DiskFile, from: u64, len: u64) -> io::Result<Vec<u8>> {
    let present = file.len()?.saturating_sub(from).min(len);
    let mut data = vec![0; usize::try_from(present).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let mut at = 0;
    while at < data.len() {
        let end = data.len().min(at + CHUNK);
        match file.read_exact_at(&mut data[at..end], from + at as u64) {
            Ok(()) => {}
            Err(e) if is_damage(&e) => read_by_sector(file, &mut data[at..end], from + at as u64)?,
            Err(e) => return Err(e),
        }
        at = end;
    }
    Ok(data)
}

fn read_by_sector(file: &dyn DiskFile, out: &mut [u8], offset: u64) -> io::Result<()> {
    let mut at = 0;
    while at < out.len() {
        let within = usize::try_from((offset + at as u64) % SECTOR as u64).unwrap_or(0);
        let end = out.len().min(at + SECTOR - within);
        match file.read_exact_at(&mut out[at..end], offset + at as u64) {
            Ok(()) => {}
            Err(e) if is_damage(&e) => out[at..end].fill(0),
            Err(e) => return Err(e),
        }
        at = end;
    }
    Ok(())
}

/// Finds the records in a block's data. After damage the search goes on at the next place where a record of this
/// block with an intact checksum starts.
pub(crate) fn scan(data: &[u8], seed: Seed, saved: &SavedBlock) -> BlockIndex {
    let scanner = Scanner { data, seed, saved };
    let (found, end) = scanner.records();
    let mut index = BlockIndex::empty(end as u64 == saved.len);
    let (mut at, mut next_seq) = (0, saved.seqs.first());
    for place in ascending(found) {
        if place.at > at {
            index.is_whole = false;
            index.push_gap(next_seq, at);
        }
        // Verified a moment ago.
        if let Ok((record, len)) = Record::view(&data[place.at..]) {
            index.push_record(&record, place.at);
            at = place.at + len;
            next_seq = place.seq + 1;
        }
    }
    index.is_whole &= at == end;
    index.data_len = u32::try_from(at).unwrap_or(u32::MAX);
    index
}

/// Where a record starts.
#[derive(Clone, Copy)]
struct Place {
    at: usize,
    seq: StreamSeq,
}

/// As many of the records as can be kept in ascending order. A misplaced sector shows records that belong further
/// ahead or behind: one of those must not hide all that lie between.
fn ascending(found: Vec<Place>) -> Vec<Place> {
    if found.windows(2).all(|pair| pair[0].seq < pair[1].seq) {
        return found;
    }
    // Longest increasing subsequence: for each length, the record with the lowest sequence that ends one.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(found.len());
    for (n, place) in found.iter().enumerate() {
        let len = ends.partition_point(|end| found[*end].seq < place.seq);
        before.push(len.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(len) {
            Some(end) => *end = n,
            None => ends.push(n),
        }
    }
    let last = ends.last().copied();
    let mut chosen: Vec<Place> = std::iter::successors(last, |n| before[*n]).map(|n| found[n]).collect();
    chosen.reverse();
    chosen
}

struct Scanner<'a> {
    data: &'a [u8],
    seed: Seed,
    saved: &'a SavedBlock,
}

impl<'a> Scanner<'a> {
    /// Everything that is an intact record of this block, one behind the other, and where the search ended.
    fn records(&self) -> (Vec<Place>, usize) {
        let mut found = Vec::with_capacity(self.saved.seqs.len());
        let mut at = 0;
        while at < self.data.len() {
            if let Some((record, len)) = self.record_at(at) {
                found.push(Place { at, seq: record.seq });
                at += len;
            } else if let Some(next) = self.resynchronise(at) {
                at = next;
            } else {
                // Whatever is behind is no record: not the end of this block's records.
                return (found, self.data.len());
            }
        }
        (found, at)
    }

    /// The record at a position, if it is one of this block.
    fn record_at(&self, at: usize) -> Option<(Record<'a>, usize)> {
        let (record, len) = Record::decode(self.data.get(at..)?, self.seed).ok()?;
        self.is_of_block(record.seq).then_some((record, len))
    }

    fn is_of_block(&self, seq: StreamSeq) -> bool {
        self.saved.seqs.row_of(seq).is_some()
    }

    /// Where the next record starts, if any follows the damage at a position.
    fn resynchronise(&self, at: usize) -> Option<usize> {
        self.skip_damaged_record(at).or_else(|| {
            (at + 1..self.data.len().saturating_sub(FIXED - 1)).find(|at| {
                let plausible = self.field(at + 8).is_some_and(|seq| self.is_of_block(seq));
                plausible && self.record_at(*at).is_some()
            })
        })
    }

    /// The end of a record whose frame still makes sense: a record follows, and between the two sequences there is
    /// none that is missed. Searching inside the payload could take a message that contains a copy of a record
    /// for that record.
    fn skip_damaged_record(&self, at: usize) -> Option<usize> {
        let fixed = self.data.get(at..at + FIXED)?;
        let len = u32::from_le_bytes(*fixed.first_chunk()?) as usize;
        let seq = self.field(at + 8).filter(|seq| self.is_of_block(*seq))?;
        let next = at.checked_add(len.max(FIXED))?;
        let (following, _) = self.record_at(next)?;
        let none_missed =
            seq < following.seq && self.saved.live_between(seq + 1, following.seq).next().is_none();
        none_missed.then_some(next)
    }

    fn field(&self, at: usize) -> Option<u64> {
        self.data.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}
