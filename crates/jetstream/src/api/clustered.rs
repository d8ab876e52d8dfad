//! The API in a cluster: every server hears every call, and one answers (jetstream-clustering 1.5).

use std::collections::BTreeMap;
use std::sync::Arc;

use linnet_ids::{GroupId, PeerId};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::{AccountInfo, AccountTier, ApiStats, Paging, StreamInfo};
use linnet_jsapi::limits::{LIST_PAGE_MAX, NAMES_PAGE_MAX};
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::requests::{
    PeerRequest, StepdownRequest, StreamConfigRequest, StreamListRequest, StreamNamesRequest,
};
use linnet_jsapi::responses::{
    AccountInfoResponse, AccountPurgeResponse, ConsumerLeaderStepdownResponse, MetaLeaderStepdownResponse,
    MetaRescueResponse, MetaServerEvacuateResponse, MetaServerRemoveResponse, StreamCreateResponse,
    StreamDeleteResponse, StreamEvacuatePeerResponse, StreamLeaderStepdownResponse, StreamListResponse,
    StreamNamesResponse, StreamRemovePeerResponse, StreamUpdateResponse,
};
use linnet_jsapi::stream_rules::{self, StreamCreate};
use linnet_jsapi::subjects::ApiRequest;
use linnet_jsapi::{API_LEVEL, decode, metadata};
use linnet_replication::Assignment;

use super::{Call, Outcome, error_of, operator, outcome};
use crate::advisories::StreamAction;
use crate::catalogue::{Known, StreamHandle};
use crate::engine::{Cluster, Facts, Responder};

/// How often an update is tried of a stream that becomes another one meanwhile.
const UPDATE_ATTEMPTS: u32 = 3;

/// Who answers a call.
pub(super) fn responder(call: &Call<'_>, cluster: &Cluster, api: &ApiRequest<'_>) -> Responder {
    let Some(stream) = api.stream().filter(|_| is_of_stream(api)) else { return cluster.meta_responder() };
    match cluster.view.stream(call.account.name(), stream) {
        // Its catalogue may be behind, for as long as this server is no member of the catalogue's group.
        None if !cluster.is_current()
            && call.account.stream(stream).is_some_and(|handle| call.engine.leads(&handle)) =>
        {
            Responder::Here
        }
        // Whoever decides which streams there are says that there is none.
        None => cluster.meta_responder(),
        Some(assignment) => {
            let here = call.account.stream(stream);
            // What is lost is answered where it was.
            let is_here = |handle: &Arc<StreamHandle>| call.engine.leads(handle) || handle.lost().is_some();
            if here.as_ref().is_some_and(is_here) {
                return Responder::Here;
            }
            let is_told = matches!(api, ApiRequest::StreamInfo { .. } | ApiRequest::ConsumerInfo { .. });
            if is_told && cluster.leads_meta() && cluster.is_offline(&assignment) {
                return Responder::Offline;
            }
            let now = call.engine.broker.clock().mono();
            let is_description = matches!(api, ApiRequest::StreamInfo { .. });
            cluster.stream_responder(&assignment, here.as_deref(), now, is_description)
        }
    }
}

/// The error for a stream of which no server is there, or for a consumer of it.
pub(super) fn offline(api: &ApiRequest<'_>) -> ApiError {
    match api {
        ApiRequest::ConsumerInfo { .. } => errors::CONSUMER_OFFLINE,
        _ => errors::STREAM_OFFLINE,
    }
}

/// True for what the leader of the stream answers, not that of the catalogue's group.
fn is_of_stream(api: &ApiRequest<'_>) -> bool {
    !matches!(
        api,
        ApiRequest::StreamCreate { .. }
            | ApiRequest::StreamUpdate { .. }
            | ApiRequest::StreamDelete { .. }
            | ApiRequest::StreamRestore { .. }
            | ApiRequest::StreamPeerRemove { .. }
            | ApiRequest::StreamPeerEvacuate { .. }
            | ApiRequest::StreamCancelMove { .. }
    )
}

/// Answers what is different in a cluster; `None` for the rest.
pub(super) async fn dispatch(
    call: &mut Call<'_>,
    cluster: &Arc<Cluster>,
    api: &ApiRequest<'_>,
) -> Option<Option<Outcome>> {
    Some(match *api {
        ApiRequest::AccountInfo => outcome(&info(call, cluster).await),
        ApiRequest::StreamCreate { stream } => outcome(&create(call, cluster, stream).await),
        ApiRequest::StreamUpdate { stream } => outcome(&update(call, cluster, stream).await),
        ApiRequest::StreamDelete { stream } => outcome(&delete(call, cluster, stream).await),
        ApiRequest::StreamNames => outcome(&names(call, cluster)),
        ApiRequest::StreamList => outcome(&list(call, cluster).await),
        ApiRequest::StreamLeaderStepdown { stream } => outcome(&step_down(call, cluster, stream).await),
        ApiRequest::ConsumerLeaderStepdown { stream, .. } => {
            let done = step_down(call, cluster, stream).await;
            outcome(&done.map(|_| ConsumerLeaderStepdownResponse::default()))
        }
        ApiRequest::StreamPeerRemove { stream } => {
            let done = replace_member(call, cluster, stream, false).await;
            outcome(&done.map(|()| StreamRemovePeerResponse::default()))
        }
        ApiRequest::StreamPeerEvacuate { stream } => {
            let done = replace_member(call, cluster, stream, true).await;
            outcome(&done.map(|()| StreamEvacuatePeerResponse::default()))
        }
        ApiRequest::StreamCancelMove { stream } => {
            let account = call.account.name();
            outcome(&operator::cancel_move(call.engine, cluster, account, stream).await)
        }
        _ => return None,
    })
}

/// What becomes of a call of the system account.
pub(super) enum OfSystem {
    Answered(Outcome),
    /// There is no leader, and may soon be one.
    Wait,
    /// Another server answers.
    Silent,
}

/// A call of the system account.
pub(super) async fn of_system(
    engine: &Arc<crate::Engine>,
    cluster: &Arc<Cluster>,
    api: &ApiRequest<'_>,
    body: &[u8],
    reply: &[u8],
) -> OfSystem {
    let refuse = |error: &ApiError| refusal(api, error).map_or(OfSystem::Silent, OfSystem::Answered);
    if matches!(api, ApiRequest::MetaRescue) {
        // Every server answers this one.
        return outcome(&operator::rescue(engine, cluster, body).await)
            .map_or(OfSystem::Silent, OfSystem::Answered);
    }
    match cluster.meta_responder() {
        Responder::Here => {}
        Responder::Unavailable => return refuse(&cluster.unavailable()),
        Responder::Elsewhere | Responder::Offline => return OfSystem::Wait,
    }
    let answer = match api {
        ApiRequest::MetaLeaderStepdown => {
            let done = hand_over(engine, cluster, GroupId::META, body).await;
            outcome(&done.map(|()| MetaLeaderStepdownResponse::default()))
        }
        ApiRequest::ServerRemove => match operator::remove_server(engine, cluster, body, reply).await {
            Ok(operator::Removal::Done) => outcome(&Ok(MetaServerRemoveResponse::default())),
            Ok(operator::Removal::AnsweredElsewhere) => return OfSystem::Silent,
            Err(error) => refusal(api, &error),
        },
        ApiRequest::ServerEvacuate => outcome(&operator::evacuate_server(engine, cluster, body).await),
        ApiRequest::AccountPurge { account } => {
            outcome(&operator::purge_account(engine, cluster, account).await)
        }
        ApiRequest::AccountStreamMove { account, stream } => {
            outcome(&operator::move_stream(engine, cluster, account, stream, body).await)
        }
        ApiRequest::AccountStreamCancelMove { account, stream } => {
            outcome(&operator::cancel_move(engine, cluster, account, stream).await)
        }
        _ => refusal(api, &errors::CLUSTER_UNSUPPORTED_FEATURE),
    };
    answer.map_or(OfSystem::Silent, OfSystem::Answered)
}

/// The error in the clothes of a call of the system account.
pub(super) fn refusal(api: &ApiRequest<'_>, error: &ApiError) -> Option<Outcome> {
    let body = match api {
        ApiRequest::MetaLeaderStepdown => error_of::<MetaLeaderStepdownResponse>(error),
        ApiRequest::MetaRescue => error_of::<MetaRescueResponse>(error),
        ApiRequest::ServerRemove => error_of::<MetaServerRemoveResponse>(error),
        ApiRequest::ServerEvacuate => error_of::<MetaServerEvacuateResponse>(error),
        ApiRequest::AccountPurge { .. } => error_of::<AccountPurgeResponse>(error),
        _ => return None,
    };
    Some(Outcome { body, failed: true })
}

async fn create(
    call: &mut Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
) -> Result<StreamCreateResponse, ApiError> {
    let request = decode::stream_config_request(call.body, call.strictness())?.value;
    let (engine, account) = (call.engine, call.account);
    let judge = |existing: Option<&Arc<Assignment>>| {
        let known = Known(cluster.view.streams_of(account.name()));
        let limits = engine.limits_for(account);
        stream_rules::check_create(stream, &request, existing.map(|a| &a.config), &known, &limits)
    };
    let find = || cluster.view.stream(account.name(), stream);
    // Nobody is asked for what is refused, or there already.
    let facts = match judge(find().as_ref())? {
        StreamCreate::New(_) => engine.facts(cluster).await,
        StreamCreate::Same => Facts::default(),
    };
    let (decided, existing) = {
        let _one_at_a_time = engine.changes.lock().await;
        let existing = find();
        match judge(existing.as_ref())? {
            StreamCreate::New(config) => {
                (Some(engine.create_clustered(cluster, account.name(), *config, &facts).await?), None)
            }
            StreamCreate::Same => (None, existing),
        }
    };
    let mut info = match decided {
        Some(assignment) => {
            let info = engine.describe_new(cluster, &assignment).await?;
            call.action = Some((stream.to_owned(), StreamAction::Created));
            info
        }
        None => engine.describe_clustered(cluster, &*existing.ok_or(errors::STREAM_NOT_FOUND)?).await?,
    };
    metadata::add_server_keys(&mut info.config.metadata);
    info.domain = None;
    Ok(StreamCreateResponse { info, did_create: true })
}

async fn update(
    call: &mut Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
) -> Result<StreamUpdateResponse, ApiError> {
    let request = decode::stream_config_request(call.body, call.strictness())?.value;
    let mut info = None;
    for _ in 0..UPDATE_ATTEMPTS {
        info = try_update(call, cluster, stream, &request).await?;
        if info.is_some() {
            break;
        }
    }
    let mut info = info.ok_or(errors::CLUSTER_NOT_AVAIL)?;
    call.action = Some((stream.to_owned(), StreamAction::Updated));
    metadata::add_server_keys(&mut info.config.metadata);
    Ok(StreamUpdateResponse { info })
}

/// `None` if the stream became another one while others were asked about it.
async fn try_update(
    call: &Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
    request: &StreamConfigRequest,
) -> Result<Option<StreamInfo>, ApiError> {
    let (engine, account) = (call.engine, call.account);
    let find = || cluster.view.stream(account.name(), stream);
    let before = find();
    let consumers = match &before {
        Some(existing) => engine.consumer_configs(cluster, existing).await?,
        None => Vec::new(),
    };
    let judge = |existing: Option<&Arc<Assignment>>| {
        let known = Known(cluster.view.streams_of(account.name()));
        let mut limits = engine.limits_for(account);
        limits.streams = (limits.streams - 1).max(0);
        stream_rules::check_update(
            stream,
            request,
            existing.map(|a| &a.config),
            consumers.iter().map(|(name, config)| (name.as_str(), config)),
            &known,
            &limits,
        )
    };
    let config = judge(before.as_ref())?;
    let before = before.ok_or_else(|| cluster.not_found())?;
    let facts = engine.reshaping_facts(cluster, &before, &config).await?;
    let (assignment, seq) = {
        let _one_at_a_time = engine.changes.lock().await;
        let present = find();
        let config = judge(present.as_ref())?;
        let present = present.ok_or_else(|| cluster.not_found())?;
        let is_the_same = present.group == before.group
            && present.config == before.config
            && present.replicas() == before.replicas();
        if !is_the_same {
            return Ok(None);
        }
        engine.update_clustered(cluster, &present, config, &facts).await?
    };
    engine.describe_updated(cluster, &assignment, seq).await.map(Some)
}

async fn delete(
    call: &mut Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
) -> Result<StreamDeleteResponse, ApiError> {
    decode::require_empty(call.body)?;
    let existing = cluster.find(call.account.name(), stream)?;
    call.engine.delete_clustered(cluster, &existing).await?;
    call.action = Some((stream.to_owned(), StreamAction::Deleted));
    Ok(StreamDeleteResponse::default())
}

/// Names of the streams that have a subject overlapping `filter`, in order.
fn matching(call: &Call<'_>, cluster: &Cluster, filter: &str) -> Vec<String> {
    let streams = cluster.view.streams_of(call.account.name()).into_iter();
    let matches = |subjects: &[String]| {
        filter.is_empty()
            || subjects.iter().any(|own| linnet_subject::overlaps(own.as_bytes(), filter.as_bytes()))
    };
    streams.filter(|a| matches(&a.config.subjects)).map(|a| a.config.name.clone()).collect()
}

fn names(call: &Call<'_>, cluster: &Cluster) -> Result<StreamNamesResponse, ApiError> {
    let request: StreamNamesRequest = decode::decode_optional(call.body, call.strictness())?.value;
    let all = matching(call, cluster, &request.subject);
    let (paging, page) = Paging::at(all.len(), request.offset, NAMES_PAGE_MAX);
    let names = all.get(page).unwrap_or_default().to_vec();
    Ok(StreamNamesResponse { paging, streams: (!names.is_empty()).then_some(names) })
}

async fn list(call: &Call<'_>, cluster: &Arc<Cluster>) -> Result<StreamListResponse, ApiError> {
    let request: StreamListRequest = decode::decode_optional(call.body, call.strictness())?.value;
    let all = matching(call, cluster, &request.subject);
    let (paging, page) = Paging::at(all.len(), request.offset, LIST_PAGE_MAX);
    let infos = call.engine.streams_everywhere(cluster, call.account.name()).await;
    let mut known: BTreeMap<String, _> = infos.into_iter().map(|i| (i.config.name.clone(), i)).collect();
    let mut response = StreamListResponse { paging, ..StreamListResponse::default() };
    for name in all.get(page).unwrap_or_default() {
        match known.remove(name) {
            Some(info) => response.streams.push(info),
            None => {
                let assignment = cluster.view.stream(call.account.name(), name);
                if let Some(assignment) = assignment.filter(|assignment| cluster.is_offline(assignment)) {
                    response.streams.push(call.engine.describe_offline(cluster, &assignment));
                }
                response.missing.push(name.clone());
            }
        }
    }
    Ok(response)
}

async fn info(call: &Call<'_>, cluster: &Arc<Cluster>) -> Result<AccountInfoResponse, ApiError> {
    let account = call.account;
    let usage = call.engine.usage_everywhere(cluster, account.name()).await;
    let (reserved_memory, reserved_storage) = reserved(&cluster.view.streams_of(account.name()));
    let (total, errors) = account.api_counts();
    let domain = &call.engine.config.domain;
    Ok(AccountInfoResponse {
        info: AccountInfo {
            total: AccountTier {
                memory: usage.memory,
                storage: usage.storage,
                reserved_memory,
                reserved_storage,
                streams: cluster.view.streams_of(account.name()).len() as u64,
                consumers: usage.consumers,
                limits: account.limits(),
            },
            domain: (!domain.is_empty()).then(|| domain.clone()),
            api: ApiStats { level: API_LEVEL, total: total.saturating_sub(1), errors, inflight: 0 },
            ..AccountInfo::default()
        },
    })
}

/// Bytes that streams with a bound may come to take, one replica of each: memory, storage.
fn reserved(streams: &[Arc<Assignment>]) -> (u64, u64) {
    let mut reserved = (0, 0);
    for assignment in streams {
        let bytes = u64::try_from(assignment.config.max_bytes).unwrap_or(0);
        let sum: &mut u64 = match assignment.config.storage {
            StorageType::Memory => &mut reserved.0,
            StorageType::File => &mut reserved.1,
        };
        *sum = sum.saturating_add(bytes);
    }
    reserved
}

async fn step_down(
    call: &Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
) -> Result<StreamLeaderStepdownResponse, ApiError> {
    let handle = super::streams::find(call, stream)?;
    if handle.is_replica() {
        hand_over(call.engine, cluster, handle.group(), call.body).await?;
    }
    Ok(StreamLeaderStepdownResponse::default())
}

/// Hands the leadership of a group to another server (jetstream-clustering 1.13).
async fn hand_over(
    engine: &Arc<crate::Engine>,
    cluster: &Arc<Cluster>,
    group: GroupId,
    body: &[u8],
) -> Result<(), ApiError> {
    let request: StepdownRequest = decode::decode_optional(body, decode::Strictness::Strict)?.value;
    engine.give_way(cluster, group, request.placement.as_ref()).await
}

/// Takes a stream off a server (jetstream-clustering 1.12). It is answered once that is decided.
async fn replace_member(
    call: &Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
    stays_until_replaced: bool,
) -> Result<(), ApiError> {
    let request: PeerRequest =
        decode::decode(call.body, decode::Strictness::Strict).map_err(|_| errors::BAD_REQUEST)?.value;
    if request.peer.is_empty() {
        return Err(errors::BAD_REQUEST);
    }
    let present = cluster.find(call.account.name(), stream)?;
    let peers: Vec<PeerId> = present.replicas().into_iter().map(|r| r.peer).collect();
    let by_id = request.peer.parse::<PeerId>().ok().filter(|id| peers.contains(id));
    let peer = by_id.unwrap_or_else(|| PeerId::of_name(&request.peer));
    call.engine.replace_member(cluster, &present, peer, stays_until_replaced).await
}
