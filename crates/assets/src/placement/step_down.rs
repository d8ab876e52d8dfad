//! Who leads next.

use linnet_ids::PeerId;
use linnet_jsapi::ApiError;
use linnet_jsapi::errors::cluster_no_peers;
use linnet_jsapi::stream_config::Placement;

use super::fleet::Candidate;
use super::group::Planner;
use super::quote::quoted;

/// A leader that is asked to step down.
#[derive(Clone, Copy, Debug)]
pub struct StepDown<'a> {
    /// The members of the group.
    pub peers: &'a [PeerId],
    /// The one that leads.
    pub leader: PeerId,
    /// Members that answered the leader within the last three heartbeats.
    pub heard: &'a [PeerId],
    /// Who the request wants to lead.
    pub placement: Option<&'a Placement>,
}

impl Planner<'_> {
    /// Who leadership goes to: a member that fits the request, or any healthy one when that is not healthy. `None`
    /// when no member is: the leader steps down all the same and an election follows.
    ///
    /// # Errors
    /// 10005 if the request names the leader or no member, or if no online member fits its cluster and tags.
    pub fn step_down(&self, request: &StepDown<'_>) -> Result<Option<PeerId>, ApiError> {
        let wanted = match request.placement {
            None => None,
            Some(placement) if placement.preferred.is_empty() => Some(self.fitting(request, placement)?),
            Some(placement) => Some(self.named(request, &placement.preferred)?),
        };
        let healthy: Vec<PeerId> =
            self.online(request.heard).into_iter().filter(|p| request.is_follower(*p)).collect();
        Ok(wanted.filter(|p| healthy.contains(p)).or_else(|| self.any(&healthy)))
    }

    fn named(&self, request: &StepDown<'_>, name: &str) -> Result<PeerId, ApiError> {
        let known = |peer: &PeerId| self.fleet.get(*peer).is_some_and(|c| c.name == name);
        match request.peers.iter().copied().find(known) {
            Some(peer) if peer == request.leader => {
                Err(cluster_no_peers(format!("preferred server {} is already leader", quoted(name))))
            }
            Some(peer) => Ok(peer),
            None => Err(cluster_no_peers(format!("preferred server {} not known", quoted(name)))),
        }
    }

    fn fitting(&self, request: &StepDown<'_>, placement: &Placement) -> Result<PeerId, ApiError> {
        let fits = |c: &Candidate| {
            c.is_online
                && (placement.cluster.is_empty() || c.cluster == placement.cluster)
                && placement.tags.iter().all(|tag| c.tags.contains(tag))
        };
        let fitting: Vec<PeerId> = request
            .peers
            .iter()
            .copied()
            .filter(|p| request.is_follower(*p) && self.fleet.get(*p).is_some_and(fits))
            .collect();
        let healthy: Vec<PeerId> = fitting.iter().copied().filter(|p| request.heard.contains(p)).collect();
        self.any(if healthy.is_empty() { &fitting } else { &healthy })
            .ok_or_else(|| cluster_no_peers("no replacement peer connected"))
    }
}

impl StepDown<'_> {
    fn is_follower(&self, peer: PeerId) -> bool {
        peer != self.leader && self.peers.contains(&peer)
    }
}
