use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::{DamageKind, Disk, FaultyDisk};
use linnet_ids::Wall;
use linnet_store::{CheckpointBody, Filter, Layout, OpenError, OpenReport, StreamStore};

use crate::sealed::shared;
use crate::support::{Got, append, checkpoint, dir, file_kind, get, new_disk, seed};

/// A closed block with an index, and an open one.
pub(crate) struct Stored {
    pub(crate) disk: FaultyDisk,
    pub(crate) body: CheckpointBody,
    pub(crate) intact: Vec<(u64, Got)>,
}

fn layout() -> Layout {
    Layout { block_max: 230, ..Layout::default() }
}

pub(crate) fn stored() -> Stored {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(layout());
    for seq in 1..=8 {
        append(&mut store, seq * 2, &format!("s.{}", seq % 3), format!("payload {seq}").as_bytes());
    }
    store.remove(6, false);
    let body = checkpoint(&mut store, &disk);
    let intact = (1..=8).filter(|n| *n != 3).map(|n| (n * 2, get(&mut store, n * 2, false))).collect();
    Stored { disk, body, intact }
}

pub(crate) fn block(number: u64) -> PathBuf {
    dir().join(format!("{number:010}.blk"))
}

pub(crate) fn index(number: u64) -> PathBuf {
    dir().join(format!("{number:010}.idx"))
}

pub(crate) fn open(disk: &FaultyDisk, body: CheckpointBody) -> Result<(StreamStore, OpenReport), OpenError> {
    let shared: Arc<dyn Disk> = shared(disk);
    StreamStore::open_with_layout(&shared, dir(), seed(), Some(body), layout(), |_| -1)
}

/// Opens after damage and reads everything. No message may be wrong or silently missing; returns those that are
/// damaged.
pub(crate) fn read_everything(stored: &Stored, disk: &FaultyDisk) -> Vec<u64> {
    let (mut store, report) =
        open(disk, stored.body).expect("damage in a block does not keep it from opening");
    let mut damaged = Vec::new();
    for (seq, message) in &stored.intact {
        match get(&mut store, *seq, seq % 4 == 0) {
            Got::Damaged => damaged.push(*seq),
            got => assert_eq!(got, *message),
        }
    }
    assert_eq!(get(&mut store, 6, false), Got::Missing);
    for lost in &report.lost {
        assert!(damaged.contains(lost) && store.damaged().contains(lost) && store.contains(*lost));
    }
    assert_eq!(store.state().lost.0, report.lost.len() as u64);
    assert_eq!(store.state().msgs, stored.intact.len() as u64 - report.lost.len() as u64);
    assert_eq!(store.count(0, &Filter::all()), store.state().msgs);
    // What is lost is remembered by the next checkpoint, and the stream goes on.
    append(&mut store, 17, "s.1", b"next");
    let job = store.begin_checkpoint(b"").expect("a checkpoint can start");
    let (body, _) = store.finish_checkpoint(job.run()).expect("the checkpoint succeeds");
    let (mut again, second) = open(disk, body).expect("the store opens again");
    assert!(second.lost.is_empty() && second.half_state.is_none());
    assert!(report.lost.iter().all(|seq| get(&mut again, *seq, false) == Got::Damaged));
    assert!(matches!(get(&mut again, 17, false), Got::Message { .. }));
    for (seq, message) in stored.intact.iter().filter(|(seq, _)| !damaged.contains(seq)) {
        assert_eq!(get(&mut again, *seq, true), *message);
    }
    damaged
}

/// The same, and has it repaired by a replica that is undamaged.
pub(crate) fn damaged_of(stored: &Stored, disk: &FaultyDisk) -> Vec<u64> {
    crate::repair::repair_everything(stored, disk);
    read_everything(stored, disk)
}

pub(crate) fn len_of(disk: &FaultyDisk, path: &Path) -> u64 {
    disk.files_below(&dir()).into_iter().find(|(p, _)| p == path).map_or(0, |(_, len)| len)
}

#[test]
fn a_flipped_bit_costs_the_message_it_is_in_and_no_other() {
    let stored = stored();
    for (number, with_index) in [(1, true), (1, false), (2, false)] {
        for bit in 0..len_of(&stored.disk, &block(number)) * 8 {
            let disk = stored.disk.fork();
            if !with_index && number == 1 {
                disk.lose_file(&index(1)).unwrap();
            }
            disk.flip_bit(&block(number), bit).unwrap();
            let damaged = damaged_of(&stored, &disk);
            // The file's header and removed records have no message.
            assert!(damaged.len() <= 1, "bit {bit} of block {number}: {damaged:?}");
            if bit >= 16 * 8 && number == 2 {
                assert_eq!(damaged.len(), 1, "bit {bit} of block {number}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_hides_nothing_from_a_search_by_time() {
    let stored = stored();
    for bit in 0..len_of(&stored.disk, &block(1)) * 8 {
        let disk = stored.disk.fork();
        disk.flip_bit(&block(1), bit).unwrap();
        let (store, _) = open(&disk, stored.body).unwrap();
        assert_eq!(store.first_at_or_after(Wall(0)), Some(2), "bit {bit}");
        for (seq, _) in &stored.intact {
            let found = store.first_at_or_after(Wall(i64::try_from(*seq).unwrap() * 10));
            assert!(found.is_some_and(|found| found <= *seq), "bit {bit}: {found:?} instead of {seq}");
        }
    }
}

#[test]
fn a_truncated_block_keeps_what_is_in_front() {
    let stored = stored();
    for number in [1, 2] {
        let len = len_of(&stored.disk, &block(number));
        let mut most = usize::MAX;
        for cut in 0..len {
            let disk = stored.disk.fork();
            disk.truncate(&block(number), cut).unwrap();
            let (_, report) = open(&disk, stored.body).unwrap();
            let damaged = damaged_of(&stored, &disk);
            assert_eq!(report.lost, damaged);
            assert!(!damaged.is_empty() && damaged.len() <= most);
            most = damaged.len();
        }
    }
}

#[test]
pub(crate) fn a_missing_block_is_reported_message_by_message() {
    let stored = stored();
    let disk = stored.disk.fork();
    disk.lose_file(&block(1)).unwrap();
    let (store, report) = open(&disk, stored.body).unwrap();
    assert_eq!(report.ruined, [block(1)]);
    assert_eq!(store.state().first_seq, report.lost.last().unwrap() + 2);
    assert_eq!(damaged_of(&stored, &disk), report.lost);
}

#[test]
fn unreadable_zeroed_misplaced_and_stale_sectors_are_contained() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1);
    for seq in 1..=200 {
        append(&mut store, seq, "s", &[u8::try_from(seq).unwrap(); 70]);
        if seq % 50 == 0 {
            checkpoint(&mut store, &disk);
        }
    }
    let body = checkpoint(&mut store, &disk);
    let path = block(1);
    let sectors = len_of(&disk, &path).div_ceil(512);
    for sector in 0..sectors {
        for kind in 0..4 {
            let disk = disk.fork();
            match kind {
                0 => disk.make_sector_unreadable(&path, sector).unwrap(),
                1 => disk.zero_sector(&path, sector).unwrap(),
                2 => disk.misplace_sector(&path, (sector * 7 + 3) % sectors, sector).unwrap(),
                _ => disk.make_sector_stale(&path, sector).unwrap(),
            }
            let shared: Arc<dyn Disk> = shared(&disk);
            let (mut store, report) = StreamStore::open(&shared, dir(), seed(), Some(body), |_| -1).unwrap();
            // 512 bytes touch at most seven records of 103 bytes.
            assert!(report.lost.len() <= 7, "sector {sector}: {:?}", report.lost);
            for seq in 1..=200 {
                match get(&mut store, seq, true) {
                    Got::Damaged | Got::Repairing => assert!(report.lost.contains(&seq)),
                    Got::Missing => panic!("{seq} went silently"),
                    Got::Message { payload, .. } => assert_eq!(payload, [u8::try_from(seq).unwrap(); 70]),
                }
            }
        }
    }
}

#[test]
fn a_damaged_index_file_is_ignored_and_written_anew() {
    let stored = stored();
    let len = len_of(&stored.disk, &index(1));
    assert!(len > 0);
    for bit in 0..len * 8 {
        let disk = stored.disk.fork();
        disk.flip_bit(&index(1), bit).unwrap();
        assert_eq!(damaged_of(&stored, &disk), []);
        assert_eq!(len_of(&disk, &index(1)), len);
    }
    for cut in 0..len {
        let disk = stored.disk.fork();
        disk.truncate(&index(1), cut).unwrap();
        assert_eq!(damaged_of(&stored, &disk), []);
    }
}

#[test]
fn a_copy_of_a_record_inside_a_payload_is_not_taken_for_it() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1);
    append(&mut store, 1, "s", b"first");
    // A message that holds the encoded form of what could be the next one.
    let forged = crate::support::record(3, 30, "s", b"", b"forged");
    append(&mut store, 2, "s", &forged);
    append(&mut store, 3, "s", b"third");
    let body = checkpoint(&mut store, &disk);
    let second_payload = 16 + (32 + 1 + 5) + 32 + 1;
    disk.flip_bit(&block(1), (second_payload + forged.len() as u64 - 1) * 8).unwrap();
    let (mut store, report) = open(&disk, body).unwrap();
    assert_eq!(report.lost, [2]);
    assert!(matches!(get(&mut store, 3, false), Got::Message { payload, .. } if payload == b"third"));
}

#[test]
pub(crate) fn random_damage_never_yields_a_wrong_message() {
    strike_at_random(&stored());
}

/// Damage of every kind at random places of the blocks and their indexes.
pub(crate) fn strike_at_random(stored: &Stored) {
    for seed in 0..400 {
        for kind in DamageKind::ALL {
            let disk = stored.disk.fork();
            let struck = disk.damage_at_random(&dir(), kind, seed);
            if struck.is_some_and(|(path, _)| path.extension().is_some_and(|e| e == "blk" || e == "idx")) {
                damaged_of(stored, &disk);
            }
        }
    }
}
