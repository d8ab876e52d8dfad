//! What changes a store: finishing its opening, and making it small.

use std::collections::BTreeSet;
use std::path::PathBuf;

use linnet_assets::{Moment, Nobody};
use linnet_env::Clock;
use linnet_replication::{GroupJob, group_dir};
use serde::Serialize;

use super::report::Damage;
use super::{OfflineError, OfflineStore, Verification, groups_of};

/// What a repair did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repair {
    /// What was damaged before. Nothing of it was deleted.
    pub damages: Vec<Damage>,
    /// What was moved aside.
    pub quarantined: Vec<PathBuf>,
}

/// What making a store compact did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compaction {
    /// Bytes of all files before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
}

impl OfflineStore {
    /// Finishes what opening began: what is lost is remembered as lost, what cannot be explained is in the quarantine,
    /// indexes are written anew.
    pub fn repair(mut self, progress: &mut dyn FnMut(&str, u64)) -> Result<Repair, OfflineError> {
        let Verification { damages, .. } = self.verify(progress);
        self.settle(false)?;
        let quarantined = self.quarantined();
        self.close()?;
        Ok(Repair { damages, quarantined })
    }

    /// Checkpoints every stream, writes blocks with removed messages anew and gives back what the log needs no more.
    pub fn compact(mut self) -> Result<Compaction, OfflineError> {
        let bytes_before = self.bytes();
        self.settle(true)?;
        // Files go once a second checkpoint is recorded behind the one that retired them.
        self.checkpoint_all()?;
        self.put_away_segments()?;
        let bytes_after = self.bytes();
        self.close()?;
        Ok(Compaction { bytes_before, bytes_after })
    }

    /// Makes durable and applies what opening proposed, and checkpoints everything.
    fn settle(&mut self, rewrite: bool) -> Result<(), OfflineError> {
        self.log.ticket = 1;
        self.flush()?;
        if rewrite {
            for (_, group) in groups_of(&mut self.store) {
                group.stream_mut().store_mut().rewrite_all();
            }
        }
        self.checkpoint_all()
    }

    fn moment(&self) -> Moment {
        Moment { now: self.clock.mono(), wall: self.clock.wall(), live: false }
    }

    /// Writes what groups propose until they propose nothing.
    fn flush(&mut self) -> Result<(), OfflineError> {
        let at = self.moment();
        loop {
            let mut has_more = false;
            for (name, group) in groups_of(&mut self.store) {
                let flushed = group.flush(at, &mut self.log, &mut Nobody);
                has_more |= flushed.map_err(|e| refused(&name, e.to_string()))?.is_some();
            }
            self.write()?;
            if !has_more {
                return Ok(());
            }
        }
    }

    /// Makes the batch durable and tells the groups.
    fn write(&mut self) -> Result<(), OfflineError> {
        self.log.close();
        self.wal.commit(&mut self.log.batch)?;
        let (at, ticket) = (self.moment(), self.log.ticket);
        for (name, group) in groups_of(&mut self.store) {
            let files = group
                .durable(ticket, at, &mut self.log, &mut Nobody)
                .map_err(|e| refused(&name, e.to_string()))?;
            for path in files {
                match self.disk.remove_file(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(OfflineError::Io { path, source });
                    }
                    _ => {}
                }
            }
        }
        self.log.ticket += 1;
        Ok(())
    }

    /// Each checkpoint is recorded before the next one begins, so that a batch never gets large.
    fn checkpoint_all(&mut self) -> Result<(), OfflineError> {
        let at = self.moment();
        for (name, group) in groups_of(&mut self.store) {
            let Some(job) = group.begin_checkpoint() else { continue };
            let dir = group_dir(&self.dir, group.group());
            let done = GroupJob::Checkpoint(Box::new(job), dir).run(&*self.disk);
            group.job_done(done, at, &mut self.log, &mut Nobody);
            if let Some(error) = group.stream().store().failure() {
                return Err(refused(&name, format!("writing its checkpoint: {error}")));
            }
            if group.stream().store().is_disk_full() {
                return Err(refused(&name, "there is no space for its checkpoint".to_owned()));
            }
            self.wal.commit(&mut self.log.batch)?;
        }
        self.write()
    }

    /// Frees what the log needs no more: each record that is written says so of older ones.
    fn put_away_segments(&mut self) -> Result<(), OfflineError> {
        self.wal.seal()?;
        self.wal.seal()?;
        if let Some(job) = self.wal.prepare_next() {
            let prepared = job.run()?;
            self.wal.install(prepared);
        }
        Ok(())
    }

    fn close(mut self) -> Result<(), OfflineError> {
        self.wal.seal()?;
        let closed = self.marker.close(&*self.plain_disk, &self.dir);
        closed.map_err(|e| OfflineError::Start(e.into()))
    }

    /// Everything that stands in a quarantine.
    fn quarantined(&self) -> Vec<PathBuf> {
        let mut found = BTreeSet::new();
        let mut dirs = vec![self.dir.join("quarantine")];
        let groups = self.disk.list(&self.dir.join("groups")).unwrap_or_default();
        dirs.extend(groups.iter().map(|group| self.dir.join("groups").join(&group.name).join("quarantine")));
        for dir in dirs {
            let entries = self.disk.list(&dir).unwrap_or_default();
            found.extend(entries.into_iter().map(|entry| dir.join(entry.name)));
        }
        found.into_iter().collect()
    }

    /// Bytes of the log and of the groups' files.
    fn bytes(&self) -> u64 {
        let groups = self.disk.list(&self.dir.join("groups")).unwrap_or_default();
        let dirs = groups.into_iter().map(|group| self.dir.join("groups").join(group.name));
        let files =
            dirs.chain([self.dir.join("wal")]).flat_map(|dir| self.disk.list(&dir).unwrap_or_default());
        files.map(|file| file.len).sum()
    }
}

fn refused(stream: &str, reason: String) -> OfflineError {
    OfflineError::Stream { stream: stream.to_owned(), reason }
}
