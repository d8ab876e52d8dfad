//! Opening: replays the log, judges what is missing, and begins a new segment.
//!
//! The new segment's first batch holds the place where the old one is cut and a copy of the last batch, because
//! what a killed process wrote may look durable and not be. Only when it is synced, an end record that names it is
//! put at the cut, so that losing the new segment's file would be noticed.

use std::path::PathBuf;
use std::sync::Arc;

use linnet_env::Disk;
use linnet_ids::GroupId;

use crate::chain::{Chain, Files, find_chain};
use crate::directory::{self, Prologue};
use crate::error::{Error, Failure};
use crate::format::{EMPTY_BATCH_SECTORS, FORMAT_VERSION, Lsn, SECTOR, SectorSums, SegmentNo, byte_offset};
use crate::quarantine;
use crate::record::{Cursor, End, Record, Start, put_end, put_loss, put_position_record, put_start};
use crate::report::{
    AffectedGroups, CheckpointPosition, FoundDamage, FoundDamageKind, Integrity, RecoveredGroup, Report,
    TornTail,
};
use crate::scan::{Extent, Item, ScannedBatch, Tail, scan};
use crate::segment::{Paths, Segment};
use crate::state::{Placement, State};
use crate::wal::{BatchPlace, Claim, Config, DiskHandle, Opened, Scratch, Wal, WritePosition, write_at};

const KEPT: &str = "damaged; the log no longer needs it";
const GROUPS_PER_POSITION_BATCH: usize = 2000;

/// Replays batches in order.
struct Replay {
    state: State,
    report: Report,
    /// Number and directory hash of the last batch, if it is known.
    last: Option<(Lsn, u64)>,
    lsn_max: Lsn,
    /// The last batch, not applied yet: it may be copied, and then stands elsewhere.
    held: Option<(Segment, ScannedBatch)>,
    /// Sector behind the last batch that was met.
    end: u32,
    /// A batch that is surely durable says that segments before this one are not needed.
    released: SegmentNo,
}

impl Replay {
    fn damage(&mut self, segment: SegmentNo, sector: u32, kind: FoundDamageKind, groups: AffectedGroups) {
        let offset = byte_offset(sector);
        self.report.damages.push(FoundDamage { segment, offset, kind, groups });
    }

    fn lose(&mut self, segment: SegmentNo, sector: u32, kind: FoundDamageKind) {
        self.settle();
        self.state.lose();
        self.last = None;
        self.damage(segment, sector, kind, AffectedGroups::Any);
    }

    /// Applies the held batch where it stands.
    fn settle(&mut self) {
        if let Some((segment, batch)) = self.held.take() {
            self.apply(&segment, &batch, batch.directory.records(), byte_offset(batch.shape().data_start()));
        }
    }

    fn apply(&mut self, segment: &Segment, batch: &ScannedBatch, records: &[u8], data_offset: u64) {
        let placement = Placement {
            segment: segment.no,
            data_offset,
            bad_sectors: &batch.bad_data,
            file: &*segment.file,
        };
        self.state.apply(records, &placement);
        let segment = segment.no;
        let mut cursor = Cursor::new(records);
        if std::iter::from_fn(|| cursor.next_record()).any(|r| r == Record::Loss) {
            self.damage(segment, batch.shape().start, FoundDamageKind::Recorded, AffectedGroups::Any);
        }
        if let Some(sector) = batch.bad_data.first() {
            let mut groups = std::mem::take(&mut self.state.damaged_groups);
            groups.sort_unstable();
            groups.dedup();
            self.damage(segment, *sector, FoundDamageKind::Data, AffectedGroups::These(groups));
        }
        self.report.batches += 1;
        self.report.replayed_bytes += byte_offset(batch.shape().total);
    }

    fn meet(&mut self, segment: &Segment, item: Item) {
        match item {
            Item::Lost { from } => self.lose(segment.no, from, FoundDamageKind::Directory),
            Item::Batch(batch) => {
                let shape = *batch.shape();
                if let Some((lsn, hash)) = self.last
                    && (shape.lsn.0 != lsn.0 + 1 || batch.directory.prologue.previous_hash != hash)
                {
                    self.lose(segment.no, shape.start, FoundDamageKind::MissingBatch);
                }
                if let Some((_, held)) = &self.held {
                    // Another batch follows it.
                    self.released = held.directory.prologue.first_segment;
                }
                self.settle();
                self.last = Some((shape.lsn, batch.directory.hash()));
                self.lsn_max = self.lsn_max.max(shape.lsn);
                self.end = shape.end();
                self.held = Some((segment.clone(), batch));
            }
        }
    }
}

/// See [`Wal::open`].
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    paths: Paths,
    config: Config,
    store: [u8; 16],
) -> Result<Opened, Error> {
    disk.create_dir_all(&paths.wal).map_err(Error::space_or_io("create", &paths.wal))?;
    // A killed process may have renamed files without syncing the directory; what is listed below must stay.
    disk.sync_dir(&paths.wal).map_err(Error::io("sync", &paths.wal))?;
    let files = Files::list(Arc::clone(&disk), paths.clone(), store)?;
    remove_unfinished(&*disk, &files.unfinished);
    let mut chain = find_chain(&files)?;
    if chain.links.is_empty()
        && let Some(unreadable) = chain.unreadable.first()
    {
        return Err(Error::Unreadable { path: unreadable.path.clone(), offset: 0 });
    }
    // The first segment is begun before another one is made: with two, one of them has been the log.
    if chain.links.is_empty()
        && let [newest, _, ..] = chain.blank.as_slice()
    {
        return Err(Error::Unreadable { path: newest.path.clone(), offset: 0 });
    }
    let mut replay = Replay {
        state: State::default(),
        report: Report { torn_tail: chain.torn, created: chain.links.is_empty(), ..Report::default() },
        last: None,
        lsn_max: Lsn(0),
        held: None,
        end: 0,
        released: 0,
    };
    let tail = replay_chain(&files, &chain, &mut replay)?;
    let first_is_loss = chain.links.first().is_some_and(|l| l.missing_before.is_some());
    let loss_at_end = note_lost_successors(&files, &chain, tail, &mut replay);
    let mut opening = Opening { disk, paths, config, store, files };
    let begun = opening.begin(&mut chain, &mut replay, tail, loss_at_end)?;
    opening.finish(chain, replay, begun, first_is_loss)
}

/// Replays every segment; answers how the last one ends.
fn replay_chain(files: &Files, chain: &Chain, replay: &mut Replay) -> Result<Tail, Error> {
    let mut tail = Tail::Clean { at: 0 };
    for (at, link) in chain.links.iter().enumerate() {
        let no = link.segment.no;
        if let Some(missing) = link.missing_before {
            if at == 0 {
                replay.damage(missing, 0, FoundDamageKind::MissingSegment, AffectedGroups::Any);
            } else {
                replay.lose(missing, 0, FoundDamageKind::MissingSegment);
            }
        }
        let is_last = at + 1 == chain.links.len();
        let limit = link.cut.unwrap_or_else(|| files.sectors(no));
        tail = scan(&mut files.reader(&link.segment), Extent { limit, is_last }, &mut |item| {
            replay.meet(&link.segment, item);
            Ok(())
        })?;
        replay.report.segments += 1;
        if let Tail::Torn { at } = tail {
            replay.report.torn_tail = Some(TornTail { segment: no, offset: byte_offset(at) });
        }
    }
    Ok(tail)
}

/// Looks for signs that batches behind the last one are gone.
fn note_lost_successors(files: &Files, chain: &Chain, tail: Tail, replay: &mut Replay) -> bool {
    let before = replay.report.damages.len();
    let Some(last) = chain.links.last() else { return false };
    let no = last.segment.no;
    if let Some(start) = last.start
        && files.len(no) < byte_offset(start.sectors)
        && tail != Tail::Ended
    {
        let sector = files.sectors(no);
        replay.damage(no, sector, FoundDamageKind::ShortSegment, AffectedGroups::Any);
    }
    if let Some(end) = chain.end {
        let named = end.next;
        let is_unreadable = chain.unreadable.iter().any(|s| s.no == named);
        if !files.lengths.contains_key(&named) {
            replay.damage(named, 0, FoundDamageKind::MissingSegment, AffectedGroups::Any);
        } else if files.len(named) < byte_offset(end.next_sectors) {
            replay.damage(named, 0, FoundDamageKind::ShortSegment, AffectedGroups::Any);
        } else if end.next_begun && !is_unreadable {
            replay.damage(named, 0, FoundDamageKind::MissingBatch, AffectedGroups::Any);
        }
    }
    for segment in &chain.unreadable {
        replay.damage(segment.no, 0, FoundDamageKind::Directory, AffectedGroups::Any);
    }
    replay.report.damages.len() > before || matches!(tail, Tail::Damaged { .. })
}

pub(crate) struct Opening {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) paths: Paths,
    pub(crate) config: Config,
    store: [u8; 16],
    pub(crate) files: Files,
}

/// The segment that opening began.
struct BegunSegment {
    segment: Segment,
    position: WritePosition,
    next_no: SegmentNo,
}

/// Content of the new segment's first batch.
struct FirstBatch {
    start: Start,
    lsn: Lsn,
    previous_hash: u64,
    records: Vec<u8>,
    data: Vec<u8>,
    /// The copied batch, and where its own records begin in `records`.
    copied: Option<ScannedBatch>,
}

impl Opening {
    fn fail(
        segment: &Segment,
        sector: u32,
        lsn: Lsn,
    ) -> impl FnOnce((&'static str, std::io::Error)) -> Error {
        let (path, offset) = (segment.path.clone(), byte_offset(sector));
        move |(action, source)| Error::Stopped(Arc::new(Failure { action, path, offset, lsn, source }))
    }

    /// Writes the new segment, then the end record at the cut.
    fn begin(
        &mut self,
        chain: &mut Chain,
        replay: &mut Replay,
        tail: Tail,
        loss_at_end: bool,
    ) -> Result<BegunSegment, Error> {
        let mut first = Self::first_batch(chain, replay, tail, loss_at_end)?;
        self.note_damage(chain, &replay.report)?;
        let needed =
            directory::measure(first.records.len(), first.data.len()).map_or(u32::MAX, |(_, _, total)| total);
        let least = needed.saturating_add(2 * EMPTY_BATCH_SECTORS);
        // Where something is damaged, what it hides may still need them.
        let released = if replay.report.damages.is_empty() { replay.released } else { 0 };
        let (segment, next_no) = self.new_segment(chain, least, released)?;
        first.start.sectors = segment.sectors;
        let mut scratch = Scratch::default();
        put_start(&mut scratch.records, &first.start);
        scratch.records.extend_from_slice(&first.records);
        let first_segment = if chain.first_segment == 0 { segment.no } else { chain.first_segment };
        chain.first_segment = first_segment;
        let prologue = Prologue { previous_hash: first.previous_hash, first_segment };
        let place =
            BatchPlace { sums: SectorSums::new(&self.store, segment.no), start: 0, lsn: first.lsn, prologue };
        let shape = write_at(&*segment.file, &place, &mut scratch, &mut first.data)
            .map_err(Self::fail(&segment, 0, first.lsn))?;
        let position = WritePosition {
            sector: shape.end(),
            lsn: first.lsn,
            hash: directory::hash(first.lsn, &scratch.body),
        };
        if let Some(batch) = &first.copied {
            replay.apply(&segment, batch, &first.records, byte_offset(shape.data_start()));
        } else if loss_at_end {
            replay.state.lose();
        }
        self.end_previous(chain, &first, &segment, &place)?;
        replay.report.new_segment = segment.no;
        replay.report.last = Lsn(first.lsn.0);
        Ok(BegunSegment { segment, position, next_no })
    }

    /// Says which segments must stay before anything is written that leaves them, or their damaged end, out of the log.
    fn note_damage(&self, chain: &Chain, report: &Report) -> Result<(), Error> {
        let damaged = damaged_segments(report);
        for segment in chain.written().filter(|s| damaged.contains(&s.no)) {
            quarantine::note(&*self.disk, &self.paths, segment.no, KEPT)?;
        }
        Ok(())
    }

    /// Decides where the log is cut, and what of it is written again.
    fn first_batch(
        chain: &mut Chain,
        replay: &mut Replay,
        tail: Tail,
        loss_at_end: bool,
    ) -> Result<FirstBatch, Error> {
        let start = Start { version: FORMAT_VERSION, previous: 0, cut: 0, sectors: 0 };
        let mut first = FirstBatch {
            start,
            lsn: Lsn(replay.lsn_max.0 + 1 + u64::from(loss_at_end)),
            previous_hash: replay.last.map_or(0, |(_, hash)| hash),
            records: Vec::new(),
            data: Vec::new(),
            copied: None,
        };
        let Some(last) = chain.links.last() else { return Ok(first) };
        first.start.previous = last.segment.no;
        first.start.cut = tail.at().unwrap_or(replay.end);
        match replay.held.take_if(|(_, batch)| batch.bad_data.is_empty()) {
            Some((_, batch)) => {
                let shape = *batch.shape();
                first.lsn = shape.lsn;
                first.previous_hash = batch.directory.prologue.previous_hash;
                first.start.cut = shape.start;
                copy_records(&batch, &mut first);
                read_data(&last.segment, &batch, &mut first.data)?;
                if shape.start == 0 {
                    // The whole segment is void; what its start said about the one before is said again.
                    let (previous, cut) = last.start.map_or((0, 0), |s| (s.previous, s.cut));
                    first.start.previous = previous;
                    first.start.cut = cut;
                    chain.void.extend(chain.links.pop().map(|link| link.segment));
                }
                first.copied = Some(batch);
            }
            None => {
                replay.settle();
                // What stays in the old segment must be durable before the cut declares it so. The copy above is
                // safer, because a sync that already failed is not repaired by another one.
                let failed = Self::fail(&last.segment, first.start.cut, first.lsn);
                last.segment.file.sync_data().map_err(|source| failed(("sync", source)))?;
            }
        }
        if loss_at_end {
            put_loss(&mut first.records);
        }
        Ok(first)
    }

    /// Puts an end record that names the new segment at the cut of the one before.
    fn end_previous(
        &self,
        chain: &Chain,
        first: &FirstBatch,
        next: &Segment,
        place: &BatchPlace,
    ) -> Result<(), Error> {
        let Some(link) = chain.links.last().filter(|l| l.segment.no == first.start.previous) else {
            return Ok(());
        };
        let cut = first.start.cut;
        if cut + EMPTY_BATCH_SECTORS > self.files.sectors(link.segment.no) {
            // Only a file that was cut short has no room; its damage is on record already.
            return Ok(());
        }
        let mut scratch = Scratch::default();
        put_end(&mut scratch.records, &End { next: next.no, next_sectors: next.sectors, next_begun: true });
        let place = BatchPlace {
            sums: self.files.sums(link.segment.no),
            start: cut,
            lsn: first.lsn,
            prologue: place.prologue,
        };
        write_at(&*link.segment.file, &place, &mut scratch, &mut Vec::new()).map_err(Self::fail(
            &link.segment,
            cut,
            first.lsn,
        ))?;
        Ok(())
    }

    fn finish(
        self,
        chain: Chain,
        mut replay: Replay,
        begun: BegunSegment,
        first_is_loss: bool,
    ) -> Result<Opened, Error> {
        let judged = replay.state.judge_all(first_is_loss);
        let damaged = damaged_segments(&replay.report);
        let mark = |mut segment: Segment| {
            if damaged.contains(&segment.no) || self.files.noted.contains(&segment.no) {
                segment.damage = Some(KEPT);
            }
            segment
        };
        let mut freed: Vec<Segment> = chain.void.into_iter().chain(chain.unreadable).map(mark).collect();
        let mut spares: Vec<Segment> = Vec::new();
        for blank in chain.blank {
            let fits = blank.no > begun.segment.no && blank.bytes() == self.config.segment_bytes;
            if fits { spares.push(blank) } else { freed.push(mark(blank)) }
        }
        spares.sort_unstable_by_key(|s| s.no);
        let mut live: std::collections::VecDeque<Segment> =
            chain.links.into_iter().map(|l| mark(l.segment)).collect();
        let known: Vec<SegmentNo> =
            live.iter().chain(&freed).chain(&spares).chain([&begun.segment]).map(|s| s.no).collect();
        for no in self.files.lengths.keys().filter(|no| !known.contains(no)) {
            freed.push(mark(self.files.segment(*no)?));
        }
        live.push_back(begun.segment);
        let mut wal = Wal {
            disk: DiskHandle(self.disk),
            paths: self.paths,
            config: self.config,
            store: self.store,
            state: replay.state,
            live,
            position: begun.position,
            spares: spares.into(),
            freed,
            is_used: false,
            preparing: false,
            prepared_no: None,
            kept_from: chain.first_segment,
            next_no: begun.next_no,
            unsealed: true,
            stopped: None,
            scratch: Scratch::default(),
        };
        record_doubts(&mut wal, &judged)?;
        wal.kept_from = SegmentNo::MAX;
        let groups =
            judged.into_iter().filter_map(|(group, integrity)| recovered(&wal, group, integrity)).collect();
        Ok(Opened { wal, groups, report: replay.report })
    }
}

/// Segments in which something was found that cannot be read.
fn damaged_segments(report: &Report) -> Vec<SegmentNo> {
    let found = report.damages.iter().filter(|d| d.kind != FoundDamageKind::Recorded);
    found.map(|d| d.segment).collect()
}

/// Copies the records of a batch, except those that tie it to its place.
fn copy_records(batch: &ScannedBatch, first: &mut FirstBatch) {
    let mut cursor = Cursor::new(batch.directory.records());
    loop {
        let before = cursor.remaining();
        let Some(record) = cursor.next_record() else { return };
        let taken = before.len() - cursor.remaining().len();
        if !matches!(record, Record::Start(_) | Record::End(_)) {
            first.records.extend_from_slice(before.get(..taken).unwrap_or_default());
        }
    }
}

fn read_data(segment: &Segment, batch: &ScannedBatch, out: &mut Vec<u8>) -> Result<(), Error> {
    out.resize(batch.shape().data as usize * SECTOR, 0);
    let offset = byte_offset(batch.shape().data_start());
    segment.file.read_exact_at(out, offset).map_err(Error::io("read", &segment.path))
}

/// Says durably which groups are not intact, so that it is still known when the damaged segments are gone.
fn record_doubts(wal: &mut Wal, judged: &[(GroupId, Integrity)]) -> Result<(), Error> {
    let flawed: Vec<GroupId> =
        judged.iter().filter(|(_, i)| *i != Integrity::Intact).map(|(g, _)| *g).collect();
    for groups in flawed.chunks(GROUPS_PER_POSITION_BATCH) {
        let mut scratch = Scratch::default();
        for group in groups {
            if let Some(log) = wal.state.groups.get(group) {
                put_position_record(&mut scratch.records, *group, &log.position(true));
            }
        }
        wal.write_records(&mut scratch, &mut Vec::new(), Claim::Rewrite)?;
    }
    Ok(())
}

fn recovered(wal: &Wal, group: GroupId, integrity: Integrity) -> Option<RecoveredGroup> {
    let log = wal.state.groups.get(&group)?;
    Some(RecoveredGroup {
        group,
        hard_state: log.hard_state.as_ref().map(|h| h.state.clone()),
        checkpoint: log.checkpoint.map(|c| CheckpointPosition {
            applied: c.applied,
            term: c.term,
            chain: c.chain,
        }),
        first: log.first(),
        last: log.last(),
        integrity,
    })
}

fn remove_unfinished(disk: &dyn Disk, unfinished: &[PathBuf]) {
    for path in unfinished {
        // Nothing depends on it: making a segment of that number starts by removing it.
        let _ = disk.remove_file(path);
    }
}
