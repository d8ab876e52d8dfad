use std::ops::RangeInclusive;

use linnet_ids::GroupId;

use crate::batch::HardState;
use crate::format::{Lsn, SegmentNo};

/// What opening found out about the log as a whole.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Segments that were read.
    pub segments: u32,
    /// Bytes of batches that were replayed.
    pub replayed_bytes: u64,
    /// Batches that were replayed.
    pub batches: u64,
    /// Last batch that counts.
    pub last: Lsn,
    /// Where an unfinished batch was cut off, if one was.
    pub torn_tail: Option<TornTail>,
    /// Everything that was found damaged, in reading order.
    pub damages: Vec<FoundDamage>,
    /// The segment that was begun.
    pub new_segment: SegmentNo,
    /// There was no log. A store that had one before has lost it, which only its owner can tell.
    pub created: bool,
}

impl Report {
    /// True if something was lost that may have concerned any group, also one that the log knows nothing of now.
    pub fn any_group_may_be_affected(&self) -> bool {
        self.damages.iter().any(|d| d.groups == AffectedGroups::Any)
    }
}

/// Place of a batch that a crash left unfinished and that was never acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// Its segment.
    pub segment: SegmentNo,
    /// Byte offset in the segment.
    pub offset: u64,
}

/// One damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundDamage {
    /// The segment.
    pub segment: SegmentNo,
    /// Byte offset in the segment.
    pub offset: u64,
    /// What is wrong there.
    pub kind: FoundDamageKind,
    /// Whom it concerns.
    pub groups: AffectedGroups,
}

/// What is wrong at a damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundDamageKind {
    /// The directory of a batch cannot be read in either copy: what the batch held is unknown.
    Directory,
    /// Data of a batch cannot be read; its directory tells what it was.
    Data,
    /// The batch here does not follow the one before: at least one is missing.
    MissingBatch,
    /// The segment does not exist.
    MissingSegment,
    /// The segment is shorter than it was made.
    ShortSegment,
    /// An earlier opening wrote down here that it had found something lost.
    Recorded,
}

/// Groups that damage concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffectedGroups {
    /// Possibly every group, groups the log knows nothing of included.
    Any,
    /// These.
    These(Vec<GroupId>),
}

/// What the log holds of one group.
#[derive(Clone, Debug)]
pub struct RecoveredGroup {
    /// The group.
    pub group: GroupId,
    /// Newest hard state that can be read.
    pub hard_state: Option<HardState>,
    /// Newest checkpoint; [`crate::Wal::checkpoint_body`] reads its body.
    pub checkpoint: Option<CheckpointPosition>,
    /// First index present behind the checkpoint.
    pub first: Option<u64>,
    /// Index at which the log ends; the next entry follows it. Equal to the checkpoint's if nothing is behind it.
    pub last: u64,
    /// Whether something is missing.
    pub integrity: Integrity,
}

/// Position of a checkpoint in its group's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointPosition {
    /// Entries up to here are in the files that the checkpoint names.
    pub applied: u64,
    /// Term of that entry.
    pub term: u64,
    /// Chain hash after that entry.
    pub chain: u64,
}

/// Whether the log can vouch for a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Every record that was ever acknowledged is there.
    Intact,
    /// Something is or may be missing.
    Damaged(Damage),
}

/// What is or may be missing of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Indexes of which the log has no readable entry (or, up to the checkpoint, no readable checkpoint) although
    /// there was or may have been one. A range that ends at `u64::MAX` is open.
    pub lost: Vec<RangeInclusive<u64>>,
    /// Entries from here on may be older than ones that were lost.
    pub uncertain_from: Option<u64>,
    /// The hard state may be older than the last one written.
    pub hard_state: bool,
    /// The newest checkpoint cannot be read, or may be newer than the one that is reported.
    pub checkpoint: bool,
}

impl Damage {
    /// True if the entry of this index is or may be lost.
    pub fn covers(&self, index: u64) -> bool {
        self.lost.iter().any(|range| range.contains(&index))
    }

    /// Sorts the ranges and joins those that touch.
    pub(crate) fn normalize(&mut self) {
        self.lost.sort_unstable_by_key(|r| (*r.start(), *r.end()));
        let mut joined: Vec<RangeInclusive<u64>> = Vec::with_capacity(self.lost.len());
        for range in self.lost.drain(..) {
            match joined.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*range.end().max(last.end());
                }
                _ => joined.push(range),
            }
        }
        self.lost = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::Damage;

    #[test]
    fn ranges_that_touch_are_joined() {
        let mut damage =
            Damage { lost: vec![5..=7, 9..=u64::MAX, 1..=3, 4..=5, 20..=30], ..Damage::default() };
        damage.normalize();
        assert_eq!(damage.lost, [1..=7, 9..=u64::MAX]);
        assert!(damage.covers(7) && !damage.covers(8));
    }
}
