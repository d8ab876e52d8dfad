//! Segment files: names, handles, and filling them with zeros ahead of use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::{Disk, DiskFile, OpenMode};

use crate::error::Error;
use crate::format::{SECTOR, SegmentNo, byte_offset};
use crate::quarantine;

const SUFFIX: &str = ".wal";
const UNFINISHED_SUFFIX: &str = ".new";
/// Bytes that one step of preparing a segment writes.
const STEP_BYTES: usize = 1 << 20;

/// Directories of the log.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) wal: PathBuf,
    pub(crate) quarantine: PathBuf,
}

impl Paths {
    pub(crate) fn new(store_dir: &Path) -> Self {
        Self { wal: store_dir.join("wal"), quarantine: store_dir.join("quarantine") }
    }

    pub(crate) fn segment(&self, no: SegmentNo) -> PathBuf {
        self.wal.join(format!("{no:010}{SUFFIX}"))
    }

    /// Where a segment is put away; with a suffix, what stands beside it there.
    pub(crate) fn quarantined(&self, no: SegmentNo, suffix: &str) -> PathBuf {
        self.quarantine.join(format!("{no:010}{SUFFIX}{suffix}"))
    }

    fn unfinished(&self, no: SegmentNo) -> PathBuf {
        self.wal.join(format!("{no:010}{UNFINISHED_SUFFIX}"))
    }
}

/// Number of the segment with this file name.
pub(crate) fn segment_no(name: &str) -> Option<SegmentNo> {
    let digits = name.strip_suffix(SUFFIX)?;
    let no: SegmentNo = digits.parse().ok()?;
    (digits.len() == 10 && no > 0).then_some(no)
}

pub(crate) fn is_unfinished(name: &str) -> bool {
    name.ends_with(UNFINISHED_SUFFIX)
}

/// An open segment.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) no: SegmentNo,
    /// Length as it was made, in sectors.
    pub(crate) sectors: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Why the segment must be kept when the log is done with it.
    pub(crate) damage: Option<&'static str>,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("no", &self.no)
            .field("sectors", &self.sectors)
            .finish_non_exhaustive()
    }
}

impl Segment {
    pub(crate) fn bytes(&self) -> u64 {
        byte_offset(self.sectors)
    }
}

/// A segment that is ready for use. Give it to [`crate::Wal::install`].
#[derive(Debug)]
pub struct PreparedSegment(pub(crate) Segment);

/// A segment to make.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) no: SegmentNo,
    pub(crate) sectors: u32,
    /// A file that is no longer needed and may be filled again instead of making a new one.
    pub(crate) recycled: Option<PathBuf>,
}

/// Slow file work that runs beside the log, on another thread: it puts away segments that are no longer needed and
/// fills the next one with zeros. Call [`PrepareSegment::step`] until it answers `Done`, pausing as much as the disk
/// needs, and hand the outcome to [`crate::Wal::install`] or [`crate::Wal::prepare_failed`].
pub struct PrepareSegment {
    disk: Arc<dyn Disk>,
    paths: Paths,
    quarantined: Vec<(SegmentNo, &'static str)>,
    removed: Vec<PathBuf>,
    target: Option<Target>,
    filling: Option<(Arc<dyn DiskFile>, u64)>,
    /// Sync after every step, so that no later sync of the log waits for a whole segment's zeros.
    paced: bool,
    /// Bytes that a new file leaves free on the disk.
    left_free: u64,
}

impl std::fmt::Debug for PrepareSegment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrepareSegment").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Outcome of a step.
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    More,
    /// The work is done; the segment is missing if only files had to be put away.
    Done(Option<PreparedSegment>),
}

impl PrepareSegment {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        paths: Paths,
        quarantined: Vec<(SegmentNo, &'static str)>,
        removed: Vec<PathBuf>,
        target: Option<Target>,
    ) -> Self {
        Self { disk, paths, quarantined, removed, target, filling: None, paced: true, left_free: 0 }
    }

    /// The same, but a new file leaves so many bytes free on the disk.
    pub(crate) fn leaving(self, left_free: u64) -> Self {
        Self { left_free, ..self }
    }

    /// Does a bounded piece of the work. After an error the job is over.
    pub fn step(&mut self) -> Result<Step, Error> {
        let outcome = self.advance();
        if let (Err(_), Some(target)) = (&outcome, &self.target) {
            // A half made file must not keep the space whose lack made this fail. If it stays, the next opening
            // removes it.
            let _ = self.disk.remove_file(&self.paths.unfinished(target.no));
        }
        outcome
    }

    fn advance(&mut self) -> Result<Step, Error> {
        // What frees space comes first: the rest may need some.
        if let Some(path) = self.removed.pop() {
            match self.disk.remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path)(e)),
                _ => return Ok(Step::More),
            }
        }
        if let Some((no, reason)) = self.quarantined.pop() {
            quarantine::put_away(&*self.disk, &self.paths, no, reason)?;
            return Ok(Step::More);
        }
        let Some(target) = &self.target else { return Ok(Step::Done(None)) };
        let bytes = byte_offset(target.sectors);
        let unfinished = self.paths.unfinished(target.no);
        let Some((file, filled)) = &mut self.filling else {
            self.filling = Some((self.begin(target, &unfinished)?, 0));
            return Ok(Step::More);
        };
        if *filled < bytes {
            let step = usize::try_from(bytes - *filled).map_or(STEP_BYTES, |left| left.min(STEP_BYTES));
            file.write_zeros_at(step, *filled).map_err(Error::space_or_io("fill", unfinished))?;
            *filled += step as u64;
            if self.paced {
                file.sync_data().map_err(Error::space_or_io("sync", self.paths.unfinished(target.no)))?;
            }
            return Ok(Step::More);
        }
        file.sync_data().map_err(Error::space_or_io("sync", &unfinished))?;
        let path = self.paths.segment(target.no);
        self.disk.rename(&unfinished, &path).map_err(Error::space_or_io("rename", &unfinished))?;
        self.disk.sync_dir(&self.paths.wal).map_err(Error::space_or_io("sync", &self.paths.wal))?;
        let segment =
            Segment { no: target.no, sectors: target.sectors, path, file: Arc::clone(file), damage: None };
        Ok(Step::Done(Some(PreparedSegment(segment))))
    }

    /// Does all of the work at once.
    pub fn run(mut self) -> Result<Option<PreparedSegment>, Error> {
        self.paced = false;
        loop {
            if let Step::Done(prepared) = self.step()? {
                return Ok(prepared);
            }
        }
    }

    fn begin(&self, target: &Target, unfinished: &Path) -> Result<Arc<dyn DiskFile>, Error> {
        let bytes = byte_offset(target.sectors);
        if self.disk.exists(unfinished).map_err(Error::io("look for", unfinished))? {
            self.disk.remove_file(unfinished).map_err(Error::io("remove", unfinished))?;
        }
        if let Some(recycled) = &target.recycled {
            // The old name must be gone for good before the old content is, or a crash would show a damaged segment.
            match self.disk.rename(recycled, unfinished) {
                Ok(()) => {
                    self.disk.sync_dir(&self.paths.wal).map_err(Error::io("sync", &self.paths.wal))?;
                    let file =
                        self.disk.open(unfinished, OpenMode::Reuse).map_err(Error::io("open", unfinished))?;
                    if file.len().map_err(Error::io("measure", unfinished))? != bytes {
                        file.set_len(bytes).map_err(Error::space_or_io("resize", unfinished))?;
                    }
                    return Ok(file);
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("rename", recycled)(e)),
            }
        }
        // Filling the disk to find out that it is too small would take the space from those who could make room.
        if self.disk.free_space(&self.paths.wal).is_ok_and(|free| free < bytes + self.left_free) {
            return Err(Error::DiskFull { path: unfinished.to_owned() });
        }
        self.disk.open(unfinished, OpenMode::Create).map_err(Error::space_or_io("create", unfinished))
    }
}

/// Sectors in a segment of this many bytes.
pub(crate) fn sectors_of(bytes: u64) -> u32 {
    u32::try_from(bytes / SECTOR as u64).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::{Paths, segment_no};
    use std::path::Path;

    #[test]
    fn names_round_trip() {
        let path = Paths::new(Path::new("/s")).segment(17);
        assert_eq!(segment_no(path.file_name().unwrap().to_str().unwrap()), Some(17));
        for other in ["17.wal", "0000000000.wal", "0000000017.new", "x000000017.wal"] {
            assert_eq!(segment_no(other), None, "{other}");
        }
    }
}
