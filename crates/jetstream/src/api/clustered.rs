//! The API in a cluster: every server hears every call, and one answers (jetstream-clustering 1.5).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, PeerId};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::{AccountInfo, AccountTier, ApiStats, Paging};
use linnet_jsapi::limits::{LIST_PAGE_MAX, NAMES_PAGE_MAX};
use linnet_jsapi::requests::{
    MetaServerRequest, PeerRequest, StepdownRequest, StreamListRequest, StreamNamesRequest,
};
use linnet_jsapi::responses::{
    AccountInfoResponse, ConsumerLeaderStepdownResponse, MetaLeaderStepdownResponse,
    MetaServerRemoveResponse, StreamCreateResponse, StreamDeleteResponse, StreamEvacuatePeerResponse,
    StreamLeaderStepdownResponse, StreamListResponse, StreamNamesResponse, StreamRemovePeerResponse,
    StreamUpdateResponse,
};
use linnet_jsapi::stream_rules::{self, OtherStreams, StreamCreate};
use linnet_jsapi::subjects::ApiRequest;
use linnet_jsapi::{API_LEVEL, StreamConfig, decode, metadata};
use linnet_raft::{Change, Refused};
use linnet_replication::Assignment;

use super::{Call, Outcome, outcome};
use crate::advisories::StreamAction;
use crate::catalogue::StreamHandle;
use crate::engine::{Cluster, Responder};

/// How long a hand-over may take before the present leader goes on.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// The streams of an account, for the rules.
struct Known(Vec<Arc<Assignment>>);

impl OtherStreams for Known {
    fn overlaps(&self, subject: &str, except: &str) -> bool {
        let others = self.0.iter().filter(|a| a.config.name != except);
        others
            .flat_map(|a| &a.config.subjects)
            .any(|other| linnet_subject::overlaps(subject.as_bytes(), other.as_bytes()))
    }

    fn config(&self, name: &str) -> Option<StreamConfig> {
        self.0.iter().find(|a| a.config.name == name).map(|a| a.config.clone())
    }
}

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
            let done = replace_member(call, cluster, stream).await;
            outcome(&done.map(|()| StreamRemovePeerResponse::default()))
        }
        ApiRequest::StreamPeerEvacuate { stream } => {
            let done = replace_member(call, cluster, stream).await;
            outcome(&done.map(|()| StreamEvacuatePeerResponse::default()))
        }
        _ => return None,
    })
}

/// A call of the system account; `None` if another server answers, or nobody.
pub(super) async fn of_system(
    engine: &Arc<crate::Engine>,
    cluster: &Arc<Cluster>,
    api: &ApiRequest<'_>,
    body: &[u8],
) -> Option<Outcome> {
    if !cluster.leads_meta() {
        return None;
    }
    match api {
        ApiRequest::MetaLeaderStepdown => {
            let done = hand_over(engine, cluster, GroupId::META, body).await;
            outcome(&done.map(|()| MetaLeaderStepdownResponse::default()))
        }
        ApiRequest::ServerRemove => outcome(&remove_server(engine, cluster, body).await),
        _ => None,
    }
}

async fn create(
    call: &mut Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
) -> Result<StreamCreateResponse, ApiError> {
    let request = decode::stream_config_request(call.body, call.strictness())?.value;
    let engine = call.engine;
    let _one_at_a_time = engine.changes.lock().await;
    let account = call.account.name();
    let existing = cluster.view.stream(account, stream);
    let known = Known(cluster.view.streams_of(account));
    let limits = engine.limits_for(call.account);
    let config = existing.as_ref().map(|a| &a.config);
    let mut info = match stream_rules::check_create(stream, &request, config, &known, &limits)? {
        StreamCreate::New(config) => {
            let info = engine.create_clustered(cluster, account, *config).await?;
            call.action = Some((stream.to_owned(), StreamAction::Created));
            info
        }
        StreamCreate::Same => {
            let existing = existing.ok_or(errors::STREAM_NOT_FOUND)?;
            engine.describe_clustered(cluster, &existing).await?
        }
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
    let engine = call.engine;
    let _one_at_a_time = engine.changes.lock().await;
    let account = call.account.name();
    let existing = cluster.view.stream(account, stream);
    let known = Known(cluster.view.streams_of(account));
    let consumers = match &existing {
        Some(existing) => engine.consumer_configs(cluster, existing).await?,
        None => Vec::new(),
    };
    let mut limits = engine.limits_for(call.account);
    limits.streams = (limits.streams - 1).max(0);
    let config = stream_rules::check_update(
        stream,
        &request,
        existing.as_ref().map(|a| &a.config),
        consumers.iter().map(|(name, config)| (name.as_str(), config)),
        &known,
        &limits,
    )?;
    let existing = existing.ok_or(errors::STREAM_NOT_FOUND)?;
    let mut info = engine.update_clustered(cluster, &existing, config).await?;
    call.action = Some((stream.to_owned(), StreamAction::Updated));
    metadata::add_server_keys(&mut info.config.metadata);
    Ok(StreamUpdateResponse { info })
}

async fn delete(
    call: &mut Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
) -> Result<StreamDeleteResponse, ApiError> {
    decode::require_empty(call.body)?;
    let engine = call.engine;
    let _one_at_a_time = engine.changes.lock().await;
    let existing = cluster.view.stream(call.account.name(), stream).ok_or(errors::STREAM_NOT_FOUND)?;
    engine.delete_clustered(cluster, &existing).await?;
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
    let limits = call.engine.limits_for(account);
    let amount = |n: i64| u64::try_from(n).unwrap_or(0);
    let (total, errors) = account.api_counts();
    let domain = &call.engine.config.domain;
    Ok(AccountInfoResponse {
        info: AccountInfo {
            total: AccountTier {
                memory: usage.memory,
                storage: usage.storage,
                reserved_memory: amount(limits.account_reserved.memory),
                reserved_storage: amount(limits.account_reserved.storage),
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

async fn step_down(
    call: &Call<'_>,
    cluster: &Arc<Cluster>,
    stream: &str,
) -> Result<StreamLeaderStepdownResponse, ApiError> {
    let handle = super::streams::find(call, stream)?;
    if handle.is_replica {
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
    let request: StepdownRequest = decode::decode_optional(body, decode::Strictness::Lenient)?.value;
    let placement = request.placement.unwrap_or_default();
    let preferred = Some(placement.preferred.as_str()).filter(|name| !name.is_empty());
    let peers = cluster.link.peers();
    let preferred = match preferred {
        None => None,
        Some(name) if name == engine.place.server => {
            return Err(errors::cluster_no_peers(format!("preferred server {name:?} is already leader")));
        }
        Some(name) => match peers.iter().find(|p| p.name == name) {
            Some(peer) => Some(peer.id),
            None => return Err(errors::cluster_no_peers(format!("preferred server {name:?} not known"))),
        },
    };
    let fits = |peer: &crate::cluster::PeerView| {
        (placement.cluster.is_empty() || placement.cluster == peer.cluster)
            && peer.is_reachable
            && !peer.is_offline
    };
    let able: Vec<PeerId> = peers.iter().filter(|p| fits(p)).map(|p| p.id).collect();
    let moved = engine.act_and_tell(group, move |replica, now, log| {
        let status = replica.status()?;
        let voters = status.membership.voters().map(|m| m.peer).filter(|peer| able.contains(peer));
        let ranked = voters.filter_map(|peer| {
            let progress = replica.progress(peer).filter(|p| !p.is_amnesiac)?;
            Some((Some(peer) == preferred, progress.matched, peer))
        });
        let (_, _, to) = ranked.max()?;
        Some(replica.transfer(now, to, HAND_OVER_WITHIN, log))
    });
    match moved.await.flatten() {
        Some(Ok(()) | Err(Refused::GivingWay)) => Ok(()),
        Some(Err(_)) => Err(errors::CLUSTER_NOT_LEADER),
        None => Err(errors::cluster_no_peers("no replacement peer connected".to_owned())),
    }
}

/// Takes a stream off a server (jetstream-clustering 1.12). It is answered once that is decided.
async fn replace_member(call: &Call<'_>, cluster: &Arc<Cluster>, stream: &str) -> Result<(), ApiError> {
    let request: PeerRequest =
        decode::decode(call.body, decode::Strictness::Strict).map_err(|_| errors::BAD_REQUEST)?.value;
    if request.peer.is_empty() {
        return Err(errors::BAD_REQUEST);
    }
    let _one_at_a_time = call.engine.changes.lock().await;
    let present = cluster.view.stream(call.account.name(), stream).ok_or(errors::STREAM_NOT_FOUND)?;
    let peers: Vec<PeerId> = present.replicas().into_iter().map(|r| r.peer).collect();
    let by_id = request.peer.parse::<PeerId>().ok().filter(|id| peers.contains(id));
    let peer = by_id.unwrap_or_else(|| PeerId::of_name(&request.peer));
    call.engine.replace_member(cluster, &present, peer).await
}

/// Takes a server out of the catalogue's group (jetstream-clustering 1.12). It is answered once that is decided.
async fn remove_server(
    engine: &Arc<crate::Engine>,
    cluster: &Arc<Cluster>,
    body: &[u8],
) -> Result<MetaServerRemoveResponse, ApiError> {
    let request: MetaServerRequest =
        decode::decode(body, decode::Strictness::Strict).map_err(|_| errors::BAD_REQUEST)?.value;
    let by_id = request.peer_id.parse::<PeerId>().ok();
    let meta = cluster.meta();
    let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
    let peer = match by_id {
        Some(id) => members.iter().map(|m| m.peer).find(|peer| *peer == id),
        None if request.peer.is_empty() => return Err(errors::BAD_REQUEST),
        None => members.iter().map(|m| m.peer).find(|peer| *peer == PeerId::of_name(&request.peer)),
    };
    let peer = peer.ok_or(errors::CLUSTER_SERVER_NOT_MEMBER)?;
    drop(meta);
    cluster.note_removed(peer);
    let proposed = engine.act_and_tell(GroupId::META, move |replica, now, log| {
        replica.change_membership(now, Change::Remove(peer), log)
    });
    let index = match proposed.await {
        Some(Ok(index)) => index,
        Some(Err(Refused::ChangeInProgress)) => return Err(errors::CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT),
        Some(Err(e)) => return Err(errors::raft_general(e.to_string())),
        None => return Err(errors::CLUSTER_NOT_LEADER),
    };
    tracing::warn!("Peer {peer} is removed from the meta group by an operator");
    engine.wait_for_commit(GroupId::META, index).await?;
    Ok(MetaServerRemoveResponse::default())
}
