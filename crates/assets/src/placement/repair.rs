//! Members that go, and vacancies that are filled.

use linnet_ids::PeerId;
use linnet_jsapi::ApiError;
use linnet_jsapi::errors::{CLUSTER_PEER_NOT_MEMBER, PEER_REMAP};

use super::choose::Choice;
use super::group::{Demand, Group, Plan, Planner};

/// What becomes of a group that lost members or has too few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// The members, those that stay first. Never empty.
    pub peers: Vec<PeerId>,
    /// Replicas still missing; [`Planner::heal`] finds them a place when one appears.
    pub missing: usize,
    /// No member stayed: the asset starts empty.
    pub is_emptied: bool,
}

impl Planner<'_> {
    /// Members for a stream that an operator takes off the server `gone`, which must be replaced. An offline server
    /// is taken only if there is no other.
    ///
    /// # Errors
    /// 10040 if `gone` is no member; 10075 if there is no replacement.
    pub fn replace(
        &self,
        demand: &Demand<'_>,
        group: &Group<'_>,
        gone: PeerId,
        avoid: &[PeerId],
    ) -> Result<Plan, ApiError> {
        if !group.peers.contains(&gone) {
            return Err(CLUSTER_PEER_NOT_MEMBER);
        }
        let keep = without(group.peers, &[gone]);
        let avoid: Vec<PeerId> = avoid.iter().copied().chain([gone]).collect();
        let choice = Choice { cluster: group.cluster, demand, keep: &keep, members: &[], avoid: &avoid };
        let peers = self.choose(&choice).map_err(|_| PEER_REMAP)?;
        let preferred = self.preferred(&peers, group.leader);
        Ok(Plan { cluster: group.cluster.to_owned(), peers, preferred })
    }

    /// What becomes of a group when the server `gone` was removed from the cluster or is being evacuated. Online
    /// servers fill the vacancies as far as there are any, the others stay open. `None` when nothing is left: the
    /// asset stays assigned to the server that is gone.
    pub fn give_up(
        &self,
        demand: &Demand<'_>,
        group: &Group<'_>,
        gone: PeerId,
        avoid: &[PeerId],
    ) -> Option<Repair> {
        let avoid: Vec<PeerId> = avoid.iter().copied().chain([gone]).collect();
        self.fill(demand, group, &without(group.peers, &[gone]), &avoid)
    }

    /// New members for a group that has too few, or members that are not in the fleet any more. `None` when there
    /// is nothing to change at present.
    pub fn heal(&self, demand: &Demand<'_>, group: &Group<'_>, avoid: &[PeerId]) -> Option<Repair> {
        let keep: Vec<PeerId> =
            group.peers.iter().copied().filter(|p| self.fleet.get(*p).is_some()).collect();
        self.fill(demand, group, &keep, avoid).filter(|repair| repair.peers != group.peers)
    }

    /// Members to keep and, for what is missing then, the best servers that are online. An offline one would only
    /// pretend that the group is whole.
    fn fill(
        &self,
        demand: &Demand<'_>,
        group: &Group<'_>,
        keep: &[PeerId],
        avoid: &[PeerId],
    ) -> Option<Repair> {
        let open = demand.replicas.saturating_sub(keep.len());
        let choice = Choice { cluster: group.cluster, demand, keep, members: &[], avoid };
        let new = self.best(&choice, open).best.into_iter().filter(|c| c.is_online).map(|c| c.peer);
        let peers: Vec<PeerId> = keep.iter().copied().chain(new).collect();
        let missing = demand.replicas.saturating_sub(peers.len());
        (!peers.is_empty()).then_some(Repair { peers, missing, is_emptied: keep.is_empty() })
    }
}

fn without(peers: &[PeerId], gone: &[PeerId]) -> Vec<PeerId> {
    peers.iter().copied().filter(|p| !gone.contains(p)).collect()
}
