//! The segment that an opening begins: one that is ready, a new one, or what a full disk still allows.

use std::sync::Arc;

use crate::chain::Chain;
use crate::error::Error;
use crate::format::{SEGMENT_BYTES_MIN, SegmentNo, byte_offset};
use crate::recover::Opening;
use crate::segment::{PrepareSegment, PreparedSegment, Segment, Target, sectors_of};

impl Opening {
    /// A blank segment of at least so many sectors behind all others, and the number for the one to make next. To make
    /// room, segments before `released` may go.
    pub(crate) fn new_segment(
        &mut self,
        chain: &mut Chain,
        least: u32,
        released: SegmentNo,
    ) -> Result<(Segment, SegmentNo), Error> {
        let used_max = chain.written().map(|s| s.no).max().unwrap_or(0);
        let named = chain.end.map_or(0, |e| e.next);
        let numbers = self.files.lengths.keys().chain(&self.files.noted);
        let all_max = numbers.copied().max().unwrap_or(0).max(named);
        let no = all_max.checked_add(1).ok_or(Error::Config)?;
        let least = least.max(sectors_of(SEGMENT_BYTES_MIN));
        let wanted = sectors_of(self.config.first_segment_bytes).max(least);
        chain.blank.sort_unstable_by_key(|s| (s.sectors, s.no));
        if let Some(at) = chain.blank.iter().position(|s| s.no > used_max && s.sectors == wanted) {
            return Ok((chain.blank.remove(at), no));
        }
        match self.make_somehow(no, [wanted, least], released) {
            Ok(segment) => Ok((segment, no.checked_add(1).ok_or(Error::Config)?)),
            Err(Error::DiskFull { .. }) => {
                // What was made for the log to go on in has the space that the disk no longer has.
                match chain.blank.iter().position(|s| s.no > used_max && s.sectors >= least) {
                    Some(at) => Ok((chain.blank.remove(at), no)),
                    None => Err(self.no_space(least)),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// Makes a segment of the size wanted; if the disk is full, frees what it can, then is content with the least.
    fn make_somehow(
        &mut self,
        no: SegmentNo,
        [wanted, least]: [u32; 2],
        released: SegmentNo,
    ) -> Result<Segment, Error> {
        let is_full = |made: &Result<Segment, Error>| matches!(made, Err(Error::DiskFull { .. }));
        let mut made = self.make(no, wanted);
        if is_full(&made) {
            self.remove_released(released)?;
            made = self.make(no, wanted);
        }
        if is_full(&made) && least < wanted {
            made = self.make(no, least);
        }
        made
    }

    fn make(&self, no: SegmentNo, sectors: u32) -> Result<Segment, Error> {
        let target = Some(Target { no, sectors, recycled: None });
        let job = PrepareSegment::new(Arc::clone(&self.disk), self.paths.clone(), vec![], vec![], target);
        job.run()?.map(|PreparedSegment(segment)| segment).ok_or(Error::Config)
    }

    /// Removes segments that an earlier life no longer needed and did not put away. Their space is free afterwards, and
    /// that of half-made files which are gone already.
    fn remove_released(&mut self, released: SegmentNo) -> Result<(), Error> {
        let unneeded = self.files.lengths.range(..released).map(|(no, _)| *no);
        let unneeded: Vec<SegmentNo> = unneeded.filter(|no| !self.files.noted.contains(no)).collect();
        for no in &unneeded {
            let path = self.paths.segment(*no);
            self.disk.remove_file(&path).map_err(Error::io("remove", path))?;
            self.files.lengths.remove(no);
        }
        self.disk.sync_dir(&self.paths.wal).map_err(Error::io("sync", &self.paths.wal))
    }

    fn no_space(&self, least: u32) -> Error {
        let path = self.paths.wal.clone();
        let free = self.disk.free_space(&path).unwrap_or(0);
        Error::NoSpaceToOpen { path, bytes: byte_offset(least), free }
    }
}
