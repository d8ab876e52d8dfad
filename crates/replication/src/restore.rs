//! Opening everything in a store directory: the catalogue, then the groups it names. If the catalogue has ever lost
//! entries, also the groups that it does not name: `identify` says which streams they are, and the catalogue gets them
//! back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_assets::Place;
use linnet_env::{Clock, Disk};
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::StorageType;
use linnet_store::{Kind, OpenError};
use linnet_wal::{RecoveredGroup, Wal};

use crate::catalogue::{Assignment, catalogue_config, read};
use crate::change::Site;
use crate::floor::{FloorJob, Whose, is_of_volatile, volatile_floor};
use crate::group::StreamGroup;
use crate::identify::{Identity, identify};
use crate::kept::KeptConsumer;
use crate::log::Log;
use crate::open::{OpenFailure, Opening, Restored, recover};
use crate::quarantine::{
    is_given_up, missing_path, move_files, note_incomplete, note_missing, note_unnamed, put_aside,
    was_incomplete,
};

/// Everything that exists while the store is being opened.
pub struct Restoring<'a> {
    /// The disk.
    pub disk: &'a Arc<dyn Disk>,
    /// The store's directory.
    pub dir: &'a Path,
    /// The log.
    pub wal: &'a Wal,
    /// What the log holds.
    pub groups: &'a [RecoveredGroup],
    /// Names for answers.
    pub place: &'a Place,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Sequences that streams reserve at a time: [`FLOOR_STEP`](crate::FLOOR_STEP), or fewer in simulations.
    pub floor_step: StreamSeq,
    /// Damage of the log may have taken a group, or what the catalogue said of it.
    pub may_lack_groups: bool,
}

/// What was found in the store.
pub struct RestoredStore {
    /// The catalogue's own group.
    pub meta: Box<StreamGroup>,
    /// What restoring it found.
    pub meta_found: Restored,
    /// Why the catalogue was made anew from the streams' logs, if its last checkpoint is lost.
    pub made_anew: Option<OpenError>,
    /// The streams the catalogue names, and those put back into it.
    pub streams: Vec<RestoredStream>,
    /// Groups that are streams which the catalogue has lost.
    pub unnamed: Vec<UnnamedGroup>,
    /// The log and the catalogue have lost something, so that there may have been streams of which nothing is left; the
    /// note that says so, which the operator removes.
    pub may_lack_streams: Option<PathBuf>,
    /// Index in the catalogue for the next new group.
    pub next_index: u64,
}

/// A group that has not ended, of which a damaged catalogue says nothing, nor does its log.
pub struct UnnamedGroup {
    /// The group.
    pub group: GroupId,
    /// Why its stream is unknown.
    pub reason: String,
}

/// A stream the catalogue names.
pub struct RestoredStream {
    /// Its entry in the catalogue.
    pub assignment: Assignment,
    /// Its group.
    pub group: GroupId,
    /// What became of it.
    pub outcome: RestoreOutcome,
}

/// What became of a stream that the catalogue names.
pub enum RestoreOutcome {
    /// It goes on.
    Open(Box<StreamGroup>, Restored),
    /// Its end is in its log: the catalogue has to forget it.
    Ended(Restored),
    /// It cannot be recovered; why.
    Lost(String),
}

/// Where the groups of a store directory are.
pub(crate) fn groups_dir(dir: &Path) -> PathBuf {
    dir.join("groups")
}

/// Directory of a group in a store directory.
pub fn group_dir(dir: &Path, group: GroupId) -> PathBuf {
    groups_dir(dir).join(group.to_string())
}

impl Restoring<'_> {
    /// Restores the catalogue and the groups it names, and puts away what nothing names.
    pub fn run(mut self, log: &mut dyn Log) -> Result<RestoredStore, OpenFailure> {
        if self.groups.is_empty() && self.may_lack_groups {
            return Err(OpenFailure::NothingLeft);
        }
        let (mut meta, meta_found, made_anew) = self.restore_catalogue(log)?;
        // Every opening writes to the log of the catalogue.
        let is_lost = self.may_lack_groups && self.recovered(GroupId::META).is_none();
        let has_lost_entries = is_lost || meta_found.damage.is_some() || !meta_found.lost_entries.is_empty();
        let may_lack_streams = self.may_lack_streams(self.may_lack_groups && has_lost_entries);
        self.may_lack_groups |= has_lost_entries;
        report("Catalogue of streams", &meta_found);
        let content = read(meta.stream_mut());
        let is_incomplete =
            self.is_incomplete(content.is_incomplete || has_lost_entries || made_anew.is_some());
        let mut streams = Vec::new();
        for assignment in content.assignments {
            let Some(group) = GroupId::parse(&assignment.group) else { continue };
            let consumers = content.consumers.get(&assignment.group).map_or(&[][..], Vec::as_slice);
            let outcome = self.restore_stream(&assignment, group, consumers, log);
            streams.push(RestoredStream { assignment, group, outcome });
        }
        let mut unnamed = self.restore_forgotten(is_incomplete, &mut streams, log);
        let mut known: HashSet<GroupId> = streams.iter().map(|s| s.group).collect();
        known.extend(unnamed.iter().map(|u| u.group));
        let next_index = known.iter().map(|group| group.meta_index + 1).max().unwrap_or(1);
        known.insert(GroupId::META);
        unnamed.extend(self.look_at_strays(&known, log));
        let meta = Box::new(meta);
        Ok(RestoredStore { meta, meta_found, made_anew, streams, unnamed, may_lack_streams, next_index })
    }

    /// The catalogue, what restoring it found, and what is wrong with its last checkpoint if that is lost.
    fn restore_catalogue(
        &self,
        log: &mut dyn Log,
    ) -> Result<(StreamGroup, Restored, Option<OpenError>), OpenFailure> {
        let opening = || self.opening(GroupId::META, catalogue_config(), self.clock.wall());
        match recover(opening(), log) {
            Err(OpenFailure::Store(error)) if error.is_damaged_state() => {
                tracing::error!("  Catalogue of streams: {error}; it begins anew");
                let id = GroupId::META.to_string();
                put_aside(&**self.disk, self.dir, &id, &format!("The catalogue of streams: {error}\n"));
                let (meta, found) = recover(Opening { without_checkpoint: true, ..opening() }, log)?;
                Ok((meta, found, Some(error)))
            }
            outcome => outcome.map(|(meta, found)| (meta, found, None)),
        }
    }

    /// Remembers that streams may be missing, until the operator removes the note.
    fn may_lack_streams(&self, may_lack_now: bool) -> Option<PathBuf> {
        let noted = missing_path(self.dir);
        let was_noted = self.disk.exists(&noted).unwrap_or(true);
        if may_lack_now && !was_noted {
            tracing::error!(
                "  Streams may be missing of which nothing is left: the log and the catalogue have lost entries"
            );
            if let Err(e) = note_missing(&**self.disk, self.dir) {
                tracing::error!("  Noting that streams may be missing: {e}");
            }
        }
        (may_lack_now || was_noted).then_some(noted)
    }

    /// True if the catalogue has lost entries, now or in an earlier opening.
    fn is_incomplete(&self, is_incomplete_now: bool) -> bool {
        if !is_incomplete_now {
            return was_incomplete(&**self.disk, self.dir).unwrap_or_else(|e| {
                tracing::error!("  Looking for notes about the catalogue: {e}");
                true
            });
        }
        tracing::error!("  Catalogue of streams has lost entries; the streams' own logs are asked for them");
        if let Err(e) = note_incomplete(&**self.disk, self.dir) {
            tracing::error!("  Noting that the catalogue has lost entries: {e}");
        }
        true
    }

    pub(crate) fn recovered(&self, group: GroupId) -> Option<&RecoveredGroup> {
        self.groups.iter().find(|g| g.group == group)
    }

    pub(crate) fn opening(&self, group: GroupId, config: StreamConfig, created: Wall) -> Opening<'_> {
        Opening {
            group,
            recovered: self.recovered(group),
            wal: self.wal,
            disk: self.disk,
            dir: group_dir(self.dir, group),
            config,
            created,
            without_checkpoint: false,
            place: self.place.clone(),
            floor_step: self.floor_step,
            now: self.clock.mono(),
            wall: self.clock.wall(),
        }
    }

    pub(crate) fn restore_stream(
        &self,
        assignment: &Assignment,
        group: GroupId,
        consumers: &[KeptConsumer],
        log: &mut dyn Log,
    ) -> RestoreOutcome {
        match self.open_stream(assignment, group, consumers, log) {
            RestoreOutcome::Open(solo, found) if solo.stream().is_deleted() => {
                log.end_group(group);
                RestoreOutcome::Ended(found)
            }
            outcome => outcome,
        }
    }

    /// The same, but one whose end is in its log is open, too.
    pub(crate) fn open_stream(
        &self,
        assignment: &Assignment,
        group: GroupId,
        consumers: &[KeptConsumer],
        log: &mut dyn Log,
    ) -> RestoreOutcome {
        match self.open_group(assignment, group, consumers, log) {
            Ok((solo, found)) => RestoreOutcome::Open(Box::new(solo), found),
            Err(reason) => {
                let name = &assignment.config.name;
                tracing::error!(
                    "  Stream '{} > {name}' could not be recovered: {reason}",
                    assignment.account
                );
                RestoreOutcome::Lost(reason)
            }
        }
    }

    fn open_group(
        &self,
        assignment: &Assignment,
        group: GroupId,
        consumers: &[KeptConsumer],
        log: &mut dyn Log,
    ) -> Result<(StreamGroup, Restored), String> {
        let dir = group_dir(self.dir, group);
        let empty = |kind| {
            let solo = assignment.begin(group, kind, self.place.clone(), self.floor_step, self.clock.mono());
            (solo, Restored::default())
        };
        if assignment.config.storage == StorageType::Memory {
            let solo = assignment.begin_in_memory(group, consumers, &self.site(), self.clock.mono());
            return solo.map(|solo| (solo, Restored::default()));
        }
        if self.recovered(group).is_none() {
            // Without damage, a stream that is not live has stored nothing yet.
            if assignment.live || self.may_lack_groups {
                return Err("its log is lost".to_owned());
            }
            return Ok(empty(Kind::File { disk: self.disk.clone(), dir }));
        }
        let opening = self.opening(group, assignment.config.clone(), Wall(assignment.created));
        let (mut solo, found) = recover(opening, log).map_err(|e| e.to_string())?;
        assignment.record_owner(&mut solo);
        if solo.stream().is_restoring() && !solo.stream().is_deleted() {
            // The catalogue names it once it is complete.
            solo.stream_mut().finish_restore();
        }
        report(&format!("Stream '{} > {}'", assignment.account, assignment.config.name), &found);
        move_files(&**self.disk, &dir, &found.ruined);
        // Blocks that no checkpoint names hold nothing that the log does not; after damage they may, so they are kept.
        if found.damage.is_none() {
            for stray in &found.strays {
                if let Err(e) = self.disk.remove_file(stray) {
                    tracing::warn!("  Removing {}: {e}", stray.display());
                }
            }
        } else {
            move_files(&**self.disk, &dir, &found.strays);
        }
        Ok((solo, found))
    }

    /// Looks after the groups in the log that the catalogue does not name. Those that have ended go: a deletion may be
    /// cut off after the catalogue forgot the stream. If the catalogue has lost entries, the others may be what it
    /// lost; they are added to `streams` as not live, so that the catalogue gets their assignment back.
    fn restore_forgotten(
        &self,
        is_incomplete: bool,
        streams: &mut Vec<RestoredStream>,
        log: &mut dyn Log,
    ) -> Vec<UnnamedGroup> {
        let known: HashSet<GroupId> = streams.iter().map(|s| s.group).chain([GroupId::META]).collect();
        let mut forgotten: Vec<GroupId> =
            self.groups.iter().map(|g| g.group).filter(|g| !known.contains(g)).collect();
        // If two say that they are the same stream, it is the newer one.
        forgotten.sort_unstable_by_key(|group| std::cmp::Reverse(group.meta_index));
        let mut unnamed = Vec::new();
        for group in forgotten {
            match identify(self.wal, &**self.disk, &group_dir(self.dir, group), group) {
                Identity::Ended => {
                    log.end_group(group);
                }
                // What may be all that is left of a stream is kept.
                Identity::Restoring if is_incomplete => {
                    log.end_group(group);
                    let note = "A stream that was being restored from a backup when the server ended.\n";
                    put_aside(&**self.disk, self.dir, &group.to_string(), note);
                }
                Identity::Restoring => {
                    tracing::info!("  Group {group} was being restored from a backup; it is removed");
                    log.end_group(group);
                    let dir = group_dir(self.dir, group);
                    if let Err(e) = self.disk.remove_dir_all(&dir)
                        && e.kind() != std::io::ErrorKind::NotFound
                    {
                        tracing::warn!("  Removing {}: {e}", dir.display());
                    }
                }
                _ if !is_incomplete => {}
                Identity::Stream(assignment) if !is_taken(&assignment, streams) => {
                    tracing::error!(
                        "  Stream '{} > {}' is missing in the catalogue and put back from its own log",
                        assignment.account,
                        assignment.config.name
                    );
                    let outcome = self.restore_stream(&assignment, group, &[], log);
                    let assignment = Assignment { live: false, ..*assignment };
                    streams.push(RestoredStream { assignment, group, outcome });
                }
                Identity::Stream(assignment) => {
                    let name = &assignment.config.name;
                    let reason = format!("stream '{} > {name}' is in another group, too", assignment.account);
                    unnamed.extend(self.keep_unnamed(group, reason, log));
                }
                Identity::Unknown(reason) => unnamed.extend(self.keep_unnamed(group, reason, log)),
            }
        }
        unnamed
    }

    /// Leaves a group as it is until an operator gives it up.
    fn keep_unnamed(&self, group: GroupId, reason: String, log: &mut dyn Log) -> Option<UnnamedGroup> {
        let id = group.to_string();
        match is_given_up(&**self.disk, self.dir, &id) {
            Ok(true) => {
                tracing::warn!("  Group {id} of an unknown stream is given up: its directory was removed");
                log.end_group(group);
                return None;
            }
            Ok(false) => {
                if let Err(e) = note_unnamed(&**self.disk, self.dir, &id, &reason) {
                    tracing::error!("  Noting the unknown group {id}: {e}");
                }
            }
            Err(e) => tracing::error!("  Looking for the unknown group {id}: {e}"),
        }
        tracing::error!("  Group {id} belongs to a stream that the catalogue has lost: {reason}");
        Some(UnnamedGroup { group, reason })
    }

    /// Directories of groups that the catalogue does not name are moved aside with a note saying why; if the log may
    /// have lost what it knew of them, they stay and are told.
    pub(crate) fn look_at_strays(&self, known: &HashSet<GroupId>, log: &mut dyn Log) -> Vec<UnnamedGroup> {
        let mut unnamed = Vec::new();
        let Ok(entries) = self.disk.list(&groups_dir(self.dir)) else { return unnamed };
        for entry in entries.into_iter().filter(|e| e.is_dir) {
            let id = GroupId::parse(&entry.name);
            if id.is_some_and(|id| known.contains(&id)) {
                continue;
            }
            // What the log still knows is a group whose assignment is lost: it stays untouched and is listed.
            if id.is_some_and(|id| self.recovered(id).is_some()) {
                tracing::warn!(
                    "  Group {} has a log but no entry in the catalogue; it is left as it is",
                    entry.name
                );
                continue;
            }
            let dir = groups_dir(self.dir).join(&entry.name);
            match id {
                // Its stream is deleted: there was nothing else of it.
                _ if is_of_volatile(&**self.disk, &dir) => {
                    if let Err(e) = self.disk.remove_dir_all(&dir) {
                        tracing::warn!("  Removing {}: {e}", dir.display());
                    }
                }
                Some(id) if self.may_lack_groups => {
                    unnamed.extend(self.keep_unnamed(id, "its log is lost".to_owned(), log));
                }
                _ => put_aside(
                    &**self.disk,
                    self.dir,
                    &entry.name,
                    "No entry of the catalogue and no log names this group.\n",
                ),
            }
        }
        unnamed
    }
}

/// True if a stream of this name is among `streams`.
fn is_taken(assignment: &Assignment, streams: &[RestoredStream]) -> bool {
    streams.iter().any(|s| {
        s.assignment.account == assignment.account && s.assignment.config.name == assignment.config.name
    })
}

/// Says what is damaged.
fn report(name: &str, found: &Restored) {
    for lost in &found.lost_entries {
        tracing::error!("  {name}: {lost}");
    }
    if let Some(file) = &found.half_state {
        tracing::warn!("  {}: one of two copies of the state is damaged; the other is used", file.display());
    }
    if !found.lost.is_empty() {
        tracing::error!("  {name}: {} messages are damaged", found.lost.len());
    }
}

impl Assignment {
    /// A stream in memory with one replica, as empty as every start finds it, with the consumers that the catalogue keeps.
    /// It blocks. Fails with the reason in words.
    pub fn begin_in_memory(
        &self,
        group: GroupId,
        consumers: &[KeptConsumer],
        site: &Site,
        now: Mono,
    ) -> Result<StreamGroup, String> {
        let dir = group_dir(&site.dir, group);
        let mut floor = volatile_floor(&*site.disk, &dir)
            .map_err(|e| format!("how far its sequences got cannot be read: {e}"))?;
        if floor > 0 {
            // What was found may be a name that a killed process did not make durable. Whoever is told of sequences
            // up to here must be told of no lower ones later.
            floor += 1;
            let name = &self.config.name;
            if let Err(e) = FloorJob::up_to(Whose::Volatile, floor).run(&*site.disk, &dir).into_outcome() {
                tracing::warn!(
                    "  Stream '{} > {name}': recording how far its sequences got: {e}",
                    self.account
                );
            }
        }
        Ok(self.begin_again(group, consumers, floor, site.place.clone(), site.floor_step, now))
    }
}
