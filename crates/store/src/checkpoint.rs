use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use linnet_ids::StreamSeq;

use crate::checkpoint_job::{CheckpointJob, CheckpointTaken, Rewrite, Taken};
use crate::jobs::BlockFile;
use crate::state_file::{CheckpointBody, SavedBlock, SavedState, state_name};
use crate::store::{Kind, StreamStore};

/// What the store remembers while a checkpoint runs.
pub(crate) struct Pending {
    number: u64,
    /// Blocks by their base: how much of each is durable when the job is done.
    covered: Vec<(StreamSeq, u32)>,
    rewrites: Vec<PendingRewrite>,
    /// Blocks by their base that get an index file.
    indexed: Vec<StreamSeq>,
    /// Files that nothing needs once this checkpoint is durable.
    obsolete: Vec<PathBuf>,
    obsolete_bytes: u64,
}

struct PendingRewrite {
    from: Arc<BlockFile>,
    to: Arc<BlockFile>,
    spans: Vec<Range<usize>>,
    /// Why it is rewritten: an erased record, not only wasted space.
    must: bool,
}

impl Pending {
    /// Number of the state file.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Every file that is of no use if the checkpoint comes to nothing.
    pub(crate) fn into_files(self) -> Vec<PathBuf> {
        let mut files = self.obsolete;
        for rewrite in self.rewrites {
            rewrite.to.retire();
            files.extend([rewrite.to.path().to_owned(), rewrite.to.index_path()]);
        }
        files
    }

    pub(crate) fn obsolete_bytes(&self) -> u64 {
        self.obsolete_bytes
    }
}

impl StreamStore {
    /// True while a checkpoint's outcome is awaited.
    pub fn is_checkpointing(&self) -> bool {
        self.pending.is_some()
    }

    /// True if this is the outcome of the checkpoint that this store awaits, not of one that a store began in whose place
    /// it is.
    pub fn awaits(&self, taken: &CheckpointTaken) -> bool {
        self.pending.as_ref().is_some_and(|pending| pending.number == taken.number)
    }

    /// Starts a checkpoint of everything appended so far. `extra` is the owner's own state, returned by the next
    /// opening. `None` for a memory stream, while another checkpoint runs, or after a write failure.
    pub fn begin_checkpoint(&mut self, extra: &[u8]) -> Option<CheckpointJob> {
        let extra = extra.to_vec();
        self.begin_checkpoint_with(|| extra)
    }

    /// The same; the job makes the bytes of the owner's state, which may take longer than the caller should wait.
    pub fn begin_checkpoint_with(
        &mut self,
        extra: impl FnOnce() -> Vec<u8> + Send + 'static,
    ) -> Option<CheckpointJob> {
        let Kind::File { disk, dir } = self.kind.clone() else { return None };
        if self.pending.is_some() || self.failed.is_some() {
            return None;
        }
        self.drop_empty_blocks();
        let mut pending = Pending {
            number: self.next_state,
            covered: Vec::new(),
            rewrites: Vec::new(),
            indexed: Vec::new(),
            obsolete: std::mem::take(&mut self.obsolete),
            obsolete_bytes: std::mem::take(&mut self.obsolete_bytes),
        };
        let mut job = CheckpointJob {
            disk,
            dir,
            seed: self.seed,
            number: pending.number,
            writes: Vec::new(),
            rewrites: Vec::new(),
            syncs: Vec::new(),
            indexes: Vec::new(),
            extra: Box::new(extra),
            state: self.saved_state(),
        };
        for at in 0..self.blocks.len() {
            if let Some(block) = self.checkpoint_block(at, &mut pending, &mut job) {
                job.state.blocks.push(block);
            }
        }
        job.state.next_block = self.next_block;
        self.pending = Some(pending);
        Some(job)
    }

    /// Has the next checkpoint write every block anew that holds removed messages, however few. Damaged blocks stay: what
    /// is no record would go with the others.
    pub fn rewrite_all(&mut self) {
        for block in self.blocks.iter_mut().filter(|block| !block.is_damaged) {
            block.must_rewrite |= block.has_dead();
        }
    }

    /// What is saved besides the blocks and the owner's state.
    fn saved_state(&self) -> SavedState {
        SavedState {
            first_seq: self.state.first_seq,
            last_seq: self.state.last_seq,
            last_ts: self.state.last_ts,
            lost: self.state.lost,
            next_block: self.next_block,
            blocks: Vec::with_capacity(self.blocks.len()),
            // What is alive and damaged will be met again.
            damaged: self.damaged.iter().copied().filter(|seq| !self.is_live(*seq)).collect(),
            extra: Vec::new(),
        }
    }

    /// Adds what one block needs to the job; how it is to be saved.
    fn checkpoint_block(
        &mut self,
        at: usize,
        pending: &mut Pending,
        job: &mut CheckpointJob,
    ) -> Option<SavedBlock> {
        let is_last = at + 1 == self.blocks.len();
        let (layout, next_block, compress) = (self.layout, self.next_block, self.compress);
        let block = self.blocks.get_mut(at)?;
        let file = block.file.clone()?;
        block.freeze(&layout);
        // A block that is appended to cannot be rewritten.
        block.closed |= block.must_rewrite;
        let end = block.data_len();
        let not_done = block.take_not_done();
        if block.synced < end || !not_done.is_empty() {
            job.syncs.push(file.clone());
            pending.covered.push((block.base(), end));
        }
        job.writes.extend(not_done.into_iter().map(|(offset, data)| (file.clone(), offset, data)));
        let saved = SavedBlock {
            number: file.number(),
            base: block.base(),
            len: u64::from(end),
            packed: file.packed_len(),
            must_rewrite: block.must_rewrite,
            seqs: block.rows().seqs().clone(),
            dead: block.rows().dead(),
        };
        let settled = !is_last || block.closed;
        let must_copy = block.must_rewrite || (block.is_sparse(&layout) && !block.is_damaged);
        // A block that has an index has been looked at before, or is from a time without compression.
        let is_packable = compress && !block.has_index && !block.is_damaged && file.packed_len() == 0;
        if settled && (must_copy || is_packable) {
            let must = std::mem::take(&mut block.must_rewrite);
            let to = BlockFile::new(job.disk.clone(), &job.dir, next_block, block.base(), job.seed);
            self.next_block += 1;
            let pack = compress.then_some(layout.frame);
            let spans = block.live_spans(pack.unwrap_or(usize::MAX));
            job.rewrites.push(Rewrite {
                at: job.state.blocks.len(),
                from: file.clone(),
                to: to.clone(),
                spans: spans.clone(),
                pack,
                must_copy,
            });
            job.indexes.push(job.state.blocks.len());
            pending.rewrites.push(PendingRewrite { from: file, to, spans, must });
        } else if settled && !block.has_index && !block.is_damaged {
            block.has_index = true;
            pending.indexed.push(block.base());
            job.indexes.push(job.state.blocks.len());
        }
        Some(saved)
    }

    /// Takes the outcome of a checkpoint. On success: what to record in the log, and which files may be deleted
    /// once that record is durable; some of them may not exist. Want of space or descriptors lets a later
    /// checkpoint try again, any other failure latches. The outcome of a checkpoint that this store did not begin is ignored.
    pub fn finish_checkpoint(&mut self, taken: CheckpointTaken) -> Option<(CheckpointBody, Vec<PathBuf>)> {
        if !self.awaits(&taken) {
            return None;
        }
        let pending = self.pending.take()?;
        match taken.result {
            Ok(taken) => Some(self.adopt_checkpoint(pending, &taken)),
            Err(failed) => {
                self.abandon_checkpoint(pending);
                if failed.can_retry {
                    self.disk_full = true;
                } else {
                    self.fail(failed.error);
                }
                None
            }
        }
    }

    fn adopt_checkpoint(&mut self, pending: Pending, taken: &Taken) -> (CheckpointBody, Vec<PathBuf>) {
        self.disk_full = false;
        let mut removable = pending.obsolete;
        for (base, end) in pending.covered {
            if let Some(at) = self.block_with_base(base) {
                self.blocks[at].note_written(end);
                self.blocks[at].synced = end;
                if self.blocks[at].unwritten() == 0
                    && let Some(file) = &self.blocks[at].file
                {
                    file.close();
                }
            }
        }
        for (rewrite, done) in pending.rewrites.into_iter().zip(&taken.rewritten) {
            rewrite.to.close();
            match self.block_with_file(&rewrite.from) {
                Some(at) if *done => {
                    self.blocks[at].adopt_rewritten(&rewrite.spans, rewrite.to);
                    self.blocks[at].has_index = true;
                    removable.extend([rewrite.from.path().to_owned(), rewrite.from.index_path()]);
                    rewrite.from.retire();
                }
                Some(at) => {
                    self.blocks[at].must_rewrite |= rewrite.must;
                    // The old file got one, unless it cannot be read.
                    self.blocks[at].has_index = true;
                    self.retire_file(&rewrite.to);
                }
                // Emptied meanwhile: this checkpoint names the new file, the next one does not.
                None => self.retire_file(&rewrite.to),
            }
        }
        if let Some(old) = self.recorded_state.replace(taken.body.number)
            && let Kind::File { dir, .. } = &self.kind
        {
            removable.push(dir.join(state_name(old)));
        }
        // Others may have been set aside meanwhile.
        self.next_state = self.next_state.max(taken.body.number + 1);
        (taken.body, removable)
    }

    fn abandon_checkpoint(&mut self, pending: Pending) {
        self.obsolete.extend(pending.obsolete);
        self.obsolete_bytes += pending.obsolete_bytes;
        self.blocks.iter_mut().for_each(|block| block.note_all_unsent());
        for base in pending.indexed {
            if let Some(at) = self.block_with_base(base) {
                self.blocks[at].has_index = false;
            }
        }
        for rewrite in pending.rewrites {
            if let Some(at) = self.block_with_file(&rewrite.from) {
                self.blocks[at].must_rewrite |= rewrite.must;
            }
            self.retire_file(&rewrite.to);
        }
    }

    fn retire_file(&mut self, file: &BlockFile) {
        file.retire();
        self.obsolete.extend([file.path().to_owned(), file.index_path()]);
    }
}
