//! Consumers on members of their stream.

use linnet_assets::placement::FleetLimits;

use crate::harness::{answers, fleet, group, names, peers, plain, sorted_names};

#[test]
fn consumers_go_to_members_of_the_stream() {
    for (servers, stream, replicas, outcomes) in [
        ("n1; n2; n3; n4", "n1 n2 n3", 3, &["n1 n2 n3"][..]),
        ("n1; n2; n3; n4", "n1 n2 n3", 1, &["n1", "n2", "n3"]),
        ("n1; n2 offline; n3; n4", "n1 n2 n3", 1, &["n1", "n3"]),
        ("n1; n2; n3; n4 offline; n5 offline", "n1 n2 n3 n4 n5", 5, &["n1 n2 n3 n4 n5"]),
        ("n1; n2; n3; n4 offline; n5 offline", "n1 n2 n3 n4 n5", 3, &["n1 n2 n3"]),
        ("n1; n2; n3; n4 offline; n5 offline", "n1 n2 n3 n4 n5", 4, &["10023"]),
        ("n1; n2 offline; n3 offline", "n1 n2 n3", 3, &["10023"]),
        ("n1; n2; n3 offline", "n1 n2 n3", 3, &["n1 n2 n3"]),
        ("n1 offline", "n1", 1, &["10023"]),
        ("n1; n2", "n1 n2", 3, &["10023"]),
        ("n1; n2", "", 1, &["10023"]),
        ("n1; n2", "n1 n2", 0, &["10023"]),
        ("n1; n2", "n1 gone", 1, &["n1"]),
    ] {
        let fleet = plain(servers);
        let members = peers(stream);
        let found = answers(&fleet, |planner| match planner.create_consumer(&group(&members), replicas) {
            Ok(plan) => {
                let preferred = plan.preferred.unwrap();
                assert!(plan.peers.contains(&preferred) && fleet.is_online(preferred));
                assert_eq!(plan.cluster, "C1");
                sorted_names(&fleet, &plan.peers)
            }
            Err(error) => error.err_code.to_string(),
        });
        assert_eq!(found, outcomes, "{servers}: R{replicas} on {stream}");
    }
}

#[test]
fn replicated_consumers_count_against_the_limit_of_replicated_assets() {
    let fleet = fleet(FleetLimits::new(2, ""), "n1 ha=2; n2 ha=3");
    let members = peers("n1 n2");
    let code = |replicas| {
        answers(&fleet, |planner| {
            planner.create_consumer(&group(&members), replicas).err().map(|e| e.err_code)
        })
    };
    assert_eq!(code(2), [Some(10023)]);
    assert_eq!(code(1), [None]);
}

#[test]
fn consumers_follow_their_stream() {
    let fleet = plain("n1; n2; n3 offline; n4; n5");
    for (stream, consumer, replicas, outcomes) in [
        ("n1 n2 n4", "n1 n2 n5", 3, &["n1 n2 n4"][..]),
        ("n1 n2 n4", "n5", 1, &["n1", "n2", "n4"]),
        ("n1 n2 n4", "n2", 1, &["n2"]),
        ("n1 n2 n4", "n2 n1 n4", 3, &["n2 n1 n4"]),
        ("n1 n2 n4", "n2 n1 n4", 1, &["n2"]),
        ("n1 n3", "n5", 1, &["n1"]),
        ("n3", "n5", 1, &["n3"]),
        ("n1 n3", "n3", 2, &["n3 n1"]),
        ("n1 n2", "n1", 3, &["n1 n2"]),
    ] {
        let (to, from) = (peers(stream), peers(consumer));
        let found = answers(&fleet, |planner| names(&fleet, &planner.follow_stream(&to, &from, replicas)));
        assert_eq!(found, outcomes, "{consumer} after {stream}");
    }
}
