//! Compression frames: what S2 writes is snappy's framing with larger blocks and a few more ways to say "copy"
//! (cluster protocols, "Compression").
//!
//! Blocks are compressed by `minlz`. Reading is done here, because nothing that reads S2 bounds what hostile frames make
//! it do: [`Decoder`] takes bytes as they come, [`FrameReader`] reads them from somewhere, both hold one chunk and give
//! one block at a time.

mod block;
mod crc;
mod decoder;
mod encoder;
mod reader;

pub use decoder::{Decoder, FrameError};
pub use encoder::{Encoder, Level};
pub use reader::FrameReader;

/// Bytes of a block when it is decompressed: the most that S2 allows.
pub const BLOCK_MAX: usize = 4 << 20;

/// The first bytes of every stream that is written here.
const STREAM_ID: &[u8; 10] = b"\xff\x06\x00\x00S2sTwO";

/// Kinds of chunks.
mod kind {
    /// A compressed block.
    pub(crate) const COMPRESSED: u8 = 0;
    /// A block as it is.
    pub(crate) const PLAIN: u8 = 1;
    /// Kinds from here on mean nothing to a reader that does not know them.
    pub(crate) const SKIPPABLE: u8 = 0x80;
    /// The beginning of a stream.
    pub(crate) const STREAM_ID: u8 = 0xff;
}

/// Bytes of the checksum in front of a block.
const CHECKSUM_LEN: usize = 4;
/// Bytes of kind and length in front of a chunk.
const HEADER_LEN: usize = 4;
