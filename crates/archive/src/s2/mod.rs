//! Compression frames: what S2 writes is snappy's framing with larger blocks and a few more ways to say "copy".
//!
//! Writing is left to `snap`: every reader of S2 takes snappy's frames. Reading is done here, because nothing that
//! reads S2 bounds what hostile frames make it do.

mod block;
mod crc;
mod frame;

pub use frame::FrameReader;

/// Bytes of a block when it is decompressed: the most that S2 allows.
pub const BLOCK_MAX: usize = 4 << 20;
