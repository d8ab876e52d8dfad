//! Groups of streams have the members that the catalogue names, and servers that are none any more let go.

use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, PeerId};
use linnet_raft::{Change, Replica};
use linnet_replication::Assignment;

use super::asks::{ASK_LIFE, StreamCall, group_of};
use super::news::Fresh;
use super::steps::{Standpoint, Step};
use super::{Cluster, Engine};
use crate::catalogue::StreamHandle;

/// How long a server may take to name its life.
const LIFE_WITHIN: Duration = Duration::from_secs(1);
/// How long another member may take to lead.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// Brings the groups that this server leads one step nearer to the members that they shall have.
pub(super) fn follow(engine: &Arc<Engine>, cluster: &Arc<Cluster>, fresh: &Fresh) {
    {
        let mut seated = cluster.seated.lock();
        for group in fresh.changed.keys() {
            seated.remove(group);
        }
    }
    for group in cluster.news.leading() {
        if group == GroupId::META || cluster.moving.lock().contains(&group) {
            continue;
        }
        let Some(assignment) = cluster.view.of_group(group).filter(|a| a.live && !a.ended) else { continue };
        let wanted: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
        if cluster.seated.lock().get(&group) == Some(&wanted) {
            continue;
        }
        cluster.moving.lock().insert(group);
        let (engine, cluster) = (engine.clone(), cluster.clone());
        tokio::spawn(async move {
            let is_done = engine.take_step(&cluster, group, &wanted).await;
            if is_done {
                cluster.seated.lock().insert(group, wanted);
            }
            cluster.moving.lock().remove(&group);
        });
    }
}

impl Engine {
    /// True if the members are those that are wanted.
    async fn take_step(&self, cluster: &Arc<Cluster>, group: GroupId, wanted: &[PeerId]) -> bool {
        let heard: Vec<PeerId> =
            cluster.link.peers().into_iter().filter(|p| p.is_reachable).map(|p| p.id).collect();
        let (me, for_standpoint) = (cluster.me(), wanted.to_vec());
        let next = self.act_and_tell(group, move |replica, _, _| {
            let status = replica.status()?;
            let standpoint = Standpoint {
                me,
                status: &status,
                progress: &|peer| replica.progress(peer),
                is_heard: &|peer| peer == me || heard.contains(&peer),
                wanted: &for_standpoint,
            };
            Some(standpoint.next())
        });
        match next.await.flatten() {
            Some(Step::Done) => return true,
            Some(Step::Change(change)) => self.change_members(group, change),
            Some(Step::TakeIn(peer)) => {
                if let Some(incarnation) = life_in(cluster, peer, group).await {
                    self.change_members(group, Change::Add(Replica { peer, incarnation }));
                }
            }
            Some(Step::HandOver(peer)) => {
                let handed = self.act_and_tell(group, move |replica, now, log| {
                    replica.transfer(now, peer, HAND_OVER_WITHIN, log)
                });
                if let Some(Err(e)) = handed.await {
                    tracing::debug!("Group {group}: handing over to peer {peer} waits: {e}");
                }
            }
            Some(Step::Wait) | None => {}
        }
        false
    }

    /// The life in which this server would take part in a group. One that is over cannot be taken in again: the replica
    /// makes room for a new one.
    pub(super) async fn name_life(&self, cluster: &Cluster, group: GroupId) -> Option<u64> {
        let known = self.act_and_tell(group, |replica, _, _| {
            let is_removed = replica.status()?.is_removed;
            Some((replica.incarnation()?, is_removed))
        });
        let (life, is_removed) = known.await.flatten()?;
        if is_removed {
            cluster.outlived.lock().insert(group);
            cluster.news.nudge();
            return None;
        }
        Some(life).filter(|life| *life > 0)
    }

    /// True if this server, which the catalogue does not name, is no member of the group either: by what it holds
    /// itself, or else by what the group's leader says while this server knows what the catalogue says now.
    pub(super) async fn has_left(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
        handle: &StreamHandle,
    ) -> bool {
        let Some(group) = group_of(assignment) else { return false };
        let Some(report) = self.report(&handle.pump, handle.key).await else { return false };
        if report.status.is_removed {
            return true;
        }
        if report.status.is_leader || !cluster.is_current() {
            return false;
        }
        let answer = self.ask_members(cluster, assignment, &StreamCall::Members).await;
        let Some(Ok(members)) = answer else { return false };
        let Ok(members) = serde_json::from_value::<Vec<String>>(members) else { return false };
        let is_left = !members.is_empty() && !members.contains(&cluster.me().to_string());
        if is_left {
            tracing::info!("Group {group} has no replica on this server any more");
        }
        is_left
    }
}

async fn life_in(cluster: &Cluster, peer: PeerId, group: GroupId) -> Option<u64> {
    let body = group.to_string();
    let answer = cluster.link.ask(peer, ASK_LIFE, body.as_bytes(), LIFE_WITHIN).await.ok()?;
    serde_json::from_slice(&answer).ok()
}

impl Cluster {
    /// True if this server knows everything that is decided about streams, as far as it can know.
    pub(crate) fn is_current(&self) -> bool {
        self.meta.load().report.as_ref().is_some_and(|report| report.status.is_current)
    }
}
