//! Peers that are wrong, disks that hang, and what must stay bounded.

use std::time::Duration;

use bytes::Bytes;
use linnet_ids::{LogIndex, Mono, PeerId};
use linnet_raft::{
    Append, Appended, Ballot, Body, Candidacy, Change, Effect, Entry, Incarnation, LogPoint, Membership,
    Message, Node, Opening, Outcome, Refused, Replica, Snapshot, Stranger,
};

use crate::world::{GROUP, World, peer};

fn led(servers: usize, voters: usize) -> World {
    let mut world = World::new(1, servers, voters);
    world.elect(0);
    for at in voters..servers {
        let life = Replica { peer: peer(at), incarnation: 100 };
        world.change(0, Change::Add(life)).unwrap();
        world.start_added(at, life.incarnation);
        world.quiesce();
    }
    world
}

fn replica(at: usize, incarnation: Incarnation) -> Replica {
    Replica { peer: peer(at), incarnation }
}

fn number(random: &mut fastrand::Rng) -> u64 {
    match random.u8(..4) {
        0 => random.u64(..5),
        1 => u64::MAX - random.u64(..3),
        2 => (1 << 62) - 2 + random.u64(..5),
        _ => 1 << random.u32(..64),
    }
}

fn point(random: &mut fastrand::Rng) -> LogPoint {
    LogPoint { index: number(random), term: number(random), chain: random.u64(..) }
}

/// Anything that can be decoded.
fn body(random: &mut fastrand::Rng) -> Body {
    let candidacy = Candidacy { last: point(random), is_transfer: random.bool() };
    let leader = random.bool().then(|| peer(random.usize(..5)));
    let ballot = Ballot { is_granted: random.bool(), leader };
    match random.u8(..12) {
        0 => Body::AskPreVote(candidacy),
        1 => Body::AskVote(candidacy),
        2 => Body::PreVote(ballot),
        3 => Body::Vote(ballot),
        4 | 5 => {
            let kinds: [&'static [u8]; 4] = [b"x", b"", b"\xf0", b"\xf1\x02"];
            let entries = (0..random.usize(..3))
                .map(|_| Entry::new(number(random), Bytes::from_static(kinds[random.usize(..4)])));
            let entries = entries.collect();
            let (commit, round) = (random.u64(..), random.u64(..));
            Body::Append(Append { previous: point(random), commit, round, entries })
        }
        6 => {
            let outcome = match random.u8(..3) {
                0 => Outcome::Matched { durable: number(random), held: number(random) },
                1 => Outcome::Mismatch { index: number(random), term: number(random) },
                _ => Outcome::Heard,
            };
            let (commit, round) = (number(random), number(random));
            Body::Appended(Appended { outcome, commit, round, remembers: random.bool() })
        }
        7 => {
            let membership = Membership::of_voters([replica(0, 1), replica(4, number(random))]);
            let (last, since) = (point(random), number(random));
            Body::Snapshot(Snapshot { last, membership, since, body: Bytes::new() })
        }
        8 => Body::Stranger(Stranger { addressed: number(random), is_amnesiac: random.bool() }),
        9 => Body::AskLeader,
        10 => Body::NotLeading,
        _ => Body::GiveWay,
    }
}

/// A node that does everything it wants at once, the disk included.
fn carry_out(node: &mut Node, mut out: Vec<Effect>) {
    for _ in 0..100 {
        let now = Mono(1);
        let mut next = Vec::new();
        node.flush(now, &mut out);
        for effect in std::mem::take(&mut out) {
            match effect {
                Effect::Append { write, .. }
                | Effect::HardState { write, .. }
                | Effect::Install { write, .. } => node.on_durable(now, write, &mut next),
                Effect::Committed(index) => node.on_applied(index, &mut next),
                Effect::SnapshotOffered(snapshot) => {
                    node.install(now, &snapshot, &mut next);
                }
                Effect::SnapshotWanted { peer } => node.snapshot_failed(now, peer),
                Effect::Read { peer, .. } => {
                    node.on_read(now, peer, LogPoint::default(), Vec::new(), &mut next);
                }
                _ => {}
            }
        }
        if next.is_empty() {
            return;
        }
        out = next;
    }
    panic!("effects follow each other without end");
}

/// Overflows panic in tests.
#[test]
fn no_message_makes_a_replica_panic_or_spin() {
    for seed in 0..3000 {
        let random = &mut fastrand::Rng::with_seed(seed);
        let group = Membership::of_voters((0..3).map(|at| replica(at, 1)));
        let mut out = Vec::new();
        let mut node = Node::open(Opening::founding(GROUP, replica(0, 1), group, seed), Mono(1), &mut out);
        for other in 1..5 {
            node.set_reachable(Mono(1), peer(other), true, &mut out);
        }
        carry_out(&mut node, out);
        for _ in 0..60 {
            let mut out = Vec::new();
            let now = Mono(random.u64(1..4_000_000_000));
            let small = node.status().term + random.u64(..3);
            match random.u8(..10) {
                0 => node.on_timeout(now, &mut out),
                1 => drop(node.propose([Bytes::from_static(b"x")], &mut out)),
                2 => drop(node.read(random.u64(..), &mut out)),
                _ => {
                    let term = if random.bool() { small } else { number(random) };
                    let from = replica(random.usize(1..5), random.u64(1..3));
                    let to = replica(0, if random.u8(..10) == 0 { 9 } else { node.incarnation() });
                    let body = body(random);
                    node.on_message(now, Message { from, to, term, body }, &mut out);
                }
            }
            carry_out(&mut node, out);
        }
    }
}

#[test]
fn a_server_that_is_no_member_deposes_nobody() {
    let mut world = led(3, 3);
    let last = LogPoint { index: 9, term: 9, chain: 0 };
    for at in 0..3 {
        for body in [
            Body::AskPreVote(Candidacy { last, is_transfer: false }),
            Body::AskVote(Candidacy { last, is_transfer: false }),
            Body::PreVote(Ballot { is_granted: false, leader: None }),
            Body::Vote(Ballot { is_granted: true, leader: None }),
            Body::NotLeading,
        ] {
            let to = replica(at, at as u64 + 1);
            let message = Message { from: replica(7, 8), to, term: 9, body };
            world.with(at, |node, now, out| node.on_message(now, message, out));
        }
    }
    world.network.retain(|message| world.servers.iter().any(|s| s.peer == message.to.peer));
    world.quiesce();
    let statuses: Vec<(u64, Option<PeerId>)> =
        (0..3).filter_map(|at| world.node(at).map(|n| (n.status().term, n.status().leader))).collect();
    assert_eq!(statuses, [(1, Some(peer(0))); 3]);
}

#[test]
fn a_disk_that_hangs_does_not_collect_promises() {
    let mut world = led(3, 3);
    let last = LogPoint { index: 9, term: 9, chain: 0 };
    let node = world.servers[2].node.as_mut().unwrap();
    let mut out = Vec::new();
    for term in 10..5000 {
        let body = Body::AskVote(Candidacy { last, is_transfer: true });
        node.on_message(Mono(1), Message { from: replica(1, 2), to: replica(2, 3), term, body }, &mut out);
        node.flush(Mono(1), &mut out);
    }
    out.clear();
    node.on_durable(Mono(1), u64::MAX, &mut out);
    let votes: Vec<u64> = out
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send(Message { term, body: Body::Vote(_), .. }) => Some(*term),
            _ => None,
        })
        .collect();
    assert_eq!((votes.len(), votes.last()), (1024, Some(&4999)), "the oldest go first");
}

#[test]
fn reads_that_nobody_confirms_do_not_pile_up() {
    let mut world = led(3, 3);
    for at in [1, 2] {
        world.deafen(at);
    }
    let refused = (0..5000).find_map(|n| world.read(0).err().map(|refused| (n, refused)));
    assert_eq!(refused, Some((4096, Refused::Full)));
    world.heal_network();
    world.time_out(0);
    world.quiesce();
    assert!(world.reads.is_empty() && world.read(0).is_ok());
}

#[test]
fn reads_between_two_passes_share_a_round() {
    let mut world = led(3, 3);
    let mut out = Vec::new();
    let node = world.servers[0].node.as_mut().unwrap();
    for number in 1..=10_000 {
        node.read(number, &mut out).unwrap();
    }
    node.flush(Mono(1), &mut out);
    let rounds: Vec<u64> = out
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send(Message { body: Body::Append(append), .. }) => Some(append.round),
            _ => None,
        })
        .collect();
    assert_eq!(rounds, [1, 1]);
}

/// Entries that were read from the disk for a member when they were still in the log.
#[test]
fn entries_that_were_replaced_since_they_were_read_are_not_sent() {
    let mut world = led(3, 3);
    world.crash_keeping(1, 0);
    world.with(0, |node, now, out| node.resign(now, out));
    world.elect(0);
    for _ in 0..40 {
        world.propose_value(0, Bytes::from(vec![b'x'; 200_000])).unwrap();
        world.quiesce();
    }
    world.start(1);
    deliver_to(&mut world, 1);
    world.sync(1, usize::MAX);
    let answer = world.network.pop().unwrap();
    let previous = world.servers[0].disk.visible.point(7);
    let present = world.servers[0].disk.visible.entries[7].clone();
    let replaced = Entry::new(1, Bytes::from_static(b"other"));
    for (entry, expected) in [(replaced, 0), (present, 1)] {
        let mut node = world.node(0).cloned().unwrap();
        let mut out = Vec::new();
        node.on_message(Mono(1), answer.clone(), &mut out);
        node.flush(Mono(1), &mut out);
        assert!(matches!(out[..], [Effect::Read { from: 8, .. }]), "what n1 lacks is in no memory: {out:?}");
        out.clear();
        node.on_read(Mono(1), peer(1), previous, vec![entry], &mut out);
        assert_eq!(out.len(), expected, "{out:?}");
    }
}

/// Delivers what is on its way to one server.
fn deliver_to(world: &mut World, to: usize) {
    let (now, later) =
        std::mem::take(&mut world.network).into_iter().partition(|message| message.to.peer == peer(to));
    world.network = later;
    let now: Vec<Message> = now;
    for message in now {
        world.deliver(message);
    }
}

fn is_waiting(world: &World, at: usize, index: LogIndex) -> bool {
    world.node(at).is_some_and(|node| node.fault().is_none() && node.status().last < index)
}

/// One of two voters forgets again and again; each time the other one commits a re-admission that the learner cannot
/// be told is committed.
#[test]
fn a_learner_with_too_many_open_memberships_waits() {
    let mut world = led(3, 2);
    for _ in 0..6 {
        world.crash_keeping(1, 0);
        world.wipe(1);
        world.start(1);
        world.sync(1, usize::MAX);
        world.with(0, |node, now, _| node.campaign(now));
        world.time_out(0);
        for _ in 0..200 {
            for at in [0, 2] {
                world.sync(at, usize::MAX);
            }
            if world.has_mail() {
                let message = world.network.remove(0);
                world.deliver(message);
            }
        }
    }
    let last = world.node(0).map_or(0, |node| node.status().last);
    assert!(is_waiting(&world, 2, last), "{:?}", world.node(2).map(Node::status));
    for _ in 0..5 {
        world.quiesce();
        world.time_out(0);
    }
    assert_eq!(world.node(2).map(|node| node.status().commit), Some(last), "it got the rest");
}

/// An answer that a voter gave before it counted arrives after it did.
#[test]
fn an_old_confession_does_not_let_the_other_voter_decide_alone() {
    let mut world = led(3, 2);
    world.crash_keeping(1, 0);
    world.wipe(1);
    world.start(1);
    world.sync(1, usize::MAX);
    world.elect(0);
    world.quiesce();
    let (life, term) = (world.life(1), world.node(0).map_or(0, |n| n.status().term));
    assert!(world.node(1).is_some_and(|node| !node.status().is_amnesiac));
    world.deafen(1);
    let commit = world.node(0).map_or(0, |n| n.status().commit);
    world.change(0, Change::Remove(peer(2))).unwrap();
    let confessions = [
        Body::Appended(Appended { outcome: Outcome::Heard, commit: 0, round: 0, remembers: false }),
        Body::Stranger(Stranger { addressed: life.incarnation, is_amnesiac: true }),
    ];
    for body in confessions {
        world.deliver(Message { from: life, to: world.life(0), term, body });
        world.quiesce();
        assert_eq!(world.node(0).map(|n| n.status().commit), Some(commit));
    }
}

/// A leader that restarted does not say what is committed of two voters before a majority has it; the others take no
/// more memberships before they are told.
#[test]
fn a_leader_tells_what_is_committed_as_far_as_a_majority_has_it() {
    let mut world = World::new(1, 4, 3);
    world.elect(0);
    let empty = world.servers[2].disk.clone();
    world.change(0, Change::Remove(peer(1))).unwrap();
    world.quiesce();
    let learner = Replica { peer: peer(3), incarnation: 100 };
    world.change(0, Change::Add(learner)).unwrap();
    world.start_added(3, 100);
    let joined = world.servers[3].disk.clone();
    world.quiesce();
    world.change(0, Change::Promote(peer(3))).unwrap();
    world.quiesce();
    for at in [0, 1, 2, 3] {
        world.crash_keeping(at, 0);
    }
    // Both others have to be told everything again.
    (world.servers[2].disk, world.servers[3].disk) = (empty, joined);
    for at in [0, 2, 3] {
        world.start(at);
    }
    world.elect(0);
    world.quiesce();
    let last = world.node(0).map_or(0, |node| node.status().last);
    for at in [0, 2, 3] {
        assert_eq!(world.node(at).map(|node| node.status().commit), Some(last), "n{at}");
    }
}

#[test]
fn reads_do_not_wait_for_a_voter_that_was_removed() {
    let mut world = led(2, 2);
    world.deafen(1);
    world.read(0).unwrap();
    world.quiesce();
    assert_eq!(world.reads.len(), 1);
    world.change(0, Change::Remove(peer(1))).unwrap();
    world.quiesce();
    assert_eq!(world.reads.len(), 0);
}

#[test]
fn who_fetches_a_state_is_not_sent_another_one_for_asking() {
    let mut world = led(3, 3);
    world.crash_keeping(2, 0);
    world.propose(0);
    world.quiesce();
    world.checkpoint(0);
    world.start(2);
    let snapshots = |world: &World| {
        world.network.iter().filter(|message| matches!(message.body, Body::Snapshot(_))).count()
    };
    assert_eq!(snapshots(&world), 1);
    for _ in 0..3 {
        let (from, to) = (world.life(2), world.life(0));
        world.deliver(Message { from, to, term: 1, body: Body::AskLeader });
        world.with(0, |node, _, out| node.verify(out));
    }
    assert_eq!(snapshots(&world), 1, "it has not arrived yet");
    world.network.retain(|message| !matches!(message.body, Body::Snapshot(_)));
    world.quiesce();
    world.time_out(0);
    world.quiesce();
    assert_eq!(world.node(2).map(|node| node.status().commit), Some(2), "the first one may be lost");
}

/// It may have come with another disk.
#[test]
fn who_was_not_heard_is_not_relied_on_before_it_answers() {
    let mut world = led(4, 3);
    world.set_cut(0, 1, true);
    world.set_cut(0, 3, true);
    world.set_cut(0, 3, false);
    assert_eq!(world.change(0, Change::Promote(peer(3))), Err(Refused::NoQuorum));
    world.quiesce();
    world.change(0, Change::Promote(peer(3))).unwrap();
}

/// It may have come with another disk.
#[test]
fn who_restarted_is_not_relied_on_before_it_answers() {
    let mut world = led(4, 3);
    world.set_cut(0, 1, true);
    let (from, to) = (world.life(3), world.life(0));
    world.crash_keeping(3, 0);
    world.start(3);
    let earlier = Appended { outcome: Outcome::Heard, commit: 2, round: 0, remembers: true };
    world.deliver(Message { from, to, term: 1, body: Body::Appended(earlier) });
    assert_eq!(world.change(0, Change::Promote(peer(3))), Err(Refused::NoQuorum));
    world.quiesce();
    world.change(0, Change::Promote(peer(3))).unwrap();
}

/// Where syncs are put off, a server whose power fails comes back with less than it said it had, and does not know.
#[test]
fn who_lost_what_it_had_durably_does_not_count_before_it_is_taken_in_again() {
    let mut world = led(3, 3);
    for text in ["a", "b", "c"] {
        world.propose_value(0, Bytes::from_static(text.as_bytes())).unwrap();
        world.quiesce();
    }
    let before = world.life(2);
    let end = world.node(2).unwrap().status().commit;
    world.crash_keeping(2, usize::MAX);
    world.servers[2].disk.cut_behind(end - 2);
    world.start(2);
    world.set_cut(0, 1, true);
    world.quiesce();
    let index = world.propose_value(0, Bytes::from_static(b"d")).unwrap();
    world.quiesce();
    assert_ne!(world.life(2), before);
    assert!(
        world.node(0).unwrap().status().commit < index,
        "one that remembers has it, and that is no majority"
    );
    world.settle(Duration::from_secs(5));
    assert_eq!(world.leader(), Some(0));
    let status = world.node(2).unwrap().status();
    assert!(!status.is_amnesiac);
    assert_eq!(status.commit, world.node(0).unwrap().status().commit);
    assert!(status.commit > index, "its re-admission stands behind it");
}

/// Its re-admission, the last entry, is what a restarted learner of a group of two knows to be committed: it releases
/// that once it is told, though it is told nothing new.
#[test]
fn a_restarted_learner_releases_what_it_knew_before() {
    let mut world = led(3, 2);
    world.crash_keeping(2, 0);
    world.wipe(2);
    world.start(2);
    world.quiesce();
    world.crash_keeping(2, 0);
    world.start(2);
    world.quiesce();
    assert_eq!(world.servers[2].applied, world.servers[0].applied);
}

#[test]
fn who_was_removed_while_away_is_told_and_begins_another_life() {
    let mut world = led(3, 3);
    world.crash_keeping(2, 0);
    world.change(0, Change::Remove(peer(2))).unwrap();
    world.quiesce();
    world.start(2);
    let before = world.life(2);
    world.time_out(2);
    world.quiesce();
    let status = world.node(2).map(|node| node.status()).unwrap();
    assert_ne!(world.life(2), before);
    assert!(status.is_amnesiac && !status.is_removed);
    let life = world.life(2);
    world.change(0, Change::Add(life)).unwrap();
    world.quiesce();
    assert!(world.node(2).is_some_and(|node| !node.status().is_amnesiac));
}

#[test]
fn who_was_removed_begins_another_life_when_it_is_to_be_taken_in_again() {
    let mut world = led(3, 3);
    world.change(0, Change::Remove(peer(2))).unwrap();
    world.quiesce();
    assert!(world.node(2).is_some_and(|node| node.status().is_removed));
    let before = world.life(2);
    world.crash_keeping(2, 9);
    world.start(2);
    world.quiesce();
    assert!(world.change(0, Change::Add(before)).is_err());
    world.quiesce();
    let life = world.life(2);
    assert_ne!(life, before);
    assert!(world.node(2).is_some_and(|node| node.status().is_amnesiac && !node.status().is_removed));
    world.change(0, Change::Add(life)).unwrap();
    world.quiesce();
    assert!(world.node(2).is_some_and(|node| !node.status().is_amnesiac));
}
