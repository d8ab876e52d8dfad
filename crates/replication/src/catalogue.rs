//! Which streams exist: entries in an internal stream, the newest message of each subject.

use std::io;

use linnet_assets::{Command, Owner, Place, Purge};
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::{Nanos, StreamConfig};
use linnet_store::{Filter, Kind, Lookup};
use serde::{Deserialize, Serialize};

use crate::change::Site;
use crate::floor::{FLOOR_STEP, FloorJob};
use crate::group::SoloGroup;
use crate::open::{fresh, fresh_restoring};

/// A stream's entry in the catalogue, as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// Account it belongs to.
    pub account: String,
    /// Its group, as text.
    pub group: String,
    /// When it was created, nanoseconds since the Unix epoch.
    pub created: i64,
    /// The group has started once: without its log it is lost, not new.
    pub live: bool,
    /// Configuration.
    pub config: StreamConfig,
}

impl Assignment {
    /// Subject under which the catalogue keeps the assignment of a stream. Account names may hold any character, so
    /// they are written in hexadecimal.
    pub fn subject(account: &str, stream: &str) -> Vec<u8> {
        let account: String = account.bytes().map(|b| format!("{b:02x}")).collect();
        format!("stream.{account}.{stream}").into_bytes()
    }

    /// An empty group with the names of one that cannot be recovered. It writes nothing anywhere.
    pub fn stand_in(&self, group: GroupId, place: Place, now: Mono) -> SoloGroup {
        fresh(group, Kind::Memory, self.config.clone(), Wall(self.created), place, FLOOR_STEP, now)
    }

    /// A new group for it.
    pub(crate) fn begin(
        &self,
        group: GroupId,
        kind: Kind,
        place: Place,
        floor_step: StreamSeq,
        now: Mono,
    ) -> SoloGroup {
        let mut solo = fresh(group, kind, self.config.clone(), Wall(self.created), place, floor_step, now);
        self.record_owner(&mut solo);
        solo
    }

    /// A new group for it that is restored from a backup with sequences up to `last_seq`, which are reserved first.
    pub fn begin_restored(
        &self,
        group: GroupId,
        site: &Site,
        last_seq: StreamSeq,
        now: Mono,
    ) -> io::Result<SoloGroup> {
        let kind = site.kind(self.config.storage, group);
        let mut floor = 0;
        if let Kind::File { disk, dir } = &kind
            && last_seq > site.floor_step
        {
            floor = last_seq;
            FloorJob::up_to(floor).run(&**disk, dir).into_outcome()?;
        }
        let (config, created) = (self.config.clone(), Wall(self.created));
        let floor = (site.floor_step, floor);
        let mut solo = fresh_restoring(group, kind, config, created, site.place.clone(), floor, now);
        self.record_owner(&mut solo);
        Ok(solo)
    }

    /// Makes the log of its group say whose it is, so that damage of the catalogue does not lose it.
    pub(crate) fn record_owner(&self, solo: &mut SoloGroup) {
        if !solo.stream().store().is_memory() && !solo.stream().is_deleted() {
            let owner = Owner { account: self.account.clone(), created: self.created };
            solo.stream_mut().record_owner(owner);
        }
    }

    /// The command that stores it.
    pub(crate) fn store(&self) -> Command {
        // Plain data: writing it to memory cannot fail.
        let payload = serde_json::to_vec(self).expect("assignment serialises");
        Command::Append { subject: Self::subject(&self.account, &self.config.name), payload }
    }

    /// The command that removes it.
    pub(crate) fn forget(&self) -> Command {
        let subject = Self::subject(&self.account, &self.config.name);
        let filter = String::from_utf8_lossy(&subject).into_owned();
        Command::Purge(Purge { filter, below: 0, keep: 0 })
    }
}

/// Configuration of the catalogue's own stream.
pub fn catalogue_config() -> StreamConfig {
    StreamConfig {
        name: "_catalogue_".to_owned(),
        max_msgs: -1,
        max_bytes: -1,
        max_msgs_per_subject: 1,
        max_consumers: -1,
        num_replicas: 1,
        duplicate_window: Nanos::ZERO,
        storage: StorageType::File,
        ..StreamConfig::default()
    }
}

/// What the catalogue says.
pub(crate) struct Content {
    pub(crate) assignments: Vec<Assignment>,
    /// It has, or had once, entries that cannot be read.
    pub(crate) is_incomplete: bool,
}

/// Reads the whole catalogue.
pub(crate) fn read(meta: &mut SoloGroup) -> Content {
    let mut content = Content { assignments: Vec::new(), is_incomplete: false };
    let mut next = 0;
    while let Some(seq) = meta.stream().store().next(next, &Filter::all()) {
        next = seq + 1;
        match entry(meta, seq) {
            Ok(assignment) => content.assignments.extend(assignment),
            Err(reason) => {
                tracing::error!("  Catalogue entry {seq} {reason}");
                content.is_incomplete = true;
            }
        }
    }
    content.is_incomplete |= !meta.stream().store().damaged().is_empty();
    content
}

/// The assignment at a sequence.
fn entry(meta: &mut SoloGroup, seq: StreamSeq) -> Result<Option<Assignment>, String> {
    loop {
        match meta.stream().store().get(seq, true) {
            Lookup::Found(record) => {
                let assignment = serde_json::from_slice(record.payload);
                return assignment.map(Some).map_err(|e| format!("cannot be read: {e}"));
            }
            Lookup::Cold(job) => {
                let loaded = meta.stream_mut().store_mut().loaded(job.run());
                loaded.map_err(|e| format!("cannot be read: {e}"))?;
            }
            Lookup::Missing => return Ok(None),
            Lookup::Damaged => return Err("is damaged".to_owned()),
        }
    }
}
