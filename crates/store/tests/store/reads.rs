//! Reading single messages from what the operating system has in memory.

use linnet_env::Disk;
use linnet_ids::StreamSeq;
use linnet_store::{Lookup, StreamStore};

use crate::support::{SMALL, append, checkpoint, dir, file_kind, new_disk, seed};

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
