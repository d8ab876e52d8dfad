//! A store that is filled with another replica's messages, to take the place of the present one.
//!
//! Both use the same directory, and the present one goes on meanwhile: its log still names its files. So no file gets
//! a name that the present store has used or will use. What is written is durable when [`Replacement::finish`]
//! returns; the log then has to record the body, and only after that the files of the present store may go.

use std::fmt;
use std::io;
use std::path::PathBuf;

use linnet_ids::StreamSeq;
use thiserror::Error;

use crate::block::Block;
use crate::record::{Record, RecordError};
use crate::state_file::{CheckpointBody, state_name};
use crate::store::{BLOCK_MIN, Kind, State, StreamStore};

/// Bytes after which what was written is synced, compressed and indexed: not all at the end.
const CHECKPOINT_BYTES: u64 = 64 << 20;
/// A checkpoint lists all blocks, so they become rarer as these become more: one when this part is new.
const CHECKPOINT_PART: u64 = 8;
/// Checkpoints that can be made on the way to 2^63 bytes, with ample room.
const CHECKPOINTS_MAX: u64 = 1 << 10;
/// Rows of a message at most: its own and those of short gaps before it.
const ROWS_PER_MESSAGE: u64 = 3;

/// Bytes of records and number of messages that a store may have at most.
pub const DATA_MAX: u64 = 1 << 56;

/// A store under construction that takes the place of another one.
pub struct Replacement {
    store: StreamStore,
    /// Numbers of block and state files end here.
    blocks_end: u64,
    states_end: u64,
    written: u64,
    since_checkpoint: u64,
}

/// Why records were not taken.
#[derive(Debug, Error)]
pub enum ReplacementError {
    /// They are not records of this group.
    #[error("not a record of this stream: {0}")]
    Record(#[from] RecordError),
    /// Not in the order of sequences.
    #[error("message {found} follows message {last}")]
    Order {
        /// The one before.
        last: StreamSeq,
        /// The one out of order.
        found: StreamSeq,
    },
    /// More than was announced.
    #[error("more messages than were announced")]
    TooMany,
    /// The disk.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl fmt::Debug for Replacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replacement").field("state", &self.store.state).finish_non_exhaustive()
    }
}

impl StreamStore {
    /// An empty store beside this one, for at most so many bytes of records and messages. No file of it has or will
    /// have the name of one of this store.
    pub fn begin_replacement(&mut self, bytes: u64, msgs: u64) -> Replacement {
        let (bytes, msgs) = (bytes.min(DATA_MAX), msgs.min(DATA_MAX));
        let mut store = Self::new(self.kind.clone(), self.seed, 0, -1).with_layout(self.layout);
        let smallest = self.layout.block_max.clamp(1, BLOCK_MIN) as u64;
        let rows = self.layout.rows_max.max(1) as u64;
        // Each may be packed into another file; the rest is room to spare.
        let blocks = 3 * (bytes / smallest + ROWS_PER_MESSAGE * msgs / rows + 1);
        store.next_block = self.next_block;
        self.next_block += blocks;
        store.next_state = self.unused_state();
        self.next_state = store.next_state + CHECKPOINTS_MAX;
        Replacement {
            blocks_end: self.next_block,
            states_end: self.next_state,
            store,
            written: 0,
            since_checkpoint: 0,
        }
    }

    /// The first number that no state file has, nor one that is being written, which is not counted yet.
    fn unused_state(&self) -> u64 {
        self.pending.as_ref().map_or(0, |pending| pending.number() + 1).max(self.next_state)
    }

    /// Every file that may hold something of the store, written or about to be written. Jobs that are under way write
    /// nothing more to blocks. The store is not to be used any more.
    fn give_up_files(&mut self) -> Vec<PathBuf> {
        let mut files = std::mem::take(&mut self.obsolete);
        let Kind::File { dir, .. } = &self.kind else { return files };
        if let Some(pending) = self.pending.take() {
            files.push(dir.join(state_name(pending.number())));
            files.extend(pending.into_files());
        }
        files.extend(self.recorded_state.take().map(|number| dir.join(state_name(number))));
        for file in std::mem::take(&mut self.blocks).iter().filter_map(|block: &Block| block.file.as_ref()) {
            file.retire();
            files.extend([file.path().to_owned(), file.index_path()]);
        }
        files
    }
}

impl Replacement {
    /// Follows the stream's configuration, before the first message.
    pub fn configure(&mut self, max_per_subject: i64, max_bytes: i64, compress: bool) {
        self.store.set_max_per_subject(max_per_subject);
        self.store.fit_to(max_bytes);
        self.store.set_compression(compress);
    }

    /// The store so far.
    pub fn store(&self) -> &StreamStore {
        &self.store
    }

    /// Appends encoded records, one behind the other. It blocks: full parts of blocks are written. After an error the
    /// replacement is of no use; what it wrote is removed by [`Replacement::discard`].
    pub fn append(&mut self, records: &[u8]) -> Result<(), ReplacementError> {
        let mut rest = records;
        while !rest.is_empty() {
            let (record, len) = Record::decode(rest, self.store.seed)?;
            // Names behind the end may be those of files of the present store.
            if self.store.next_block >= self.blocks_end {
                return Err(ReplacementError::TooMany);
            }
            let last = self.store.state.last_seq;
            if record.seq <= last {
                return Err(ReplacementError::Order { last, found: record.seq });
            }
            let (bytes, behind) = rest.split_at(len);
            self.store.append(bytes);
            rest = behind;
        }
        self.written += records.len() as u64;
        self.since_checkpoint += records.len() as u64;
        self.write()
    }

    fn write(&mut self) -> Result<(), ReplacementError> {
        for job in self.store.take_writes(false) {
            self.store.written(job.run());
            self.check()?;
        }
        if self.since_checkpoint < CHECKPOINT_BYTES.max(self.written / CHECKPOINT_PART) {
            return Ok(());
        }
        self.checkpoint(Vec::new()).map(|_| ())
    }

    fn check(&self) -> io::Result<()> {
        match self.store.failure() {
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            None if self.store.is_disk_full() => Err(io::ErrorKind::StorageFull.into()),
            None => Ok(()),
        }
    }

    /// Makes everything so far durable; `None` for a memory store.
    fn checkpoint(&mut self, extra: Vec<u8>) -> Result<Option<CheckpointBody>, ReplacementError> {
        self.since_checkpoint = 0;
        let Kind::File { disk, .. } = self.store.kind.clone() else { return Ok(None) };
        let packed_end = self.store.next_block + self.store.blocks.len() as u64;
        if self.store.next_state >= self.states_end || packed_end > self.blocks_end {
            return Err(ReplacementError::TooMany);
        }
        let job = self.store.begin_checkpoint_with(|| extra);
        let taken = job.map(|job| self.store.finish_checkpoint(job.run()));
        self.check()?;
        let Some((body, removable)) = taken.flatten() else {
            return Err(io::Error::other("a checkpoint was not taken").into());
        };
        // No record in the log names them.
        removable.iter().for_each(|path| drop(disk.remove_file(path)));
        Ok(Some(body))
    }

    /// Takes over what the other store is besides its messages, and makes everything durable: what the log is to
    /// record. `lost` are messages that were damaged there, with their bytes. It blocks.
    pub fn finish(
        &mut self,
        state: &State,
        damaged: impl IntoIterator<Item = StreamSeq>,
        lost: (u64, u64),
        extra: Vec<u8>,
    ) -> Result<Option<CheckpointBody>, ReplacementError> {
        let last = self.store.state.last_seq;
        if state.last_seq < last {
            return Err(ReplacementError::Order { last, found: state.last_seq });
        }
        let own = &mut self.store.state;
        own.last_seq = state.last_seq;
        own.last_ts = state.last_ts;
        own.lost = (state.lost.0 + lost.0, state.lost.1 + lost.1);
        if own.msgs == 0 {
            // Nothing is left of what was there first.
            let after = if state.last_seq > 0 { state.last_seq + 1 } else { 0 };
            own.first_seq = state.first_seq.max(after);
        }
        self.store.damaged.extend(damaged);
        self.checkpoint(extra)
    }

    /// Takes the place of a store, which is not to be used any more. Also the files that may be deleted once the log
    /// has recorded the new body; some of them may not exist.
    pub fn take_over(mut self, present: &mut StreamStore) -> (StreamStore, Vec<PathBuf>) {
        self.store.next_block = self.store.next_block.max(present.next_block);
        self.store.next_state = self.store.next_state.max(present.unused_state());
        // Those who read the present store as it was go on.
        self.store.pins = std::mem::take(&mut present.pins);
        (self.store, present.give_up_files())
    }

    /// Removes what was written. It blocks.
    pub fn discard(mut self) {
        let files = self.store.give_up_files();
        if let Kind::File { disk, .. } = &self.store.kind {
            files.iter().for_each(|path| drop(disk.remove_file(path)));
        }
    }
}
