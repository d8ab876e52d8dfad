use linnet_assets::Command;
use linnet_env::FaultyDisk;
use linnet_ids::PeerId;
use linnet_raft::Replica;

use super::Hold;
use crate::open::life::{Life, REPLICA_STEP};

/// Sequences to reserve at a time.
const STEP: u64 = 1 << 10;

fn me() -> Replica {
    Replica { peer: PeerId::of_name("a"), incarnation: 7 }
}

fn still(life: &mut Life) -> u64 {
    for _ in 0..10 {
        if let Hold::Still(last) = life.group.hold() {
            return last;
        }
        life.turn(1);
    }
    panic!("something is always under way");
}

/// A stream with three messages that was asked to become a replica.
fn asked(disk: &FaultyDisk) -> Life {
    let mut life = Life::begin(disk, STEP);
    (1..=3).for_each(|seq| assert_eq!(life.publish(), seq));
    let last = still(&mut life);
    let end = life.log_end();
    assert_eq!(end.index, last);
    assert!(life.group.open_up(me(), end, 1));
    life
}

#[test]
fn a_group_that_is_held_takes_nothing_in_until_it_is_let_go() {
    let mut life = Life::begin(&FaultyDisk::new(1), STEP);
    life.publish();
    still(&mut life);
    assert_eq!(life.offer(1), 0);
    life.group.let_go();
    assert_eq!(life.offer(1), 1);
}

#[test]
fn what_is_on_its_way_is_waited_for() {
    let mut life = Life::begin(&FaultyDisk::new(1), STEP);
    life.offer(1);
    let end = life.log_end();
    life.group.stream_mut().record_config();
    assert_eq!(life.group.hold(), Hold::Waits, "an entry is to be written");
    assert!(!life.group.open_up(me(), end, 1));
    life.turn(1);
    assert!(!life.group.open_up(me(), end, 1), "the log ends elsewhere");
    let end = life.log_end();
    assert!(life.group.open_up(me(), end, 1));
}

#[test]
fn the_first_replica_goes_on_with_everything_and_decides_alone() {
    let disk = FaultyDisk::new(1);
    let mut life = asked(&disk);
    assert!(!life.group.is_replica());
    life.turn(4);
    assert!(life.group.is_replica() && life.group.stream().is_leading() && !life.group.is_held());
    assert_eq!(life.publish(), 4);
    life.end();
    let mut next = Life::begin_as_replica(&disk, me().peer).expect("the log says that it is a replica");
    next.turn(4);
    assert!(next.group.stream().is_leading());
    assert_eq!(next.last_seq(), 4);
    assert_eq!(next.publish(), 5);
}

#[test]
fn it_is_a_replica_from_the_record_on_and_not_before() {
    for turns in 0..4 {
        let disk = FaultyDisk::new(1);
        let mut life = asked(&disk);
        life.turn(turns);
        let was_replica = life.group.is_replica();
        life.end();
        match Life::begin_as_replica(&disk, me().peer) {
            Some(mut life) => {
                assert!(was_replica);
                life.turn(4);
                assert_eq!(life.last_seq(), 3, "after {turns} turns");
                assert_eq!(life.publish(), 4);
            }
            None => {
                assert!(!was_replica);
                let mut life = Life::begin(&disk, STEP);
                assert_eq!(life.last_seq(), 3, "after {turns} turns");
                assert_eq!(life.publish(), 4);
            }
        }
    }
}

#[test]
fn a_stream_that_ended_stays_ended() {
    let disk = FaultyDisk::new(1);
    let mut life = Life::begin(&disk, STEP);
    life.publish();
    life.command(Command::Delete);
    still(&mut life);
    let end = life.log_end();
    life.group.open_up(me(), end, 1);
    life.turn(4);
    life.end();
    let mut life = Life::begin_as_replica(&disk, me().peer).unwrap();
    life.turn(4);
    assert!(life.group.stream().is_deleted());
}

/// A server that alone counts in a group and lost the end of its log, and dies again before it leads, or before what it
/// skips is written.
#[test]
fn the_only_voter_uses_no_sequence_again_however_much_of_its_log_is_lost() {
    for turns in 0..4 {
        let disk = FaultyDisk::new(1);
        let mut life = asked(&disk);
        life.turn(4);
        life.end();
        let mut life = Life::begin_as_replica(&disk, me().peer).unwrap();
        life.turn(4);
        let mut highest = (0..10 * REPLICA_STEP).map(|_| life.publish()).max().unwrap();
        for _ in 0..2 {
            life.end_with_loss();
            let mut again = Life::begin_as_replica(&disk, me().peer).unwrap();
            assert!(again.damaged);
            again.turn(turns);
            again.end();
            life = Life::begin_as_replica(&disk, me().peer).unwrap();
            assert_eq!(life.damaged, turns == 0, "the log tells of it until something is written");
            life.turn(6);
            let next = life.publish();
            assert!(next > highest, "{next} was used before (up to {highest}), after {turns} turns");
            highest = next;
        }
    }
}
