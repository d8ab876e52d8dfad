//! Which streams exist: entries in an internal stream, the newest message of each subject.

use linnet_assets::{Command, Place, Purge};
use linnet_ids::{GroupId, Mono, Wall};
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::{Nanos, StreamConfig};
use linnet_store::{Filter, Kind, Lookup};
use serde::{Deserialize, Serialize};

use crate::open::fresh;
use crate::solo::SoloGroup;

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
        fresh(group, Kind::Memory, self.config.clone(), Wall(self.created), place, now)
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

/// Every assignment in the catalogue.
pub(crate) fn assignments(meta: &mut SoloGroup) -> Vec<Assignment> {
    let mut all = Vec::new();
    let mut next = 0;
    while let Some(seq) = meta.stream().store().next(next, &Filter::all()) {
        next = seq + 1;
        loop {
            match meta.stream().store().get(seq, true) {
                Lookup::Found(record) => {
                    match serde_json::from_slice(record.payload) {
                        Ok(assignment) => all.push(assignment),
                        Err(e) => tracing::error!("  Catalogue entry {seq} cannot be read: {e}"),
                    }
                    break;
                }
                Lookup::Cold(job) => {
                    if meta.stream_mut().store_mut().loaded(job.run()).is_err() {
                        break;
                    }
                }
                Lookup::Missing => break,
                Lookup::Damaged => {
                    tracing::error!("  Catalogue entry {seq} is damaged");
                    break;
                }
            }
        }
    }
    all
}
