//! Who leads a group next when its leader gives way.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use linnet_assets::placement::{Candidate, Fleet, FleetLimits, Planner, StepDown, Tags};
use linnet_env::OsRng;
use linnet_ids::{GroupId, LogIndex, PeerId};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::stream_config::Placement;
use linnet_raft::Refused;

use super::{Cluster, Engine};

/// How long a hand-over may take before the present leader goes on.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// A voter that may lead next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heir {
    pub(super) peer: PeerId,
    /// How much of the log it has for certain.
    pub(super) matched: LogIndex,
}

/// Who has most of the log. Among equals it is another one from group to group, so that what one server led does not all
/// go to the same.
pub(super) fn best(group: GroupId, heirs: impl Iterator<Item = Heir>) -> Option<PeerId> {
    heirs.max_by_key(|heir| (heir.matched, lot(group, heir.peer))).map(|heir| heir.peer)
}

fn lot(group: GroupId, peer: PeerId) -> (u64, PeerId) {
    let mut hasher = DefaultHasher::new();
    (group.to_string(), peer.as_str()).hash(&mut hasher);
    (hasher.finish(), peer)
}

impl Cluster {
    /// The servers that there are or were, as far as it matters for who leads.
    fn contenders(&self, own_name: &str) -> Fleet {
        let mut fleet = Fleet::new(FleetLimits::default());
        let own = (self.me(), own_name.to_owned(), String::new(), true);
        let peers = self.link.peers().into_iter();
        let others = peers.map(|p| (p.id, p.name, p.cluster, p.is_reachable && !p.is_offline));
        for (peer, name, cluster, is_online) in others.chain([own]) {
            let said = self.last_description(peer).unwrap_or_default();
            let tags = Tags::new(said.tags.iter().map(String::as_str));
            fleet.insert(Candidate { name, cluster, tags, is_online, ..Candidate::unknown(peer) });
        }
        fleet
    }
}

impl Engine {
    /// Hands the leadership of a group that this server leads to another one (jetstream-clustering 1.13).
    ///
    /// # Errors
    /// 10005 if nobody is there who can lead, or who fits `placement`.
    pub(crate) async fn give_way(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        group: GroupId,
        placement: Option<&Placement>,
    ) -> Result<(), ApiError> {
        let known = self.act_and_tell(group, |replica, _, _| {
            let voters: Vec<PeerId> = replica.status()?.membership.voters().map(|m| m.peer).collect();
            let progress = |peer: &PeerId| Some((*peer, replica.progress(*peer).filter(|p| !p.is_amnesiac)?));
            let heirs = voters.iter().filter_map(progress);
            let heirs: Vec<Heir> = heirs.map(|(peer, p)| Heir { peer, matched: p.matched }).collect();
            Some((voters, heirs))
        });
        let (peers, mut heirs) = known.await.flatten().ok_or(errors::CLUSTER_NOT_LEADER)?;
        let fleet = cluster.contenders(&self.place.server);
        heirs.retain(|heir| heir.peer != cluster.me() && fleet.is_online(heir.peer));
        let heard: Vec<PeerId> = heirs.iter().map(|heir| heir.peer).collect();
        let chosen = match placement {
            Some(placement) => {
                let request = StepDown {
                    peers: &peers,
                    leader: cluster.me(),
                    heard: &heard,
                    placement: Some(placement),
                };
                Planner::new(&fleet, &OsRng).step_down(&request)?
            }
            None => best(group, heirs.into_iter()),
        };
        let to = chosen.ok_or_else(|| errors::cluster_no_peers("no replacement peer connected"))?;
        let moved = self
            .act_and_tell(group, move |replica, now, log| replica.transfer(now, to, HAND_OVER_WITHIN, log));
        match moved.await {
            Some(Ok(()) | Err(Refused::GivingWay)) => Ok(()),
            Some(Err(_)) | None => Err(errors::CLUSTER_NOT_LEADER),
        }
    }

    /// Lets others win the elections of the groups here if they can, or does not any more.
    pub(super) fn be_reluctant(&self, groups: impl Iterator<Item = GroupId>, is_reluctant: bool) {
        for group in groups {
            self.act_on(group, Box::new(move |replica, _, _| replica.set_reluctant(is_reluctant)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn group(n: u64) -> GroupId {
        GroupId { epoch: 0, meta_index: n, random: 7 * n }
    }

    #[test]
    fn equals_share_what_a_server_led() {
        let peers = ["a", "b", "c"].map(PeerId::of_name);
        let mut led: BTreeMap<PeerId, u32> = BTreeMap::new();
        for n in 0..300 {
            let heirs = peers.iter().map(|peer| Heir { peer: *peer, matched: 5 });
            let chosen = best(group(n), heirs.clone()).unwrap();
            assert_eq!(best(group(n), heirs.rev()), Some(chosen), "it stays with one of them");
            *led.entry(chosen).or_default() += 1;
        }
        assert!(led.len() == 3 && led.values().all(|count| *count > 60), "{led:?}");
    }

    #[test]
    fn who_has_more_leads() {
        let [a, b] = ["a", "b"].map(PeerId::of_name);
        for n in 0..20 {
            let heirs = [Heir { peer: a, matched: 6 }, Heir { peer: b, matched: 5 }];
            assert_eq!(best(group(n), heirs.into_iter()), Some(a));
        }
        assert_eq!(best(group(1), std::iter::empty()), None);
    }
}
