//! Life of segments: which are needed, which can go, and where the next one comes from.

use linnet_ids::GroupId;

use crate::error::Error;
use crate::format::{SegmentNo, byte_offset};
use crate::segment::{PrepareSegment, PreparedSegment, Segment, Target, sectors_of};
use crate::wal::{Claim, Wal};
use std::sync::Arc;

/// Space the log takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Segments that are needed.
    pub live_segments: usize,
    /// Bytes of segments that are needed. Kept well under `max_bytes`, there is room for the other files of the log.
    pub live_bytes: u64,
    /// Bytes of segments ready for use or waiting to be put away.
    pub other_bytes: u64,
    /// Bound on `live_bytes` for ordinary batches.
    pub max_bytes: u64,
    /// Bytes above `max_bytes` that urgent batches may take.
    pub reserve_bytes: u64,
    /// The oldest needed segment.
    pub oldest: SegmentNo,
}

impl Wal {
    /// Space the log takes.
    pub fn usage(&self) -> Usage {
        Usage {
            live_segments: self.live.len(),
            live_bytes: self.live.iter().map(Segment::bytes).sum(),
            other_bytes: self.spares.iter().chain(&self.freed).map(Segment::bytes).sum(),
            max_bytes: self.config.max_bytes,
            reserve_bytes: self.reserve_bytes(),
            oldest: self.live.front().map_or(0, |s| s.no),
        }
    }

    /// True if the segment that an ordinary batch goes on in lies ready and the bound allows it.
    pub fn is_next_ready(&self) -> bool {
        let usage = self.usage();
        self.spares.len() > self.config.reserve_segments as usize
            && usage.live_bytes + self.config.segment_bytes <= usage.max_bytes
    }

    /// True if at least half a segment is left of the current one, and it takes a batch of so many bytes.
    pub fn is_current_roomy(&self, batch_bytes: u64) -> bool {
        let left = self.live.back().map_or(0, |s| s.sectors.saturating_sub(self.position.sector));
        // What stands around the payloads is less than an eighth and a few sectors.
        let needed = batch_bytes + batch_bytes / 8 + self.config.segment_bytes / 8;
        byte_offset(left) >= needed.max(self.config.segment_bytes / 2)
    }

    /// True if the segments kept for urgent batches lie ready.
    pub fn has_reserve(&self) -> bool {
        self.spares.len() >= self.config.reserve_segments as usize
    }

    /// True if the disk has the space for a segment, as far as it tells, and some besides.
    pub fn can_make_segment(&self) -> bool {
        let least = self.config.segment_bytes + self.config.left_free();
        self.disk.0.free_space(&self.paths.wal).is_ok_and(|free| free >= least)
    }

    /// Bytes of payloads, checkpoints and memberships the log needs of each group, by id.
    pub fn group_bytes(&self) -> Vec<(GroupId, u64)> {
        let mut bytes: Vec<_> =
            self.state.groups.iter().map(|(g, log)| (*g, log.pins.iter().map(|p| p.bytes).sum())).collect();
        bytes.sort_unstable();
        bytes
    }

    /// Groups that need something of the oldest segment and how many bytes of it, largest first. Checkpointing
    /// these frees it.
    pub fn groups_pinning_oldest(&self) -> Vec<(GroupId, u64)> {
        let oldest = self.live.front().map_or(0, |s| s.no);
        let mut pinning: Vec<_> = self
            .state
            .groups
            .iter()
            .filter_map(|(g, log)| log.pins.iter().find(|p| p.segment == oldest).map(|p| (*g, p.bytes)))
            .collect();
        pinning.sort_unstable_by_key(|(group, bytes)| (std::cmp::Reverse(*bytes), *group));
        pinning
    }

    /// The oldest segment that some group, or the writing itself, still needs.
    pub(crate) fn first_needed(&self) -> SegmentNo {
        let current = self.live.back().map_or(0, |s| s.no);
        let needed = self.live.iter().map(|s| s.no).find(|no| self.state.pins.records(*no) > 0);
        needed.unwrap_or(current).min(self.kept_from)
    }

    /// A durable record says that segments before this one are not needed.
    pub(crate) fn release_before(&mut self, first: SegmentNo) {
        while self.live.len() > 1 && self.live.front().is_some_and(|s| s.no < first) {
            self.freed.extend(self.live.pop_front());
        }
    }

    fn reserve_bytes(&self) -> u64 {
        u64::from(self.config.reserve_segments) * self.config.segment_bytes
    }

    /// A segment to go on in.
    pub(crate) fn take_spare(&mut self, claim: Claim) -> Result<Segment, Error> {
        self.is_used = true;
        let live_bytes = self.usage().live_bytes;
        let max_bytes = match claim {
            Claim::Ordinary => self.config.max_bytes,
            Claim::Urgent => self.config.max_bytes.saturating_add(self.reserve_bytes()),
            Claim::Rewrite => u64::MAX,
        };
        if live_bytes + self.config.segment_bytes > max_bytes {
            return Err(Error::Full { live_bytes, max_bytes: self.config.max_bytes });
        }
        let has_more_than_reserve = self.spares.len() > self.config.reserve_segments as usize;
        if (claim != Claim::Ordinary || has_more_than_reserve)
            && let Some(spare) = self.spares.pop_front()
        {
            return Ok(spare);
        }
        let target = self.next_target()?;
        let no = target.no;
        let made =
            PrepareSegment::new(Arc::clone(&self.disk.0), self.paths.clone(), vec![], vec![], Some(target))
                .leaving(self.config.left_free())
                .run();
        let made = made.inspect_err(|_| self.give_back(no))?;
        let Some(PreparedSegment(made)) = made else { return Err(Error::Config) };
        // The new one has the highest number, so that older spares go first.
        self.spares.push_back(made);
        self.spares.pop_front().ok_or(Error::Config)
    }

    fn next_target(&mut self) -> Result<Target, Error> {
        let no = self.next_no;
        self.next_no = no.checked_add(1).ok_or(Error::Config)?;
        let sectors = sectors_of(self.config.segment_bytes);
        let reusable = |s: &Segment| is_reusable(s, sectors);
        let recycled = self.freed.iter().position(reusable).map(|at| self.freed.swap_remove(at).path);
        Ok(Target { no, sectors, recycled })
    }

    /// File work to do on another thread, if there is any and none is under way: the next segment, and segments
    /// that are no longer needed. Ask after every commit that changed [`Wal::usage`], and after opening.
    pub fn prepare_next(&mut self) -> Option<PrepareSegment> {
        if self.preparing || self.stopped.is_some() {
            return None;
        }
        self.is_used |= byte_offset(self.position.sector) >= self.config.ahead_after;
        let wanted = 1 + self.config.reserve_segments as usize;
        let target = if self.is_used && self.spares.len() < wanted { self.next_target().ok() } else { None };
        // The next ones are made of what is left, where the disk may have no space for others.
        let mut kept = wanted.saturating_sub(self.spares.len() + usize::from(target.is_some()));
        let sectors = sectors_of(self.config.segment_bytes);
        let mut quarantined = Vec::new();
        let mut removed = Vec::new();
        for segment in std::mem::take(&mut self.freed) {
            match segment.damage {
                Some(reason) => quarantined.push((segment.no, reason)),
                None if kept > 0 && is_reusable(&segment, sectors) => {
                    kept -= 1;
                    self.freed.push(segment);
                }
                None => removed.push(segment.path),
            }
        }
        if target.is_none() && quarantined.is_empty() && removed.is_empty() {
            return None;
        }
        self.preparing = true;
        self.prepared_no = target.as_ref().map(|target| target.no);
        let job =
            PrepareSegment::new(Arc::clone(&self.disk.0), self.paths.clone(), quarantined, removed, target);
        Some(job.leaving(self.config.left_free()))
    }

    /// True between [`Wal::prepare_next`] and its outcome.
    pub fn is_preparing(&self) -> bool {
        self.preparing
    }

    /// Takes over the outcome of [`Wal::prepare_next`].
    pub fn install(&mut self, prepared: Option<PreparedSegment>) {
        self.preparing = false;
        let Some(PreparedSegment(segment)) = prepared else { return };
        let current = self.live.back().map_or(0, |s| s.no);
        if segment.no > current {
            let at = self.spares.partition_point(|s| s.no < segment.no);
            self.spares.insert(at, segment);
        } else {
            // The log could not wait and went on in one of a higher number.
            self.freed.push(segment);
        }
    }

    /// Tells the log that [`PrepareSegment::step`] failed; the next [`Wal::prepare_next`] tries anew. Files that were
    /// to be put away and were not are found again when the log is opened.
    pub fn prepare_failed(&mut self) {
        self.preparing = false;
        if let Some(no) = self.prepared_no.take() {
            self.give_back(no);
        }
    }

    /// A segment that was not made leaves its number to the next attempt.
    fn give_back(&mut self, no: SegmentNo) {
        if self.next_no == no.saturating_add(1) {
            self.next_no = no;
        }
    }
}

/// True if a segment that is not needed any more may be filled again.
fn is_reusable(segment: &Segment, sectors: u32) -> bool {
    segment.damage.is_none() && segment.sectors == sectors && Arc::strong_count(&segment.file) == 1
}
