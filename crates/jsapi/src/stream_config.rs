//! What a stream is configured with. Field order is the order in JSON.

use std::collections::BTreeMap;

use linnet_ids::{Wall, hash_base62};
use serde::{Deserialize, Serialize};

use crate::decode::go_int;
use crate::omit::{is_false, is_zero_u64};
use crate::policies::{Compression, DiscardPolicy, PersistMode, RetentionPolicy, StorageType};
use crate::time::{self, Nanos};

/// User metadata of streams and consumers, sorted by key as Go prints maps.
pub type Metadata = BTreeMap<String, String>;

/// Configuration of a stream. [`Default`] is what an absent field means in a request, before normalisation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename = "StreamConfigRequest")]
pub struct StreamConfig {
    /// Unique in the account.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What the stream listens to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// When messages go.
    pub retention: RetentionPolicy,
    /// How many consumers there may be; −1 is unlimited, here and in the fields below.
    #[serde(deserialize_with = "go_int")]
    pub max_consumers: i64,
    /// Messages kept.
    pub max_msgs: i64,
    /// Bytes kept.
    pub max_bytes: i64,
    /// Age kept; 0 is unlimited.
    pub max_age: Nanos,
    /// Messages kept per subject.
    pub max_msgs_per_subject: i64,
    /// Largest message accepted.
    #[serde(skip_serializing_if = "is_zero_i32")]
    pub max_msg_size: i32,
    /// What gives way at a limit.
    pub discard: DiscardPolicy,
    /// Where messages are kept.
    pub storage: StorageType,
    /// Copies in a cluster.
    #[serde(deserialize_with = "go_int")]
    pub num_replicas: i64,
    /// Publishes are not answered.
    #[serde(skip_serializing_if = "is_false")]
    pub no_ack: bool,
    /// How long message ids are remembered.
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub duplicate_window: Nanos,
    /// Where in a supercluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The stream this one is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<StreamSource>,
    /// The streams this one collects from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<StreamSource>,
    /// Of blocks on disk.
    pub compression: Compression,
    /// Sequence of the first message; 0 is unset.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub first_seq: u64,
    /// Applied to incoming subjects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_transform: Option<SubjectTransform>,
    /// Publishes stored messages again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub republish: Option<Republish>,
    /// Direct get is answered.
    pub allow_direct: bool,
    /// Direct get of the origin is answered.
    pub mirror_direct: bool,
    /// `discard: new` applies to `max_msgs_per_subject` too.
    #[serde(skip_serializing_if = "is_false")]
    pub discard_new_per_subject: bool,
    /// Nothing may be stored or removed any more.
    pub sealed: bool,
    /// Messages can not be deleted by API.
    pub deny_delete: bool,
    /// The stream can not be purged by API.
    pub deny_purge: bool,
    /// `Nats-Rollup` is allowed.
    pub allow_rollup_hdrs: bool,
    /// Defaults and bounds for consumers.
    pub consumer_limits: ConsumerLimits,
    /// `Nats-TTL` is allowed.
    pub allow_msg_ttl: bool,
    /// Life of the markers left by expired subjects.
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub subject_delete_marker_ttl: Nanos,
    /// Messages are counter increments.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_msg_counter: bool,
    /// Atomic batch publish is allowed.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_atomic: bool,
    /// Scheduled messages are allowed.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_msg_schedules: bool,
    /// When a publish is acknowledged.
    #[serde(skip_serializing_if = "PersistMode::is_default")]
    pub persist_mode: PersistMode,
    /// Fast batch publish is allowed.
    #[serde(skip_serializing_if = "is_false")]
    pub allow_batched: bool,
    /// User metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: Metadata,
}

fn is_zero_i32(n: &i32) -> bool {
    *n == 0
}

/// Where an asset wants to live.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Placement {
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Every one must be among a server's tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Server to become leader (stepdown requests only).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub preferred: String,
}

/// The origin of a mirror, or one of a sourcing stream.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamSource {
    /// Name of the origin.
    pub name: String,
    /// First sequence wanted.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub opt_start_seq: u64,
    /// First time wanted.
    #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<Wall>,
    /// Only these subjects.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// Only subjects that match a `src`, renamed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransform>,
    /// How to reach another account or domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStream>,
    /// A consumer made beforehand on the origin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<SourceConsumer>,
}

impl StreamSource {
    /// The filters of the consumer that reads the origin; none for everything.
    pub fn filters(&self) -> Vec<String> {
        if self.subject_transforms.is_empty() {
            Some(self.filter_subject.clone()).filter(|filter| !filter.is_empty()).into_iter().collect()
        } else {
            self.subject_transforms.iter().map(|transform| transform.src.clone()).collect()
        }
    }

    /// What tells this source from the others of its stream, as `Nats-Stream-Source` has it: the origin, what is
    /// read of it and what becomes of its subjects (nats-server `server/stream.go`). Without blanks in a part.
    pub fn key(&self) -> String {
        let mut name = self.name.clone();
        if let Some(external) = &self.external {
            name = format!("{name}:{}", hash_base62::<8>(&external.api));
        }
        if let Some(consumer) = &self.consumer {
            name = format!("{name}:C={}", hash_base62::<8>(&consumer.name));
        }
        let or_all = |part: &str| if part.is_empty() { ">".to_owned() } else { part.to_owned() };
        let joined = |part: fn(&SubjectTransform) -> &str| {
            let parts: Vec<String> = self.subject_transforms.iter().map(|t| or_all(part(t))).collect();
            parts.join("\x0c")
        };
        if self.subject_transforms.is_empty() {
            format!("{name} {} >", or_all(&self.filter_subject))
        } else {
            format!("{name} {} {}", joined(|t| &t.src), joined(|t| &t.dest))
        }
    }
}

/// Subject prefixes that lead to another account or domain.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ExternalStream {
    /// Replaces `$JS.API`.
    pub api: String,
    /// Prefix of the delivery subject.
    pub deliver: String,
}

/// A durable consumer that a mirror or source uses instead of creating one.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceConsumer {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Where it delivers to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
}

/// Renaming of subjects.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectTransform {
    /// Which subjects.
    pub src: String,
    /// To what.
    pub dest: String,
}

/// Publishing of stored messages under another subject.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Republish {
    /// Which subjects; empty is all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub src: String,
    /// To what.
    pub dest: String,
    /// Without the body.
    #[serde(skip_serializing_if = "is_false")]
    pub headers_only: bool,
}

/// What consumers of a stream get by default and may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerLimits {
    /// Bound of `inactive_threshold`.
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub inactive_threshold: Nanos,
    /// Bound of `max_ack_pending`.
    #[serde(deserialize_with = "go_int", skip_serializing_if = "crate::omit::is_zero_i64")]
    pub max_ack_pending: i64,
}
