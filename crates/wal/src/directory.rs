//! The directory of a batch: what stands where, written before and again behind the data.
//!
//! ```text
//! batch:  directory | data sectors | zero padding | directory again      (whole 4096-byte blocks)
//! sector of a directory: 48 bytes head (checksum, magic, shape of the batch) | 464 bytes body
//! body:   prologue (24 bytes) | records | checksum of every data sector
//! ```
//!
//! Every directory sector describes the whole batch, so that one readable sector of either copy suffices to find
//! both copies, and a body is pieced together from whichever copy of each sector verifies.

use crate::format::{BLOCK_SECTORS, Lsn, SECTOR, SectorSums, SegmentNo, sectors_for};

const MAGIC: [u8; 4] = *b"LWd1";
const HEAD_LEN: usize = 48;
/// Bytes of a directory body in one sector.
pub(crate) const BODY_PER_SECTOR: usize = SECTOR - HEAD_LEN;
const PROLOGUE_LEN: usize = 24;
const SUM_LEN: usize = 4;

/// Place and extent of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) lsn: Lsn,
    /// Every batch up to this one was durable before this one was written.
    pub(crate) durable: Lsn,
    /// First sector of the batch in its segment.
    pub(crate) start: u32,
    /// Sectors of the batch.
    pub(crate) total: u32,
    /// Sectors of one copy of the directory.
    pub(crate) directory: u32,
    /// Sectors of data.
    pub(crate) data: u32,
}

impl Shape {
    pub(crate) fn data_start(&self) -> u32 {
        self.start + self.directory
    }

    pub(crate) fn end(&self) -> u32 {
        self.start + self.total
    }

    /// Sector of part `index` of a copy of the directory.
    pub(crate) fn directory_sector(&self, index: u32, copy: Copy) -> u32 {
        match copy {
            Copy::First => self.start + index,
            Copy::Last => self.end() - self.directory + index,
        }
    }

    fn is_sound(&self) -> bool {
        let parts = self.directory.checked_mul(2).and_then(|d| d.checked_add(self.data));
        self.directory > 0
            && self.start.is_multiple_of(BLOCK_SECTORS)
            && self.total.is_multiple_of(BLOCK_SECTORS)
            && parts.is_some_and(|parts| parts <= self.total && self.total - parts < BLOCK_SECTORS)
            && self.start.checked_add(self.total).is_some()
    }
}

/// Which of the two copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copy {
    First,
    Last,
}

/// What a directory says besides records and checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prologue {
    /// Hash of the directory of the batch before.
    pub(crate) previous_hash: u64,
    /// Segments before this one are not needed any more.
    pub(crate) first_segment: SegmentNo,
}

/// Sizes of a batch with these records and this much data; `None` if they exceed what a segment could address.
pub(crate) fn measure(records_len: usize, data_len: usize) -> Option<(u32, u32, u32)> {
    let data = sectors_for(data_len)?;
    let sums = usize::try_from(data).ok()?.checked_mul(SUM_LEN)?;
    let body = PROLOGUE_LEN.checked_add(records_len)?.checked_add(sums)?;
    let directory = u32::try_from(body.div_ceil(BODY_PER_SECTOR)).ok()?;
    let total = directory.checked_mul(2)?.checked_add(data)?.checked_next_multiple_of(BLOCK_SECTORS)?;
    Some((directory, data, total))
}

/// Hash that the next directory quotes.
pub(crate) fn hash(lsn: Lsn, body: &[u8]) -> u64 {
    crate::format::directory_hash(lsn, body)
}

/// Writes the body of a directory.
pub(crate) fn encode_body(
    out: &mut Vec<u8>,
    prologue: &Prologue,
    records: &[u8],
    data_sums: impl Iterator<Item = u32>,
) {
    out.clear();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&u32::try_from(records.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&prologue.previous_hash.to_le_bytes());
    out.extend_from_slice(&prologue.first_segment.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(records);
    for sum in data_sums {
        out.extend_from_slice(&sum.to_le_bytes());
    }
    let len = u32::try_from(out.len()).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(at) = out.first_chunk_mut::<4>() {
        *at = len;
    }
}

/// Appends one copy of the directory to `out`.
pub(crate) fn encode_sectors(out: &mut Vec<u8>, sums: &SectorSums, shape: &Shape, copy: Copy, body: &[u8]) {
    let mut parts = body.chunks(BODY_PER_SECTOR);
    for index in 0..shape.directory {
        let begin = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&shape.lsn.0.to_le_bytes());
        out.extend_from_slice(&shape.durable.0.to_le_bytes());
        for word in [shape.start, shape.total, shape.directory, shape.data, index, copy as u32] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(parts.next().unwrap_or_default());
        out.resize(begin + SECTOR, 0);
        let sector = shape.directory_sector(index, copy);
        if let Some((sum, rest)) = out.get_mut(begin..).and_then(<[u8]>::split_first_chunk_mut::<4>) {
            *sum = sums.of(sector, rest).to_le_bytes();
        }
    }
}

/// A directory sector that verified.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirectorySector<'a> {
    pub(crate) shape: Shape,
    pub(crate) index: u32,
    pub(crate) body: &'a [u8],
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// Reads a sector as part of a directory; `None` if it is none or does not verify at this place.
pub(crate) fn parse_sector<'a>(
    sums: &SectorSums,
    sector: u32,
    bytes: &'a [u8],
) -> Option<DirectorySector<'a>> {
    if bytes.len() != SECTOR
        || bytes.get(4..8)? != MAGIC
        || word(bytes, 0)? != sums.of(sector, bytes.get(4..)?)
    {
        return None;
    }
    let shape = Shape {
        lsn: Lsn(long(bytes, 8)?),
        durable: Lsn(long(bytes, 16)?),
        start: word(bytes, 24)?,
        total: word(bytes, 28)?,
        directory: word(bytes, 32)?,
        data: word(bytes, 36)?,
    };
    let index = word(bytes, 40)?;
    let copy = match word(bytes, 44)? {
        0 => Copy::First,
        1 => Copy::Last,
        _ => return None,
    };
    let placed = shape.is_sound() && index < shape.directory && shape.directory_sector(index, copy) == sector;
    placed.then_some(DirectorySector { shape, index, body: bytes.get(HEAD_LEN..)? })
}

/// True if the bytes look like a directory sector of batch `lsn`, whether or not they verify.
pub(crate) fn resembles(bytes: &[u8], lsn: Lsn) -> bool {
    bytes.get(4..8) == Some(&MAGIC[..]) && long(bytes, 8) == Some(lsn.0)
}

/// A whole directory.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) shape: Shape,
    pub(crate) prologue: Prologue,
    body: Vec<u8>,
    records_end: usize,
}

impl Directory {
    /// Reads a body that was pieced together from verified sectors.
    pub(crate) fn parse(shape: Shape, mut body: Vec<u8>) -> Option<Self> {
        let len = usize::try_from(word(&body, 0)?).ok()?;
        let records_len = usize::try_from(word(&body, 4)?).ok()?;
        let prologue = Prologue { previous_hash: long(&body, 8)?, first_segment: word(&body, 16)? };
        let records_end = PROLOGUE_LEN.checked_add(records_len)?;
        let sums_len = usize::try_from(shape.data).ok()?.checked_mul(SUM_LEN)?;
        if len > body.len() || records_end.checked_add(sums_len)? != len {
            return None;
        }
        body.truncate(len);
        Some(Self { shape, prologue, body, records_end })
    }

    pub(crate) fn records(&self) -> &[u8] {
        self.body.get(PROLOGUE_LEN..self.records_end).unwrap_or_default()
    }

    /// Checksum that data sector `index` must have.
    pub(crate) fn data_sum(&self, index: u32) -> Option<u32> {
        let at = usize::try_from(index).ok()?.checked_mul(SUM_LEN)?.checked_add(self.records_end)?;
        word(&self.body, at)
    }

    pub(crate) fn hash(&self) -> u64 {
        crate::format::directory_hash(self.shape.lsn, &self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_batch_takes_one_block() {
        // One directory sector, six data sectors, the directory again.
        assert_eq!(measure(200, 6 * 512), Some((1, 6, 8)));
        assert_eq!(measure(0, 0), Some((1, 0, 8)));
        assert_eq!(measure(200, 6 * 512 + 1), Some((1, 7, 16)));
    }

    #[test]
    fn sectors_round_trip_from_either_copy_and_only_in_their_place() {
        let sums = SectorSums::new(&[3; 16], 2);
        let records: Vec<u8> = (0..1000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let (directory, data, total) = measure(records.len(), 700).unwrap();
        let shape = Shape { lsn: Lsn(5), durable: Lsn(4), start: 16, total, directory, data };
        let mut body = Vec::new();
        let prologue = Prologue { previous_hash: 77, first_segment: 1 };
        encode_body(&mut body, &prologue, &records, [10, 20].into_iter());
        for copy in [Copy::First, Copy::Last] {
            let mut out = Vec::new();
            encode_sectors(&mut out, &sums, &shape, copy, &body);
            let mut joined = Vec::new();
            for (index, bytes) in (0..).zip(out.chunks(SECTOR)) {
                let place = shape.directory_sector(index, copy);
                let sector = parse_sector(&sums, place, bytes).unwrap();
                assert_eq!((sector.shape, sector.index), (shape, index));
                joined.extend_from_slice(sector.body);
                assert!(parse_sector(&sums, place + 8, bytes).is_none());
                assert!(resembles(bytes, Lsn(5)) && !resembles(bytes, Lsn(6)));
            }
            let parsed = Directory::parse(shape, joined).unwrap();
            assert_eq!((parsed.records(), parsed.prologue), (&records[..], prologue));
            assert_eq!(
                (parsed.data_sum(0), parsed.data_sum(1), parsed.data_sum(2)),
                (Some(10), Some(20), None)
            );
            assert_eq!(parsed.hash(), crate::format::directory_hash(Lsn(5), &body));
        }
    }
}
