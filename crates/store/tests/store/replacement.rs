//! One store's messages take the place of another's, whatever happens meanwhile.

use std::collections::HashSet;
use std::path::PathBuf;

use linnet_env::{Disk, Rng, SeededRng};
use linnet_store::{
    CheckpointBody, DATA_MAX, Kind, PinnedData, Replacement, ReplacementError, StreamStore, encode_record,
};

use crate::crash::seeds;
use crate::model::Outcome;
use crate::support::{SMALL, append, checkpoint, dir, file_kind, new_disk, record, seed, write_all};
use crate::world::{Step, World};

/// Copies everything in parts, from any part to the next.
fn parts(data: &PinnedData, step: u64) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut from = 0;
    while from < data.len() {
        let mut out = Vec::new();
        let damaged = data.copy(from..from + step, &mut out).unwrap();
        assert!(damaged.is_empty());
        parts.push(out);
        from += step;
    }
    parts
}

fn fill(
    replacement: &mut Replacement,
    parts: &[Vec<u8>],
    from: &StreamStore,
) -> Result<Option<CheckpointBody>, ReplacementError> {
    for part in parts {
        replacement.append(part)?;
    }
    replacement.finish(from.state(), from.damaged().clone(), (0, 0), (-1_i64).to_le_bytes().to_vec())
}

fn random_steps(world: &mut World, rng: &SeededRng, steps: u64) -> Outcome {
    (0..steps).try_for_each(|_| world.step(&Step::random(rng)))
}

fn blocks_and_states(disk: &linnet_env::FaultyDisk) -> HashSet<PathBuf> {
    disk.files_below(&dir()).into_iter().map(|(path, _)| path).collect()
}

/// A replica takes over what another one has, is interrupted, or gives it up.
fn run(number: u64) -> Outcome {
    let rng = SeededRng::new(number);
    let mut source = World::on_disk(number, SMALL);
    let mut present = World::on_disk(number + 1, SMALL);
    let disk = present.disk.clone().ok_or("no disk")?;
    for world in [&mut source, &mut present] {
        world.step(&Step::Compression(rng.below(2) == 0))?;
        random_steps(world, &rng, rng.below(300))?;
    }
    let data = source.store.pin().by_place();
    let parts = parts(&data, 1 + rng.below(900));
    drop(data);
    let before = blocks_and_states(&disk);
    let mut replacement = present
        .store
        .begin_replacement(parts.iter().map(|part| part.len() as u64).sum(), source.store.state().msgs);
    replacement.configure(-1, 0, rng.below(2) == 0);
    // The present store goes on.
    for _ in 0..rng.below(60) {
        match Step::random(&rng) {
            Step::Reopen { .. } => {}
            step => present.step(&step)?,
        }
    }
    let meanwhile = blocks_and_states(&disk);
    let is_cut = rng.below(2) == 0;
    if is_cut {
        disk.power_off_after(rng.below(30));
    }
    let outcome = fill(&mut replacement, &parts, &source.store);
    if disk.is_off() {
        disk.crash(rng.next_u64());
        return present.reopen(true);
    }
    disk.power_off_after(u64::MAX);
    let body = outcome.map_err(|e| e.to_string())?.ok_or("no body")?;
    if rng.below(4) == 0 {
        replacement.discard();
        if blocks_and_states(&disk) != meanwhile {
            return Err(format!("{before:?} and {meanwhile:?} became {:?}", blocks_and_states(&disk)));
        }
        random_steps(&mut present, &rng, 40)?;
        return present.step(&Step::Reopen { delete_strays: false });
    }
    let (store, obsolete) = replacement.take_over(&mut present.store);
    if rng.below(3) == 0 {
        // The log did not record it.
        disk.crash(rng.next_u64());
        return present.reopen(rng.below(2) == 0);
    }
    present.store = store;
    present.replaced(&source, Some(body));
    if rng.below(2) == 0 {
        for path in &obsolete {
            let _ = disk.remove_file(path);
        }
    }
    random_steps(&mut present, &rng, rng.below(60))?;
    disk.crash(rng.next_u64());
    present.reopen(rng.below(2) == 0)?;
    random_steps(&mut present, &rng, 60)?;
    present.step(&Step::Reopen { delete_strays: true })
}

#[test]
fn either_store_is_there_after_a_crash() {
    for number in seeds(3000) {
        run(number).unwrap_or_else(|e| panic!("LINNET_SEED={number}: {e}"));
    }
}

#[test]
fn with_encryption_too() {
    crate::sealed::with_encryption(|| {
        for number in seeds(300) {
            run(number).unwrap_or_else(|e| panic!("LINNET_SEED={number}: {e}"));
        }
    });
}

#[test]
fn memory_stores_take_over_memory_stores() {
    for number in seeds(300) {
        let rng = SeededRng::new(number);
        let mut source = World::in_memory(SMALL);
        random_steps(&mut source, &rng, 300).unwrap();
        let parts = parts(&source.store.pin().by_place(), 1 + rng.below(900));
        let mut present = World::in_memory(SMALL);
        random_steps(&mut present, &rng, 100).unwrap();
        let mut replacement = present.store.begin_replacement(1 << 20, 1000);
        assert_eq!(fill(&mut replacement, &parts, &source.store).unwrap(), None);
        let (store, files) = replacement.take_over(&mut present.store);
        assert!(files.is_empty());
        present.store = store;
        present.replaced(&source, None);
        present.step(&Step::Check).unwrap();
        random_steps(&mut present, &rng, 60).unwrap();
    }
}

#[test]
fn damaged_messages_are_told_and_the_others_copied() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    (1..=20).for_each(|seq| append(&mut store, seq, "a", &[7; 20]));
    write_all(&mut store);
    let files = disk.files_below(&dir());
    let block = &files[0].0;
    // Messages 2 and 5; 8 to 16 cannot be read for a sector that is gone.
    for damaged in [2, 5] {
        disk.flip_bit(block, (16 + (damaged - 1) * 53 + 40) * 8).unwrap();
    }
    disk.make_sector_unreadable(&files[1].0, 0).unwrap();
    store.mark_damaged(3);
    let data = store.pin().by_place();
    let mut out = Vec::new();
    let damaged = data.copy(0..data.len(), &mut out).unwrap();
    let mut left = Vec::new();
    let mut at = 0;
    while at < out.len() {
        let (record, len) = linnet_store::Record::decode(&out[at..], seed()).unwrap();
        left.push(record.seq);
        at += len;
    }
    assert!(damaged.iter().all(|message| message.len == 53));
    let mut lost: Vec<u64> = damaged.iter().map(|message| message.seq).collect();
    assert!([2, 3, 5].iter().all(|seq| lost.contains(seq)));
    assert!(lost.len() > 3 && left.len() > 3, "{lost:?} {left:?}");
    lost.extend(&left);
    lost.sort_unstable();
    assert_eq!(lost, (1..=20).collect::<Vec<_>>());
}

#[test]
fn only_records_of_the_stream_in_their_order_are_taken() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    let one = |seq| record(seq, 1, "a", b"", b"x");
    let refused = |parts: &[Vec<u8>], store: &mut StreamStore| {
        let mut replacement = store.begin_replacement(1 << 20, 100);
        let error = parts.iter().find_map(|part| replacement.append(part).err());
        replacement.discard();
        error.unwrap().to_string()
    };
    assert_eq!(refused(&[one(2), one(2)], &mut store), "message 2 follows message 2");
    assert_eq!(refused(&[one(2), one(1)], &mut store), "message 1 follows message 2");
    let mut bad = one(1);
    bad[33] ^= 1;
    assert_eq!(refused(&[bad], &mut store), "not a record of this stream: record checksum mismatch");
    let cut = one(1)[..20].to_vec();
    assert_eq!(refused(&[cut], &mut store), "not a record of this stream: record is cut short");
    let mut other = Vec::new();
    let seed = linnet_store::Seed::of(linnet_ids::GroupId::META);
    encode_record(&mut other, seed, 1, linnet_ids::Wall(1), b"a", 0, b"x");
    assert_eq!(refused(&[other], &mut store), "not a record of this stream: record checksum mismatch");
    // More than was announced would take names of the present store's files.
    let mut replacement = store.begin_replacement(10, 1);
    let mut seqs = 1..10_000;
    let error = seqs.find_map(|seq| replacement.append(&one(seq)).err()).unwrap();
    assert_eq!(error.to_string(), "more messages than were announced");
    append(&mut store, 1, "a", b"present");
    checkpoint(&mut store, &disk);
    let names = blocks_and_states(&disk);
    replacement.discard();
    assert!(names.len() > blocks_and_states(&disk).len());
    assert_eq!(blocks_and_states(&disk).len(), 2);
    // No announcement makes numbers run out.
    let _ = store.begin_replacement(u64::MAX, u64::MAX);
    const { assert!(DATA_MAX < u64::MAX / 16) };
}

#[test]
fn a_disk_that_fails_is_told_and_nothing_stays() {
    for (write, capacity) in [(Some(300), None), (None, Some(900))] {
        let disk = new_disk(1);
        let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
        let mut replacement = store.begin_replacement(1 << 20, 100);
        if let Some(bytes) = write {
            disk.fail_write_after(bytes);
        }
        disk.set_capacity(capacity.map(|bytes: u64| disk.used() + bytes));
        let error = (1..100).find_map(|seq| replacement.append(&record(seq, 1, "a", b"", &[1; 50])).err());
        assert!(matches!(error, Some(ReplacementError::Io(_))), "{error:?}");
        replacement.discard();
        assert!(blocks_and_states(&disk).is_empty());
    }
}

#[test]
fn a_checkpoint_of_the_store_that_was_replaced_means_nothing() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    append(&mut store, 1, "a", b"old");
    let mut replacement = store.begin_replacement(1 << 10, 1);
    let old = store.begin_checkpoint(b"").unwrap();
    replacement.append(&record(5, 1, "a", b"", b"new")).unwrap();
    let state = linnet_store::State { last_seq: 5, ..Default::default() };
    let body = replacement.finish(&state, [], (0, 0), Vec::new()).unwrap().unwrap();
    let (mut store, obsolete) = replacement.take_over(&mut store);
    append(&mut store, 6, "a", b"newer");
    let new = store.begin_checkpoint(b"").unwrap();
    let old = old.run();
    assert!(store.finish_checkpoint(old).is_none());
    assert!(store.is_checkpointing());
    let (newer, removable) = store.finish_checkpoint(new.run()).unwrap();
    assert_ne!(newer.number, body.number);
    let state_of = |number: u64| dir().join(format!("state.{number:010}"));
    assert!(removable.contains(&state_of(body.number)));
    // What the old one wrote is among what goes.
    for path in obsolete.iter().chain(&removable) {
        let _ = disk.remove_file(path);
    }
    let left = blocks_and_states(&disk);
    assert_eq!(left.len(), 2, "{left:?}");
    let kind = file_kind(&disk);
    let Kind::File { disk, dir } = kind else { panic!("a file store") };
    let (store, report) = StreamStore::open(&disk, dir, seed(), Some(newer), |_| -1).unwrap();
    assert!(report.strays.is_empty() && store.state().msgs == 2);
}
