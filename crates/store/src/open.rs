use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::{Disk, OpenMode};
use linnet_ids::StreamSeq;
use thiserror::Error;

use crate::block::Block;
use crate::block_index::BlockIndex;
use crate::jobs::{BlockFile, HEADER, block_name, index_name, is_damage};
use crate::layout::Layout;
use crate::record::{Seed, accounted, accounted_sum};
use crate::rows::{HAS_HEADERS, Rows};
use crate::scan::{read_data, scan};
use crate::state_file::{CheckpointBody, ReadState, SavedBlock, read_state, state_name};
use crate::store::{Kind, StreamStore};

/// The store cannot be opened as the checkpoint describes it.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The state file is missing, or both its copies are unreadable or not what was recorded.
    #[error("{path}: {source}")]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// A block file cannot be opened now, which says nothing about what it holds.
    #[error("{path}: {source}")]
    Block {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// The directory cannot be listed.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
}

impl OpenError {
    /// True if the state file is gone or not what was written, rather than that it cannot be had now.
    pub fn is_damaged_state(&self) -> bool {
        matches!(self, Self::State { source, .. } if is_damage(source))
    }
}

/// What opening found.
#[derive(Debug, Default)]
pub struct OpenReport {
    /// Sequences whose record was found to be damaged or missing. What was found earlier is in
    /// [`StreamStore::damaged`] only.
    pub lost: Vec<StreamSeq>,
    /// Files of blocks of which nothing could be saved. They belong to the store no more and are worth keeping.
    pub ruined: Vec<PathBuf>,
    /// The lost ones with the block file that should hold them.
    pub lost_in: Vec<(StreamSeq, PathBuf)>,
    /// Index files that are damaged. The blocks were read instead, and the next checkpoint writes them anew.
    pub bad_indexes: Vec<PathBuf>,
    /// The state file, if one of its two copies of the state is damaged. The other was used, and the next checkpoint
    /// writes both anew.
    pub half_state: Option<PathBuf>,
    /// Files in the directory that the checkpoint does not name.
    pub strays: Vec<PathBuf>,
    /// The owner's state saved with the checkpoint.
    pub extra: Vec<u8>,
}

impl StreamStore {
    /// Opens the store as the last durable checkpoint describes it; without one it is empty. What the log holds
    /// beyond the checkpoint is appended by the caller afterwards.
    pub fn open(
        disk: &Arc<dyn Disk>,
        dir: PathBuf,
        seed: Seed,
        checkpoint: Option<CheckpointBody>,
        max_per_subject: impl FnOnce(&[u8]) -> i64,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with_layout(disk, dir, seed, checkpoint, Layout::default(), max_per_subject)
    }

    /// Like [`StreamStore::open`], with other sizes.
    pub fn open_with_layout(
        disk: &Arc<dyn Disk>,
        dir: PathBuf,
        seed: Seed,
        checkpoint: Option<CheckpointBody>,
        layout: Layout,
        max_per_subject: impl FnOnce(&[u8]) -> i64,
    ) -> Result<(Self, OpenReport), OpenError> {
        let mut report = OpenReport::default();
        let kind = Kind::File { disk: disk.clone(), dir: dir.clone() };
        let names = list(disk, &dir)?;
        let Some(body) = checkpoint else {
            let mut store = Self::new(kind, seed, 0, max_per_subject(&[])).with_layout(layout);
            store.number_above(&names);
            report.strays = names.iter().map(|name| dir.join(name)).collect();
            return Ok((store, report));
        };
        let state_path = dir.join(body.file_name());
        let ReadState { saved, is_half } = read_state(&**disk, &dir, body)
            .map_err(|source| OpenError::State { path: state_path.clone(), source })?;
        report.half_state = is_half.then_some(state_path);
        let mut store = Self::new(kind, seed, 0, max_per_subject(&saved.extra)).with_layout(layout);
        store.state.lost = saved.lost;
        let mut named = vec![body.file_name()];
        for (at, block) in saved.blocks.iter().enumerate() {
            named.extend([block_name(block.number), index_name(block.number)]);
            let is_last = at + 1 == saved.blocks.len();
            store.recover_block(disk, &dir, block, is_last, &mut report)?;
        }
        store.state.last_seq = saved.last_seq;
        store.state.last_ts = saved.last_ts;
        store.state.first_seq = match store.next(0, &crate::Filter::all()) {
            Some(first) => first,
            None => saved.first_seq.max(if saved.last_seq > 0 { saved.last_seq + 1 } else { 0 }),
        };
        store.damaged.extend(report.lost.iter().chain(&saved.damaged));
        store.next_block = saved.next_block;
        store.recorded_state = Some(body.number);
        store.next_state = body.number + 1;
        store.number_above(&names);
        named.sort_unstable();
        let strays = names.iter().filter(|name| named.binary_search(name).is_err());
        report.strays = strays.map(|name| dir.join(name)).collect();
        report.extra = saved.extra;
        Ok((store, report))
    }

    /// No new file gets the name of one that is there: what a crash left behind stays as it is.
    fn number_above(&mut self, names: &[String]) {
        for name in names {
            let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
            if let Ok(number) = stem.parse::<u64>() {
                self.next_block = self.next_block.max(number.saturating_add(1));
            } else if let Ok(number) = extension.parse::<u64>()
                && *name == state_name(number)
            {
                self.next_state = self.next_state.max(number.saturating_add(1));
            }
        }
    }

    fn recover_block(
        &mut self,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        saved: &SavedBlock,
        is_last: bool,
        report: &mut OpenReport,
    ) -> Result<(), OpenError> {
        let file = saved.file(disk, dir, self.seed);
        let path = file.path().to_owned();
        let (index, has_index) = match read_index(&**disk, dir, self.seed, saved) {
            Some(index) => (index, true),
            None => (
                read_block(&file, self.seed, saved)
                    .map_err(|source| OpenError::Block { path: path.clone(), source })?,
                false,
            ),
        };
        let lost_before = report.lost.len();
        note_lost(&index, saved, &mut report.lost);
        let newly_lost = report.lost.get(lost_before..).unwrap_or_default();
        report.lost_in.extend(newly_lost.iter().map(|seq| (*seq, path.clone())));
        let index_path = dir.join(index_name(saved.number));
        if !has_index && disk.read(&index_path).is_ok_and(|bytes| !BlockIndex::is_intact(&bytes, self.seed)) {
            report.bad_indexes.push(index_path);
        }
        let lost = report.lost.len() - lost_before;
        self.state.lost.0 += lost as u64;
        self.state.lost.1 += saved.len.saturating_sub(index.record_bytes());
        let (data_len, is_whole) = (index.data_len, index.is_whole);
        let rows = if is_untouched(&index, saved) {
            self.rows_of_untouched(index)
        } else {
            self.rows_of(&index, saved)
        };
        if rows.live_count() > 0 {
            let mut block = Block::recovered(saved.base, file, rows, data_len);
            block.must_rewrite = saved.must_rewrite;
            block.has_index = has_index;
            block.is_damaged = !is_whole;
            // Only closed blocks have an index. What a crash left behind the end is not written over: on a disk that
            // encrypts, that would take another key.
            let is_left_over = || saved.packed > 0 || holds_more(&**disk, &path, saved.len);
            block.closed = !is_last || has_index || !is_whole || is_left_over();
            self.blocks.push_back(block);
        } else if lost > 0 {
            report.ruined.push(path);
        } else {
            self.obsolete.extend([path, dir.join(index_name(saved.number))]);
        }
        Ok(())
    }

    /// As [`StreamStore::rows_of`] for a block that is as it was filled, like nearly all blocks of most streams.
    fn rows_of_untouched(&mut self, mut index: BlockIndex) -> Rows {
        let mut ids = vec![None; index.name_count()];
        let mut subjects = index.take_subjects();
        for (subject, seq) in subjects.iter_mut().zip(index.seqs.first()..) {
            let (name, headers) = (*subject & !HAS_HEADERS, *subject & HAS_HEADERS);
            let slot = &mut ids[name as usize];
            let id = match *slot {
                Some(id) => self.subjects.add_known(id, seq),
                None => *slot.insert(self.subjects.add(index.name(name), seq)),
            };
            *subject = id | headers;
        }
        let with_headers = subjects.iter().filter(|s| **s & HAS_HEADERS != 0).count() as u64;
        let msgs = subjects.len() as u64;
        self.state.msgs += msgs;
        self.state.bytes += accounted_sum(index.span_of_rows(), msgs, with_headers);
        Rows::all_live(index.seqs, index.offsets, subjects)
    }

    /// The rows of a block; counts its live messages.
    fn rows_of(&mut self, index: &BlockIndex, saved: &SavedBlock) -> Rows {
        let mut rows = Rows::default();
        let mut ids = vec![None; index.name_count()];
        let same_rows = index.seqs == saved.seqs;
        for (row, seq) in index.seqs.iter().enumerate() {
            let offset = index.offsets.get(row).copied().unwrap_or_default();
            let saved_row = if same_rows { Some(row) } else { saved.seqs.row_of(seq) };
            let name = index.name_of(row).filter(|_| saved_row.is_some_and(|row| saved.is_live(row)));
            let Some(name) = name else {
                rows.push(seq, offset, 0, false);
                continue;
            };
            let slot = ids.get_mut(name as usize);
            let known = slot.as_deref().copied().flatten();
            let id = match known {
                Some(id) => self.subjects.add_known(id, seq),
                None => self.subjects.add(index.name(name), seq),
            };
            if let Some(slot) = slot {
                *slot = Some(id);
            }
            let headers = index.headers_mark(row);
            rows.push(seq, offset, id | headers, true);
            self.state.msgs += 1;
            self.state.bytes += accounted(index.len_of(row), headers != 0, false);
        }
        rows
    }
}

/// True if every row is a record, alive, and in one run.
fn is_untouched(index: &BlockIndex, saved: &SavedBlock) -> bool {
    index.is_whole
        && index.seqs.parts().len() == 1
        && index.seqs == saved.seqs
        && saved.dead.is_empty()
        && index.has_records_only()
}

/// Live sequences that the block does not have.
fn note_lost(index: &BlockIndex, saved: &SavedBlock, lost: &mut Vec<StreamSeq>) {
    if index.is_whole && index.seqs == saved.seqs {
        return;
    }
    let missing = saved.live_between(0, StreamSeq::MAX).filter(|seq| {
        let row = index.seqs.row_of(*seq);
        row.and_then(|row| index.name_of(row)).is_none()
    });
    lost.extend(missing);
}

/// True if a block file is longer than the checkpoint says.
fn holds_more(disk: &dyn Disk, path: &Path, len: u64) -> bool {
    let found = disk.open(path, OpenMode::Read).and_then(|file| file.len());
    found.is_ok_and(|found| found > HEADER + len)
}

/// The block's index file, if it is intact and the block file is as long as it says.
fn read_index(disk: &dyn Disk, dir: &Path, seed: Seed, saved: &SavedBlock) -> Option<BlockIndex> {
    let block = disk.open(&dir.join(block_name(saved.number)), OpenMode::Read).ok()?;
    if block.len().ok()? < saved.file_len() {
        return None;
    }
    let bytes = disk.read(&dir.join(index_name(saved.number))).ok()?;
    BlockIndex::decode(&bytes, seed, saved)
}

/// Finds the records by reading the block.
fn read_block(file: &BlockFile, seed: Seed, saved: &SavedBlock) -> io::Result<BlockIndex> {
    if saved.len == 0 {
        return Ok(BlockIndex::empty(true));
    }
    match read_data(file, saved.len) {
        Ok(data) => Ok(scan(&data, seed, saved)),
        Err(e) if is_damage(&e) => Ok(BlockIndex::empty(false)),
        Err(e) => Err(e),
    }
}

fn list(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Vec<String>, OpenError> {
    match disk.list(dir) {
        Ok(entries) => Ok(entries.into_iter().filter(|e| !e.is_dir).map(|e| e.name).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(OpenError::Directory { path: dir.to_owned(), source }),
    }
}
