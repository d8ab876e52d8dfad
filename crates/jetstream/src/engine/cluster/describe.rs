//! What the API and monitoring tell of a group's replicas (jetstream-clustering 3.1).

use std::time::Duration;

use linnet_ids::{GroupId, PeerId, Wall};
use linnet_jsapi::Nanos;
use linnet_jsapi::info::{ClusterInfo, PeerInfo, StreamInfo};
use linnet_raft::{Membership, Replica, Role};
use linnet_replication::Assignment;

use super::{Cluster, Engine};
use crate::catalogue::StreamHandle;
use crate::cluster::{GroupStatus, MetaFacts, PeerView};
use crate::pump::ReplicaReport;

/// A member that was not heard for so long is not current.
const STALE_AFTER: Duration = Duration::from_secs(10);

impl Engine {
    /// The replicas of a stream, as this server sees them; `None` on a server without a cluster.
    pub async fn cluster_info(&self, handle: &StreamHandle) -> Option<ClusterInfo> {
        let cluster = self.cluster.as_ref()?;
        let report = self.report(&handle.pump, handle.key).await;
        let assignment = cluster.view.of_group(handle.group);
        let Some(report) = report else {
            // Its only replica, which others may be to join.
            let (name, leader) = (self.broker.cluster_name().unwrap_or_default(), self.place.server.clone());
            let mut info = ClusterInfo { name, leader, ..ClusterInfo::default() };
            if let Some(assignment) = assignment {
                let me = Replica { peer: cluster.me(), incarnation: 0 };
                cluster.add_desired(&mut info, &assignment, &Membership::of_voters([me]), true);
            }
            return Some(info);
        };
        let is_alone = assignment.as_ref().is_some_and(|assignment| assignment.is_alone());
        if is_alone && report.status.is_leader && report.status.membership.members().len() == 1 {
            let (name, leader) = (self.broker.cluster_name().unwrap_or_default(), self.place.server.clone());
            return Some(ClusterInfo { name, leader, ..ClusterInfo::default() });
        }
        let mut info = ClusterInfo {
            name: self.broker.cluster_name().unwrap_or_default(),
            raft_group: self.raft_group(handle),
            leader_since: self.leads_since(handle.group),
            system_account: true,
            traffic_account: self.system_account().unwrap_or_default(),
            ..cluster.describe(&report)
        };
        if let Some(assignment) = assignment {
            let status = &report.status;
            let is_committed = status.is_membership_committed;
            cluster.add_desired(&mut info, &assignment, &status.membership, is_committed);
        }
        Some(info)
    }

    /// What is known of a stream's replicas without asking anybody.
    pub fn published_cluster_info(&self, handle: &StreamHandle) -> Option<ClusterInfo> {
        let cluster = self.cluster.as_ref()?;
        let leader = match handle.cell.replica() {
            Some(state) => state.leader.and_then(|peer| cluster.link.name_of(peer)).unwrap_or_default(),
            None if handle.is_replica() => String::new(),
            None => self.place.server.clone(),
        };
        let name = self.broker.cluster_name().unwrap_or_default();
        let raft_group = if handle.is_replica() { self.raft_group(handle) } else { String::new() };
        Some(ClusterInfo { name, raft_group, leader, ..ClusterInfo::default() })
    }

    /// The replica of a stream on this server; `None` for one that is alone.
    pub async fn replica_status(&self, handle: &StreamHandle) -> Option<GroupStatus> {
        let cluster = self.cluster.as_ref()?;
        let report = self.report(&handle.pump, handle.key).await?;
        let peers = cluster.link.peers();
        let facts = MetaFacts {
            cluster: "",
            name: &self.place.server,
            me: cluster.me(),
            raft: &report.status,
            progress: &|peer| report.progress.iter().find(|(of, _)| *of == peer).and_then(|(_, p)| *p),
            peers: &peers,
            names: &|peer| cluster.link.name_of(peer),
            listened: cluster.link.listened(),
        };
        let leader_since = self.leads_since(handle.group);
        let write_error = handle.cell.failure();
        Some(GroupStatus { leader_since, write_error, ..facts.group(&self.raft_group(handle)) })
    }

    /// What a stream's group is called (jetstream-clustering 1.10).
    pub fn raft_group(&self, handle: &StreamHandle) -> String {
        let config = handle.config();
        let storage = match config.storage {
            linnet_jsapi::policies::StorageType::File => 'F',
            linnet_jsapi::policies::StorageType::Memory => 'M',
        };
        let id = handle.group.to_string();
        let short = id.get(id.len().saturating_sub(8)..).unwrap_or_default();
        format!("S-R{}{storage}-{short}", config.num_replicas)
    }

    /// Groups on this server that have several replicas, that of the catalogue included.
    pub fn replica_count(&self) -> usize {
        let Some(cluster) = &self.cluster else { return 0 };
        let meta = usize::from(cluster.meta().report.is_some());
        let replicas =
            |account: &crate::JsAccount| account.streams().iter().filter(|s| s.is_replica()).count();
        meta + self.accounts().iter().map(|account| replicas(account)).sum::<usize>()
    }

    fn leads_since(&self, group: GroupId) -> Option<Wall> {
        let led_for = self.cluster.as_ref()?.news.led_for(group)?;
        let led_for = i64::try_from(led_for.as_nanos()).unwrap_or(i64::MAX);
        Some(Wall(self.broker.clock().wall().0.saturating_sub(led_for)))
    }

    fn system_account(&self) -> Option<String> {
        self.broker.accounts().iter().find(|a| a.is_system()).map(|a| a.name().to_owned())
    }
}

impl Engine {
    /// A stream that no server can describe, as the catalogue knows it.
    pub(crate) fn describe_offline(&self, cluster: &Cluster, assignment: &Assignment) -> StreamInfo {
        let peer = |peer: PeerId| PeerInfo {
            name: cluster.link.name_of(peer).unwrap_or_else(|| unknown_name(peer)),
            offline: true,
            peer: peer.to_string(),
            ..PeerInfo::default()
        };
        StreamInfo {
            config: assignment.config.clone(),
            created: Wall(assignment.created),
            cluster: Some(ClusterInfo {
                name: self.broker.cluster_name().unwrap_or_default(),
                replicas: assignment.replicas().into_iter().map(|replica| peer(replica.peer)).collect(),
                ..ClusterInfo::default()
            }),
            timestamp: self.broker.clock().wall(),
            ..StreamInfo::default()
        }
    }
}

pub(super) fn unknown_name(peer: PeerId) -> String {
    format!("Server name unknown at this time (peerID: {peer})")
}

impl Cluster {
    /// True if no server of a stream is there.
    pub(crate) fn is_offline(&self, assignment: &Assignment) -> bool {
        let views = self.link.peers();
        let is_there = |peer| peer == self.me() || views.iter().any(|v| v.id == peer && !v.is_offline);
        !assignment.holding_peers().into_iter().any(is_there)
    }

    /// The leader and the other members of a group, by name. Without a leader this server is among them.
    pub(crate) fn describe(&self, report: &ReplicaReport) -> ClusterInfo {
        let leader = report.status.leader;
        let mut replicas = self.members(report);
        replicas.retain(|replica| leader.is_none() || replica.peer != self.me().as_str());
        ClusterInfo {
            leader: leader.and_then(|peer| self.link.name_of(peer)).unwrap_or_default(),
            replicas,
            ..ClusterInfo::default()
        }
    }

    /// All members of a group, by name.
    pub(crate) fn members(&self, report: &ReplicaReport) -> Vec<PeerInfo> {
        let views = self.link.peers();
        let members = report.status.membership.members().iter().map(|member| member.peer);
        let mut members: Vec<PeerInfo> =
            members.map(|peer| self.peer_info(report, peer, views.iter().find(|v| v.id == peer))).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }

    /// Only the leader knows how far others are; others know that they hear the leader.
    fn peer_info(&self, report: &ReplicaReport, peer: PeerId, view: Option<&PeerView>) -> PeerInfo {
        let status = &report.status;
        let is_me = peer == self.me();
        let is_leader = status.leader == Some(peer);
        let silence = view.and_then(|v| v.silence).unwrap_or_default();
        let progress = report.progress.iter().find(|(of, _)| *of == peer).and_then(|(_, p)| p.as_ref());
        let progress = progress.filter(|_| status.is_leader && !is_me);
        let lag = progress.map_or(0, |p| status.commit.saturating_sub(p.matched));
        let is_heard = view.is_some_and(|v| v.is_reachable) && silence < STALE_AFTER;
        // One that does not vote yet is not in the group, for clients.
        let pending = status.membership.get(peer).is_some_and(|member| member.role == Role::Learner);
        let current = match progress {
            _ if is_me && status.leader.is_none() => status.applied >= status.commit && !status.is_amnesiac,
            _ if is_me => status.is_current,
            Some(p) => is_heard && lag == 0 && !p.is_amnesiac,
            None => is_leader && is_heard,
        };
        let is_known = !is_me && (status.is_leader || is_leader);
        PeerInfo {
            name: self.link.name_of(peer).unwrap_or_else(|| unknown_name(peer)),
            current: current && !pending,
            pending,
            offline: !is_me && view.is_none_or(|v| v.is_offline),
            active: if is_known { nanos(silence) } else { Nanos::ZERO },
            lag,
            peer: peer.to_string(),
        }
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}
