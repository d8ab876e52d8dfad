//! Life of segments: reuse, bounds, full disks, failures that stop the log.

use linnet_env::FaultyDisk;
use linnet_wal::{Batch, Config, Error, Integrity, Unverifiable, Wal};

use crate::model::{group, open, open_with, small, wal_dir};

fn upkeep(wal: &mut Wal) {
    if let Some(job) = wal.prepare_next() {
        match job.run() {
            Ok(prepared) => wal.install(prepared),
            Err(_) => wal.prepare_failed(),
        }
    }
}

fn append(wal: &mut Wal, g: u64, payload: &[u8]) -> Result<(), Error> {
    let mut batch = Batch::new();
    batch.entry(group(g), wal.last_index(group(g)) + 1, 1, &[payload]);
    wal.commit(&mut batch).map(|_| ())
}

fn checkpoint(wal: &mut Wal, g: linnet_ids::GroupId) {
    let applied = wal.last_index(g);
    let mut batch = Batch::new();
    batch.checkpoint(g, applied, wal.term(g, applied).unwrap(), b"files");
    wal.commit(&mut batch).unwrap();
}

#[test]
fn space_stays_bounded_when_the_caller_checkpoints() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    let config = small();
    let mut batch = Batch::new();
    for g in 1..=6 {
        batch.hard_state(group(g), &linnet_wal::HardState::default());
    }
    wal.commit(&mut batch).unwrap();
    let mut used_max = 0;
    for n in 0..3000_u64 {
        append(&mut wal, n % 5 + 1, &[7; 3000]).unwrap();
        while wal.usage().live_bytes > config.max_bytes / 2 {
            // Group 6 never changes, so that only rewriting moves its hard state.
            let pinning = wal.groups_pinning_oldest();
            match pinning.iter().find(|(g, bytes)| *bytes > 0 && *g != group(6)) {
                Some((g, _)) => checkpoint(&mut wal, *g),
                None => while !wal.rewrite_oldest(Unverifiable::Keep).unwrap().done {},
            }
        }
        upkeep(&mut wal);
        assert!(wal.usage().live_bytes <= config.max_bytes);
        used_max = used_max.max(disk.used());
    }
    assert!(used_max <= config.max_bytes, "{used_max} bytes of files");
    assert!(wal.usage().oldest > 100, "segments came and went: {:?}", wal.usage());
    let opened = open(&disk).unwrap();
    assert_eq!(opened.groups.len(), 6);
    assert!(opened.groups.iter().all(|g| g.integrity == Integrity::Intact && g.hard_state.is_some()));
}

#[test]
fn a_full_log_refuses_ordinary_batches_until_something_is_checkpointed() {
    let disk = FaultyDisk::new(1);
    let config = Config { max_bytes: 4 * (64 << 10), reserve_segments: 1, ..small() };
    let mut wal = open_with(&disk, config).unwrap().wal;
    let full = loop {
        upkeep(&mut wal);
        if let Err(e) = append(&mut wal, 1, &[7; 20_000]) {
            break e;
        }
    };
    assert!(matches!(full, Error::Full { .. }) && full.is_retryable(), "{full}");
    let mut urgent = Batch::new();
    urgent.entry(group(1), wal.last_index(group(1)) + 1, 1, &[&[8; 20_000]]);
    urgent.set_urgent(true);
    wal.commit(&mut urgent).unwrap();
    append(&mut wal, 1, b"what still fits goes on").unwrap();
    checkpoint(&mut wal, group(1));
    wal.seal().unwrap();
    for _ in 0..4 {
        append(&mut wal, 1, &[7; 20_000]).unwrap();
    }
}

#[test]
fn a_full_disk_stops_only_new_segments_and_recovers_by_itself() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    append(&mut wal, 1, b"first").unwrap();
    disk.set_capacity(Some(disk.used() + 1000));
    let mut batch = Batch::new();
    let full = loop {
        batch.clear();
        batch.entry(group(1), wal.last_index(group(1)) + 1, 1, &[&[7; 9000]]);
        if let Err(e) = wal.commit(&mut batch) {
            break e;
        }
    };
    assert!(matches!(full, Error::DiskFull { .. }) && full.is_retryable(), "{full}");
    assert!(!batch.is_empty(), "the batch is kept for another try");
    assert!(wal.prepare_next().unwrap().run().is_err());
    wal.prepare_failed();
    append(&mut wal, 2, b"small ones still fit").unwrap();
    assert!(wal.commit(&mut batch).is_err());
    disk.set_capacity(None);
    wal.commit(&mut batch).unwrap();
    upkeep(&mut wal);
    let opened = open(&disk).unwrap();
    assert_eq!(opened.wal.read(group(2), 1).unwrap().unwrap().payload, b"small ones still fit");
    assert!(opened.groups.iter().all(|g| g.integrity == Integrity::Intact));
}

#[test]
fn a_log_that_is_hardly_written_to_makes_nothing_ahead() {
    let disk = FaultyDisk::new(1);
    let config = Config { ahead_after: 16 << 10, ..small() };
    let mut wal = open_with(&disk, config).unwrap().wal;
    let before = disk.used();
    append(&mut wal, 1, b"hardly anything").unwrap();
    upkeep(&mut wal);
    assert_eq!(disk.used(), before);
    append(&mut wal, 1, &[7; 16 << 10]).unwrap();
    upkeep(&mut wal);
    assert_eq!(disk.used(), before + config.segment_bytes);
    // What does not fit any more needs another one, however little stands in the first.
    let mut wal = open_with(&disk, Config { ahead_after: u64::MAX, ..small() }).unwrap().wal;
    upkeep(&mut wal);
    assert_eq!(wal.usage().other_bytes, 0, "what is left of before goes");
    while wal.usage().live_segments < 3 {
        append(&mut wal, 1, &[7; 9000]).unwrap();
    }
    upkeep(&mut wal);
    assert_eq!(wal.usage().other_bytes, config.segment_bytes);
}

#[test]
fn the_reserve_admits_urgent_batches_on_a_full_disk() {
    let disk = FaultyDisk::new(1);
    let mut wal = open_with(&disk, Config { reserve_segments: 1, ..small() }).unwrap().wal;
    upkeep(&mut wal);
    upkeep(&mut wal);
    assert!(wal.prepare_next().is_none(), "the next segment and the reserve are ready");
    disk.set_capacity(Some(disk.used()));
    while append(&mut wal, 1, &[7; 9000]).is_ok() {}
    let mut urgent = Batch::new();
    urgent.end_group(group(1));
    urgent.entry(group(2), 1, 1, &[&[7; 9000]]);
    urgent.set_urgent(true);
    wal.commit(&mut urgent).unwrap();
}

#[test]
fn an_ended_group_is_gone_and_frees_its_segments() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    for _ in 0..12 {
        append(&mut wal, 1, &[7; 20_000]).unwrap();
    }
    assert!(wal.usage().live_segments > 3);
    let mut batch = Batch::new();
    batch.end_group(group(1));
    wal.commit(&mut batch).unwrap();
    wal.seal().unwrap();
    assert_eq!(wal.usage().live_segments, 1);
    assert_eq!(wal.read(group(1), 1).unwrap(), None);
    upkeep(&mut wal);
    assert!(disk.files_below(&wal_dir()).len() <= 2);
    assert!(open(&disk).unwrap().groups.is_empty());
}

#[test]
fn a_recycled_segment_shows_nothing_of_its_earlier_life() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    for round in 0..40 {
        append(&mut wal, 1, &[round; 20_000]).unwrap();
        checkpoint(&mut wal, group(1));
        upkeep(&mut wal);
    }
    let fork = disk.fork();
    let opened = open(&fork).unwrap();
    assert!(opened.report.damages.is_empty() && opened.report.torn_tail.is_none(), "{:?}", opened.report);
    assert_eq!(opened.wal.last_index(group(1)), 40);
}

#[test]
fn a_failed_sync_is_final_for_the_opening() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    append(&mut wal, 1, b"kept").unwrap();
    let before = wal.last_lsn();
    disk.fail_sync_after(0);
    let failed = append(&mut wal, 1, b"unknown").unwrap_err();
    let Error::Stopped(cause) = &failed else { panic!("{failed}") };
    assert_eq!((cause.lsn.0, failed.is_retryable()), (before.0 + 1, false));
    let answers = [
        append(&mut wal, 2, b"never").unwrap_err(),
        wal.seal().unwrap_err(),
        wal.rewrite_oldest(Unverifiable::Keep).unwrap_err(),
    ];
    assert!(answers.iter().all(|e| matches!(e, Error::Stopped(c) if std::sync::Arc::ptr_eq(c, cause))));
    assert!(!wal.needs_seal() && wal.prepare_next().is_none());
    assert_eq!(wal.last_lsn(), before);
    assert_eq!(wal.read(group(1), 1).unwrap().unwrap().payload, b"kept");
    drop(wal);
    disk.crash(3);
    let opened = open(&disk).unwrap();
    assert_eq!(opened.wal.last_index(group(1)), 1, "the dropped pages are gone, and nothing else");
    assert_eq!(opened.groups[0].integrity, Integrity::Intact);
}

#[test]
fn rewriting_moves_what_is_needed_and_nothing_else() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    append(&mut wal, 1, b"idle group").unwrap();
    for _ in 0..30 {
        append(&mut wal, 2, &[7; 9000]).unwrap();
    }
    checkpoint(&mut wal, group(2));
    let mut records = 0;
    loop {
        let step = wal.rewrite_oldest(Unverifiable::Keep).unwrap();
        records += step.records;
        if step.done {
            break;
        }
    }
    assert_eq!(records, 1, "only the idle group's entry was still needed");
    assert_eq!(wal.usage().live_segments, 1);
    assert_eq!(wal.read(group(1), 1).unwrap().unwrap().payload, b"idle group");
    append(&mut wal, 1, b"goes on").unwrap();
    let opened = open(&disk).unwrap();
    assert_eq!((opened.groups[0].first, opened.groups[0].last), (Some(1), 2));
    assert!(opened.groups.iter().all(|g| g.integrity == Integrity::Intact));
}

#[test]
fn a_smaller_configured_segment_still_opens_a_larger_log() {
    let disk = FaultyDisk::new(1);
    let large = Config {
        segment_bytes: 1 << 20,
        first_segment_bytes: 1 << 20,
        max_bytes: 8 << 20,
        reserve_segments: 0,
        ahead_after: 0,
    };
    let mut wal = open_with(&disk, large).unwrap().wal;
    upkeep(&mut wal);
    append(&mut wal, 1, &[9; 600_000]).unwrap();
    drop(wal);
    let mut opened = open(&disk).unwrap();
    assert_eq!(opened.wal.read(group(1), 1).unwrap().unwrap().payload, vec![9; 600_000]);
    append(&mut opened.wal, 1, b"x").unwrap();
    assert_eq!(open(&disk).unwrap().wal.last_index(group(1)), 2);
}

/// The first segment of an opening is smaller than those that are made ahead.
fn unlike_sizes() -> Config {
    Config { segment_bytes: 128 << 10, reserve_segments: 1, ..small() }
}

fn payload(opened: &linnet_wal::Opened, g: u64, index: u64) -> Vec<u8> {
    opened.wal.read(group(g), index).unwrap().unwrap().payload
}

#[test]
fn a_store_on_a_full_disk_opens_in_a_segment_that_was_made_ahead() {
    let disk = FaultyDisk::new(1);
    let mut wal = open_with(&disk, unlike_sizes()).unwrap().wal;
    upkeep(&mut wal);
    upkeep(&mut wal);
    append(&mut wal, 1, b"acknowledged").unwrap();
    disk.set_capacity(Some(disk.used()));
    for _ in 0..3 {
        disk.kill();
        let mut opened = open_with(&disk, unlike_sizes()).unwrap();
        assert!(opened.groups.iter().all(|g| g.integrity == Integrity::Intact));
        assert_eq!(payload(&opened, 1, 1), b"acknowledged");
        append(&mut opened.wal, 2, b"small ones still fit").unwrap();
        upkeep(&mut opened.wal);
    }
    disk.set_capacity(None);
    let mut opened = open_with(&disk, unlike_sizes()).unwrap();
    for _ in 0..20 {
        append(&mut opened.wal, 1, &[7; 20_000]).unwrap();
        upkeep(&mut opened.wal);
    }
    let opened = open_with(&disk, unlike_sizes()).unwrap();
    assert_eq!(opened.wal.last_index(group(1)), 21);
    assert_eq!(payload(&opened, 2, 3), b"small ones still fit");
}

#[test]
fn a_store_on_a_full_disk_without_a_spare_segment_says_how_much_it_needs() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    append(&mut wal, 1, b"acknowledged").unwrap();
    disk.set_capacity(Some(disk.used() + 1000));
    let error = open(&disk).unwrap_err();
    assert!(matches!(error, Error::NoSpaceToOpen { bytes: 65_536, free: 1000, .. }), "{error}");
    assert!(error.to_string().contains("/store/wal"), "{error}");
    disk.set_capacity(None);
    let mut opened = open(&disk).unwrap();
    assert_eq!(payload(&opened, 1, 1), b"acknowledged");
    append(&mut opened.wal, 1, b"goes on").unwrap();
}

#[test]
fn a_little_space_is_enough_to_open() {
    let disk = FaultyDisk::new(1);
    let config = Config { segment_bytes: 256 << 10, first_segment_bytes: 256 << 10, ..small() };
    let mut wal = open_with(&disk, config).unwrap().wal;
    append(&mut wal, 1, b"acknowledged").unwrap();
    disk.set_capacity(Some(disk.used() + (64 << 10)));
    assert_eq!(payload(&open_with(&disk, config).unwrap(), 1, 1), b"acknowledged");
}

#[test]
fn segments_leave_enough_space_on_the_disk_to_open_and_to_write_checkpoints() {
    let disk = FaultyDisk::new(1);
    let config = Config { segment_bytes: 256 << 10, first_segment_bytes: 128 << 10, ..small() };
    let mut wal = open_with(&disk, config).unwrap().wal;
    disk.set_capacity(Some(disk.used() + (256 << 10) + (127 << 10)));
    while append(&mut wal, 1, &[7; 20_000]).is_ok() {}
    assert!(!wal.can_make_segment() && wal.prepare_next().unwrap().run().is_err());
    wal.prepare_failed();
    assert_eq!(wal.usage().live_segments, 1, "one more would leave too little");
    disk.set_capacity(Some(disk.used() + (256 << 10) + (128 << 10)));
    assert!(wal.can_make_segment());
    append(&mut wal, 1, &[7; 20_000]).unwrap();
    disk.kill();
    assert_eq!(payload(&open_with(&disk, config).unwrap(), 1, 1), [7; 20_000]);
}

#[test]
fn segments_that_a_crash_left_behind_make_room_for_opening() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    for _ in 0..12 {
        append(&mut wal, 1, &[7; 20_000]).unwrap();
    }
    append(&mut wal, 2, b"acknowledged").unwrap();
    let mut batch = Batch::new();
    batch.end_group(group(1));
    wal.commit(&mut batch).unwrap();
    wal.seal().unwrap();
    wal.seal().unwrap();
    assert!(wal.usage().other_bytes > 0, "freed and not put away");
    disk.set_capacity(Some(disk.used()));
    disk.crash(1);
    let opened = open(&disk).unwrap();
    assert!(opened.report.damages.is_empty());
    assert_eq!(payload(&opened, 2, 1), b"acknowledged");
}
