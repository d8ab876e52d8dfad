//! Compression of what a connection writes.

use std::collections::VecDeque;

use linnet_s2::{Encoder, Level};
use parking_lot::Mutex;

use crate::chunk::{Chunk, recycle, take_buffer};

/// Bytes that become one stream at most, so that what is compressed does not take as much room as a whole queue.
pub(crate) const PACK_MAX: usize = 1 << 20;

/// Turns what is to be written into frames. Only the thread that writes has it, so that nobody waits for it; its lock is
/// there for changes of the level.
pub(crate) struct Packer {
    encoder: Mutex<Encoder>,
}

impl Packer {
    pub(crate) fn new(level: Level) -> Self {
        Self { encoder: Mutex::new(Encoder::new(level)) }
    }

    pub(crate) fn set_level(&self, level: Level) {
        self.encoder.lock().set_level(level);
    }

    /// The chunks as one stream of frames.
    pub(crate) fn pack(&self, chunks: VecDeque<Chunk>) -> VecDeque<Chunk> {
        let mut out = take_buffer();
        let parts: Vec<&[u8]> = chunks.iter().map(Chunk::bytes).collect();
        self.encoder.lock().stream(&parts, &mut out);
        for chunk in chunks {
            if let Chunk::Owned(buffer) = chunk {
                recycle(buffer);
            }
        }
        VecDeque::from([Chunk::Owned(out)])
    }
}
