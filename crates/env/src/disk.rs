use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened. No mode truncates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    ReadWrite,
    /// A file that must not exist yet. Its directory entry is durable only after [`Disk::sync_dir`].
    Create,
    /// An existing file whose content is void, for reading and writing: to be filled again instead of a new one. A
    /// disk that encrypts gives it another key, so that only what is written from now on can be read.
    Reuse,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Name without path. Names that are not UTF-8 are not the store's and are left out.
    pub name: String,
    /// True for a directory.
    pub is_dir: bool,
    /// Length in bytes; 0 for a directory.
    pub len: u64,
}

/// A file system. Calls block; whoever calls decides on which thread.
///
/// Durability follows POSIX at its weakest: a write is durable after [`DiskFile::sync_data`] returned, a created,
/// renamed or removed name after [`Disk::sync_dir`] of its directory returned, and nothing else is promised.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Creates a directory and its missing parents, syncing each new entry.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Entries of a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Renames within one file system, replacing the target.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory with everything in it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// True if the path exists.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Bytes an unprivileged writer may still use on the file system that holds `path`; none if it takes hardly any more
    /// files.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Takes an exclusive advisory lock on `path`, creating it; `None` if another process holds it. Held until
    /// the returned value is dropped.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>>;

    /// Whole content of a file that is known to be small.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut out = vec![0; len];
        file.read_exact_at(&mut out, 0)?;
        Ok(out)
    }

    /// Replaces a small file so that a crash leaves the old or the new content: writes a temporary neighbour,
    /// syncs it, renames it over `path`, syncs the directory.
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
        name.push(".new");
        let temporary = dir.join(name);
        if self.exists(&temporary)? {
            self.remove_file(&temporary)?;
        }
        let file = self.open(&temporary, OpenMode::Create)?;
        file.write_all_at(content, 0)?;
        file.sync_data()?;
        self.rename(&temporary, path)?;
        self.sync_dir(dir)
    }
}

/// An open file. Positions are explicit, so one handle serves any number of readers.
pub trait DiskFile: Send + Sync {
    /// Reads up to `out.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Fills `out` if the bytes are at hand, without waiting for the device. False if they are not, or if the file
    /// cannot tell, or is shorter: nothing is known of `out` then.
    fn try_read_exact_at(&self, _out: &mut [u8], _offset: u64) -> bool {
        false
    }
    /// Writes all of `data`.
    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Writes all of `parts` one after the other, in as few calls as the system allows.
    fn write_vectored_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Writes `len` zeros: space that waits for what will be written there. A disk that encrypts leaves them as they
    /// are, so that nothing is disclosed when the place is written later.
    fn write_zeros_at(&self, len: usize, offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < len {
            let step = ZEROS.get(..len - done).unwrap_or(&ZEROS);
            self.write_all_at(step, offset + done as u64)?;
            done += step.len();
        }
        Ok(())
    }
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True if the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
    /// Cuts or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes content (and the length, if it changed) durable.
    fn sync_data(&self) -> io::Result<()>;
    /// The same, also on a disk that puts [`DiskFile::sync_data`] off, and there with all files that wait for it.
    fn sync_certainly(&self) -> io::Result<()> {
        self.sync_data()
    }

    /// Fills `out` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        if self.read_at(out, offset)? == out.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Bytes of zeros written at once.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A held lock; dropping it releases it.
pub trait DiskLock: Send + Sync {}
