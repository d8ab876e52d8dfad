//! What the server tells about streams, consumers, accounts and messages. Field order is the order in JSON.

use std::collections::BTreeMap;

use linnet_ids::{ConsumerSeq, StreamSeq, Wall};
use serde::{Deserialize, Serialize};

use crate::consumer_config::ConsumerConfig;
use crate::omit::{is_false, is_zero_u64};
use crate::policies::RetentionPolicy;
use crate::stream_config::{ExternalStream, Placement, StreamConfig, SubjectTransform};
use crate::time::{self, Nanos};

/// A stream: its configuration and where it stands.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamInfo {
    /// As normalised, with the metadata of [`crate::metadata`].
    pub config: StreamConfig,
    /// When it was created.
    #[serde(with = "time::always")]
    pub created: Wall,
    /// What it holds.
    pub state: StreamState,
    /// JetStream domain; absent in create responses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Its replicas; absent in create and list responses of a standalone server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// How far the copy is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<StreamSourceInfo>,
    /// How far collecting is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<StreamSourceInfo>,
    /// The stream and its mirrors, nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternates: Vec<StreamAlternate>,
    /// When this was written.
    #[serde(rename = "ts", with = "time::always")]
    pub timestamp: Wall,
}

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamState {
    /// Messages held.
    #[serde(rename = "messages")]
    pub msgs: u64,
    /// Bytes held, as accounted.
    pub bytes: u64,
    /// First sequence held, or the next one of an empty stream.
    pub first_seq: StreamSeq,
    /// Time of the first message held.
    #[serde(with = "time::or_zero")]
    pub first_ts: Option<Wall>,
    /// Last sequence given out.
    pub last_seq: StreamSeq,
    /// Time of the last message.
    #[serde(with = "time::or_zero")]
    pub last_ts: Option<Wall>,
    /// Distinct subjects held.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub num_subjects: u64,
    /// Messages per subject, when asked for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<String, u64>,
    /// Holes between first and last sequence.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub num_deleted: u64,
    /// The holes, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<StreamSeq>,
    /// What damage took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostStreamData>,
    /// Consumers of the stream.
    pub consumer_count: u64,
}

/// Messages known to be lost to damage.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LostStreamData {
    /// Their sequences.
    pub msgs: Vec<StreamSeq>,
    /// Their size.
    pub bytes: u64,
}

/// The replicas of an asset.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClusterInfo {
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Name of the replication group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub raft_group: String,
    /// Name of the leading server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub leader: String,
    /// Since when it leads.
    #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
    pub leader_since: Option<Wall>,
    /// The group's traffic goes through the system account.
    #[serde(skip_serializing_if = "is_false")]
    pub system_account: bool,
    /// The account the group's traffic goes through.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub traffic_account: String,
    /// The others; the leader is not among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<PeerInfo>,
    /// A change on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired: Option<DesiredInfo>,
}

/// A replica that does not lead.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerInfo {
    /// Name of the server.
    pub name: String,
    /// Whether it has caught up.
    pub current: bool,
    /// Whether it is known to be away.
    #[serde(skip_serializing_if = "is_false")]
    pub offline: bool,
    /// Time since it was heard of.
    pub active: Nanos,
    /// Log entries behind.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub lag: u64,
    /// Id of the server.
    pub peer: String,
    /// Whether it is assigned and has not been taken into the group.
    #[serde(skip_serializing_if = "is_false")]
    pub pending: bool,
}

/// A move, a change of the number of replicas or of retention that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DesiredInfo {
    /// When it was asked for.
    #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
    pub created: Option<Wall>,
    /// Name of the target cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The replicas of the target.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<DesiredPeer>,
    /// What it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<DesiredOrigin>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<DesiredStatus>,
}

/// A server that shall have a replica.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DesiredPeer {
    /// Its name.
    pub name: String,
    /// Its id.
    pub peer: String,
}

/// What an asset was before a change on its way.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DesiredOrigin {
    /// Number of replicas.
    pub replicas: i64,
    /// Where it lived.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// When messages went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionPolicy>,
}

/// How far a change on its way is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DesiredStatus {
    /// For people.
    pub description: String,
    /// One of `meta`, `membership`, `snapshot`, `catchup`, `quorum`, `blocked`, `unavailable`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What stops it.
    #[serde(rename = "err", skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// How far a mirror or source is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamSourceInfo {
    /// Name of the origin.
    pub name: String,
    /// How it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStream>,
    /// Messages behind.
    pub lag: u64,
    /// Last sequence of the origin taken over (sources only).
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub seq: StreamSeq,
    /// Time since the origin was heard of; −1 is never.
    pub active: Nanos,
    /// Why it does not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<crate::errors::ApiError>,
    /// The filter of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// The transforms of the configuration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransform>,
}

/// A stream that holds the same messages.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamAlternate {
    /// Its name.
    pub name: String,
    /// Its domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Its cluster.
    pub cluster: String,
}

/// A consumer: its configuration and where it stands.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerInfo {
    /// Its stream.
    #[serde(rename = "stream_name")]
    pub stream: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    #[serde(with = "time::always")]
    pub created: Wall,
    /// As normalised, with the metadata of [`crate::metadata`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<ConsumerConfig>,
    /// Last delivery.
    pub delivered: SequenceInfo,
    /// Everything up to here is acknowledged.
    pub ack_floor: SequenceInfo,
    /// Delivered and not acknowledged.
    pub num_ack_pending: u64,
    /// Of these, delivered more than once.
    pub num_redelivered: u64,
    /// Pull requests waiting.
    pub num_waiting: u64,
    /// Matching messages not yet delivered.
    pub num_pending: u64,
    /// Its replicas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// Somebody listens to the deliver subject.
    #[serde(skip_serializing_if = "is_false")]
    pub push_bound: bool,
    /// It is paused.
    #[serde(skip_serializing_if = "is_false")]
    pub paused: bool,
    /// For how long.
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub pause_remaining: Nanos,
    /// When this was written.
    #[serde(rename = "ts", with = "time::always")]
    pub timestamp: Wall,
    /// Who is pinned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<PriorityGroupState>,
}

/// A position of a consumer in both countings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SequenceInfo {
    /// Count of deliveries.
    pub consumer_seq: ConsumerSeq,
    /// Sequence in the stream.
    pub stream_seq: StreamSeq,
    /// When it was reached.
    #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
    pub last_active: Option<Wall>,
}

/// The pinned client of a priority group.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PriorityGroupState {
    /// Name of the group.
    pub group: String,
    /// Id given to the pinned client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pinned_client_id: String,
    /// Since when.
    #[serde(with = "time::or_zero")]
    pub pinned_ts: Option<Wall>,
}

/// What an account uses and may use.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountInfo {
    /// Usage of the whole account.
    #[serde(flatten)]
    pub total: AccountTier,
    /// JetStream domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Calls of the account.
    pub api: ApiStats,
    /// Usage per number of replicas (`R1`, `R3`), when limits are tiered.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, AccountTier>,
}

/// Usage and limits of an account, or of one of its tiers.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountTier {
    /// Bytes in memory streams.
    pub memory: u64,
    /// Bytes in file streams.
    pub storage: u64,
    /// Bytes that memory streams may come to use.
    pub reserved_memory: u64,
    /// Bytes that file streams may come to use.
    pub reserved_storage: u64,
    /// Number of streams.
    pub streams: u64,
    /// Number of consumers.
    pub consumers: u64,
    /// What it may use.
    pub limits: AccountLimits,
}

/// What an account may use; −1 is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountLimits {
    /// Bytes in memory streams.
    pub max_memory: i64,
    /// Bytes in file streams.
    pub max_storage: i64,
    /// Number of streams.
    pub max_streams: i64,
    /// Number of consumers of a stream.
    pub max_consumers: i64,
    /// Largest `max_ack_pending` of a consumer.
    pub max_ack_pending: i64,
    /// Largest `max_bytes` of a memory stream.
    pub memory_max_stream_bytes: i64,
    /// Largest `max_bytes` of a file stream.
    pub storage_max_stream_bytes: i64,
    /// Streams must say `max_bytes`.
    pub max_bytes_required: bool,
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            max_memory: -1,
            max_storage: -1,
            max_streams: -1,
            max_consumers: -1,
            max_ack_pending: -1,
            memory_max_stream_bytes: -1,
            storage_max_stream_bytes: -1,
            max_bytes_required: false,
        }
    }
}

/// API calls of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiStats {
    /// [`crate::API_LEVEL`].
    pub level: u64,
    /// Calls answered; the one that asks is not counted yet.
    pub total: u64,
    /// Of these, with an error.
    pub errors: u64,
    /// Calls being worked on.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub inflight: u64,
}

/// A message as `STREAM.MSG.GET` returns it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    pub seq: StreamSeq,
    /// Its header block, starting with `NATS/1.0`.
    #[serde(with = "crate::binary", skip_serializing_if = "Vec::is_empty")]
    pub hdrs: Vec<u8>,
    /// Its body.
    #[serde(with = "crate::binary", skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<u8>,
    /// When it was stored.
    #[serde(with = "time::always")]
    pub time: Wall,
}

/// Where a page of a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Paging {
    /// Entries in the list.
    pub total: i64,
    /// Index of the first one returned.
    pub offset: i64,
    /// Most that are returned at once.
    pub limit: i64,
}

impl Paging {
    /// The page at `offset` of a list of `total` entries, the offset brought into the list, with the range to take.
    pub fn at(total: usize, offset: i64, limit: usize) -> (Self, std::ops::Range<usize>) {
        let start = usize::try_from(offset.max(0)).unwrap_or(usize::MAX).min(total);
        let end = start.saturating_add(limit).min(total);
        let as_i64 = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        (Self { total: as_i64(total), offset: as_i64(start), limit: as_i64(limit) }, start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::Paging;

    #[test]
    fn pages_stay_inside_the_list() {
        for (total, offset, limit, expected_offset, range) in [
            (0, 0, 10, 0, 0..0),
            (25, 0, 10, 0, 0..10),
            (25, 20, 10, 20, 20..25),
            (25, 25, 10, 25, 25..25),
            (25, 99, 10, 25, 25..25),
            (25, -3, 10, 0, 0..10),
        ] {
            let (paging, taken) = Paging::at(total, offset, limit);
            assert_eq!((paging.offset, paging.limit), (expected_offset, 10), "{total} {offset}");
            assert_eq!(taken, range, "{total} {offset}");
        }
    }
}
