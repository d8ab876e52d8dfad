//! What the catalogue puts on this server, and how it is doing: for monitoring, which asks no pump.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::asks::group_of;
use super::{Cluster, Engine};
use crate::catalogue::StreamHandle;
use linnet_replication::Assignment;

/// A stream that is younger may not have begun yet (jetstream-clustering 2.3).
const YOUNG: Duration = Duration::from_secs(5);

/// What the catalogue says of streams, as far as it concerns one server.
#[derive(Default)]
pub struct Assigned {
    /// Accounts that have streams, wherever those are.
    pub accounts: BTreeSet<String>,
    /// The streams that this server is a member of.
    pub streams: Vec<AssignedStream>,
}

/// A stream that this server is a member of.
pub struct AssignedStream {
    /// Account.
    pub account: String,
    /// Name.
    pub stream: String,
    /// What there is of it here.
    pub handle: Option<Arc<StreamHandle>>,
    /// What is wrong with it, in nats-server's words.
    pub problem: Option<&'static str>,
}

impl Engine {
    /// What the catalogue puts on this server; `None` for a server alone.
    pub fn assigned(&self) -> Option<Assigned> {
        let cluster = self.cluster.as_ref()?;
        let mut assigned = Assigned::default();
        for assignment in cluster.view.all().into_iter().filter(|a| !a.ended) {
            assigned.accounts.insert(assignment.account.clone());
            if assignment.replica(cluster.me()).is_some() {
                assigned.streams.push(self.look_at(cluster, &assignment));
            }
        }
        Some(assigned)
    }

    fn look_at(&self, cluster: &Cluster, assignment: &Assignment) -> AssignedStream {
        let (account, stream) = (assignment.account.clone(), assignment.config.name.clone());
        let handle = self.account(&account).and_then(|a| a.stream(&stream));
        let age = self.broker.clock().wall().since(linnet_ids::Wall(assignment.created));
        let problem = match &handle {
            None if age < YOUNG => None,
            None => Some("stream not found"),
            Some(handle) if Some(handle.group) != group_of(assignment) => Some("cluster node skew detected"),
            Some(handle) if handle.is_replica() && handle.lost.is_none() => self.judge(cluster, handle),
            Some(_) => None,
        };
        AssignedStream { account, stream, handle, problem }
    }

    fn judge(&self, cluster: &Cluster, handle: &StreamHandle) -> Option<&'static str> {
        let Some(state) = handle.cell.replica() else { return Some("group node missing") };
        let peers = cluster.link.peers();
        state.problem(self.broker.clock().mono(), |leader| {
            peers.iter().any(|peer| peer.id == leader && peer.is_reachable)
        })
    }

    /// True if this server leads a stream; without a cluster it leads all.
    pub fn is_leader_of(&self, handle: &StreamHandle) -> bool {
        self.leads(handle)
    }
}
