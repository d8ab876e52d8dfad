//! Responses of a real nats-server, read into our types and written again: the bytes must not change.

use linnet_jsapi::errors::ApiError;
use linnet_jsapi::responses::{self, Response};
use linnet_jsapi::responses::{
    AccountInfoResponse, ConsumerCreateResponse, ConsumerDeleteResponse, ConsumerEvacuatePeerResponse,
    ConsumerInfoResponse, ConsumerLeaderStepdownResponse, ConsumerListResponse, ConsumerNamesResponse,
    ConsumerPauseResponse, ConsumerRemovePeerResponse, ConsumerResetResponse, ConsumerUnpinResponse,
    MsgDeleteResponse, MsgGetResponse, StreamCancelMoveResponse, StreamCreateResponse, StreamDeleteResponse,
    StreamEvacuatePeerResponse, StreamInfoResponse, StreamLeaderStepdownResponse, StreamListResponse,
    StreamNamesResponse, StreamPurgeResponse, StreamRemovePeerResponse, StreamRestoreResponse,
    StreamSnapshotResponse, StreamUpdateResponse,
};
use linnet_jsapi::subjects::AckSubject;
use serde::de::DeserializeOwned;

const RESPONSES: &str = include_str!("../testdata/responses.txt");

fn check<R: Response + DeserializeOwned>(json: &str) {
    let value: serde_json::Value = serde_json::from_str(json).expect("recorded JSON");
    let written = match value.get("error") {
        Some(error) => {
            let error: ApiError = serde_json::from_value(error.clone()).expect("an error");
            responses::error::<R>(&error)
        }
        None => responses::ok(&serde_json::from_value::<R>(value).expect("a response")),
    };
    assert_eq!(String::from_utf8(written).expect("text"), json);
}

#[test]
fn responses_are_written_as_the_reference_server_writes_them() {
    let mut checked = 0;
    for line in RESPONSES.lines().filter(|line| !line.starts_with('#')) {
        let (kind, text) = line.split_once('\t').unwrap();
        match kind.trim_end_matches("_error") {
            "account_info" => check::<AccountInfoResponse>(text),
            "stream_create" => check::<StreamCreateResponse>(text),
            "stream_update" => check::<StreamUpdateResponse>(text),
            "stream_info" => check::<StreamInfoResponse>(text),
            "stream_names" => check::<StreamNamesResponse>(text),
            "stream_list" => check::<StreamListResponse>(text),
            "stream_purge" => check::<StreamPurgeResponse>(text),
            "stream_delete" => check::<StreamDeleteResponse>(text),
            "stream_snapshot" => check::<StreamSnapshotResponse>(text),
            "stream_restore" => check::<StreamRestoreResponse>(text),
            "stream_leader_stepdown" => check::<StreamLeaderStepdownResponse>(text),
            "stream_remove_peer" => check::<StreamRemovePeerResponse>(text),
            "stream_evacuate_peer" => check::<StreamEvacuatePeerResponse>(text),
            "stream_cancel_move" => check::<StreamCancelMoveResponse>(text),
            "msg_get" => check::<MsgGetResponse>(text),
            "msg_delete" => check::<MsgDeleteResponse>(text),
            "consumer_create" => check::<ConsumerCreateResponse>(text),
            "consumer_info" => check::<ConsumerInfoResponse>(text),
            "consumer_names" => check::<ConsumerNamesResponse>(text),
            "consumer_list" => check::<ConsumerListResponse>(text),
            "consumer_pause" => check::<ConsumerPauseResponse>(text),
            "consumer_reset" => check::<ConsumerResetResponse>(text),
            "consumer_unpin" => check::<ConsumerUnpinResponse>(text),
            "consumer_delete" => check::<ConsumerDeleteResponse>(text),
            "consumer_leader_stepdown" => check::<ConsumerLeaderStepdownResponse>(text),
            "consumer_remove_peer" => check::<ConsumerRemovePeerResponse>(text),
            "consumer_evacuate_peer" => check::<ConsumerEvacuatePeerResponse>(text),
            "ack_subject" => {
                let parsed = AckSubject::parse(text.as_bytes()).unwrap();
                let mut written = Vec::new();
                parsed.write(&mut written);
                assert_eq!(String::from_utf8(written).unwrap(), text);
            }
            other => panic!("{other} is not a kind of response"),
        }
        checked += 1;
    }
    assert!(checked > 50);
}
