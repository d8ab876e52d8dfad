use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use linnet_env::{Disk, lacks_descriptors};

use crate::data_reader::DataReader;
use crate::jobs::{BlockFile, HEADER, index_name, is_damage, is_shortage};
use crate::packed::Packer;
use crate::record::Seed;
use crate::scan::{read_data, scan};
use crate::state_file::{CheckpointBody, SavedBlock, SavedState, state_name, write_new, write_state};

/// Bytes copied at a time when a block is rewritten.
const COPY: usize = 1 << 20;

/// Makes the blocks durable and writes a state file that describes them. Runs on any thread; meanwhile the store
/// goes on.
pub struct CheckpointJob {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) seed: Seed,
    pub(crate) number: u64,
    /// Parts of blocks that their files are not known to hold.
    pub(crate) writes: Vec<(Arc<BlockFile>, u32, Bytes)>,
    pub(crate) rewrites: Vec<Rewrite>,
    pub(crate) syncs: Vec<Arc<BlockFile>>,
    /// Blocks to write an index file for, by their place in the state.
    pub(crate) indexes: Vec<usize>,
    /// Makes the bytes of the owner's state.
    pub(crate) extra: Box<dyn FnOnce() -> Vec<u8> + Send>,
    pub(crate) state: SavedState,
}

/// Copies what is alive of a block into a new file.
pub(crate) struct Rewrite {
    /// Place of the block in the state.
    pub(crate) at: usize,
    pub(crate) from: Arc<BlockFile>,
    pub(crate) to: Arc<BlockFile>,
    pub(crate) spans: Vec<Range<usize>>,
    /// Bytes of a frame, if the new file is to be packed.
    pub(crate) pack: Option<usize>,
    /// It is copied even if packing does not make it smaller.
    pub(crate) must_copy: bool,
}

/// Outcome of a [`CheckpointJob`], to be given back to the store.
pub struct CheckpointTaken {
    /// Number of its state file.
    pub(crate) number: u64,
    pub(crate) result: Result<Taken, Failed>,
}

pub(crate) struct Taken {
    pub(crate) body: CheckpointBody,
    /// For each rewrite, whether it was done: a block stays where it is if it cannot be read, or was only to be packed
    /// and would not get smaller.
    pub(crate) rewritten: Vec<bool>,
}

pub(crate) struct Failed {
    pub(crate) error: io::Error,
    /// True if only space or a descriptor was missing and no sync failed: another attempt may succeed.
    pub(crate) can_retry: bool,
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        let can_retry = is_shortage(&error);
        Self { error, can_retry }
    }
}

fn sync_failed(error: io::Error) -> Failed {
    // Without a descriptor for the directory, nothing was tried that could have failed.
    Failed { can_retry: lacks_descriptors(&error), error }
}

impl CheckpointTaken {
    /// Why it failed, if it did.
    pub fn error(&self) -> Option<&io::Error> {
        self.result.as_ref().err().map(|failed| &failed.error)
    }
}

impl CheckpointJob {
    /// Runs the job; blocks.
    pub fn run(self) -> CheckpointTaken {
        let number = self.number;
        CheckpointTaken { number, result: self.try_run() }
    }

    /// Does not run the job, because the disk has no space to spare for it.
    pub fn refuse(self) -> CheckpointTaken {
        self.fail(io::ErrorKind::StorageFull.into())
    }

    /// Does not run the job, because something that it needs could not be done.
    pub fn fail(self, error: io::Error) -> CheckpointTaken {
        CheckpointTaken { number: self.number, result: Err(error.into()) }
    }

    /// Bytes of blocks to be written, not counting the state.
    pub fn bytes(&self) -> u64 {
        let written = self.writes.iter().map(|(_, _, data)| data.len());
        let copied = self.rewrites.iter().flat_map(|rewrite| &rewrite.spans).map(Range::len);
        written.chain(copied).map(|bytes| bytes as u64).sum()
    }

    fn try_run(mut self) -> Result<Taken, Failed> {
        for (file, offset, data) in &self.writes {
            file.write(data, u64::from(*offset))?;
        }
        let mut rewritten = Vec::with_capacity(self.rewrites.len());
        for rewrite in &self.rewrites {
            let done = rewrite.run().inspect_err(|_| rewrite.to.discard())?;
            if let Some(block) = self.state.blocks.get_mut(rewrite.at).filter(|_| done) {
                block.number = rewrite.to.number();
                block.len = rewrite.spans.iter().map(|s| s.len() as u64).sum();
                block.packed = rewrite.to.packed_len();
                block.must_rewrite = false;
                self.syncs.push(rewrite.to.clone());
            }
            rewritten.push(done);
        }
        for file in &self.syncs {
            file.for_writing()?.sync_data().map_err(sync_failed)?;
        }
        for block in self.indexes.iter().filter_map(|at| self.state.blocks.get(*at)) {
            self.write_index(block);
        }
        self.state.extra = std::mem::replace(&mut self.extra, Box::new(Vec::new))();
        let content = self.state.encode();
        let body =
            CheckpointBody { number: self.number, len: content.len() as u64, crc: crc32fast::hash(&content) };
        let file = write_state(&*self.disk, &self.dir.join(state_name(self.number)), &content)?;
        file.sync_data().map_err(sync_failed)?;
        self.disk.sync_dir(&self.dir).map_err(sync_failed)?;
        Ok(Taken { body, rewritten })
    }

    /// Writes the index of a block from what its file holds. Opening verifies an index and does without it, so it
    /// is neither synced nor missed when it cannot be written. A damaged block has none: opening must look at it.
    fn write_index(&self, block: &SavedBlock) {
        let Ok(data) = read_data(&block.file(&self.disk, &self.dir, self.seed), block.len) else { return };
        let index = scan(&data, self.seed, block);
        if index.is_whole {
            let content = index.encode(block.number, self.seed);
            let _ = write_new(&*self.disk, &self.dir.join(index_name(block.number)), &content);
        }
    }
}

impl Rewrite {
    /// False if the block stays where it is.
    fn run(&self) -> io::Result<bool> {
        if let Some(frame_max) = self.pack {
            match self.packed(frame_max) {
                Err(e) if is_damage(&e) => return Ok(false),
                Err(e) => return Err(e),
                Ok(Some(content)) => return self.to.write_packed(&content).map(|()| true),
                Ok(None) if !self.must_copy => return Ok(false),
                Ok(None) => {}
            }
        }
        self.copy()
    }

    /// Content of the packed file, if it is smaller than the records.
    fn packed(&self, frame_max: usize) -> io::Result<Option<Vec<u8>>> {
        let mut from = DataReader::open(&self.from)?;
        let mut packer = Packer::new(self.to.key(), frame_max);
        let mut records = Vec::new();
        for span in &self.spans {
            records.resize(span.len(), 0);
            from.read(&mut records, span.start)?;
            packer.add(&records);
        }
        Ok(packer.finish())
    }

    fn copy(&self) -> io::Result<bool> {
        let mut from = match DataReader::open(&self.from) {
            Err(e) if is_damage(&e) => return Ok(false),
            outcome => outcome?,
        };
        let to = self.to.for_writing()?;
        let mut at = HEADER;
        let mut buffer = Vec::new();
        for span in &self.spans {
            let mut next = span.start;
            while next < span.end {
                let len = (span.end - next).min(COPY);
                buffer.resize(len, 0);
                match from.read(&mut buffer, next) {
                    Err(e) if is_damage(&e) => return Ok(false),
                    outcome => outcome?,
                }
                to.write_all_at(&buffer, at)?;
                at += len as u64;
                next += len;
            }
        }
        Ok(true)
    }
}
