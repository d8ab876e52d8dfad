use linnet_ids::{GroupId, StreamSeq, Wall};
use thiserror::Error;

/// Fixed part in front of subject, headers and payload:
///
/// | bytes | field |
/// |---|---|
/// | 0–3 | length of the whole record |
/// | 4–7 | CRC-32 of the rest, started from the group's seed |
/// | 8–15 | sequence |
/// | 16–23 | timestamp, nanoseconds since the Unix epoch |
/// | 24–27 | length of the header block |
/// | 28–29 | length of the subject |
/// | 30–31 | reserved, zero |
///
/// All little-endian. The log, the network between replicas and the blocks carry these bytes verbatim.
pub(crate) const FIXED: usize = 32;

/// A record may not be larger than this (jetstream, "Limits and defaults": file record 32 MiB).
pub const RECORD_MAX: usize = 32 << 20;

/// Start value of a group's checksums: a record of another stream never passes as one of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    /// The seed of a group.
    pub fn of(group: GroupId) -> Self {
        Self(crc32fast::hash(&group.to_bytes()))
    }

    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        self.checksum_of([bytes])
    }

    /// Checksum of parts that follow one another.
    pub(crate) fn checksum_of<'a>(self, parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        parts.into_iter().for_each(|bytes| hasher.update(bytes));
        hasher.finalize()
    }
}

/// A stored message, borrowing its encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Sequence in the stream.
    pub seq: StreamSeq,
    /// When it was stored.
    pub timestamp: Wall,
    /// Subject.
    pub subject: &'a [u8],
    /// Header block, empty when there is none.
    pub headers: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// Header block and payload together.
    pub body: &'a [u8],
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Fewer bytes than the record announces.
    #[error("record is cut short")]
    Truncated,
    /// Lengths that contradict each other.
    #[error("record lengths are impossible")]
    Malformed,
    /// The checksum does not match.
    #[error("record checksum mismatch")]
    Checksum,
}

/// Appends the encoded record to `out`. The caller has checked that subject and headers fit 16 and 32 bits and the
/// whole [`RECORD_MAX`].
pub fn encode(
    out: &mut Vec<u8>,
    seed: Seed,
    seq: StreamSeq,
    timestamp: Wall,
    subject: &[u8],
    header_len: usize,
    body: &[u8],
) {
    let start = out.len();
    let total = u32::try_from(FIXED + subject.len() + body.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&total.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&timestamp.0.to_le_bytes());
    out.extend_from_slice(&u32::try_from(header_len).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&u16::try_from(subject.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(subject);
    out.extend_from_slice(body);
    let crc = seed.checksum(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

impl<'a> Record<'a> {
    /// Decodes the record at the front of `bytes`; also returns its length. Verifies the checksum.
    pub fn decode(bytes: &'a [u8], seed: Seed) -> Result<(Self, usize), RecordError> {
        let (record, len) = Self::view(bytes)?;
        let stored = u32_at(bytes, 4).ok_or(RecordError::Truncated)?;
        let covered = bytes.get(8..len).ok_or(RecordError::Truncated)?;
        if seed.checksum(covered) == stored { Ok((record, len)) } else { Err(RecordError::Checksum) }
    }

    /// Like [`Record::decode`] for bytes that were verified before and have not left memory since.
    pub fn view(bytes: &'a [u8]) -> Result<(Self, usize), RecordError> {
        let fixed = bytes.get(..FIXED).ok_or(RecordError::Truncated)?;
        let field = |at| u32_at(fixed, at).ok_or(RecordError::Truncated).map(|n| n as usize);
        let (len, header_len) = (field(0)?, field(24)?);
        let subject_len = field(28)?;
        if subject_len > usize::from(u16::MAX) || len > RECORD_MAX || len < FIXED + subject_len + header_len {
            return Err(RecordError::Malformed);
        }
        let rest = bytes.get(FIXED..len).ok_or(RecordError::Truncated)?;
        let (subject, body) = rest.split_at(subject_len);
        let (headers, payload) = body.split_at(header_len);
        let seq = u64_at(fixed, 8).ok_or(RecordError::Truncated)?;
        let timestamp = Wall(u64_at(fixed, 16).ok_or(RecordError::Truncated)?.cast_signed());
        Ok((Self { seq, timestamp, subject, headers, payload, body }, len))
    }

    /// Size as nats-server accounts for it (jetstream, "Account information and limits").
    pub fn accounted(&self, memory: bool) -> u64 {
        accounted(FIXED + self.subject.len() + self.body.len(), !self.headers.is_empty(), memory)
    }
}

/// Accounted size of a record from its encoded length: memory 16 bytes more than the content, file 30, and 4 for
/// the length of headers if there are any.
pub(crate) fn accounted(encoded_len: usize, has_headers: bool, memory: bool) -> u64 {
    (encoded_len - FIXED) as u64 + overhead(has_headers, memory)
}

/// Sum of the accounted sizes of so many records in a file, which have `encoded_len` bytes together.
pub(crate) fn accounted_sum(encoded_len: u64, records: u64, with_headers: u64) -> u64 {
    encoded_len - records * FIXED as u64
        + (records - with_headers) * overhead(false, false)
        + with_headers * overhead(true, false)
}

fn overhead(has_headers: bool, memory: bool) -> u64 {
    match (memory, has_headers) {
        (true, _) => 16,
        (false, false) => 30,
        (false, true) => 34,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: Seed = Seed(7);

    fn sample() -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, SEED, 42, Wall(-5), b"a.b", 4, b"hdr\npayload");
        out
    }

    #[test]
    fn records_round_trip() {
        let bytes = sample();
        let (record, len) = Record::decode(&bytes, SEED).unwrap();
        assert_eq!(len, bytes.len());
        assert_eq!((record.seq, record.timestamp, record.subject), (42, Wall(-5), b"a.b".as_slice()));
        assert_eq!((record.headers, record.payload), (b"hdr\n".as_slice(), b"payload".as_slice()));
        assert_eq!(record.accounted(true), 3 + 11 + 16);
        assert_eq!(record.accounted(false), 22 + 3 + 7 + 8 + 4 + 4);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::decode(&bad, SEED).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Record::decode(&bytes[..len], SEED).is_err());
        }
        assert_eq!(Record::decode(&bytes, Seed(8)), Err(RecordError::Checksum));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Record::decode(&bytes, SEED);
            let _ = Record::view(&bytes);
        }
    }
}
