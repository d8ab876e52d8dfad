use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::FlockOperation;
use rustix::io::ReadWriteFlags;

use crate::disk::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};

/// Inodes below which there is no space: the last ones are for what makes room, which makes files first.
const INODES_LEFT: u64 = 16;

/// The operating system's file systems.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::ReadWrite | OpenMode::Reuse => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create_new(true);
            }
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir_all(parent)?;
        }
        // Open before anything is made: one that is there and was never synced would be taken for a durable one.
        let parent = File::open(parent.unwrap_or_else(|| Path::new(".")))?;
        match fs::create_dir(path) {
            Ok(()) => parent.sync_all().inspect_err(|_| drop(fs::remove_dir(path))),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            Err(e) => Err(e),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(DirEntry {
                name,
                is_dir: meta.is_dir(),
                len: if meta.is_dir() { 0 } else { meta.len() },
            });
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        // A file system that makes inodes as it needs them says that it has none at all.
        let has_inodes = stat.f_files == 0 || stat.f_favail >= INODES_LEFT;
        Ok(if has_inodes { stat.f_bavail.saturating_mul(stat.f_frsize) } else { 0 })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < out.len() {
            match self.0.read_at(&mut out[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn try_read_exact_at(&self, out: &mut [u8], offset: u64) -> bool {
        let len = out.len();
        // Not every file system can tell what is in memory; then the call fails as it does where nothing is.
        rustix::io::preadv2(&self.0, &mut [io::IoSliceMut::new(out)], offset, ReadWriteFlags::NOWAIT)
            == Ok(len)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }

    fn write_vectored_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let total: usize = parts.iter().map(|p| p.len()).sum();
        let mut done = 0;
        while done < total {
            let mut slices = Vec::with_capacity(parts.len().min(MAX_IO_SLICES));
            let mut skip = done;
            for part in parts {
                if skip >= part.len() {
                    skip -= part.len();
                    continue;
                }
                slices.push(io::IoSlice::new(&part[skip..]));
                skip = 0;
                if slices.len() == MAX_IO_SLICES {
                    break;
                }
            }
            match rustix::io::pwritev(&self.0, &slices, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|m| m.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// The kernel refuses more than 1024 slices in one call.
const MAX_IO_SLICES: usize = 512;

#[cfg(test)]
mod tests {
    use super::RealDisk;
    use crate::disk::{Disk, OpenMode};

    #[test]
    fn replace_leaves_only_the_new_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/marker");
        RealDisk.create_dir_all(path.parent().unwrap()).unwrap();
        RealDisk.replace(&path, b"one").unwrap();
        RealDisk.replace(&path, b"second").unwrap();
        assert_eq!(RealDisk.read(&path).unwrap(), b"second");
        assert_eq!(RealDisk.list(path.parent().unwrap()).unwrap().len(), 1);
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = RealDisk.lock(&path).unwrap();
        assert!(first.is_some());
        assert!(RealDisk.lock(&path).unwrap().is_none());
        drop(first);
        assert!(RealDisk.lock(&path).unwrap().is_some());
    }

    #[test]
    fn what_is_not_there_is_not_at_hand() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("f"), OpenMode::Create).unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        let mut out = [0; 4];
        // Whether the file system can tell is not known, but it must not tell anything else.
        if file.try_read_exact_at(&mut out, 3) {
            assert_eq!(&out, b"3456");
        }
        assert!(!file.try_read_exact_at(&mut out, 8));
    }

    #[test]
    fn vectored_write_puts_all_parts_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("f"), OpenMode::Create).unwrap();
        let parts: Vec<Vec<u8>> = (0..2000_u32).map(|n| n.to_le_bytes().to_vec()).collect();
        let refs: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        file.write_vectored_all_at(&refs, 3).unwrap();
        let mut back = vec![0; 8000];
        file.read_exact_at(&mut back, 3).unwrap();
        assert_eq!(back, parts.concat());
    }
}
