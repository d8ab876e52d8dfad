//! Frees the oldest segment by writing what is still needed of it again.

use linnet_ids::GroupId;

use crate::error::Error;
use crate::format::SegmentNo;
use crate::group_log::{EntryRef, GroupLog};
use crate::read::{Unverified, read_place};
use crate::record::{
    CheckpointRecord, HardStateRecord, OpenRun, RunHead, put_checkpoint, put_hard_state, put_position_record,
};
use crate::wal::{Claim, Scratch, Wal};

/// Payload bytes after which a step of rewriting is written out.
const STEP_BYTES: usize = 1 << 20;

/// What a step of rewriting did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Records written again.
    pub records: u64,
    /// Payload bytes written again.
    pub bytes: u64,
    /// The oldest segment is no longer needed, or there is none but the current one.
    pub done: bool,
    /// Entries (for a checkpoint, its applied index) whose stored bytes no longer verify. They are not in the log
    /// any more.
    pub damaged: Vec<(GroupId, u64)>,
}

/// Records of one step.
#[derive(Default)]
struct Step {
    scratch: Scratch,
    data: Vec<u8>,
    done: Rewritten,
    full: bool,
}

impl Wal {
    /// Writes some of what is still needed of the oldest segment again, synced, as records that never truncate; the
    /// last step frees the segment. Call it until it answers `done`, other batches may come in between.
    pub fn rewrite_oldest(&mut self) -> Result<Rewritten, Error> {
        self.check_running()?;
        let Some(oldest) = self.live.front().map(|s| s.no).filter(|_| self.live.len() > 1) else {
            return Ok(Rewritten { done: true, ..Rewritten::default() });
        };
        let mut step = Step { scratch: std::mem::take(&mut self.scratch), ..Step::default() };
        step.scratch.records.clear();
        for (group, _) in self.groups_pinning_oldest() {
            self.collect(group, oldest, &mut step);
            if step.full {
                break;
            }
        }
        let written = if step.scratch.records.is_empty() {
            Ok(())
        } else {
            self.write_records(&mut step.scratch, &mut step.data, Claim::Rewrite).map(|_| ())
        };
        self.scratch = step.scratch;
        written?;
        let mut done = step.done;
        if self.state.pins.records(oldest) == 0 {
            // The batch that no longer needs the segment must say so durably before the file may go.
            self.seal()?;
            done.done = true;
        }
        Ok(done)
    }

    /// Adds what the group needs of the segment, until the step is full.
    fn collect(&mut self, group: GroupId, oldest: SegmentNo, step: &mut Step) {
        let Some(file) = self.file_of(oldest) else { return };
        let mut bad_entries = Vec::new();
        let mut bad_checkpoint = false;
        let Some(log) = self.state.groups.get(&group) else { return };
        if let Some(checkpoint) = log.checkpoint.filter(|c| c.place.segment == oldest) {
            match read_place(&*file, &checkpoint.place, &mut step.data) {
                Ok(()) => {
                    let record = CheckpointRecord {
                        group,
                        applied: checkpoint.applied,
                        term: checkpoint.term,
                        chain: checkpoint.chain,
                        len: checkpoint.place.len,
                        crc: checkpoint.place.crc,
                        installed: false,
                        position: log.position(true),
                    };
                    put_checkpoint(&mut step.scratch.records, &record);
                    step.count(checkpoint.place.len);
                }
                Err(Unverified) => {
                    bad_checkpoint = true;
                    step.done.damaged.push((group, checkpoint.applied));
                }
            }
        }
        let mut run = RewrittenRun::default();
        'entries: for known in &log.runs {
            let mut previous_chain = known.previous_chain;
            for (index, entry) in (known.first..).zip(&known.entries) {
                let before = std::mem::replace(&mut previous_chain, entry.chain);
                if entry.place.segment != oldest {
                    continue;
                }
                if step.data.len() >= STEP_BYTES
                    || (!step.data.is_empty() && step.data.len() + entry.place.len as usize > STEP_BYTES)
                {
                    step.full = true;
                    break 'entries;
                }
                match read_place(&*file, &entry.place, &mut step.data) {
                    Ok(()) => {
                        run.push(&mut step.scratch.records, group, index, before, entry);
                        step.count(entry.place.len);
                    }
                    Err(Unverified) => {
                        bad_entries.push(index);
                        step.done.damaged.push((group, index));
                    }
                }
            }
        }
        for index in bad_entries {
            self.with_log(group, |log, pins| log.mark_damaged(index, pins));
        }
        if bad_checkpoint {
            self.with_log(group, |log, pins| log.mark_checkpoint_damaged(pins));
        }
        if let Some(log) = self.state.groups.get(&group) {
            put_state(log, oldest, step);
        }
    }

    fn with_log(
        &mut self,
        group: GroupId,
        change: impl FnOnce(&mut GroupLog, &mut crate::group_log::SegmentPins),
    ) {
        if let Some(log) = self.state.groups.get_mut(&group) {
            change(log, &mut self.state.pins);
        }
    }
}

/// Adds the hard state, and for a group that is not whole what is known about its end.
fn put_state(log: &GroupLog, oldest: SegmentNo, step: &mut Step) {
    let out = &mut step.scratch.records;
    let position = log.position(true);
    if let Some(hard) = log.hard_state.as_ref().filter(|h| h.segment == oldest) {
        let record = HardStateRecord {
            group: log.group,
            term: hard.state.term,
            vote: hard.state.vote,
            incarnation: hard.state.incarnation,
            membership: &hard.state.membership,
            position,
        };
        put_hard_state(out, &record);
        step.count(0);
    }
    if log.flawed || log.position_segment == oldest {
        put_position_record(&mut step.scratch.records, log.group, &position);
        step.count(0);
    }
}

impl Step {
    fn count(&mut self, bytes: u32) {
        self.done.records += 1;
        self.done.bytes += u64::from(bytes);
    }
}

#[derive(Default)]
struct RewrittenRun {
    open: Option<(OpenRun, u64, u64)>,
}

impl RewrittenRun {
    fn push(&mut self, out: &mut Vec<u8>, group: GroupId, index: u64, previous_chain: u64, entry: &EntryRef) {
        match &mut self.open {
            Some((run, next, term)) if *next == index && *term == entry.term => {
                run.push(out, entry.place.len, entry.place.crc);
                *next += 1;
            }
            _ => {
                let head = RunHead { group, first: index, term: entry.term, previous_chain };
                let mut run = OpenRun::begin(out, &head, true);
                run.push(out, entry.place.len, entry.place.crc);
                self.open = Some((run, index + 1, entry.term));
            }
        }
    }
}
