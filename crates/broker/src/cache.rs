use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_interest::Matches;

use crate::account::{Account, Generation, first_token, shard_of};
use crate::subscription::SubRef;

/// Smallest and largest table. A connection that publishes to few subjects stays small.
const SLOTS_MIN: usize = 16;
const SLOTS_MAX: usize = 4096;
/// Members that one subscription counts for at most.
const WEIGHT_MAX: u32 = 256;

/// Who wants what, remembered per publisher: a direct-mapped table from subject to match result. Slots keep their
/// memory when they are overwritten, so a steady state allocates nothing even when every subject is new.
#[derive(Default)]
pub(crate) struct MatchCache {
    slots: Vec<Slot>,
    hasher: foldhash::fast::RandomState,
    /// Evictions of valid entries since the table last grew.
    conflicts: usize,
    lookups: u64,
    misses: u64,
}

#[derive(Default)]
struct Slot {
    subject: Vec<u8>,
    account: usize,
    shard: usize,
    generation: Generation,
    matches: Matches<SubRef>,
    /// Outcome of the publish permission check, which depends on the subject only; `None` until asked.
    may_publish: Option<bool>,
}

impl Slot {
    #[inline]
    fn is_of(&self, account: &Arc<Account>, subject: &[u8]) -> bool {
        self.account == Arc::as_ptr(account) as usize && self.subject == subject
    }
}

impl MatchCache {
    /// The publish permission for `subject`, asked once while the subject stays cached.
    pub(crate) fn permits(
        &mut self,
        account: &Arc<Account>,
        subject: &[u8],
        judge: impl FnOnce() -> bool,
    ) -> bool {
        *self.slot(account, subject).may_publish.get_or_insert_with(judge)
    }

    /// Who wants a message on `subject`, computed if it is not cached or stale.
    pub(crate) fn get(&mut self, account: &Arc<Account>, subject: &[u8]) -> &Matches<SubRef> {
        &self.slot(account, subject).matches
    }

    /// Look-ups and how many of them had to be computed, since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.lookups), std::mem::take(&mut self.misses))
    }

    #[inline]
    fn slot(&mut self, account: &Arc<Account>, subject: &[u8]) -> &mut Slot {
        self.lookups += 1;
        let hash = self.hash(subject);
        // An empty table has no slot at all.
        let at = hash & self.slots.len().wrapping_sub(1);
        let is_fresh = self.slots.get(at).is_some_and(|slot| {
            slot.is_of(account, subject) && slot.generation == account.generation(slot.shard)
        });
        let at = if is_fresh { at } else { self.fill(account, subject, hash) };
        &mut self.slots[at]
    }

    #[inline]
    fn hash(&self, subject: &[u8]) -> usize {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(subject);
        usize::try_from(hasher.finish() & 0xffff_ffff).unwrap_or(0)
    }

    /// Computes what a slot lacks; returns which one.
    #[cold]
    fn fill(&mut self, account: &Arc<Account>, subject: &[u8], hash: usize) -> usize {
        self.misses += 1;
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS_MIN, Slot::default);
        }
        let mut at = hash & (self.slots.len() - 1);
        let slot = &self.slots[at];
        if slot.account != 0 && !slot.is_of(account, subject) {
            self.conflicts += 1;
            if self.conflicts > self.slots.len() && self.slots.len() < SLOTS_MAX {
                self.grow();
                at = hash & (self.slots.len() - 1);
            }
        }
        let slot = &mut self.slots[at];
        if !slot.is_of(account, subject) {
            slot.subject.clear();
            slot.subject.extend_from_slice(subject);
            slot.account = Arc::as_ptr(account) as usize;
            slot.shard = shard_of(first_token(subject));
            slot.may_publish = None;
        }
        // Read before matching: a change in between makes the entry stale, never wrongly fresh.
        slot.generation = account.generation(slot.shard);
        account.matches(subject, &mut slot.matches);
        slot.matches.retain(|sub| {
            !sub.filtered.load(Ordering::Relaxed)
                || sub.receiver().is_none_or(|c| c.permissions().is_none_or(|p| p.may_receive(subject)))
        });
        slot.matches.for_each_queue(repeat_by_weight);
        at
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 4).min(SLOTS_MAX);
        self.slots.clear();
        self.slots.resize_with(len, Slot::default);
        self.conflicts = 0;
    }

    /// Frees everything; the next look-up starts small again.
    pub(crate) fn release(&mut self) {
        self.slots = Vec::new();
        self.conflicts = 0;
    }
}

/// A subscription that stands for several members of a queue group is chosen as often as they would be.
fn repeat_by_weight(members: &mut Vec<SubRef>) {
    for at in 0..members.len() {
        let Some(sub) = members.get(at).filter(|sub| sub.is_remote()).cloned() else { continue };
        let more = sub.weight.load(Ordering::Relaxed).min(WEIGHT_MAX).saturating_sub(1);
        members.extend((0..more).map(|_| sub.clone()));
    }
}
