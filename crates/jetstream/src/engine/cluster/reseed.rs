//! Streams in memory of which nobody remembers anything: all their servers were restarted (rule R8).
//!
//! Such a group cannot go on, because nobody can say that nothing was promised. When every member says that it has
//! forgotten, nothing is left to be lost: the leader of the catalogue's group has the stream begin again, empty, as a new
//! group.

use std::sync::Arc;
use std::time::Duration;

use linnet_env::{OsRng, Rng};
use linnet_ids::GroupId;
use linnet_jsapi::policies::StorageType;
use linnet_replication::{Assignment, Placed};
use serde::{Deserialize, Serialize};

use super::asks::{ASK_STANDING, group_of};
use super::{Cluster, Engine};

/// How often the streams are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a member may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How a replica of a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// It has forgotten what it knew, if it knew anything.
    pub(super) is_amnesiac: bool,
    /// It knows a leader, or leads.
    pub(super) has_leader: bool,
}

/// As the leader of the catalogue's group: looks for such streams, not more often than is useful.
pub(super) fn look_after(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let now = cluster.link.clock().mono();
    {
        let mut last = cluster.reseeding.lock();
        if !cluster.leads_meta() || last.is_some_and(|last| now.since(last) < LOOK_EVERY) {
            return;
        }
        *last = Some(now);
    }
    let (engine, cluster) = (engine.clone(), cluster.clone());
    tokio::spawn(async move {
        for assignment in cluster.view.all() {
            let is_of_memory = assignment.config.storage == StorageType::Memory;
            if is_of_memory && assignment.live && !assignment.ended && assignment.members.len() > 1 {
                engine.reseed(&cluster, &assignment).await;
            }
        }
    });
}

impl Engine {
    /// How the replica of a group here stands; `None` if there is none.
    pub(super) async fn standing(&self, group: GroupId) -> Option<Standing> {
        let status = self.act_and_tell(group, |replica, _, _| replica.status()).await.flatten()?;
        let has_leader = status.is_leader || status.leader.is_some();
        Some(Standing { is_amnesiac: status.is_amnesiac, has_leader })
    }

    /// Has a stream begin again if all its members say that they have forgotten it.
    async fn reseed(&self, cluster: &Arc<Cluster>, assignment: &Assignment) {
        let Some(group) = group_of(assignment) else { return };
        for replica in assignment.replicas() {
            let standing = if replica.peer == cluster.me() {
                self.standing(group).await
            } else {
                let body = assignment.group.as_bytes();
                let answer = cluster.link.ask(replica.peer, ASK_STANDING, body, ANSWER_WITHIN).await;
                answer.ok().and_then(|answer| serde_json::from_slice(&answer).ok())
            };
            if standing != Some(Standing { is_amnesiac: true, has_leader: false }) {
                return;
            }
        }
        let _one_at_a_time = self.settling.lock().await;
        let name = &assignment.config.name;
        let is_unchanged =
            cluster.view.stream(&assignment.account, name).is_some_and(|a| a.group == assignment.group);
        if !is_unchanged || !cluster.leads_meta() {
            return;
        }
        let meta_index = cluster.view.last_seq() + 1;
        let next = GroupId { epoch: group.epoch, meta_index, random: OsRng.next_u64() };
        let meta = cluster.meta();
        let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
        let lives = assignment.replicas().into_iter().map(|replica| Placed {
            peer: replica.peer.to_string(),
            life: members.iter().find(|m| m.peer == replica.peer).map_or(0, |m| m.incarnation),
        });
        let anew = Assignment {
            group: next.to_string(),
            live: false,
            members: lives.collect(),
            ..assignment.clone()
        };
        drop(meta);
        tracing::warn!(
            "Stream '{} > {name}' in memory was forgotten by all its servers; it begins again, empty",
            assignment.account
        );
        if let Err(error) = self.ask_catalogue(anew.store()).await {
            tracing::warn!("Stream '{} > {name}' cannot begin again yet: {error}", assignment.account);
        }
    }
}
