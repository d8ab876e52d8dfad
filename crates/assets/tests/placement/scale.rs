//! More and fewer replicas.

use linnet_assets::placement::{Demand, FleetLimits, Group, Replica, scale_down};
use linnet_ids::PeerId;

use crate::harness::{answers, fleet, group, names, no_peers, peers, plain, stream, zoned};

#[test]
fn scaling_up_keeps_members_and_their_leader() {
    for (fleet, members, fields, outcomes) in [
        (plain("n1; n2; n3"), "n2", r#""num_replicas":3"#, &["n2 n1 n3, n2", "n2 n3 n1, n2"][..]),
        (plain("n1; n2; n3; n4 offline"), "n2", r#""num_replicas":2"#, &["n2 n1, n2", "n2 n3, n2"]),
        (
            plain("n1; n2; n3 offline; n4; n5"),
            "n3 n1 n2",
            r#""num_replicas":4"#,
            &["n3 n1 n2 n4, n3", "n3 n1 n2 n5, n3"],
        ),
        (plain("n1; n2 @C2; n3 @C2"), "n1", r#""num_replicas":2"#, &[""]),
        (plain("n1; n2; n3"), "n2", r#""num_replicas":5"#, &[""]),
        (plain("n1 offline; n2; n3"), "n1", r#""num_replicas":3"#, &[", peer offline"]),
        (plain("n1; n2 offline; n3 offline"), "n1", r#""num_replicas":3"#, &[", peer offline"]),
        (
            plain("n1 u; n2; n3"),
            "n1",
            r#""num_replicas":3,"placement":{"tags":["u"]}"#,
            &[", tags not matched ['u']"],
        ),
        (plain("n1; n2 u; n3"), "n1", r#""num_replicas":2,"placement":{"tags":["u"]}"#, &["n1 n2, n1"]),
        (plain("n1 free=0; n2 free=5; n3 free=4"), "n1", r#""num_replicas":2,"max_bytes":5"#, &["n1 n2, n1"]),
        (zoned("n1 az:1; n2 az:1; n3 az:2"), "n1", r#""num_replicas":2"#, &["n1 n3, n1"]),
        (zoned("n1 az:1; n2 az:1; n3 az:2"), "n1", r#""num_replicas":3"#, &[", server tag not unique"]),
        (zoned("n1 az:1; n2 az:1; n3 az:2"), "n1 n2", r#""num_replicas":3"#, &["n1 n2 n3, n1"]),
        (zoned("n1; n2 az:1; n3 az:2"), "n1", r#""num_replicas":3"#, &["n1 n2 n3, n1", "n1 n3 n2, n1"]),
    ] {
        let config = stream(fields);
        let members = peers(members);
        let found =
            answers(&fleet, |planner| match planner.scale_up(&Demand::of(&config), &group(&members)) {
                Ok(plan) => {
                    assert_eq!(plan.cluster, "C1");
                    format!("{}, {}", names(&fleet, &plan.peers), names(&fleet, &[plan.preferred.unwrap()]))
                }
                Err(error) => no_peers(&error),
            });
        assert_eq!(found, outcomes, "{fields}");
    }
}

#[test]
fn the_only_member_leads_even_if_nobody_was_known_to() {
    let (fleet, config, members) = (plain("n1; n2; n3"), stream(r#""num_replicas":3"#), peers("n2"));
    let leaderless = Group { leader: None, ..group(&members) };
    let found = answers(&fleet, |planner| {
        planner.scale_up(&Demand::of(&config), &leaderless).map(|p| p.preferred).map_err(|e| e.err_code)
    });
    assert_eq!(found, [Ok(Some(members[0]))]);
}

#[test]
fn a_single_replica_does_not_become_several_where_no_replicated_asset_may_be_added() {
    let fleet = fleet(FleetLimits::new(2, ""), "n1 ha=3; n2 ha=3; n3 ha=2; n4 ha=2");
    let code = |members: &str, fields: &str| {
        let (members, config) = (peers(members), stream(fields));
        answers(&fleet, |planner| {
            planner
                .scale_up(&Demand::of(&config), &group(&members))
                .map(|plan| plan.peers)
                .map_err(|e| e.err_code)
        })
    };
    assert_eq!(code("n1", r#""num_replicas":3"#), [Err(10023)]);
    assert_eq!(code("n3", r#""num_replicas":3"#), [Err(10005)]);
    assert_eq!(code("n3", r#""num_replicas":2"#), [Ok(peers("n3 n4"))]);
    assert_eq!(code("n1 n3", r#""num_replicas":3"#), [Ok(peers("n1 n3 n4"))]);
}

#[test]
fn scaling_down_keeps_the_leader_then_what_is_online_and_lacks_least() {
    let replica = |name: &str, is_online, lag| Replica { peer: PeerId::of_name(name), is_online, lag };
    let replicas = [
        replica("never", true, None),
        replica("far", true, Some(9)),
        replica("dead", false, Some(0)),
        replica("near", true, Some(1)),
        replica("leader", true, Some(0)),
        replica("deader", false, Some(7)),
        replica("as-near", true, Some(1)),
    ];
    let order = peers("leader near as-near far dead deader never");
    let leader = Some(PeerId::of_name("leader"));
    for count in 1..=order.len() {
        assert_eq!(scale_down(leader, &replicas, count), order[..count]);
    }
    assert_eq!(scale_down(leader, &replicas, 20), order);
    assert_eq!(scale_down(Some(PeerId::of_name("dead")), &replicas, 2), peers("dead leader"));
    assert_eq!(scale_down(None, &replicas, 2), peers("leader near"));
}
