use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use hashbrown::HashMap;
use linnet_env::{Disk, DiskFile};
use linnet_ids::GroupId;

use crate::batch::Batch;
use crate::directory::{self, Copy, Prologue, Shape};
use crate::error::{Error, Failure};
use crate::format::{
    EMPTY_BATCH_SECTORS, FORMAT_VERSION, Lsn, SECTOR, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
    SEGMENT_OVERHEAD_SECTORS, SectorSums, SegmentNo, byte_offset,
};
use crate::plan::{Pending, plan};
use crate::record::{End, Start, put_end, put_start};
use crate::report::{RecoveredGroup, Report};
use crate::segment::{Paths, Segment, sectors_of};
use crate::state::{Placement, State};

/// Bytes beyond which no more space is left on the disk: about as many as block files leave.
const LEFT_FREE_MAX: u64 = 8 << 20;

/// Sizes of the log.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Length of a segment; a batch never spans two.
    pub segment_bytes: u64,
    /// Length of the segment that an opening begins: filling it with zeros is what opening waits for.
    pub first_segment_bytes: u64,
    /// Bytes of needed segments above which ordinary batches are refused.
    pub max_bytes: u64,
    /// Prepared segments that only urgent batches and rewriting may begin.
    pub reserve_segments: u32,
    /// Bytes of the segment that an opening begins after which the next ones are made. A log that hardly anything is
    /// written to does not fill files for nothing.
    pub ahead_after: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            max_bytes: 1 << 30,
            reserve_segments: 1,
            ahead_after: 256 << 10,
        }
    }
}

impl Config {
    /// Space that new segments leave on the disk: opening needs some, and so do the checkpoints that free segments.
    pub(crate) fn left_free(&self) -> u64 {
        (self.segment_bytes / 2).min(LEFT_FREE_MAX)
    }

    fn check(&self) -> Result<(), Error> {
        let sound = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes)
            && self.segment_bytes.is_multiple_of(4096)
            && (SEGMENT_BYTES_MIN..=self.segment_bytes).contains(&self.first_segment_bytes)
            && self.first_segment_bytes.is_multiple_of(4096)
            && self.max_bytes >= 4 * self.segment_bytes;
        if sound { Ok(()) } else { Err(Error::Config) }
    }
}

/// Which store the log belongs to. Sectors of another store never verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Random id drawn when the store was made.
    pub store_id: [u8; 16],
}

/// An opened log and what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The log, ready for batches.
    pub wal: Wal,
    /// Every group the log holds something of, by id.
    pub groups: Vec<RecoveredGroup>,
    /// What happened while opening.
    pub report: Report,
}

/// How much space a batch may claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Ordinary,
    /// May use the reserve.
    Urgent,
    /// Frees more than it takes, so that no bound applies.
    Rewrite,
}

/// Where the next batch goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WritePosition {
    pub(crate) sector: u32,
    /// The last batch.
    pub(crate) lsn: Lsn,
    /// Hash of its directory.
    pub(crate) hash: u64,
}

/// Buffers that live from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) records: Vec<u8>,
    pub(crate) body: Vec<u8>,
    front: Vec<u8>,
    back: Vec<u8>,
    pub(crate) chains: Vec<u64>,
    pub(crate) pending: HashMap<GroupId, Pending>,
    /// What is written is not put off where syncs are.
    is_certain: bool,
}

/// The log of a store. One thread owns it and calls everything in turn.
#[derive(Debug)]
pub struct Wal {
    pub(crate) disk: DiskHandle,
    pub(crate) paths: Paths,
    pub(crate) config: Config,
    pub(crate) store: [u8; 16],
    pub(crate) state: State,
    /// Segments that are needed, oldest first; the last one is written to.
    pub(crate) live: VecDeque<Segment>,
    pub(crate) position: WritePosition,
    /// Segments ready for use, in the order of their numbers, which are above all live ones.
    pub(crate) spares: VecDeque<Segment>,
    /// Segments that no durable record needs any more.
    pub(crate) freed: Vec<Segment>,
    /// The segment that the opening began is used: others are made ahead.
    pub(crate) is_used: bool,
    pub(crate) preparing: bool,
    /// Number of the segment that is being prepared.
    pub(crate) prepared_no: Option<SegmentNo>,
    /// Segments from this one on are kept even if nothing in them is needed.
    pub(crate) kept_from: SegmentNo,
    pub(crate) next_no: SegmentNo,
    pub(crate) unsealed: bool,
    pub(crate) stopped: Option<Arc<Failure>>,
    pub(crate) scratch: Scratch,
}

/// The disk, with a `Debug` that does not need one from it.
#[derive(Clone)]
pub(crate) struct DiskHandle(pub(crate) Arc<dyn Disk>);

impl std::fmt::Debug for DiskHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

impl Wal {
    /// Opens the log below the directory of a store, creating it if there is none, and begins a new segment.
    ///
    /// Damage does not make opening fail: what it hides is told group by group. Only when segments exist and nothing
    /// can be read of them the answer is [`Error::Unreadable`].
    pub fn open(
        disk: Arc<dyn Disk>,
        store_dir: &Path,
        config: Config,
        identity: StoreIdentity,
    ) -> Result<Opened, Error> {
        config.check()?;
        crate::recover::open(disk, Paths::new(store_dir), config, identity.store_id)
    }

    /// Largest size on disk of a batch, in bytes.
    pub fn batch_bytes_max(&self) -> u64 {
        byte_offset(batch_sectors_max(&self.config))
    }

    /// Last batch that is durable.
    pub fn last_lsn(&self) -> Lsn {
        self.position.lsn
    }

    /// Makes the records of a batch durable, all or none, and clears the batch.
    ///
    /// After [`Error::Stopped`] nothing can be written until the log is opened again; the batch may or may not be
    /// found then. After any other error nothing was written and the batch is untouched.
    pub fn commit(&mut self, batch: &mut Batch) -> Result<Lsn, Error> {
        self.check_running()?;
        if batch.is_empty() {
            return Ok(self.position.lsn);
        }
        if batch.oversized {
            return Err(Error::TooLarge { bytes: batch.data.len() as u64, max: self.batch_bytes_max() });
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.is_certain = batch.is_certain();
        let claim = if batch.is_urgent() { Claim::Urgent } else { Claim::Ordinary };
        let result = plan(&self.state, self.live.back().map_or(0, |s| s.no), batch, &mut scratch)
            .and_then(|()| self.write_records(&mut scratch, &mut batch.data, claim));
        scratch.is_certain = false;
        self.scratch = scratch;
        let lsn = result?;
        self.unsealed = true;
        batch.clear();
        Ok(lsn)
    }

    /// True if the last batch has not been marked durable by a later one. Once the queue has been empty for a
    /// moment, [`Wal::seal`] should be called.
    pub fn needs_seal(&self) -> bool {
        self.unsealed && self.stopped.is_none()
    }

    /// Marks the last batch as durable, so that its later loss is recognized as damage. Fails as [`Wal::commit`]
    /// does; after a retryable error the batch stays unsealed.
    pub fn seal(&mut self) -> Result<Lsn, Error> {
        self.check_running()?;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.records.clear();
        let result = self.write_records(&mut scratch, &mut Vec::new(), Claim::Urgent);
        self.scratch = scratch;
        let lsn = result?;
        self.unsealed = false;
        Ok(lsn)
    }

    /// Begins the next segment, of the reserve if no other one is ready, however much is left of the current one. Fails as
    /// [`Wal::commit`] does.
    pub fn leave_current(&mut self) -> Result<(), Error> {
        self.check_running()?;
        let next = self.take_spare(Claim::Urgent)?;
        self.roll(next)
    }

    pub(crate) fn check_running(&self) -> Result<(), Error> {
        match &self.stopped {
            Some(failure) => Err(Error::Stopped(Arc::clone(failure))),
            None => Ok(()),
        }
    }

    /// Writes `scratch.records` with `data`, synced, and applies them.
    pub(crate) fn write_records(
        &mut self,
        scratch: &mut Scratch,
        data: &mut Vec<u8>,
        claim: Claim,
    ) -> Result<Lsn, Error> {
        let max = match claim {
            // What was written once must fit again, with a little more said about its group.
            Claim::Rewrite => batch_sectors_max(&self.config) + SEGMENT_OVERHEAD_SECTORS / 2,
            Claim::Ordinary | Claim::Urgent => batch_sectors_max(&self.config),
        };
        let measured = directory::measure(scratch.records.len(), data.len());
        let total = match measured {
            Some((_, _, total)) if total <= max => total,
            _ => {
                let bytes = measured.map_or(u64::MAX, |(_, _, total)| byte_offset(total));
                return Err(Error::TooLarge { bytes, max: byte_offset(max) });
            }
        };
        self.make_room(total, claim)?;
        let first_segment = self.first_needed();
        let written = self.write_batch(scratch, data, first_segment)?;
        let placement = Placement {
            segment: written.segment,
            data_offset: byte_offset(written.shape.data_start()),
            bad_sectors: &[],
            file: &*written.file,
        };
        self.state.apply(&scratch.records, &placement);
        self.release_before(first_segment);
        Ok(written.shape.lsn)
    }

    fn make_room(&mut self, total: u32, claim: Claim) -> Result<(), Error> {
        let current = self.live.back();
        let left = current.map_or(0, |s| s.sectors.saturating_sub(self.position.sector));
        if total + EMPTY_BATCH_SECTORS <= left {
            return Ok(());
        }
        let next = self.take_spare(claim)?;
        self.roll(next)
    }

    /// Ends the current segment and begins the next.
    fn roll(&mut self, next: Segment) -> Result<(), Error> {
        let first_segment = self.first_needed();
        let previous = self.live.back().map_or(0, |s| s.no);
        let mut scratch = Scratch::default();
        put_end(&mut scratch.records, &End { next: next.no, next_sectors: next.sectors, next_begun: false });
        self.write_batch(&mut scratch, &mut Vec::new(), first_segment)?;
        let start =
            Start { version: FORMAT_VERSION, previous, cut: self.position.sector, sectors: next.sectors };
        self.live.push_back(next);
        self.position.sector = 0;
        scratch.records.clear();
        put_start(&mut scratch.records, &start);
        self.write_batch(&mut scratch, &mut Vec::new(), first_segment)?;
        self.release_before(first_segment);
        Ok(())
    }

    /// Writes a batch at the current position and syncs it. An error is final.
    fn write_batch(
        &mut self,
        scratch: &mut Scratch,
        data: &mut Vec<u8>,
        first_segment: SegmentNo,
    ) -> Result<Written, Error> {
        let Some(segment) = self.live.back() else { return Err(Error::Config) };
        let lsn = Lsn(self.position.lsn.0 + 1);
        let place = BatchPlace {
            sums: SectorSums::new(&self.store, segment.no),
            start: self.position.sector,
            lsn,
            prologue: Prologue { previous_hash: self.position.hash, first_segment },
        };
        let outcome = write_at(&*segment.file, &place, scratch, data);
        match outcome {
            Ok(shape) => {
                let hash = directory::hash(lsn, &scratch.body);
                self.position = WritePosition { sector: shape.end(), lsn, hash };
                Ok(Written { shape, segment: segment.no, file: Arc::clone(&segment.file) })
            }
            Err((action, source)) => {
                let failure = Failure {
                    action,
                    path: segment.path.clone(),
                    offset: byte_offset(place.start),
                    lsn,
                    source,
                };
                let failure = Arc::new(failure);
                self.stopped = Some(Arc::clone(&failure));
                Err(Error::Stopped(failure))
            }
        }
    }
}

struct Written {
    shape: Shape,
    segment: SegmentNo,
    file: Arc<dyn DiskFile>,
}

/// Sectors of the largest batch.
pub(crate) fn batch_sectors_max(config: &Config) -> u32 {
    sectors_of(config.segment_bytes).saturating_sub(SEGMENT_OVERHEAD_SECTORS)
}

/// Where a batch is to stand and what it follows.
pub(crate) struct BatchPlace {
    pub(crate) sums: SectorSums,
    pub(crate) start: u32,
    pub(crate) lsn: Lsn,
    pub(crate) prologue: Prologue,
}

/// Writes `scratch.records` and `data` as one batch and syncs it. Leaves the directory's body in `scratch.body`.
pub(crate) fn write_at(
    file: &dyn DiskFile,
    place: &BatchPlace,
    scratch: &mut Scratch,
    data: &mut Vec<u8>,
) -> Result<Shape, (&'static str, std::io::Error)> {
    let too_large = || ("measure", std::io::ErrorKind::FileTooLarge.into());
    let (directory, data_sectors, total) =
        directory::measure(scratch.records.len(), data.len()).ok_or_else(too_large)?;
    let durable = Lsn(place.lsn.0.saturating_sub(1));
    let shape = Shape { lsn: place.lsn, durable, start: place.start, total, directory, data: data_sectors };
    data.resize(data_sectors as usize * SECTOR, 0);
    let sums = &place.sums;
    let data_sums =
        (shape.data_start()..).zip(data.chunks(SECTOR)).map(|(sector, bytes)| sums.of(sector, bytes));
    directory::encode_body(&mut scratch.body, &place.prologue, &scratch.records, data_sums);
    scratch.front.clear();
    directory::encode_sectors(&mut scratch.front, sums, &shape, Copy::First, &scratch.body);
    scratch.back.clear();
    scratch.back.resize((total - 2 * directory - data_sectors) as usize * SECTOR, 0);
    directory::encode_sectors(&mut scratch.back, sums, &shape, Copy::Last, &scratch.body);
    let parts: [&[u8]; 3] = [&scratch.front, data, &scratch.back];
    file.write_vectored_all_at(&parts, byte_offset(place.start)).map_err(|e| ("write", e))?;
    let synced = if scratch.is_certain { file.sync_certainly() } else { file.sync_data() };
    synced.map_err(|e| ("sync", e))?;
    Ok(shape)
}
