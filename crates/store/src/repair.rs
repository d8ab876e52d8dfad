//! Putting records that somebody else has in the place of damaged ones.
//!
//! A block with damage is built anew in memory, from its own records and from those that are given, and takes the old
//! one's place under a new number; the next checkpoint makes it durable, and the old file goes then. Until that, a crash
//! finds the damage again.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use linnet_ids::StreamSeq;

use crate::block::Block;
use crate::jobs::BlockFile;
use crate::pin::{PinReadError, PinReader, Pinned};
use crate::record::{Record, Seed, accounted};
use crate::rows::{HAS_HEADERS, Rows};
use crate::store::{Kind, Lookup, StreamStore};

/// What is hoped for of others.
#[derive(Default)]
pub(crate) struct Hopes {
    /// Others may have what is damaged here.
    is_repairable: bool,
    /// Damaged messages that nobody had.
    given_up: BTreeSet<StreamSeq>,
    /// Damage was met since somebody asked.
    is_new: bool,
    /// A message whose record turned out to be damaged when it was looked at.
    met: Cell<Option<StreamSeq>>,
}

/// A damaged message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its sequence.
    pub seq: StreamSeq,
    /// Its subject and size are known, and it counts as stored; else it was lost when the store was opened.
    pub is_alive: bool,
}

/// Builds one block anew, with records of somebody else. Run it on a thread that may wait for the disk.
pub struct RepairJob {
    seed: Seed,
    /// What is to be replaced; `None` if there is no block where the records belong.
    old: Option<(Arc<BlockFile>, Pinned)>,
    new: Arc<BlockFile>,
    /// By sequence.
    records: VecDeque<(StreamSeq, Bytes)>,
}

/// Outcome of a [`RepairJob`], to be given back to the store.
pub struct RepairDone {
    old: Option<Arc<BlockFile>>,
    new: Arc<BlockFile>,
    result: Result<Rebuilt, PinReadError>,
}

/// The data of a block.
#[derive(Default)]
struct Rebuilt {
    data: Vec<u8>,
    parts: Vec<Part>,
    /// What is damaged still.
    damaged: Vec<StreamSeq>,
}

struct Part {
    seq: StreamSeq,
    at: Range<usize>,
    is_given: bool,
}

impl fmt::Debug for RepairJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepairJob").field("records", &self.records.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RepairDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepairDone").field("number", &self.new.number()).finish_non_exhaustive()
    }
}

impl StreamStore {
    /// Whether others may have what is damaged here. While they may, look-ups of damaged messages find
    /// [`Lookup::Repairing`] instead of [`Lookup::Damaged`], unless [`StreamStore::give_up_on`] was called for them.
    pub fn set_repairable(&mut self, on: bool) {
        let Hopes { is_repairable, given_up, is_new, .. } = &mut self.hopes;
        if *is_repairable != on {
            *is_repairable = on;
            *is_new = on && !self.damaged.is_empty();
            given_up.clear();
        }
    }

    /// True if damage was met since the last call that others may have.
    pub fn take_new_damage(&mut self) -> bool {
        if let Some(seq) = self.hopes.met.take().filter(|seq| self.is_live(*seq)) {
            self.note_damaged(seq);
        }
        std::mem::take(&mut self.hopes.is_new)
    }

    /// Nobody has these. They count as damaged from now on, until they are repaired all the same.
    pub fn give_up_on(&mut self, sequences: impl IntoIterator<Item = StreamSeq>) {
        self.hopes.given_up.extend(sequences.into_iter().filter(|seq| self.damaged.contains(seq)));
    }

    /// True if the message is damaged, and others may have it.
    pub fn is_repairing(&self, seq: StreamSeq) -> bool {
        self.hopes.is_repairable && self.damaged.contains(&seq) && !self.hopes.given_up.contains(&seq)
    }

    /// True if messages are lost that others may have.
    pub fn awaits_lost(&self) -> bool {
        let Hopes { is_repairable, given_up, .. } = &self.hopes;
        *is_repairable && self.damaged.iter().any(|seq| !given_up.contains(seq) && !self.is_live(*seq))
    }

    /// Damaged messages, `max` at most: first those of which there is hope.
    pub fn damage(&self, max: usize) -> Vec<Damage> {
        let given_up = &self.hopes.given_up;
        let hopeful = self.damaged.iter().filter(|seq| !given_up.contains(*seq));
        let damaged = hopeful.chain(given_up.iter().filter(|seq| self.damaged.contains(*seq))).take(max);
        damaged.map(|seq| Damage { seq: *seq, is_alive: self.is_live(*seq) }).collect()
    }

    /// The same as [`StreamStore::mark_damaged`], for whoever may only look.
    pub(crate) fn meet_damage(&self, seq: StreamSeq) {
        self.hopes.met.set(Some(seq));
    }

    pub(crate) fn note_damaged(&mut self, seq: StreamSeq) {
        if self.damaged.insert(seq) {
            self.hopes.is_new |= self.hopes.is_repairable;
        }
    }

    pub(crate) fn forget_damaged(&mut self, seq: StreamSeq) -> bool {
        self.hopes.given_up.remove(&seq);
        self.damaged.remove(&seq)
    }

    /// What a look-up of a damaged message finds.
    pub(crate) fn broken<T>(&self, seq: StreamSeq) -> Lookup<T> {
        let Hopes { is_repairable, given_up, .. } = &self.hopes;
        if *is_repairable && !given_up.contains(&seq) { Lookup::Repairing } else { Lookup::Damaged }
    }

    /// Jobs that put intact records of damaged messages in their places; what is no such record is left out. Blocks that
    /// are built anew take no more messages.
    pub fn begin_repair(&mut self, records: Vec<Bytes>) -> Vec<RepairJob> {
        let mut records: Vec<(StreamSeq, Bytes)> =
            records.into_iter().filter_map(|bytes| Some((self.seq_of_damaged(&bytes)?, bytes))).collect();
        records.sort_by_key(|(seq, _)| *seq);
        records.dedup_by_key(|(seq, _)| *seq);
        let mut jobs: Vec<RepairJob> = Vec::new();
        let mut last_place = None;
        let mut bytes = 0;
        for (seq, record) in records {
            let before = self.block_of(seq);
            let inside = before.filter(|at| self.blocks[*at].end() > seq);
            let place = (before, inside);
            let is_full = inside.is_none() && bytes >= self.layout.block_max;
            if last_place != Some(place) || is_full {
                jobs.extend(self.repair_job(seq, inside));
                (last_place, bytes) = (Some(place), 0);
            }
            bytes += record.len();
            if let Some(job) = jobs.last_mut() {
                job.records.push_back((seq, record));
            }
        }
        jobs
    }

    fn seq_of_damaged(&self, bytes: &[u8]) -> Option<StreamSeq> {
        let (record, len) = Record::decode(bytes, self.seed).ok()?;
        (len == bytes.len() && self.damaged.contains(&record.seq)).then_some(record.seq)
    }

    fn repair_job(&mut self, first: StreamSeq, at: Option<usize>) -> Option<RepairJob> {
        let Kind::File { disk, dir } = &self.kind else { return None };
        let block = at.map(|at| &mut self.blocks[at]);
        let base = block.as_ref().map_or(first, |block| block.base());
        let new = BlockFile::new(disk.clone(), dir, self.next_block, base, self.seed);
        self.next_block += 1;
        let old = match block {
            None => None,
            Some(block) => {
                block.closed = true;
                let (file, pinned) = (block.file.clone()?, block.pin());
                let mut pinned = self.pin_those([pinned].into());
                // What is damaged keeps its place, too.
                pinned.damaged.clear();
                Some((file, pinned))
            }
        };
        Some(RepairJob { seed: self.seed, old, new, records: VecDeque::new() })
    }

    /// Takes the outcome of a repair: the messages that are whole again. With `may_revive`, those that were lost come
    /// back, too; the caller knows then that nothing has removed them since. While a checkpoint is under way, the outcome
    /// is given back, to be offered again when that is done. An outcome for a block that is no more is dropped.
    pub fn finish_repair(
        &mut self,
        done: RepairDone,
        may_revive: bool,
    ) -> Result<io::Result<Vec<StreamSeq>>, RepairDone> {
        if self.is_checkpointing() {
            return Err(done);
        }
        let RepairDone { old, new, result } = done;
        let rebuilt = match result {
            Ok(rebuilt) => rebuilt,
            Err(PinReadError::Io { source, .. }) => return Ok(Err(source)),
            Err(PinReadError::Damaged(_)) => return Ok(Ok(Vec::new())),
        };
        let Some(at) = self.place_of(old.as_ref(), &rebuilt) else { return Ok(Ok(Vec::new())) };
        let (rows, repaired) = self.rebuilt_rows(old.is_some().then_some(at), &rebuilt, may_revive);
        if !repaired.is_empty() {
            self.put(at, old.is_some(), rows, new, rebuilt);
            self.note_repaired(&repaired);
        }
        Ok(Ok(repaired))
    }

    /// Where the block is that is replaced, or where a new one goes; `None` if things have changed.
    fn place_of(&self, old: Option<&Arc<BlockFile>>, rebuilt: &Rebuilt) -> Option<usize> {
        if let Some(old) = old {
            return self.block_with_file(old);
        }
        let (first, last) = (rebuilt.parts.first()?.seq, rebuilt.parts.last()?.seq);
        let at = self.block_of(first).map_or(0, |before| before + 1);
        let follows = at.checked_sub(1).is_none_or(|before| self.blocks[before].end() <= first);
        let precedes = self.blocks.get(at).is_none_or(|next| next.base() > last);
        (follows && precedes && last <= self.state.last_seq).then_some(at)
    }

    /// The rows of a block that is built anew, and which damaged messages it makes whole.
    fn rebuilt_rows(
        &mut self,
        old: Option<usize>,
        rebuilt: &Rebuilt,
        may_revive: bool,
    ) -> (Rows, Vec<StreamSeq>) {
        let mut rows = Rows::default();
        let mut repaired = Vec::new();
        for Part { seq, at, is_given } in &rebuilt.parts {
            let offset = u32::try_from(at.start).unwrap_or(u32::MAX);
            let known = old.and_then(|old| self.blocks[old].live_subject(*seq));
            let subject = match known {
                Some(subject) => {
                    if *is_given && self.damaged.contains(seq) {
                        repaired.push(*seq);
                    }
                    Some(subject)
                }
                None if *is_given && may_revive && self.damaged.contains(seq) => {
                    let subject = self.revive(&rebuilt.data[at.clone()]);
                    repaired.extend(subject.map(|_| *seq));
                    subject
                }
                None => None,
            };
            rows.push(*seq, offset, subject.unwrap_or(0), subject.is_some());
        }
        (rows, repaired)
    }

    /// A lost message counts again: its subject, with the mark of headers.
    fn revive(&mut self, bytes: &[u8]) -> Option<u32> {
        let (record, len) = Record::view(bytes).ok()?;
        let has_headers = !record.headers.is_empty();
        let subject = self.subjects.add_earlier(record.subject, record.seq);
        self.state.msgs += 1;
        self.state.bytes += accounted(len, has_headers, false);
        let (msgs, bytes) = self.state.lost;
        // Among the bytes that were lost are those of removed messages.
        self.state.lost = match msgs.saturating_sub(1) {
            0 => (0, 0),
            left => (left, bytes.saturating_sub(len as u64)),
        };
        self.state.first_seq = self.state.first_seq.min(record.seq);
        Some(subject | if has_headers { HAS_HEADERS } else { 0 })
    }

    fn put(&mut self, at: usize, replaces: bool, rows: Rows, file: Arc<BlockFile>, rebuilt: Rebuilt) {
        let base = file.base();
        let mut block = Block::rebuilt(base, file, rows, rebuilt.data);
        block.is_damaged = !rebuilt.damaged.is_empty();
        if replaces {
            block.must_rewrite = self.blocks[at].must_rewrite;
            let old = std::mem::replace(&mut self.blocks[at], block);
            self.retire(&old);
        } else {
            self.blocks.insert(at, block);
        }
        self.unsettle(base);
        // In memory, bytes count as verified.
        for seq in rebuilt.damaged.into_iter().filter(|seq| self.is_live(*seq)).collect::<Vec<_>>() {
            self.note_damaged(seq);
        }
    }

    fn note_repaired(&mut self, repaired: &[StreamSeq]) {
        for seq in repaired {
            self.forget_damaged(*seq);
        }
        self.reading.forget_first_times();
    }
}

impl RepairJob {
    /// Runs the job; blocks.
    pub fn run(self) -> RepairDone {
        let Self { seed, old, new, mut records } = self;
        let mut rebuilt = Rebuilt::default();
        let (old, result) = match old {
            None => (None, Ok(())),
            Some((file, pinned)) => (Some(file), rebuilt.merge(pinned, &mut records, seed)),
        };
        for (seq, record) in records {
            rebuilt.add(seq, &record, true);
        }
        RepairDone { old, new, result: result.map(|()| rebuilt) }
    }
}

impl Rebuilt {
    fn add(&mut self, seq: StreamSeq, bytes: &[u8], is_given: bool) {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        self.parts.push(Part { seq, at: start..self.data.len(), is_given });
    }

    /// Adds what a block holds, and those of the given records that belong in front of its last one.
    fn merge(
        &mut self,
        pinned: Pinned,
        given: &mut VecDeque<(StreamSeq, Bytes)>,
        seed: Seed,
    ) -> Result<(), PinReadError> {
        let mut reader: PinReader = pinned.read();
        while let Some(seq) = reader.next_seq() {
            while let Some((seq, record)) = given.pop_front_if(|(given, _)| *given < seq) {
                self.add(seq, &record, true);
            }
            let len = usize::try_from(reader.record_len()).unwrap_or(0);
            if let Some((_, record)) = given.pop_front_if(|(given, _)| *given == seq) {
                self.add(seq, &record, true);
                continue;
            }
            match reader.bytes(seq) {
                Ok(bytes) => {
                    let is_intact = Record::decode(bytes, seed).is_ok_and(|(record, _)| record.seq == seq);
                    self.damaged.extend((!is_intact).then_some(seq));
                    self.add(seq, bytes, false);
                }
                Err(PinReadError::Damaged(_)) => {
                    self.damaged.push(seq);
                    self.add(seq, &vec![0; len], false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Pinned {
    /// The record of one message, verified and verbatim; `None` if it is not there. It blocks.
    pub fn record(&self, seq: StreamSeq) -> Result<Option<Bytes>, PinReadError> {
        let at = self.blocks.partition_point(|block| block.rows.seqs().end() <= seq);
        let block = self.blocks.get(at);
        let row = block.and_then(|b| b.rows.seqs().row_of(seq).filter(|row| b.rows.is_live(*row)));
        if self.damaged.contains(&seq) {
            return Err(PinReadError::Damaged(seq));
        }
        let (Some(block), Some(row)) = (block, row) else { return Ok(None) };
        let mut reader = self.only(block).read();
        reader.go_to(row);
        match reader.next_record()? {
            Some(_) => Ok(Some(Bytes::copy_from_slice(reader.bytes(seq)?))),
            None => Ok(None),
        }
    }
}
