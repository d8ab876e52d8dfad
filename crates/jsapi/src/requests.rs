//! Bodies of API requests. Container names in `serde(rename)` are the ones nats-server's error texts quote.

use linnet_ids::{StreamSeq, Wall};
use serde::{Deserialize, Serialize};

use crate::consumer_config::ConsumerConfig;
use crate::decode::go_int;
use crate::info::StreamState;
use crate::omit::{is_false, is_zero_i64, is_zero_u64};
use crate::policies::ConsumerAction;
use crate::stream_config::{Placement, StreamConfig};
use crate::time::{self, Nanos};

/// `STREAM.CREATE`, `STREAM.UPDATE`: a configuration, and beside its fields `pedantic`. Decode it with
/// [`crate::decode::stream_config_request`].
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StreamConfigRequest {
    /// The configuration wanted.
    pub config: StreamConfig,
    /// Refuse rather than adjust.
    pub pedantic: bool,
    /// It says where messages are kept. Then what that takes is judged first.
    pub names_storage: bool,
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident as $go_name:literal {
        $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
    })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default, rename = $go_name)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }
    )+ };
}

requests! {
    /// `STREAM.NAMES`.
    StreamNamesRequest as "JSApiStreamNamesRequest" {
        /// First entry wanted.
        #[serde(deserialize_with = "go_int")]
        offset: i64,
        /// Only streams with a subject that overlaps this one.
        #[serde(skip_serializing_if = "String::is_empty")]
        subject: String,
    }
    /// `STREAM.LIST`.
    StreamListRequest as "JSApiStreamListRequest" {
        /// First entry wanted.
        #[serde(deserialize_with = "go_int")]
        offset: i64,
        /// Only streams with a subject that overlaps this one.
        #[serde(skip_serializing_if = "String::is_empty")]
        subject: String,
    }
    /// `STREAM.INFO`.
    StreamInfoRequest as "JSApiStreamInfoRequest" {
        /// First subject wanted.
        #[serde(deserialize_with = "go_int")]
        offset: i64,
        /// List the holes.
        #[serde(skip_serializing_if = "is_false")]
        deleted_details: bool,
        /// Count messages of matching subjects.
        #[serde(skip_serializing_if = "String::is_empty")]
        subjects_filter: String,
    }
    /// `STREAM.PURGE`.
    StreamPurgeRequest as "JSApiStreamPurgeRequest" {
        /// Only this subject.
        #[serde(skip_serializing_if = "String::is_empty")]
        filter: String,
        /// Only messages below this sequence.
        #[serde(rename = "seq", skip_serializing_if = "is_zero_u64")]
        sequence: StreamSeq,
        /// Keep this many of the newest.
        #[serde(skip_serializing_if = "is_zero_u64")]
        keep: u64,
    }
    /// `STREAM.MSG.GET`, `DIRECT.GET`.
    MsgGetRequest as "JSApiMsgGetRequest" {
        /// A sequence, or where to start.
        #[serde(skip_serializing_if = "is_zero_u64")]
        seq: StreamSeq,
        /// Newest message of a subject.
        #[serde(skip_serializing_if = "String::is_empty")]
        last_by_subj: String,
        /// First message of a subject from the start on.
        #[serde(skip_serializing_if = "String::is_empty")]
        next_by_subj: String,
        /// Messages wanted (direct get).
        #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
        batch: i64,
        /// Bytes wanted (direct get).
        #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
        max_bytes: i64,
        /// Where to start.
        #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
        start_time: Option<Wall>,
        /// Newest message of every matching subject (direct get).
        #[serde(skip_serializing_if = "Vec::is_empty")]
        multi_last: Vec<String>,
        /// Newest as of this sequence (direct get).
        #[serde(skip_serializing_if = "is_zero_u64")]
        up_to_seq: StreamSeq,
        /// Newest as of this time (direct get).
        #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
        up_to_time: Option<Wall>,
        /// Without headers.
        #[serde(skip_serializing_if = "is_false")]
        no_hdr: bool,
    }
    /// `STREAM.MSG.DELETE`.
    MsgDeleteRequest as "JSApiMsgDeleteRequest" {
        /// Which one.
        seq: StreamSeq,
        /// Leave the bytes on disk.
        #[serde(skip_serializing_if = "is_false")]
        no_erase: bool,
    }
    /// `STREAM.SNAPSHOT`.
    StreamSnapshotRequest as "JSApiStreamSnapshotRequest" {
        /// Where the data goes.
        deliver_subject: String,
        /// Without consumers.
        #[serde(skip_serializing_if = "is_false")]
        no_consumers: bool,
        /// Bytes per message.
        #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
        chunk_size: i64,
        /// Bytes on their way at most.
        #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
        window_size: i64,
        /// Check every message first.
        #[serde(skip_serializing_if = "is_false")]
        jsck: bool,
    }
    /// `STREAM.RESTORE`.
    StreamRestoreRequest as "JSApiStreamRestoreRequest" {
        /// What the restored stream is configured with.
        config: StreamConfig,
        /// What the snapshot holds.
        state: StreamState,
    }
    /// `STREAM.PEER.REMOVE`, `STREAM.PEER.EVACUATE` and their consumer forms.
    PeerRequest as "JSApiStreamRemovePeerRequest" {
        /// Name or id of the server.
        peer: String,
    }
    /// `*.LEADER.STEPDOWN`.
    StepdownRequest as "JSApiLeaderStepdownRequest" {
        /// Who should follow.
        #[serde(skip_serializing_if = "Option::is_none")]
        placement: Option<Placement>,
    }
    /// `CONSUMER.CREATE`, `CONSUMER.DURABLE.CREATE`.
    CreateConsumerRequest as "CreateConsumerRequest" {
        /// Must be the stream of the subject.
        #[serde(rename = "stream_name")]
        stream: String,
        /// The configuration wanted.
        config: ConsumerConfig,
        /// What may happen.
        #[serde(skip_serializing_if = "ConsumerAction::is_default")]
        action: ConsumerAction,
        /// Refuse rather than adjust.
        #[serde(skip_serializing_if = "is_false")]
        pedantic: bool,
    }
    /// `CONSUMER.NAMES`, `CONSUMER.LIST`.
    ConsumersRequest as "JSApiConsumersRequest" {
        /// First entry wanted.
        #[serde(deserialize_with = "go_int")]
        offset: i64,
    }
    /// `CONSUMER.PAUSE`.
    ConsumerPauseRequest as "JSApiConsumerPauseRequest" {
        /// Unset or past resumes.
        #[serde(with = "time::or_zero", skip_serializing_if = "Option::is_none")]
        pause_until: Option<Wall>,
    }
    /// `CONSUMER.UNPIN`.
    ConsumerUnpinRequest as "JSApiConsumerUnpinRequest" {
        /// Name of the group.
        group: String,
    }
    /// `CONSUMER.RESET`.
    ConsumerResetRequest as "JSApiConsumerResetRequest" {
        /// Where to continue; 0 is after the ack floor.
        #[serde(skip_serializing_if = "is_zero_u64")]
        seq: StreamSeq,
    }
    /// `CONSUMER.MSG.NEXT`. Read it with [`crate::decode::next_request`].
    NextRequest as "" {
        /// How long to wait.
        #[serde(skip_serializing_if = "Nanos::is_zero")]
        expires: Nanos,
        /// Messages wanted; 0 or less asks for one.
        #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
        batch: i64,
        /// Bytes wanted.
        #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
        max_bytes: i64,
        /// Do not wait.
        #[serde(skip_serializing_if = "is_false")]
        no_wait: bool,
        /// A sign of life this often while waiting.
        #[serde(rename = "idle_heartbeat", skip_serializing_if = "Nanos::is_zero")]
        heartbeat: Nanos,
        /// Priority group.
        #[serde(skip_serializing_if = "String::is_empty")]
        group: String,
        /// Only while this many messages are pending.
        #[serde(skip_serializing_if = "is_zero_i64")]
        min_pending: i64,
        /// Only while this many are unacknowledged.
        #[serde(skip_serializing_if = "is_zero_i64")]
        min_ack_pending: i64,
        /// Id of the pinned client.
        #[serde(skip_serializing_if = "String::is_empty")]
        id: String,
        /// 0 is served first, 9 last.
        #[serde(deserialize_with = "go_int", skip_serializing_if = "is_zero_i64")]
        priority: i64,
    }
    /// `SERVER.REMOVE`, `SERVER.EVACUATE`.
    MetaServerRequest as "JSApiMetaServerRemoveRequest" {
        /// Name of the server.
        peer: String,
        /// Its id, which wins over the name.
        #[serde(skip_serializing_if = "String::is_empty")]
        peer_id: String,
    }
    /// `META.RESCUE`.
    MetaRescueRequest as "JSApiMetaRescueRequest" {
        /// New number of servers that decide.
        #[serde(deserialize_with = "go_int")]
        quorum_needed: i64,
    }
    /// `ACCOUNT.STREAM.MOVE`.
    StreamMoveRequest as "JSApiMetaServerStreamMoveRequest" {
        /// Server to leave.
        #[serde(skip_serializing_if = "String::is_empty")]
        server: String,
        /// Cluster to go to.
        #[serde(skip_serializing_if = "String::is_empty")]
        cluster: String,
        /// Domain to go to.
        #[serde(skip_serializing_if = "String::is_empty")]
        domain: String,
        /// Tags of the servers to go to.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tags: Vec<String>,
    }
}

impl MsgGetRequest {
    /// Whether the selectors contradict each other or there is none, as `STREAM.MSG.GET` judges it (10003).
    pub fn is_bad_for_stream_get(&self) -> bool {
        self.batch > 0 || self.max_bytes > 0 || self.names_no_message() || self.selectors_conflict()
    }

    /// Whether nothing says which messages a direct get is for. A batch needs a start, too.
    pub fn is_empty_for_direct_get(&self) -> bool {
        self.names_no_message() && self.multi_last.is_empty()
    }

    fn names_no_message(&self) -> bool {
        self.seq == 0
            && self.last_by_subj.is_empty()
            && self.next_by_subj.is_empty()
            && self.start_time.is_none()
    }

    /// Whether a direct get whose subject names the message is a bad request: it chooses another way, too.
    pub fn is_bad_beside_a_subject(&self) -> bool {
        !self.names_no_message()
            || self.batch != 0
            || !self.multi_last.is_empty()
            || self.up_to_seq != 0
            || self.up_to_time.is_some()
    }

    /// Whether a direct get is a bad request: contradicting selectors.
    pub fn is_bad_for_direct_get(&self) -> bool {
        self.selectors_conflict()
            || (!self.last_by_subj.is_empty() && (self.batch > 0 || !self.multi_last.is_empty()))
            || (!self.next_by_subj.is_empty() && !self.multi_last.is_empty())
            || (self.up_to_seq != 0 && self.up_to_time.is_some())
    }

    fn selectors_conflict(&self) -> bool {
        let last = !self.last_by_subj.is_empty();
        let next = !self.next_by_subj.is_empty();
        let starts = [self.seq > 0, self.start_time.is_some(), last].into_iter().filter(|set| *set).count();
        starts > 1 || (last && next)
    }
}

impl StreamPurgeRequest {
    /// Whether `seq` and `keep` contradict each other (10003).
    pub fn is_bad(&self) -> bool {
        self.sequence > 0 && self.keep > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode_strict;

    /// Request, whether `STREAM.MSG.GET` refuses it, and what `DIRECT.GET` calls it.
    #[test]
    fn selectors_are_judged_as_on_the_reference_server() {
        const TIME: &str = r#""start_time":"2024-01-01T00:00:00Z""#;
        for (fields, stream_get_refuses, direct_get) in [
            (r#""seq":1"#, false, ""),
            (r#""next_by_subj":"s""#, false, ""),
            (r#""last_by_subj":"s""#, false, ""),
            (TIME, false, ""),
            (&format!(r#""next_by_subj":"s",{TIME}"#), false, ""),
            (r#""seq":1,"last_by_subj":"s""#, true, "bad"),
            (&format!(r#""seq":1,{TIME}"#), true, "bad"),
            (&format!(r#""last_by_subj":"s",{TIME}"#), true, "bad"),
            (r#""last_by_subj":"s","next_by_subj":"s""#, true, "bad"),
            (&format!(r#""next_by_subj":"s","seq":1,{TIME}"#), true, "bad"),
            (r#""no_hdr":true"#, true, "empty"),
            (r#""seq":0"#, true, "empty"),
            (r#""batch":2"#, true, "empty"),
            (r#""up_to_seq":1"#, true, "empty"),
            (r#""seq":1,"batch":1"#, true, ""),
            (r#""seq":1,"max_bytes":1"#, true, ""),
            (r#""seq":1,"batch":-1"#, false, ""),
            (r#""last_by_subj":"s","batch":-1"#, false, ""),
            (r#""seq":1,"multi_last":["s"]"#, false, ""),
            (r#""multi_last":["s"]"#, true, ""),
            (r#""last_by_subj":"s","batch":2"#, true, "bad"),
            (r#""last_by_subj":"s","multi_last":["s"]"#, false, "bad"),
            (r#""next_by_subj":"s","multi_last":["s"]"#, false, "bad"),
            (r#""multi_last":["s"],"up_to_seq":1,"up_to_time":"2030-01-01T00:00:00Z""#, true, "bad"),
        ] {
            let request: MsgGetRequest = decode_strict(format!("{{{fields}}}").as_bytes()).unwrap();
            assert_eq!(request.is_bad_for_stream_get(), stream_get_refuses, "{fields}");
            assert_eq!(request.is_bad_for_direct_get(), direct_get == "bad", "{fields}");
            assert_eq!(request.is_empty_for_direct_get(), direct_get == "empty", "{fields}");
        }
    }

    #[test]
    fn purge_takes_a_sequence_or_a_count() {
        let purge = |sequence, keep| StreamPurgeRequest { sequence, keep, ..StreamPurgeRequest::default() };
        assert!(purge(1, 1).is_bad());
        assert!(!purge(1, 0).is_bad() && !purge(0, 1).is_bad());
    }
}
