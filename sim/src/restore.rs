//! Opening the store directory, as `linnet_jetstream::engine` does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_assets::{Advisory, Answer, Entry, Output, Place, Token};
use linnet_env::{Clock, Disk, ManualClock};
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::StorageType;
use linnet_replication::{Log, Opening, Restored, SoloGroup, fresh, recover};
use linnet_store::{Filter, Kind, LoadJob, Lookup};
use linnet_wal::{Config, Opened, RecoveredGroup, Report, StoreIdentity, Wal};

use crate::flows::Assignment;
use crate::log::SimLog;
use crate::mutation::Mutation;
use crate::process::{META_KEY, Process, group_dir};

/// Files of a group that is gone are moved here.
const QUARANTINE: &str = "quarantine";

/// Sizes of the log: a few batches fill a segment.
pub(crate) fn wal_config() -> Config {
    Config {
        segment_bytes: 64 << 10,
        first_segment_bytes: 64 << 10,
        max_bytes: 512 << 10,
        reserve_segments: 1,
    }
}

pub(crate) fn place() -> Place {
    Place { server: "sim".to_owned(), domain: String::new() }
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

struct Nobody;

impl Output for Nobody {
    fn publish(&mut self, _: &[u8], _: &[u8], _: &[u8], _: usize, _: &[u8]) -> usize {
        0
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        false
    }

    fn answer(&mut self, _: Token, _: Answer) {}

    fn load(&mut self, _: LoadJob) {}

    fn advise(&mut self, _: Advisory) {}
}

/// The catalogue is a stream of the server itself.
pub(crate) fn catalogue_config() -> StreamConfig {
    StreamConfig {
        name: "_catalogue_".to_owned(),
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: 1,
        max_consumers: -1,
        num_replicas: 1,
        storage: StorageType::File,
        ..StreamConfig::default()
    }
}

struct Starting<'a> {
    disk: &'a Arc<dyn Disk>,
    dir: &'a Path,
    wal: &'a Wal,
    groups: &'a [RecoveredGroup],
    clock: &'a ManualClock,
    may_lack_groups: bool,
}

impl Starting<'_> {
    fn recovered(&self, group: GroupId) -> Option<&RecoveredGroup> {
        self.groups.iter().find(|g| g.group == group)
    }

    fn opening(&self, group: GroupId, config: StreamConfig, created: Wall) -> Opening<'_> {
        Opening {
            group,
            recovered: self.recovered(group),
            wal: self.wal,
            disk: self.disk,
            dir: group_dir(self.dir, group),
            config,
            created,
            place: place(),
            now: self.clock.mono(),
            wall: self.clock.wall(),
        }
    }

    fn open_group(
        &self,
        log: &mut SimLog,
        assignment: &Assignment,
        group: GroupId,
    ) -> Result<(SoloGroup, Restored), String> {
        let created = Wall(assignment.created);
        if self.recovered(group).is_none() {
            if assignment.live || self.may_lack_groups {
                return Err("its log is lost".to_owned());
            }
            let kind = Kind::File { disk: self.disk.clone(), dir: group_dir(self.dir, group) };
            let config = assignment.config.clone();
            let solo = fresh(group, kind, config, created, place(), self.clock.mono());
            return Ok((solo, Restored::default()));
        }
        let opening = self.opening(group, assignment.config.clone(), created);
        let (solo, found) = recover(opening, log, &mut Nobody).map_err(|e| e.to_string())?;
        self.quarantine(&group_dir(self.dir, group), &found.ruined);
        if found.damage.is_none() {
            for stray in &found.strays {
                let _ = self.disk.remove_file(stray);
            }
        } else {
            self.quarantine(&group_dir(self.dir, group), &found.strays);
        }
        Ok((solo, found))
    }

    fn quarantine(&self, dir: &Path, files: &[PathBuf]) {
        let to = dir.join(QUARANTINE);
        if files.is_empty() || self.disk.create_dir_all(&to).is_err() {
            return;
        }
        for file in files {
            if let Some(name) = file.file_name() {
                let _ = self.disk.rename(file, &to.join(name));
            }
        }
        let _ = self.disk.sync_dir(&to);
        let _ = self.disk.sync_dir(dir);
    }

    fn put_away_strays(&self, known: &[GroupId]) {
        let groups = self.dir.join("groups");
        let Ok(entries) = self.disk.list(&groups) else { return };
        for entry in entries.into_iter().filter(|e| e.is_dir) {
            let id = GroupId::parse(&entry.name);
            if id.is_some_and(|id| known.contains(&id) || self.recovered(id).is_some()) {
                continue;
            }
            let to = self.dir.join(QUARANTINE);
            let _ = self.disk.create_dir_all(&to).and_then(|()| {
                self.disk.rename(&groups.join(&entry.name), &to.join(&entry.name))?;
                self.disk.replace(&to.join(format!("{}.reason", entry.name)), b"nothing names it\n")
            });
        }
    }
}

fn assignments(meta: &mut SoloGroup) -> Vec<Assignment> {
    let mut all = Vec::new();
    let mut next = 0;
    while let Some(seq) = meta.stream().store().next(next, &Filter::all()) {
        next = seq + 1;
        loop {
            match meta.stream().store().get(seq, true) {
                Lookup::Found(record) => {
                    all.extend(serde_json::from_slice::<Assignment>(record.payload).ok());
                    break;
                }
                Lookup::Cold(job) => {
                    if meta.stream_mut().store_mut().loaded(job.run()).is_err() {
                        break;
                    }
                }
                Lookup::Missing | Lookup::Damaged => break,
            }
        }
    }
    all
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
    let may_lack_groups = report.any_group_may_be_affected();
    let mut starting = Starting { disk: &disk, dir, wal: &wal, groups: &groups, clock, may_lack_groups };
    let meta_last = starting.recovered(GroupId::META).map(|g| g.last);
    let opening = starting.opening(GroupId::META, catalogue_config(), clock.wall());
    let (mut meta, meta_found) =
        recover(opening, &mut log, &mut Nobody).map_err(|e| refused(format!("catalogue: {e}")))?;
    starting.may_lack_groups |= meta_found.damage.is_some() || !meta_found.lost_entries.is_empty();
    let mut known = vec![GroupId::META];
    let mut next_index = 1;
    let mut streams = Vec::new();
    let mut running = Vec::new();
    let mut ended = Vec::new();
    let mut lost_unmarked = Vec::new();
    for assignment in assignments(&mut meta) {
        let Some(group) = GroupId::parse(&assignment.group) else { continue };
        known.push(group);
        next_index = next_index.max(group.meta_index + 1);
        let name = assignment.config.name.clone();
        let last = starting.recovered(group).map(|g| g.last);
        let mut found = FoundStream { group, name, last, outcome: Err(String::new()), ended: false };
        match starting.open_group(&mut log, &assignment, group) {
            Ok((solo, restored)) => {
                found.outcome = Ok(restored);
                if solo.stream().is_deleted() {
                    log.end_group(group);
                    found.ended = true;
                    ended.push(assignment);
                } else {
                    running.push((assignment, solo));
                }
            }
            Err(reason) => {
                found.outcome = Err(reason);
                if !assignment.live {
                    lost_unmarked.push(assignment);
                }
            }
        }
        streams.push(found);
    }
    for group in groups.iter().map(|g| g.group).filter(|g| !known.contains(g)) {
        let mut entries = wal.entries(group).flatten();
        if entries.any(|entry| matches!(Entry::decode(&entry.payload), Ok(Entry::Deleted))) {
            log.end_group(group);
        }
    }
    starting.put_away_strays(&known);
    let mut process = Process::new(disk, dir.to_owned(), clock.clone(), wal, log, mutation);
    process.next_meta_index = next_index;
    process.install(Some(META_KEY), meta, None);
    for assignment in lost_unmarked {
        process.mark_live(&assignment);
    }
    for (assignment, solo) in running {
        process.install(None, solo, None);
        if !assignment.live {
            process.mark_live(&assignment);
        }
    }
    for assignment in ended {
        process.forget_ended(&assignment.config.name);
    }
    process.maintain();
    Ok((process, Found { meta: meta_found, meta_last, streams, report }))
}
