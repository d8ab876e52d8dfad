//! Finds out which segment files make up the log, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use linnet_env::{Disk, OpenMode};

use crate::error::Error;
use crate::format::{FORMAT_VERSION, SECTOR, SectorSums, SegmentNo};
use crate::quarantine;
use crate::reader::SegmentReader;
use crate::record::{End, Record, Start};
use crate::report::TornTail;
use crate::scan::{Extent, Item, Tail, scan};
use crate::segment::{Paths, Segment, is_unfinished, sectors_of, segment_no};

/// Files of the log's directory.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    paths: Paths,
    store: [u8; 16],
    /// Length of every segment file.
    pub(crate) lengths: BTreeMap<SegmentNo, u64>,
    /// Files that a crash left half made.
    pub(crate) unfinished: Vec<PathBuf>,
    /// Segments that an earlier life found damaged.
    pub(crate) noted: BTreeSet<SegmentNo>,
}

impl Files {
    pub(crate) fn list(disk: Arc<dyn Disk>, paths: Paths, store: [u8; 16]) -> Result<Self, Error> {
        let entries = disk.list(&paths.wal).map_err(Error::io("list", &paths.wal))?;
        let noted = quarantine::noted(&*disk, &paths)?;
        let mut lengths = BTreeMap::new();
        let mut unfinished = Vec::new();
        for entry in entries.into_iter().filter(|e| !e.is_dir) {
            if let Some(no) = segment_no(&entry.name) {
                lengths.insert(no, entry.len);
            } else if is_unfinished(&entry.name) {
                unfinished.push(paths.wal.join(entry.name));
            }
        }
        Ok(Self { disk, paths, store, lengths, unfinished, noted })
    }

    pub(crate) fn len(&self, no: SegmentNo) -> u64 {
        self.lengths.get(&no).copied().unwrap_or(0)
    }

    /// Sectors of a file, a cut one included.
    pub(crate) fn sectors(&self, no: SegmentNo) -> u32 {
        u32::try_from(self.len(no).div_ceil(SECTOR as u64)).unwrap_or(u32::MAX)
    }

    pub(crate) fn segment(&self, no: SegmentNo) -> Result<Segment, Error> {
        let path = self.paths.segment(no);
        let file = self.disk.open(&path, OpenMode::ReadWrite).map_err(Error::io("open", &path))?;
        Ok(Segment { no, sectors: sectors_of(self.len(no)), path, file, damage: None })
    }

    pub(crate) fn sums(&self, no: SegmentNo) -> SectorSums {
        SectorSums::new(&self.store, no)
    }

    pub(crate) fn reader(&self, segment: &Segment) -> SegmentReader {
        SegmentReader::new(Arc::clone(&segment.file), self.sums(segment.no))
    }
}

/// What a segment file turned out to be.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Only zeros: made ahead of use.
    Blank,
    /// Begun by an opening that did not finish, or by a roll that did not; nothing in it counts.
    Void,
    /// Nothing in it can be read, and that is damage.
    Unreadable,
    /// Part of the log.
    Begun(Begun),
}

/// First look at a segment of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    /// Its start record, unless that is lost.
    pub(crate) start: Option<Start>,
    /// From the last batch that can be read.
    pub(crate) first_segment: SegmentNo,
    /// Its end record, if it has one.
    pub(crate) end: Option<End>,
}

/// Looks through a whole segment as if it were the newest.
pub(crate) fn examine(files: &Files, segment: &Segment) -> Result<Kind, Error> {
    let mut begun = Begun { start: None, first_segment: 0, end: None };
    let mut batches = 0_u64;
    let mut wrong_version = None;
    let extent = Extent { limit: files.sectors(segment.no), is_last: true };
    let tail = scan(&mut files.reader(segment), extent, &mut |item| {
        if let Item::Batch(batch) = item {
            batches += 1;
            begun.first_segment = batch.directory.prologue.first_segment;
            match batch.first_record() {
                Some(Record::Start(start)) => {
                    if start.version != FORMAT_VERSION {
                        wrong_version = Some(start.version);
                    }
                    if batch.shape().start == 0 && start.previous < segment.no {
                        begun.start = Some(start);
                    }
                }
                Some(Record::End(end)) => begun.end = Some(end),
                _ => {}
            }
        }
        Ok(())
    })?;
    if let Some(found) = wrong_version {
        return Err(Error::Version { path: segment.path.clone(), found });
    }
    Ok(match tail {
        _ if batches > 0 => Kind::Begun(begun),
        Tail::Clean { at: 0 } if files.len(segment.no) >= crate::format::SEGMENT_BYTES_MIN => Kind::Blank,
        Tail::Clean { at: 0 } | Tail::Damaged { at: 0 } => Kind::Unreadable,
        Tail::Torn { at: 0 } => Kind::Void,
        _ => Kind::Begun(begun),
    })
}

/// A segment of the log with what its successor says about it.
pub(crate) struct Link {
    pub(crate) segment: Segment,
    /// Sector from which on its content is void, if the successor can be read.
    pub(crate) cut: Option<u32>,
    pub(crate) start: Option<Start>,
    /// Segments that should stand between the one before and this one do not exist.
    pub(crate) missing_before: Option<SegmentNo>,
}

/// The segments of the log and those that are not part of it.
pub(crate) struct Chain {
    /// Oldest first.
    pub(crate) links: Vec<Link>,
    /// Needed by the last batch.
    pub(crate) first_segment: SegmentNo,
    pub(crate) end: Option<End>,
    pub(crate) blank: Vec<Segment>,
    pub(crate) void: Vec<Segment>,
    /// Newer than the log, damaged, and possibly once part of it.
    pub(crate) unreadable: Vec<Segment>,
    pub(crate) torn: Option<TornTail>,
}

impl Chain {
    /// Segments in which the log wrote something.
    pub(crate) fn written(&self) -> impl Iterator<Item = &Segment> {
        self.links.iter().map(|l| &l.segment).chain(&self.void).chain(&self.unreadable)
    }
}

/// Puts the files in order.
pub(crate) fn find_chain(files: &Files) -> Result<Chain, Error> {
    let mut chain = Chain {
        links: Vec::new(),
        first_segment: 0,
        end: None,
        blank: Vec::new(),
        void: Vec::new(),
        unreadable: Vec::new(),
        torn: None,
    };
    for no in files.lengths.keys().rev() {
        let segment = files.segment(*no)?;
        match examine(files, &segment)? {
            Kind::Blank => chain.blank.push(segment),
            Kind::Void => {
                chain.torn = Some(TornTail { segment: *no, offset: 0 });
                chain.void.push(segment);
            }
            Kind::Unreadable => chain.unreadable.push(segment),
            Kind::Begun(begun) => {
                chain.first_segment = begun.first_segment;
                chain.end = begun.end;
                follow(files, segment, begun.start, &mut chain)?;
                break;
            }
        }
    }
    Ok(chain)
}

/// Follows the start records from the newest segment to the first one that is needed.
fn follow(files: &Files, newest: Segment, start: Option<Start>, chain: &mut Chain) -> Result<(), Error> {
    let mut link = Link { segment: newest, cut: None, start, missing_before: None };
    loop {
        let no = link.segment.no;
        let named = link.start.map(|s| s.previous);
        let needed = |candidate: SegmentNo| candidate >= chain.first_segment.max(1);
        if named.is_some_and(|named| !needed(named)) {
            break;
        }
        let (previous, cut) = match named {
            Some(named) if files.lengths.contains_key(&named) => (Some(named), link.start.map(|s| s.cut)),
            Some(named) => {
                link.missing_before = Some(named);
                (files.lengths.range(..named).next_back().map(|(no, _)| *no), None)
            }
            // The start is lost, so that the order of the numbers has to do.
            None => (files.lengths.range(..no).next_back().map(|(no, _)| *no), None),
        };
        let Some(previous) = previous.filter(|previous| needed(*previous)) else {
            if named.is_none() && needed(no.saturating_sub(1)) && no > chain.first_segment {
                link.missing_before = Some(no.saturating_sub(1));
            }
            break;
        };
        let segment = files.segment(previous)?;
        let start = read_start(files, &segment)?;
        let next = Link { segment, cut, start, missing_before: None };
        chain.links.push(std::mem::replace(&mut link, next));
    }
    chain.links.push(link);
    chain.links.reverse();
    Ok(())
}

/// The start record of a segment that another one follows.
fn read_start(files: &Files, segment: &Segment) -> Result<Option<Start>, Error> {
    let mut reader = files.reader(segment);
    let limit = files.sectors(segment.no);
    let Some(batch) = crate::scan::read_first(&mut reader, limit) else { return Ok(None) };
    match batch.first_record() {
        Some(Record::Start(start)) if start.version != FORMAT_VERSION => {
            Err(Error::Version { path: segment.path.clone(), found: start.version })
        }
        Some(Record::Start(start)) if start.previous < segment.no => Ok(Some(start)),
        _ => Ok(None),
    }
}
