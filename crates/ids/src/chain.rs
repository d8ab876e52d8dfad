//! Chain hashes: a hash of a group's whole history.

use crate::GroupId;

/// Finalizer with full avalanche (the constants are those of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Takes one more word into a hash.
pub fn fold(hash: u64, word: u64) -> u64 {
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

#[cfg(test)]
mod tests {
    use super::{chain_next, chain_start};
    use crate::GroupId;

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
