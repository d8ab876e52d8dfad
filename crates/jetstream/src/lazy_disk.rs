//! A disk whose data syncs are put off: what `sync_interval: <duration>` asks for.

use std::io;
use std::path::Path;
use std::sync::{Arc, Weak};

use linnet_env::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
use parking_lot::Mutex;

/// Passes everything on but data syncs, which [`LazyDisk::sync_all`] does for all files at once.
pub(crate) struct LazyDisk {
    disk: Arc<dyn Disk>,
    dirty: Arc<Dirty>,
}

/// Files whose sync is due.
#[derive(Default)]
struct Dirty(Mutex<Vec<Weak<dyn DiskFile>>>);

impl LazyDisk {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, dirty: Arc::default() }
    }

    /// Syncs every file whose sync was put off. The first error is returned after all were tried.
    pub(crate) fn sync_all(&self) -> io::Result<()> {
        let files = std::mem::take(&mut *self.dirty.0.lock());
        let mut result = Ok(());
        for file in files.iter().filter_map(Weak::upgrade) {
            if let Err(error) = file.sync_data() {
                result = Err(error);
            }
        }
        result
    }
}

struct LazyFile {
    file: Arc<dyn DiskFile>,
    dirty: Arc<Dirty>,
}

impl DiskFile for LazyFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(out, offset)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn write_vectored_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.file.write_vectored_all_at(parts, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let file = Arc::downgrade(&self.file);
        let mut dirty = self.dirty.0.lock();
        if !dirty.iter().any(|known| known.ptr_eq(&file)) {
            dirty.push(file);
        }
        Ok(())
    }
}

impl Disk for LazyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(LazyFile { file, dirty: self.dirty.clone() }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
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
