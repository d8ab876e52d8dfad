//! Random walks: faults of every kind, and what must hold all the same.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use linnet_raft::{Change, Member, Replica};

use crate::mutation::Mutation;
use crate::world::{Event, Server, Violation, World, peer};

/// Steps of one walk before everything is healed.
const STEPS: usize = 600;

pub(crate) struct Shape {
    pub(crate) servers: usize,
    pub(crate) voters: usize,
    pub(crate) wipes: bool,
    pub(crate) changes: bool,
}

/// One walk; what is wrong, if something is.
pub(crate) fn attempt(
    seed: u64,
    shape: &Shape,
    mutation: Option<Mutation>,
) -> Result<BTreeMap<Event, u64>, String> {
    caught(|| walk(seed, shape, mutation))
}

/// What a world threw, or a node that panicked.
pub(crate) fn caught<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(act)).map_err(|thrown| match thrown.downcast::<Violation>() {
        Ok(violation) => violation.0,
        Err(other) => match other.downcast::<String>() {
            Ok(text) => *text,
            Err(_) => "a panic".into(),
        },
    })
}

fn walk(seed: u64, shape: &Shape, mutation: Option<Mutation>) -> BTreeMap<Event, u64> {
    let mut world = World::with_mutation(seed, shape.servers, shape.voters, mutation);
    // What is wrong must be noticed by what comes of it.
    world.sees_disks = mutation.is_none();
    // Some walks are calm enough for much to be committed, some are not.
    let calm = usize::try_from(seed % 3).unwrap();
    for _ in 0..STEPS * shape.servers / 2 {
        if step_is_quiet(&mut world, calm) {
            let at = world.random.usize(..shape.servers);
            world.sync(at, usize::MAX);
            world.deliver_one(false);
        } else {
            step(&mut world, shape);
        }
    }
    world.settle(Duration::from_secs(20));
    world.check_settled();
    if let Some(leader) = world.leader() {
        world.propose(leader);
        world.settle(Duration::from_secs(5));
        world.check_settled();
    }
    world.events
}

fn step_is_quiet(world: &mut World, calm: usize) -> bool {
    world.random.usize(..4) < calm
}

fn step(world: &mut World, shape: &Shape) {
    let at = world.random.usize(..shape.servers);
    match world.random.u16(..1000) {
        0..480 => world.deliver_one(true),
        480..700 => {
            let count = world.random.usize(1..6);
            world.sync(at, count);
        }
        700..710 => world.doubt(at),
        710..713 => world.deafen(at),
        713..800 => {
            let millis = world.random.u64(1..120);
            world.pass_time(Duration::from_millis(millis));
        }
        800..880 => world.propose(at),
        880..910 => {
            let _ = world.read(at);
        }
        910..925 => world.checkpoint(at),
        925..935 => world.crash(at),
        935..965 => restart(world, at, shape),
        965..975 => {
            let other = world.random.usize(..shape.servers);
            if other != at {
                world.count(Event::Partition);
                world.set_cut(at, other, true);
            }
        }
        975..985 => world.heal_network(),
        985..992 => {
            let to = world.random.usize(..shape.servers);
            let _ = world.transfer(at, peer(to));
        }
        _ if shape.changes => change(world, shape),
        _ => {}
    }
}

/// Starts a stopped server, perhaps with another disk. The disks of a majority stay.
fn restart(world: &mut World, at: usize, shape: &Shape) {
    if world.servers[at].node.is_some()
        || (world.servers[at].disk.durable.hard.is_none() && at >= shape.voters)
    {
        return;
    }
    let may_forget = shape.wipes && world.random.u8(..100) < 30 && is_dispensable(world, at);
    if may_forget && (world.random.bool() || !world.remount(at)) {
        world.wipe(at);
    }
    world.start(at);
}

/// Without this server there is still a majority that remembers, of every membership; of two voters, one. An old disk
/// must not come back beside a server that was removed and does not know it: together they could be a majority of
/// members that were.
pub(crate) fn is_dispensable(world: &World, at: usize) -> bool {
    let newest = world.membership();
    let is_member = |s: &Server| s.disk.visible.hard.is_none() || newest.get(s.peer).is_some();
    if !world.servers.iter().all(is_member) {
        return false;
    }
    // With two voters, one of them must have the change that the other one has begun.
    let memberships = world.memberships();
    if memberships.iter().any(|m| m.voter_count() == 2) && memberships.iter().any(|m| *m != newest) {
        return false;
    }
    world.memberships().iter().all(|membership| {
        let server_of = |m: &Member| world.servers.iter().position(|s| s.peer == m.peer);
        let remembers =
            |m: &&Member| server_of(m).is_some_and(|of| of != at && world.servers[of].remembers(**m));
        let enough = if membership.voter_count() == 2 { 1 } else { membership.quorum() };
        membership.voters().filter(remembers).count() >= enough
    })
}

fn change(world: &mut World, shape: &Shape) {
    let Some(leader) = world.leader() else { return };
    let membership = world.membership();
    let at = world.random.usize(..shape.servers);
    let member = membership.get(peer(at)).copied();
    match (member, world.random.u8(..3)) {
        (None, _) if world.servers[at].node.is_none() && world.servers[at].disk.durable.hard.is_none() => {
            let incarnation = world.random.u64(1000..);
            let added = Change::Add(Replica { peer: peer(at), incarnation });
            if world.change(leader, added).is_ok() {
                world.start_added(at, incarnation);
            }
        }
        // Its removal may still be taken back, and then it is needed.
        (None, _) if world.ghost.is_gone(peer(at)) => world.give_up(at),
        (None, _) => {}
        (Some(_), 0 | 1) => {
            let _ = world.change(leader, Change::Promote(peer(at)));
        }
        (Some(_), _) if membership.voter_count() > 2 => {
            let _ = world.change(leader, Change::Remove(peer(at)));
        }
        _ => {}
    }
}

fn walks(shape: &Shape, from: u64, count: u64) -> BTreeMap<Event, u64> {
    let count = std::env::var("LINNET_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(count);
    let from = from + std::env::var("LINNET_FROM").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let only = std::env::var("LINNET_SEED").ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = only.map_or(from..from + count, |only| only..only + 1);
    let mut events = BTreeMap::new();
    for seed in seeds {
        match attempt(seed, shape, None) {
            Ok(seen) => {
                seen.into_iter().for_each(|(event, times)| *events.entry(event).or_default() += times)
            }
            Err(text) => panic!("{text}"),
        }
    }
    events
}

fn assert_seen(events: &BTreeMap<Event, u64>, expected: &[Event]) {
    eprintln!("{events:?}");
    if std::env::var_os("LINNET_SEED").is_some() {
        return;
    }
    for event in expected {
        assert!(events.get(event).is_some_and(|times| *times > 0), "{event:?} never happened: {events:?}");
    }
}

const ALWAYS: &[Event] = &[
    Event::Crash,
    Event::Partition,
    Event::Deafness,
    Event::Drop,
    Event::Duplicate,
    Event::LeaderElected,
    Event::Transfer,
    Event::ReadConfirmed,
    Event::Acknowledged,
];

#[test]
fn three_voters_survive_crashes_partitions_and_lost_messages() {
    let shape = Shape { servers: 3, voters: 3, wipes: false, changes: false };
    assert_seen(&walks(&shape, 0, 300), ALWAYS);
}

#[test]
fn three_voters_survive_wiped_and_remounted_disks() {
    let shape = Shape { servers: 3, voters: 3, wipes: true, changes: false };
    let expected = [ALWAYS, &[Event::Wipe, Event::Remount, Event::SnapshotInstalled]].concat();
    assert_seen(&walks(&shape, 100_000, 400), &expected);
}

#[test]
fn two_voters_survive_wiped_and_remounted_disks() {
    let shape = Shape { servers: 2, voters: 2, wipes: true, changes: false };
    let expected = [ALWAYS, &[Event::Wipe, Event::Remount]].concat();
    assert_seen(&walks(&shape, 200_000, 400), &expected);
}

#[test]
fn five_voters_survive_wiped_and_remounted_disks() {
    let shape = Shape { servers: 5, voters: 5, wipes: true, changes: false };
    let expected = [ALWAYS, &[Event::Wipe, Event::Remount]].concat();
    assert_seen(&walks(&shape, 300_000, 800), &expected);
}

#[test]
fn members_come_and_go_under_faults() {
    let shape = Shape { servers: 5, voters: 3, wipes: true, changes: true };
    let expected =
        [ALWAYS, &[Event::MemberAdded, Event::MemberPromoted, Event::MemberRemoved, Event::Wipe]].concat();
    assert_seen(&walks(&shape, 400_000, 400), &expected);
}
