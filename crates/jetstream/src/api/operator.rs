//! What operators ask of a cluster, through the system account or for a stream (jetstream-clustering 1.10, 1.12, 1.14).

use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, PeerId};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_jsapi::requests::{MetaRescueRequest, MetaServerRequest, StreamMoveRequest};
use linnet_jsapi::responses::{
    AccountPurgeResponse, MetaRescueResponse, MetaServerEvacuateResponse, StreamCancelMoveResponse,
    StreamUpdateResponse,
};
use linnet_jsapi::{decode, metadata};
use linnet_raft::NotRescued;
use linnet_replication::Assignment;

use crate::Engine;
use crate::engine::Cluster;

/// How long a rescue is allowed (jetstream-clustering 0).
const RESCUE_WITHIN: Duration = Duration::from_secs(300);

/// The member of the catalogue's group that a request names.
fn named_server(cluster: &Cluster, body: &[u8]) -> Result<PeerId, ApiError> {
    let request: MetaServerRequest =
        decode::decode(body, decode::Strictness::Strict).map_err(|_| errors::BAD_REQUEST)?.value;
    let meta = cluster.meta();
    let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
    let mut peers = members.iter().map(|m| m.peer);
    let peer = match (request.peer_id.as_str(), request.peer.as_str()) {
        ("", "") => return Err(errors::BAD_REQUEST),
        ("", name) => peers.find(|peer| *peer == PeerId::of_name(name)),
        (id, _) => peers.find(|peer| peer.as_str() == id),
    };
    peer.ok_or(errors::CLUSTER_SERVER_NOT_MEMBER)
}

/// What became of the removal of a server.
pub(super) enum Removal {
    Done,
    /// Another server leads by now, and has answered.
    AnsweredElsewhere,
}

/// Takes a server out of the catalogue's group. It is answered, to `reply`, once that is decided.
pub(super) async fn remove_server(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    body: &[u8],
    reply: &[u8],
) -> Result<Removal, ApiError> {
    let peer = named_server(cluster, body)?;
    if peer == cluster.me() {
        // Who leads cannot take itself out, and does not have JetStream any more once somebody else has.
        engine.have_me_removed(cluster, reply).await?;
        return Ok(Removal::AnsweredElsewhere);
    }
    engine.remove_member(cluster, peer).await?;
    Ok(Removal::Done)
}

/// Allows the servers of the catalogue's group that can be heard to go on without the others, which an operator takes for
/// lost (rule R7). Every server decides for itself, and answers.
///
/// # Errors
/// Among others, that this server has only just lost its leader, or begun to run again, or that another one knows a leader: a
/// request that waited until this server could hear it must not take a group apart that works.
pub(super) async fn rescue(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    body: &[u8],
) -> Result<MetaRescueResponse, ApiError> {
    let request: MetaRescueRequest =
        decode::decode(body, decode::Strictness::Strict).map_err(|_| errors::BAD_REQUEST)?.value;
    let needed = usize::try_from(request.quorum_needed).ok().filter(|needed| *needed > 0);
    let needed = needed.ok_or(errors::BAD_REQUEST)?;
    // What was heard last may be old, as this server may have stood still, but is not to be taken for too little.
    if cluster.leaderless_for().is_none() {
        return Err(errors::cluster_rescue(format!("raft: {}", NotRescued::LeaderKnown)));
    }
    if cluster.may_be_led().await {
        return Err(errors::cluster_rescue("a leader may be known elsewhere: ask again in some seconds"));
    }
    let allowed = engine.act_and_tell(GroupId::META, move |replica, now, log| {
        replica.rescue(now, needed, RESCUE_WITHIN, log)
    });
    let refused = |e: NotRescued| errors::cluster_rescue(format!("raft: {e}"));
    let before = allowed.await.unwrap_or(Err(NotRescued::NotVoter)).map_err(refused)?;
    tracing::warn!(
        "Unsafe quorum rescue: an operator lowers the quorum of the meta group from {before} to {needed}"
    );
    let identity = engine.broker.identity();
    let (server, server_id) = (identity.name.clone(), identity.id.clone());
    let (prev_quorum, new_quorum) = (count(before), request.quorum_needed);
    engine.tell_rescue(before, needed);
    Ok(MetaRescueResponse { server, server_id, prev_quorum, new_quorum })
}

fn count(servers: usize) -> i64 {
    i64::try_from(servers).unwrap_or(i64::MAX)
}

/// Moves the streams off a server. It is answered once that is decided, as far as it can be.
pub(super) async fn evacuate_server(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    body: &[u8],
) -> Result<MetaServerEvacuateResponse, ApiError> {
    let peer = named_server(cluster, body)?;
    tracing::warn!("The streams on peer {peer} are moved off by an operator");
    engine.evacuate(cluster, peer).await;
    Ok(MetaServerEvacuateResponse::default())
}

/// Ends all streams of an account. It goes on after it is answered.
pub(super) async fn purge_account(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    account: &str,
) -> Result<AccountPurgeResponse, ApiError> {
    if account.contains(['/', '\\']) {
        return Err(errors::stream_general("account name can not contain path separators"));
    }
    tracing::warn!("The streams of account '{account}' are deleted by an operator");
    let (engine, cluster, account) = (engine.clone(), cluster.clone(), account.to_owned());
    tokio::spawn(async move { engine.purge_account(&cluster, &account).await });
    Ok(AccountPurgeResponse { initiated: true })
}

fn find(
    engine: &Engine,
    cluster: &Cluster,
    account: &str,
    stream: &str,
) -> Result<Arc<Assignment>, ApiError> {
    if engine.broker.accounts().iter().all(|known| known.name() != account) {
        return Err(errors::NO_ACCOUNT);
    }
    cluster.find(account, stream)
}

fn shown(mut info: StreamInfo) -> StreamInfo {
    metadata::add_server_keys(&mut info.config.metadata);
    info
}

/// Moves a stream off a server. It is answered once that is decided.
pub(super) async fn move_stream(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    account: &str,
    stream: &str,
    body: &[u8],
) -> Result<StreamUpdateResponse, ApiError> {
    let request: StreamMoveRequest = decode::decode_optional(body, decode::Strictness::Lenient)?.value;
    let present = find(engine, cluster, account, stream)?;
    let info = engine.move_stream(cluster, &present, &request).await?;
    Ok(StreamUpdateResponse { info: shown(info) })
}

/// Takes back the move of a stream, or its change of replicas, that is under way.
pub(super) async fn cancel_move(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    account: &str,
    stream: &str,
) -> Result<StreamCancelMoveResponse, ApiError> {
    let present = find(engine, cluster, account, stream)?;
    let info = engine.cancel_move(cluster, &present).await?;
    Ok(StreamCancelMoveResponse { info: shown(info) })
}
