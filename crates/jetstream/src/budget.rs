//! What all streams of a store share: bytes that wait to be written, and dead bytes that wait to be freed.

use std::sync::atomic::{AtomicU64, Ordering};

use linnet_store::StreamStore;

/// Unwritten bytes of all streams above which every stream with something to write is written.
const UNWRITTEN_MAX: u64 = 64 << 20;
/// Dead bytes of all streams above which streams are checkpointed to free theirs.
const OBSOLETE_MAX: u64 = 64 << 20;
/// Multiple of these bounds at which streams take no more messages until the disk has caught up.
const EXCEEDED: u64 = 3;
/// Unwritten bytes of a stream that are worth a write of their own, and while there is too much of it.
const WRITE_AT: u64 = 1 << 20;
const WRITE_AT_LEAST: u64 = 64 << 10;
/// Dead bytes of a stream that are worth a checkpoint of their own, and while there is too much of it.
const RECLAIM_AT: u64 = 32 << 20;
const RECLAIM_AT_LEAST: u64 = 128 << 10;

/// The sums.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    unwritten: AtomicU64,
    obsolete: AtomicU64,
}

/// What one stream holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Bytes that are in no block file yet.
    pub(crate) unwritten: u64,
    /// Dead bytes that the next checkpoint frees.
    pub(crate) obsolete: u64,
    /// Dead bytes that the checkpoint under way frees.
    pub(crate) leaving: u64,
}

impl Held {
    pub(crate) fn of(store: &StreamStore) -> Self {
        Self {
            unwritten: store.unwritten() as u64,
            obsolete: store.obsolete_bytes(),
            leaving: store.leaving_bytes(),
        }
    }
}

/// What one stream contributes.
#[derive(Debug, Default)]
pub(crate) struct Share {
    unwritten: u64,
    obsolete: u64,
}

/// What a stream should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chores {
    /// Write everything, not only full parts.
    pub(crate) write_all: bool,
    /// Write what is worth it.
    pub(crate) write: bool,
    /// Take a checkpoint, to free dead files.
    pub(crate) checkpoint: bool,
}

impl Budget {
    /// True if the disk is so far behind that nothing more should be taken.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed) > EXCEEDED * UNWRITTEN_MAX
            || self.obsolete.load(Ordering::Relaxed) > EXCEEDED * OBSOLETE_MAX
    }

    /// Counts a stream's present bytes in and says what it should do.
    pub(crate) fn update(&self, share: &mut Share, now: &Held) -> Chores {
        let Held { unwritten, obsolete, leaving } = *now;
        let all_unwritten = replace(&self.unwritten, &mut share.unwritten, unwritten);
        let all_obsolete = replace(&self.obsolete, &mut share.obsolete, obsolete + leaving);
        let write_all = all_unwritten > UNWRITTEN_MAX && unwritten >= WRITE_AT_LEAST;
        let checkpoint =
            obsolete >= RECLAIM_AT || (all_obsolete > OBSOLETE_MAX && obsolete >= RECLAIM_AT_LEAST);
        Chores { write_all, write: write_all || unwritten >= WRITE_AT, checkpoint }
    }
}

/// Replaces one part of a sum; the new sum.
fn replace(sum: &AtomicU64, part: &mut u64, now: u64) -> u64 {
    let before = std::mem::replace(part, now);
    if now >= before {
        sum.fetch_add(now - before, Ordering::Relaxed) + (now - before)
    } else {
        sum.fetch_sub(before - now, Ordering::Relaxed) - (before - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(unwritten: u64, obsolete: u64) -> Held {
        Held { unwritten, obsolete, leaving: 0 }
    }

    #[test]
    fn many_small_streams_write_when_together_they_hold_too_much() {
        let budget = Budget::default();
        let mut shares: Vec<Share> = (0..200).map(|_| Share::default()).collect();
        let mut wrote = 0;
        for share in &mut shares {
            let chores = budget.update(share, &held(512 << 10, 0));
            if chores.write_all {
                wrote += 1;
                budget.update(share, &held(0, 0));
            }
        }
        assert!((60..80).contains(&wrote), "{wrote}");
        assert!(!budget.update(&mut shares[199], &held(1 << 10, 0)).write);
    }

    #[test]
    fn dead_bytes_are_freed_when_a_stream_or_all_have_many() {
        let budget = Budget::default();
        let mut first = Share::default();
        assert!(!budget.update(&mut first, &held(0, 1 << 20)).checkpoint);
        assert!(budget.update(&mut first, &held(0, RECLAIM_AT)).checkpoint);
        budget.update(&mut first, &held(0, 0));
        let mut second = Share::default();
        assert!(!budget.update(&mut second, &held(0, 1 << 20)).checkpoint);
        let mut others: Vec<Share> = (0..4).map(|_| Share::default()).collect();
        for other in &mut others {
            budget.update(other, &held(0, OBSOLETE_MAX / 4));
        }
        assert!(budget.update(&mut second, &held(0, 1 << 20)).checkpoint);
        assert!(!budget.update(&mut second, &held(0, RECLAIM_AT_LEAST - 1)).checkpoint);
    }
}
