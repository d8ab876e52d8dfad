use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use linnet_env::{Disk, DiskFile, OpenMode};

/// First bytes of a block file; the records follow.
pub(crate) const MAGIC: &[u8; 16] = b"linnet block v1\n";
/// Offset of the first record in a block file.
pub(crate) const HEADER: u64 = MAGIC.len() as u64;

/// A block's file, opened by whoever touches it first.
pub(crate) struct BlockFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    handle: OnceLock<Arc<dyn DiskFile>>,
}

impl BlockFile {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Arc<Self> {
        Arc::new(Self { disk, path, handle: OnceLock::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The open file; created with its header if it does not exist.
    pub(crate) fn for_writing(&self) -> io::Result<&Arc<dyn DiskFile>> {
        if let Some(handle) = self.handle.get() {
            return Ok(handle);
        }
        let file = if self.disk.exists(&self.path)? {
            self.disk.open(&self.path, OpenMode::ReadWrite)?
        } else {
            self.disk.open(&self.path, OpenMode::Create)?
        };
        file.write_all_at(MAGIC, 0)?;
        Ok(self.handle.get_or_init(|| file))
    }

    pub(crate) fn for_reading(&self) -> io::Result<Arc<dyn DiskFile>> {
        match self.handle.get() {
            Some(handle) => Ok(handle.clone()),
            None => self.disk.open(&self.path, OpenMode::Read),
        }
    }
}

/// Writes part of a block, without syncing.
pub struct WriteJob {
    pub(crate) file: Arc<BlockFile>,
    pub(crate) offset: u32,
    pub(crate) data: Bytes,
}

/// Outcome of a [`WriteJob`].
pub struct WriteDone {
    pub(crate) file: Arc<BlockFile>,
    pub(crate) end: u32,
    pub(crate) result: io::Result<()>,
}

impl WriteJob {
    /// Runs the job; blocks.
    pub fn run(self) -> WriteDone {
        let result =
            self.file.for_writing().and_then(|f| f.write_all_at(&self.data, HEADER + u64::from(self.offset)));
        let end = self.offset + u32::try_from(self.data.len()).unwrap_or(0);
        WriteDone { file: self.file, end, result }
    }
}

/// Reads part of a block that is not in memory.
pub struct LoadJob {
    pub(crate) file: Arc<BlockFile>,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// Outcome of a [`LoadJob`].
pub struct LoadDone {
    pub(crate) file: Arc<BlockFile>,
    pub(crate) offset: usize,
    pub(crate) len: usize,
    pub(crate) result: io::Result<Bytes>,
}

impl LoadJob {
    /// Runs the job; blocks.
    pub fn run(self) -> LoadDone {
        let mut data = vec![0; self.len];
        let result = self
            .file
            .for_reading()
            .and_then(|f| f.read_exact_at(&mut data, HEADER + self.offset as u64))
            .map(|()| Bytes::from(data));
        LoadDone { file: self.file, offset: self.offset, len: self.len, result }
    }
}
