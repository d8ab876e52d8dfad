//! What the API tells of a group's replicas (jetstream-clustering 3.1).

use std::time::Duration;

use linnet_ids::{PeerId, Wall};
use linnet_jsapi::Nanos;
use linnet_jsapi::info::{ClusterInfo, PeerInfo, StreamInfo};
use linnet_replication::Assignment;

use super::{Cluster, Engine};
use crate::catalogue::StreamHandle;
use crate::cluster::PeerView;
use crate::pump::ReplicaReport;

/// A member that was not heard for so long is not current.
const STALE_AFTER: Duration = Duration::from_secs(10);

impl Engine {
    /// The replicas of a stream, as this server sees them; `None` on a server without a cluster.
    pub(crate) async fn cluster_info(&self, handle: &StreamHandle) -> Option<ClusterInfo> {
        let cluster = self.cluster.as_ref()?;
        let name = self.broker.cluster_name().unwrap_or_default();
        let Some(report) = self.report(&handle.pump, handle.key).await else {
            // Its only replica.
            let leader = self.place.server.clone();
            return Some(ClusterInfo { name, leader, ..ClusterInfo::default() });
        };
        Some(cluster.describe(&report, &name, &raft_group(handle)))
    }
}

/// What a stream's group is called (jetstream-clustering 1.10).
fn raft_group(handle: &StreamHandle) -> String {
    let config = handle.config();
    let storage = match config.storage {
        linnet_jsapi::policies::StorageType::File => 'F',
        linnet_jsapi::policies::StorageType::Memory => 'M',
    };
    let id = handle.group.to_string();
    let short = id.get(id.len().saturating_sub(8)..).unwrap_or_default();
    format!("S-R{}{storage}-{short}", config.num_replicas)
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

fn unknown_name(peer: PeerId) -> String {
    format!("Server name unknown at this time (peerID: {peer})")
}

impl Cluster {
    /// True if no server of a stream is there.
    pub(crate) fn is_offline(&self, assignment: &Assignment) -> bool {
        let views = self.link.peers();
        let is_there = |peer| peer == self.me() || views.iter().any(|v| v.id == peer && !v.is_offline);
        !assignment.replicas().iter().any(|replica| is_there(replica.peer))
    }

    /// The replicas of a group, by name.
    pub(crate) fn describe(&self, report: &ReplicaReport, cluster: &str, group: &str) -> ClusterInfo {
        let status = &report.status;
        let leader = if status.is_leader { Some(self.me()) } else { status.leader };
        let views = self.link.peers();
        let others = status.membership.members().iter().map(|m| m.peer).filter(|peer| Some(*peer) != leader);
        let mut replicas: Vec<PeerInfo> =
            others.map(|peer| self.peer_info(report, peer, views.iter().find(|v| v.id == peer))).collect();
        replicas.sort_by(|a, b| a.name.cmp(&b.name));
        ClusterInfo {
            name: cluster.to_owned(),
            raft_group: group.to_owned(),
            leader: leader.and_then(|peer| self.link.name_of(peer)).unwrap_or_default(),
            replicas,
            ..ClusterInfo::default()
        }
    }

    fn peer_info(&self, report: &ReplicaReport, peer: PeerId, view: Option<&PeerView>) -> PeerInfo {
        let status = &report.status;
        let is_me = peer == self.me();
        let silence = view.and_then(|v| v.silence).unwrap_or_default();
        let progress = report.progress.iter().find(|(of, _)| *of == peer).and_then(|(_, p)| p.as_ref());
        let lag = progress.map_or(0, |p| status.commit.saturating_sub(p.matched));
        let is_heard = view.is_some_and(|v| v.is_reachable) && silence < STALE_AFTER;
        let current = match progress {
            _ if is_me => status.is_current,
            Some(p) => is_heard && lag == 0 && !p.is_amnesiac,
            None => false,
        };
        PeerInfo {
            name: self.link.name_of(peer).unwrap_or_else(|| unknown_name(peer)),
            current,
            offline: !is_me && view.is_none_or(|v| v.is_offline),
            active: if is_me { Nanos::ZERO } else { nanos(silence) },
            lag,
            peer: peer.to_string(),
            ..PeerInfo::default()
        }
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}
