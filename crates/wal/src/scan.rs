//! Reads one segment from its first batch to its end, and judges what does not verify: torn or damaged.

use crate::directory::{BODY_PER_SECTOR, Copy, Directory, Shape, resembles};
use crate::error::Error;
use crate::format::{BLOCK_SECTORS, Lsn};
use crate::reader::SegmentReader;
use crate::record::{Cursor, Record, are_well_formed};

/// A batch whose directory is known.
#[derive(Debug)]
pub(crate) struct ScannedBatch {
    pub(crate) directory: Directory,
    /// Data sectors that do not verify, ascending.
    pub(crate) bad_data: Vec<u32>,
}

impl ScannedBatch {
    pub(crate) fn shape(&self) -> &Shape {
        &self.directory.shape
    }

    pub(crate) fn first_record(&self) -> Option<Record<'_>> {
        Cursor::new(self.directory.records()).next_record()
    }
}

/// What a scan meets, in order.
#[derive(Debug)]
pub(crate) enum Item {
    Batch(ScannedBatch),
    /// Batches of which no directory can be read stood from here on.
    Lost {
        from: u32,
    },
}

/// How far to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Sector behind the last one that counts.
    pub(crate) limit: u32,
    /// No segment follows: an unfinished batch may stand at the end.
    pub(crate) is_last: bool,
}

/// What stands behind the last batch of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// The segment was ended or cut here.
    Ended,
    /// Space that was never written.
    Clean { at: u32 },
    /// A batch that was never durable.
    Torn { at: u32 },
    /// Something that was or may have been durable and cannot be read.
    Damaged { at: u32 },
}

impl Tail {
    pub(crate) fn at(self) -> Option<u32> {
        match self {
            Self::Ended => None,
            Self::Clean { at } | Self::Torn { at } | Self::Damaged { at } => Some(at),
        }
    }
}

/// Scans a segment and hands every item to `sink`.
pub(crate) fn scan(
    reader: &mut SegmentReader,
    extent: Extent,
    sink: &mut dyn FnMut(Item) -> Result<(), Error>,
) -> Result<Tail, Error> {
    let mut at = 0;
    let mut last_lsn = None;
    while at < extent.limit {
        let Some(shape) = find_directory(reader, at, at, extent.limit) else {
            return end_without_directory(reader, at, last_lsn, extent, sink);
        };
        if shape.start > at {
            sink(Item::Lost { from: at })?;
            at = shape.start;
            continue;
        }
        let verdict = judge(reader, &shape, extent);
        at = shape.end();
        last_lsn = Some(shape.lsn);
        match verdict {
            Verdict::Torn => return Ok(Tail::Torn { at: shape.start }),
            Verdict::Lost => {
                sink(Item::Lost { from: shape.start })?;
                if extent.is_last && find_directory(reader, at, at, extent.limit).is_none() {
                    return Ok(Tail::Damaged { at });
                }
            }
            Verdict::Readable(batch) => {
                let ends = matches!(batch.first_record(), Some(Record::End(_)));
                sink(Item::Batch(batch))?;
                if ends {
                    return Ok(Tail::Ended);
                }
            }
        }
    }
    Ok(if extent.is_last { Tail::Clean { at } } else { Tail::Ended })
}

/// First batch that starts at or behind `at` and of which a directory sector in `from..limit` verifies.
fn find_directory(reader: &mut SegmentReader, at: u32, from: u32, limit: u32) -> Option<Shape> {
    (from..limit).find_map(|sector| {
        let found = reader.directory_sector(sector)?;
        (found.shape.start >= at && found.shape.end() <= limit).then_some(found.shape)
    })
}

enum Verdict {
    Readable(ScannedBatch),
    Lost,
    Torn,
}

/// Judges a batch of which at least one directory sector verifies.
fn judge(reader: &mut SegmentReader, shape: &Shape, extent: Extent) -> Verdict {
    let (directory, directory_zero) = read_directory(reader, shape);
    let (bad_data, failing_zero) = match &directory {
        Some(directory) => read_data(reader, directory),
        None => (Vec::new(), directory_zero),
    };
    let fails = directory.is_none() || !bad_data.is_empty();
    // A batch is written only when the one before is durable, so that only the very last can be torn.
    if fails
        && failing_zero
        && extent.is_last
        && find_directory(reader, shape.end(), shape.end(), extent.limit).is_none()
    {
        return Verdict::Torn;
    }
    match directory {
        Some(directory) => Verdict::Readable(ScannedBatch { directory, bad_data }),
        None => Verdict::Lost,
    }
}

/// Pieces a directory together. The flag says, for one that cannot be, that all failing sectors read as zeros.
fn read_directory(reader: &mut SegmentReader, shape: &Shape) -> (Option<Directory>, bool) {
    let mut body = Vec::with_capacity(shape.directory as usize * BODY_PER_SECTOR);
    let mut whole = true;
    let mut zero = true;
    for index in 0..shape.directory {
        let sectors = [Copy::First, Copy::Last].map(|copy| shape.directory_sector(index, copy));
        let found = sectors.iter().any(|sector| match reader.directory_sector(*sector) {
            Some(found) if found.shape == *shape && found.index == index => {
                body.extend_from_slice(found.body);
                true
            }
            _ => false,
        });
        if !found {
            whole = false;
            zero &= sectors.iter().all(|sector| reader.is_zero(*sector));
        }
    }
    if !whole {
        return (None, zero);
    }
    let data_bytes = u64::from(shape.data) * crate::format::SECTOR as u64;
    let directory =
        Directory::parse(*shape, body).filter(|directory| are_well_formed(directory.records(), data_bytes));
    (directory, false)
}

fn read_data(reader: &mut SegmentReader, directory: &Directory) -> (Vec<u32>, bool) {
    let start = directory.shape.data_start();
    let mut bad = Vec::new();
    let mut zero = true;
    for index in 0..directory.shape.data {
        if !reader.verifies(start + index, directory.data_sum(index)) {
            bad.push(start + index);
            zero &= reader.is_zero(start + index);
        }
    }
    (bad, zero)
}

/// No directory sector verifies from `at` on.
fn end_without_directory(
    reader: &mut SegmentReader,
    at: u32,
    last_lsn: Option<Lsn>,
    extent: Extent,
    sink: &mut dyn FnMut(Item) -> Result<(), Error>,
) -> Result<Tail, Error> {
    if !extent.is_last {
        sink(Item::Lost { from: at })?;
        return Ok(Tail::Ended);
    }
    let mut clean = true;
    let mut damaged = !reader.is_zero(at);
    let next = last_lsn.map(|lsn| Lsn(lsn.0.saturating_add(1)));
    for sector in at..extent.limit {
        let first_of_block = sector.is_multiple_of(BLOCK_SECTORS);
        match reader.sector(sector) {
            Some(bytes) => {
                clean &= bytes.iter().all(|b| *b == 0);
                // Data whose checksum is lost is not judged, but this is no data.
                damaged |= next.is_some_and(|next| resembles(bytes, next));
            }
            None => {
                clean = false;
                damaged |= first_of_block;
            }
        }
    }
    if damaged {
        sink(Item::Lost { from: at })?;
        return Ok(Tail::Damaged { at });
    }
    Ok(if clean { Tail::Clean { at } } else { Tail::Torn { at } })
}

/// The first batch of a segment that another one follows, if its directory can be read.
pub(crate) fn read_first(reader: &mut SegmentReader, limit: u32) -> Option<ScannedBatch> {
    let shape = find_directory(reader, 0, 0, limit).filter(|shape| shape.start == 0)?;
    match judge(reader, &shape, Extent { limit, is_last: false }) {
        Verdict::Readable(batch) => Some(batch),
        Verdict::Lost | Verdict::Torn => None,
    }
}
