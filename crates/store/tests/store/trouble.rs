//! Errors of the disk, and what erasing promises.

use std::io;
use std::sync::Arc;

use linnet_env::{Disk, FaultyDisk};
use linnet_store::{Lookup, StreamStore};

use crate::sealed::shared;
use crate::support::{Got, SMALL, append, checkpoint, dir, file_kind, get, new_disk, seed, write_all};

fn new_store(disk: &FaultyDisk) -> StreamStore {
    StreamStore::new(file_kind(disk), seed(), 0, -1).with_layout(SMALL)
}

fn files_with(disk: &FaultyDisk, bytes: &[u8]) -> usize {
    let files = disk.files_below(&dir()).into_iter();
    files.filter(|(path, _)| disk.read(path).unwrap().windows(bytes.len()).any(|w| w == bytes)).count()
}

#[test]
fn erased_bytes_do_not_survive_the_next_checkpoint() {
    // Whatever has happened to the block by then.
    for before in 0..4 {
        for victim in [1, 5, 12, 30] {
            let disk = new_disk(1);
            let mut store = new_store(&disk);
            (1..=30).for_each(|seq| append(&mut store, seq, "s", format!("secret <{seq}>").as_bytes()));
            let secret = format!("secret <{victim}>");
            match before {
                0 => {}
                1 => write_all(&mut store),
                2 => drop(store.take_writes(true)),
                _ => drop(checkpoint(&mut store, &disk)),
            }
            store.remove(victim, true);
            checkpoint(&mut store, &disk);
            assert_eq!(files_with(&disk, secret.as_bytes()), 0, "case {before}, message {victim}");
            for seq in (1..=30).filter(|seq| *seq != victim) {
                assert!(matches!(get(&mut store, seq, true), Got::Message { .. }));
            }
        }
    }
}

#[test]
fn bytes_erased_while_a_checkpoint_runs_go_with_the_next_one() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    (1..=30).for_each(|seq| append(&mut store, seq, "s", format!("secret <{seq}>").as_bytes()));
    checkpoint(&mut store, &disk);
    store.remove(2, true);
    let job = store.begin_checkpoint(b"").unwrap();
    store.remove(3, true);
    let (_, removable) = store.finish_checkpoint(job.run()).unwrap();
    removable.iter().for_each(|path| drop(disk.remove_file(path)));
    assert_eq!((files_with(&disk, b"secret <2>"), files_with(&disk, b"secret <3>")), (0, 1));
    checkpoint(&mut store, &disk);
    assert_eq!(files_with(&disk, b"secret <3>"), 0);
    assert!(matches!(get(&mut store, 4, false), Got::Message { .. }));
}

#[test]
fn the_owners_state_is_put_into_bytes_by_the_job() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    append(&mut store, 1, "s", b"x");
    let (tell, told) = std::sync::mpsc::channel();
    let extra = move || {
        tell.send(()).unwrap();
        b"large".to_vec()
    };
    let job = store.begin_checkpoint_with(extra).unwrap();
    assert!(told.try_recv().is_err(), "the caller is not kept waiting for it");
    let (body, _) = store.finish_checkpoint(job.run()).unwrap();
    let (_, report) = crate::damage::open(&disk, body).unwrap();
    assert_eq!(report.extra, b"large");
}

#[test]
fn a_full_disk_is_waited_out() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    (1..=30).for_each(|seq| append(&mut store, seq, "s", &[1; 40]));
    disk.set_capacity(Some(300));
    write_all(&mut store);
    assert!(store.is_disk_full() && store.failure().is_none());
    let job = store.begin_checkpoint(b"").unwrap();
    assert!(store.finish_checkpoint(job.run()).is_none());
    assert!(store.is_disk_full() && store.failure().is_none());
    disk.set_capacity(None);
    write_all(&mut store);
    assert_eq!(store.unwritten(), 0);
    let body = checkpoint(&mut store, &disk);
    assert!(!store.is_disk_full());
    let shared: Arc<dyn Disk> = shared(&disk);
    let (mut store, report) = StreamStore::open(&shared, dir(), seed(), Some(body), |_| -1).unwrap();
    assert!(report.lost.is_empty() && report.strays.is_empty());
    (1..=30).for_each(|seq| assert!(matches!(get(&mut store, seq, true), Got::Message { .. })));
}

#[test]
fn want_of_descriptors_is_waited_out() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    (1..=30).for_each(|seq| append(&mut store, seq, "s", &[1; 40]));
    disk.set_descriptors(false);
    write_all(&mut store);
    let job = store.begin_checkpoint(b"").unwrap();
    assert!(store.finish_checkpoint(job.run()).is_none());
    assert!(store.failure().is_none() && store.unwritten() > 0);
    disk.set_descriptors(true);
    write_all(&mut store);
    assert_eq!(store.unwritten(), 0);
    // Everything is written, and the state with its directory is not.
    let job = store.begin_checkpoint(b"").unwrap();
    disk.set_descriptors(false);
    assert!(store.finish_checkpoint(job.run()).is_none() && store.failure().is_none());
    disk.set_descriptors(true);
    let body = checkpoint(&mut store, &disk);
    let shared: Arc<dyn Disk> = shared(&disk);
    let (mut store, report) = StreamStore::open(&shared, dir(), seed(), Some(body), |_| -1).unwrap();
    assert!(report.lost.is_empty() && report.strays.is_empty());
    (1..=30).for_each(|seq| assert!(matches!(get(&mut store, seq, true), Got::Message { .. })));
}

#[test]
fn erasing_is_not_forgotten_when_the_disk_is_full() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    (1..=30).for_each(|seq| append(&mut store, seq, "s", format!("secret <{seq}>").as_bytes()));
    checkpoint(&mut store, &disk);
    store.remove(5, true);
    disk.set_capacity(Some(disk.used() + 100));
    let job = store.begin_checkpoint(b"").unwrap();
    assert!(store.finish_checkpoint(job.run()).is_none());
    disk.set_capacity(None);
    checkpoint(&mut store, &disk);
    assert_eq!(files_with(&disk, b"secret <5>"), 0);
    let files = disk.files_below(&dir()).len();
    checkpoint(&mut store, &disk);
    assert!(disk.files_below(&dir()).len() <= files);
}

#[test]
fn a_block_that_is_being_rewritten_is_not_appended_to() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    // Two blocks: 1 to 6, full, and 7 to 9.
    (1..=5).for_each(|seq| append(&mut store, seq, "s", &[1; 100]));
    append(&mut store, 6, "s", b"message 6");
    (7..=9).for_each(|seq| append(&mut store, seq, "s", &[1; 100]));
    // The first one shrinks, and does so again while the one behind it goes.
    (1..=4).for_each(|seq| assert!(store.remove(seq, false).is_some()));
    checkpoint(&mut store, &disk);
    store.remove(5, false);
    store.remove(9, true);
    let taken = store.begin_checkpoint(b"").unwrap().run();
    (7..=8).for_each(|seq| assert!(store.remove(seq, false).is_some()));
    (10..=12).for_each(|seq| append(&mut store, seq, "s", format!("message {seq}").as_bytes()));
    assert!(store.finish_checkpoint(taken).is_some());
    checkpoint(&mut store, &disk);
    for seq in [6, 10, 11, 12] {
        let expected = format!("message {seq}").into_bytes();
        assert!(matches!(get(&mut store, seq, true), Got::Message { payload, .. } if payload == expected));
    }
}

#[test]
fn a_failed_sync_latches() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    append(&mut store, 1, "s", b"x");
    disk.fail_sync_after(0);
    let job = store.begin_checkpoint(b"").unwrap();
    assert!(store.finish_checkpoint(job.run()).is_none());
    assert!(store.failure().is_some());
    assert!(store.begin_checkpoint(b"").is_none());
    assert!(store.take_writes(true).is_empty());
    assert!(matches!(get(&mut store, 1, false), Got::Message { .. }));
}

#[test]
fn writes_that_finish_out_of_order_free_their_memory() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    let mut jobs = Vec::new();
    for seq in 1..=12 {
        append(&mut store, seq, "s", &[1; 10]);
        jobs.extend(store.take_writes(true));
    }
    assert!(jobs.len() >= 10);
    for job in jobs.into_iter().rev() {
        store.written(job.run());
    }
    assert_eq!(store.unwritten(), 0);
}

#[test]
fn one_unreadable_message_does_not_take_what_is_read_ahead_with_it() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1);
    (1..=30).for_each(|seq| append(&mut store, seq, "s", &[1; 100]));
    checkpoint(&mut store, &disk);
    disk.make_sector_unreadable(&dir().join("0000000001.blk"), 2).unwrap();
    let got: Vec<bool> = (1..=30).map(|seq| get(&mut store, seq, true) == Got::Damaged).collect();
    let damaged: Vec<usize> = (0..30).filter(|at| got[*at]).map(|at| at + 1).collect();
    // Bytes 1024 to 1535 of a file whose records take 133 bytes from 16 on.
    assert_eq!(damaged, [8, 9, 10, 11, 12]);
}

#[test]
fn an_error_that_is_no_damage_marks_nothing() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    append(&mut store, 1, "s", b"x");
    write_all(&mut store);
    let Lookup::Cold(job) = store.get(1, false) else { panic!("the message is in the file only") };
    // No power: nothing is known about what is stored.
    disk.power_off_after(0);
    disk.sync_dir(&dir()).unwrap_err();
    let error = store.loaded(job.run()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotConnected);
    assert!(store.damaged().is_empty());
}

#[test]
fn new_files_never_take_the_name_of_a_stray() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    append(&mut store, 1, "s", b"x");
    let body = checkpoint(&mut store, &disk);
    (2..=30).for_each(|seq| append(&mut store, seq, "s", &[1; 40]));
    write_all(&mut store);
    let unrecorded = store.begin_checkpoint(b"").unwrap().run();
    assert!(unrecorded.error().is_none());
    let shared: Arc<dyn Disk> = shared(&disk);
    let (mut store, report) =
        StreamStore::open_with_layout(&shared, dir(), seed(), Some(body), SMALL, |_| -1).unwrap();
    assert!(report.strays.len() > 2);
    let before: Vec<Vec<u8>> = report.strays.iter().map(|path| disk.read(path).unwrap()).collect();
    (2..=30).for_each(|seq| append(&mut store, seq, "other", &[2; 40]));
    checkpoint(&mut store, &disk);
    let after: Vec<Vec<u8>> = report.strays.iter().map(|path| disk.read(path).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn what_a_crash_left_behind_a_checkpoint_is_not_written_over() {
    let disk = new_disk(1);
    let mut store = new_store(&disk);
    append(&mut store, 1, "s", b"first");
    let body = checkpoint(&mut store, &disk);
    append(&mut store, 2, "s", b"left behind");
    let _ = store.begin_checkpoint(b"").unwrap().run();
    let files = disk.files_below(&dir());
    let block =
        files.iter().map(|(path, _)| path).find(|path| path.extension().is_some_and(|e| e == "blk")).unwrap();
    let before = disk.read(block).unwrap();
    let shared: Arc<dyn Disk> = shared(&disk);
    let (mut again, _) =
        StreamStore::open_with_layout(&shared, dir(), seed(), Some(body), SMALL, |_| -1).unwrap();
    append(&mut again, 2, "s", b"other words");
    checkpoint(&mut again, &disk);
    assert_eq!(disk.read(block).unwrap(), before);
    assert!(matches!(get(&mut again, 2, false), Got::Message { payload, .. } if payload == b"other words"));
}
