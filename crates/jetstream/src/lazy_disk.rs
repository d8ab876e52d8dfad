//! A disk whose data syncs are put off: what `sync_interval: <duration>` asks for.
//!
//! A sync that is put off is done before anything that relies on it: before a file is removed, renamed or written to
//! again. So a power loss costs what was written last, never what was kept in a place that is gone by now. What a replica
//! promises, terms and votes, and the catalogue of streams is never put off.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
use parking_lot::Mutex;

/// Files whose sync is put off at most; they stay open until then.
const FILES_MAX: usize = 128;

/// Passes everything on but data syncs, which [`LazyDisk::sync_all`] does for all files at once.
pub(crate) struct LazyDisk {
    disk: Arc<dyn Disk>,
    late: Arc<Late>,
}

/// Syncs that were put off.
#[derive(Default)]
struct Late {
    state: Mutex<State>,
    /// Held while they are done, so that nobody takes an empty list for done.
    doing: Mutex<()>,
}

#[derive(Default)]
struct State {
    files: Vec<(PathBuf, Arc<dyn DiskFile>)>,
    /// The first failure. From then on every sync fails, which ends this opening of the store.
    failure: Option<String>,
}

impl State {
    fn check(&self) -> io::Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(text) => Err(io::Error::other(text.clone())),
        }
    }
}

impl Late {
    /// Syncs every file whose sync was put off.
    fn sync_all(&self) -> io::Result<()> {
        let _doing = self.doing.lock();
        let files = std::mem::take(&mut self.state.lock().files);
        for (path, file) in files {
            if let Err(error) = file.sync_data() {
                let text = || format!("a sync of {} that was put off failed: {error}", path.display());
                self.state.lock().failure.get_or_insert_with(text);
            }
        }
        self.state.lock().check()
    }

    /// Puts off the sync of a file.
    fn add(&self, path: &Path, file: &Arc<dyn DiskFile>) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check()?;
        if state.files.iter().any(|(_, known)| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(file))) {
            return Ok(());
        }
        state.files.push((path.to_owned(), file.clone()));
        let is_many = state.files.len() > FILES_MAX;
        drop(state);
        if is_many { self.sync_all() } else { Ok(()) }
    }

    /// Files that are removed need no sync.
    fn forget(&self, is_removed: impl Fn(&Path) -> bool) {
        self.state.lock().files.retain(|(path, _)| !is_removed(path));
    }
}

impl LazyDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, late: Arc::default() }
    }

    /// Syncs every file whose sync was put off. Fails if that or an earlier one failed.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        self.late.sync_all()
    }
}

struct LazyFile {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    late: Arc<Late>,
}

impl DiskFile for LazyFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(out, offset)
    }

    fn try_read_exact_at(&self, out: &mut [u8], offset: u64) -> bool {
        self.file.try_read_exact_at(out, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn write_vectored_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.file.write_vectored_all_at(parts, offset)
    }

    fn write_zeros_at(&self, len: usize, offset: u64) -> io::Result<()> {
        self.file.write_zeros_at(len, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.late.add(&self.path, &self.file)
    }

    fn sync_certainly(&self) -> io::Result<()> {
        self.late.add(&self.path, &self.file)?;
        self.late.sync_all()
    }
}

impl Disk for LazyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        if matches!(mode, OpenMode::ReadWrite | OpenMode::Reuse) {
            self.sync_all()?;
        }
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(LazyFile { path: path.to_owned(), file, late: self.late.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.sync_all()?;
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.late.forget(|known| known == path);
        self.sync_all()?;
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.late.forget(|known| known.starts_with(path));
        self.sync_all()?;
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.disk.free_space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.disk.lock(path)
    }
}

#[cfg(test)]
mod tests {
    use linnet_env::FaultyDisk;

    use super::*;

    fn disks() -> (FaultyDisk, LazyDisk) {
        let faulty = FaultyDisk::new(1);
        faulty.create_dir_all(Path::new("/d")).unwrap();
        (faulty.clone(), LazyDisk::new(Arc::new(faulty)))
    }

    /// A file with something in it, "synced", and closed.
    fn write(disk: &LazyDisk, name: &str) {
        let file = disk.open(Path::new(name), OpenMode::Create).unwrap();
        file.write_all_at(b"something", 0).unwrap();
        file.sync_data().unwrap();
    }

    #[test]
    fn what_has_to_be_certain_is_not_put_off_and_nothing_before_it() {
        let (faulty, lazy) = disks();
        write(&lazy, "/d/a");
        let file = lazy.open(Path::new("/d/b"), OpenMode::Create).unwrap();
        file.write_all_at(b"a vote", 0).unwrap();
        lazy.sync_dir(Path::new("/d")).unwrap();
        file.sync_certainly().unwrap();
        faulty.crash(1);
        assert_eq!(faulty.read(Path::new("/d/a")).unwrap(), b"something");
        assert_eq!(faulty.read(Path::new("/d/b")).unwrap(), b"a vote");
    }

    #[test]
    fn a_sync_is_put_off_until_all_are_done_also_of_files_closed_since() {
        let (faulty, lazy) = disks();
        write(&lazy, "/d/a");
        assert!(faulty.has_unsynced_data());
        lazy.sync_all().unwrap();
        assert!(!faulty.has_unsynced_data());
    }

    #[test]
    fn what_others_may_rely_on_is_synced_first() {
        let acts: [fn(&LazyDisk); 4] = [
            |lazy| lazy.rename(Path::new("/d/old"), Path::new("/d/new")).unwrap(),
            |lazy| lazy.remove_file(Path::new("/d/old")).unwrap(),
            |lazy| lazy.remove_dir_all(Path::new("/d/dir")).unwrap(),
            |lazy| drop(lazy.open(Path::new("/d/old"), OpenMode::ReadWrite).unwrap()),
        ];
        for act in acts {
            let (faulty, lazy) = disks();
            lazy.create_dir_all(Path::new("/d/dir")).unwrap();
            write(&lazy, "/d/old");
            lazy.sync_all().unwrap();
            write(&lazy, "/d/a");
            assert!(faulty.has_unsynced_data());
            act(&lazy);
            assert!(!faulty.has_unsynced_data());
        }
    }

    #[test]
    fn not_more_files_than_the_bound_are_kept_open() {
        let (_, lazy) = disks();
        for n in 0..=2 * FILES_MAX {
            write(&lazy, &format!("/d/{n}"));
            assert!(lazy.late.state.lock().files.len() <= FILES_MAX);
        }
    }

    #[test]
    fn a_sync_that_fails_late_fails_every_later_one() {
        let (faulty, lazy) = disks();
        let file = lazy.open(Path::new("/d/a"), OpenMode::Create).unwrap();
        file.write_all_at(b"something", 0).unwrap();
        file.sync_data().unwrap();
        faulty.fail_sync_after(0);
        assert!(lazy.sync_all().is_err());
        assert!(file.sync_data().is_err());
        assert!(lazy.sync_all().is_err());
    }
}
