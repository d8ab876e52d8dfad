use linnet_env::FaultyDisk;
use linnet_wal::{Batch, Config, Error, HardState, Integrity, Refusal};

use crate::model::{
    Model, apply_all, batch_of, contents, difference, group, live_contents, open, open_with, random_ops,
    small,
};

#[test]
fn what_is_committed_is_there_after_reopening() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    let mut batch = Batch::new();
    let state = HardState { term: 3, vote: Some([9; 16]), incarnation: 77, membership: b"voters".to_vec() };
    batch.hard_state(group(1), &state);
    batch.entry(group(1), 1, 3, &[b"hel", b"lo"]);
    batch.entry(group(2), 1, 1, &[]);
    batch.entry(group(1), 2, 3, &[&[7; 5000]]);
    wal.commit(&mut batch).unwrap();
    assert!(batch.is_empty() && wal.needs_seal());
    batch.checkpoint(group(1), 1, 3, b"files");
    wal.commit(&mut batch).unwrap();
    wal.seal().unwrap();
    assert!(!wal.needs_seal());
    drop(wal);

    let opened = open(&disk).unwrap();
    let first = &opened.groups[0];
    assert_eq!((first.group, first.first, first.last), (group(1), Some(2), 2));
    assert_eq!(first.hard_state.as_ref(), Some(&state));
    assert_eq!(first.checkpoint.unwrap().applied, 1);
    assert_eq!(first.integrity, Integrity::Intact);
    assert_eq!(opened.wal.checkpoint_body(group(1)).unwrap().unwrap(), b"files");
    assert_eq!(opened.wal.read(group(1), 1).unwrap(), None);
    assert_eq!(opened.wal.read(group(1), 2).unwrap().unwrap().payload, [7; 5000]);
    assert_eq!(opened.wal.read(group(2), 1).unwrap().unwrap().payload, []);
    assert_eq!(opened.wal.term(group(1), 1), Some(3));
    assert!(opened.report.damages.is_empty() && opened.report.torn_tail.is_none());
}

#[test]
fn a_smaller_index_replaces_the_suffix() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    let mut batch = Batch::new();
    for index in 1..=5 {
        batch.entry(group(1), index, 1, &[b"old"]);
    }
    wal.commit(&mut batch).unwrap();
    batch.entry(group(1), 3, 2, &[b"new"]);
    batch.entry(group(1), 4, 2, &[b"new"]);
    batch.entry(group(1), 4, 3, &[b"newer"]);
    wal.commit(&mut batch).unwrap();
    let expected: [(u64, u64, &[u8]); 4] = [(1, 1, b"old"), (2, 1, b"old"), (3, 2, b"new"), (4, 3, b"newer")];
    for round in 0..2 {
        if round == 1 {
            wal = open(&disk).unwrap().wal;
        }
        let read: Vec<_> = wal.entries(group(1)).map(|e| e.unwrap()).collect();
        assert_eq!(read.len(), 4);
        for (entry, (index, term, payload)) in read.iter().zip(expected) {
            assert_eq!((entry.index, entry.term, entry.payload.as_slice()), (index, term, payload));
        }
    }
}

#[test]
fn contradicting_batches_are_refused_and_change_nothing() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    let mut batch = Batch::new();
    for index in 1..=4 {
        batch.entry(group(1), index, 1, &[b"x"]);
    }
    batch.checkpoint(group(1), 2, 1, b"");
    wal.commit(&mut batch).unwrap();
    let before = wal.last_lsn();
    let mut refusal = |fill: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::new();
        fill(&mut batch);
        match wal.commit(&mut batch) {
            Err(Error::Refused { refusal, .. }) => refusal,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal(&|b| b.entry(group(1), 6, 1, &[])), Refusal::Gap { index: 6, last: 4 });
    assert_eq!(refusal(&|b| b.entry(group(2), 2, 1, &[])), Refusal::Gap { index: 2, last: 0 });
    assert_eq!(refusal(&|b| b.entry(group(1), 2, 1, &[])), Refusal::BelowApplied { index: 2, applied: 2 });
    assert_eq!(refusal(&|b| b.checkpoint(group(1), 5, 1, b"")), Refusal::UnknownPosition { applied: 5 });
    assert_eq!(refusal(&|b| b.checkpoint(group(1), 3, 2, b"")), Refusal::UnknownPosition { applied: 3 });
    assert_eq!(
        refusal(&|b| b.checkpoint(group(1), 1, 1, b"")),
        Refusal::OlderCheckpoint { applied: 1, newest: 2 }
    );
    let long = HardState { membership: vec![0; 65 << 10], ..HardState::default() };
    assert_eq!(refusal(&|b| b.hard_state(group(1), &long)), Refusal::LongMembership { bytes: 65 << 10 });
    assert_eq!(wal.last_lsn(), before);
    batch.entry(group(1), 5, 1, &[&[1; 65 << 10]]);
    assert!(matches!(wal.commit(&mut batch), Err(Error::TooLarge { .. })));
    batch.clear();
    batch.entry(group(1), 5, 1, &[b"fits"]);
    wal.commit(&mut batch).unwrap();
}

#[test]
fn random_batches_survive_clean_reopening() {
    for seed in 0..100 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let disk = FaultyDisk::new(seed);
        let mut model = Model::new();
        let mut opened = open(&disk).unwrap();
        for _ in 0..rng.usize(1..60) {
            let ops = random_ops(&mut rng, &model, 4, 9000);
            match opened.wal.commit(&mut batch_of(&ops)) {
                Ok(_) => apply_all(&ops, &mut model),
                Err(Error::Full { .. } | Error::TooLarge { .. }) => break,
                Err(e) => panic!("seed {seed}: {e}"),
            }
            live_contents(&opened.wal, &model).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        }
        opened = open(&disk).unwrap();
        let found = contents(&opened).unwrap_or_else(|e| panic!("seed {seed}: {e} {:?}", opened.report));
        assert_eq!(difference(&found, &model), None, "seed {seed}");
        assert!(opened.report.damages.is_empty());
    }
}

#[test]
fn a_config_out_of_bounds_is_refused() {
    let disk = FaultyDisk::new(1);
    for config in [
        Config { segment_bytes: 4096, ..small() },
        Config { segment_bytes: (64 << 10) + 512, ..small() },
        Config { max_bytes: 128 << 10, ..small() },
    ] {
        assert!(matches!(open_with(&disk, config), Err(Error::Config)));
    }
}

#[test]
fn another_store_cannot_read_the_segments() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    let mut batch = Batch::new();
    batch.entry(group(1), 1, 1, &[b"x"]);
    wal.commit(&mut batch).unwrap();
    let stranger = linnet_wal::StoreIdentity { store_id: [1; 16] };
    let opened = linnet_wal::Wal::open(
        std::sync::Arc::new(disk),
        std::path::Path::new(crate::model::STORE),
        small(),
        stranger,
    );
    assert!(matches!(opened, Err(Error::Unreadable { .. })), "{:?}", opened.err());
}

#[test]
fn a_log_of_zeros_is_not_taken_for_a_new_one() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    let spare = wal.prepare_next().unwrap().run().unwrap();
    wal.install(spare);
    drop(wal);
    for (path, len) in disk.files_below(&std::path::Path::new(crate::model::STORE).join("wal")) {
        let file = linnet_env::Disk::open(&disk, &path, linnet_env::OpenMode::ReadWrite).unwrap();
        file.write_all_at(&vec![0; usize::try_from(len).unwrap()], 0).unwrap();
    }
    let opened = open(&disk);
    assert!(matches!(opened, Err(Error::Unreadable { .. })), "{:?}", opened.err());
}

#[test]
fn the_format_does_not_change_unnoticed() {
    let disk = FaultyDisk::new(1);
    let mut wal = open(&disk).unwrap().wal;
    let mut batch = Batch::new();
    let state = HardState { term: 3, vote: Some([9; 16]), incarnation: 77, membership: b"voters".to_vec() };
    batch.hard_state(group(1), &state);
    batch.entry(group(1), 1, 3, &[b"hello"]);
    batch.entry(group(1), 2, 3, &[&[7; 700]]);
    batch.checkpoint(group(1), 1, 3, b"files");
    batch.end_group(group(2));
    wal.commit(&mut batch).unwrap();
    wal.seal().unwrap();
    drop(wal);
    open(&disk).unwrap();
    let sums: Vec<u32> = crate::model::segments(&disk).iter().map(|bytes| crc32fast::hash(bytes)).collect();
    // A change here means that stores of released versions need a migration, and a new `FORMAT_VERSION`.
    assert_eq!(sums, [1_348_972_612, 3_586_010_949]);
}

#[test]
fn the_log_and_its_jobs_can_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<linnet_wal::Wal>();
    is_send::<Batch>();
    is_send::<linnet_wal::EntryLocation>();
    is_send::<linnet_wal::PrepareSegment>();
    is_send::<Error>();
}
