use std::hash::BuildHasher;

use hashbrown::HashTable;
use linnet_ids::StreamSeq;

use crate::bytes_reader::Reader;
use crate::record::{FIXED, Record, Seed};
use crate::rows::{HAS_HEADERS, Runs};
use crate::state_file::SavedBlock;

/// First bytes of an index file; CRC-32 of what follows comes next.
const MAGIC: &[u8; 16] = b"linnet index v1\n";
/// Subject of a row that stands for bytes that are no record.
const NO_SUBJECT: u32 = HAS_HEADERS - 1;

/// What opening needs to know about a block's records: found by reading the block, or read from its index file.
#[derive(Default)]
pub(crate) struct BlockIndex {
    pub(crate) seqs: Runs,
    pub(crate) offsets: Vec<u32>,
    /// Index into `names`, with [`HAS_HEADERS`].
    subjects: Vec<u32>,
    names: Names,
    pub(crate) data_len: u32,
    /// False if bytes are missing or no record.
    pub(crate) is_whole: bool,
}

/// Distinct subjects, one after the other.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    table: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

impl Names {
    fn get(&self, id: u32) -> &[u8] {
        let end = self.ends.get(id as usize).map_or(0, |end| *end as usize);
        let start =
            id.checked_sub(1).and_then(|at| self.ends.get(at as usize)).map_or(0, |end| *end as usize);
        self.bytes.get(start..end).unwrap_or_default()
    }

    fn find_or_add(&mut self, name: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(name);
        if let Some(id) = self.table.find(hash, |id| self.get(*id) == name) {
            return *id;
        }
        let id = u32::try_from(self.ends.len()).unwrap_or(NO_SUBJECT);
        self.bytes.extend_from_slice(name);
        self.ends.push(u32::try_from(self.bytes.len()).unwrap_or(u32::MAX));
        let mut table = std::mem::take(&mut self.table);
        table.insert_unique(hash, id, |id| self.hasher.hash_one(self.get(*id)));
        self.table = table;
        id
    }
}

impl BlockIndex {
    /// An index without rows.
    pub(crate) fn empty(is_whole: bool) -> Self {
        Self { is_whole, ..Self::default() }
    }

    pub(crate) fn push_record(&mut self, record: &Record<'_>, offset: usize) {
        let name = self.names.find_or_add(record.subject);
        let headers = if record.headers.is_empty() { 0 } else { HAS_HEADERS };
        self.push(record.seq, offset, name | headers);
    }

    /// Registers bytes that are no record, so that the rows around them keep their lengths. A record with this
    /// sequence or a higher one follows.
    pub(crate) fn push_gap(&mut self, seq: StreamSeq, offset: usize) {
        self.push(seq, offset, NO_SUBJECT);
    }

    fn push(&mut self, seq: StreamSeq, offset: usize, subject: u32) {
        self.seqs.push(seq);
        self.offsets.push(u32::try_from(offset).unwrap_or(u32::MAX));
        self.subjects.push(subject);
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Subject of a row as an index below [`BlockIndex::name_count`]; `None` if it is no record.
    pub(crate) fn name_of(&self, row: usize) -> Option<u32> {
        let name = self.subjects.get(row)? & !HAS_HEADERS;
        (name != NO_SUBJECT).then_some(name)
    }

    pub(crate) fn headers_mark(&self, row: usize) -> u32 {
        self.subjects.get(row).map_or(0, |subject| subject & HAS_HEADERS)
    }

    pub(crate) fn name_count(&self) -> usize {
        self.names.ends.len()
    }

    pub(crate) fn name(&self, name: u32) -> &[u8] {
        self.names.get(name)
    }

    /// Encoded length of a row's record.
    pub(crate) fn len_of(&self, row: usize) -> usize {
        let end = self.offsets.get(row + 1).copied().unwrap_or(self.data_len);
        let start = self.offsets.get(row).copied().unwrap_or(end);
        end.saturating_sub(start) as usize
    }

    /// The subject column: each a name below [`BlockIndex::name_count`] with [`HAS_HEADERS`], if there are records only.
    pub(crate) fn take_subjects(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.subjects)
    }

    /// True if every row is a record.
    pub(crate) fn has_records_only(&self) -> bool {
        let names = self.name_count();
        self.subjects.iter().all(|subject| ((subject & !HAS_HEADERS) as usize) < names)
    }

    /// Bytes from the first row's start to the last one's end.
    pub(crate) fn span_of_rows(&self) -> u64 {
        let start = self.offsets.first().copied().unwrap_or(self.data_len);
        u64::from(self.data_len.saturating_sub(start))
    }

    /// Bytes that are records.
    pub(crate) fn record_bytes(&self) -> u64 {
        if self.is_whole {
            return u64::from(self.data_len);
        }
        (0..self.len()).filter(|row| self.name_of(*row).is_some()).map(|row| self.len_of(row) as u64).sum()
    }

    /// Content of the index file of block `number`.
    pub(crate) fn encode(&self, number: u64, seed: Seed) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.len() * 8 + self.names.bytes.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&number.to_le_bytes());
        let word = |out: &mut Vec<u8>, n: u32| out.extend_from_slice(&n.to_le_bytes());
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        word(&mut out, self.data_len);
        word(&mut out, count(self.len()));
        word(&mut out, count(self.seqs.parts().len()));
        for (row, seq) in self.seqs.parts() {
            word(&mut out, row);
            out.extend_from_slice(&seq.to_le_bytes());
        }
        self.offsets.iter().for_each(|offset| word(&mut out, *offset));
        self.subjects.iter().for_each(|subject| word(&mut out, *subject));
        word(&mut out, count(self.name_count()));
        for name in 0..count(self.name_count()) {
            let name = self.names.get(name);
            out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
            out.extend_from_slice(name);
        }
        let crc = seed.checksum(&out[MAGIC.len() + 4..]);
        out[MAGIC.len()..MAGIC.len() + 4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// True if these are the bytes of some index as it was written.
    pub(crate) fn is_intact(bytes: &[u8], seed: Seed) -> bool {
        let mut reader = Reader(bytes.strip_prefix(MAGIC.as_slice()).unwrap_or_default());
        reader.u32().is_some_and(|crc| crc == seed.checksum(reader.0))
    }

    /// The index of a block, if the bytes are intact and about this block as it was saved.
    pub(crate) fn decode(bytes: &[u8], seed: Seed, saved: &SavedBlock) -> Option<Self> {
        let mut reader = Reader(bytes.strip_prefix(MAGIC.as_slice())?);
        if reader.u32()? != seed.checksum(reader.0) {
            return None;
        }
        let number = reader.u64()?;
        let data_len = reader.u32()?;
        if number != saved.number || u64::from(data_len) != saved.len {
            return None;
        }
        let rows = reader.u32()?;
        let mut runs = Vec::new();
        for _ in 0..reader.u32()? {
            runs.push((reader.u32()?, reader.u64()?));
        }
        let seqs = Runs::from_parts(runs, rows)?;
        let offsets = reader.column(rows as usize)?;
        let subjects = reader.column(rows as usize)?;
        let mut names = Names::default();
        for _ in 0..reader.u32()? {
            let len = reader.u16()?;
            names.bytes.extend_from_slice(reader.bytes(usize::from(len))?);
            names.ends.push(u32::try_from(names.bytes.len()).ok()?);
        }
        let index = Self { seqs, offsets, subjects, names, data_len, is_whole: true };
        index.is_consistent().then_some(index)
    }

    /// The checksum says that these are the bytes that were written; this keeps a mistake made then from becoming
    /// a panic now.
    fn is_consistent(&self) -> bool {
        let fits = (0..self.len()).all(|row| {
            self.name_of(row)
                .is_none_or(|name| (name as usize) < self.name_count() && self.len_of(row) >= FIXED)
        });
        fits && self.offsets.is_sorted() && self.offsets.last().is_none_or(|last| *last <= self.data_len)
    }
}
