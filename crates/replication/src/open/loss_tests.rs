//! Groups whose log was damaged: what was handed out once is not handed out again.

use std::path::Path;

use linnet_env::{Disk, FaultyDisk, OpenMode};

use super::life::{
    Life, group_dir, lose_newest_segment, lose_oldest_segment, make_oldest_segment_unreadable, stream_files,
};
use crate::FLOOR_STEP;

/// So few that a test gets beyond several.
const STEP: u64 = 8;

/// A disk with a store whose log has a segment before the one that the next life writes.
fn disk_with_stream() -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    Life::begin(&disk, STEP).end();
    disk
}

#[test]
fn no_sequence_is_used_again_however_often_the_end_of_the_log_is_lost() {
    for step in [1, 2, STEP, FLOOR_STEP] {
        let disk = disk_with_stream();
        let mut highest = 0;
        for loss in 0..5 {
            let mut life = Life::begin(&disk, step);
            assert_eq!(life.damaged, loss > 0);
            for _ in 0..3 {
                let seq = life.publish();
                assert!(seq > highest, "{seq} was used before (up to {highest}), after {loss} losses");
                highest = seq;
            }
            life.end_with_loss();
        }
    }
}

#[test]
fn no_sequence_is_used_again_however_many_messages_are_lost() {
    let disk = disk_with_stream();
    let mut life = Life::begin(&disk, STEP);
    let highest = (0..10 * STEP).map(|_| life.publish()).max();
    assert_eq!(highest, Some(10 * STEP));
    life.end_with_loss();
    let mut life = Life::begin(&disk, STEP);
    assert!(life.damaged && life.last_seq() >= 10 * STEP, "{} is left", life.last_seq());
    assert!(life.last_seq() <= 11 * STEP, "{} are skipped", life.last_seq() - 10 * STEP);
    assert!(life.publish() > 10 * STEP);
}

#[test]
fn after_a_loss_messages_wait_until_the_next_floor_is_recorded() {
    let disk = disk_with_stream();
    Life::begin(&disk, STEP).end_with_loss();
    let mut life = Life::begin(&disk, STEP);
    assert_eq!((life.last_seq(), life.offer(1)), (STEP, 0));
    assert_eq!(stream_files(&disk), Vec::<&Path>::new());
    assert!(life.raise_floor());
    assert_eq!(stream_files(&disk), [group_dir().join("floor.16")]);
    assert_eq!((life.offer(1), life.last_seq()), (1, STEP + 1));
}

#[test]
fn a_restart_without_damage_skips_nothing() {
    let disk = disk_with_stream();
    for round in 0..8 {
        let mut life = Life::begin(&disk, STEP);
        assert!(!life.damaged);
        for n in 1..=5 {
            assert_eq!(life.publish(), round * 5 + n);
        }
        life.end();
    }
}

#[test]
fn a_floor_that_a_killed_process_left_is_not_relied_on() {
    for seed in 0..8 {
        let disk = disk_with_stream();
        let mut life = Life::begin(&disk, STEP);
        assert_eq!(life.offer(1), 1);
        disk.create_dir_all(&group_dir()).unwrap();
        disk.open(&group_dir().join("floor.1000"), OpenMode::Create).unwrap();
        life.end();
        let mut life = Life::begin(&disk, STEP);
        let highest = (0..4 * STEP).map(|_| life.publish()).max().unwrap();
        drop(life);
        disk.crash(seed);
        lose_newest_segment(&disk);
        let seq = Life::begin(&disk, STEP).publish();
        assert!(seq > highest, "{seq} was used before (up to {highest})");
    }
}

#[test]
fn a_log_that_reaches_beyond_the_floor_is_no_reason_to_use_a_sequence_again() {
    let disk = disk_with_stream();
    let mut life = Life::begin(&disk, STEP);
    assert_eq!((0..2 * STEP).map(|_| life.publish()).max(), Some(2 * STEP));
    life.end();
    for file in stream_files(&disk) {
        disk.lose_file(&file).unwrap();
    }
    let mut life = Life::begin(&disk, FLOOR_STEP);
    assert_eq!(life.offer(4), 4);
    life.end_with_loss();
    assert_eq!(Life::begin(&disk, STEP).last_seq(), 3 * STEP);
}

#[test]
fn a_stream_that_lost_its_beginning_still_begins_where_it_is_configured_to() {
    let disk = FaultyDisk::new(1);
    Life::begin_at(&disk, STEP, 1000).end();
    Life::begin_at(&disk, STEP, 1000).end();
    lose_oldest_segment(&disk);
    let mut life = Life::begin_at(&disk, STEP, 1000);
    assert!(life.damaged);
    let seq = life.publish();
    assert!(seq >= 1000, "{seq}");
}

#[test]
fn entries_that_can_be_read_no_more_once_the_log_is_verified_are_lost_ones() {
    let disk = FaultyDisk::new(1);
    let mut life = Life::begin(&disk, STEP);
    assert_eq!(life.offer(5), 5);
    life.end();
    let life = Life::begin_with(&disk, STEP, 0, || make_oldest_segment_unreadable(&disk));
    assert!(!life.damaged && life.last_seq() >= 5, "{}", life.last_seq());
}
