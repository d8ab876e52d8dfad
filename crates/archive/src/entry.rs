//! Entries of an archive, one behind the other:
//!
//! | Field | Form |
//! |---|---|
//! | length of the name | uvarint |
//! | timestamp, nanoseconds since the Unix epoch | varint |
//! | sequence | uvarint |
//! | bytes of headers, bytes of payload | uvarint each |
//! | name; headers and payload | bytes |
//!
//! An entry with a sequence is a message and its name the subject. Five zeros are the end.

use std::io::{self, BufRead, Read};

/// First bytes of an archive.
pub(crate) const MAGIC: &[u8; 8] = b"NATSARC1";
/// Longest name or subject.
pub const NAME_MAX: usize = 65_535;
/// Most bytes of headers and payload together: a consumer may await many acknowledgements.
pub const ENTRY_MAX: usize = 64 << 20;

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Name, or the subject of a message.
    pub name: Vec<u8>,
    /// When it was stored, nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// Sequence of a message, 0 for anything else.
    pub seq: u64,
    /// Length of the header block at the start of the body.
    pub header_len: usize,
    /// Headers and payload.
    pub body: Vec<u8>,
}

/// What an entry cannot be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// The bytes ended.
    #[error("cut short")]
    Cut,
    /// A length beyond every bound.
    #[error("impossible length")]
    Length,
    /// Reading failed.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for EntryError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Cut } else { Self::Io(error) }
    }
}

/// Appends an entry.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    name: &[u8],
    timestamp: i64,
    seq: u64,
    header_len: usize,
    body: &[u8],
) {
    uvarint(out, name.len() as u64);
    uvarint(out, (timestamp << 1 ^ timestamp >> 63).cast_unsigned());
    uvarint(out, seq);
    uvarint(out, header_len as u64);
    uvarint(out, (body.len() - header_len.min(body.len())) as u64);
    out.extend_from_slice(name);
    out.extend_from_slice(body);
}

fn uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Reads the next entry into `entry`. False at the end.
pub(crate) fn read(input: &mut impl BufRead, entry: &mut Entry) -> Result<bool, EntryError> {
    let name_len = read_length(input, NAME_MAX)?;
    let timestamp = read_uvarint(input)?;
    entry.timestamp = zigzag(timestamp);
    entry.seq = read_uvarint(input)?;
    entry.header_len = read_length(input, ENTRY_MAX)?;
    let payload_len = read_length(input, ENTRY_MAX - entry.header_len)?;
    let body_len = entry.header_len + payload_len;
    read_bytes(input, name_len, &mut entry.name)?;
    read_bytes(input, body_len, &mut entry.body)?;
    Ok(name_len > 0 || timestamp > 0 || entry.seq > 0 || body_len > 0)
}

fn read_length(input: &mut impl BufRead, max: usize) -> Result<usize, EntryError> {
    let length = usize::try_from(read_uvarint(input)?).ok().filter(|length| *length <= max);
    length.ok_or(EntryError::Length)
}

/// A signed number from the form in which small ones are short.
pub(crate) fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Memory grows with what comes, not with what was announced.
pub(crate) fn read_bytes(input: &mut impl BufRead, len: usize, out: &mut Vec<u8>) -> Result<(), EntryError> {
    out.clear();
    let got = input.take(len as u64).read_to_end(out)?;
    if got == len { Ok(()) } else { Err(EntryError::Cut) }
}

pub(crate) fn read_uvarint(input: &mut impl BufRead) -> Result<u64, EntryError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *input.fill_buf()?.first().ok_or(EntryError::Cut)?;
        input.consume(1);
        if shift == 63 && byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(EntryError::Length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_round_trip(name in proptest::collection::vec(any::<u8>(), 1..300), timestamp: i64, seq: u64, body in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..300_usize) {
            let header_len = cut.min(body.len());
            let written = Entry { name, timestamp, seq, header_len, body };
            let mut bytes = Vec::new();
            encode(&mut bytes, &written.name, timestamp, seq, header_len, &written.body);
            let mut entry = Entry::default();
            prop_assert!(read(&mut bytes.as_slice(), &mut entry).unwrap());
            prop_assert_eq!(entry, written);
        }
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let mut bytes = Vec::new();
        for number in [1, 0, 1, 0, ENTRY_MAX as u64] {
            uvarint(&mut bytes, number);
        }
        bytes.extend(b"sx");
        let mut entry = Entry::default();
        assert!(matches!(read(&mut bytes.as_slice(), &mut entry), Err(EntryError::Cut)));
        assert!(entry.body.capacity() < 1 << 10);
        let mut too_long = Vec::new();
        for number in [1, 0, 1, 1, ENTRY_MAX as u64] {
            uvarint(&mut too_long, number);
        }
        assert!(matches!(read(&mut too_long.as_slice(), &mut entry), Err(EntryError::Length)));
        assert!(matches!(read(&mut [0xff_u8; 11].as_slice(), &mut entry), Err(EntryError::Length)));
    }
}
