use linnet_assets::{Command, CommandOutcome, ConsumerCommand};
use linnet_ids::hash_base62;
use linnet_jsapi::consumer_rules::{SubjectForm, apply_subject_form, check_replicas_supported};
use linnet_jsapi::decode;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::{ConsumerInfo, Paging};
use linnet_jsapi::limits::{LIST_PAGE_MAX, NAMES_PAGE_MAX};
use linnet_jsapi::requests::{
    ConsumerPauseRequest, ConsumerResetRequest, ConsumerUnpinRequest, ConsumersRequest, CreateConsumerRequest,
};
use linnet_jsapi::responses::{
    ConsumerCreateResponse, ConsumerDeleteResponse, ConsumerInfoResponse, ConsumerListResponse,
    ConsumerNamesResponse, ConsumerPauseResponse, ConsumerResetResponse, ConsumerUnpinResponse,
};
use linnet_jsapi::subjects::ApiRequest;

use super::Call;
use super::streams::find;
use crate::catalogue::StreamHandle;

/// `CONSUMER.CREATE` and `CONSUMER.DURABLE.CREATE`.
pub(super) async fn create(
    call: &mut Call<'_>,
    api: &ApiRequest<'_>,
    stream: &str,
) -> Result<ConsumerCreateResponse, ApiError> {
    let mut request: CreateConsumerRequest = decode::decode(call.body, call.strictness())?.value;
    let form = SubjectForm::of(api).ok_or(errors::BAD_REQUEST)?;
    apply_subject_form(&mut request, stream, form)?;
    let limits = call.engine.limits_for(call.account);
    check_replicas_supported(&request.config, &limits)?;
    let handle = find(call, stream)?;
    check_identity(call, &handle)?;
    let is_for_stream = request.config.sourcing || request.config.direct;
    let command = ConsumerCommand::Create {
        request: Box::new(request),
        suggested_name: call.short_name(),
        limits: Box::new(limits),
    };
    match handle.ask(Command::Consumer(command)).await? {
        CommandOutcome::Consumer(info) => {
            call.engine.keep_consumer(call.account, &handle, &info.name).await?;
            call.identity = is_for_stream.then(|| identity_of(&handle));
            let cluster = call.engine.cluster_info(&handle).await;
            Ok(ConsumerCreateResponse { info: ConsumerInfo { cluster, ..*info } })
        }
        _ => Err(errors::CONSUMER_NOT_FOUND),
    }
}

/// What a stream is known by to those that read it: another one of the same name is noticed.
fn identity_of(handle: &StreamHandle) -> String {
    hash_base62::<8>(&handle.created().rfc3339())
}

/// Fails if the sender knows another stream by this name.
fn check_identity(call: &Call<'_>, handle: &StreamHandle) -> Result<(), ApiError> {
    let own = identity_of(handle);
    match call.expected_identity() {
        Some(known) if !known.is_empty() && known != own.as_bytes() => {
            let text = format!("expected {own}, got {}", String::from_utf8_lossy(known));
            Err(errors::consumer_stream_identity_mismatch(text))
        }
        _ => Ok(()),
    }
}

/// `CONSUMER.NAMES`.
pub(super) async fn names(call: &Call<'_>, stream: &str) -> Result<ConsumerNamesResponse, ApiError> {
    let request: ConsumersRequest = decode::decode_optional(call.body, call.strictness())?.value;
    let CommandOutcome::Names(names) =
        find(call, stream)?.ask(Command::Consumer(ConsumerCommand::Names)).await?
    else {
        return Err(errors::STREAM_NOT_FOUND);
    };
    let (paging, page) = Paging::at(names.len(), request.offset, NAMES_PAGE_MAX);
    Ok(ConsumerNamesResponse { paging, consumers: names.get(page).unwrap_or_default().to_vec() })
}

/// `CONSUMER.LIST`.
pub(super) async fn list(call: &Call<'_>, stream: &str) -> Result<ConsumerListResponse, ApiError> {
    let request: ConsumersRequest = decode::decode_optional(call.body, call.strictness())?.value;
    let handle = find(call, stream)?;
    let CommandOutcome::Consumers(all) = handle.ask(Command::Consumer(ConsumerCommand::List)).await? else {
        return Err(errors::STREAM_NOT_FOUND);
    };
    let cluster = call.engine.cluster_info(&handle).await;
    let (paging, page) = Paging::at(all.len(), request.offset, LIST_PAGE_MAX);
    let mut consumers = all.get(page).unwrap_or_default().to_vec();
    for info in &mut consumers {
        info.cluster.clone_from(&cluster);
        if let Some(config) = &mut info.config {
            config.metadata.remove(linnet_jsapi::metadata::LEVEL_KEY);
            config.metadata.remove(linnet_jsapi::metadata::VERSION_KEY);
        }
    }
    Ok(ConsumerListResponse { paging, consumers, ..ConsumerListResponse::default() })
}

/// `CONSUMER.INFO`.
pub(super) async fn info(
    call: &Call<'_>,
    stream: &str,
    consumer: &str,
) -> Result<ConsumerInfoResponse, ApiError> {
    decode::require_empty(call.body)?;
    let command = Command::Consumer(ConsumerCommand::Info(consumer.to_owned()));
    let handle = find(call, stream)?;
    match handle.ask(command).await? {
        CommandOutcome::Consumer(info) => {
            let cluster = call.engine.cluster_info(&handle).await;
            Ok(ConsumerInfoResponse { info: ConsumerInfo { cluster, ..*info } })
        }
        _ => Err(errors::CONSUMER_NOT_FOUND),
    }
}

/// `CONSUMER.PAUSE`. Without a time, or with one that is over, the consumer delivers again.
pub(super) async fn pause(
    call: &Call<'_>,
    stream: &str,
    consumer: &str,
) -> Result<ConsumerPauseResponse, ApiError> {
    let request: ConsumerPauseRequest = decode::decode_optional(call.body, call.strictness())?.value;
    let command = ConsumerCommand::Pause { consumer: consumer.to_owned(), until: request.pause_until };
    let handle = find(call, stream)?;
    let CommandOutcome::Consumer(info) = handle.ask(Command::Consumer(command)).await? else {
        return Err(errors::CONSUMER_NOT_FOUND);
    };
    call.engine.keep_consumer(call.account, &handle, consumer).await?;
    Ok(ConsumerPauseResponse {
        paused: info.paused,
        pause_until: info.config.and_then(|config| config.pause_until),
        pause_remaining: info.pause_remaining,
    })
}

/// `CONSUMER.UNPIN`.
pub(super) async fn unpin(
    call: &Call<'_>,
    stream: &str,
    consumer: &str,
) -> Result<ConsumerUnpinResponse, ApiError> {
    let request: ConsumerUnpinRequest = decode::decode_whole(call.body)?;
    if request.group.is_empty() {
        return Err(errors::invalid_json("consumer group not specified"));
    }
    let command = ConsumerCommand::Unpin { consumer: consumer.to_owned(), group: request.group };
    find(call, stream)?.ask(Command::Consumer(command)).await?;
    Ok(ConsumerUnpinResponse::default())
}

/// `CONSUMER.RESET`. Who says which stream it knows is told which one this is.
pub(super) async fn reset(
    call: &mut Call<'_>,
    stream: &str,
    consumer: &str,
) -> Result<ConsumerResetResponse, ApiError> {
    let request: ConsumerResetRequest = if decode::require_empty(call.body).is_ok() {
        Default::default()
    } else {
        decode::decode_whole(call.body)?
    };
    let command = ConsumerCommand::Reset { consumer: consumer.to_owned(), seq: request.seq };
    let handle = find(call, stream)?;
    match handle.ask(Command::Consumer(command)).await? {
        CommandOutcome::Reset(info, reset_seq) => {
            call.identity = call.expected_identity().map(|_| identity_of(&handle));
            Ok(ConsumerResetResponse { info: *info, reset_seq })
        }
        _ => Err(errors::CONSUMER_NOT_FOUND),
    }
}

/// `CONSUMER.DELETE`.
pub(super) async fn delete(
    call: &Call<'_>,
    stream: &str,
    consumer: &str,
) -> Result<ConsumerDeleteResponse, ApiError> {
    decode::require_empty(call.body)?;
    let command = Command::Consumer(ConsumerCommand::Delete(consumer.to_owned()));
    let handle = find(call, stream)?;
    handle.ask(command).await?;
    call.engine.keep_consumer(call.account, &handle, consumer).await?;
    Ok(ConsumerDeleteResponse::default())
}
