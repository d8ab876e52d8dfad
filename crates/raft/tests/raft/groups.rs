//! Small groups whose schedules are explored.

use std::sync::Arc;
use std::time::Duration;

use linnet_raft::{Change, Replica};

use crate::explore::{Limits, explore, run, run_to_the_end};
use crate::mutation::Mutation;
use crate::paper::with_logs;
use crate::schedule::{Budget, Path, State};
use crate::world::{World, peer};

/// A group with a leader and one acknowledged entry.
fn led(servers: usize, voters: usize) -> World {
    let mut world = World::new(1, servers, voters);
    world.elect(0);
    world.propose(0);
    world.quiesce();
    for at in voters..servers {
        let replica = Replica { peer: peer(at), incarnation: 100 + at as u64 };
        world.change(0, Change::Add(replica)).unwrap();
        world.start_added(at, replica.incarnation);
        world.quiesce();
    }
    world
}

#[test]
fn every_first_election_of_three() {
    let budget = Budget { timeouts: 4, repeats: 1, restarts: 1, doubts: 1, ..Budget::default() };
    run_to_the_end("first election of 3", &World::new(1, 3, 3), budget, 4_000);
}

#[test]
fn every_change_of_leaders_of_three() {
    let budget = Budget { timeouts: 3, doubts: 2, proposals: 2, restarts: 1, ..Budget::default() };
    run_to_the_end("leaders of 3", &led(3, 3), budget, 4_000);
}

#[test]
fn every_wipe_and_remount_of_three() {
    let budget = Budget { timeouts: 3, doubts: 1, proposals: 2, wipes: 1, remounts: 1, ..Budget::default() };
    run_to_the_end("wipes of 3", &led(3, 3), budget, 4_000);
}

#[test]
fn every_wipe_and_remount_of_two() {
    let budget =
        Budget { timeouts: 3, proposals: 2, wipes: 2, remounts: 1, restarts: 1, ..Budget::default() };
    run_to_the_end("wipes of 2", &led(2, 2), budget, 4_000);
}

#[test]
fn every_wipe_of_two_with_a_learner() {
    let budget = Budget { timeouts: 3, proposals: 1, wipes: 2, restarts: 1, repeats: 1, ..Budget::default() };
    run_to_the_end("wipes of 2 and a learner", &led(3, 2), budget, 4_000);
}

#[test]
fn every_snapshot_and_transfer_of_three() {
    let budget =
        Budget { timeouts: 3, proposals: 1, checkpoints: 2, wipes: 1, transfers: 1, ..Budget::default() };
    run_to_the_end("snapshots of 3", &led(3, 3), budget, 4_000);
}

/// Figure 8 of the Raft paper with three servers: an entry of an earlier term that a majority gets may still be
/// overruled.
#[test]
fn every_end_of_an_entry_of_an_earlier_term() {
    let budget = Budget { timeouts: 2, restarts: 1, departures: Some(3), ..Budget::default() };
    let mut world = with_logs(&[&[1, 2], &[1], &[1, 3]], 3);
    world.set_cut(0, 2, true);
    world.elect_in_part(0);
    // n1 says where its log ends and gets the rest.
    for _ in 0..3 {
        let message = world.network.remove(0);
        world.deliver(message);
    }
    assert_eq!(world.servers[1].disk.waits(), 2, "the entry of term 2 and the one of term 4");
    run("figure 8", world, budget, 90_000);
}

#[test]
fn every_read_of_three() {
    run_to_the_end("reads of 3", &led(3, 3), READS, 4_000);
}

/// What a leader needs that does not know that it leads no more.
const READS: Budget = Budget {
    timeouts: 1,
    doubts: 2,
    deafness: 1,
    proposals: 1,
    reads: 1,
    repeats: 0,
    transfers: 0,
    checkpoints: 0,
    restarts: 0,
    wipes: 0,
    remounts: 0,
    removals: 0,
    promotions: 0,
    departures: None,
};

#[test]
fn a_read_that_nobody_confirms_is_noticed() {
    let mut world = led(3, 3);
    world.mutation = Some(Mutation::ReadUnconfirmed);
    let budget = Budget { departures: Some(0), ..READS };
    let noticed = explore(world, budget, Limits::new(4_000)).err();
    assert!(noticed.as_ref().is_some_and(|text| text.contains("would answer a read")), "{noticed:?}");
}

#[test]
fn every_promotion_beside_a_wipe() {
    let budget =
        Budget { timeouts: 3, proposals: 1, promotions: 1, wipes: 1, restarts: 1, ..Budget::default() };
    run_to_the_end("promotion", &led(3, 2), budget, 4_000);
    run_to_the_end("promotion in 4", &led(4, 3), budget, 4_000);
}

#[test]
fn every_removal_beside_a_wipe() {
    let budget =
        Budget { timeouts: 3, proposals: 1, removals: 1, wipes: 1, restarts: 1, ..Budget::default() };
    run_to_the_end("removal", &led(3, 3), budget, 4_000);
}

#[test]
fn every_removal_of_three() {
    let budget =
        Budget { timeouts: 3, doubts: 1, proposals: 1, removals: 2, restarts: 1, ..Budget::default() };
    run_to_the_end("removals of 3", &led(3, 3), budget, 4_000);
}

#[test]
fn time_and_numbers_of_writes_do_not_make_another_state() {
    let state = |world: World| State { world, budget: Budget::default(), path: Arc::new(Path(None)) };
    let (one, mut other) = (led(3, 3), led(3, 3));
    other.now = other.now + Duration::from_secs(9);
    let same = state(one).fingerprint();
    assert_eq!(same, state(other.clone()).fingerprint());
    other.propose(0);
    assert_ne!(same, state(other).fingerprint());
}
