use std::path::PathBuf;
use std::sync::Arc;

use linnet_assets::{Moment, Nobody, Place, Proposal, Stream, StreamSaved};
use linnet_env::Disk;
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::StreamConfig;
use linnet_store::{CheckpointBody, Kind, OpenError, Seed, StreamStore};
use linnet_wal::{Damage, HardState, Integrity, RecoveredGroup, Wal};
use linnet_wire::headers;
use thiserror::Error;

use crate::floor::{FLOOR_STEP, Floor, FloorJob, Whose, floor_of};
use crate::group::{LogPosition, StreamGroup};
use crate::log::Log;

/// What opening a group needs to know besides the log.
pub struct Opening<'a> {
    /// The group.
    pub group: GroupId,
    /// What the log holds of it; `None` if nothing.
    pub recovered: Option<&'a RecoveredGroup>,
    /// The log.
    pub wal: &'a Wal,
    /// The disk.
    pub disk: &'a Arc<dyn Disk>,
    /// The group's directory.
    pub dir: PathBuf,
    /// Configuration for a group whose log and checkpoint hold none.
    pub config: StreamConfig,
    /// When the stream was created.
    pub created: Wall,
    /// Its last checkpoint is lost: only what the log holds behind it comes back.
    pub without_checkpoint: bool,
    /// Names for answers.
    pub place: Place,
    /// Sequences to reserve at a time.
    pub floor_step: StreamSeq,
    /// The moment, for timers.
    pub now: Mono,
    /// The moment, for ages.
    pub wall: Wall,
}

/// A group cannot be opened. Its files stay as they are.
#[derive(Debug, Error)]
pub enum OpenFailure {
    /// The log is damaged, and nothing in it can be read.
    #[error(
        "the write-ahead log is damaged and nothing in it can be read: put the log back, or move the store away to \
         begin empty"
    )]
    NothingLeft,
    /// The store is that of a server without a cluster, and its streams cannot be noted as such.
    #[error("noting the streams of a server that was no part of a cluster, in {}: {source}", .dir.display())]
    Unclaimed {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The checkpoint in the log cannot be read.
    #[error("its checkpoint in the log cannot be read: {0}")]
    Checkpoint(String),
    /// The files do not match the checkpoint.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The catalogue lost something, and what it must not use again cannot be remembered.
    #[error("recording the sequences that damage may have hidden, in {}: {source}", .dir.display())]
    Floor {
        /// The group's directory.
        dir: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The log holds an entry that cannot be understood.
    #[error("entry {index} of its log: {reason}")]
    Entry {
        /// Index of the entry.
        index: u64,
        /// What is wrong.
        reason: String,
    },
}

impl OpenFailure {
    /// True if what there is of a group is not what was written, rather than that it cannot be had now.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Checkpoint(_) | Self::Entry { .. } => true,
            Self::Store(error) => error.is_damaged_state(),
            Self::NothingLeft | Self::Unclaimed { .. } | Self::Floor { .. } => false,
        }
    }
}

/// Restores the stream of a group as its checkpoint describes it, without what the log holds behind that. After the rest
/// is applied, [`Stream::finish_replay`] is to be called and [`Restored::forget_removed`].
pub fn open_at_checkpoint(opening: &Opening<'_>) -> Result<(Stream, Restored), OpenFailure> {
    let Opening { group, wal, disk, now, wall, .. } = *opening;
    let body = match wal.checkpoint_body(group) {
        _ if opening.without_checkpoint => None,
        Ok(Some(bytes)) => {
            let body = CheckpointBody::from_bytes(&bytes);
            Some(body.ok_or_else(|| OpenFailure::Checkpoint("unknown form".to_owned()))?)
        }
        Ok(None) => None,
        Err(e) => return Err(OpenFailure::Checkpoint(e.to_string())),
    };
    let parse = |extra: &[u8]| serde_json::from_slice::<StreamSaved>(extra).ok();
    let default = opening.config.max_msgs_per_subject;
    let limit = |extra: &[u8]| parse(extra).map_or(default, |s| s.config.max_msgs_per_subject);
    let (store, report) = StreamStore::open(disk, opening.dir.clone(), Seed::of(group), body, limit)?;
    let saved = parse(&report.extra);
    let saved =
        saved.unwrap_or_else(|| StreamSaved { config: opening.config.clone(), ..StreamSaved::default() });
    let ids = stored_ids(&store, &saved.config, wall);
    let stream = stream_of(saved, store, &ids, opening.created, opening.place.clone(), now);
    let mut restored = Restored {
        lost: report.lost,
        lost_in: report.lost_in,
        bad_indexes: report.bad_indexes,
        half_state: report.half_state,
        ruined: report.ruined,
        strays: report.strays,
        ..Restored::default()
    };
    let highest = |whose| restored.strays.iter().filter_map(|path| floor_of(whose, path)).max().unwrap_or(0);
    (restored.floor, restored.lost_floor) = (highest(Whose::Logged), highest(Whose::Lost));
    let is_floor = |path: &PathBuf| [Whose::Logged, Whose::Lost].iter().any(|w| floor_of(*w, path).is_some());
    restored.strays.retain(|path| !is_floor(path));
    Ok((stream, restored))
}

/// A stream over what a checkpoint keeps of it, with the ids that its duplicate window covers.
pub(crate) fn stream_of(
    saved: StreamSaved,
    store: StreamStore,
    ids: &[StoredId],
    created: Wall,
    place: Place,
    now: Mono,
) -> Stream {
    let StreamSaved { config, consumers, ttls, schedules, taken, owner, deleted, restoring } = saved;
    let mut stream = Stream::new(config, created, place, store, consumers, now);
    stream.restore_ttls(&ttls);
    stream.restore_schedules(&schedules);
    stream.restore_taken(taken);
    stream.restore_life(owner, deleted, restoring);
    for (id, seq, at) in ids {
        stream.remember_id(id, *seq, *at);
    }
    stream
}

/// Restores a group from its checkpoint and its log, starts a new term, and reports what is damaged.
pub(crate) fn recover(
    opening: Opening<'_>,
    log: &mut dyn Log,
) -> Result<(StreamGroup, Restored), OpenFailure> {
    let (mut stream, mut restored) = open_at_checkpoint(&opening)?;
    let Opening { group, recovered, wal, disk, dir, floor_step, now, wall, .. } = opening;

    let mut last =
        recovered.and_then(|r| r.checkpoint).map(|c| LogPosition { index: c.applied, term: c.term });
    let at = Moment { now, wall, live: false };
    for entry in wal.entries(group) {
        match entry {
            Ok(entry) => {
                last = Some(LogPosition { index: entry.index, term: entry.term });
                let proposal = Proposal::new(entry.payload, None);
                restored.replayed += 1;
                stream
                    .apply(&proposal, at, &mut Nobody)
                    .map_err(|e| OpenFailure::Entry { index: entry.index, reason: e.to_string() })?;
            }
            Err(e) => restored.lost_entries.push(e.to_string()),
        }
    }
    restored.forget_removed(&stream);
    stream.finish_replay(now, wall);
    let damage = match recovered.map(|r| &r.integrity) {
        Some(Integrity::Damaged(damage)) => Some(damage.clone()),
        _ => None,
    };
    let last = last.unwrap_or_default();
    let last = LogPosition { index: recovered.map_or(0, |r| r.last).max(last.index), term: last.term };
    let term = recovered.and_then(|r| r.hard_state.as_ref()).map_or(0, |h| h.term).max(last.term) + 1;
    // An entry that could be read when the log was verified and cannot now is as bad as one that was lost before.
    let is_damaged = damage.is_some() || !restored.lost_entries.is_empty();
    let (floor, skip_to) = if group == GroupId::META {
        let skip_to =
            if is_damaged { Some(skip_catalogue(&stream, restored.floor, &**disk, dir)?) } else { None };
        (Floor::none(), skip_to)
    } else {
        let floor = Floor::new(Whose::Logged, floor_step, restored.floor);
        let skip_to = is_damaged.then(|| floor.behind_loss(last_seq_left(&stream)));
        (floor, skip_to)
    };
    let mut solo = StreamGroup::new(group, stream, last, term, floor);
    if is_damaged {
        // The log may not hold the entry at its end: only one of the new term can be the end of a checkpoint.
        solo.forget_position();
    }
    if !solo.stream().store().is_memory() && !solo.stream().is_deleted() {
        let state = HardState { term, ..HardState::default() };
        solo.stream_mut().start_term(skip_to);
        if skip_to.is_some() {
            // It tells the log that the damage is dealt with, which is so when the skipped sequences are written.
            solo.defer_hard_state(state);
        } else {
            log.hard_state(group, &state);
        }
    }
    restored.damage = damage;
    Ok((solo, restored))
}

/// Behind which sequence the only voter of a group goes on that may have lost something of its log; `None` if it has not.
/// That is durable: the log does not tell of the damage again.
pub(crate) fn behind_lost_log(
    opening: &Opening<'_>,
    node: &linnet_raft::Opening,
    stream: &Stream,
    found: &Restored,
) -> Result<Option<StreamSeq>, OpenFailure> {
    let before = Some(found.lost_floor).filter(|lost| *lost > 0);
    let membership = node.hard.membership();
    let is_alone = membership.voter_count() == 1 && membership.is_voter(node.me);
    if !node.may_have_forgotten || !is_alone || stream.store().is_memory() {
        return Ok(before);
    }
    let entries = node.last.index.saturating_sub(node.base.index);
    let left = last_seq_left(stream).saturating_add(entries);
    let floor = Floor::of_replica(opening.floor_step, found.floor);
    // A name is used once.
    let to = floor.behind_loss(left).max(found.lost_floor.saturating_add(1));
    let recorded = FloorJob::up_to(Whose::Lost, to).run(&**opening.disk, &opening.dir).into_outcome();
    let failed = |source| OpenFailure::Floor { dir: opening.dir.clone(), source };
    recorded.map(|()| Some(to)).map_err(failed)
}

/// The newest sequence that what is left of a stream tells of. The entry of its configuration may be lost, and with it
/// where the stream begins.
fn last_seq_left(stream: &Stream) -> StreamSeq {
    match stream.store().state().last_seq {
        0 => stream.config().first_seq.saturating_sub(1),
        last => last,
    }
}

/// The sequence behind which the catalogue goes on that lost something, also after it lost something once more. Its
/// changes wait for no floor: they are few, and nobody else sees their sequences.
fn skip_catalogue(
    stream: &Stream,
    found_floor: StreamSeq,
    disk: &dyn Disk,
    dir: PathBuf,
) -> Result<StreamSeq, OpenFailure> {
    let skip_to = last_seq_left(stream).max(found_floor).saturating_add(FLOOR_STEP);
    let recorded = FloorJob::up_to(Whose::Logged, skip_to).run(disk, &dir).into_outcome();
    recorded.map(|()| skip_to).map_err(|source| OpenFailure::Floor { dir, source })
}

impl Restored {
    /// Does not report as lost what the log behind the checkpoint said was removed.
    pub fn forget_removed(&mut self, stream: &Stream) {
        let damaged = stream.store().damaged();
        self.lost.retain(|seq| damaged.contains(seq));
        self.lost_in.retain(|(seq, _)| damaged.contains(seq));
    }

    /// What the group's log has lost or may have lost, in words.
    pub fn losses(&self) -> Vec<String> {
        let ranges = self.damage.iter().flat_map(|damage| &damage.lost).map(|range| match *range.end() {
            u64::MAX => format!("entries of its log from {} on may be lost", range.start()),
            end => format!("entries {} to {end} of its log may be lost", range.start()),
        });
        self.lost_entries.iter().cloned().chain(ranges).collect()
    }
}

/// What restoring a group found.
#[derive(Debug, Default)]
pub struct Restored {
    /// Log entries applied.
    pub replayed: u64,
    /// Sequences whose stored message is damaged.
    pub lost: Vec<StreamSeq>,
    /// The same with the block file that should hold it.
    pub lost_in: Vec<(StreamSeq, PathBuf)>,
    /// Damaged index files, which cost nothing but time.
    pub bad_indexes: Vec<PathBuf>,
    /// The state file, if one of its two copies is damaged, which costs nothing.
    pub half_state: Option<PathBuf>,
    /// Log entries that are lost, in words.
    pub lost_entries: Vec<String>,
    /// What the log says is or may be missing.
    pub damage: Option<Damage>,
    /// Block files of which nothing could be read. No later checkpoint names them, and they are worth keeping.
    pub ruined: Vec<PathBuf>,
    /// Files in the group's directory that belong to no checkpoint.
    pub strays: Vec<PathBuf>,
    /// The highest floor recorded in the directory: sequences up to it may have been handed out. 0 if there is none.
    pub floor: StreamSeq,
    /// Sequences up to it were handed out by the only voter of a group, and lost. 0 if there are none.
    pub lost_floor: StreamSeq,
}

/// Id, sequence and time of a stored message.
pub(crate) type StoredId = (Vec<u8>, StreamSeq, Wall);

/// The ids of stored messages that are young enough for the duplicate window, in stream order. It blocks.
pub(crate) fn stored_ids(store: &StreamStore, config: &StreamConfig, wall: Wall) -> Vec<StoredId> {
    let mut ids = Vec::new();
    let window = config.duplicate_window.0;
    if window <= 0 || store.state().msgs == 0 {
        return ids;
    }
    let cutoff = Wall(wall.0.saturating_sub(window));
    let Some(from) = store.first_at_or_after(cutoff) else { return ids };
    store.walk_headers(from, |record| {
        if let Some(id) = headers::get(record.headers, "Nats-Msg-Id") {
            ids.push((id.to_vec(), record.seq, record.timestamp));
        }
    });
    ids
}

/// An empty group of a new stream.
pub(crate) fn fresh(
    group: GroupId,
    kind: Kind,
    config: StreamConfig,
    created: Wall,
    place: Place,
    floor_step: StreamSeq,
    now: Mono,
) -> StreamGroup {
    let store = StreamStore::new(kind, Seed::of(group), config.first_seq, config.max_msgs_per_subject);
    let mut stream = Stream::new(config, created, place, store, Vec::new(), now);
    if !stream.store().is_memory() {
        stream.record_config();
    }
    StreamGroup::fresh(group, stream, floor_step, 0)
}

/// An empty group of a stream that is restored from a backup: its sequences are reserved up to `floor`.
pub(crate) fn fresh_restoring(
    group: GroupId,
    kind: Kind,
    config: StreamConfig,
    created: Wall,
    place: Place,
    floor: (StreamSeq, StreamSeq),
    now: Mono,
) -> StreamGroup {
    let store = StreamStore::new(kind, Seed::of(group), 0, config.max_msgs_per_subject);
    let mut stream = Stream::new(config, created, place, store, Vec::new(), now);
    stream.begin_restore();
    if !stream.store().is_memory() {
        stream.record_restored_config();
    }
    let (step, found) = floor;
    StreamGroup::fresh(group, stream, step, found)
}

#[cfg(test)]
mod floor_tests;
#[cfg(test)]
pub(crate) mod life;
#[cfg(test)]
mod loss_tests;
