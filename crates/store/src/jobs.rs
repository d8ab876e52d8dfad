use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use linnet_env::{Disk, DiskFile, OpenMode, lacks_descriptors};
use linnet_ids::StreamSeq;
use parking_lot::Mutex;

use crate::data_reader::DataReader;
use crate::packed::{Frame, Key, read_frames};
use crate::record::Seed;

/// First bytes of a block file; the records follow.
pub(crate) const MAGIC: &[u8; 16] = b"linnet block v1\n";
/// Offset of the first record in a block file.
pub(crate) const HEADER: u64 = MAGIC.len() as u64;

/// Name of a block's file.
pub(crate) fn block_name(number: u64) -> String {
    format!("{number:010}.blk")
}

/// Name of the file that spares opening from reading the block.
pub(crate) fn index_name(number: u64) -> String {
    format!("{number:010}.idx")
}

/// True if the error says that what was stored is gone or unreadable, rather than that it cannot be had now.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    // EIO, and what file systems answer for data that fails their own checksums.
    const UNREADABLE: [i32; 4] = [5, 61, 74, 117];
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
    ) || error.raw_os_error().is_some_and(|code| UNREADABLE.contains(&code))
}

/// True if the write can be tried again once there is space, or a descriptor for the file.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || lacks_descriptors(error)
}

/// A block's file, opened by whoever writes to it first.
pub(crate) struct BlockFile {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    path: PathBuf,
    number: u64,
    /// First sequence of its block: how the store finds the block again when a job is done.
    base: StreamSeq,
    seed: Seed,
    /// Length of the file if it is packed; else 0.
    packed: AtomicU64,
    /// Where the frames of a packed file are, once somebody has read it: 16 bytes per frame.
    frames: Mutex<Option<Arc<[Frame]>>>,
    handle: Mutex<Option<Arc<dyn DiskFile>>>,
    /// Open while single messages are read from the block.
    reader: Mutex<Option<Arc<dyn DiskFile>>>,
    /// Held while something is written, so that a failed write can be undone.
    writing: Mutex<()>,
    /// No block uses the file any more; writes that are still under way need not happen.
    retired: AtomicBool,
}

impl BlockFile {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        number: u64,
        base: StreamSeq,
        seed: Seed,
    ) -> Arc<Self> {
        Self::saved(disk, dir, number, base, seed, 0)
    }

    /// The file of a block that was saved; `packed` is its length if it is packed, else 0.
    pub(crate) fn saved(
        disk: Arc<dyn Disk>,
        dir: &Path,
        number: u64,
        base: StreamSeq,
        seed: Seed,
        packed: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            disk,
            dir: dir.to_owned(),
            path: dir.join(block_name(number)),
            number,
            base,
            seed,
            packed: AtomicU64::new(packed),
            frames: Mutex::new(None),
            handle: Mutex::new(None),
            reader: Mutex::new(None),
            writing: Mutex::new(()),
            retired: AtomicBool::new(false),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        self.dir.join(index_name(self.number))
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn base(&self) -> StreamSeq {
        self.base
    }

    /// The open file; created with its header if it does not exist.
    pub(crate) fn for_writing(&self) -> io::Result<Arc<dyn DiskFile>> {
        let mut handle = self.handle.lock();
        if let Some(file) = &*handle {
            return Ok(file.clone());
        }
        let file = if self.disk.exists(&self.path)? {
            self.disk.open(&self.path, OpenMode::ReadWrite)?
        } else {
            self.disk.open(&self.path, OpenMode::Create)?
        };
        if file.len()? < HEADER {
            file.write_all_at(MAGIC, 0)?;
        }
        *handle = Some(file.clone());
        Ok(file)
    }

    /// Writes data of the block. What a failure leaves behind the end is cut off again: on a full disk it would keep
    /// space that nobody uses.
    pub(crate) fn write(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let _writing = self.writing.lock();
        let file = self.for_writing()?;
        let before = file.len()?;
        let outcome = file.write_all_at(data, HEADER + offset);
        if outcome.is_err() && file.len().is_ok_and(|len| len > before) {
            let _ = file.set_len(before);
        }
        outcome
    }

    /// Writes a whole packed file.
    pub(crate) fn write_packed(&self, content: &[u8]) -> io::Result<()> {
        let mut handle = self.handle.lock();
        let file = self.disk.open(&self.path, OpenMode::Create)?;
        file.write_all_at(content, 0)?;
        self.packed.store(content.len() as u64, Ordering::Relaxed);
        *handle = Some(file);
        Ok(())
    }

    /// Length of the file if it is packed; else 0.
    pub(crate) fn packed_len(&self) -> u64 {
        self.packed.load(Ordering::Relaxed)
    }

    /// What checksums of a packed file are started from.
    pub(crate) fn key(&self) -> Key {
        Key { seed: self.seed, number: self.number }
    }

    /// Where the frames of a packed file are; `None` if it is not packed.
    pub(crate) fn frames(&self, file: &dyn DiskFile) -> io::Result<Option<Arc<[Frame]>>> {
        let len = self.packed_len();
        if len == 0 {
            return Ok(None);
        }
        if let Some(frames) = &*self.frames.lock() {
            return Ok(Some(frames.clone()));
        }
        let frames: Arc<[Frame]> = read_frames(file, self.key(), len)?.into();
        *self.frames.lock() = Some(frames.clone());
        Ok(Some(frames))
    }

    /// Removes what an attempt to write the file anew left behind.
    pub(crate) fn discard(&self) {
        self.close();
        let _ = self.disk.remove_file(&self.path);
    }

    pub(crate) fn for_reading(&self) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(open) = self.at_hand() {
            return Ok(open);
        }
        self.disk.open(&self.path, OpenMode::Read)
    }

    /// The file, if it is open.
    fn at_hand(&self) -> Option<Arc<dyn DiskFile>> {
        self.handle.lock().clone().or_else(|| self.reader.lock().clone())
    }

    /// Fills `out` with data of the block if the file is open and they can be had without waiting for the device.
    pub(crate) fn try_read(&self, out: &mut [u8], at: usize) -> bool {
        self.packed_len() == 0
            && self.at_hand().is_some_and(|file| file.try_read_exact_at(out, HEADER + at as u64))
    }

    /// Keeps the file open for reading, unless no block uses it any more.
    pub(crate) fn keep_open(&self, handle: Arc<dyn DiskFile>) {
        if !self.retired.load(Ordering::Relaxed) {
            *self.reader.lock() = Some(handle);
        }
    }

    /// Undoes [`BlockFile::keep_open`].
    pub(crate) fn let_go(&self) {
        *self.reader.lock() = None;
    }

    /// Gives the descriptor back; a long stream has more blocks than a process may have files open.
    pub(crate) fn close(&self) {
        *self.handle.lock() = None;
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.close();
        self.let_go();
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
    pub(crate) offset: u32,
    pub(crate) result: io::Result<()>,
}

impl WriteJob {
    /// Runs the job; blocks.
    pub fn run(self) -> WriteDone {
        let result = if self.file.retired.load(Ordering::Relaxed) {
            Ok(())
        } else {
            self.file.write(&self.data, u64::from(self.offset))
        };
        WriteDone { file: self.file, offset: self.offset, result }
    }

    /// Does not run the job, because the disk has no space to spare for it.
    pub fn refuse(self) -> WriteDone {
        self.fail(io::ErrorKind::StorageFull.into())
    }

    /// Does not run the job, because something that it needs could not be done.
    pub fn fail(self, error: io::Error) -> WriteDone {
        WriteDone { file: self.file, offset: self.offset, result: Err(error) }
    }

    /// Bytes to be written.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// True if there is nothing to write, which does not happen.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// Reads part of a block that is not in memory.
pub struct LoadJob {
    pub(crate) file: Arc<BlockFile>,
    pub(crate) seq: StreamSeq,
    pub(crate) offset: usize,
    /// Bytes of the message that is wanted; what follows is read ahead.
    pub(crate) needed: usize,
    pub(crate) len: usize,
    pub(crate) in_order: bool,
}

/// Outcome of a [`LoadJob`].
pub struct LoadDone {
    pub(crate) file: Arc<BlockFile>,
    pub(crate) seq: StreamSeq,
    pub(crate) offset: usize,
    pub(crate) result: io::Result<Bytes>,
    /// The file, if single messages are read from it.
    pub(crate) handle: Option<Arc<dyn DiskFile>>,
}

impl LoadDone {
    /// The message whose bytes were read.
    pub fn seq(&self) -> StreamSeq {
        self.seq
    }
}

impl LoadJob {
    /// The message whose bytes are read.
    pub fn seq(&self) -> StreamSeq {
        self.seq
    }

    /// Runs the job; blocks. What cannot be read ahead does not keep the message itself from being read.
    pub fn run(self) -> LoadDone {
        let mut handle = None;
        let outcome = DataReader::open(&self.file).and_then(|mut reader| {
            handle = (!self.in_order).then(|| reader.handle().clone());
            reader.read_ahead(self.offset, self.needed, self.len)
        });
        let (offset, result) = match outcome {
            Ok((offset, data)) => (offset, Ok(data)),
            Err(error) => (self.offset, Err(error)),
        };
        LoadDone { file: self.file, seq: self.seq, offset, result, handle }
    }
}
