//! Streams that go elsewhere with the same number of replicas.

use std::collections::BTreeSet;

use linnet_ids::PeerId;
use linnet_jsapi::ApiError;
use linnet_jsapi::errors::CLUSTER_PEER_NOT_MEMBER;
use linnet_jsapi::stream_config::Placement;

use super::choose::Choice;
use super::group::{Demand, Group, Origin, Plan, Planner};
use super::refusal::Refusal;

impl Planner<'_> {
    /// Members for a stream whose placement changed to that of `demand`. Members that fit it stay, so the plan may
    /// be what the group has already.
    ///
    /// # Errors
    /// 10005 with the reasons of all clusters that were tried.
    pub fn relocate(
        &self,
        demand: &Demand<'_>,
        origin: Origin<'_>,
        group: &Group<'_>,
    ) -> Result<Plan, ApiError> {
        let mut refusal = Refusal::default();
        for cluster in origin.clusters(demand) {
            match self.choose(&Choice { cluster, demand, keep: &[], members: group.peers, avoid: &[] }) {
                Ok(peers) => return Ok(self.plan_from(group, cluster, peers)),
                Err(reasons) => refusal.add(reasons),
            }
        }
        Err(refusal.into())
    }

    /// Members for a stream that leaves the server `from`: another one of the same cluster instead, or else
    /// another cluster for all replicas. `tags` are asked of new members beside those of the placement.
    ///
    /// # Errors
    /// 10040 if `from` is no member; 10005 with the reasons of all clusters.
    pub fn move_off(
        &self,
        demand: &Demand<'_>,
        group: &Group<'_>,
        from: PeerId,
        tags: &[String],
    ) -> Result<Plan, ApiError> {
        if !group.peers.contains(&from) {
            return Err(CLUSTER_PEER_NOT_MEMBER);
        }
        let mut placement = demand.placement.cloned().unwrap_or_else(Placement::default);
        placement.tags.extend_from_slice(tags);
        let demand = Demand { placement: Some(&placement), ..*demand };
        let keep: Vec<PeerId> = group.peers.iter().copied().filter(|p| *p != from).collect();
        let avoid = [from];
        let here =
            Choice { cluster: group.cluster, demand: &demand, keep: &keep, members: &[], avoid: &avoid };
        let mut refusal = match self.choose(&here) {
            Ok(peers) => return Ok(self.plan_from(group, group.cluster, peers)),
            Err(refusal) => refusal,
        };
        for cluster in self.clusters_but(group.cluster) {
            match self.choose(&Choice { cluster, demand: &demand, keep: &[], members: &[], avoid: &avoid }) {
                Ok(peers) => return Ok(self.plan_from(group, cluster, peers)),
                Err(reasons) => refusal.add(reasons),
            }
        }
        Err(refusal.into())
    }

    fn plan_from(&self, group: &Group<'_>, cluster: &str, peers: Vec<PeerId>) -> Plan {
        let (kept, new): (Vec<PeerId>, Vec<PeerId>) = peers.iter().partition(|p| group.peers.contains(p));
        let peers: Vec<PeerId> =
            group.peers.iter().copied().filter(|p| kept.contains(p)).chain(new).collect();
        let preferred = self.preferred(&peers, group.leader);
        Plan { cluster: cluster.to_owned(), peers, preferred }
    }

    fn clusters_but(&self, home: &str) -> BTreeSet<&str> {
        self.fleet.iter().map(|c| c.cluster.as_str()).filter(|c| !c.is_empty() && *c != home).collect()
    }
}
