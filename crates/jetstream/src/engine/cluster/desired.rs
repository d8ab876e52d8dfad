//! What the API tells of a change of a stream's replicas that is under way (jetstream-clustering 1.10).

use linnet_ids::{PeerId, Wall};
use linnet_jsapi::info::{ClusterInfo, DesiredInfo, DesiredOrigin, DesiredPeer, DesiredStatus, PeerInfo};
use linnet_raft::{Membership, Role};
use linnet_replication::Assignment;

use super::Cluster;
use super::describe::unknown_name;

impl Cluster {
    fn shown_name(&self, peer: PeerId) -> String {
        self.link.name_of(peer).unwrap_or_else(|| unknown_name(peer))
    }

    /// Adds what is under way in a group of these members, and the replicas that are not in the group yet.
    pub(super) fn add_desired(
        &self,
        info: &mut ClusterInfo,
        assignment: &Assignment,
        members: &Membership,
        is_committed: bool,
    ) {
        let Some(change) = &assignment.reshaping else { return };
        let wanted: Vec<PeerId> = assignment.replicas().into_iter().map(|replica| replica.peer).collect();
        for peer in wanted.iter().filter(|peer| members.get(**peer).is_none()) {
            info.replicas.push(PeerInfo {
                name: self.shown_name(*peer),
                peer: peer.to_string(),
                pending: true,
                ..PeerInfo::default()
            });
        }
        info.replicas.sort_by(|a, b| a.name.cmp(&b.name));
        let target =
            wanted.iter().map(|peer| DesiredPeer { name: self.shown_name(*peer), peer: peer.to_string() });
        info.desired = Some(DesiredInfo {
            created: Some(Wall(change.since)),
            name: info.name.clone(),
            replicas: target.collect(),
            origin: Some(DesiredOrigin {
                replicas: change.replicas,
                placement: change.placement.clone(),
                retention: None,
            }),
            status: status(members, &wanted, is_committed, |peer| self.shown_name(peer)),
        });
    }
}

/// How far it is, in nats-server's words.
fn status(
    members: &Membership,
    wanted: &[PeerId],
    is_committed: bool,
    name: impl Fn(PeerId) -> String,
) -> Option<DesiredStatus> {
    let say = |kind: &str, description: String| {
        Some(DesiredStatus { description, kind: kind.to_owned(), ..DesiredStatus::default() })
    };
    let learner = members.members().iter().find(|member| member.role == Role::Learner);
    let absent = wanted.iter().find(|peer| members.get(**peer).is_none());
    let surplus = members.members().iter().find(|member| !wanted.contains(&member.peer));
    match (absent, learner, surplus) {
        (Some(peer), ..) => say("membership", format!("adding peer {}", name(*peer))),
        (_, Some(_), _) => say("catchup", "waiting for peer to catch up before adding it".to_owned()),
        (_, _, Some(member)) => say("membership", format!("removing peer {}", name(member.peer))),
        _ if !is_committed => say("quorum", "waiting for peer set to settle".to_owned()),
        _ => say("meta", "reporting membership to meta leader".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use linnet_raft::{Change, Replica};

    use super::*;

    fn told(members: &Membership, wanted: &str) -> String {
        let wanted: Vec<PeerId> = wanted.split(' ').map(PeerId::of_name).collect();
        let names = ["a", "b", "c"];
        let name = |peer| (*names.iter().find(|n| PeerId::of_name(n) == peer).unwrap()).to_owned();
        let status = status(members, &wanted, true, name).unwrap();
        format!("{}: {}", status.kind, status.description)
    }

    #[test]
    fn every_step_is_told() {
        let replica = |name| Replica { peer: PeerId::of_name(name), incarnation: 1 };
        let one = Membership::of_voters([replica("a")]);
        assert_eq!(told(&one, "a b"), "membership: adding peer b");
        let coming = one.after(Change::Add(replica("b"))).unwrap();
        assert_eq!(told(&coming, "a b"), "catchup: waiting for peer to catch up before adding it");
        let two = Membership::of_voters([replica("a"), replica("b")]);
        assert_eq!(told(&two, "a b"), "meta: reporting membership to meta leader");
        assert_eq!(told(&two, "b"), "membership: removing peer a");
    }
}
