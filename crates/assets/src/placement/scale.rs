//! More or fewer replicas on the members a group has.

use linnet_ids::PeerId;
use linnet_jsapi::ApiError;
use linnet_jsapi::errors::INSUFFICIENT_RESOURCES;

use super::choose::Choice;
use super::group::{Demand, Group, Plan, Planner};
use super::refusal::Refusal;

/// A replica as the leader of its group sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The server it is on.
    pub peer: PeerId,
    /// Whether that counts as online.
    pub is_online: bool,
    /// Committed entries it lacks; `None` while it is assigned, but no member of the replicated log.
    pub lag: Option<u64>,
}

impl Planner<'_> {
    /// Members for a stream that gets more replicas: those it has, and others of the same cluster. The only member
    /// of a group leads it on, as it alone has the data.
    ///
    /// # Errors
    /// 10005 if there are not enough others, or no member is online to bring them up to date; 10023 if the only
    /// member has reached `max_ha_assets`.
    pub fn scale_up(&self, demand: &Demand<'_>, group: &Group<'_>) -> Result<Plan, ApiError> {
        if let [only] = group.peers
            && demand.replicas > 1
            && self.is_full(*only)
        {
            return Err(INSUFFICIENT_RESOURCES);
        }
        if self.online(group.peers).is_empty() {
            return Err(Refusal { is_offline: true, ..Refusal::default() }.into());
        }
        let peers = self.choose(&Choice {
            cluster: group.cluster,
            demand,
            keep: group.peers,
            members: &[],
            avoid: &[],
        })?;
        let leader = if let [only] = group.peers { Some(*only) } else { group.leader };
        let preferred = self.preferred(&peers, leader);
        Ok(Plan { cluster: group.cluster.to_owned(), peers, preferred })
    }
}

/// The members that stay when a group shrinks to `count`: its leader, then the online ones that lack least, then
/// those that are offline, then those that never joined the replicated log. Equals stay in the order given.
pub fn scale_down(leader: Option<PeerId>, replicas: &[Replica], count: usize) -> Vec<PeerId> {
    let mut ranked: Vec<&Replica> = replicas.iter().collect();
    ranked.sort_by_key(|r| (Some(r.peer) != leader, r.lag.is_none(), !r.is_online, r.lag));
    ranked.iter().take(count).map(|r| r.peer).collect()
}
