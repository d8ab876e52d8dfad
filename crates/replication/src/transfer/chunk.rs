use std::fmt;

use bytes::{Buf, BufMut, Bytes};
use linnet_ids::StreamSeq;
use linnet_store::DamagedMessage;

use super::error::TransferError;

/// Set in the number of a part of the state.
const STATE: u64 = 1 << 63;
/// Bytes of a chunk before its content.
pub(super) const HEAD: usize = 24;
/// Bytes that a damaged message takes.
const DAMAGED: usize = 12;

/// A part of what is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// What the stream is besides its messages. The first says how many there are.
    State(u32),
    /// Messages: those that begin in the places of this part.
    Messages(u64),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(number) => write!(f, "part {number} of the state"),
            Self::Messages(number) => write!(f, "part {number} of the messages"),
        }
    }
}

impl Part {
    fn to_number(self) -> u64 {
        match self {
            Self::State(number) => STATE | u64::from(number),
            Self::Messages(number) => number & !STATE,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
        match number & STATE {
            0 => Some(Self::Messages(number)),
            _ => u32::try_from(number & !STATE).ok().map(Self::State),
        }
    }
}

/// Asks for a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkRequest {
    /// Of which transfer.
    pub transfer: u64,
    /// Which part.
    pub part: Part,
}

impl ChunkRequest {
    /// Fixed-size form: transfer and part, 8 bytes each, little-endian. The highest bit of the part tells the state
    /// from messages.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.transfer.to_le_bytes());
        out[8..].copy_from_slice(&self.part.to_number().to_le_bytes());
        out
    }

    /// Inverse of [`ChunkRequest::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut bytes: &[u8] = bytes.first_chunk::<16>().filter(|_| bytes.len() == 16)?;
        let transfer = bytes.try_get_u64_le().ok()?;
        let part = Part::from_number(bytes.try_get_u64_le().ok()?)?;
        Some(Self { transfer, part })
    }
}

/// Begins a chunk; its content follows, then [`seal`] is called.
pub(super) fn begin(request: ChunkRequest, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD + capacity);
    out.put_u32_le(0);
    out.put_slice(&request.to_bytes());
    out.put_u32_le(0);
    out
}

/// Ends a chunk. `extent` is, for messages, how many bytes of records it has, and for the state, how many parts there
/// are.
///
/// | Field | Form, little-endian |
/// |---|---|
/// | CRC-32 of the rest | 4 bytes |
/// | transfer, part | 8 bytes each |
/// | extent | 4 bytes |
/// | records, or bytes of the state | |
/// | damaged messages: sequence, and bytes of the record | 8 and 4 bytes each |
pub(super) fn seal(mut out: Vec<u8>, extent: u32, damaged: &[DamagedMessage]) -> Bytes {
    out[HEAD - 4..HEAD].copy_from_slice(&extent.to_le_bytes());
    for message in damaged {
        out.put_u64_le(message.seq);
        out.put_u32_le(message.len);
    }
    let crc = crc32fast::hash(&out[4..]);
    out[..4].copy_from_slice(&crc.to_le_bytes());
    out.into()
}

/// What arrived.
pub(super) struct Opened<'a> {
    pub(super) part: Part,
    pub(super) extent: u32,
    content: &'a [u8],
}

/// Verifies a chunk of a transfer.
pub(super) fn open(chunk: &[u8], transfer: u64) -> Result<Opened<'_>, TransferError> {
    let (head, content) = chunk.split_at_checked(HEAD).ok_or(TransferError::Damaged)?;
    let (crc, mut rest) = head.split_first_chunk().ok_or(TransferError::Damaged)?;
    if crc32fast::hash(&chunk[4..]) != u32::from_le_bytes(*crc) {
        return Err(TransferError::Damaged);
    }
    let request = rest.get(..16).and_then(ChunkRequest::from_bytes).ok_or(TransferError::Damaged)?;
    rest.advance(16);
    if request.transfer != transfer {
        return Err(TransferError::OtherTransfer);
    }
    let extent = rest.try_get_u32_le().map_err(|_| TransferError::Damaged)?;
    Ok(Opened { part: request.part, extent, content })
}

impl<'a> Opened<'a> {
    /// Bytes of the state.
    pub(super) fn state(&self) -> &'a [u8] {
        self.content
    }

    /// Records, and what is damaged; `None` if the lengths do not fit.
    pub(super) fn messages(&self) -> Option<(&'a [u8], impl Iterator<Item = (StreamSeq, u32)> + 'a)> {
        let (records, damaged) = self.content.split_at_checked(self.extent as usize)?;
        let damaged = damaged.chunks_exact(DAMAGED);
        if !damaged.remainder().is_empty() {
            return None;
        }
        Some((records, damaged.map(|mut one| (one.get_u64_le(), one.get_u32_le()))))
    }
}
