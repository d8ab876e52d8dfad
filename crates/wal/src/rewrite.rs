//! Frees the oldest segment by writing what is still needed of it again.

use linnet_ids::GroupId;

use crate::error::Error;
use crate::format::SegmentNo;
use crate::group_log::{CheckpointRef, EntryRef, GroupLog};
use crate::quarantine;
use crate::read::{Unverified, read_place};
use crate::record::{
    CheckpointRecord, HardStateRecord, OpenRun, RunHead, put_checkpoint, put_hard_state, put_position_record,
};
use crate::wal::{Claim, Scratch, Wal};

const UNVERIFIED: &str = "entries in it no longer verified when it was rewritten";
/// Size on disk after which a step of rewriting is written out.
const STEP_BYTES_MAX: u64 = 1 << 20;
/// More than the encoded length of any record without its payload and membership.
const RECORD_BYTES: usize = 128;

/// What rewriting does with stored bytes that no longer verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unverifiable {
    /// Leaves them, and with them the segment: the owner restores them ([`crate::Batch::restore`]) or makes them
    /// unneeded by a checkpoint, then goes on.
    Keep,
    /// Gives them up: the log no longer has them, says so at every opening, and frees the segment to quarantine.
    GiveUp,
}

/// What a step of rewriting did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// Records written again.
    pub records: u64,
    /// Payload bytes written again.
    pub bytes: u64,
    /// The oldest segment is no longer needed, or there is none but the current one.
    pub done: bool,
    /// Entries (for a checkpoint, its applied index) whose stored bytes no longer verify. While they are kept, the
    /// step that reports them is the last one that makes progress.
    pub damaged: Vec<(GroupId, u64)>,
}

/// Records of one step.
#[derive(Default)]
struct Step {
    scratch: Scratch,
    data: Vec<u8>,
    done: Rewritten,
    /// Size on disk at which the step is full.
    bytes_max: usize,
    full: bool,
    /// What does not verify: the checkpoint, and entries.
    bad_checkpoint: bool,
    bad_entries: Vec<u64>,
}

impl Wal {
    /// Writes some of what is still needed of the oldest segment again, synced, as records that never truncate; the
    /// last step frees the segment. Call it until it answers `done`, other batches may come in between.
    pub fn rewrite_oldest(&mut self, unverifiable: Unverifiable) -> Result<Rewritten, Error> {
        self.check_running()?;
        let Some(oldest) = self.live.front().map(|s| s.no).filter(|_| self.live.len() > 1) else {
            return Ok(Rewritten { done: true, ..Rewritten::default() });
        };
        let bytes_max = usize::try_from(STEP_BYTES_MAX.min(self.batch_bytes_max() / 2)).unwrap_or(usize::MAX);
        let mut step = Step { scratch: std::mem::take(&mut self.scratch), bytes_max, ..Step::default() };
        step.scratch.records.clear();
        for (group, _) in self.groups_pinning_oldest() {
            self.collect(group, oldest, &mut step);
            if step.has_bad() {
                self.keep_oldest()?;
            }
            if unverifiable == Unverifiable::GiveUp {
                self.give_up(group, &mut step);
            }
            if let Some(log) = self.state.groups.get(&group) {
                put_state(log, oldest, &mut step);
            }
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

    /// Adds what the group needs of the segment, except its hard state, until the step is full.
    fn collect(&self, group: GroupId, oldest: SegmentNo, step: &mut Step) {
        step.bad_checkpoint = false;
        step.bad_entries.clear();
        let Some(file) = self.file_of(oldest) else { return };
        let Some(log) = self.state.groups.get(&group) else { return };
        if let Some(checkpoint) = log.checkpoint.filter(|c| c.place.segment == oldest) {
            if !step.has_room(checkpoint.place.len as usize, RECORD_BYTES) {
                return;
            }
            match read_place(&*file, &checkpoint.place, &mut step.data) {
                Ok(()) => {
                    put_checkpoint(&mut step.scratch.records, &rewritten_checkpoint(log, &checkpoint));
                    step.count(checkpoint.place.len);
                }
                Err(Unverified) => {
                    step.bad_checkpoint = true;
                    step.done.damaged.push((group, checkpoint.applied));
                }
            }
        }
        let mut run = RewrittenRun::default();
        for (index, previous_chain, entry) in log.entries_in(oldest) {
            if !step.has_room(entry.place.len as usize, RECORD_BYTES) {
                return;
            }
            match read_place(&*file, &entry.place, &mut step.data) {
                Ok(()) => {
                    run.push(&mut step.scratch.records, group, index, previous_chain, entry);
                    step.count(entry.place.len);
                }
                Err(Unverified) => {
                    step.bad_entries.push(index);
                    step.done.damaged.push((group, index));
                }
            }
        }
    }

    /// The oldest segment must stay, whatever becomes of what does not verify in it.
    fn keep_oldest(&mut self) -> Result<(), Error> {
        if let Some(segment) = self.live.front_mut() {
            quarantine::note(&*self.disk.0, &self.paths, segment.no, UNVERIFIED)?;
            segment.damage = Some(UNVERIFIED);
        }
        Ok(())
    }

    fn give_up(&mut self, group: GroupId, step: &mut Step) {
        let Some(log) = self.state.groups.get_mut(&group) else { return };
        for index in step.bad_entries.drain(..) {
            log.mark_damaged(index, &mut self.state.pins);
        }
        if step.bad_checkpoint {
            log.mark_checkpoint_damaged(&mut self.state.pins);
        }
    }
}

fn rewritten_checkpoint(log: &GroupLog, checkpoint: &CheckpointRef) -> CheckpointRecord {
    CheckpointRecord {
        group: log.group,
        applied: checkpoint.applied,
        term: checkpoint.term,
        chain: checkpoint.chain,
        len: checkpoint.place.len,
        crc: checkpoint.place.crc,
        installed: false,
        position: log.position(true),
    }
}

/// Adds the hard state, and for a group that is not whole what is known about its end.
fn put_state(log: &GroupLog, oldest: SegmentNo, step: &mut Step) {
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
        if step.has_room(0, RECORD_BYTES + record.membership.len()) {
            put_hard_state(&mut step.scratch.records, &record);
            step.count(0);
        }
    }
    if log.flawed || log.position_segment == oldest {
        put_position_record(&mut step.scratch.records, log.group, &position);
        step.count(0);
    }
}

impl Step {
    fn has_bad(&self) -> bool {
        self.bad_checkpoint || !self.bad_entries.is_empty()
    }

    /// False, and the step is full, if a record of this size does not fit beside what is there. A record alone
    /// always fits.
    fn has_room(&mut self, payload: usize, record: usize) -> bool {
        // Directories are written twice.
        let taken = self.data.len() + 2 * self.scratch.records.len();
        self.full |= taken > 0 && taken + payload + 2 * record > self.bytes_max;
        !self.full
    }

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
