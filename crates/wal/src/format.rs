//! Units, checksums and hashes of the disk format.

use linnet_ids::GroupId;

/// Bytes that a disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;
/// Sectors of the largest physical block in use; no two batches share one.
pub(crate) const BLOCK_SECTORS: u32 = 8;
/// Version of everything this crate writes.
pub(crate) const FORMAT_VERSION: u16 = 1;
/// Sectors of a batch without data: start, end and seal of a segment.
pub(crate) const EMPTY_BATCH_SECTORS: u32 = BLOCK_SECTORS;
/// Smallest segment that leaves room for its start, its end and a batch.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Largest segment: byte offsets in it fit 32 bits.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// Sectors of a segment that no single batch may claim: its start, its end, and what a copy of the batch needs
/// on top when opening writes it together with the start record.
pub(crate) const SEGMENT_OVERHEAD_SECTORS: u32 = 4 * BLOCK_SECTORS;

/// Number of a segment. Numbers grow and are never used twice in a store; 0 means "none".
pub type SegmentNo = u32;

/// Position of a batch in the order of all batches of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// Checksums of the sectors of one segment. They cover store, segment and place, so that a sector of another
/// store, of the segment's earlier life or of another offset never verifies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SectorSums {
    seed: u32,
}

impl SectorSums {
    pub(crate) fn new(store: &[u8; 16], segment: SegmentNo) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(store);
        hasher.update(&segment.to_le_bytes());
        Self { seed: hasher.finalize() }
    }

    /// Checksum of bytes that stand at (or begin in) `sector`.
    pub(crate) fn of(&self, sector: u32, bytes: &[u8]) -> u32 {
        // The odd factor spreads neighbours over all bits and keeps different offsets different.
        let mut hasher = crc32fast::Hasher::new_with_initial(self.seed ^ sector.wrapping_mul(0x9E37_79B1));
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// Finalizer with full avalanche (the constants are those of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn fold(hash: u64, word: u64) -> u64 {
    mix(hash.rotate_left(23) ^ word.wrapping_add(0x9E37_79B9_7F4A_7C15))
}

/// Chain hash of a group's log before its first entry.
pub fn chain_start(group: GroupId) -> u64 {
    fold(fold(u64::from(group.epoch), group.meta_index), group.random)
}

/// Chain hash of an entry: it names the whole history of the group up to there, and is the same on every replica
/// that holds the same entries.
pub fn chain_next(previous: u64, index: u64, term: u64, payload_len: u32, payload_crc: u32) -> u64 {
    let payload = u64::from(payload_len) << 32 | u64::from(payload_crc);
    fold(fold(fold(previous, index), term), payload)
}

/// Hash that the next directory quotes.
pub(crate) fn directory_hash(lsn: Lsn, body: &[u8]) -> u64 {
    fold(fold(lsn.0, body.len() as u64), u64::from(crc32fast::hash(body)))
}

/// Sectors that hold `bytes`.
pub(crate) fn sectors_for(bytes: usize) -> Option<u32> {
    u32::try_from(bytes.div_ceil(SECTOR)).ok()
}

/// Byte offset of a sector in its segment.
pub(crate) fn byte_offset(sector: u32) -> u64 {
    u64::from(sector) * SECTOR as u64
}

#[cfg(test)]
mod tests {
    use super::{SectorSums, chain_next, chain_start};
    use linnet_ids::GroupId;

    #[test]
    fn a_sum_depends_on_store_segment_and_place() {
        let sums = SectorSums::new(&[1; 16], 7);
        let bytes = [9; 512];
        let here = sums.of(8, &bytes);
        assert_ne!(here, sums.of(16, &bytes));
        assert_ne!(here, SectorSums::new(&[1; 16], 8).of(8, &bytes));
        assert_ne!(here, SectorSums::new(&[2; 16], 7).of(8, &bytes));
    }

    #[test]
    fn a_chain_depends_on_every_part_and_on_history() {
        let start = chain_start(GroupId::META);
        let all = [
            chain_next(start, 1, 1, 3, 5),
            chain_next(start, 2, 1, 3, 5),
            chain_next(start, 1, 2, 3, 5),
            chain_next(start, 1, 1, 4, 5),
            chain_next(start, 1, 1, 3, 6),
            chain_next(start + 1, 1, 1, 3, 5),
        ];
        let distinct: std::collections::BTreeSet<_> = all.into_iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
