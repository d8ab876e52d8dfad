use linnet_ids::Mono;
use linnet_raft::{Change, Membership, Replica};

use super::*;

fn peer(name: &str) -> PeerId {
    PeerId::of_name(name)
}

fn replica(name: &str) -> Replica {
    Replica { peer: peer(name), incarnation: 1 }
}

fn raft(leader: Option<&str>) -> Status {
    Status {
        term: 3,
        leader: leader.map(peer),
        had_leader: true,
        is_leader: leader == Some("n1"),
        is_candidate: leader.is_none(),
        commit: 10,
        applied: 10,
        last: 12,
        last_term: 3,
        is_amnesiac: false,
        is_current: leader.is_some(),
        is_removed: false,
        membership: Membership::of_voters(["n1", "n2", "n3"].map(replica)),
        is_membership_committed: true,
        rescue_quorum: None,
        forgetful: Vec::new(),
        fault: None,
    }
}

fn view(name: &str, silence: u64) -> PeerView {
    PeerView {
        id: peer(name),
        name: name.to_owned(),
        server_id: String::new(),
        cluster: "C".to_owned(),
        is_connected: true,
        is_reachable: silence < 1,
        silence: Some(Duration::from_secs(silence)),
        is_offline: silence >= 10,
        history: None,
    }
}

/// Entries that a member has.
fn progress(matched: u64) -> MemberProgress {
    MemberProgress { matched, heard: Some(Mono(1)), is_catching_up: false, is_amnesiac: false }
}

/// The status at `n1`. Of its members, `n2` has everything and `n3` 4 entries less.
fn status(raft: &Status, peers: &[PeerView]) -> MetaStatus {
    let facts = MetaFacts {
        cluster: "C",
        name: "n1",
        me: peer("n1"),
        raft,
        progress: &|id| Some(progress(if id == peer("n2") { 12 } else { 6 })),
        peers,
        names: &|_| None,
        listened: Duration::from_secs(60),
    };
    facts.status()
}

/// Name, what is said of it, lag.
fn shown(status: &MetaStatus) -> Vec<(&str, &str, u64)> {
    let text = |p: &MetaPeer| match (p.is_current, p.is_offline) {
        (true, false) => "current",
        (false, false) => "behind",
        (false, true) => "offline",
        (true, true) => "current and offline",
    };
    status.peers.iter().map(|p| (p.name.as_str(), text(p), p.lag)).collect()
}

#[test]
fn the_leader_knows_how_far_all_others_are() {
    let status_of = |peers: &[PeerView]| status(&raft(Some("n1")), peers);
    let all = status_of(&[view("n2", 0), view("n3", 0)]);
    assert_eq!(shown(&all), [("n2", "current", 0), ("n3", "behind", 4)]);
    assert!(all.is_leader && all.is_current && all.hears_somebody);
    assert_eq!((all.size, all.quorum, all.cluster.as_str()), (3, 2, "C"));
    assert_eq!(all.leader, Some(MetaLeader { name: "n1".to_owned(), peer: peer("n1") }));
    let group = all.raft.unwrap();
    assert_eq!((group.state, group.committed, group.last_index), (GroupState::Leader, 10, 12));
    let matched: Vec<_> = group.peers.iter().map(|p| (p.name.as_str(), p.matched)).collect();
    assert!(matched.contains(&("n2", Some(12))) && matched.contains(&("n3", Some(6))) && matched.len() == 2);

    let without_n2 = status_of(&[view("n2", 10), view("n3", 0)]);
    assert_eq!(shown(&without_n2), [("n2", "offline", 0), ("n3", "behind", 4)]);
    assert_eq!(without_n2.peers[0].active, Duration::from_secs(10));

    // Nobody has met n2 since the start.
    let unknown = status_of(&[view("n3", 0)]);
    let name = format!("Server name unknown at this time (peerID: {})", peer("n2"));
    assert_eq!(shown(&unknown), [(name.as_str(), "offline", 0), ("n3", "behind", 4)]);
    let unheard: Vec<_> = unknown.peers.iter().map(|p| p.unheard.as_secs()).collect();
    assert_eq!(unheard, [60, 0], "as long as it could have been heard");
}

#[test]
fn others_know_the_leader_and_who_is_away() {
    let follower = status(&raft(Some("n2")), &[view("n2", 0), view("n3", 12)]);
    assert_eq!(shown(&follower), [("n2", "current", 0), ("n3", "offline", 0)]);
    assert!(follower.is_current && !follower.is_leader);
    assert_eq!(follower.peers[1].active, Duration::ZERO);
    assert!(follower.raft.as_ref().unwrap().peers.iter().all(|p| p.matched.is_none()));

    let deaf = status(&raft(Some("n2")), &[view("n2", 3), view("n3", 0)]);
    assert!(!deaf.is_current, "it cannot hear the leader");
    assert_eq!(shown(&deaf), [("n2", "behind", 0), ("n3", "behind", 0)]);
}

#[test]
fn without_a_leader_a_server_lists_itself_too() {
    let status = status(&raft(None), &[view("n2", 20), view("n3", 20)]);
    assert_eq!(shown(&status), [("n1", "behind", 0), ("n2", "offline", 0), ("n3", "offline", 0)]);
    assert!(!status.is_current && !status.hears_somebody && status.leader.is_none());
    assert_eq!(status.raft.unwrap().state, GroupState::Candidate);
}

#[test]
fn who_may_have_forgotten_something_or_does_not_count_yet_is_not_current() {
    let forgetful = Status { is_amnesiac: true, ..raft(Some("n2")) };
    let at_n1 = status(&forgetful, &[view("n2", 0), view("n3", 0)]);
    assert!(!at_n1.is_current && at_n1.raft.unwrap().is_observer);
    let grown = raft(Some("n1"));
    let membership = grown.membership.after(Change::Add(replica("n4"))).unwrap();
    let with_learner =
        status(&Status { membership, ..grown }, &[view("n2", 0), view("n3", 0), view("n4", 0)]);
    let learner = &with_learner.peers[2];
    assert!(learner.name == "n4" && learner.is_pending && !with_learner.peers[0].is_pending);
    assert_eq!(with_learner.size, 3, "it does not count");
}
