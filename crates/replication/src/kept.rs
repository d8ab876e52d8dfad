//! Durable consumers of streams in memory: the catalogue knows them, because such a stream has no log that would.
//!
//! What they delivered is lost with the messages. They come back as they were created: at the start that their
//! configuration asks for, so that a stream with interest keeps what is published for them.

use linnet_assets::{Attach, Command, Purge};
use linnet_ids::GroupId;
use linnet_jsapi::ConsumerConfig;
use linnet_store::StreamStore;
use serde::{Deserialize, Serialize};

use crate::catalogue::in_hexadecimal;

/// First token of the subjects under which consumers are kept.
pub(crate) const PREFIX: &[u8] = b"consumer.";

/// A durable consumer of a stream in memory, as the catalogue stores it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptConsumer {
    /// Group of its stream, as text: that of an earlier stream of the same name says nothing of this one.
    pub group: String,
    /// Its name.
    pub name: String,
    /// When it was created, nanoseconds since the Unix epoch.
    pub created: i64,
    /// Configuration.
    pub config: ConsumerConfig,
}

impl KeptConsumer {
    /// A consumer of the stream with this group.
    pub fn of(group: GroupId, attach: Attach) -> Self {
        let Attach { name, config, created, .. } = attach;
        Self { group: group.to_string(), name, created, config }
    }

    /// The command that stores it.
    pub fn store(&self, account: &str, stream: &str) -> Command {
        // Plain data: writing it to memory cannot fail.
        let payload = serde_json::to_vec(self).expect("consumer serialises");
        Command::Append { subject: subject(account, stream, &self.name).into_bytes(), payload }
    }

    /// The command that removes one.
    pub fn forget(account: &str, stream: &str, consumer: &str) -> Command {
        Command::Purge(Purge { filter: subject(account, stream, consumer), below: 0, keep: 0 })
    }

    /// The command that removes all of a stream.
    pub fn forget_all(account: &str, stream: &str) -> Command {
        Self::forget(account, stream, "*")
    }

    /// The consumer as it begins in the stream that came back.
    pub(crate) fn begin(&self, store: &StreamStore) -> Attach {
        Attach::beginning(self.name.clone(), self.config.clone(), self.created, store)
    }
}

fn subject(account: &str, stream: &str, consumer: &str) -> String {
    format!("consumer.{}.{stream}.{consumer}", in_hexadecimal(account))
}
