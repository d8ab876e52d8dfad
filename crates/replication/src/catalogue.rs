//! Which streams exist, and the durable consumers of those in memory: entries in an internal stream, the newest message
//! of each subject.

use std::collections::HashMap;
use std::io;

use linnet_assets::{Command, Owner, Place, Purge, Stream};
use linnet_ids::{GroupId, Mono, StreamSeq, Wall};
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::{Nanos, StreamConfig};
use linnet_store::{Filter, Kind, Lookup, Seed, StreamStore};
use serde::{Deserialize, Serialize};

use crate::change::Site;
use crate::dissolved::{self, Dissolved};
use crate::floor::{FLOOR_STEP, Floor, FloorJob, Whose};
use crate::group::{LogPosition, StreamGroup};
use crate::kept::{self, KeptConsumer};
use crate::open::{fresh, fresh_restoring};
use crate::rescued::{self, Rescued};
use crate::reshaping::Reshaping;
use crate::restore::group_dir;

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
    /// Its replicas; nobody is named on a server that is no part of a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Placed>,
    /// It has ended: members that do not know it yet learn it from this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// A change of its replicas that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reshaping: Option<Reshaping>,
    /// Never in the catalogue: what a server has of a stream that its cluster's catalogue may not know.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclaimed: bool,
    /// Earlier streams of its name, which have ended, as long as some server may have something of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Earlier>,
    /// The group, as text, whose content the only member with a life begins with: too few of it remember anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// Configuration.
    pub config: StreamConfig,
}

/// A stream that has ended, and whose name another one has by now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Earlier {
    /// Its group, as text.
    pub group: String,
    /// Ids of servers that have not said that they have nothing of it.
    pub peers: Vec<String>,
}

/// A replica of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Id of its server.
    pub peer: String,
    /// The life of that server's store in which it may begin empty.
    pub life: u64,
}

impl Assignment {
    /// Subject under which the catalogue keeps the assignment of a stream.
    pub fn subject(account: &str, stream: &str) -> Vec<u8> {
        format!("stream.{}.{stream}", in_hexadecimal(account)).into_bytes()
    }

    /// An empty group with the names of one that cannot be recovered. It writes nothing anywhere.
    pub fn stand_in(&self, group: GroupId, place: Place, now: Mono) -> StreamGroup {
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
    ) -> StreamGroup {
        let mut solo = fresh(group, kind, self.config.clone(), Wall(self.created), place, floor_step, now);
        self.record_owner(&mut solo);
        solo
    }

    /// The group of a stream in memory after the process that had its messages ended, of which `floor` is the highest
    /// floor on disk. Its sequences go on behind those that were handed out, so that whoever reads it, from where it was,
    /// misses nothing that comes. A mirror has its origin's, and copies them anew.
    pub(crate) fn begin_again(
        &self,
        group: GroupId,
        consumers: &[KeptConsumer],
        floor: StreamSeq,
        place: Place,
        floor_step: StreamSeq,
        now: Mono,
    ) -> StreamGroup {
        let floor = Floor::new(Whose::Volatile, floor_step, floor);
        let config = self.config.clone();
        let first_seq = match &config.mirror {
            Some(_) => config.first_seq,
            None => floor.behind_loss(config.first_seq.saturating_sub(1)) + 1,
        };
        let store = StreamStore::new(Kind::Memory, Seed::of(group), first_seq, config.max_msgs_per_subject);
        let consumers = consumers.iter().map(|consumer| consumer.begin(&store)).collect();
        let stream = Stream::new(config, Wall(self.created), place, store, consumers, now);
        StreamGroup::new(group, stream, LogPosition::default(), 1, floor)
    }

    /// A new group for it that is restored from a backup with sequences up to `last_seq`, which are reserved first.
    pub fn begin_restored(
        &self,
        group: GroupId,
        site: &Site,
        last_seq: StreamSeq,
        now: Mono,
    ) -> io::Result<StreamGroup> {
        let kind = site.kind(self.config.storage, group);
        let mut floor = 0;
        if last_seq > site.floor_step {
            floor = last_seq;
            let whose = if matches!(kind, Kind::Memory) { Whose::Volatile } else { Whose::Logged };
            let dir = group_dir(&site.dir, group);
            FloorJob::up_to(whose, floor).run(&*site.disk, &dir).into_outcome()?;
        }
        let (config, created) = (self.config.clone(), Wall(self.created));
        let floor = (site.floor_step, floor);
        let mut solo = fresh_restoring(group, kind, config, created, site.place.clone(), floor, now);
        self.record_owner(&mut solo);
        Ok(solo)
    }

    /// Makes the log of its group say whose it is, so that damage of the catalogue does not lose it.
    pub(crate) fn record_owner(&self, solo: &mut StreamGroup) {
        if !solo.stream().store().is_memory() && !solo.stream().is_deleted() {
            let owner = Owner { account: self.account.clone(), created: self.created };
            solo.stream_mut().record_owner(owner);
        }
    }

    /// The command that stores it.
    pub fn store(&self) -> Command {
        // Plain data: writing it to memory cannot fail.
        let payload = serde_json::to_vec(self).expect("assignment serialises");
        Command::Append { subject: Self::subject(&self.account, &self.config.name), payload }
    }

    /// The command that removes it.
    pub fn forget(&self) -> Command {
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

/// Account names may hold any character, so they are written in hexadecimal.
pub(crate) fn in_hexadecimal(account: &str) -> String {
    account.bytes().map(|b| format!("{b:02x}")).collect()
}

/// What the catalogue says.
#[derive(Default)]
pub(crate) struct Content {
    pub(crate) assignments: Vec<Assignment>,
    /// Durable consumers of streams in memory, by the group of their stream.
    pub(crate) consumers: HashMap<String, Vec<KeptConsumer>>,
    /// It has, or had once, entries that cannot be read.
    pub(crate) is_incomplete: bool,
}

/// Reads the whole catalogue.
pub(crate) fn read(meta: &mut Stream) -> Content {
    let mut content = Content::default();
    let mut next = 0;
    while let Some(seq) = meta.store().next(next, &Filter::all()) {
        next = seq + 1;
        match catalogue_entry(meta, seq) {
            Ok(Some(CatalogueEntry::Stream(assignment))) => content.assignments.push(*assignment),
            Ok(Some(CatalogueEntry::Consumer(kept))) => {
                content.consumers.entry(kept.group.clone()).or_default().push(*kept);
            }
            Ok(Some(CatalogueEntry::Rescued(_) | CatalogueEntry::Dissolved(_)) | None) => {}
            Err(reason) => {
                tracing::error!("  Catalogue entry {seq} {reason}");
                content.is_incomplete = true;
            }
        }
    }
    content.is_incomplete |= !meta.store().damaged().is_empty();
    content
}

/// An entry of the catalogue.
pub enum CatalogueEntry {
    /// A stream.
    Stream(Box<Assignment>),
    /// A durable consumer of a stream in memory.
    Consumer(Box<KeptConsumer>),
    /// The catalogue's group was rescued.
    Rescued(Rescued),
    /// The cluster gave itself up.
    Dissolved(Dissolved),
}

/// The entry at a sequence of the catalogue's stream; `None` if there is none any more. It may read from the disk.
/// Fails with the reason in words.
pub fn catalogue_entry(meta: &mut Stream, seq: StreamSeq) -> Result<Option<CatalogueEntry>, String> {
    loop {
        match meta.store().get(seq, true) {
            Lookup::Found(record) => {
                let known = if record.subject.starts_with(kept::PREFIX) {
                    serde_json::from_slice(record.payload).map(CatalogueEntry::Consumer)
                } else if record.subject == rescued::SUBJECT {
                    serde_json::from_slice(record.payload).map(CatalogueEntry::Rescued)
                } else if record.subject == dissolved::SUBJECT {
                    serde_json::from_slice(record.payload).map(CatalogueEntry::Dissolved)
                } else {
                    serde_json::from_slice(record.payload).map(CatalogueEntry::Stream)
                };
                return known.map(Some).map_err(|e| format!("cannot be read: {e}"));
            }
            Lookup::Cold(job) => {
                let loaded = meta.store_mut().loaded(job.run());
                loaded.map_err(|e| format!("cannot be read: {e}"))?;
            }
            Lookup::Missing => return Ok(None),
            Lookup::Damaged | Lookup::Repairing => {
                meta.store_mut().mark_damaged(seq);
                return Err("is damaged".to_owned());
            }
        }
    }
}
