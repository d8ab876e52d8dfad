//! Bodies of API responses. [`ok`] and [`error`] put the `type` (and `error`) in front of a body's fields.

use std::collections::BTreeMap;

use linnet_ids::{StreamSeq, Wall};
use serde::{Deserialize, Serialize};

use crate::errors::ApiError;
use crate::info::{AccountInfo, ConsumerInfo, Paging, StoredMessage, StreamInfo, StreamState};
use crate::json::to_json;
use crate::omit::is_false;
use crate::stream_config::StreamConfig;
use crate::time::{self, Nanos};

/// The body of a kind of response.
pub trait Response: Serialize {
    /// The value of `type`.
    const TYPE: &'static str;
    /// The fields an error response has beside `type` and `error`.
    type OnError: Serialize + Default;
}

/// The JSON of a successful response.
pub fn ok<R: Response>(body: &R) -> Vec<u8> {
    to_json(&Envelope { kind: R::TYPE, error: None, body })
}

/// The JSON of an error response of kind `R`.
pub fn error<R: Response>(error: &ApiError) -> Vec<u8> {
    to_json(&Envelope { kind: R::TYPE, error: Some(error), body: &R::OnError::default() })
}

/// The JSON of a response of kind `R`, whichever it is.
pub fn encode<R: Response>(result: &Result<R, ApiError>) -> Vec<u8> {
    match result {
        Ok(body) => ok(body),
        Err(e) => error::<R>(e),
    }
}

#[derive(Serialize)]
struct Envelope<'a, B> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ApiError>,
    #[serde(flatten)]
    body: &'a B,
}

/// No further fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Nothing {}

/// Declares the body of a response, its `type` without the common prefix, and what its errors carry besides.
macro_rules! responses {
    ($($(#[$doc:meta])* $name:ident = $kind:literal, on error $on_error:ty {
        $($(#[$field_meta:meta])* $field:ident: $ty:ty,)*
    })+) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl Response for $name {
            const TYPE: &'static str = concat!("io.nats.jetstream.api.v1.", $kind);
            type OnError = $on_error;
        }
    )+ };
}

/// Responses that say only that it was done.
macro_rules! success_responses {
    ($($(#[$doc:meta])* $name:ident = $kind:literal;)+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name {
            /// Always true; an error response leaves it out.
            #[serde(skip_serializing_if = "is_false")]
            pub success: bool,
        }

        impl Default for $name {
            fn default() -> Self {
                Self { success: true }
            }
        }

        impl Response for $name {
            const TYPE: &'static str = concat!("io.nats.jetstream.api.v1.", $kind);
            type OnError = Nothing;
        }
    )+ };
}

responses! {
    /// `INFO`.
    AccountInfoResponse = "account_info_response", on error Nothing {
        /// Usage and limits.
        #[serde(flatten)]
        info: AccountInfo,
    }
    /// `STREAM.CREATE`, and the end of a restore.
    StreamCreateResponse = "stream_create_response", on error Nothing {
        /// The stream.
        #[serde(flatten)]
        info: StreamInfo,
        /// It was created (or already was as asked for).
        #[serde(skip_serializing_if = "is_false")]
        did_create: bool,
    }
    /// `STREAM.UPDATE`.
    StreamUpdateResponse = "stream_update_response", on error Nothing {
        /// The stream.
        #[serde(flatten)]
        info: StreamInfo,
    }
    /// `STREAM.NAMES`.
    StreamNamesResponse = "stream_names_response", on error Self {
        /// Which part.
        #[serde(flatten)]
        paging: Paging,
        /// Names; `None` (printed `null`) when the page is empty.
        streams: Option<Vec<String>>,
    }
    /// `STREAM.LIST`.
    StreamListResponse = "stream_list_response", on error Self {
        /// Which part.
        #[serde(flatten)]
        paging: Paging,
        /// The streams.
        streams: Vec<StreamInfo>,
        /// Streams whose leader did not answer in time.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        missing: Vec<String>,
        /// Streams this server can not run, and why.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        offline: BTreeMap<String, String>,
    }
    /// `STREAM.INFO`.
    StreamInfoResponse = "stream_info_response", on error Paging {
        /// Which part of the subjects; zeros when they were not asked for.
        #[serde(flatten)]
        paging: Paging,
        /// The stream.
        #[serde(flatten)]
        info: StreamInfo,
    }
    /// `STREAM.PURGE`.
    StreamPurgeResponse = "stream_purge_response", on error Self {
        /// It was done.
        #[serde(skip_serializing_if = "is_false")]
        success: bool,
        /// Messages removed.
        purged: u64,
    }
    /// `STREAM.MSG.GET`.
    MsgGetResponse = "stream_msg_get_response", on error Nothing {
        /// The message.
        message: StoredMessage,
    }
    /// `STREAM.SNAPSHOT`.
    StreamSnapshotResponse = "stream_snapshot_response", on error Nothing {
        /// What the stream is configured with.
        config: StreamConfig,
        /// What it holds.
        state: StreamState,
    }
    /// `STREAM.RESTORE`.
    StreamRestoreResponse = "stream_restore_response", on error Self {
        /// Where to send the data.
        deliver_subject: String,
    }
    /// `CONSUMER.CREATE`, `CONSUMER.DURABLE.CREATE`.
    ConsumerCreateResponse = "consumer_create_response", on error Nothing {
        /// The consumer.
        #[serde(flatten)]
        info: ConsumerInfo,
    }
    /// `CONSUMER.NAMES`.
    ConsumerNamesResponse = "consumer_names_response", on error Self {
        /// Which part.
        #[serde(flatten)]
        paging: Paging,
        /// Names.
        consumers: Vec<String>,
    }
    /// `CONSUMER.LIST`.
    ConsumerListResponse = "consumer_list_response", on error Self {
        /// Which part.
        #[serde(flatten)]
        paging: Paging,
        /// The consumers.
        consumers: Vec<ConsumerInfo>,
        /// Consumers whose leader did not answer in time.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        missing: Vec<String>,
        /// Consumers this server can not run, and why.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        offline: BTreeMap<String, String>,
    }
    /// `CONSUMER.INFO`.
    ConsumerInfoResponse = "consumer_info_response", on error Nothing {
        /// The consumer.
        #[serde(flatten)]
        info: ConsumerInfo,
    }
    /// `CONSUMER.PAUSE`.
    ConsumerPauseResponse = "consumer_pause_response", on error Self {
        /// Whether it is paused now.
        paused: bool,
        /// Until when.
        #[serde(with = "time::or_zero")]
        pause_until: Option<Wall>,
        /// For how long.
        #[serde(skip_serializing_if = "Nanos::is_zero")]
        pause_remaining: Nanos,
    }
    /// `CONSUMER.UNPIN`.
    ConsumerUnpinResponse = "consumer_unpin_response", on error Nothing {}
    /// `CONSUMER.RESET`.
    ConsumerResetResponse = "consumer_reset_response", on error ResetSeq {
        /// The consumer.
        #[serde(flatten)]
        info: ConsumerInfo,
        /// Where it continues.
        reset_seq: StreamSeq,
    }
    /// `STREAM.CANCEL_MOVE`, `ACCOUNT.STREAM.CANCEL_MOVE`.
    StreamCancelMoveResponse = "stream_cancel_move_response", on error Nothing {
        /// The stream.
        #[serde(flatten)]
        info: StreamInfo,
    }
    /// `META.RESCUE`; every server sends one.
    MetaRescueResponse = "meta_rescue_response", on error Self {
        /// Name of the server.
        server: String,
        /// Its id.
        server_id: String,
        /// Servers that decided before.
        prev_quorum: i64,
        /// Servers that decide now.
        new_quorum: i64,
    }
    /// `ACCOUNT.PURGE`.
    AccountPurgeResponse = "account_purge_response", on error Nothing {
        /// It has begun.
        #[serde(skip_serializing_if = "is_false")]
        initiated: bool,
    }
    /// Any call from the system account that only accounts with JetStream may make.
    SystemResponse = "system_response", on error Nothing {}
}

success_responses! {
    /// `STREAM.DELETE`.
    StreamDeleteResponse = "stream_delete_response";
    /// `STREAM.MSG.DELETE`.
    MsgDeleteResponse = "stream_msg_delete_response";
    /// `STREAM.PEER.REMOVE`.
    StreamRemovePeerResponse = "stream_remove_peer_response";
    /// `STREAM.PEER.EVACUATE`.
    StreamEvacuatePeerResponse = "stream_evacuate_peer_response";
    /// `STREAM.LEADER.STEPDOWN`.
    StreamLeaderStepdownResponse = "stream_leader_stepdown_response";
    /// `CONSUMER.DELETE`.
    ConsumerDeleteResponse = "consumer_delete_response";
    /// `CONSUMER.LEADER.STEPDOWN`.
    ConsumerLeaderStepdownResponse = "consumer_leader_stepdown_response";
    /// `CONSUMER.PEER.REMOVE`.
    ConsumerRemovePeerResponse = "consumer_remove_peer_response";
    /// `CONSUMER.PEER.EVACUATE`.
    ConsumerEvacuatePeerResponse = "consumer_evacuate_peer_response";
    /// `META.LEADER.STEPDOWN`.
    MetaLeaderStepdownResponse = "meta_leader_stepdown_response";
    /// `SERVER.REMOVE`.
    MetaServerRemoveResponse = "meta_server_remove_response";
    /// `SERVER.EVACUATE`.
    MetaServerEvacuateResponse = "meta_server_evacuate_response";
}

/// What an error of `CONSUMER.RESET` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResetSeq {
    /// Always 0.
    pub reset_seq: StreamSeq,
}
