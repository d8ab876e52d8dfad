//! What the log knows about one group: where its entries stand, its newest hard state and checkpoint.

use std::collections::VecDeque;

use hashbrown::HashMap;
use linnet_ids::{GroupId, chain_start};

use crate::batch::HardState;
use crate::format::SegmentNo;
use crate::record::Position;

/// Where a payload stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// 0 if the payload is known to be damaged; [`GroupLog::found_damaged`] knows where.
    pub(crate) segment: SegmentNo,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

/// An entry of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryRef {
    pub(crate) term: u64,
    pub(crate) chain: u64,
    pub(crate) place: Place,
}

/// Consecutive entries that link to each other. An undamaged log is one run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) previous_chain: u64,
    pub(crate) entries: VecDeque<EntryRef>,
}

impl Run {
    fn new(first: u64, previous_chain: u64) -> Self {
        Self { first, previous_chain, entries: VecDeque::new() }
    }

    /// Index behind the last entry.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(crate) fn last_chain(&self) -> u64 {
        self.entries.back().map_or(self.previous_chain, |e| e.chain)
    }

    fn get(&self, index: u64) -> Option<&EntryRef> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn get_mut(&mut self, index: u64) -> Option<&mut EntryRef> {
        self.entries.get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct HardStateRef {
    pub(crate) state: HardState,
    pub(crate) segment: SegmentNo,
}

impl HardStateRef {
    fn bytes(&self) -> u64 {
        self.state.membership.len() as u64
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CheckpointRef {
    pub(crate) applied: u64,
    pub(crate) term: u64,
    pub(crate) chain: u64,
    pub(crate) place: Place,
    pub(crate) installed: bool,
}

/// How many needed records a segment holds.
#[derive(Debug, Default)]
pub(crate) struct SegmentPins(HashMap<SegmentNo, u64>);

impl SegmentPins {
    pub(crate) fn records(&self, segment: SegmentNo) -> u64 {
        self.0.get(&segment).copied().unwrap_or(0)
    }
}

/// What a group needs of one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pin {
    pub(crate) segment: SegmentNo,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// The log of one group.
#[derive(Debug)]
pub(crate) struct GroupLog {
    pub(crate) group: GroupId,
    /// Ascending and disjoint. Two neighbours do not link: something between them is unknown.
    pub(crate) runs: Vec<Run>,
    pub(crate) hard_state: Option<HardStateRef>,
    pub(crate) checkpoint: Option<CheckpointRef>,
    /// Segment of a position record that carries doubts no other record carries; 0 if none does.
    pub(crate) position_segment: SegmentNo,
    pub(crate) pins: Vec<Pin>,
    pub(crate) hard_state_doubtful: bool,
    pub(crate) log_doubtful: bool,
    /// Unknown losses seen before the newest hard state.
    pub(crate) hard_state_proven: u32,
    /// Unknown losses seen before the newest record that tells where the log ends.
    pub(crate) log_proven: u32,
    /// The newest checkpoint by the last record that mentions one: applied index and checksum of its body. It is
    /// not the one above if that is older.
    pub(crate) checkpoint_stated: (u64, u32),
    /// The group is not intact: rewriting must keep what is known about that.
    pub(crate) flawed: bool,
    /// Where payloads stand that are known to be damaged: index, of a checkpoint the applied one, and place.
    damaged: Vec<(u64, SegmentNo, u32)>,
}

impl GroupLog {
    pub(crate) fn new(group: GroupId) -> Self {
        Self {
            group,
            runs: Vec::new(),
            hard_state: None,
            checkpoint: None,
            position_segment: 0,
            pins: Vec::new(),
            hard_state_doubtful: false,
            log_doubtful: false,
            hard_state_proven: 0,
            log_proven: 0,
            checkpoint_stated: (0, 0),
            flawed: false,
            damaged: Vec::new(),
        }
    }

    /// Remembers where a damaged payload stands.
    pub(crate) fn note_damaged(&mut self, index: u64, segment: SegmentNo, offset: u32) {
        self.damaged.retain(|(known, ..)| *known != index);
        self.damaged.push((index, segment, offset));
    }

    /// Segment and offset at which the payload of this index was found damaged.
    pub(crate) fn found_damaged(&self, index: u64) -> Option<(SegmentNo, u32)> {
        let found = self.damaged.iter().find(|(known, ..)| *known == index);
        found.map(|(_, segment, offset)| (*segment, *offset))
    }

    fn pin(&mut self, totals: &mut SegmentPins, segment: SegmentNo, bytes: u64) {
        if segment == 0 {
            return;
        }
        *totals.0.entry(segment).or_insert(0) += 1;
        match self.pins.iter_mut().rev().find(|p| p.segment == segment) {
            Some(pin) => {
                pin.records += 1;
                pin.bytes += bytes;
            }
            None => self.pins.push(Pin { segment, records: 1, bytes }),
        }
    }

    fn unpin(&mut self, totals: &mut SegmentPins, segment: SegmentNo, bytes: u64) {
        if segment == 0 {
            return;
        }
        if let Some(total) = totals.0.get_mut(&segment) {
            *total = total.saturating_sub(1);
            if *total == 0 {
                totals.0.remove(&segment);
            }
        }
        if let Some(at) = self.pins.iter().position(|p| p.segment == segment) {
            let pin = &mut self.pins[at];
            pin.records = pin.records.saturating_sub(1);
            pin.bytes = pin.bytes.saturating_sub(bytes);
            if pin.records == 0 {
                self.pins.remove(at);
            }
        }
    }

    fn unpin_entry(&mut self, totals: &mut SegmentPins, entry: &EntryRef) {
        self.unpin(totals, entry.place.segment, u64::from(entry.place.len));
    }

    pub(crate) fn applied(&self) -> u64 {
        self.checkpoint.map_or(0, |c| c.applied)
    }

    pub(crate) fn base_chain(&self) -> u64 {
        self.checkpoint.map_or_else(|| chain_start(self.group), |c| c.chain)
    }

    /// Index behind the last entry, and the chain hash there.
    pub(crate) fn end(&self) -> (u64, u64) {
        self.runs
            .last()
            .map_or_else(|| (self.applied() + 1, self.base_chain()), |r| (r.end(), r.last_chain()))
    }

    pub(crate) fn last(&self) -> u64 {
        self.end().0 - 1
    }

    /// First index that is present behind the checkpoint.
    pub(crate) fn first(&self) -> Option<u64> {
        self.runs.iter().find(|r| !r.entries.is_empty()).map(|r| r.first)
    }

    fn run_of(&self, index: u64) -> Option<usize> {
        self.runs.partition_point(|r| r.first <= index).checked_sub(1)
    }

    pub(crate) fn entry(&self, index: u64) -> Option<&EntryRef> {
        self.runs.get(self.run_of(index)?)?.get(index)
    }

    /// Entries that stand in `segment`: index, chain hash before, entry.
    pub(crate) fn entries_in(&self, segment: SegmentNo) -> impl Iterator<Item = (u64, u64, &EntryRef)> {
        self.runs
            .iter()
            .flat_map(|run| {
                let before = std::iter::once(run.previous_chain).chain(run.entries.iter().map(|e| e.chain));
                (run.first..).zip(before).zip(&run.entries)
            })
            .filter(move |(_, entry)| entry.place.segment == segment)
            .map(|((index, before), entry)| (index, before, entry))
    }

    /// Chain hash after `index`, if the log knows it.
    pub(crate) fn chain_at(&self, index: u64) -> Option<u64> {
        if let Some(entry) = self.entry(index) {
            return Some(entry.chain);
        }
        if let Some(run) = self.runs.iter().find(|r| r.first.checked_sub(1) == Some(index)) {
            return Some(run.previous_chain);
        }
        (index == self.applied()).then(|| self.base_chain())
    }

    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        if let Some(entry) = self.entry(index) {
            return Some(entry.term);
        }
        self.checkpoint.filter(|c| c.applied == index).map(|c| c.term)
    }

    /// What a record written now may say about where the log ends.
    pub(crate) fn position(&self, keep_doubts: bool) -> Position {
        let (end, last_chain) = self.end();
        Position {
            last: end - 1,
            last_chain,
            checkpoint: self.checkpoint_stated,
            hard_state_doubtful: keep_doubts && self.hard_state_doubtful,
            log_doubtful: keep_doubts && self.log_doubtful,
        }
    }

    /// Drops entries from `index` on.
    fn cut_from(&mut self, index: u64, totals: &mut SegmentPins) {
        while let Some(run) = self.runs.last_mut() {
            if run.end() <= index && run.first < index {
                return;
            }
            if let Some(entry) = run.entries.pop_back() {
                self.unpin_entry(totals, &entry);
            } else if run.first >= index {
                self.runs.pop();
            } else {
                return;
            }
        }
    }

    /// Makes the log end before `first` with the given chain hash, as a new run if that does not follow from what
    /// is there.
    fn end_at(&mut self, first: u64, previous_chain: u64, totals: &mut SegmentPins) {
        self.cut_from(first, totals);
        if self.end() != (first, previous_chain) {
            self.runs.push(Run::new(first, previous_chain));
        }
    }

    /// Begins appending entries at `first`.
    pub(crate) fn begin_append(&mut self, first: u64, previous_chain: u64, totals: &mut SegmentPins) {
        self.end_at(first, previous_chain, totals);
        if self.runs.is_empty() {
            self.runs.push(Run::new(first, previous_chain));
        }
    }

    pub(crate) fn append(&mut self, entry: EntryRef, totals: &mut SegmentPins) {
        self.pin(totals, entry.place.segment, u64::from(entry.place.len));
        if let Some(run) = self.runs.last_mut() {
            run.entries.push_back(entry);
        }
    }

    /// Puts a rewritten entry where it belongs: beside its equal it only moves, and it never drops another.
    pub(crate) fn put_rewritten(
        &mut self,
        index: u64,
        previous_chain: u64,
        entry: EntryRef,
        totals: &mut SegmentPins,
    ) {
        if index <= self.applied() {
            return;
        }
        let at = self.run_of(index);
        if let Some(existing) = at.and_then(|at| self.runs.get_mut(at)).and_then(|r| r.get_mut(index)) {
            if existing.chain == entry.chain {
                let old = std::mem::replace(existing, entry);
                self.unpin_entry(totals, &old);
                self.pin(totals, entry.place.segment, u64::from(entry.place.len));
            } else {
                self.log_doubtful = true;
            }
            return;
        }
        self.pin(totals, entry.place.segment, u64::from(entry.place.len));
        match at.and_then(|at| self.runs.get_mut(at)) {
            Some(run) if run.end() == index && run.last_chain() == previous_chain => {
                run.entries.push_back(entry)
            }
            _ => {
                let mut run = Run::new(index, previous_chain);
                run.entries.push_back(entry);
                self.runs.insert(at.map_or(0, |at| at + 1), run);
            }
        }
    }

    /// Takes over a record's word on where the log ends.
    pub(crate) fn state_position(&mut self, position: &Position, losses: u32, totals: &mut SegmentPins) {
        self.checkpoint_stated = position.checkpoint;
        self.log_proven = losses;
        self.log_doubtful = position.log_doubtful;
        match position.last.checked_add(1) {
            Some(end) if position.last >= self.applied() => self.end_at(end, position.last_chain, totals),
            _ => self.log_doubtful = true,
        }
    }

    pub(crate) fn set_hard_state(
        &mut self,
        next: HardStateRef,
        doubtful: bool,
        losses: u32,
        totals: &mut SegmentPins,
    ) {
        if let Some(old) = self.hard_state.take() {
            self.unpin(totals, old.segment, old.bytes());
        }
        self.pin(totals, next.segment, next.bytes());
        self.hard_state = Some(next);
        self.hard_state_doubtful = doubtful;
        self.hard_state_proven = losses;
    }

    pub(crate) fn set_checkpoint(&mut self, next: CheckpointRef, totals: &mut SegmentPins) {
        if let Some(old) = self.checkpoint.take() {
            self.unpin(totals, old.place.segment, u64::from(old.place.len));
        }
        self.pin(totals, next.place.segment, u64::from(next.place.len));
        self.checkpoint = Some(next);
        self.checkpoint_stated = (next.applied, next.place.crc);
        if next.installed {
            self.cut_from(0, totals);
            self.runs.clear();
        } else {
            self.drop_through(next.applied, totals);
        }
    }

    fn drop_through(&mut self, applied: u64, totals: &mut SegmentPins) {
        let mut runs = std::mem::take(&mut self.runs);
        for run in &mut runs {
            while run.first <= applied
                && let Some(entry) = run.entries.pop_front()
            {
                self.unpin_entry(totals, &entry);
                run.first += 1;
                run.previous_chain = entry.chain;
            }
        }
        runs.retain(|run| !run.entries.is_empty() || run.first > applied + 1);
        self.runs = runs;
    }

    pub(crate) fn set_position_segment(&mut self, segment: SegmentNo, totals: &mut SegmentPins) {
        let old = std::mem::replace(&mut self.position_segment, segment);
        self.unpin(totals, old, 0);
        self.pin(totals, segment, 0);
    }

    /// Marks an entry whose payload no longer verifies.
    pub(crate) fn mark_damaged(&mut self, index: u64, totals: &mut SegmentPins) {
        self.flawed = true;
        let at = self.run_of(index);
        if let Some(entry) = at.and_then(|at| self.runs.get_mut(at)).and_then(|r| r.get_mut(index)) {
            let old = *entry;
            entry.place.segment = 0;
            self.unpin_entry(totals, &old);
            if old.place.segment != 0 {
                self.note_damaged(index, old.place.segment, old.place.offset);
            }
        }
    }

    pub(crate) fn mark_checkpoint_damaged(&mut self, totals: &mut SegmentPins) {
        self.flawed = true;
        if let Some(checkpoint) = &mut self.checkpoint {
            let (applied, place) = (checkpoint.applied, checkpoint.place);
            checkpoint.place.segment = 0;
            self.unpin(totals, place.segment, u64::from(place.len));
            if place.segment != 0 {
                self.note_damaged(applied, place.segment, place.offset);
            }
        }
    }

    /// Gives up everything.
    pub(crate) fn release(&mut self, totals: &mut SegmentPins) {
        for pin in std::mem::take(&mut self.pins) {
            if let Some(total) = totals.0.get_mut(&pin.segment) {
                *total = total.saturating_sub(pin.records);
                if *total == 0 {
                    totals.0.remove(&pin.segment);
                }
            }
        }
        self.runs.clear();
    }

    /// Drops runs before `at`, which turned out not to lead to it.
    pub(crate) fn drop_runs_before(&mut self, at: usize, totals: &mut SegmentPins) {
        let rest = self.runs.split_off(at.min(self.runs.len()));
        for run in std::mem::replace(&mut self.runs, rest) {
            for entry in &run.entries {
                self.unpin_entry(totals, entry);
            }
        }
    }

    /// Joins neighbours that link.
    pub(crate) fn join_runs(&mut self) {
        let mut joined: Vec<Run> = Vec::with_capacity(self.runs.len());
        for run in std::mem::take(&mut self.runs) {
            match joined.last_mut() {
                Some(last) if last.end() == run.first && last.last_chain() == run.previous_chain => {
                    last.entries.extend(run.entries);
                }
                _ => joined.push(run),
            }
        }
        if let [only] = joined.as_slice()
            && only.entries.is_empty()
            && only.first == self.applied() + 1
            && only.previous_chain == self.base_chain()
        {
            joined.clear();
        }
        self.runs = joined;
    }
}
