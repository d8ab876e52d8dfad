//! Streams that go elsewhere.

use linnet_assets::placement::{Demand, FleetLimits, Group, Origin, Plan};
use linnet_ids::PeerId;
use linnet_jsapi::ApiError;

use crate::harness::{HOME, answers, fleet, group, names, peers, plain, stream, zoned};
use linnet_assets::placement::Fleet;

/// `CLUSTER: members, preferred`, or the text of the error.
fn told(fleet: &Fleet, result: Result<Plan, ApiError>) -> String {
    match result {
        Ok(plan) => {
            let preferred = plan.preferred.unwrap();
            assert!(plan.peers.contains(&preferred) && fleet.is_online(preferred));
            format!("{}: {}", plan.cluster, names(fleet, &plan.peers))
        }
        Err(error) => error.to_string(),
    }
}

fn relocated(fleet: &Fleet, members: &str, fields: &str, origin: Origin<'_>) -> Vec<String> {
    let (members, config) = (peers(members), stream(fields));
    answers(fleet, |planner| told(fleet, planner.relocate(&Demand::of(&config), origin, &group(&members))))
}

#[test]
fn a_move_keeps_members_that_fit_the_new_placement() {
    let four = plain("n1 t; n2 t; n3 t; n4");
    for (members, fields, outcomes) in [
        ("n1 n3", r#""num_replicas":2,"placement":{"tags":["t"]}"#, &["C1: n1 n3"][..]),
        ("n4 n3", r#""num_replicas":2,"placement":{"tags":["t"]}"#, &["C1: n3 n1", "C1: n3 n2"]),
        ("n4", r#""placement":{"tags":["t"]}"#, &["C1: n1", "C1: n2", "C1: n3"]),
        (
            "n1 n2 n3",
            r#""num_replicas":3,"placement":{"tags":["!t"]}"#,
            &["no suitable peers for placement, tags excluded ['t'] (10005)"],
        ),
        ("n1", r#""placement":{"cluster":"NOPE"}"#, &["no suitable peers for placement (10005)"]),
    ] {
        assert_eq!(relocated(&four, members, fields, HOME), outcomes, "{members} {fields}");
    }
}

#[test]
fn a_move_leaves_members_that_are_offline_if_others_fit() {
    let fields = r#""num_replicas":2,"placement":{"tags":["t"]}"#;
    assert_eq!(relocated(&plain("n1 t; n2 t offline; n3 t"), "n1 n2", fields, HOME), ["C1: n1 n3"]);
    let three = r#""num_replicas":3,"placement":{"tags":["t"]}"#;
    let fleet = plain("n1 t; n2 t offline; n3 t; n4 t offline");
    assert_eq!(relocated(&fleet, "n1 n2 n3", three, HOME), ["C1: n1 n2 n3"]);
}

#[test]
fn what_members_take_already_does_not_speak_against_them() {
    let full = fleet(FleetLimits::new(2, ""), "n1 ha=3 free=0; n2 ha=3 free=0; n3 ha=3");
    let fields = r#""num_replicas":2,"max_bytes":5,"placement":{"tags":["!x"]}"#;
    assert_eq!(relocated(&full, "n1 n2", fields, HOME), ["C1: n1 n2"]);
    let unheard = plain("n1 t unheard; n2 t");
    assert_eq!(relocated(&unheard, "n1", r#""placement":{"tags":["t"]}"#, HOME), ["C1: n1"]);
}

#[test]
fn a_move_that_makes_tags_unique_replaces_what_is_double() {
    let fleet = zoned("n1 az:1; n2 az:1; n3 az:2; n4 az:3");
    let fields = r#""num_replicas":3,"placement":{"tags":["!x"]}"#;
    assert_eq!(relocated(&fleet, "n2 n1 n3", fields, HOME), ["C1: n1 n3 n4", "C1: n2 n3 n4"]);
}

#[test]
fn a_move_to_another_cluster_takes_the_leadership_there() {
    let wide = plain("n1; n2 @C2; n3 @C2");
    let fields = r#""num_replicas":2,"placement":{"cluster":"C2"}"#;
    let found = relocated(&wide, "n1", fields, HOME);
    assert_eq!(found, ["C2: n2 n3", "C2: n3 n2"]);
    let alternates = ["C2".to_owned()];
    let origin = Origin { cluster: "C1", alternates: &alternates };
    let tags = r#""num_replicas":2,"placement":{"tags":["!x"]}"#;
    assert_eq!(relocated(&wide, "n1", tags, origin), found);
}

fn moved_off(fleet: &Fleet, members: &str, fields: &str, from: &str, tags: &[&str]) -> Vec<String> {
    let (members, config) = (peers(members), stream(fields));
    let tags: Vec<String> = tags.iter().map(|t| (*t).to_owned()).collect();
    answers(fleet, |planner| {
        let group = Group { leader: Some(members[0]), ..group(&members) };
        let from = PeerId::of_name(from);
        told(fleet, planner.move_off(&Demand::of(&config), &group, from, &tags))
    })
}

#[test]
fn a_stream_that_leaves_a_server_goes_to_another_of_its_cluster_or_as_a_whole_to_another_cluster() {
    let wide = plain("n1 t; n2; n3; n4; m1 @C2 t; m2 @C2 t; m3 @C2");
    let (two, three) = (r#""num_replicas":2"#, r#""num_replicas":3"#);
    for (members, fields, from, tags, outcomes) in [
        ("n1 n2 n3", three, "n2", &[][..], &["C1: n1 n3 n4"][..]),
        ("n2", "", "n2", &["t"], &["C1: n1"]),
        ("n1 n2", two, "n2", &["t"], &["C2: m1 m2", "C2: m2 m1"]),
        ("n1 n2", two, "n4", &[], &["peer not a member (10040)"]),
        (
            "n1 n2",
            two,
            "n2",
            &["nope"],
            &["no suitable peers for placement, tags not matched ['nope'] (10005)"],
        ),
        (
            "n1 n2",
            r#""num_replicas":2,"placement":{"tags":["t"]}"#,
            "n1",
            &["u"],
            &["no suitable peers for placement, tags not matched ['t', 'u'] (10005)"],
        ),
    ] {
        assert_eq!(moved_off(&wide, members, fields, from, tags), outcomes, "{members} off {from} {tags:?}");
    }
    assert_eq!(
        moved_off(&plain("n1; n2 offline"), "n1", "", "n1", &[]),
        ["no suitable peers for placement, peer offline (10005)",]
    );
    let zones = zoned("n1 az:1; n2 az:2; n3 az:1; n4 az:2");
    assert_eq!(moved_off(&zones, "n1 n2", two, "n1", &[]), ["C1: n2 n3"]);
}
