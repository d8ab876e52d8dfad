//! Messages and the floor of their stream: when they wait, and what lets them go on.

use linnet_assets::{Command, Purge};
use linnet_env::FaultyDisk;

use super::life::{Life, group_dir, stream_files};
use crate::GroupDone;

const STEP: u64 = 8;

#[test]
fn messages_go_on_while_a_floor_is_recorded_and_wait_only_at_the_one_before() {
    let disk = FaultyDisk::new(1);
    let mut life = Life::begin(&disk, STEP);
    assert_eq!(life.offer(4), 4);
    assert!(life.group.begin_floor(Default::default()).is_none(), "half of the step is left");
    assert_eq!(life.offer(1), 1);
    let job = life.group.begin_floor(Default::default()).unwrap();
    assert_eq!((life.offer(10), life.offer(1)), (3, 0));
    assert!(life.group.begin_floor(Default::default()).is_none(), "one is under way");
    life.job_done(GroupDone::FloorRecorded(job.run(&disk, &group_dir())));
    assert_eq!((life.offer(10), life.last_seq()), (5, 13));
    assert!(life.raise_floor());
    assert_eq!(stream_files(&disk), [group_dir().join("floor.21")]);
}

#[test]
fn after_a_failure_messages_wait_nothing_else_does_and_the_floor_is_recorded_later() {
    let disk = FaultyDisk::new(1);
    let mut life = Life::begin(&disk, STEP);
    assert_eq!(life.offer(10), 8);
    for _ in 0..3 {
        disk.fail_sync_after(0);
        assert!(life.raise_floor());
        assert_eq!(life.offer(1), 0);
        assert!(!life.raise_floor(), "not at once again");
        life.pass_time();
    }
    life.command(Command::Purge(Purge { filter: String::new(), below: 0, keep: 0 }));
    assert_eq!(life.group.stream().store().state().msgs, 0);
    assert!(life.raise_floor());
    assert_eq!((life.offer(1), life.last_seq()), (1, 9));
    assert_eq!(stream_files(&disk).len(), 1, "{:?}", stream_files(&disk));
}

#[test]
fn a_jump_of_the_sequence_takes_the_floor_along() {
    let disk = FaultyDisk::new(1);
    let mut life = Life::begin(&disk, STEP);
    life.command(Command::Purge(Purge { filter: String::new(), below: 1000, keep: 0 }));
    assert_eq!((life.last_seq(), life.offer(1)), (999, 0));
    assert!(life.raise_floor());
    assert_eq!((life.offer(1), life.last_seq()), (1, 1000));
    life.end_with_loss();
}

#[test]
fn a_deleted_stream_records_nothing() {
    let disk = FaultyDisk::new(1);
    let mut life = Life::begin(&disk, STEP);
    assert_eq!(life.offer(8), 8);
    life.command(Command::Delete);
    assert!(!life.raise_floor());
}
