//! What the Raft paper (Ongaro and Ousterhout, extended version, 2014) asks for, section by section.

use bytes::Bytes;
use linnet_ids::{LogIndex, Term};
use linnet_raft::{
    Append, Appended, Body, Candidacy, Change, Entry, LogPoint, Message, Outcome, Refused, Replica, Snapshot,
};

use crate::world::{World, peer};

fn led(servers: usize) -> World {
    let mut world = World::new(1, servers, servers);
    world.elect(0);
    assert_eq!(world.leader(), Some(0));
    world
}

fn replica(at: usize) -> Replica {
    Replica { peer: peer(at), incarnation: at as u64 + 1 }
}

/// A message that somebody might send.
fn message(from: usize, to: usize, term: Term, body: Body) -> Message {
    Message { from: replica(from), to: replica(to), term, body }
}

fn term(world: &World, at: usize) -> Term {
    world.node(at).map_or(0, |node| node.status().term)
}

fn commit(world: &World, at: usize) -> LogIndex {
    world.node(at).map_or(0, |node| node.status().commit)
}

fn terms(world: &World, at: usize) -> Vec<Term> {
    world.servers[at].disk.visible.entries.iter().map(|entry| entry.term).collect()
}

/// A group of which every server has a log with entries of these terms, and has seen the term of its last one or `seen`.
pub(crate) fn with_logs(logs: &[&[Term]], seen: Term) -> World {
    let mut world = World::new(1, logs.len(), logs.len());
    for at in 0..logs.len() {
        world.sync(at, usize::MAX);
        world.crash_keeping(at, 0);
    }
    for (at, log) in logs.iter().enumerate() {
        let disk = &mut world.servers[at].disk;
        let entries: Vec<Entry> = (1..)
            .zip(*log)
            .map(|(n, term)| Entry::new(*term, Bytes::from(format!("{n} of {term}"))))
            .collect();
        for image in [&mut disk.durable, &mut disk.visible] {
            image.entries.clone_from(&entries);
            let hard = image.hard.as_mut().unwrap();
            hard.term = log.last().copied().unwrap_or(0).max(seen);
        }
    }
    for at in 0..logs.len() {
        world.start(at);
    }
    world
}

/// Delivers what is on its way to one server, and syncs it.
fn deliver_to(world: &mut World, to: usize) {
    let (now, later) =
        std::mem::take(&mut world.network).into_iter().partition(|message| message.to.peer == peer(to));
    world.network = later;
    let now: Vec<Message> = now;
    for message in now {
        world.deliver(message);
    }
    world.sync(to, usize::MAX);
}

fn answer(outcome: Outcome) -> Body {
    Body::Appended(Appended { outcome, commit: 0, round: 0, remembers: true })
}

// 5.1 Terms

#[test]
fn a_leader_that_hears_of_a_later_term_follows() {
    let mut world = led(3);
    world.deliver(message(1, 0, 7, answer(Outcome::Heard)));
    assert_eq!((term(&world, 0), world.leader()), (7, None));
}

#[test]
fn what_an_earlier_leader_sends_is_refused() {
    let mut world = led(3);
    world.with(1, |node, now, out| node.on_message(now, message(0, 1, 3, Body::AskLeader), out));
    world.deliver(message(2, 0, 5, answer(Outcome::Heard)));
    world.quiesce();
    world.elect(0);
    let before = terms(&world, 1);
    let entries = vec![Entry::new(1, Bytes::from_static(b"old"))];
    let append = Append { previous: LogPoint::default(), commit: 9, round: 0, entries };
    world.deliver(message(2, 1, 1, Body::Append(append)));
    let told: Vec<Term> = world.network.iter().filter(|m| m.to == replica(2)).map(|m| m.term).collect();
    assert_eq!((terms(&world, 1), told), (before, vec![term(&world, 1)]), "the answer tells the term");
}

// 5.2 Leader election

#[test]
fn a_candidate_needs_the_votes_of_a_majority() {
    for others in 0..=4 {
        let mut world = World::new(1, 5, 5);
        world.with(0, |node, now, _| node.campaign(now));
        world.time_out(0);
        for to in (1..5).chain([0]) {
            deliver_to(&mut world, to);
        }
        assert_eq!(term(&world, 0), 1, "pre-votes were given");
        world.sync(0, usize::MAX);
        for to in 1..=others {
            deliver_to(&mut world, to);
        }
        deliver_to(&mut world, 0);
        let is_elected = world.node(0).is_some_and(|node| node.status().is_leader);
        assert_eq!(is_elected, others + 1 >= 3, "{others} others");
    }
}

#[test]
fn a_voter_votes_once_in_a_term_and_again_for_the_same_one_only() {
    let mut world = World::new(1, 3, 3);
    let ask = || Body::AskVote(Candidacy { last: LogPoint::default(), is_transfer: false });
    let votes = |from: usize, world: &mut World| {
        world.deliver(message(from, 2, 1, ask()));
        world.sync(2, usize::MAX);
        let answers: Vec<Message> = std::mem::take(&mut world.network);
        let answer = answers.into_iter().find(|m| matches!(m.body, Body::Vote(_)));
        matches!(answer.map(|m| m.body), Some(Body::Vote(ballot)) if ballot.is_granted)
    };
    assert!(votes(0, &mut world));
    assert!(!votes(1, &mut world), "it has voted");
    assert!(votes(0, &mut world), "the answer may have been lost");
    world.crash_keeping(2, 0);
    world.start(2);
    assert!(!votes(1, &mut world), "it remembers");
}

#[test]
fn a_vote_leaves_after_it_is_durable() {
    let mut world = World::new(1, 3, 3);
    world.sync(2, usize::MAX);
    let ask = Body::AskVote(Candidacy { last: LogPoint::default(), is_transfer: false });
    world.deliver(message(0, 2, 1, ask));
    assert!(!world.has_mail());
    world.sync(2, usize::MAX);
    assert!(world.has_mail());
}

#[test]
fn a_candidate_follows_the_leader_of_its_term() {
    let mut world = World::new(1, 3, 3);
    world.with(0, |node, now, _| node.campaign(now));
    world.time_out(0);
    for to in [1, 2, 0] {
        deliver_to(&mut world, to);
    }
    assert!(world.node(0).is_some_and(|node| node.status().is_candidate));
    let previous = world.servers[0].disk.visible.last();
    let append = Append { previous, commit: 0, round: 0, entries: Vec::new() };
    world.deliver(message(1, 0, 1, Body::Append(append)));
    let status = world.node(0).map(|node| node.status());
    assert_eq!(status.map(|s| (s.is_candidate, s.leader)), Some((false, Some(peer(1)))));
}

#[test]
fn a_split_vote_is_followed_by_another_election() {
    let mut world = World::new(1, 2, 2);
    for at in [0, 1] {
        world.with(at, |node, now, _| node.campaign(now));
    }
    world.settle(std::time::Duration::from_secs(20));
    assert!(world.leader().is_some());
}

// 5.3 Log replication

#[test]
fn an_entry_is_committed_once_a_majority_has_it_durably() {
    for servers in [1, 2, 3, 5] {
        let mut world = led(servers);
        world.propose(0);
        world.sync(0, usize::MAX);
        for have in 1..=servers {
            let is_committed = commit(&world, 0) == 2;
            assert_eq!(is_committed, have > servers / 2, "{have} of {servers}");
            if have < servers {
                deliver_to(&mut world, have);
                deliver_to(&mut world, 0);
            }
        }
    }
}

#[test]
fn a_leader_may_be_the_last_one_to_write_an_entry() {
    let mut world = led(3);
    world.propose(0);
    for at in [1, 2, 0] {
        let held = world.servers[0].disk.waits();
        deliver_to(&mut world, at);
        assert!(at == 0 || held > 0);
    }
    assert_eq!(commit(&world, 0), 2);
}

#[test]
fn entries_that_nothing_here_leads_to_are_not_taken() {
    let mut world = led(3);
    let previous = LogPoint { index: 4, term: 1, chain: 0 };
    let entries = vec![Entry::new(1, Bytes::from_static(b"x"))];
    world.deliver(message(0, 1, 1, Body::Append(Append { previous, commit: 5, round: 0, entries })));
    let outcome = world.network.iter().find_map(|m| match &m.body {
        Body::Appended(appended) => Some(appended.outcome),
        _ => None,
    });
    assert_eq!(outcome, Some(Outcome::Mismatch { index: 1, term: 1 }));
    assert_eq!((terms(&world, 1), commit(&world, 1)), (vec![1], 1));
}

#[test]
fn logs_of_figure_7_become_the_leaders() {
    let leader: &[Term] = &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[Term]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    let logs = [&[leader][..], &followers].concat();
    let mut world = with_logs(&logs, 7);
    world.elect(0);
    let expected = [leader, &[8]].concat();
    for at in 0..logs.len() {
        assert_eq!((at, terms(&world, at), commit(&world, at)), (at, expected.clone(), 11));
    }
}

// 5.4.1 Election restriction

#[test]
fn a_voter_refuses_a_candidate_that_knows_less() {
    let cases: [(&[Term], &[Term], bool); 7] = [
        (&[1], &[1], true),
        (&[1, 1], &[1], true),
        (&[1], &[1, 1], false),
        (&[2], &[1, 1, 1], true),
        (&[1, 1, 1], &[2], false),
        (&[1, 2], &[1, 1], true),
        (&[], &[1], false),
    ];
    for (candidate, voter, expected) in cases {
        let mut world = with_logs(&[candidate, voter, voter], 3);
        world.with(0, |node, now, _| node.campaign(now));
        world.time_out(0);
        world.quiesce();
        let is_elected = world.node(0).is_some_and(|node| node.status().is_leader);
        assert_eq!(is_elected, expected, "{candidate:?} asks {voter:?}");
    }
}

// 5.4.2 Committing entries from previous terms

#[test]
fn an_entry_of_an_earlier_term_is_committed_by_one_of_the_present_only() {
    // Figure 8: the leader of term 4 has an entry of term 2 that a majority has.
    let mut world = with_logs(&[&[1, 2], &[1, 2], &[1], &[1], &[1]], 3);
    world.with(0, |node, now, _| node.campaign(now));
    world.time_out(0);
    for to in [1, 2, 3, 4, 0] {
        deliver_to(&mut world, to);
    }
    for to in [1, 2, 0] {
        deliver_to(&mut world, to);
    }
    assert_eq!(terms(&world, 0), [1, 2, 4]);
    let point = world.servers[0].disk.visible.point(2);
    for from in [1, 2] {
        let matched = Outcome::Matched { durable: point.index, held: point.index };
        world.deliver(message(from, 0, 4, answer(matched)));
    }
    assert_eq!(commit(&world, 0), 0, "three of five have the entry of term 2");
    world.quiesce();
    assert_eq!(commit(&world, 0), 3);
}

// 6 Membership

#[test]
fn a_learner_does_not_count() {
    let mut world = World::new(1, 3, 2);
    world.elect(0);
    world.change(0, Change::Add(replica(2))).unwrap();
    world.start_added(2, replica(2).incarnation);
    world.quiesce();
    world.deafen(1);
    world.propose(0);
    world.quiesce();
    assert_eq!(terms(&world, 2).len(), 3, "the learner has it");
    assert_eq!(commit(&world, 0), 2);
}

#[test]
fn members_change_one_at_a_time_and_after_an_entry_of_the_term() {
    let mut world = World::new(1, 4, 3);
    world.with(0, |node, now, _| node.campaign(now));
    world.time_out(0);
    for _ in 0..4 {
        for to in [1, 2, 0] {
            deliver_to(&mut world, to);
        }
        let status = world.node(0).map(|n| (n.status().is_leader, n.status().commit));
        if status == Some((true, 0)) {
            assert_eq!(world.change(0, Change::Add(replica(3))), Err(Refused::ChangeInProgress));
        }
    }
    world.quiesce();
    world.change(0, Change::Add(replica(3))).unwrap();
    assert_eq!(world.change(0, Change::Remove(peer(1))), Err(Refused::ChangeInProgress));
    world.quiesce();
    world.change(0, Change::Remove(peer(1))).unwrap();
}

#[test]
fn members_count_from_being_appended_and_go_with_their_entry() {
    let mut world = World::new(1, 4, 3);
    world.elect(0);
    world.change(0, Change::Add(replica(3))).unwrap();
    let members = |world: &World, at: usize| world.members_of(at).members().len();
    assert_eq!((members(&world, 0), members(&world, 1)), (4, 3));
    deliver_to(&mut world, 1);
    assert_eq!(members(&world, 1), 4);
    // The leader stops; one that does not have the entry is elected.
    world.network.clear();
    world.crash_keeping(0, 0);
    world.crash_keeping(1, 9);
    world.start(0);
    world.elect(2);
    world.quiesce();
    world.start(1);
    world.quiesce();
    assert_eq!((members(&world, 0), members(&world, 1), members(&world, 2)), (3, 3, 3));
}

#[test]
fn no_step_of_members_leaves_a_group_that_cannot_decide() {
    let mut world = led(3);
    world.set_cut(0, 2, true);
    assert_eq!(world.change(0, Change::Remove(peer(1))), Err(Refused::NoQuorum));
    assert_eq!(world.change(0, Change::Remove(peer(0))), Err(Refused::IsLeader));
    world.change(0, Change::Remove(peer(2))).unwrap();
}

// 7 Log compaction

#[test]
fn a_snapshot_of_what_is_there_already_takes_nothing_away() {
    let mut world = led(3);
    world.propose(0);
    world.quiesce();
    let last = world.servers[0].disk.visible.point(1);
    let membership = world.members_of(0);
    let snapshot = Snapshot { last, membership, since: 0, body: Bytes::from_static(&[0; 8]) };
    let offered = world.with(1, |node, now, out| {
        node.on_message(now, message(0, 1, 1, Body::Snapshot(snapshot.clone())), out);
        node.install(now, &snapshot, out)
    });
    assert_eq!((offered, terms(&world, 1).len()), (Some(false), 2));
}

#[test]
fn entries_that_came_while_a_snapshot_was_fetched_make_it_unwanted() {
    let mut world = led(3);
    world.crash_keeping(2, 0);
    world.propose(0);
    world.quiesce();
    world.start(2);
    let last = world.servers[0].disk.visible.point(2);
    let (membership, body) = (world.members_of(0), Bytes::from_static(&[0; 8]));
    let snapshot = Snapshot { last, membership, since: 0, body };
    world.quiesce();
    assert_eq!(commit(&world, 2), 2);
    let installed = world.with(2, |node, now, out| node.install(now, &snapshot, out));
    assert_eq!((installed, terms(&world, 2).len()), (Some(false), 2));
}

// 8 Client interaction

#[test]
fn a_new_leader_answers_nothing_before_its_first_entry_is_applied() {
    let mut world = World::new(1, 3, 3);
    world.with(0, |node, now, _| node.campaign(now));
    world.time_out(0);
    for to in [1, 2, 0, 1, 2, 0] {
        deliver_to(&mut world, to);
    }
    assert!(world.node(0).is_some_and(|node| node.status().is_leader && !node.is_leading()));
    assert_eq!(world.read(0), Err(Refused::NotLeader));
    world.quiesce();
    assert_eq!(world.read(0), Ok(()));
}

#[test]
fn a_read_is_confirmed_by_a_majority_of_voters() {
    let mut world = led(5);
    world.read(0).unwrap();
    let waits = |world: &World| world.reads.len();
    for (to, left) in [(1, 1), (2, 0)] {
        deliver_to(&mut world, to);
        deliver_to(&mut world, 0);
        assert_eq!(waits(&world), left, "n{to} has answered");
    }
}

#[test]
fn a_leader_that_nobody_follows_confirms_no_read() {
    let mut world = led(3);
    world.deafen(0);
    for at in [1, 2] {
        world.doubt(at);
    }
    world.elect(1);
    world.propose(1);
    world.quiesce();
    assert!(world.node(0).is_some_and(|node| node.is_leading()), "it does not know");
    world.read(0).unwrap();
    world.quiesce();
    assert_eq!(world.reads.len(), 1);
    world.heal_network();
    world.time_out(0);
    world.quiesce();
    assert_eq!((world.leader(), world.reads.len()), (Some(1), 0), "it was dropped");
}
