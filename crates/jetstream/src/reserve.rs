//! Disk space that is kept for what makes room again.
//!
//! On a full disk a purge frees nothing before a checkpoint without the purged blocks is written, which takes a little
//! space itself, as does opening the store. So blocks leave the last of the space to these, and a file of zeros holds
//! some for the case that others take it.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linnet_env::{Disk, OpenMode};
use parking_lot::Mutex;

pub(crate) const FILE: &str = "reserve";
const BYTES: usize = 4 << 20;
/// Free space below which the reserve is given up.
const TOO_LITTLE: u64 = 8 << 20;
/// Free space from which it is made again.
const ENOUGH: u64 = 24 << 20;
/// Bytes of blocks in a checkpoint that may take what is kept free: more would use it up before there is room.
const SMALL: u64 = 256 << 10;

/// The reserve of a store.
#[derive(Clone)]
pub(crate) struct Reserve {
    /// Held by whoever uses what was given up.
    user: Arc<Mutex<()>>,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    /// Bytes of blocks that last found no space; 0 once as many did.
    refused: Arc<AtomicU64>,
}

impl Reserve {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self {
            user: Arc::default(),
            disk,
            dir: dir.to_owned(),
            path: dir.join(FILE),
            refused: Arc::default(),
        }
    }

    /// So many bytes of blocks found no space.
    pub(crate) fn note_refused(&self, bytes: u64) {
        self.refused.store(bytes.max(1), Ordering::Relaxed);
    }

    /// So many bytes of blocks were written.
    pub(crate) fn note_written(&self, bytes: u64) {
        if bytes > 0 && bytes >= self.refused.load(Ordering::Relaxed) {
            self.refused.store(0, Ordering::Relaxed);
        }
    }

    /// True if blocks find no space, so that what waits for their being written may wait for long.
    pub(crate) fn lacks_space(&self) -> bool {
        let refused = self.refused.load(Ordering::Relaxed);
        refused > 0 && !self.has_room_for(refused, false)
    }

    /// Before something is written that will make room.
    pub(crate) fn give_up_if_full(&self) {
        if self.is_full() && self.disk.exists(&self.path).unwrap_or(false) {
            match self.disk.remove_file(&self.path).and_then(|()| self.disk.sync_dir(&self.dir)) {
                Ok(()) => {
                    tracing::warn!("The disk is full: {} is given up to make room", self.path.display())
                }
                Err(e) => tracing::error!("Removing {}: {e}", self.path.display()),
            }
        }
    }

    /// Does something that will make room, if need be with the space of the reserve and with nobody else writing.
    pub(crate) fn with_room<R>(&self, act: impl FnOnce() -> R) -> R {
        if !self.is_full() {
            return act();
        }
        let _user = self.user.lock();
        self.give_up_if_full();
        act()
    }

    /// True if so many bytes of blocks may be written: they leave enough space, or are so few that a checkpoint with
    /// them makes more room than it takes.
    pub(crate) fn has_room_for(&self, bytes: u64, is_checkpoint: bool) -> bool {
        bytes == 0
            || (is_checkpoint && bytes <= SMALL)
            || self.disk.free_space(&self.dir).map_or(true, |free| free >= bytes.saturating_add(TOO_LITTLE))
    }

    /// Files or directories were removed. On a full disk their space is wanted now, not when the file system writes its
    /// journal.
    pub(crate) fn freed(&self, paths: &[PathBuf]) {
        if self.is_full() {
            let dirs: BTreeSet<&Path> = paths.iter().filter_map(|path| path.parent()).collect();
            for dir in dirs {
                if let Err(e) = self.disk.sync_dir(dir) {
                    tracing::debug!("Syncing {}: {e}", dir.display());
                }
            }
        }
        self.restore();
    }

    fn is_full(&self) -> bool {
        self.disk.free_space(&self.dir).is_ok_and(|free| free < TOO_LITTLE)
    }

    /// Once there may be space again. One that is not whole is made again.
    pub(crate) fn restore(&self) {
        if let Err(e) = self.try_restore() {
            tracing::debug!("Keeping {}: {e}", self.path.display());
        }
    }

    fn try_restore(&self) -> io::Result<()> {
        let exists = self.disk.exists(&self.path)?;
        if exists && self.disk.open(&self.path, OpenMode::Read)?.len()? == BYTES as u64 {
            return Ok(());
        }
        if self.disk.free_space(&self.dir)? < ENOUGH {
            return Ok(());
        }
        if exists {
            self.disk.remove_file(&self.path)?;
        }
        let file = self.disk.open(&self.path, OpenMode::Create)?;
        file.write_all_at(&vec![0; BYTES], 0)
    }
}

#[cfg(test)]
mod tests {
    use linnet_env::FaultyDisk;

    use super::*;

    #[test]
    fn blocks_leave_the_last_of_the_space_to_small_checkpoints() {
        let faulty = FaultyDisk::new(1);
        let dir = Path::new("/store");
        faulty.create_dir_all(dir).unwrap();
        let reserve = Reserve::new(Arc::new(faulty.clone()), dir);
        faulty.set_capacity(Some(faulty.used() + TOO_LITTLE + 1000));
        assert!(reserve.has_room_for(1000, false));
        assert!(!reserve.has_room_for(1001, false));
        assert!(reserve.has_room_for(SMALL, true));
        assert!(!reserve.has_room_for(SMALL + 1, true));
        assert!(reserve.has_room_for(0, false));
    }

    #[test]
    fn space_lacks_while_what_was_refused_would_be_again() {
        let faulty = FaultyDisk::new(1);
        let dir = Path::new("/store");
        faulty.create_dir_all(dir).unwrap();
        let reserve = Reserve::new(Arc::new(faulty.clone()), dir);
        faulty.set_capacity(Some(faulty.used() + TOO_LITTLE + 999));
        assert!(!reserve.lacks_space(), "nobody wants any");
        reserve.note_refused(1000);
        assert!(reserve.lacks_space());
        reserve.note_written(999);
        assert!(reserve.lacks_space());
        faulty.set_capacity(Some(faulty.used() + TOO_LITTLE + 1000));
        assert!(!reserve.lacks_space());
        faulty.set_capacity(Some(0));
        assert!(reserve.lacks_space());
        reserve.note_written(1000);
        assert!(!reserve.lacks_space());
    }

    #[test]
    fn it_is_given_up_when_the_disk_is_full_and_comes_back() {
        let faulty = FaultyDisk::new(1);
        let dir = Path::new("/store");
        faulty.create_dir_all(dir).unwrap();
        let reserve = Reserve::new(Arc::new(faulty.clone()), dir);
        reserve.restore();
        let used = faulty.used();
        assert!(used >= BYTES as u64);
        reserve.give_up_if_full();
        assert_eq!(faulty.used(), used, "there is space enough");
        faulty.set_capacity(Some(used));
        reserve.give_up_if_full();
        assert!(faulty.free_space(dir).unwrap() >= BYTES as u64);
        reserve.restore();
        assert!(faulty.used() < used, "the space is left to those who need it");
        faulty.set_capacity(None);
        reserve.restore();
        assert_eq!(faulty.used(), used);
    }
}
