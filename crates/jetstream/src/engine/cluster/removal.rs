//! Servers that an operator takes out of the catalogue's group (jetstream-clustering 1.12).

use std::sync::Arc;
use std::time::Duration;

use linnet_broker::Message;
use linnet_ids::{GroupId, PeerId};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::responses::{self, MetaServerRemoveResponse};
use linnet_raft::{Change, Refused};

use super::asks::ASK_REMOVAL;
use super::{Cluster, Engine};

/// How long it may take until another server leads the catalogue's group.
const SUCCEEDED_WITHIN: Duration = Duration::from_secs(4);
/// How long the next leader may take to remove the last one.
const REMOVED_WITHIN: Duration = Duration::from_secs(12);
/// The leader is looked for again after this, and a step of the membership that is under way waited for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Engine {
    /// Takes another server out, as the leader of the catalogue's group.
    pub(crate) async fn remove_member(&self, cluster: &Cluster, peer: PeerId) -> Result<(), ApiError> {
        let proposed = self.act_and_tell(GroupId::META, move |replica, now, log| {
            replica.change_membership(now, Change::Remove(peer), log)
        });
        let index = match proposed.await {
            Some(Ok(index)) => index,
            Some(Err(Refused::ChangeInProgress)) => {
                return Err(errors::CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT);
            }
            Some(Err(e @ Refused::NoQuorum)) => {
                let away = cluster.away().join(", ");
                return Err(errors::raft_general(format!("{e}: {away} cannot be heard")));
            }
            Some(Err(e)) => return Err(errors::raft_general(e.to_string())),
            None => return Err(errors::CLUSTER_NOT_LEADER),
        };
        tracing::warn!("Peer {peer} is removed from the meta group by an operator");
        self.wait_for_commit(GroupId::META, index).await?;
        cluster.note_removed(peer);
        Ok(())
    }

    /// Has another server lead the catalogue's group, and take this one out. It answers to `reply`, as this server may not
    /// be there to do so.
    pub(crate) async fn have_me_removed(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        reply: &[u8],
    ) -> Result<(), ApiError> {
        self.give_way(cluster, GroupId::META, None).await?;
        let deadline = tokio::time::Instant::now() + SUCCEEDED_WITHIN;
        let leader = loop {
            match cluster.meta_leader() {
                Some(leader) if leader != cluster.me() => break leader,
                _ if tokio::time::Instant::now() >= deadline => return Err(errors::CLUSTER_NOT_AVAIL),
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        let answer = cluster.link.ask(leader, ASK_REMOVAL, reply, REMOVED_WITHIN).await;
        let refused = answer.ok().and_then(|answer| serde_json::from_slice(&answer).ok());
        match refused {
            Some(None) => Ok(()),
            Some(Some(error)) => Err(error),
            None => Err(errors::CLUSTER_NOT_AVAIL),
        }
    }

    /// Takes out the server that asks for it, as the leader of the catalogue's group, and answers whoever asked that one.
    pub(super) async fn remove_who_asks(
        &self,
        cluster: &Cluster,
        peer: PeerId,
        reply: &[u8],
    ) -> Result<(), ApiError> {
        let deadline = tokio::time::Instant::now() + SUCCEEDED_WITHIN;
        loop {
            match self.remove_member(cluster, peer).await {
                // The first entry of its own is on its way.
                Err(error)
                    if (error == errors::CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT
                        || error == errors::CLUSTER_NOT_LEADER)
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        let body = responses::encode(&Ok(MetaServerRemoveResponse::default()));
        let accounts = self.broker.accounts();
        if let Some(system) = accounts.iter().find(|account| account.is_system())
            && !reply.is_empty()
        {
            let message =
                Message { subject: reply, shown_subject: b"", reply: b"", header_len: 0, body: &body };
            let mut publisher = self.broker.publisher();
            publisher.publish(system, &message);
            publisher.flush();
        }
        Ok(())
    }
}
