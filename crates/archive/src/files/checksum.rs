//! Checksums of older servers: HighwayHash with 64 bits, keyed with the SHA-256 of a name.

use highway::{HighwayHash as _, HighwayHasher, Key};
use sha2::{Digest as _, Sha256};

/// Bytes of a checksum.
pub(super) const LEN: usize = 8;

/// What is hashed with one key.
#[derive(Clone)]
pub(super) struct Checksum(HighwayHasher);

impl Checksum {
    /// The name of a stream, `STREAM/CONSUMER`, or `STREAM-INDEX` of a block (`fileStore.hashKeyForBlock` and
    /// `ConsumerStore` in nats-server `server/filestore.go`).
    pub(super) fn keyed(name: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        let mut key = [0; 4];
        for (word, bytes) in key.iter_mut().zip(digest.chunks_exact(8)) {
            *word = u64::from_le_bytes(bytes.try_into().unwrap_or_default());
        }
        Self(HighwayHasher::new(Key(key)))
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.0.append(bytes);
    }

    /// The checksum of what was added.
    pub(super) fn value(self) -> [u8; LEN] {
        self.0.finalize64().to_le_bytes()
    }

    /// The checksum of some bytes.
    pub(super) fn of(&self, parts: &[&[u8]]) -> [u8; LEN] {
        let mut sum = self.clone();
        parts.iter().for_each(|part| sum.add(part));
        sum.value()
    }
}
