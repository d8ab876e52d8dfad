//! Reading single messages from what the operating system has in memory.

use linnet_env::Disk;
use linnet_ids::StreamSeq;
use linnet_store::{Lookup, StreamStore};

use crate::support::{Got, SMALL, append, checkpoint, dir, file_kind, get, new_disk, record, seed};

/// Payload of a message, and whether a job was needed for it.
fn read(store: &mut StreamStore, seq: StreamSeq) -> (Vec<u8>, bool) {
    if let Lookup::Found(record) = store.get_one(seq) {
        return (record.payload.to_vec(), false);
    }
    let Lookup::Cold(job) = store.get(seq, false) else { panic!("message {seq} is not there") };
    store.loaded(job.run()).unwrap();
    let Lookup::Found(record) = store.get(seq, false) else { panic!("message {seq} was not loaded") };
    (record.payload.to_vec(), true)
}

#[test]
fn what_is_at_hand_needs_no_job() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    (1..=100).for_each(|seq| append(&mut store, seq, "s", &[u8::try_from(seq).unwrap(); 30]));
    checkpoint(&mut store, &disk);
    store.release_cache();
    let mut jobs = 0;
    for round in 0..100 {
        let seq = 1 + round * 37 % 100;
        let (payload, needed_job) = read(&mut store, seq);
        assert_eq!(payload, [u8::try_from(seq).unwrap(); 30]);
        jobs += usize::from(needed_job);
    }
    // The disk has every other read at hand, and only of files that are open.
    assert!(jobs < 75, "{jobs} jobs");
}

#[test]
fn files_that_are_kept_open_go_with_the_cache_and_the_block() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    (1..=6).for_each(|seq| append(&mut store, seq, "s", &[1; 30]));
    checkpoint(&mut store, &disk);
    let is_at_hand = |store: &mut StreamStore| (0..2).any(|_| matches!(store.get_one(3), Lookup::Found(_)));
    assert!(!is_at_hand(&mut store), "nobody has opened the file");
    let _ = read(&mut store, 1);
    assert!(is_at_hand(&mut store));
    store.release_cache();
    assert!(!is_at_hand(&mut store));
    let _ = read(&mut store, 1);
    store.clear();
    assert!(matches!(store.get_one(3), Lookup::Missing));
    checkpoint(&mut store, &disk);
    assert!(disk.list(&dir()).unwrap().iter().all(|entry| !entry.name.ends_with(".blk")));
}

#[test]
fn walking_shows_the_messages_with_headers_that_can_be_read() {
    for written in [false, true] {
        let disk = new_disk(1);
        let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
        for seq in 1..=60 {
            let headers: &[u8] = if seq % 3 == 0 { b"h" } else { b"" };
            store.append(&record(seq, 5, "s", headers, &[7; 30]));
        }
        for seq in [9, 10, 11, 12] {
            store.remove(seq, false);
        }
        let mut expected: Vec<StreamSeq> =
            (6..=60).filter(|seq| seq % 3 == 0 && ![9, 12].contains(seq)).collect();
        if written {
            checkpoint(&mut store, &disk);
            disk.make_sector_unreadable(&dir().join("0000000002.blk"), 1).unwrap();
        }
        let mut seen = Vec::new();
        store.walk_headers(5, |record| {
            assert_eq!((record.headers, record.payload), (b"h".as_slice(), [7; 30].as_slice()));
            seen.push(record.seq);
        });
        if written {
            let unreadable: Vec<StreamSeq> =
                expected.iter().copied().filter(|seq| get(&mut store, *seq, false) == Got::Damaged).collect();
            assert!(!unreadable.is_empty());
            expected.retain(|seq| !unreadable.contains(seq));
        }
        assert_eq!(seen, expected);
    }
}
