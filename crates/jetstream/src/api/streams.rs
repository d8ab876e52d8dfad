use std::collections::BTreeMap;
use std::sync::Arc;

use linnet_assets::{Command, CommandOutcome, ConsumerCommand, Purge, StreamReport};
use linnet_jsapi::decode;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::{ClusterInfo, Paging, StreamInfo};
use linnet_jsapi::limits::{LIST_PAGE_MAX, NAMES_PAGE_MAX, SUBJECTS_PAGE_MAX};
use linnet_jsapi::metadata;
use linnet_jsapi::requests::{StreamInfoRequest, StreamListRequest, StreamNamesRequest, StreamPurgeRequest};
use linnet_jsapi::responses::{
    StreamCreateResponse, StreamDeleteResponse, StreamInfoResponse, StreamListResponse, StreamNamesResponse,
    StreamPurgeResponse, StreamUpdateResponse,
};
use linnet_jsapi::stream_rules::{self, StreamCreate};

use super::Call;
use crate::advisories::StreamAction;
use crate::catalogue::{Others, StreamHandle};

/// The stream, or the error every call answers when there is none.
pub(super) fn find(call: &Call<'_>, stream: &str) -> Result<Arc<StreamHandle>, ApiError> {
    call.account.stream(stream).ok_or(errors::STREAM_NOT_FOUND)
}

/// Fails for a stream that could not be recovered: what it holds is unknown.
fn require_served(stream: Option<&Arc<StreamHandle>>) -> Result<(), ApiError> {
    if stream.is_some_and(|s| s.lost().is_some()) { Err(errors::STREAM_OFFLINE) } else { Ok(()) }
}

async fn report(
    handle: &StreamHandle,
    subjects: Option<String>,
    deleted: bool,
) -> Result<StreamReport, ApiError> {
    match handle.ask(Command::State { subjects, deleted }).await? {
        CommandOutcome::State(report) => Ok(*report),
        _ => Err(errors::STREAM_NOT_FOUND),
    }
}

/// What create, update and info tell of a stream.
fn describe(
    call: &Call<'_>,
    handle: &StreamHandle,
    report: StreamReport,
    with_server_keys: bool,
) -> StreamInfo {
    let mut config = (*handle.config()).clone();
    if with_server_keys {
        metadata::add_server_keys(&mut config.metadata);
    }
    StreamInfo {
        config,
        created: handle.created(),
        state: report.state,
        mirror: report.mirror,
        sources: report.sources,
        timestamp: call.engine.broker.clock().wall(),
        ..StreamInfo::default()
    }
}

fn domain(call: &Call<'_>) -> Option<String> {
    Some(call.engine.config.domain.clone()).filter(|d| !d.is_empty())
}

/// `STREAM.CREATE`.
pub(super) async fn create(call: &mut Call<'_>, stream: &str) -> Result<StreamCreateResponse, ApiError> {
    let request = decode::stream_config_request(call.body, call.strictness())?.value;
    let engine = call.engine;
    let _one_at_a_time = engine.changes.lock().await;
    let existing = call.account.stream(stream);
    require_served(existing.as_ref())?;
    let existing_config = existing.as_ref().map(|s| s.config());
    let limits = engine.limits_for(call.account);
    let judged = stream_rules::check_create(
        stream,
        &request,
        existing_config.as_deref(),
        &Others(call.account),
        &limits,
    )?;
    let handle = match (judged, existing) {
        (StreamCreate::Same, Some(existing)) => existing,
        (StreamCreate::Same, None) => return Err(errors::STREAM_NOT_FOUND),
        (StreamCreate::New(config), _) => {
            let handle = engine.create_stream(call.account, *config).await?;
            call.action = Some((stream.to_owned(), StreamAction::Created));
            handle
        }
    };
    let report = report(&handle, None, false).await?;
    Ok(StreamCreateResponse { info: describe(call, &handle, report, true), did_create: true })
}

/// `STREAM.UPDATE`.
pub(super) async fn update(call: &mut Call<'_>, stream: &str) -> Result<StreamUpdateResponse, ApiError> {
    let request = decode::stream_config_request(call.body, call.strictness())?.value;
    let engine = call.engine;
    let _one_at_a_time = engine.changes.lock().await;
    let existing = call.account.stream(stream);
    require_served(existing.as_ref())?;
    let existing_config = existing.as_ref().map(|s| s.config());
    let consumers = match &existing {
        Some(handle) => match handle.ask(Command::Consumer(ConsumerCommand::Configs)).await {
            Ok(CommandOutcome::Configs(configs)) => configs,
            _ => Vec::new(),
        },
        None => Vec::new(),
    };
    let mut limits = engine.limits_for(call.account);
    limits.streams = (limits.streams - 1).max(0);
    let config = stream_rules::check_update(
        stream,
        &request,
        existing_config.as_deref(),
        consumers.iter().map(|(name, config)| (name.as_str(), config)),
        &Others(call.account),
        &limits,
    )?;
    let handle = existing.ok_or(errors::STREAM_NOT_FOUND)?;
    engine.update_stream(call.account, &handle, config).await?;
    call.action = Some((stream.to_owned(), StreamAction::Updated));
    let report = report(&handle, None, false).await?;
    let mut info = describe(call, &handle, report, true);
    info.domain = domain(call);
    Ok(StreamUpdateResponse { info })
}

/// The streams that have a subject overlapping `filter`, by name.
fn matching(call: &Call<'_>, filter: &str) -> Vec<Arc<StreamHandle>> {
    let streams = call.account.streams().into_iter();
    if filter.is_empty() {
        return streams.collect();
    }
    streams
        .filter(|s| {
            s.config().subjects.iter().any(|own| linnet_subject::overlaps(own.as_bytes(), filter.as_bytes()))
        })
        .collect()
}

/// `STREAM.NAMES`.
pub(super) fn names(call: &Call<'_>) -> Result<StreamNamesResponse, ApiError> {
    let request: StreamNamesRequest = decode::decode_optional(call.body, call.strictness())?.value;
    let streams = matching(call, &request.subject);
    let (paging, page) = Paging::at(streams.len(), request.offset, NAMES_PAGE_MAX);
    let names: Vec<String> =
        streams.get(page).unwrap_or_default().iter().map(|s| s.config().name.clone()).collect();
    Ok(StreamNamesResponse { paging, streams: (!names.is_empty()).then_some(names) })
}

/// `STREAM.LIST`.
pub(super) async fn list(call: &Call<'_>) -> Result<StreamListResponse, ApiError> {
    let request: StreamListRequest = decode::decode_optional(call.body, call.strictness())?.value;
    let all = matching(call, &request.subject);
    let (paging, page) = Paging::at(all.len(), request.offset, LIST_PAGE_MAX);
    let mut streams = Vec::new();
    let mut missing = Vec::new();
    let mut offline = BTreeMap::new();
    for handle in all.get(page).unwrap_or_default() {
        match report(handle, None, false).await {
            Ok(report) => {
                let mut info = describe(call, handle, report, false);
                info.domain = domain(call);
                streams.push(info);
            }
            Err(_) => {
                let name = handle.config().name.clone();
                offline.extend(handle.lost().map(|reason| (name.clone(), reason.to_owned())));
                missing.push(name);
            }
        }
    }
    Ok(StreamListResponse { paging, streams, missing, offline })
}

/// `STREAM.INFO`.
pub(super) async fn info(call: &Call<'_>, stream: &str) -> Result<StreamInfoResponse, ApiError> {
    let request: StreamInfoRequest = decode::decode_optional(call.body, call.strictness())?.value;
    let handle = find(call, stream)?;
    let wanted = Some(request.subjects_filter.clone()).filter(|f| !f.is_empty());
    let mut report = report(&handle, wanted.clone(), request.deleted_details).await?;
    let state = &mut report.state;
    let mut paging = Paging::default();
    if wanted.is_some() {
        let subjects = std::mem::take(&mut state.subjects);
        let (at, page) = Paging::at(subjects.len(), request.offset, SUBJECTS_PAGE_MAX);
        if !subjects.is_empty() {
            // Unlike those of the lists, this offset is told as it was asked for.
            paging = Paging { offset: request.offset.max(0), ..at };
        }
        state.subjects = subjects.into_iter().skip(page.start).take(page.len()).collect::<BTreeMap<_, _>>();
    }
    let mut info = describe(call, &handle, report, true);
    info.domain = domain(call);
    info.cluster = match call.engine.cluster_info(&handle).await {
        None => Some(ClusterInfo { leader: call.engine.place.server.clone(), ..ClusterInfo::default() }),
        cluster => cluster,
    };
    if let Some(cluster) = &call.engine.cluster {
        info.alternates = call.engine.alternates(cluster, call.account.name(), stream);
    }
    Ok(StreamInfoResponse { paging, info })
}

/// `STREAM.DELETE`.
pub(super) async fn delete(call: &mut Call<'_>, stream: &str) -> Result<StreamDeleteResponse, ApiError> {
    decode::require_empty(call.body)?;
    let engine = call.engine;
    let _one_at_a_time = engine.changes.lock().await;
    let handle = find(call, stream)?;
    engine.delete_stream(call.account, &handle).await?;
    call.action = Some((stream.to_owned(), StreamAction::Deleted));
    Ok(StreamDeleteResponse::default())
}

/// `STREAM.PURGE`.
pub(super) async fn purge(call: &Call<'_>, stream: &str) -> Result<StreamPurgeResponse, ApiError> {
    let request: StreamPurgeRequest = decode::decode_optional(call.body, call.strictness())?.value;
    if request.is_bad() {
        return Err(errors::BAD_REQUEST);
    }
    let handle = find(call, stream)?;
    let purge = Purge { filter: request.filter, below: request.sequence, keep: request.keep };
    match handle.ask(Command::Purge(purge)).await? {
        CommandOutcome::Purged(purged) => Ok(StreamPurgeResponse { success: true, purged }),
        _ => Err(errors::STREAM_NOT_FOUND),
    }
}
