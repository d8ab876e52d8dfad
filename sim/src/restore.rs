//! Opening the store directory.

use std::path::Path;
use std::sync::Arc;

use linnet_assets::Place;
use linnet_env::{Disk, ManualClock};
use linnet_ids::{GroupId, StreamSeq};
use linnet_replication::{Change, RestoreOutcome, Restored, Restoring};
use linnet_wal::{Config, Opened, Report, StoreIdentity, Wal};

use crate::log::SimLog;
use crate::mutation::Mutation;
use crate::process::{META_KEY, Process};

/// Sizes of the log: a few batches fill a segment.
pub(crate) fn wal_config() -> Config {
    Config {
        segment_bytes: 64 << 10,
        first_segment_bytes: 64 << 10,
        max_bytes: 512 << 10,
        reserve_segments: 1,
        ahead_after: 16 << 10,
    }
}

/// Sequences that streams reserve at a time: so few that most of them get to the end.
pub(crate) const FLOOR_STEP: StreamSeq = 8;

pub(crate) fn place() -> Place {
    Place { server: "sim".to_owned(), ..Place::default() }
}

/// What opening found of one stream.
pub(crate) struct FoundStream {
    pub(crate) group: GroupId,
    pub(crate) name: String,
    /// Where its log ended; `None` if the log holds nothing of it.
    pub(crate) last: Option<u64>,
    /// Why it cannot be served, or what was found of it.
    pub(crate) outcome: Result<Restored, String>,
    /// Its end is in its log.
    pub(crate) ended: bool,
}

/// What opening the store found.
pub(crate) struct Found {
    pub(crate) meta: Restored,
    pub(crate) meta_last: Option<u64>,
    pub(crate) streams: Vec<FoundStream>,
    pub(crate) report: Report,
}

/// Opening failed.
pub(crate) enum OpenFailed {
    /// The log or the catalogue could not be read.
    Refused(String),
}

/// Opens the store and everything in it.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    clock: &Arc<ManualClock>,
    mutation: Option<Mutation>,
) -> Result<(Process, Found), OpenFailed> {
    let refused = |e: String| OpenFailed::Refused(e);
    disk.create_dir_all(dir).map_err(|e| refused(e.to_string()))?;
    let opened = Wal::open(disk.clone(), dir, wal_config(), StoreIdentity { store_id: [7; 16] });
    let Opened { wal, groups, report } = opened.map_err(|e| refused(e.to_string()))?;
    let mut log = SimLog::new(mutation);
    let restoring = Restoring {
        disk: &disk,
        dir,
        wal: &wal,
        groups: &groups,
        place: &place(),
        clock: &**clock,
        floor_step: FLOOR_STEP,
        may_lack_groups: report.any_group_may_be_affected(),
    };
    let store = restoring.run(&mut log).map_err(|e| refused(format!("catalogue: {e}")))?;
    let last_of = |group| groups.iter().find(|g| g.group == group).map(|g| g.last);
    let mut process = Process::new(disk, dir.to_owned(), clock.clone(), wal, log, mutation);
    process.next_meta_index = store.next_index;
    process.install(Some(META_KEY), *store.meta, None);
    let mut streams = Vec::new();
    let mut ended = Vec::new();
    for stream in store.streams {
        let name = stream.assignment.config.name.clone();
        let (group, last) = (stream.group, last_of(stream.group));
        let mut found = FoundStream { group, name, last, outcome: Err(String::new()), ended: false };
        match stream.outcome {
            RestoreOutcome::Open(solo, restored) => {
                found.outcome = Ok(restored);
                let key = process.install(None, *solo, None);
                if !stream.assignment.live {
                    process.start(Change::mark_live(stream.assignment), Some(key), false);
                }
            }
            RestoreOutcome::Ended(restored) => {
                found.outcome = Ok(restored);
                found.ended = true;
                ended.push(stream.assignment);
            }
            RestoreOutcome::Lost(reason) => {
                found.outcome = Err(reason);
                if !stream.assignment.live {
                    process.start(Change::mark_live(stream.assignment), None, false);
                }
            }
        }
        streams.push(found);
    }
    for assignment in ended {
        process.start(Change::forget_ended(assignment), None, false);
    }
    process.maintain();
    let meta_last = last_of(GroupId::META);
    Ok((process, Found { meta: store.meta_found, meta_last, streams, report }))
}
