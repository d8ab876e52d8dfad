//! What a consumer is configured with. Field order is the order in JSON.

use std::collections::BTreeMap;

use linnet_ids::Wall;
use serde::{Deserialize, Serialize};

use crate::decode::{go_durations, go_int};
use crate::omit::{is_false, is_zero_i64, is_zero_u64};
use crate::policies::{AckPolicy, DeliverPolicy, PriorityPolicy, ReplayPolicy};
use crate::stream_config::Metadata;
use crate::time::{self, Nanos};

/// Configuration of a consumer. [`Default`] is what an absent field means in a request, before normalisation.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerConfig {
    /// Set makes it durable.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub durable_name: String,
    /// Unique in the stream.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where it starts.
    pub deliver_policy: DeliverPolicy,
    /// First sequence wanted.
    #[serde(skip_serializing_if = "is_zero_u64")]
    pub opt_start_seq: u64,
    /// First time wanted.
    #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
    pub opt_start_time: Option<Wall>,
    /// What acknowledgements cover.
    pub ack_policy: AckPolicy,
    /// Time until an unacknowledged message is delivered again.
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub ack_wait: Nanos,
    /// Deliveries of one message; −1 is unlimited.
    #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
    pub max_deliver: i64,
    /// Waits of successive deliveries, instead of `ack_wait`.
    #[serde(deserialize_with = "go_durations", skip_serializing_if = "Vec::is_empty")]
    pub backoff: Vec<Nanos>,
    /// Only this subject.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// Only these subjects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter_subjects: Vec<String>,
    /// How fast.
    pub replay_policy: ReplayPolicy,
    /// Bits per second (push).
    #[serde(rename = "rate_limit_bps", skip_serializing_if = "is_zero_u64")]
    pub rate_limit_bps: u64,
    /// Percentage of acknowledgements that are reported.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sample_freq: String,
    /// Pull requests that may wait.
    #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
    pub max_waiting: i64,
    /// Unacknowledged messages at a time; −1 is unlimited.
    #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
    pub max_ack_pending: i64,
    /// Flow control (push).
    #[serde(skip_serializing_if = "is_false")]
    pub flow_control: bool,
    /// Bodies are not delivered.
    #[serde(skip_serializing_if = "is_false")]
    pub headers_only: bool,
    /// Largest `batch` of a pull request.
    #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
    pub max_batch: i64,
    /// Longest `expires` of a pull request.
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub max_expires: Nanos,
    /// Largest `max_bytes` of a pull request.
    #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
    pub max_bytes: i64,
    /// Set makes it a push consumer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
    /// Queue group of the subscribers (push).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_group: String,
    /// A sign of life this often when nothing is delivered (push).
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub idle_heartbeat: Nanos,
    /// Unused for this long, it is removed.
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub inactive_threshold: Nanos,
    /// Copies of its state; 0 is as the stream.
    #[serde(deserialize_with = "go_int")]
    pub num_replicas: i64,
    /// State in memory although the stream is on disk.
    #[serde(skip_serializing_if = "is_false")]
    pub mem_storage: bool,
    /// Made by a mirror or source.
    #[serde(skip_serializing_if = "is_false")]
    pub direct: bool,
    /// Made by a mirror or source that can take over retention.
    #[serde(skip_serializing_if = "is_false")]
    pub sourcing: bool,
    /// User metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: Metadata,
    /// No deliveries until then.
    #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
    pub pause_until: Option<Wall>,
    /// Names of the priority groups (pull).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<String>,
    /// How a group chooses.
    #[serde(skip_serializing_if = "PriorityPolicy::is_none")]
    pub priority_policy: PriorityPolicy,
    /// How long a silent client stays pinned.
    #[serde(skip_serializing_if = "Nanos::is_zero")]
    pub priority_timeout: Nanos,
}

impl ConsumerConfig {
    /// Whether messages are sent to a subject rather than asked for.
    pub fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// Whether it outlives its users.
    pub fn is_durable(&self) -> bool {
        !self.durable_name.is_empty()
    }

    /// Of how many of a hundred acknowledgements a metric tells.
    pub fn sample_percent(&self) -> u64 {
        let text = self.sample_freq.strip_suffix('%').unwrap_or(&self.sample_freq);
        text.parse().unwrap_or(0)
    }

    /// The filters, whichever field they were given in; empty means every message.
    pub fn filters(&self) -> &[String] {
        if self.filter_subject.is_empty() {
            &self.filter_subjects
        } else {
            std::slice::from_ref(&self.filter_subject)
        }
    }
}
