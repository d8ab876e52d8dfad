//! The header of an encrypted file: which key, which salt, and which parts have another salt.

use std::io;

use linnet_env::{DiskFile, Rng};

use crate::key::{Cipher, KEY_ID_BYTES, KeyRing, MasterKey, SALT_BYTES, TAG_BYTES};

/// Bytes in front of a file's content: two copies of the header, each in a physical block of its own.
pub const HEADER_BYTES: u64 = 8192;
/// Where the copies are.
const COPIES: [u64; 2] = [0, 4096];
/// Bytes of a copy: what a disk writes whole or not at all.
const COPY_BYTES: usize = 512;
const MAGIC: &[u8; 16] = b"linnet sealed 1\n";
/// Parts of a file that can have a salt of their own.
pub(crate) const PARTS_MAX: usize = 8;
const PART_SALT_BYTES: usize = 16;
const TAG_AT: usize = COPY_BYTES - TAG_BYTES;

/// A part of a file that was written again, under another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) salt: [u8; PART_SALT_BYTES],
}

impl Part {
    pub(crate) fn new(start: u64, end: u64, rng: &dyn Rng) -> Self {
        let mut salt = [0; PART_SALT_BYTES];
        rng.fill(&mut salt);
        Self { start, end, salt }
    }
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) cipher: Cipher,
    pub(crate) key: [u8; KEY_ID_BYTES],
    pub(crate) salt: [u8; SALT_BYTES],
    /// Later ones count where they overlap.
    pub(crate) parts: Vec<Part>,
}

/// What stands where a header belongs.
pub(crate) enum Found {
    Header(Header),
    /// There is one, written with a key that is not in the ring.
    OtherKey,
    /// There is one, and neither copy of it is intact.
    Damaged,
    /// None, in a file that is not empty.
    Nothing,
    /// The file has no bytes.
    Empty,
}

impl Header {
    /// For a new file.
    pub(crate) fn new(ring: &KeyRing, rng: &dyn Rng) -> Self {
        let mut salt = [0; SALT_BYTES];
        rng.fill(&mut salt);
        Self { cipher: ring.cipher, key: ring.present().0, salt, parts: Vec::new() }
    }

    fn encode(&self, key: &MasterKey) -> [u8; COPY_BYTES] {
        let mut out = Vec::with_capacity(COPY_BYTES);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[self.cipher.code(), u8::try_from(self.parts.len()).unwrap_or(0)]);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.salt);
        for part in &self.parts {
            out.extend_from_slice(&part.start.to_le_bytes());
            out.extend_from_slice(&part.end.to_le_bytes());
            out.extend_from_slice(&part.salt);
        }
        out.resize(TAG_AT, 0);
        let tag = key.header_tag(&out);
        out.extend_from_slice(&tag);
        out.try_into().expect("the parts leave room for the tag")
    }

    /// The header in these bytes, whose tag has been verified.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(MAGIC.as_slice())?;
        let mut take = |len: usize| rest.split_off(..len);
        let kind = take(8)?;
        let (cipher, count) = (Cipher::from_code(*kind.first()?)?, usize::from(*kind.get(1)?));
        let (key, salt) = (take(KEY_ID_BYTES)?.try_into().ok()?, take(SALT_BYTES)?.try_into().ok()?);
        let mut parts = Vec::new();
        for _ in 0..count.min(PARTS_MAX) {
            let start = u64::from_le_bytes(take(8)?.try_into().ok()?);
            let end = u64::from_le_bytes(take(8)?.try_into().ok()?);
            parts.push(Part { start, end, salt: take(PART_SALT_BYTES)?.try_into().ok()? });
        }
        Some(Self { cipher, key, salt, parts })
    }

    /// Writes both copies into a file that has nothing to lose.
    pub(crate) fn write_new(&self, file: &dyn DiskFile, key: &MasterKey) -> io::Result<()> {
        let copy = self.encode(key);
        let mut both = vec![0; usize::try_from(HEADER_BYTES).unwrap_or(0)];
        for at in COPIES {
            let at = usize::try_from(at).unwrap_or(0);
            if let Some(place) = both.get_mut(at..at + COPY_BYTES) {
                place.copy_from_slice(&copy);
            }
        }
        file.write_all_at(&both, 0)
    }

    /// Replaces the header of a file, durably and so that a crash leaves one that counts.
    pub(crate) fn replace(&self, file: &dyn DiskFile, key: &MasterKey) -> io::Result<()> {
        let copy = self.encode(key);
        for at in COPIES {
            file.write_all_at(&copy, at)?;
            file.sync_data()?;
        }
        Ok(())
    }

    /// Looks for the header of a file. The first copy that is intact is the newest.
    pub(crate) fn find(file: &dyn DiskFile, ring: &KeyRing) -> io::Result<Found> {
        if file.is_empty()? {
            return Ok(Found::Empty);
        }
        let (mut is_there, mut other_keys, mut unreadable) = (false, Vec::new(), 0);
        for at in COPIES {
            let mut bytes = [0; COPY_BYTES];
            match file.read_at(&mut bytes, at) {
                Ok(COPY_BYTES) => {}
                Ok(_) => continue,
                Err(_) => {
                    unreadable += 1;
                    continue;
                }
            }
            if !bytes.starts_with(MAGIC) {
                continue;
            }
            is_there = true;
            let (content, tag) = bytes.split_at(TAG_AT);
            let id = bytes.get(24..24 + KEY_ID_BYTES).unwrap_or_default();
            match ring.find(id) {
                Some(key) if key.is_header_tag(content, tag) => {
                    if let Some(header) = Self::decode(content) {
                        return Ok(Found::Header(header));
                    }
                }
                Some(_) => {}
                None => other_keys.push(id.to_vec()),
            }
        }
        Ok(match (other_keys.as_slice(), is_there) {
            // One flipped bit does not make the same id in both.
            ([one, other], _) if one == other => Found::OtherKey,
            (_, true) => Found::Damaged,
            (_, false) if unreadable > 0 => Found::Damaged,
            (_, false) => Found::Nothing,
        })
    }
}
