use linnet_assets::{Command, CommandOutcome};
use linnet_jsapi::decode;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::requests::{MsgDeleteRequest, MsgGetRequest};
use linnet_jsapi::responses::{MsgDeleteResponse, MsgGetResponse};

use super::Call;
use super::streams::find;

/// `STREAM.MSG.GET`.
pub(super) async fn get(call: &Call<'_>, stream: &str) -> Result<MsgGetResponse, ApiError> {
    decode::require_body(call.body)?;
    let request: MsgGetRequest = decode::decode(call.body, call.strictness())?.value;
    if request.is_bad_for_stream_get() {
        return Err(errors::BAD_REQUEST);
    }
    match find(call, stream)?.ask(Command::Get(request)).await? {
        CommandOutcome::Message(message) => Ok(MsgGetResponse { message: *message }),
        _ => Err(errors::NO_MESSAGE_FOUND),
    }
}

/// `STREAM.MSG.DELETE`.
pub(super) async fn delete(call: &Call<'_>, stream: &str) -> Result<MsgDeleteResponse, ApiError> {
    decode::require_body(call.body)?;
    let request: MsgDeleteRequest = decode::decode(call.body, call.strictness())?.value;
    let command = Command::DeleteMessage { seq: request.seq, erase: !request.no_erase };
    match find(call, stream)?.ask(command).await? {
        CommandOutcome::Deleted(true) => Ok(MsgDeleteResponse::default()),
        // Somebody else was faster.
        _ => Err(errors::stream_msg_delete_failed("no message found")),
    }
}

/// True for the error of `STREAM.MSG.DELETE` that says that the message is not there: the call is not counted as refused
/// (seen on nats-server 2.15.1).
pub(super) fn says_there_is_none(error: &ApiError) -> bool {
    let denied = errors::stream_msg_delete_failed(errors::DELETE_DENIED);
    error.err_code == errors::sequence_not_found(0).err_code
        || (error.err_code == denied.err_code && *error != denied)
}
