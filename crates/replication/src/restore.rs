//! Opening everything in a store directory: the catalogue, then the groups it names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_assets::{Entry, Place};
use linnet_env::{Clock, Disk};
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::StorageType;
use linnet_store::Kind;
use linnet_wal::{RecoveredGroup, Wal};

use crate::catalogue::{Assignment, assignments, catalogue_config};
use crate::log::Log;
use crate::open::{OpenFailure, Opening, Restored, fresh, recover};
use crate::quarantine::{move_files, put_aside};
use crate::solo::SoloGroup;

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
    /// Damage of the log may have taken a group, or what the catalogue said of it.
    pub may_lack_groups: bool,
}

/// What was found in the store.
pub struct RestoredStore {
    /// The catalogue's own group.
    pub meta: Box<SoloGroup>,
    /// What restoring it found.
    pub meta_found: Restored,
    /// The streams the catalogue names.
    pub streams: Vec<RestoredStream>,
    /// Index in the catalogue for the next new group.
    pub next_index: u64,
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
    Open(Box<SoloGroup>, Restored),
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
        let opening = self.opening(GroupId::META, catalogue_config(), self.clock.wall());
        let (mut meta, meta_found) = recover(opening, log)?;
        self.may_lack_groups |= meta_found.damage.is_some() || !meta_found.lost_entries.is_empty();
        for lost in &meta_found.lost_entries {
            tracing::error!("  Catalogue of streams: {lost}");
        }
        let mut streams = Vec::new();
        let mut known = vec![GroupId::META];
        let mut next_index = 1;
        for assignment in assignments(&mut meta) {
            let Some(group) = GroupId::parse(&assignment.group) else { continue };
            known.push(group);
            next_index = next_index.max(group.meta_index + 1);
            let outcome = self.restore_stream(&assignment, group, log);
            streams.push(RestoredStream { assignment, group, outcome });
        }
        self.end_forgotten(&known, log);
        self.put_away_strays(&known);
        Ok(RestoredStore { meta: Box::new(meta), meta_found, streams, next_index })
    }

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
            place: self.place.clone(),
            now: self.clock.mono(),
            wall: self.clock.wall(),
        }
    }

    fn restore_stream(&self, assignment: &Assignment, group: GroupId, log: &mut dyn Log) -> RestoreOutcome {
        match self.open_group(assignment, group, log) {
            Ok((solo, found)) if solo.stream().is_deleted() => {
                log.end_group(group);
                RestoreOutcome::Ended(found)
            }
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
        log: &mut dyn Log,
    ) -> Result<(SoloGroup, Restored), String> {
        let dir = group_dir(self.dir, group);
        let created = Wall(assignment.created);
        let config = assignment.config.clone();
        let empty = |kind, config| {
            let solo = fresh(group, kind, config, created, self.place.clone(), self.clock.mono());
            (solo, Restored::default())
        };
        if config.storage == StorageType::Memory {
            return Ok(empty(Kind::Memory, config));
        }
        if self.recovered(group).is_none() {
            // Without damage, a stream that is not live has stored nothing yet.
            if assignment.live || self.may_lack_groups {
                return Err("its log is lost".to_owned());
            }
            return Ok(empty(Kind::File { disk: self.disk.clone(), dir }, config));
        }
        let (solo, found) = recover(self.opening(group, config, created), log).map_err(|e| e.to_string())?;
        report(assignment, &found);
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

    /// A deletion may be cut off after the catalogue forgot the stream: its log, which says that it has ended, goes
    /// now.
    fn end_forgotten(&self, known: &[GroupId], log: &mut dyn Log) {
        for group in self.groups.iter().map(|g| g.group).filter(|g| !known.contains(g)) {
            let mut entries = self.wal.entries(group).flatten();
            if entries.any(|entry| matches!(Entry::decode(&entry.payload), Ok(Entry::Deleted))) {
                log.end_group(group);
            }
        }
    }

    /// Directories of groups that the catalogue does not name are moved aside with a note saying why.
    fn put_away_strays(&self, known: &[GroupId]) {
        let Ok(entries) = self.disk.list(&groups_dir(self.dir)) else { return };
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
            put_aside(
                &**self.disk,
                self.dir,
                &entry.name,
                "No entry of the catalogue and no log names this group.\n",
            );
        }
    }
}

/// Says what is damaged.
fn report(assignment: &Assignment, found: &Restored) {
    let (account, name) = (&assignment.account, &assignment.config.name);
    for lost in &found.lost_entries {
        tracing::error!("  Stream '{account} > {name}': {lost}");
    }
    if !found.lost.is_empty() {
        tracing::error!("  Stream '{account} > {name}': {} messages are damaged", found.lost.len());
    }
}
