//! Groups that go on without a majority because an operator says so.

use std::time::Duration;

use bytes::Bytes;
use linnet_raft::{Fault, NotRescued, Role};

use crate::world::{World, peer};

const WITHIN: Duration = Duration::from_secs(300);

/// A group of five with a leader and some entries.
fn five() -> World {
    let mut world = World::new(1, 5, 5);
    world.elect(0);
    put(&mut world, 0, "a");
    world
}

fn put(world: &mut World, at: usize, text: &'static str) {
    world.propose_value(at, Bytes::from_static(text.as_bytes())).unwrap();
    world.quiesce();
}

fn lose(world: &mut World, lost: impl IntoIterator<Item = usize>) {
    for at in lost {
        world.crash_keeping(at, usize::MAX);
    }
    for at in 0..world.servers.len() {
        if world.node(at).is_some_and(|node| !node.is_leading()) {
            world.doubt(at);
        }
    }
}

fn rescue(world: &mut World, at: usize, needed: usize) -> Result<usize, NotRescued> {
    world.is_rescued = true;
    world.with(at, |node, now, out| node.rescue(now, needed, WITHIN, out)).unwrap()
}

/// Lets those that are up do what they do for some time.
fn rest(world: &mut World, time: Duration) {
    let until = world.now + time;
    while world.now < until {
        world.quiesce();
        world.pass_time(Duration::from_millis(500));
    }
    world.quiesce();
}

/// Both that are left go on together.
fn is_rescued(world: &World) -> usize {
    let leader = world.leader().expect("nobody leads");
    assert!(leader < 2, "{leader}");
    for at in 0..2 {
        let status = world.node(at).unwrap().status();
        assert!(status.is_current && !status.is_amnesiac, "{at}: {status:?}");
    }
    leader
}

#[test]
fn those_that_are_left_go_on_and_the_lost_ones_do_not_count() {
    let mut world = five();
    lose(&mut world, 2..5);
    rest(&mut world, Duration::from_secs(5));
    assert_eq!(world.leader(), None);
    assert_eq!(rescue(&mut world, 0, 2), Ok(3));
    assert_eq!(rescue(&mut world, 1, 2), Ok(3));
    rest(&mut world, Duration::from_secs(5));
    let leader = is_rescued(&world);
    let status = world.node(leader).unwrap().status();
    assert_eq!((status.membership.voter_count(), status.membership.members().len()), (1, 5));
    assert_eq!(world.node(leader).unwrap().rescue_quorum(), None);
    put(&mut world, leader, "b");
    assert_eq!(world.servers[0].applied, world.servers[1].applied);
    world.change(leader, linnet_raft::Change::Promote(peer(1 - leader))).unwrap();
    world.quiesce();
    let membership = world.node(leader).unwrap().status().membership;
    assert_eq!(membership.voter_count(), 2);
    assert!(
        membership.members().iter().all(|m| (m.role == Role::Voter) == [peer(0), peer(1)].contains(&m.peer))
    );
}

#[test]
fn whoever_has_the_most_goes_on() {
    let mut world = five();
    world.set_cut(0, 1, true);
    put(&mut world, 0, "b");
    world.set_cut(0, 1, false);
    lose(&mut world, [0, 3, 4]);
    rest(&mut world, Duration::from_secs(2));
    // The one that has less is told first, and alone.
    rescue(&mut world, 1, 2).unwrap();
    rest(&mut world, Duration::from_secs(3));
    rescue(&mut world, 2, 2).unwrap();
    rest(&mut world, Duration::from_secs(5));
    assert_eq!(world.leader(), Some(2));
    assert_eq!(world.servers[1].applied, world.servers[2].applied);
}

#[test]
fn too_few_do_not_go_on_and_the_permission_ends() {
    let mut world = five();
    lose(&mut world, 1..5);
    rest(&mut world, Duration::from_secs(2));
    rescue(&mut world, 0, 2).unwrap();
    rest(&mut world, Duration::from_secs(20));
    assert_eq!(world.leader(), None);
    assert_eq!(world.node(0).unwrap().rescue_quorum(), Some(2));
    rest(&mut world, WITHIN);
    assert_eq!(world.node(0).unwrap().rescue_quorum(), None);
    rescue(&mut world, 0, 1).unwrap();
    rest(&mut world, Duration::from_secs(5));
    assert_eq!(world.leader(), Some(0));
}

#[test]
fn the_decision_outlives_a_crash() {
    let mut world = five();
    lose(&mut world, 1..5);
    rest(&mut world, Duration::from_secs(2));
    rescue(&mut world, 0, 1).unwrap();
    rest(&mut world, Duration::from_secs(5));
    world.crash_keeping(0, 0);
    world.start(0);
    rest(&mut world, Duration::from_secs(5));
    assert_eq!(world.leader(), Some(0));
    put(&mut world, 0, "b");
}

#[test]
fn those_that_lost_their_disks_are_not_waited_for() {
    let mut world = five();
    lose(&mut world, 1..5);
    for at in 1..5 {
        world.wipe(at);
        world.start(at);
    }
    rest(&mut world, Duration::from_secs(10));
    assert_eq!(world.leader(), None);
    assert_eq!(world.node(0).unwrap().status().forgetful.len(), 4);
    rescue(&mut world, 0, 1).unwrap();
    rest(&mut world, Duration::from_secs(10));
    assert_eq!(world.leader(), Some(0));
    for at in 1..5 {
        let status = world.node(at).unwrap().status();
        assert!(!status.is_amnesiac && status.is_current, "{at}: {status:?}");
    }
}

#[test]
fn a_leader_that_can_decide_nothing_any_more_does_not_stay() {
    let mut world = five();
    for at in 1..4 {
        world.crash_keeping(at, 0);
        world.wipe(at);
        world.start(at);
    }
    world.quiesce();
    assert_eq!(world.leader(), Some(0), "some might be about to count again");
    rest(&mut world, Duration::from_secs(10));
    assert_eq!(world.leader(), None);
    for at in 1..4 {
        assert_eq!(world.node(at).unwrap().status().leader, None, "{at}");
    }
    assert!(world.node(0).unwrap().status().had_leader);
    rescue(&mut world, 0, 2).unwrap();
    rest(&mut world, Duration::from_secs(10));
    assert!(world.leader().is_some());
}

#[test]
fn where_a_majority_can_be_heard_it_decides() {
    let mut world = five();
    lose(&mut world, 2..5);
    rest(&mut world, Duration::from_secs(2));
    rescue(&mut world, 0, 2).unwrap();
    world.start(2);
    rest(&mut world, Duration::from_secs(5));
    let leader = world.leader().expect("nobody leads");
    assert_eq!(world.node(leader).unwrap().status().membership.voter_count(), 5);
    assert_eq!(world.node(0).unwrap().rescue_quorum(), None, "there is a leader");
}

#[test]
fn the_lost_ones_may_not_go_on_where_they_were() {
    let mut world = five();
    lose(&mut world, 2..5);
    rest(&mut world, Duration::from_secs(2));
    for at in 0..2 {
        rescue(&mut world, at, 2).unwrap();
    }
    rest(&mut world, Duration::from_secs(5));
    is_rescued(&world);
    // They are a majority of what they know, and lead each other until they hear of the rescue.
    for (a, b) in (0..2).flat_map(|a| (2..5).map(move |b| (a, b))) {
        world.set_cut(a, b, true);
    }
    for at in 2..5 {
        world.start(at);
    }
    rest(&mut world, Duration::from_secs(5));
    let other = (2..5).find(|at| world.node(*at).unwrap().is_leading()).expect("nobody leads the lost ones");
    world.heal_network();
    rest(&mut world, Duration::from_secs(10));
    is_rescued(&world);
    for at in 2..5 {
        let node = world.node(at).unwrap();
        assert!(matches!(node.fault(), Some(Fault::OtherHistory(_))), "{at}: {:?}", node.status());
    }
    // With nothing they are welcome.
    for at in 2..5 {
        world.crash_keeping(at, 0);
        world.wipe(at);
        world.start(at);
    }
    rest(&mut world, Duration::from_secs(10));
    assert!(!world.node(other).unwrap().status().is_amnesiac, "{:?}", world.node(other).unwrap().status());
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut world = five();
    assert_eq!(rescue(&mut world, 0, 2), Err(NotRescued::LeaderKnown));
    assert_eq!(rescue(&mut world, 1, 2), Err(NotRescued::LeaderKnown));
    lose(&mut world, 2..5);
    rest(&mut world, Duration::from_secs(2));
    assert_eq!(rescue(&mut world, 0, 0), Err(NotRescued::OutOfRange));
    assert_eq!(rescue(&mut world, 0, 4), Err(NotRescued::OutOfRange));
    world.crash_keeping(1, 0);
    world.wipe(1);
    world.start(1);
    assert_eq!(rescue(&mut world, 1, 2), Err(NotRescued::NotVoter));
    let mut fresh = World::new(1, 3, 3);
    assert_eq!(rescue(&mut fresh, 0, 1), Err(NotRescued::Empty));
    assert!(!fresh.node(0).unwrap().status().had_leader);
}

/// Two that do not hear each other are rescued, each for itself, and do something; then they meet.
#[test]
fn of_two_rescues_apart_one_wins() {
    for seed in 0..50 {
        let mut world = World::new(seed, 5, 5);
        world.elect(0);
        put(&mut world, 0, "a");
        world.set_cut(0, 1, true);
        world.set_cut(1, 0, true);
        lose(&mut world, 2..5);
        (0..2).for_each(|at| world.doubt(at));
        rest(&mut world, Duration::from_secs(2));
        for at in 0..2 {
            rescue(&mut world, at, 1).unwrap();
            rest(&mut world, Duration::from_secs(5));
            assert!(world.node(at).unwrap().is_leading());
            put(&mut world, at, if at == 0 { "b" } else { "c" });
        }
        world.heal_network();
        rest(&mut world, Duration::from_secs(30));
        let leader = world.leader().expect("nobody leads");
        let status = world.node(1 - leader).unwrap().status();
        let has_other_history = matches!(status.fault, Some(Fault::OtherHistory(_)));
        assert!(has_other_history || status.is_current, "{status:?}");
        put(&mut world, leader, "d");
    }
}

/// One of the lost ones comes back while votes are cast: the group goes on as ever, and a later rescue is another one.
#[test]
fn a_rescue_that_came_to_nothing_is_none() {
    let mut world = five();
    lose(&mut world, 2..5);
    rest(&mut world, Duration::from_secs(2));
    rescue(&mut world, 0, 2).unwrap();
    while world.node(0).unwrap().status().term < 1 << 48 {
        (0..2).for_each(|at| world.sync(at, usize::MAX));
        if world.has_mail() {
            world.deliver_one(false);
        } else {
            world.pass_time(Duration::from_millis(5));
        }
    }
    world.start(2);
    rest(&mut world, Duration::from_secs(10));
    let leader = world.leader().expect("nobody leads");
    put(&mut world, leader, "b");
    let status = world.node(leader).unwrap().status();
    assert_eq!((status.membership.voter_count(), status.epoch()), (5, 0), "{status:?}");
    // Whoever was away all the time missed nothing but entries.
    world.start(3);
    rest(&mut world, Duration::from_secs(10));
    let late = world.node(3).unwrap().status();
    assert!(late.is_current && late.fault.is_none(), "{late:?}");
    lose(&mut world, [1, 2, 3]);
    rest(&mut world, Duration::from_secs(2));
    rescue(&mut world, 0, 1).unwrap();
    rest(&mut world, Duration::from_secs(10));
    let status = world.node(0).unwrap().status();
    assert!(status.is_leader && status.membership.voter_count() == 1 && status.epoch() > 0, "{status:?}");
}

/// One of two voters lost its disk, and the learner without which the other one does not decide alone is gone.
#[test]
fn who_waits_for_a_learner_that_is_gone_goes_on_if_it_is_told_to() {
    let mut world = World::new(1, 3, 2);
    world.elect(0);
    let learner = linnet_raft::Replica { peer: peer(2), incarnation: 102 };
    world.know_life(learner);
    world.change(0, linnet_raft::Change::Add(learner)).unwrap();
    world.start_added(2, learner.incarnation);
    world.quiesce();
    put(&mut world, 0, "a");
    lose(&mut world, [2]);
    world.crash_keeping(1, 0);
    world.wipe(1);
    world.crash_keeping(0, usize::MAX);
    world.start(0);
    world.start(1);
    rest(&mut world, Duration::from_secs(10));
    assert_eq!(world.leader(), None);
    rescue(&mut world, 0, 1).unwrap();
    rest(&mut world, Duration::from_secs(10));
    assert_eq!(world.leader(), Some(0));
    put(&mut world, 0, "b");
}
