//! Blocks that are compressed when they are closed.

use std::sync::Arc;

use linnet_env::{Disk, FaultyDisk};
use linnet_store::{CheckpointBody, Layout, Lookup, PinReadError, StreamStore};

use crate::damage::{Stored, block, damaged_of, index, len_of, open, strike_at_random};
use crate::sealed::{shared, with_encryption};
use crate::support::{Got, append, checkpoint, dir, file_kind, get, new_disk, seed};

/// Blocks of four or five messages of some 180 bytes, frames of one or two.
const LAYOUT: Layout = Layout {
    block_max: 700,
    rows_max: 100,
    extent: 400,
    squeeze_min: 60,
    read_ahead: 700,
    read_one: 90,
    cache_extents: 2,
    frame: 350,
};
/// Magic, checksum and count of the table, and its two entries.
const TABLE_END: u64 = 16 + 8 + 2 * 8;

fn new_store(disk: &FaultyDisk, layout: Layout) -> StreamStore {
    let mut store = StreamStore::new(file_kind(disk), seed(), 0, -1).with_layout(layout);
    store.set_compression(true);
    store
}

fn payload(seq: u64) -> Vec<u8> {
    format!("text {seq} ").repeat(20).into_bytes()
}

fn fill(store: &mut StreamStore, sequences: std::ops::RangeInclusive<u64>) {
    sequences.for_each(|seq| append(store, seq, "s", &payload(seq)));
}

fn assert_holds(store: &mut StreamStore, sequences: impl IntoIterator<Item = u64>) {
    for seq in sequences {
        for in_order in [true, false] {
            let got = get(store, seq, in_order);
            assert!(
                matches!(&got, Got::Message { payload: p, .. } if *p == payload(seq)),
                "message {seq}: {got:?}"
            );
        }
    }
}

fn reopen(disk: &FaultyDisk, body: CheckpointBody, layout: Layout) -> StreamStore {
    let shared: Arc<dyn Disk> = shared(disk);
    let (mut store, report) =
        StreamStore::open_with_layout(&shared, dir(), seed(), Some(body), layout, |_| -1).unwrap();
    assert_eq!((report.lost, report.ruined), (vec![], vec![]));
    store.set_compression(true);
    store
}

/// Form of every block file, in order: whether it is packed.
fn forms(disk: &FaultyDisk) -> Vec<bool> {
    let files = disk.files_below(&dir()).into_iter().map(|(path, _)| path);
    let blocks = files.filter(|path| path.extension().is_some_and(|e| e == "blk"));
    blocks.map(|path| disk.read(&path).unwrap().starts_with(b"linnet packed 1\n")).collect()
}

/// A packed block with an index, which has number 3, and an open one.
fn stored() -> Stored {
    let disk = new_disk(1);
    let mut store = new_store(&disk, LAYOUT);
    for seq in 1..=8 {
        append(&mut store, seq * 2, &format!("s.{}", seq % 3), &payload(seq));
    }
    store.remove(6, false);
    let body = checkpoint(&mut store, &disk);
    let intact = (1..=8).filter(|n| *n != 3).map(|n| (n * 2, get(&mut store, n * 2, false))).collect();
    Stored { disk, body, intact }
}

#[test]
fn closed_blocks_are_packed_and_read_like_others() {
    let disk = new_disk(1);
    let mut store = new_store(&disk, LAYOUT);
    fill(&mut store, 1..=33);
    let body = checkpoint(&mut store, &disk);
    // Only the newest block is open, and its file is older than the packed ones.
    let found = forms(&disk);
    assert!(found.len() > 6 && !found[0] && found[1..].iter().all(|packed| *packed), "{found:?}");
    let bytes = store.state().bytes;
    assert_eq!(bytes, (1..=33).map(|seq| 30 + 1 + payload(seq).len() as u64).sum::<u64>());
    let files = disk.files_below(&dir()).into_iter();
    let blocks = files.filter(|(path, _)| path.extension().is_some_and(|e| e == "blk"));
    let on_disk: u64 = blocks.map(|(_, len)| len).sum();
    assert!(on_disk < bytes / 2, "{on_disk} of {bytes}");
    assert_holds(&mut store, 1..=33);
    let mut store = reopen(&disk, body, LAYOUT);
    assert_holds(&mut store, (1..=33).rev());
    assert_eq!(store.state().bytes, bytes);
    // What is packed is left alone.
    let files = disk.files_below(&dir());
    checkpoint(&mut store, &disk);
    assert_eq!(disk.files_below(&dir()).len(), files.len());
    let mut reader = store.pin().read();
    for seq in 1..=33 {
        assert_eq!(reader.next_record().unwrap().unwrap().payload, payload(seq));
    }
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn compression_is_switched_for_new_blocks() {
    let disk = new_disk(1);
    let mut store = new_store(&disk, LAYOUT);
    store.set_compression(false);
    fill(&mut store, 1..=10);
    checkpoint(&mut store, &disk);
    store.set_compression(true);
    fill(&mut store, 11..=21);
    checkpoint(&mut store, &disk);
    // The first block was closed before, the newest is open.
    assert_eq!(forms(&disk), [false, false, true, true, true]);
    store.set_compression(false);
    fill(&mut store, 22..=31);
    checkpoint(&mut store, &disk);
    assert_eq!(forms(&disk).iter().filter(|packed| **packed).count(), 3);
    assert_holds(&mut store, 1..=31);
    // What is rewritten takes the form that is asked for now.
    for seq in [7, 12, 16] {
        store.remove(seq, true);
    }
    checkpoint(&mut store, &disk);
    let body = checkpoint(&mut store, &disk);
    assert!(!forms(&disk).contains(&true));
    assert_holds(&mut store, [1, 6, 8, 11, 13, 15, 17, 31]);
    assert_holds(&mut reopen(&disk, body, LAYOUT), [1, 6, 8, 11, 13, 15, 17, 31]);
}

#[test]
fn a_block_that_does_not_get_smaller_stays_plain() {
    let disk = new_disk(1);
    let mut store = new_store(&disk, LAYOUT);
    let mut noise = 1_u64;
    let payloads: Vec<Vec<u8>> = (0..12)
        .map(|_| {
            let step = |_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                noise.to_be_bytes()[0]
            };
            (0..120).map(step).collect()
        })
        .collect();
    payloads.iter().zip(1..).for_each(|(payload, seq)| append(&mut store, seq, "s", payload));
    checkpoint(&mut store, &disk);
    assert_eq!(forms(&disk), [false; 3]);
    // It is not tried again.
    let job = store.begin_checkpoint(b"").unwrap();
    assert_eq!(job.bytes(), 0);
    store.finish_checkpoint(job.run()).unwrap();
    // Rewritten for another reason, it stays plain as well.
    store.remove(2, true);
    checkpoint(&mut store, &disk);
    checkpoint(&mut store, &disk);
    assert_eq!(forms(&disk), [false; 3]);
    for (payload, seq) in payloads.iter().zip(1..).filter(|(_, seq)| *seq != 2) {
        assert!(matches!(get(&mut store, seq, false), Got::Message { payload: p, .. } if p == *payload));
    }
}

#[test]
fn erased_messages_leave_packed_blocks() {
    let disk = new_disk(1);
    let mut store = new_store(&disk, LAYOUT);
    fill(&mut store, 1..=10);
    checkpoint(&mut store, &disk);
    store.remove(2, true);
    fill(&mut store, 11..=11);
    checkpoint(&mut store, &disk);
    let body = checkpoint(&mut store, &disk);
    for (path, _) in disk.files_below(&dir()) {
        // A literal that snappy copies as it is.
        assert!(!disk.read(&path).unwrap().windows(7).any(|w| w == b"text 2 "), "{}", path.display());
    }
    assert_holds(&mut reopen(&disk, body, LAYOUT), [1, 3, 4, 5, 10, 11]);
}

#[test]
fn a_record_longer_than_a_frame_has_one_of_its_own() {
    let disk = new_disk(1);
    let layout = Layout { block_max: 9000, ..LAYOUT };
    let mut store = new_store(&disk, layout);
    let long = vec![b'x'; 5000];
    for seq in 1..=9 {
        append(&mut store, seq, "s", if seq % 3 == 0 { &long } else { b"short" });
    }
    let body = checkpoint(&mut store, &disk);
    assert!(forms(&disk).contains(&true));
    let mut store = reopen(&disk, body, layout);
    for seq in 1..=9 {
        let expected = if seq % 3 == 0 { &long[..] } else { b"short" };
        assert!(matches!(get(&mut store, seq, true), Got::Message { payload, .. } if payload == expected));
    }
}

#[test]
fn a_flipped_bit_costs_the_frame_it_is_in_and_no_other() {
    let stored = stored();
    for with_index in [true, false] {
        for bit in 0..len_of(&stored.disk, &block(3)) * 8 {
            let disk = stored.disk.fork();
            if !with_index {
                disk.lose_file(&index(3)).unwrap();
            }
            disk.flip_bit(&block(3), bit).unwrap();
            let damaged = damaged_of(&stored, &disk);
            if bit < TABLE_END * 8 {
                assert_eq!(damaged, [], "bit {bit}");
            } else {
                let frames: [&[u64]; 2] = [&[2, 4], &[8]];
                assert!(frames.contains(&&damaged[..]), "bit {bit}: {damaged:?}");
            }
        }
    }
}

#[test]
fn without_its_table_the_frames_of_a_block_are_found() {
    let stored = stored();
    for bit in [16, 20, 25, 40] {
        let disk = stored.disk.fork();
        disk.flip_bit(&block(3), bit * 8).unwrap();
        disk.flip_bit(&block(3), (TABLE_END + 30) * 8).unwrap();
        assert_eq!(damaged_of(&stored, &disk), [2, 4]);
    }
}

#[test]
fn a_truncated_packed_block_keeps_what_is_in_front() {
    let stored = stored();
    let mut most = usize::MAX;
    for cut in 0..len_of(&stored.disk, &block(3)) {
        let disk = stored.disk.fork();
        disk.truncate(&block(3), cut).unwrap();
        let (_, report) = open(&disk, stored.body).unwrap();
        let damaged = damaged_of(&stored, &disk);
        assert_eq!(report.lost, damaged);
        assert!(!damaged.is_empty() && damaged.len() <= most);
        most = damaged.len();
    }
}

#[test]
fn random_damage_never_yields_a_wrong_message() {
    strike_at_random(&stored());
    with_encryption(|| strike_at_random(&stored()));
}

#[test]
fn damaged_sectors_are_contained() {
    let disk = new_disk(1);
    let layout = Layout { block_max: 20_000, frame: 1000, read_ahead: 4000, ..LAYOUT };
    let mut store = new_store(&disk, layout);
    fill(&mut store, 1..=150);
    let body = checkpoint(&mut store, &disk);
    // Block 1 was packed into the file behind block 2.
    let path = block(3);
    assert!(disk.read(&path).unwrap().starts_with(b"linnet packed 1\n"));
    let sectors = len_of(&disk, &path).div_ceil(512);
    for sector in 0..sectors {
        for kind in 0..3 {
            let disk = disk.fork();
            disk.lose_file(&index(3)).unwrap();
            match kind {
                0 => disk.make_sector_unreadable(&path, sector).unwrap(),
                1 => disk.zero_sector(&path, sector).unwrap(),
                _ => disk.misplace_sector(&path, (sector * 7 + 3) % sectors, sector).unwrap(),
            }
            let shared: Arc<dyn Disk> = shared(&disk);
            let opened =
                StreamStore::open_with_layout(&shared, dir(), seed(), Some(body), layout, |_| -1).unwrap();
            let (mut store, report) = opened;
            // 512 bytes touch some frames of five or six messages.
            assert!(report.lost.len() <= 24, "sector {sector}: {:?}", report.lost);
            for seq in 1..=150 {
                match get(&mut store, seq, true) {
                    Got::Damaged | Got::Repairing => assert!(report.lost.contains(&seq)),
                    Got::Missing => panic!("{seq} went silently"),
                    Got::Message { payload: found, .. } => assert_eq!(found, payload(seq)),
                }
            }
        }
    }
}

#[test]
fn damage_behind_a_message_does_not_keep_it_from_being_read() {
    let stored = stored();
    let last = len_of(&stored.disk, &block(3)) - 1;
    stored.disk.flip_bit(&block(3), last * 8).unwrap();
    let (mut store, report) = open(&stored.disk, stored.body).unwrap();
    assert_eq!(report.lost, []);
    assert!(matches!(get(&mut store, 2, true), Got::Message { .. }));
    let mut reader = store.pin().read();
    assert_eq!(reader.next_record().unwrap().unwrap().seq, 2);
    assert_eq!(reader.next_record().unwrap().unwrap().seq, 4);
    let failed = loop {
        match reader.next_record() {
            Ok(record) => assert!(record.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(failed, PinReadError::Damaged(8)), "{failed}");
}

#[test]
fn one_look_up_unpacks_the_neighbours_in_its_frame() {
    let disk = new_disk(1);
    let mut store = new_store(&disk, LAYOUT);
    fill(&mut store, 1..=6);
    checkpoint(&mut store, &disk);
    let Lookup::Cold(job) = store.get(1, false) else { panic!("it is in the file only") };
    store.loaded(job.run()).unwrap();
    assert!(matches!(store.get(1, false), Lookup::Found(_)));
    assert!(matches!(store.get(2, false), Lookup::Found(_)));
    assert!(matches!(store.get(3, false), Lookup::Cold(_)));
}
