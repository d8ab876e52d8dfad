use std::io;
use std::path::Path;
use std::sync::Arc;

use linnet_env::{DirEntry, Disk, DiskFile, DiskLock, OpenMode, Rng};

use crate::file::SealedFile;
use crate::header::{Found, HEADER_BYTES, Header};
use crate::key::KeyRing;

/// A disk that encrypts the content of files. Names are as they are below.
pub struct SealedDisk {
    disk: Arc<dyn Disk>,
    ring: Arc<KeyRing>,
    rng: Arc<dyn Rng>,
}

impl SealedDisk {
    /// Files are kept on `disk`; salts are drawn from `rng`.
    pub fn new(disk: Arc<dyn Disk>, ring: Arc<KeyRing>, rng: Arc<dyn Rng>) -> Self {
        Self { disk, ring, rng }
    }

    /// Takes an open file for an encrypted one. What has no header that can be read reads as noise, which no record
    /// survives: to whoever reads it, it is damaged.
    pub(crate) fn wrap(&self, file: Arc<dyn DiskFile>, mode: OpenMode) -> io::Result<SealedFile> {
        let (ring, rng) = (self.ring.clone(), self.rng.clone());
        if mode == OpenMode::Create {
            return Ok(SealedFile::unwritten(file, ring, rng));
        }
        if mode == OpenMode::Reuse {
            let sealed = SealedFile::unwritten(file, ring, rng);
            sealed.begin()?;
            return Ok(sealed);
        }
        match Header::find(&*file, &ring)? {
            Found::Header(header) => SealedFile::written(file, ring, rng, header),
            Found::Empty => Ok(SealedFile::unwritten(file, ring, rng)),
            Found::Damaged | Found::Nothing => Ok(SealedFile::noise(file, ring, rng)),
            Found::OtherKey => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the file is encrypted with a key that is not configured",
            )),
        }
    }
}

impl Disk for SealedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.wrap(self.disk.open(path, mode)?, mode)?))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = self.disk.list(dir)?;
        entries.iter_mut().for_each(|entry| entry.len = entry.len.saturating_sub(HEADER_BYTES));
        Ok(entries)
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
