//! Reads a segment sector by sector through a window, and tells which sectors cannot be read at all.

use std::sync::Arc;

use linnet_env::DiskFile;

use crate::directory::{DirectorySector, parse_sector};
use crate::format::{SECTOR, SectorSums, byte_offset};

const WINDOW_SECTORS: u32 = 512;

pub(crate) struct SegmentReader {
    file: Arc<dyn DiskFile>,
    pub(crate) sums: SectorSums,
    window: Vec<u8>,
    window_start: u32,
    /// Whole sectors in the window.
    window_len: u32,
    unreadable: Vec<u32>,
}

impl SegmentReader {
    pub(crate) fn new(file: Arc<dyn DiskFile>, sums: SectorSums) -> Self {
        Self { file, sums, window: Vec::new(), window_start: 0, window_len: 0, unreadable: Vec::new() }
    }

    /// Content of a sector; `None` if it cannot be read or lies behind the end of the file.
    pub(crate) fn sector(&mut self, sector: u32) -> Option<&[u8]> {
        if sector < self.window_start || sector >= self.window_start + self.window_len {
            self.load(sector);
        }
        if self.unreadable.contains(&sector) {
            return None;
        }
        let at = usize::try_from(sector.checked_sub(self.window_start)?).ok()? * SECTOR;
        let whole = usize::try_from(self.window_len).ok()? * SECTOR;
        self.window.get(..whole)?.get(at..at + SECTOR)
    }

    fn load(&mut self, sector: u32) {
        self.window.resize(WINDOW_SECTORS as usize * SECTOR, 0);
        self.window_start = sector;
        self.unreadable.clear();
        match self.file.read_at(&mut self.window, byte_offset(sector)) {
            Ok(read) => self.window_len = u32::try_from(read / SECTOR).unwrap_or(0),
            Err(_) => {
                self.window_len = WINDOW_SECTORS;
                for (n, chunk) in (sector..).zip(self.window.chunks_mut(SECTOR)) {
                    if !matches!(self.file.read_at(chunk, byte_offset(n)), Ok(SECTOR)) {
                        self.unreadable.push(n);
                    }
                }
            }
        }
    }

    /// The sector as part of a directory, if it verifies as one.
    pub(crate) fn directory_sector(&mut self, sector: u32) -> Option<DirectorySector<'_>> {
        let sums = self.sums;
        parse_sector(&sums, sector, self.sector(sector)?)
    }

    /// True if the sector can be read and holds only zeros.
    pub(crate) fn is_zero(&mut self, sector: u32) -> bool {
        self.sector(sector).is_some_and(|bytes| bytes.iter().all(|b| *b == 0))
    }

    pub(crate) fn verifies(&mut self, sector: u32, sum: Option<u32>) -> bool {
        let sums = self.sums;
        self.sector(sector).is_some_and(|bytes| Some(sums.of(sector, bytes)) == sum)
    }
}
