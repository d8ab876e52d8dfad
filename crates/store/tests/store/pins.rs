//! Reading a store as it was while it changes.

use linnet_store::{Filter, Pinned, StreamStore};

use crate::support::{SMALL, append, checkpoint, file_kind, new_disk, seed, write_all};

fn sequences(pinned: Pinned) -> Vec<u64> {
    let mut reader = pinned.read();
    let mut found = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        assert_eq!(record.payload, [u8::try_from(record.seq).unwrap(); 20]);
        found.push(record.seq);
    }
    found
}

fn fill(store: &mut StreamStore, sequences: std::ops::RangeInclusive<u64>) {
    for seq in sequences {
        append(store, seq, "a", &[u8::try_from(seq).unwrap(); 20]);
    }
}

/// Removes everything but every third message, then appends.
fn churn(store: &mut StreamStore) {
    let mut from = 0;
    while let Some(seq) = store.next(from, &Filter::all()) {
        if seq % 3 > 0 {
            store.remove(seq, seq % 2 == 0);
        }
        from = seq + 1;
    }
    fill(store, 61..=90);
}

#[test]
fn what_was_there_is_read_whatever_happens_to_the_store() {
    let expected: Vec<u64> = (1..=60).filter(|seq| *seq != 7).collect();
    for written in [false, true] {
        for memory in [false, true] {
            let disk = new_disk(1);
            let kind = if memory { linnet_store::Kind::Memory } else { file_kind(&disk) };
            let mut store = StreamStore::new(kind, seed(), 0, -1).with_layout(SMALL);
            fill(&mut store, 1..=60);
            store.remove(7, false);
            if written {
                write_all(&mut store);
            }
            let pins: Vec<Pinned> = (0..3).map(|_| store.pin()).collect();
            churn(&mut store);
            let mut pins = pins.into_iter();
            assert_eq!(sequences(pins.next().unwrap()), expected);
            store.clear();
            assert_eq!(sequences(pins.next().unwrap()), expected);
            fill(&mut store, 91..=120);
            assert_eq!(sequences(pins.next().unwrap()), expected);
            assert_eq!(sequences(store.pin()), (91..=120).collect::<Vec<_>>());
        }
    }
}

#[test]
fn files_stay_until_nobody_reads_them() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    fill(&mut store, 1..=60);
    checkpoint(&mut store, &disk);
    let pinned = store.pin();
    churn(&mut store);
    let mut removable = Vec::new();
    for _ in 0..2 {
        let job = store.begin_checkpoint(b"").unwrap();
        let (_, files) = store.finish_checkpoint(job.run()).unwrap();
        removable.extend(files);
    }
    assert!(removable.iter().any(|path| path.extension().is_some_and(|e| e == "blk")));
    assert_eq!(store.release_files(removable.clone()), Vec::<std::path::PathBuf>::new());
    assert!(store.holds_files());
    assert_eq!(sequences(pinned), (1..=60).collect::<Vec<_>>());
    assert_eq!(store.release_files(Vec::new()), removable);
    assert!(!store.holds_files());
}

#[test]
fn damage_is_an_error_once_and_left_out_when_it_is_known() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    fill(&mut store, 1..=5);
    write_all(&mut store);
    let files = disk.files_below(&crate::support::dir());
    let (block, _) = files.iter().find(|(path, _)| path.extension().is_some_and(|e| e == "blk")).unwrap();
    disk.flip_bit(block, (16 + 60) * 8).unwrap();
    let mut reader = store.pin().read();
    assert!(reader.next_record().unwrap().is_some());
    assert_eq!(reader.next_record().unwrap_err().to_string(), "message 2 is damaged");
    store.mark_damaged(2);
    assert_eq!(sequences(store.pin()), [1, 3, 4, 5]);
}
