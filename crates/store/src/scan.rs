use std::io;

use linnet_env::DiskFile;
use linnet_ids::StreamSeq;

use crate::block_index::BlockIndex;
use crate::jobs::{HEADER, is_damage};
use crate::record::{FIXED, Record, Seed};
use crate::state_file::SavedBlock;

/// Bytes asked of the disk at once.
const CHUNK: usize = 1 << 20;
/// Bytes asked of it again where it cannot read: what a disk loses at once.
const SECTOR: usize = 512;

/// The data of a block file, at most `len` bytes. Sectors that cannot be read come back as zeros, which no record
/// survives; the end of the file ends the data. Only an error that says nothing about what is stored is returned.
pub(crate) fn read_data(file: &dyn DiskFile, len: u64) -> io::Result<Vec<u8>> {
    let present = file.len()?.saturating_sub(HEADER).min(len);
    let mut data = vec![0; usize::try_from(present).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let mut at = 0;
    while at < data.len() {
        let end = data.len().min(at + CHUNK);
        match file.read_exact_at(&mut data[at..end], HEADER + at as u64) {
            Ok(()) => {}
            Err(e) if is_damage(&e) => read_by_sector(file, &mut data[at..end], HEADER + at as u64)?,
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
/// block with a fitting sequence and checksum starts.
pub(crate) fn scan(data: &[u8], seed: Seed, saved: &SavedBlock) -> BlockIndex {
    let mut scanner = Scanner { data, seed, saved, at: 0, expected: saved.seqs.first() };
    let mut index = BlockIndex::default();
    while scanner.at < data.len() {
        if let Some((record, len)) = scanner.record_at(scanner.at) {
            index.push_record(&record, scanner.at);
            scanner.expected = record.seq + 1;
            scanner.at += len;
            continue;
        }
        index.is_whole = false;
        match scanner.resynchronise() {
            Some(at) => {
                index.push_gap(scanner.expected, scanner.at);
                scanner.at = at;
            }
            None => break,
        }
    }
    index.data_len = u32::try_from(scanner.at).unwrap_or(u32::MAX);
    index.is_whole &= scanner.at as u64 == saved.len;
    index
}

struct Scanner<'a> {
    data: &'a [u8],
    seed: Seed,
    saved: &'a SavedBlock,
    at: usize,
    /// The next record has this sequence or a higher one.
    expected: StreamSeq,
}

impl<'a> Scanner<'a> {
    /// The record at a position, if it is one that may be there.
    fn record_at(&self, at: usize) -> Option<(Record<'a>, usize)> {
        let (record, len) = Record::decode(self.data.get(at..)?, self.seed).ok()?;
        self.may_be_next(record.seq).then_some((record, len))
    }

    fn may_be_next(&self, seq: StreamSeq) -> bool {
        seq >= self.expected && self.saved.seqs.row_of(seq).is_some()
    }

    /// Where the next record starts, if any follows the damage at the current position.
    fn resynchronise(&self) -> Option<usize> {
        self.skip_damaged_record().or_else(|| {
            (self.at + 1..self.data.len().saturating_sub(FIXED - 1)).find(|at| {
                let plausible = self.field(at + 8).is_some_and(|seq| self.may_be_next(seq));
                plausible && self.record_at(*at).is_some()
            })
        })
    }

    /// The end of a record whose frame still makes sense: a record follows, and between the two sequences there is
    /// none that is missed. Searching inside the payload could take a message that contains a copy of a record
    /// for that record.
    fn skip_damaged_record(&self) -> Option<usize> {
        let fixed = self.data.get(self.at..self.at + FIXED)?;
        let len = u32::from_le_bytes(*fixed.first_chunk()?) as usize;
        let seq = self.field(self.at + 8).filter(|seq| self.may_be_next(*seq))?;
        let next = self.at.checked_add(len.max(FIXED))?;
        let (following, _) = self.record_at(next)?;
        let none_missed = seq < following.seq
            && self.saved.live_between(self.expected, following.seq).all(|missed| missed == seq);
        none_missed.then_some(next)
    }

    fn field(&self, at: usize) -> Option<u64> {
        self.data.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}
