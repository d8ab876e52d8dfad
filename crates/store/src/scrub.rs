//! Reading blocks only to see whether their records are intact.

use std::path::PathBuf;

use linnet_ids::StreamSeq;

use crate::block::Block;
use crate::pin::{PinReadError, PinReader, Pinned};
use crate::store::StreamStore;

/// One block of a stream, to be verified.
#[derive(Clone, Debug)]
pub struct BlockToVerify {
    /// The messages of the block.
    pub messages: Pinned,
    /// The sequence at which the next block begins.
    pub next: StreamSeq,
}

/// What a step of verifying came to.
#[derive(Debug, Default)]
pub struct Verified {
    /// Intact messages.
    pub msgs: u64,
    /// Bytes of the records that were looked at.
    pub bytes: u64,
    /// Records that are damaged.
    pub damaged: Vec<DamagedRecord>,
    /// Messages that the disk did not give, which says nothing about them.
    pub unread: Vec<PinReadError>,
    /// Nothing is left.
    pub is_done: bool,
}

/// A record that is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRecord {
    /// Its message.
    pub seq: StreamSeq,
    /// Its file.
    pub file: PathBuf,
    /// Where in the file it begins.
    pub offset: u64,
}

impl StreamStore {
    /// The first block with messages at or behind `from` of which a file holds something, as it is now. Until it is
    /// dropped, files that the store has no use for stay, as with [`StreamStore::pin`].
    pub fn pin_block(&mut self, from: StreamSeq) -> Option<BlockToVerify> {
        let at = self.blocks.partition_point(|block| block.end() <= from);
        let is_in_file = |block: &&Block| block.live() > 0 && block.file.is_some() && !block.is_unwritten();
        let block = self.blocks.range(at..).find(is_in_file)?;
        let (next, pinned) = (block.end(), block.pin());
        Some(BlockToVerify { messages: self.pin_those([pinned].into()), next })
    }
}

impl PinReader {
    /// Verifies records of about so many bytes, at least one. It goes on behind what is damaged.
    pub fn verify(&mut self, bytes: u64) -> Verified {
        let mut verified = Verified::default();
        while verified.bytes < bytes {
            let outcome = self.next_record().map(|record| record.is_some());
            match outcome {
                Ok(true) => verified.msgs += 1,
                Ok(false) => {
                    verified.is_done = true;
                    return verified;
                }
                Err(PinReadError::Damaged(seq)) => {
                    let (file, offset) = self.place();
                    verified.damaged.push(DamagedRecord { seq, file, offset });
                }
                Err(error @ PinReadError::Io { .. }) => verified.unread.push(error),
            }
            verified.bytes += self.record_len();
        }
        verified
    }
}
