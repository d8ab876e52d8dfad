//! What a test can do to the disk.

use std::io;
use std::path::{Path, PathBuf};

use super::content::{Content, SECTOR};
use super::{FaultyDisk, State};

/// How often each fault struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounters {
    /// Syncs asked for, of files and directories.
    pub syncs: u64,
    /// Syncs that answered success without doing anything.
    pub syncs_ignored: u64,
    /// Syncs that failed and dropped what they should have written.
    pub sync_errors: u64,
    /// Writes that failed part way.
    pub write_errors: u64,
    /// Writes refused for lack of space.
    pub no_space: u64,
    /// Reads that met an unreadable sector.
    pub reads_failed: u64,
    /// Power losses.
    pub crashes: u64,
    /// Process kills.
    pub kills: u64,
    /// Unsynced sectors that survived a power loss.
    pub sectors_kept: u64,
    /// Unsynced sectors that a power loss took.
    pub sectors_lost: u64,
    /// Unsynced directory changes that a power loss took.
    pub names_lost: u64,
    /// Bits flipped.
    pub flipped: u64,
    /// Sectors zeroed.
    pub zeroed: u64,
    /// Sectors put back to an earlier content.
    pub made_stale: u64,
    /// Sectors overwritten with the content of another.
    pub misplaced: u64,
    /// Sectors made unreadable.
    pub made_unreadable: u64,
    /// Files cut short.
    pub truncated: u64,
    /// Files removed.
    pub removed: u64,
}

/// Damage to stored data, chosen by [`FaultyDisk::damage_at_random`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// One bit is inverted.
    Flip,
    /// A sector reads as zeros.
    Zero,
    /// A sector holds what it held before the last sync that changed it.
    Stale,
    /// A sector holds the content of another sector of the file.
    Misplaced,
    /// Reading a sector fails until it is written again.
    Unreadable,
    /// A file is shorter than it was.
    Truncated,
    /// A file is gone.
    Removed,
}

impl DamageKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Flip,
        Self::Zero,
        Self::Stale,
        Self::Misplaced,
        Self::Unreadable,
        Self::Truncated,
        Self::Removed,
    ];
}

impl State {
    fn end_life(&mut self) {
        self.life += 1;
        self.locks.clear();
        self.operations_until_off = None;
        self.refused = false;
    }

    fn file_at(&mut self, path: &Path) -> io::Result<&mut Content> {
        let file = self.names.file(path)?;
        self.content(file)
    }
}

impl FaultyDisk {
    /// Power loss. Every unsynced sector and directory change is kept or lost on its own; handles and locks of the
    /// running process die; the power is on again afterwards.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.end_life();
        state.counters.crashes += 1;
        let mut rng = fastrand::Rng::with_seed(seed ^ state.rng.u64(..));
        // Extremes are where recovery code differs, so they come more often than chance would have them.
        let keep_of_8: u8 = match rng.u8(..6) {
            0 => 0,
            1 => 8,
            2 => 1,
            3 => 7,
            _ => 4,
        };
        let mut second = rng.fork();
        let mut coin = || rng.u8(..8) < keep_of_8;
        let mut pick = |n: usize| second.usize(..n);
        state.counters.names_lost += state.names.crash(&mut coin);
        for content in state.files.values_mut() {
            let outcome = content.crash(&mut coin, &mut pick);
            state.counters.sectors_kept += outcome.kept;
            state.counters.sectors_lost += outcome.lost;
        }
        let names = &state.names;
        state.files.retain(|file, _| names.refers_to(*file));
    }

    /// The process dies, the machine stays up: its writes can be read, and are as unsynced as before.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.end_life();
        state.counters.kills += 1;
    }

    /// Lets this many more changing operations through; the next one and every operation after it fail until
    /// [`FaultyDisk::crash`] or [`FaultyDisk::kill`]. If the first one refused is a write, some of its sectors are stored.
    pub fn power_off_after(&self, operations: u64) {
        let mut state = self.state.lock();
        state.operations_until_off = Some(operations);
        state.refused = false;
    }

    /// True if the power went off as armed by [`FaultyDisk::power_off_after`].
    pub fn is_off(&self) -> bool {
        self.state.lock().operations_until_off == Some(0)
    }

    /// After `successes` more file syncs, one fails and drops the dirty sectors; later ones answer success and do
    /// not bring them back.
    pub fn fail_sync_after(&self, successes: u64) {
        self.state.lock().syncs_until_failure = Some(successes);
    }

    /// The write that would pass this many bytes from now stores the whole sectors up to there and fails.
    pub fn fail_write_after(&self, bytes: u64) {
        self.state.lock().bytes_until_write_error = Some(bytes);
    }

    /// Whether files and directories can be opened. What is open stays open.
    pub fn set_descriptors(&self, are_there: bool) {
        self.state.lock().no_descriptors = !are_there;
    }

    /// Limits the sum of file lengths; `None` lifts the limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Makes every sync answer success without effect, so that a test can prove that it needs them.
    pub fn ignore_syncs(&self, ignore: bool) {
        self.state.lock().ignore_syncs = ignore;
    }

    /// How often each fault struck so far.
    pub fn counters(&self) -> FaultCounters {
        self.state.lock().counters
    }

    /// Inverts bit `bit` of the file (bit 0 is the lowest of the first byte).
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let within = usize::try_from(bit / 8 % SECTOR).unwrap_or(0);
        state.file_at(path)?.damage(bit / 8 / SECTOR, |s| s[within] ^= 1 << (bit % 8));
        state.counters.flipped += 1;
        Ok(())
    }

    /// Makes a sector read as zeros.
    pub fn zero_sector(&self, path: &Path, sector: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.file_at(path)?.damage(sector, |s| s.fill(0));
        state.counters.zeroed += 1;
        Ok(())
    }

    /// Puts a sector back to its content before the last sync that changed it.
    pub fn make_sector_stale(&self, path: &Path, sector: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.file_at(path)?;
        let old = file.stale_sector(sector);
        file.damage(sector, |s| *s = old);
        state.counters.made_stale += 1;
        Ok(())
    }

    /// Overwrites sector `to` with the content of sector `from`.
    pub fn misplace_sector(&self, path: &Path, from: u64, to: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.file_at(path)?;
        let other = file.current_sector(from);
        file.damage(to, |s| *s = other);
        state.counters.misplaced += 1;
        Ok(())
    }

    /// Makes reads of a sector fail until it is written again.
    pub fn make_sector_unreadable(&self, path: &Path, sector: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.file_at(path)?.make_unreadable(sector);
        state.counters.made_unreadable += 1;
        Ok(())
    }

    /// Cuts the stored file.
    pub fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.file_at(path)?.cut(len);
        state.counters.truncated += 1;
        Ok(())
    }

    /// Takes a file away.
    pub fn lose_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.names.file(path)?;
        state.names.lose(path);
        state.files.remove(&file);
        state.counters.removed += 1;
        Ok(())
    }

    /// Every file below `dir` with its length, sorted by path.
    pub fn files_below(&self, dir: &Path) -> Vec<(PathBuf, u64)> {
        let state = self.state.lock();
        let files = state.names.files_below(dir);
        files.into_iter().map(|(path, file)| (path, state.files.get(&file).map_or(0, Content::len))).collect()
    }

    /// True if some write or length of a file has not been synced.
    pub fn has_unsynced_data(&self) -> bool {
        self.state.lock().files.values().any(Content::has_unsynced)
    }

    /// Damages one place of one file below `dir`; returns the file and the sector, or `None` if there is nothing
    /// to damage.
    pub fn damage_at_random(&self, dir: &Path, kind: DamageKind, seed: u64) -> Option<(PathBuf, u64)> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let files: Vec<_> = self.files_below(dir).into_iter().filter(|(_, len)| *len > 0).collect();
        if files.is_empty() {
            return None;
        }
        let (path, len) = files[rng.usize(..files.len())].clone();
        let sectors = len.div_ceil(SECTOR);
        let sector = rng.u64(..sectors);
        let struck = match kind {
            DamageKind::Flip => {
                self.flip_bit(&path, (sector * SECTOR * 8 + rng.u64(..SECTOR * 8)).min(len * 8 - 1))
            }
            DamageKind::Zero => self.zero_sector(&path, sector),
            DamageKind::Stale => self.make_sector_stale(&path, sector),
            DamageKind::Misplaced => self.misplace_sector(&path, rng.u64(..sectors), sector),
            DamageKind::Unreadable => self.make_sector_unreadable(&path, sector),
            DamageKind::Truncated => self.truncate(&path, sector * SECTOR),
            DamageKind::Removed => self.lose_file(&path),
        };
        struck.ok().map(|()| (path, sector))
    }
}
