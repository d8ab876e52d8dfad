//! All groups of the log, and the one function that changes them: recovery and commit apply the same bytes.

use hashbrown::HashMap;
use linnet_env::DiskFile;
use linnet_ids::{GroupId, chain_next};

use crate::batch::HardState;
use crate::format::{SECTOR, SegmentNo};
use crate::group_log::{CheckpointRef, EntryRef, GroupLog, HardStateRef, Place, SegmentPins};
use crate::read::read_place;
use crate::record::{CheckpointRecord, Cursor, HardStateRecord, Record, RunEntries, RunHead};
use crate::report::{Damage, Integrity};

/// Where the payloads of a batch stand.
#[derive(Clone, Copy)]
pub(crate) struct Placement<'a> {
    pub(crate) segment: SegmentNo,
    /// Byte offset of the first data sector in the segment.
    pub(crate) data_offset: u64,
    /// Sectors whose content does not verify, ascending, and the file to look into them.
    pub(crate) bad_sectors: &'a [u32],
    pub(crate) file: &'a dyn DiskFile,
}

impl Placement<'_> {
    fn place(&self, offset: u64, len: u32, crc: u32) -> Place {
        let Ok(at) = u32::try_from(offset) else { return Place { segment: 0, offset: u32::MAX, len, crc } };
        let damaged = Place { segment: 0, offset: at, len, crc };
        let place = Place { segment: self.segment, offset: at, len, crc };
        let first = offset / SECTOR as u64;
        let last = (offset + u64::from(len)).saturating_sub(1) / SECTOR as u64;
        let suspect = len > 0 && self.bad_sectors.iter().any(|s| (first..=last).contains(&u64::from(*s)));
        // The damage may have hit a neighbour in the sector only.
        if suspect && read_place(self.file, &place, &mut Vec::new()).is_err() { damaged } else { place }
    }
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) groups: HashMap<GroupId, GroupLog>,
    pub(crate) pins: SegmentPins,
    /// Losses of unknown extent met so far, the one before the first record included.
    losses: u32,
    /// Groups that records met in damaged sectors belong to.
    pub(crate) damaged_groups: Vec<GroupId>,
}

impl Default for State {
    fn default() -> Self {
        // What stands before the first record is unknown until the end of recovery tells whether it matters.
        Self { groups: HashMap::new(), pins: SegmentPins::default(), losses: 1, damaged_groups: Vec::new() }
    }
}

impl State {
    /// Something of unknown extent is missing here.
    pub(crate) fn lose(&mut self) {
        self.losses += 1;
    }

    fn log(groups: &mut HashMap<GroupId, GroupLog>, group: GroupId) -> &mut GroupLog {
        groups.entry(group).or_insert_with(|| GroupLog::new(group))
    }

    /// Applies the records of one batch.
    pub(crate) fn apply(&mut self, records: &[u8], placement: &Placement<'_>) {
        let mut cursor = Cursor::new(records);
        let mut offset = placement.data_offset;
        while let Some(record) = cursor.next_record() {
            match record {
                Record::Start(_) | Record::End(_) => {}
                Record::Run { head, rewritten, entries } => {
                    offset = self.apply_run(&head, rewritten, entries, offset, placement);
                }
                Record::HardState(record) => self.apply_hard_state(&record, placement.segment),
                Record::Checkpoint(record) => {
                    let place = placement.place(offset, record.len, record.crc);
                    offset += u64::from(record.len);
                    self.apply_checkpoint(&record, place, placement.segment);
                }
                Record::Position { group, position } => {
                    let log = Self::log(&mut self.groups, group);
                    log.state_position(&position, self.losses, &mut self.pins);
                    log.hard_state_doubtful = position.hard_state_doubtful;
                    log.hard_state_proven = self.losses;
                    log.set_position_segment(placement.segment, &mut self.pins);
                }
                Record::EndGroup(group) => {
                    if let Some(mut log) = self.groups.remove(&group) {
                        log.release(&mut self.pins);
                    }
                }
                Record::Loss => self.lose(),
            }
        }
    }

    fn apply_run(
        &mut self,
        head: &RunHead,
        rewritten: bool,
        entries: RunEntries<'_>,
        mut offset: u64,
        placement: &Placement<'_>,
    ) -> u64 {
        let log = Self::log(&mut self.groups, head.group);
        let mut chain = head.previous_chain;
        let mut begun = false;
        for (index, (len, crc)) in (head.first..).zip(entries.iter()) {
            let previous = chain;
            chain = chain_next(chain, index, head.term, len, crc);
            let place = placement.place(offset, len, crc);
            offset += u64::from(len);
            if place.segment == 0 {
                self.damaged_groups.push(head.group);
                log.note_damaged(index, placement.segment, place.offset);
            }
            let entry = EntryRef { term: head.term, chain, place };
            if rewritten {
                log.put_rewritten(index, previous, entry, &mut self.pins);
            } else if index > log.applied() {
                if !begun {
                    log.begin_append(index, previous, &mut self.pins);
                    begun = true;
                }
                log.append(entry, &mut self.pins);
            }
        }
        if begun {
            log.log_proven = self.losses;
            log.log_doubtful = false;
        }
        offset
    }

    fn apply_hard_state(&mut self, record: &HardStateRecord<'_>, segment: SegmentNo) {
        let log = Self::log(&mut self.groups, record.group);
        let state = HardState {
            term: record.term,
            vote: record.vote,
            incarnation: record.incarnation,
            membership: record.membership.to_vec(),
        };
        let doubtful = record.position.hard_state_doubtful;
        log.set_hard_state(HardStateRef { state, segment }, doubtful, self.losses, &mut self.pins);
        log.state_position(&record.position, self.losses, &mut self.pins);
        if !doubtful && !record.position.log_doubtful {
            log.set_position_segment(0, &mut self.pins);
        }
    }

    fn apply_checkpoint(&mut self, record: &CheckpointRecord, place: Place, segment: SegmentNo) {
        let log = Self::log(&mut self.groups, record.group);
        if place.segment == 0 {
            self.damaged_groups.push(record.group);
            log.note_damaged(record.applied, segment, place.offset);
        }
        if record.applied >= log.applied() || record.installed {
            let (applied, term, chain) = (record.applied, record.term, record.chain);
            let next = CheckpointRef { applied, term, chain, place, installed: record.installed };
            log.set_checkpoint(next, &mut self.pins);
        }
        log.state_position(&record.position, self.losses, &mut self.pins);
    }

    /// Ends recovery: judges every group, and turns what the losses imply into flags. `first_is_loss` says that
    /// segments before the first one read are missing although they were needed.
    pub(crate) fn judge_all(&mut self, first_is_loss: bool) -> Vec<(GroupId, Integrity)> {
        let losses = self.losses;
        let lossy = first_is_loss || losses > 1;
        let mut judged = Vec::with_capacity(self.groups.len());
        for log in self.groups.values_mut() {
            log.join_runs();
            if lossy && log.hard_state_proven < losses {
                log.hard_state_doubtful = true;
            }
            if lossy && log.log_proven < losses {
                log.log_doubtful = true;
            }
            let integrity = judge(log, &mut self.pins);
            log.flawed = integrity != Integrity::Intact;
            judged.push((log.group, integrity));
        }
        judged.sort_unstable_by_key(|(group, _)| *group);
        judged
    }
}

/// Walks a log from its checkpoint to its end.
fn judge(log: &mut GroupLog, pins: &mut SegmentPins) -> Integrity {
    // What may hide a hard state may hide a checkpoint, and only a hard state tells of both.
    let doubtful = log.hard_state_doubtful;
    let mut damage = Damage { hard_state: doubtful, checkpoint: doubtful, ..Damage::default() };
    let applied = log.applied();
    let checkpoint_damaged = log.checkpoint.is_some_and(|c| c.place.segment == 0);
    let newest = log.checkpoint.map_or((0, 0), |c| (c.applied, c.place.crc));
    if checkpoint_damaged || log.checkpoint_stated != newest {
        damage.checkpoint = true;
        damage.lost.push(1..=log.checkpoint_stated.0.max(applied));
    }
    let mut expected = (applied + 1, log.base_chain());
    let mut stale_before = 0;
    for (at, run) in log.runs.iter().enumerate() {
        if run.first > expected.0 {
            damage.lost.push(expected.0..=run.first - 1);
            damage.uncertain_from.get_or_insert(applied + 1);
        } else if run.previous_chain != expected.1 {
            // What is known before this run is not what the run was written on top of.
            damage.lost.push(1..=run.first - 1);
            stale_before = at;
        }
        for (index, entry) in (run.first..).zip(&run.entries) {
            if entry.place.segment == 0 {
                damage.lost.push(index..=index);
            }
        }
        expected = (run.end(), run.last_chain());
    }
    if log.log_doubtful {
        damage.lost.push(expected.0..=u64::MAX);
        damage.uncertain_from = Some(applied + 1);
    }
    log.drop_runs_before(stale_before, pins);
    if damage == Damage::default() {
        return Integrity::Intact;
    }
    damage.normalize();
    Integrity::Damaged(damage)
}
