//! Streams that have too few members, or members on servers that were taken out of the cluster.

use std::time::Duration;

use linnet_assets::placement::{Demand, Fleet, Group, Planner};
use linnet_env::Rng;
use linnet_ids::{Mono, PeerId};

use super::placed::placed;
use super::requests::MetaRequest;
use crate::catalogue::{Assignment, Placed};

/// Streams that lack members are looked for at most this often,
const PAUSE: Duration = Duration::from_millis(200);
/// and at least this often.
const AGAIN: Duration = Duration::from_secs(5);

/// What decides whether streams lack members: how far the catalogue is, its members, the servers that can be heard.
pub type Seen = (u64, Vec<PeerId>, Vec<PeerId>);

/// When streams that lack members were looked for last.
#[derive(Default)]
pub struct Healing {
    is_busy: bool,
    seen: Option<Seen>,
    at: Option<Mono>,
}

impl Healing {
    /// True if it is time to look: something changed, or the last time is long ago. The caller looks, and says when that
    /// is done.
    pub fn begins(&mut self, now: Mono, seen: Seen) -> bool {
        let is_new = self.seen.as_ref() != Some(&seen);
        let waited = self.at.map(|at| now.since(at));
        let is_due = waited.is_none_or(|waited| waited > AGAIN || (is_new && waited > PAUSE));
        if self.is_busy || !is_due {
            return false;
        }
        *self = Self { is_busy: true, seen: Some(seen), at: Some(now) };
        true
    }

    /// The looking around that began is done.
    pub fn done(&mut self) {
        self.is_busy = false;
    }
}

/// True for a stream of several replicas, or one whose replicas change, that lacks some, or has some on servers that are not
/// in the cluster.
pub fn is_ailing(assignment: &Assignment, servers: &[PeerId]) -> bool {
    let wanted = usize::try_from(assignment.config.num_replicas).unwrap_or(0);
    let peers = assignment.replicas();
    (wanted > 1 || is_held_by_others(assignment, |peer| servers.contains(&peer)))
        && assignment.live
        && !assignment.ended
        && (peers.len() < wanted || peers.iter().any(|r| !servers.contains(&r.peer)))
}

/// True if the replicas of a stream change and some server that shall have none any more may hold it still.
fn is_held_by_others(assignment: &Assignment, is_there: impl Fn(PeerId) -> bool) -> bool {
    assignment.holding_peers().into_iter().any(|peer| assignment.replica(peer).is_none() && is_there(peer))
}

/// A member of a stream that has ended, or of an earlier one of its name, that was taken out of the cluster: it will never say that it has nothing of the stream any
/// more, so its leaving says it.
pub fn gone_with_its_server(assignment: &Assignment, servers: &[PeerId]) -> Option<MetaRequest> {
    let (group, gone) = assignment.waited_for().find(|(_, peer)| !servers.contains(peer))?;
    Some(assignment.say_gone(group, gone))
}

/// Other members for a stream, and how many are missing still; `None` if there is nothing to change. One that would lose
/// its last member keeps it if nobody else can have the data.
pub fn heal(
    assignment: &Assignment,
    fleet: &Fleet,
    home: &str,
    rng: &dyn Rng,
) -> Option<(Vec<Placed>, usize)> {
    let peers: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
    let group = Group { cluster: home, peers: &peers, leader: None };
    let repair = Planner::new(fleet, rng).heal(&Demand::of(&assignment.config), &group, &[])?;
    let may_change = !repair.is_emptied || is_held_by_others(assignment, |peer| fleet.get(peer).is_some());
    may_change.then(|| (placed(assignment, &repair.peers), repair.missing))
}

#[cfg(test)]
mod tests {
    use linnet_assets::placement::{Candidate, FleetLimits, PeerStats};
    use linnet_jsapi::StreamConfig;

    use super::*;

    fn assignment(replicas: i64, names: &[&str]) -> Assignment {
        let place = |name: &&str| Placed { peer: PeerId::of_name(name).to_string(), life: 7 };
        Assignment {
            account: "A".to_owned(),
            group: linnet_ids::GroupId { epoch: 0, meta_index: 1, random: 1 }.to_string(),
            created: 1,
            live: true,
            members: names.iter().map(place).collect(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config: StreamConfig { num_replicas: replicas, ..StreamConfig::default() },
        }
    }

    #[test]
    fn streams_that_lack_a_member_are_found() {
        let servers = ["a", "b", "c"].map(PeerId::of_name);
        let is_ailing = |replicas, names: &[&str]| is_ailing(&assignment(replicas, names), &servers);
        assert!(!is_ailing(3, &["a", "b", "c"]));
        assert!(is_ailing(3, &["a", "b"]));
        assert!(is_ailing(3, &["a", "b", "gone"]));
        assert!(!is_ailing(1, &["gone"]), "nobody else has what is there");
        let ended = Assignment { ended: true, ..assignment(3, &["a"]) };
        let begins = Assignment { live: false, ..assignment(3, &["a"]) };
        assert!(!super::is_ailing(&ended, &servers) && !super::is_ailing(&begins, &servers));
    }

    #[test]
    fn a_stream_on_its_way_to_a_server_that_is_gone_goes_elsewhere() {
        let servers = ["a", "b"].map(PeerId::of_name);
        let mut fleet = Fleet::new(FleetLimits::new(0, ""));
        for peer in servers {
            let mut candidate = Candidate::unknown(peer);
            (candidate.name, candidate.cluster) = (peer.to_string(), "C".to_owned());
            candidate.is_online = true;
            candidate.stats =
                Some(PeerStats { memory_available: 1 << 30, storage_available: 1 << 30, ha_assets: 0 });
            fleet.insert(candidate);
        }
        let healed = |assignment: &Assignment| heal(assignment, &fleet, "C", &linnet_env::OsRng);
        assert_eq!(healed(&assignment(1, &["gone"])), None, "nobody else has what is there");
        let mut moves = assignment(1, &["a"]);
        let config = moves.config.clone();
        moves.reshape(assignment(1, &["gone"]).members, &config, linnet_ids::Wall(1));
        assert!(is_ailing(&moves, &servers));
        let (members, missing) = healed(&moves).unwrap();
        assert_eq!((members.len(), missing), (1, 0));
        assert!(servers.iter().any(|peer| peer.to_string() == members[0].peer));
    }

    #[test]
    fn an_ended_stream_is_not_waited_for_by_servers_that_are_gone() {
        let servers = ["a", "b"].map(PeerId::of_name);
        let ended = Assignment { ended: true, ..assignment(3, &["a", "gone"]) };
        let Some(MetaRequest::Gone { peer, .. }) = gone_with_its_server(&ended, &servers) else { panic!() };
        assert_eq!(peer, PeerId::of_name("gone").to_string());
        assert!(gone_with_its_server(&assignment(3, &["a", "gone"]), &servers).is_none());
        let known = Assignment { ended: true, ..assignment(3, &["a", "b"]) };
        assert!(gone_with_its_server(&known, &servers).is_none());
    }

    #[test]
    fn only_those_that_were_there_keep_a_life_to_begin_in() {
        let members = placed(&assignment(3, &["a", "b"]), &["b", "c"].map(PeerId::of_name));
        assert_eq!(members.iter().map(|m| m.life).collect::<Vec<_>>(), [7, 0]);
    }

    #[test]
    fn one_looks_when_something_changed_and_from_time_to_time() {
        let mut healing = Healing::default();
        let at = |millis| Mono(1) + Duration::from_millis(millis);
        let seen = |seq| (seq, Vec::new(), Vec::new());
        assert!(healing.begins(at(0), seen(1)));
        assert!(!healing.begins(at(9000), seen(2)), "it is under way");
        healing.done();
        assert!(healing.begins(at(9000), seen(2)));
        healing.done();
        assert!(!healing.begins(at(9100), seen(3)), "too soon");
        assert!(!healing.begins(at(9900), seen(2)), "nothing changed");
        assert!(healing.begins(at(9900), seen(3)));
        healing.done();
        assert!(healing.begins(at(15_000), seen(3)));
    }
}
