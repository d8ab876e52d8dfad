//! Behaviour that does not depend on where the messages are.

use linnet_ids::Wall;
use linnet_store::{Filter, StreamStore, SubjectState};

use crate::support::{Got, SMALL, append, file_kind, get, new_disk, record, seed, write_all};

/// Runs a test on an empty store of every kind: in memory, on disk without writing, on disk reading everything
/// back.
fn on_every_kind(test: impl Fn(StreamStore, &dyn Fn(&mut StreamStore))) {
    let disk = new_disk(1);
    let new = |kind| StreamStore::new(kind, seed(), 0, -1).with_layout(SMALL);
    test(new(linnet_store::Kind::Memory), &|_| {});
    test(new(file_kind(&disk)), &|_| {});
    test(new(file_kind(&new_disk(2))), &|store| {
        write_all(store);
        store.release_cache();
    });
}

fn payload_of(store: &mut StreamStore, seq: u64) -> Option<Vec<u8>> {
    match get(store, seq, false) {
        Got::Message { payload, .. } => Some(payload),
        _ => None,
    }
}

#[test]
fn an_empty_store_has_nothing() {
    on_every_kind(|mut store, settle| {
        settle(&mut store);
        assert_eq!((store.state().first_seq, store.state().last_seq), (0, 0));
        assert_eq!(get(&mut store, 1, false), Got::Missing);
        assert_eq!(store.next(0, &Filter::all()), None);
        assert_eq!(store.previous(u64::MAX, &Filter::all()), None);
        assert_eq!(store.last_of(&Filter::all()), None);
        assert_eq!(store.first_timestamp(), None);
        assert_eq!(store.remove(1, true), None);
        assert_eq!(store.clear(), 0);
    });
}

#[test]
fn messages_come_back_as_they_were_stored() {
    on_every_kind(|mut store, settle| {
        for seq in 1..=40 {
            store.append(&record(seq, 5, "a.b", if seq % 2 == 0 { b"h" } else { b"" }, &[7; 20]));
        }
        settle(&mut store);
        for seq in (1..=40).rev() {
            let Got::Message { subject, headers, payload, timestamp } = get(&mut store, seq, true) else {
                panic!("message {seq} is missing");
            };
            assert_eq!(
                (subject.as_slice(), payload.as_slice(), timestamp),
                (b"a.b".as_slice(), &[7; 20][..], 5)
            );
            assert_eq!(headers.is_empty(), seq % 2 == 1);
        }
    });
}

#[test]
fn a_message_larger_than_a_block_is_kept_whole() {
    on_every_kind(|mut store, settle| {
        append(&mut store, 1, "a", &[1; 5000]);
        append(&mut store, 2, "a", b"small");
        settle(&mut store);
        assert_eq!(payload_of(&mut store, 1).map(|p| p.len()), Some(5000));
        assert_eq!(payload_of(&mut store, 2).as_deref(), Some(b"small".as_slice()));
    });
}

#[test]
fn removing_moves_the_bounds() {
    on_every_kind(|mut store, settle| {
        (1..=9).for_each(|seq| append(&mut store, seq, "a", b"x"));
        settle(&mut store);
        assert_eq!(store.remove(5, false).map(|r| r.seq), Some(5));
        assert_eq!(store.remove(5, false), None);
        assert_eq!((store.state().first_seq, store.state().msgs), (1, 8));
        (1..=4).for_each(|seq| assert!(store.remove(seq, false).is_some()));
        assert_eq!(store.state().first_seq, 6);
        assert_eq!(store.remove(9, false).map(|r| r.seq), Some(9));
        assert_eq!(store.state().last_seq, 9);
        assert_eq!(store.last_of(&Filter::all()), Some(8));
        (6..=8).for_each(|seq| assert!(store.remove(seq, false).is_some()));
        assert_eq!((store.state().first_seq, store.state().msgs, store.state().bytes), (10, 0, 0));
        append(&mut store, 10, "a", b"x");
        assert_eq!(store.state().first_seq, 10);
    });
}

#[test]
fn skipped_sequences_are_never_used() {
    on_every_kind(|mut store, settle| {
        store.skip_to(7);
        assert_eq!((store.state().first_seq, store.state().last_seq), (8, 7));
        append(&mut store, 8, "a", b"x");
        append(&mut store, 1 << 50, "a", b"far");
        store.skip_to(5);
        store.skip_to((1 << 50) + 5);
        settle(&mut store);
        assert_eq!(store.state().last_seq, (1 << 50) + 5);
        assert_eq!(store.next(9, &Filter::all()), Some(1 << 50));
        assert_eq!(store.previous(1 << 50, &Filter::all()), Some(8));
        assert_eq!(payload_of(&mut store, 1 << 50).as_deref(), Some(b"far".as_slice()));
    });
}

#[test]
fn subjects_know_their_first_and_last_message() {
    on_every_kind(|mut store, settle| {
        for (seq, subject) in [(1, "a"), (2, "b"), (3, "a"), (4, "a"), (5, "b")] {
            append(&mut store, seq, subject, b"x");
        }
        settle(&mut store);
        store.remove(1, false);
        assert_eq!(store.first_of(b"a"), Some(3));
        assert_eq!(store.subject(b"a"), Some(SubjectState { first: 3, last: 4, msgs: 2 }));
        store.remove(4, false);
        assert_eq!(store.subject(b"a"), Some(SubjectState { first: 3, last: 3, msgs: 1 }));
        store.remove(3, false);
        assert_eq!((store.subject(b"a"), store.subject_count()), (None, 1));
    });
}

#[test]
fn a_limit_per_subject_can_change() {
    on_every_kind(|mut store, settle| {
        (1..=30).for_each(|seq| append(&mut store, seq, if seq % 2 == 0 { "a" } else { "b" }, b"x"));
        settle(&mut store);
        for max in [5, -1, 1, 64, 65] {
            store.set_max_per_subject(max);
            assert_eq!(store.subject(b"a"), Some(SubjectState { first: 2, last: 30, msgs: 15 }));
        }
        store.set_max_per_subject(5);
        store.remove(2, false);
        assert_eq!(store.subject(b"a").map(|s| s.first), Some(4));
    });
}

#[test]
fn a_start_time_finds_the_first_message_from_then_on() {
    on_every_kind(|mut store, settle| {
        (1..=30).for_each(|seq| append(&mut store, seq * 3, "a", b"x"));
        settle(&mut store);
        store.remove(30, false);
        assert_eq!(store.first_timestamp(), Some(Wall(30)));
        assert_eq!(store.first_at_or_after(Wall(i64::MIN)), Some(3));
        assert_eq!(store.first_at_or_after(Wall(271)), Some(33));
        assert_eq!(store.first_at_or_after(Wall(330)), Some(33));
        assert_eq!(store.first_at_or_after(Wall(901)), None);
    });
}

#[test]
fn a_short_lived_message_never_reaches_a_block() {
    let disk = new_disk(1);
    let mut store = StreamStore::new(file_kind(&disk), seed(), 0, -1).with_layout(SMALL);
    for seq in 1..=5000 {
        append(&mut store, seq, "work", &[0; 50]);
        store.remove(seq, false);
        assert!(store.take_writes(false).is_empty());
        assert!(store.unwritten() < 1000);
    }
    assert!(store.begin_checkpoint(b"").is_some_and(|job| job.run().error().is_none()));
    assert_eq!(disk.files_below(&crate::support::dir()).len(), 1);
}
