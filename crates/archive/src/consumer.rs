use std::collections::BTreeMap;

use linnet_ids::Wall;
use linnet_jsapi::ConsumerConfig;
use serde::{Deserialize, Serialize};

/// A consumer as archives hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchivedConsumer {
    /// Configuration.
    pub config: ConsumerConfig,
    /// How far it got; `None` for one that has not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ArchivedState>,
    /// When it was created, in backups that say so.
    #[serde(skip)]
    pub created: Option<Wall>,
}

/// How far a consumer got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ArchivedState {
    /// The newest delivery.
    pub delivered: Position,
    /// Everything up to here is acknowledged.
    pub ack_floor: Position,
    /// Messages that wait for their acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending: Option<BTreeMap<u64, ArchivedPending>>,
    /// How often messages were delivered again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redelivered: Option<BTreeMap<u64, u64>>,
}

/// Sequences of a delivery and of its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// Of the delivery.
    pub consumer_seq: u64,
    /// Of the message.
    pub stream_seq: u64,
}

/// A message that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ArchivedPending {
    /// Sequence of its delivery.
    pub sequence: u64,
    /// When it was delivered, nanoseconds since the Unix epoch.
    pub timestamp: i64,
}
