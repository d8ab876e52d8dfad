//! Units, checksums and hashes of the disk format.

use linnet_ids::fold;

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
    use super::SectorSums;

    #[test]
    fn a_sum_depends_on_store_segment_and_place() {
        let sums = SectorSums::new(&[1; 16], 7);
        let bytes = [9; 512];
        let here = sums.of(8, &bytes);
        assert_ne!(here, sums.of(16, &bytes));
        assert_ne!(here, SectorSums::new(&[1; 16], 8).of(8, &bytes));
        assert_ne!(here, SectorSums::new(&[2; 16], 7).of(8, &bytes));
    }
}
