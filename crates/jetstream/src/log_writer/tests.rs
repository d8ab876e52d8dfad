use std::path::Path;
use std::sync::mpsc;

use linnet_assets::Entry;
use linnet_env::{FaultyDisk, ManualClock};
use linnet_wal::{Config, StoreIdentity, Wal};

use super::*;
use crate::budget::{Held, Share};
use crate::reserve::Reserve;

mod watched_disk;

use watched_disk::WatchedDisk;

/// Ten seconds of waiting for a disk thread.
const PAUSES_MAX: u32 = 200;
/// What was taken and not yet written when streams begin to wait, here at most a segment.
const LEFT_OVER: u64 = 64 << 10;
const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };

fn writer() -> (LogWriter, FaultyDisk) {
    let faulty = FaultyDisk::new(1);
    (writer_on(Arc::new(faulty.clone()), LogHandle::new()), faulty)
}

fn writer_on(disk: Arc<dyn linnet_env::Disk>, handle: LogHandle) -> LogWriter {
    let config = Config {
        segment_bytes: 64 << 10,
        first_segment_bytes: 64 << 10,
        max_bytes: 512 << 10,
        reserve_segments: 1,
        ahead_after: 0,
    };
    let dir = Path::new("/store");
    disk.create_dir_all(dir).unwrap();
    let wal = Wal::open(disk.clone(), dir, config, StoreIdentity { store_id: [1; 16] }).unwrap().wal;
    let reserve = Reserve::new(disk.clone(), dir);
    let (workers, _) = DiskWorkers::start(disk, reserve).unwrap();
    LogWriter {
        keeper: LogKeeper::new(wal),
        handle,
        pumps: Vec::new(),
        workers,
        is_stuck: false,
        budget: Arc::default(),
        full_since: None,
        cannot_prepare: false,
        clock: Arc::new(ManualClock::default()),
        health: Arc::default(),
        is_clustered: false,
    }
}

#[test]
fn it_is_known_how_long_the_write_takes_that_is_under_way() {
    let handle = LogHandle::new();
    let later = Mono(0) + Duration::from_secs(4);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let at_sync = {
        let (handle, seen) = (handle.clone(), seen.clone());
        Arc::new(move || seen.lock().push(handle.oldest_write(later)))
    };
    let disk = WatchedDisk { disk: FaultyDisk::new(1), at_sync };
    let mut writer = writer_on(Arc::new(disk), handle);
    keep_ready(&mut writer);
    writer.clock = Arc::new(ManualClock::default());
    seen.lock().clear();
    append(&mut writer);
    let mut batch = next_batch(&mut writer);
    assert!(writer.try_commit(&mut batch).unwrap());
    assert_eq!(seen.lock().first(), Some(&Duration::from_secs(4)));
    assert_eq!(writer.handle.oldest_write(later), Duration::ZERO, "it is done");
    seen.lock().clear();
    assert!(writer.seal());
    assert_eq!(seen.lock().first(), Some(&Duration::from_secs(4)), "the mark behind it is a write, too");
    assert_eq!(writer.handle.oldest_write(later), Duration::ZERO);
}

#[test]
fn what_is_kept_ready_is_made_though_nothing_is_written() {
    let (mut writer, disk) = writer();
    let handle = writer.handle.clone();
    writer.maintain();
    let thread = std::thread::spawn(move || writer.run());
    // The current one, the next one and the reserve.
    let made = (0..PAUSES_MAX).any(|_| {
        std::thread::park_timeout(RETRY);
        disk.files_below(Path::new("/store/wal")).len() == 3
    });
    handle.stop();
    thread.join().unwrap();
    assert!(made, "{:?}", disk.files_below(Path::new("/store/wal")));
}

#[test]
fn groups_are_found_at_their_pumps() {
    let (log, pump, other) = (LogHandle::new(), PumpHandle::new(), PumpHandle::new());
    log.own(GROUP, pump.clone());
    assert!(log.pump_of(GROUP).is_some_and(|found| found.is_same(&pump) && !found.is_same(&other)));
    assert!(log.pump_of(GroupId::META).is_none());
    log.disown(GROUP);
    assert!(log.pump_of(GROUP).is_none());
}

#[test]
fn room_is_looked_for_although_nothing_is_appended_any_more() {
    let (mut writer, _) = writer();
    assert!(writer.seal());
    writer.handle.shared.state.lock().is_short_of_space = true;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(matches!(writer.wait_for_work(false), Work::Room)));
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(true));
}

/// A message.
fn append(writer: &mut LogWriter) {
    let message = [&[Entry::MESSAGES_KIND][..], &[7; 20_000]].concat();
    let next = writer.keeper.wal().last_index(GROUP) + 1;
    writer.handle.append(GROUP, next, 1, &message);
}

/// Messages until one finds no space: the batch that was refused.
fn fill(writer: &mut LogWriter) -> Batch {
    loop {
        append(writer);
        let mut batch = next_batch(writer);
        if !writer.try_commit(&mut batch).unwrap() {
            return batch;
        }
        keep_ready(writer);
    }
}

fn next_batch(writer: &mut LogWriter) -> Batch {
    loop {
        match writer.wait_for_work(false) {
            Work::Batch(_, batch) => return batch,
            Work::Prepared(outcome) => writer.prepared(outcome),
            _ => panic!("something was appended"),
        }
    }
}

/// Prepares what the log wants, as far as the disk allows.
fn keep_ready(writer: &mut LogWriter) {
    for _ in 0..3 {
        let later = ManualClock::default();
        later.advance(Duration::from_nanos(writer.clock.mono().0) + 2 * RETRY);
        writer.clock = Arc::new(later);
        writer.maintain();
        for _ in 0..PAUSES_MAX {
            if !writer.keeper.wal().is_preparing() {
                break;
            }
            writer.pause();
        }
    }
    writer.maintain();
}

fn gets_out_of_fullness_by_a_checkpoint(writer: &mut LogWriter, mut refused: Batch) {
    assert!(writer.handle.is_pressed(), "streams take no more messages");
    assert!(!writer.try_commit(&mut refused).unwrap(), "messages alone do not use the reserve");
    let applied = writer.keeper.wal().last_index(GROUP);
    writer.handle.checkpoint(GROUP, applied, 1, b"files");
    assert!(writer.try_commit(&mut refused).unwrap(), "a checkpoint behind it takes it along");
    let mut batch = next_batch(writer);
    assert!(batch.is_urgent() && writer.try_commit(&mut batch).unwrap());
    assert!(writer.seal());
    keep_ready(writer);
    assert!(!writer.handle.is_pressed(), "{:?}", writer.keeper.wal().usage());
    fill(writer);
}

#[test]
fn streams_wait_while_all_files_of_the_log_are_within_its_bound() {
    let (mut writer, _) = writer();
    keep_ready(&mut writer);
    while !writer.handle.is_pressed() {
        append(&mut writer);
        let mut batch = next_batch(&mut writer);
        assert!(writer.try_commit(&mut batch).unwrap());
        keep_ready(&mut writer);
    }
    let usage = writer.keeper.wal().usage();
    assert!(usage.live_bytes > usage.max_bytes / 2, "{usage:?}");
    assert!(usage.live_bytes + usage.other_bytes + LEFT_OVER <= usage.max_bytes, "{usage:?}");
}

/// Moves the clock on as far as a disk must be full before messages are refused.
fn wait_as_long_as_patience(writer: &mut LogWriter) {
    let later = ManualClock::default();
    later.advance(Duration::from_nanos(writer.clock.mono().0) + PATIENCE);
    writer.clock = Arc::new(later);
    writer.maintain();
}

#[test]
fn a_disk_without_space_for_what_streams_hold_in_memory_is_full_and_not_slow() {
    let (mut writer, disk) = writer();
    keep_ready(&mut writer);
    let reserve = Reserve::new(Arc::new(disk.clone()), Path::new("/store"));
    let (workers, _) = DiskWorkers::start(Arc::new(disk.clone()), reserve.clone()).unwrap();
    writer.workers = workers;
    writer.budget.update(&mut Share::default(), &Held { unwritten: 1 << 30, ..Held::default() });
    writer.handle.look_for_room();
    writer.maintain();
    wait_as_long_as_patience(&mut writer);
    assert!(!writer.handle.is_disk_full(), "it is slow");
    reserve.note_refused(1 << 20);
    disk.set_capacity(Some(disk.used()));
    writer.maintain();
    assert!(!writer.handle.is_disk_full() && writer.handle.is_pressed(), "it may be for a moment");
    wait_as_long_as_patience(&mut writer);
    assert!(writer.handle.is_disk_full());
    disk.set_capacity(None);
    writer.maintain();
    assert!(!writer.handle.is_disk_full() && !writer.handle.is_pressed());
}

#[test]
fn a_log_at_its_bound_takes_a_checkpoint_and_gets_out_of_it() {
    let (mut writer, _) = writer();
    let refused = fill(&mut writer);
    gets_out_of_fullness_by_a_checkpoint(&mut writer, refused);
}

#[test]
fn a_log_on_a_full_disk_takes_a_checkpoint_and_gets_out_of_it() {
    let (mut writer, disk) = writer();
    keep_ready(&mut writer);
    disk.set_capacity(Some(disk.used()));
    let refused = fill(&mut writer);
    gets_out_of_fullness_by_a_checkpoint(&mut writer, refused);
}

#[tokio::test]
async fn a_group_has_ended_when_that_is_durable_and_not_when_the_log_has_failed() {
    let handle = LogHandle::new();
    let faulty = FaultyDisk::new(1);
    let writer = writer_on(Arc::new(faulty.clone()), handle.clone());
    let thread = std::thread::spawn(move || writer.run());
    let syncs = faulty.counters().syncs;
    assert!(handle.end(GROUP).await);
    assert!(faulty.counters().syncs > syncs);
    let mut attempts = 0..100;
    faulty.fail_sync_after(0);
    while handle.end(GROUP).await {
        // A segment that is prepared met the failure.
        attempts.next().expect("its sync fails");
        faulty.fail_sync_after(0);
    }
    assert!(!handle.end(GROUP).await, "nothing is written any more");
    thread.join().unwrap();
}
