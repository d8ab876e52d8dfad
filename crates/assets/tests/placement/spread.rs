//! How evenly many assets lie.

use std::collections::BTreeMap;
use std::time::Duration;

use linnet_assets::placement::{Demand, Fleet, FleetLimits, Planner};
use linnet_env::{Clock, OsRng, RealClock, SeededRng};
use linnet_ids::PeerId;

use crate::harness::{HOME, fleet, plain, stream, zoned};

/// Creates `count` streams one after another and counts replicas and leaders by server.
fn place(fleet: &mut Fleet, count: usize, fields: &str) -> BTreeMap<String, (u64, u64)> {
    let config = stream(fields);
    let rng = SeededRng::new(7);
    let mut led: BTreeMap<PeerId, u64> = BTreeMap::new();
    for _ in 0..count {
        let plan = Planner::new(fleet, &rng).create_stream(&Demand::of(&config), HOME).unwrap();
        fleet.assigned(&plan.peers);
        *led.entry(plan.preferred.unwrap()).or_default() += 1;
    }
    fleet.iter().map(|c| (c.name.clone(), (c.streams, led.get(&c.peer).copied().unwrap_or(0)))).collect()
}

fn extremes(counts: impl Iterator<Item = u64> + Clone) -> (u64, u64) {
    (counts.clone().min().unwrap(), counts.max().unwrap())
}

const SEVEN: &str = "n1; n2; n3; n4; n5; n6; n7";

#[test]
fn replicated_streams_lie_evenly_on_equal_servers() {
    let placed = place(&mut plain(SEVEN), 300, r#""num_replicas":3"#);
    assert_eq!(extremes(placed.values().map(|v| v.0)), (128, 129), "{placed:?}");
    let (least, most) = extremes(placed.values().map(|v| v.1));
    assert!(least > 20 && most < 70, "{placed:?}");
}

#[test]
fn single_streams_lie_evenly_though_some_servers_have_a_little_more_room() {
    let servers = "n1 free=1000001; n2 free=999000; n3 free=1000000; n4 free=998000";
    let placed = place(&mut plain(servers), 200, "");
    let (least, most) = extremes(placed.values().map(|v| v.0));
    assert!(least >= 49 && most <= 51, "{placed:?}");
}

#[test]
fn single_streams_lie_in_proportion_to_room() {
    let placed = place(&mut plain("n1 free=1000; n2 free=3000; n3 free=0"), 200, "");
    assert_eq!(placed.values().map(|v| v.0).collect::<Vec<_>>(), [50, 150, 0]);
    let full = place(&mut plain("n1 free=0; n2 free=0"), 10, "");
    assert_eq!(full.values().map(|v| v.0).collect::<Vec<_>>(), [5, 5]);
}

#[test]
fn replicated_streams_go_where_the_fewest_are_even_if_there_is_less_room() {
    let mut fleet = plain("n1 free=10 replicated=2; n2 free=1000 replicated=3; n3 free=10 replicated=2");
    let placed = place(&mut fleet, 1, r#""num_replicas":2"#);
    assert_eq!(placed.values().map(|v| v.0).collect::<Vec<_>>(), [1, 0, 1]);
}

#[test]
fn zones_share_evenly_what_each_of_them_gets() {
    let mut fleet = zoned("n1 az:1; n2 az:1; n3 az:1; n4 az:2; n5 az:3; n6 az:3");
    let placed = place(&mut fleet, 60, r#""num_replicas":3"#);
    let counts: Vec<u64> = placed.values().map(|v| v.0).collect();
    assert_eq!(counts, [20, 20, 20, 60, 30, 30]);
}

/// The fastest of many rounds counts, as other work on the machine only ever slows one down.
#[test]
fn a_plan_among_a_hundred_servers_takes_microseconds() {
    let line =
        |n: u64| format!("n{n} az:{} rack:{n} ssd streams={} replicated={}", n % 10, 3000 + n, 2000 + n % 7);
    let servers: Vec<String> = (0..100).map(line).collect();
    let fleet = fleet(FleetLimits::new(100_000, "az:"), &servers.join(";"));
    let config = stream(r#""num_replicas":5,"max_bytes":1000,"placement":{"tags":["SSD","!arm"]}"#);
    let clock = RealClock::new();
    let round = |_| {
        let start = clock.mono();
        for _ in 0..20 {
            Planner::new(&fleet, &OsRng).create_stream(&Demand::of(&config), HOME).unwrap();
        }
        clock.mono().since(start) / 20
    };
    let fastest = (0..50).map(round).min().unwrap();
    assert!(fastest < Duration::from_micros(100), "{fastest:?}");
}
