//! Blocks are verified one after the other while the store goes on.

use linnet_store::{DamagedRecord, StreamStore, Verified};

use crate::support::{SMALL, append, checkpoint, file_kind, new_disk, seed};

/// Verifies everything: intact messages, and what is damaged.
fn verify_all(store: &mut StreamStore) -> (Vec<u64>, u64, Vec<DamagedRecord>) {
    let (mut from, mut begins, mut msgs, mut damaged) = (0, Vec::new(), 0, Vec::new());
    while let Some(block) = store.pin_block(from) {
        begins.push(from);
        assert!(block.next > from);
        from = block.next;
        let mut reader = block.messages.read();
        loop {
            let step: Verified = reader.verify(1);
            assert!(step.unread.is_empty());
            msgs += step.msgs;
            damaged.extend(step.damaged);
            if step.is_done {
                break;
            }
        }
    }
    (begins, msgs, damaged)
}

#[test]
fn every_damaged_record_is_found_with_its_place_and_nothing_else() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    for seq in 1..=60 {
        append(&mut store, seq, "a", &[7; 20]);
    }
    checkpoint(&mut store, &disk);
    store.remove(3, false);
    let (begins, msgs, damaged) = verify_all(&mut store);
    assert!(begins.len() > 2, "several blocks: {begins:?}");
    assert_eq!((msgs, damaged), (59, Vec::new()));

    let files = disk.files_below(&crate::support::dir());
    let blocks: Vec<_> =
        files.into_iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "blk")).collect();
    let (file, len) = blocks[1].clone();
    disk.flip_bit(&file, (len - 1) * 8).unwrap();
    let (_, msgs, damaged) = verify_all(&mut store);
    assert_eq!((msgs, damaged.len()), (58, 1));
    let found = damaged[0].clone();
    assert_eq!(found.file, file);
    assert!(found.offset < len && len - found.offset < 100, "{found:?} of {len}");

    store.mark_damaged(found.seq);
    assert_eq!(verify_all(&mut store).2, [], "what is known is not found again");
}

#[test]
fn a_block_that_is_verified_is_not_deleted_meanwhile() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    (1..=60).for_each(|seq| append(&mut store, seq, "a", &[7; 20]));
    checkpoint(&mut store, &disk);
    let block = store.pin_block(0).unwrap();
    store.clear();
    let mut removable = Vec::new();
    for _ in 0..2 {
        let job = store.begin_checkpoint(b"").unwrap();
        removable.extend(store.finish_checkpoint(job.run()).unwrap().1);
    }
    assert!(store.release_files(removable).is_empty());
    let verified = block.messages.read().verify(u64::MAX);
    assert!(verified.is_done && verified.damaged.is_empty() && verified.msgs > 0, "{verified:?}");
    assert!(!store.release_files(Vec::new()).is_empty());
}
