use bytes::{Buf, BufMut};
use linnet_ids::Wall;
use linnet_store::{DATA_MAX, State};

use super::error::TransferError;

/// Form of the bytes.
const VERSION: u8 = 1;

/// What a leader says of a state before anybody asks for its content: the body of a snapshot.
///
/// | Field | Form, little-endian |
/// |---|---|
/// | version, 1 | 1 byte |
/// | kept in memory | 1 byte |
/// | transfer | 8 bytes |
/// | bytes of a chunk | 4 bytes |
/// | places | 8 bytes |
/// | messages, accounted bytes, first and last sequence, lost messages, lost bytes | 8 bytes each |
/// | has a last timestamp | 1 byte |
/// | last timestamp, nanoseconds since the Unix epoch | 8 bytes |
/// | CRC-32 of what is before | 4 bytes |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// Which transfer it belongs to: random.
    pub transfer: u64,
    /// It is one of a memory stream.
    pub is_memory: bool,
    /// Places of a chunk.
    pub chunk_bytes: u32,
    /// Places in which records begin: bytes of records, with those of removed messages between them.
    pub places: u64,
    /// What the stream's messages come to.
    pub state: State,
}

impl Description {
    /// Fixed-size form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(83);
        out.put_u8(VERSION);
        out.put_u8(self.is_memory.into());
        out.put_u64_le(self.transfer);
        out.put_u32_le(self.chunk_bytes);
        out.put_u64_le(self.places);
        let State { msgs, bytes, first_seq, last_seq, last_ts, lost } = self.state;
        [msgs, bytes, first_seq, last_seq, lost.0, lost.1].into_iter().for_each(|n| out.put_u64_le(n));
        out.put_u8(last_ts.is_some().into());
        out.put_i64_le(last_ts.map_or(0, |at| at.0));
        out.put_u32_le(crc32fast::hash(&out));
        out
    }

    /// Inverse of [`Description::to_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TransferError> {
        let (mut fields, crc) = bytes.split_last_chunk().ok_or(TransferError::Description)?;
        if crc32fast::hash(fields) != u32::from_le_bytes(*crc) {
            return Err(TransferError::Description);
        }
        let read = Self::read(&mut fields).ok_or(TransferError::Description)?;
        let is_possible = read.chunk_bytes > 0
            && read.places <= DATA_MAX
            && read.state.msgs <= read.places
            && read.state.last_seq < u64::MAX
            && read.state.lost.0 < u64::MAX / 2
            && read.state.lost.1 < u64::MAX / 2;
        if is_possible && fields.is_empty() { Ok(read) } else { Err(TransferError::Description) }
    }

    fn read(fields: &mut &[u8]) -> Option<Self> {
        if fields.try_get_u8().ok()? != VERSION {
            return None;
        }
        let is_memory = flag(fields)?;
        let transfer = fields.try_get_u64_le().ok()?;
        let chunk_bytes = fields.try_get_u32_le().ok()?;
        let mut number = || fields.try_get_u64_le().ok();
        let places = number()?;
        let (msgs, bytes) = (number()?, number()?);
        let (first_seq, last_seq) = (number()?, number()?);
        let lost = (number()?, number()?);
        let has_ts = flag(fields)?;
        let last_ts = Some(Wall(fields.try_get_i64_le().ok()?)).filter(|_| has_ts);
        let state = State { msgs, bytes, first_seq, last_seq, last_ts, lost };
        Some(Self { transfer, is_memory, chunk_bytes, places, state })
    }

    /// Number of parts with messages.
    pub(super) fn message_parts(&self) -> u64 {
        self.places.div_ceil(u64::from(self.chunk_bytes))
    }
}

/// A byte that is 0 or 1.
fn flag(fields: &mut &[u8]) -> Option<bool> {
    match fields.try_get_u8().ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
