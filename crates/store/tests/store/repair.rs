use linnet_env::FaultyDisk;
use linnet_store::{Damage, Filter, Lookup, PinReadError, RepairDone, State, StreamStore};

use crate::damage::{Stored, block, len_of, open, stored};
use crate::support::{Got, append, checkpoint, get};

/// What an undamaged replica has of the damaged messages.
fn fetched(healthy: &mut StreamStore, damage: &[Damage]) -> Vec<bytes::Bytes> {
    let pinned = healthy.pin();
    let record = |d: &Damage| pinned.record(d.seq).unwrap().expect("what is damaged here is there");
    damage.iter().map(record).collect()
}

fn mend(store: &mut StreamStore, records: Vec<bytes::Bytes>, may_revive: bool) -> Vec<u64> {
    let mut repaired = Vec::new();
    for job in store.begin_repair(records) {
        repaired.extend(store.finish_repair(job.run(), may_revive).unwrap().unwrap());
    }
    repaired
}

fn assert_same(store: &mut StreamStore, stored: &Stored) {
    let (mut healthy, _) = open(&stored.disk, stored.body).unwrap();
    // Bytes of removed messages may have been lost.
    let state = State { lost: (store.state().lost.0, 0), ..*store.state() };
    assert_eq!(state, *healthy.state());
    assert_eq!(store.count(0, &Filter::all()), healthy.count(0, &Filter::all()));
    for subject in ["s.0", "s.1", "s.2"] {
        let (found, wanted) = (store.subject(subject.as_bytes()), healthy.subject(subject.as_bytes()));
        assert_eq!(found.map(|s| (s.last, s.msgs)), wanted.map(|s| (s.last, s.msgs)), "{subject}");
        let filter = Filter::new([subject.as_bytes()]);
        for from in 0..18 {
            assert_eq!(store.next(from, &filter), healthy.next(from, &filter));
        }
    }
    for seq in 0..18 {
        assert_eq!(get(store, seq, true), get(&mut healthy, seq, true), "message {seq}");
    }
    assert_eq!(store.first_timestamp(), healthy.first_timestamp());
}

/// Opens after damage, and has everything repaired from an undamaged replica: it is as that one, also after a restart.
pub(crate) fn repair_everything(stored: &Stored, disk: &FaultyDisk) {
    let disk = disk.fork();
    let (mut store, _) = open(&disk, stored.body).unwrap();
    store.set_repairable(true);
    for (seq, _) in &stored.intact {
        if let Got::Repairing = get(&mut store, *seq, true) {
            store.mark_damaged(*seq);
        }
    }
    let damage = store.damage(100);
    assert_eq!(store.take_new_damage(), !damage.is_empty());
    let (mut healthy, _) = open(&stored.disk, stored.body).unwrap();
    let records = fetched(&mut healthy, &damage);
    let repaired = mend(&mut store, records, true);
    assert_eq!(repaired, damage.iter().map(|d| d.seq).collect::<Vec<_>>());
    assert!(store.damaged().is_empty());
    assert_same(&mut store, stored);
    let body = checkpoint(&mut store, &disk);
    let (mut again, report) = open(&disk, body).unwrap();
    assert!(report.lost.is_empty());
    assert_same(&mut again, stored);
    append(&mut again, 17, "s.1", b"next");
    assert!(matches!(get(&mut again, 17, false), Got::Message { .. }));
}

/// One message of each block is damaged: the first one's is known by its index, the second one's is lost.
fn damaged() -> (Stored, FaultyDisk, StreamStore) {
    let stored = stored();
    let disk = stored.disk.fork();
    disk.flip_bit(&block(1), (len_of(&disk, &block(1)) - 3) * 8).unwrap();
    disk.flip_bit(&block(2), (len_of(&disk, &block(2)) - 3) * 8).unwrap();
    let (mut store, _) = open(&disk, stored.body).unwrap();
    store.set_repairable(true);
    for (seq, _) in &stored.intact {
        if get(&mut store, *seq, true) == Got::Repairing {
            store.mark_damaged(*seq);
        }
    }
    (stored, disk, store)
}

#[test]
fn what_nobody_has_is_damaged_in_the_end() {
    let (_, _, mut store) = damaged();
    let damage = store.damage(10);
    assert_eq!(damage.iter().map(|d| d.is_alive).collect::<Vec<_>>(), [true, false]);
    store.give_up_on(damage.iter().map(|d| d.seq));
    for Damage { seq, .. } in damage {
        assert!(matches!(store.get(seq, false), Lookup::Damaged));
    }
    store.set_repairable(false);
    assert!(matches!(store.get(16, false), Lookup::Damaged));
}

#[test]
fn what_is_lost_comes_back_only_if_nothing_can_have_removed_it() {
    let (stored, _, mut store) = damaged();
    let damage = store.damage(10);
    let (mut healthy, _) = open(&stored.disk, stored.body).unwrap();
    let records = fetched(&mut healthy, &damage);
    assert_eq!(mend(&mut store, records.clone(), false), [damage[0].seq]);
    assert_eq!(store.damage(10), damage[1..]);
    assert_eq!(mend(&mut store, records, true), [damage[1].seq]);
    assert_same(&mut store, &stored);
}

#[test]
fn what_was_removed_meanwhile_does_not_come_back() {
    let (stored, disk, mut store) = damaged();
    let damage = store.damage(10);
    let (mut healthy, _) = open(&stored.disk, stored.body).unwrap();
    let records = fetched(&mut healthy, &damage);
    let done: Vec<RepairDone> = store.begin_repair(records).into_iter().map(|job| job.run()).collect();
    assert!(store.remove(damage[0].seq, true).is_some());
    assert!(store.forget_lost(damage[1].seq));
    let msgs = store.state().msgs;
    for done in done {
        assert!(store.finish_repair(done, true).unwrap().unwrap().is_empty());
    }
    assert_eq!(store.state().msgs, msgs);
    let body = checkpoint(&mut store, &disk);
    let (mut again, _) = open(&disk, body).unwrap();
    for Damage { seq, .. } in damage {
        assert_eq!(get(&mut again, seq, false), Got::Missing);
    }
}

#[test]
fn a_repair_waits_for_the_checkpoint_under_way() {
    let (stored, disk, mut store) = damaged();
    let (mut healthy, _) = open(&stored.disk, stored.body).unwrap();
    let records = fetched(&mut healthy, &store.damage(10));
    let mut done: Vec<RepairDone> = store.begin_repair(records).into_iter().map(|job| job.run()).collect();
    append(&mut store, 17, "s.0", b"meanwhile");
    let checkpoint_job = store.begin_checkpoint(b"").unwrap();
    let back =
        store.finish_repair(done.pop().unwrap(), true).expect_err("the checkpoint knows the old block");
    store.finish_checkpoint(checkpoint_job.run()).unwrap();
    store.finish_repair(back, true).unwrap().unwrap();
    store.finish_repair(done.pop().unwrap(), true).unwrap().unwrap();
    let body = checkpoint(&mut store, &disk);
    let (mut again, report) = open(&disk, body).unwrap();
    assert!(report.lost.is_empty() && again.damaged().is_empty());
    for (seq, message) in &stored.intact {
        assert_eq!(get(&mut again, *seq, true), *message);
    }
}

#[test]
fn half_a_repair_keeps_the_other_damage_in_its_place() {
    let stored = stored();
    let disk = stored.disk.fork();
    disk.make_sector_unreadable(&block(1), 0).unwrap();
    let (mut store, _) = open(&disk, stored.body).unwrap();
    store.set_repairable(true);
    for (seq, _) in &stored.intact {
        if get(&mut store, *seq, false) == Got::Repairing {
            store.mark_damaged(*seq);
        }
    }
    let damage = store.damage(10);
    assert!(damage.len() > 1);
    let (mut healthy, _) = open(&stored.disk, stored.body).unwrap();
    let records = fetched(&mut healthy, &damage);
    assert_eq!(mend(&mut store, records[1..].to_vec(), true).len(), damage.len() - 1);
    assert_eq!(get(&mut store, damage[0].seq, false), Got::Repairing);
    assert_eq!(store.damage(10), damage[..1]);
    let body = checkpoint(&mut store, &disk);
    let (mut again, _) = open(&disk, body).unwrap();
    again.set_repairable(true);
    again.mark_damaged(damage[0].seq);
    mend(&mut again, records[..1].to_vec(), true);
    assert_same(&mut again, &stored);
}

#[test]
fn damage_that_a_repair_meets_is_told() {
    let stored = stored();
    let disk = stored.disk.fork();
    for at in [30, 80] {
        disk.flip_bit(&block(1), at * 8).unwrap();
    }
    let (mut store, _) = open(&disk, stored.body).unwrap();
    store.set_repairable(true);
    assert_eq!(get(&mut store, 2, false), Got::Repairing);
    store.mark_damaged(2);
    let damage = store.damage(10);
    assert_eq!(damage.len(), 1);
    let (mut healthy, _) = open(&stored.disk, stored.body).unwrap();
    let records = fetched(&mut healthy, &damage);
    assert_eq!(mend(&mut store, records, true), [2]);
    let more = store.damage(10);
    assert_eq!(more.len(), 1);
    assert_eq!(get(&mut store, more[0].seq, false), Got::Repairing);
    assert!(store.take_new_damage());
    let records = fetched(&mut healthy, &more);
    mend(&mut store, records, true);
    assert_same(&mut store, &stored);
}

#[test]
fn a_damaged_record_is_not_given_to_others() {
    let (_, _, mut store) = damaged();
    let damage = store.damage(10);
    let pinned = store.pin();
    for Damage { seq, .. } in damage {
        assert!(matches!(pinned.record(seq), Err(PinReadError::Damaged(at)) if at == seq));
    }
    assert!(pinned.record(3).unwrap().is_none());
    assert!(pinned.record(99).unwrap().is_none());
    let found = pinned.record(2).unwrap().expect("it is intact");
    assert_eq!(linnet_store::Record::view(&found).unwrap().0.seq, 2);
}

#[test]
fn records_of_others_are_not_taken() {
    let (_, _, mut store) = damaged();
    let seq = store.damage(1)[0].seq;
    let mut foreign = Vec::new();
    let other = linnet_store::Seed::of(linnet_ids::GroupId::from_bytes([9; linnet_ids::GroupId::LEN]));
    linnet_store::encode_record(&mut foreign, other, seq, linnet_ids::Wall(1), b"s.0", 0, b"x");
    assert!(store.begin_repair(vec![foreign.into(), bytes::Bytes::from_static(b"nonsense")]).is_empty());
}
