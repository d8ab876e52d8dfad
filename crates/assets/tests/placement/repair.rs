//! Members that go, and vacancies.

use linnet_assets::placement::{Demand, Fleet, Group, Repair};
use linnet_ids::PeerId;

use crate::harness::{answers, group, names, peers, plain, stream, zoned};

const THREE: &str = r#""num_replicas":3"#;

/// `members, missing N`, with `, emptied` if it is so; `none` for no change.
fn told(fleet: &Fleet, repair: Option<Repair>) -> String {
    repair.map_or_else(
        || "none".to_owned(),
        |r| {
            let emptied = if r.is_emptied { ", emptied" } else { "" };
            format!("{}, missing {}{emptied}", names(fleet, &r.peers), r.missing)
        },
    )
}

#[test]
fn the_place_of_a_removed_server_is_filled_if_there_is_a_spare_and_stays_open_if_not() {
    for (fleet, members, fields, gone, avoid, outcomes) in [
        (plain("n1; n2; n4"), "n1 n2 n3", THREE, "n3", "", &["n1 n2 n4, missing 0"][..]),
        (plain("n1; n2; n3; n4"), "n1 n2 n3", THREE, "n3", "", &["n1 n2 n4, missing 0"]),
        (plain("n1; n2; n4"), "n1 n2 n3", THREE, "n3", "n4", &["n1 n2, missing 1"]),
        (plain("n1; n2; n3"), "n1 n2 n3", THREE, "n3", "", &["n1 n2, missing 1"]),
        (plain("n1; n2; n4 offline"), "n1 n2 n3", THREE, "n3", "", &["n1 n2, missing 1"]),
        (plain("n1; n2 offline; n4"), "n1 n2 n3", THREE, "n3", "", &["n1 n2 n4, missing 0"]),
        (plain("n1; n4; n5"), "n1 n3", THREE, "n3", "", &["n1 n4 n5, missing 0", "n1 n5 n4, missing 0"]),
        (plain("n1; n4 @C2"), "n1 n3", r#""num_replicas":2"#, "n3", "", &["n1, missing 1"]),
        (plain("n1; n4"), "n3", "", "n3", "", &["n1, missing 0, emptied", "n4, missing 0, emptied"]),
        (plain("n1 offline"), "n3", "", "n3", "", &["none"]),
        (plain("n1; n4"), "n3", r#""placement":{"tags":["only-n3"]}"#, "n3", "", &["none"]),
        (zoned("n1 az:1; n2 az:2; n4 az:2; n5 az:3"), "n1 n2 n3", THREE, "n3", "", &["n1 n2 n5, missing 0"]),
        (zoned("n1 az:1; n2 az:2; n4 az:2"), "n1 n2 n3", THREE, "n3", "", &["n1 n2, missing 1"]),
    ] {
        let (members, config, avoid) = (peers(members), stream(fields), peers(avoid));
        let gone = PeerId::of_name(gone);
        let found = answers(&fleet, |planner| {
            told(&fleet, planner.give_up(&Demand::of(&config), &group(&members), gone, &avoid))
        });
        assert_eq!(found, outcomes, "{fields}");
    }
}

#[test]
fn groups_heal_onto_servers_that_appear() {
    for (fleet, members, fields, avoid, outcomes) in [
        (plain("n1; n2; n4"), "n1 n2", THREE, "", &["n1 n2 n4, missing 0"][..]),
        (plain("n1; n2; n4"), "n1 n2", THREE, "n4", &["none"]),
        (plain("n1; n2; n4 offline"), "n1 n2", THREE, "", &["none"]),
        (plain("n1; n2; n4 unheard"), "n1 n2", THREE, "", &["none"]),
        (plain("n1; n2; n4"), "n1 n2 n4", THREE, "n4", &["none"]),
        (plain("n1; n4"), "n1", THREE, "", &["n1 n4, missing 1"]),
        (plain("n1; n2"), "n1 n2 n3", THREE, "", &["n1 n2, missing 1"]),
        (plain("n1; n2; n5"), "n1 n2 n3", THREE, "", &["n1 n2 n5, missing 0"]),
        (plain("n1"), "n3", "", "", &["n1, missing 0, emptied"]),
        (plain("n1 @C2"), "n3", "", "", &["none"]),
    ] {
        let (members, config, avoid) = (peers(members), stream(fields), peers(avoid));
        let found = answers(&fleet, |planner| {
            told(&fleet, planner.heal(&Demand::of(&config), &group(&members), &avoid))
        });
        assert_eq!(found, outcomes, "{fields}");
    }
}

#[test]
fn an_operator_takes_a_stream_off_a_server_only_for_another() {
    for (fleet, members, fields, gone, outcomes) in [
        (plain("n1; n2; n3; n4"), "n1 n2 n3", THREE, "n2", &["n1 n3 n4, n1"][..]),
        (plain("n1; n2; n3; n4"), "n1 n2 n3", THREE, "n4", &["peer not a member (10040)"]),
        (plain("n1; n2; n3"), "n1 n2 n3", THREE, "n2", &["peer remap failed (10075)"]),
        (plain("n1; n2; n3; n4 offline"), "n1 n2 n3", THREE, "n2", &["n1 n3 n4, n1"]),
        (plain("n1; n2; n3; n4 offline; n5"), "n1 n2 n3", THREE, "n2", &["n1 n3 n5, n1"]),
        (plain("n1; n2; n3 offline; n4 offline"), "n1 n2 n3", THREE, "n2", &["peer remap failed (10075)"]),
        (plain("n1; n2; n4"), "n1 n2", THREE, "n2", &["peer remap failed (10075)"]),
        (plain("n1; n2"), "n1", "", "n1", &["n2, n2"]),
        (plain("n1; n2 offline"), "n1", "", "n1", &["peer remap failed (10075)"]),
        (
            zoned("n1 az:1; n2 az:2; n3 az:3; n4 az:1"),
            "n2 n3 n4",
            THREE,
            "n3",
            &["peer remap failed (10075)"],
        ),
        (zoned("n1 az:1; n2 az:2; n3 az:3; n4 az:1"), "n2 n3 n4", THREE, "n4", &["n2 n3 n1, n2"]),
    ] {
        let (members, config) = (peers(members), stream(fields));
        let gone = PeerId::of_name(gone);
        let found = answers(&fleet, |planner| {
            let group = Group { leader: Some(members[0]), ..group(&members) };
            match planner.replace(&Demand::of(&config), &group, gone, &[]) {
                Ok(plan) => {
                    format!("{}, {}", names(&fleet, &plan.peers), names(&fleet, &[plan.preferred.unwrap()]))
                }
                Err(error) => error.to_string(),
            }
        });
        assert_eq!(found, outcomes, "{fields} off {gone}");
    }
}

#[test]
fn a_replacement_is_none_of_those_to_avoid() {
    let fleet = plain("n1; n2; n3; n4; n5");
    let (members, config, avoid) = (peers("n1 n2 n3"), stream(THREE), peers("n4"));
    let found = answers(&fleet, |planner| {
        let plan = planner.replace(&Demand::of(&config), &group(&members), members[0], &avoid).unwrap();
        names(&fleet, &plan.peers)
    });
    assert_eq!(found, ["n2 n3 n5"]);
}
