//! Who is in the catalogue's group: its leader takes in the servers that it hears, one step at a time.

use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, PeerId};
use linnet_jsapi::errors::{self, ApiError};
use linnet_raft::{Change, Replica};
use linnet_replication::cluster::NextMember;

use super::asks::{ASK_DESCRIPTION, DESCRIBE_WITHIN, Description};
use super::{Cluster, Engine};
use crate::cluster::PeerView;
use crate::pump::ReplicaReport;

/// A server that an operator took out, and that has not been started since, is not taken in again by itself before this
/// (jetstream-clustering 0).
const REJOIN_AFTER: Duration = Duration::from_secs(300);
/// How long a majority may take to have an entry.
const COMMIT_WITHIN: Duration = Duration::from_secs(10);

/// Does what the leader of the catalogue's group has to do about its members.
pub(super) async fn look_after(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    if !cluster.leads_meta() {
        return;
    }
    let standing = cluster.meta();
    let Some(report) = &standing.report else { return };
    if let Some(change) = next_change(cluster, report).await {
        engine.change_members(GroupId::META, change);
    }
    if cluster.heals_now(report) {
        let (engine, cluster) = (engine.clone(), cluster.clone());
        tokio::spawn(async move {
            engine.heal_streams(&cluster).await;
            cluster.healing.lock().done();
        });
    }
}

/// The next step, once a server that is to be taken in has named its life.
async fn next_change(cluster: &Arc<Cluster>, report: &ReplicaReport) -> Option<Change> {
    let progress = |peer| report.progress.iter().find(|(of, _)| *of == peer).and_then(|(_, p)| *p);
    let others = cluster.link.peers().into_iter();
    // One that belongs to no cluster yet may still come to another one.
    let ours = cluster.link.history().map(|history| history.cluster);
    let is_ours = |p: &PeerView| ours.is_none() || p.history.map(|history| history.cluster) == ours;
    let others = others.filter(|p| p.is_reachable && is_ours(p) && !cluster.was_removed(p.id)).map(|p| p.id);
    let is_heard = |peer| cluster.link.hears(peer);
    match linnet_replication::cluster::next_member(&report.status, progress, is_heard, others) {
        NextMember::Change(change) => return Some(change),
        NextMember::TakeIn(peers) => {
            for peer in peers {
                if let Some(incarnation) = life_of(cluster, peer).await {
                    return Some(Change::Add(Replica { peer, incarnation }));
                }
            }
        }
        NextMember::Nothing => {}
    }
    None
}

/// The life in which a server would take part; `None` if it has no replica yet.
async fn life_of(cluster: &Arc<Cluster>, peer: PeerId) -> Option<u64> {
    let answer = cluster.link.ask(peer, ASK_DESCRIPTION, b"", DESCRIBE_WITHIN).await.ok()?;
    let description: Description = serde_json::from_slice(&answer).ok()?;
    description.life.filter(|life| *life > 0)
}

impl Cluster {
    /// An operator takes a server out.
    pub(crate) fn note_removed(&self, peer: PeerId) {
        let start = self.start_of(peer);
        self.removed.lock().insert(peer, (self.link.clock().mono(), start));
    }

    /// The newest start of a server that is known.
    fn start_of(&self, peer: PeerId) -> Option<String> {
        self.link.peers().into_iter().find(|view| view.id == peer).map(|view| view.server_id)
    }

    /// Notices who was taken out of the catalogue's group: whoever leads it next must know.
    pub(super) fn note_members(&self, report: &ReplicaReport) {
        let before = self.meta();
        let Some(before) = &before.report else { return };
        let after = &report.status.membership;
        for member in before.status.membership.members().iter().filter(|m| after.get(m.peer).is_none()) {
            self.note_removed(member.peer);
        }
    }

    /// True if it is time to look for streams that lack members: something changed, or the last time is long ago. The
    /// caller looks, and says when that is done.
    fn heals_now(&self, report: &ReplicaReport) -> bool {
        let members = report.status.membership.members().iter().map(|m| m.peer).collect();
        let reachable = self.link.peers().into_iter().filter(|p| p.is_reachable).map(|p| p.id).collect();
        let seen = (self.view.last_seq(), members, reachable);
        self.healing.lock().begins(self.link.clock().mono(), seen)
    }

    fn was_removed(&self, peer: PeerId) -> bool {
        let start = self.start_of(peer);
        let mut removed = self.removed.lock();
        let now = self.link.clock().mono();
        removed.retain(|_, (since, _)| now.since(*since) < REJOIN_AFTER);
        removed.get(&peer).is_some_and(|(_, at_removal)| *at_removal == start)
    }
}

impl Engine {
    /// Returns once an entry that this server proposed is committed.
    pub(crate) async fn wait_for_commit(&self, group: GroupId, index: u64) -> Result<(), ApiError> {
        let deadline = tokio::time::Instant::now() + COMMIT_WITHIN;
        loop {
            let status = self.act_and_tell(group, |replica, _, _| replica.status()).await.flatten();
            match status {
                Some(status) if status.commit >= index => return Ok(()),
                Some(status) if status.is_leader && tokio::time::Instant::now() < deadline => {}
                _ => return Err(errors::CLUSTER_NOT_AVAIL),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Proposes a step of a group's membership; what cannot be done now is tried again.
    pub(super) fn change_members(&self, group: GroupId, change: Change) {
        let act: crate::pump::Act =
            Box::new(move |replica, now, log| match replica.change_membership(now, change, log) {
                Ok(_) => tracing::info!("Group {group}: {}", describe(change)),
                Err(e) => tracing::debug!("Group {group}: {} waits: {e}", describe(change)),
            });
        self.act_on(group, act);
    }
}

fn describe(change: Change) -> String {
    match change {
        Change::Add(replica) => format!("peer {} is taken in", replica.peer),
        Change::Promote(peer) => format!("peer {peer} has caught up and votes"),
        Change::Demote(peer) => format!("peer {peer} votes no more"),
        Change::Remove(peer) => format!("peer {peer} is taken out"),
        Change::Reincarnate { peer, .. } => format!("peer {peer} begins another life"),
    }
}
