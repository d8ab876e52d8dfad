//! Messages: `msgs/N.blk` of older servers, records one behind the other, numbers with the lowest byte first.
//!
//! | Bytes | Field |
//! |---|---|
//! | 4 | length of the record; the highest bit says that there are headers |
//! | 8 | sequence; bit 63: the message is removed; bit 62: a message of any block is removed |
//! | 8 | timestamp, nanoseconds since the Unix epoch |
//! | 2 | length of the subject |
//! | | subject; with headers their length (4) and they; payload |
//! | 8 | checksum of sequence, timestamp, subject, headers, payload |
//!
//! The layout is that of `msgBlock.writeMsgRecordLocked` in nats-server's `server/filestore.go`. Blocks stand in
//! backups without compression and encryption.

use std::io::BufRead;

use super::checksum::{self, Checksum};
use crate::entry::{ENTRY_MAX, Entry, EntryError, read_bytes};

const HEADERS: u32 = 1 << 31;
const ERASED: u64 = 1 << 63;
const TOMBSTONE: u64 = 1 << 62;
const FIXED: usize = 22;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A message: it is in the entry.
    Message,
    /// The sequence is used up, and its message gone.
    Erased,
    /// A message of this sequence, in this block or one before, is gone.
    Tombstone,
}

/// Why a record cannot be read.
#[derive(Debug)]
pub(super) enum RecordError {
    Entry(EntryError),
    Invalid(&'static str),
}

impl From<EntryError> for RecordError {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl From<std::io::Error> for RecordError {
    fn from(error: std::io::Error) -> Self {
        Self::Entry(error.into())
    }
}

/// Reads the next record into `entry`, also the sequence and time of what is no message. `None` at the end.
pub(super) fn read(
    input: &mut impl BufRead,
    checksum: &Checksum,
    entry: &mut Entry,
) -> Result<Option<Record>, RecordError> {
    if input.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let mut fixed = [0; FIXED];
    input.read_exact(&mut fixed)?;
    let [l0, l1, l2, l3, identity @ .., s0, s1] = fixed;
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    let has_headers = len & HEADERS != 0;
    let rest =
        ((len & !HEADERS) as usize).checked_sub(FIXED + checksum::LEN).filter(|rest| *rest <= ENTRY_MAX);
    let mut rest = rest.ok_or(RecordError::Invalid("impossible length of a record"))?;
    let mut take = |bytes: usize| {
        rest = rest.checked_sub(bytes).ok_or(RecordError::Invalid("impossible length in a record"))?;
        Ok::<usize, RecordError>(bytes)
    };
    let subject_len = take(usize::from(u16::from_le_bytes([s0, s1])))?;
    read_bytes(input, subject_len, &mut entry.name)?;
    entry.header_len = 0;
    if has_headers {
        take(4)?;
        let mut header_len = [0; 4];
        input.read_exact(&mut header_len)?;
        entry.header_len = u32::from_le_bytes(header_len) as usize;
    }
    if entry.header_len > rest {
        return Err(RecordError::Invalid("impossible length in a record"));
    }
    read_bytes(input, rest, &mut entry.body)?;
    let mut sum = [0; checksum::LEN];
    input.read_exact(&mut sum)?;
    if checksum.of(&[&identity, &entry.name, &entry.body]) != sum {
        return Err(RecordError::Invalid("a record has a wrong checksum"));
    }
    let (seq, timestamp) = identity.split_at(8);
    let seq = u64::from_le_bytes(seq.try_into().unwrap_or_default());
    entry.timestamp = i64::from_le_bytes(timestamp.try_into().unwrap_or_default());
    entry.seq = seq & !(ERASED | TOMBSTONE);
    Ok(Some(match seq {
        _ if seq & TOMBSTONE != 0 => Record::Tombstone,
        _ if seq & ERASED != 0 || seq == 0 => Record::Erased,
        _ => Record::Message,
    }))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record; `headers` `None` for none.
    pub(crate) fn record(
        sum: &Checksum,
        seq: u64,
        subject: &str,
        headers: Option<&str>,
        body: &str,
    ) -> Vec<u8> {
        let identity = [seq.to_le_bytes(), 7_i64.to_le_bytes()].concat();
        let mut rest = subject.as_bytes().to_vec();
        if let Some(headers) = headers {
            rest.extend(u32::try_from(headers.len()).unwrap().to_le_bytes());
        }
        let content = format!("{}{body}", headers.unwrap_or_default());
        rest.extend(content.as_bytes());
        let len = u32::try_from(FIXED + rest.len() + checksum::LEN).unwrap();
        let len = if headers.is_some() { len | HEADERS } else { len };
        let mut bytes = len.to_le_bytes().to_vec();
        bytes.extend(&identity);
        bytes.extend(u16::try_from(subject.len()).unwrap().to_le_bytes());
        bytes.extend(&rest);
        bytes.extend(sum.of(&[&identity, subject.as_bytes(), content.as_bytes()]));
        bytes
    }

    pub(crate) const GONE: u64 = ERASED;
    pub(crate) const BURIES: u64 = TOMBSTONE;

    #[test]
    fn records_are_read_with_what_they_say() {
        let sum = Checksum::keyed("S-1");
        let bytes = [
            record(&sum, 1, "s.a", None, "one"),
            record(&sum, 2, "s.b", Some("NATS/1.0\r\n\r\n"), "two"),
            record(&sum, 3 | ERASED, "", None, ""),
            record(&sum, 1 | TOMBSTONE, "", None, ""),
        ]
        .concat();
        let mut input = bytes.as_slice();
        let mut entry = Entry::default();
        let mut next = |input: &mut &[u8]| {
            let record = read(input, &sum, &mut entry).unwrap();
            (record, entry.seq, entry.header_len, String::from_utf8_lossy(&entry.body).into_owned())
        };
        assert_eq!(next(&mut input), (Some(Record::Message), 1, 0, "one".to_owned()));
        let second = (Some(Record::Message), 2, 12, "NATS/1.0\r\n\r\ntwo".to_owned());
        assert_eq!(next(&mut input), second);
        assert_eq!(next(&mut input), (Some(Record::Erased), 3, 0, String::new()));
        assert_eq!(next(&mut input), (Some(Record::Tombstone), 1, 0, String::new()));
        assert_eq!(next(&mut input).0, None);
        assert!(read(&mut bytes.as_slice(), &Checksum::keyed("S-2"), &mut Entry::default()).is_err());
    }

    #[test]
    fn every_cut_and_every_flip_is_noticed() {
        let sum = Checksum::keyed("S-1");
        let whole = record(&sum, 9, "subject", Some("NATS/1.0\r\n\r\n"), "payload");
        let mut entry = Entry::default();
        for len in 1..whole.len() {
            assert!(read(&mut &whole[..len], &sum, &mut entry).is_err(), "cut at {len}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                let outcome = read(&mut flipped.as_slice(), &sum, &mut entry);
                let header_len_only = (29..33).contains(&at) && outcome.is_ok();
                assert!(outcome.is_err() || header_len_only, "flipped at {at}");
            }
        }
        let huge = [&[0xff; 4][..], &[0; 100]].concat();
        assert!(matches!(read(&mut huge.as_slice(), &sum, &mut entry), Err(RecordError::Invalid(_))));
        assert!(entry.body.capacity() < 1 << 10);
    }
}
