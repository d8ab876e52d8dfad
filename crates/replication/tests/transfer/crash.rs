//! A follower that loses power while it takes a state has the old one or the new one afterwards.

use std::path::Path;
use std::sync::Arc;

use linnet_assets::{Entry, Moment, Nobody, Place, Proposal, Stream, Waiter};
use linnet_env::{Disk, FaultyDisk};
use linnet_ids::Mono;
use linnet_jsapi::policies::StorageType;
use linnet_replication::transfer::{Sink, Source};
use linnet_replication::{FLOOR_STEP, Opening, Restored, open_at_checkpoint};
use linnet_store::{Kind, encode_record};
use linnet_wal::{Batch, Config, HardState, Opened, StoreIdentity, Wal};

use crate::bench::{Bench, Dump, GROUP, START, config, dump};
use crate::replicas::{busy, dir, new_disk, pull};

/// Term and index of the state that is installed.
const INSTALLED: (u64, u64) = (3, 500);

fn open_wal(disk: &FaultyDisk) -> Option<Opened> {
    let config = Config { segment_bytes: 256 << 10, first_segment_bytes: 256 << 10, ..Config::default() };
    let identity = StoreIdentity { store_id: [1; 16] };
    Wal::open(Arc::new(disk.clone()), Path::new("/store"), config, identity).ok()
}

/// The stream as its checkpoint says, and with what the log holds behind it.
fn open_stream(disk: &FaultyDisk, opened: &Opened) -> (Stream, Restored) {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let opening = Opening {
        group: GROUP,
        recovered: opened.groups.iter().find(|g| g.group == GROUP),
        wal: &opened.wal,
        disk: &shared,
        dir: dir(),
        config: config(StorageType::File),
        created: START,
        without_checkpoint: false,
        place: Place::default(),
        floor_step: FLOOR_STEP,
        now: Mono::default(),
        wall: START,
    };
    open_at_checkpoint(&opening).unwrap()
}

fn replay(stream: &mut Stream, opened: &Opened) {
    let at = Moment { now: Mono::default(), wall: START, live: false };
    for entry in opened.wal.entries(GROUP) {
        let proposal = Proposal { bytes: entry.unwrap().payload, waiter: Waiter::default() };
        stream.apply(&proposal, at, &mut Nobody).unwrap();
    }
}

/// A stream that has a checkpoint, and more behind it in the log.
fn old_replica(disk: &FaultyDisk) -> Dump {
    let Opened { mut wal, .. } = open_wal(disk).unwrap();
    let kind = Kind::File { disk: Arc::new(disk.clone()), dir: dir() };
    let mut replica = Bench::new(kind, config(StorageType::File));
    replica.add_consumer("old", "");
    (0..12).for_each(|n| drop(replica.publish(&format!("s.old.{n}"), &[], &[n; 200])));
    let mut batch = Batch::new();
    for (index, entry) in (1..).zip(&replica.log) {
        batch.entry(GROUP, index, 1, &[entry]);
    }
    wal.commit(&mut batch).unwrap();
    let applied = replica.log.len();
    let extra = serde_json::to_vec(&replica.stream.saved()).unwrap();
    let job = replica.stream.store_mut().begin_checkpoint(&extra).unwrap();
    let (body, _) = replica.stream.store_mut().finish_checkpoint(job.run()).unwrap();
    batch.checkpoint(GROUP, applied as u64, 1, &body.to_bytes());
    batch.hard_state(GROUP, &HardState { term: 1, ..HardState::default() });
    (0..5).for_each(|n| drop(replica.publish(&format!("s.old.{n}"), &[], b"behind the checkpoint")));
    for (index, entry) in (1..).zip(&replica.log).skip(applied) {
        batch.entry(GROUP, index, 1, &[entry]);
    }
    wal.commit(&mut batch).unwrap();
    wal.seal().unwrap();
    let dump = replica.dump();
    drop((replica, wal));
    disk.kill();
    dump
}

/// Takes the state over, as far as the power lasts. True if the log said that it was recorded.
fn take_over(disk: &FaultyDisk, opened: Opened, present: &mut Stream, source: &Source) -> bool {
    let mut wal = opened.wal;
    let Ok(mut sink) = Sink::begin(present.store_mut(), &source.description()) else { return false };
    loop {
        let requests = sink.next_requests(2);
        if requests.is_empty() {
            break;
        }
        for request in requests {
            if sink.take(&source.chunk(request).unwrap().bytes).is_err() {
                return false;
            }
        }
    }
    let Ok(received) = sink.finish(START) else { return false };
    let mut batch = Batch::new();
    let (term, index) = INSTALLED;
    batch.install(GROUP, index, term, 77, &received.body());
    batch.hard_state(GROUP, &HardState { term, ..HardState::default() });
    let (mut stream, obsolete) =
        received.into_stream(present.store_mut(), START, Place::default(), Mono::default());
    if wal.commit(&mut batch).is_err() {
        return false;
    }
    for path in stream.store_mut().release_files(obsolete) {
        let _ = disk.remove_file(&path);
    }
    go_on(disk, &mut wal, &mut stream);
    true
}

/// The new replica applies another entry and makes a checkpoint of its own.
fn go_on(disk: &FaultyDisk, wal: &mut Wal, stream: &mut Stream) {
    let (term, index) = INSTALLED;
    let seq = stream.store().state().last_seq + 1;
    let mut entry = Entry::Messages(&[]).encode();
    encode_record(&mut entry, stream.store().seed(), seq, START, b"s.later", 0, b"later");
    let mut batch = Batch::new();
    batch.entry(GROUP, index + 1, term, &[&entry]);
    if wal.commit(&mut batch).is_err() {
        return;
    }
    let at = Moment { now: Mono::default(), wall: START, live: false };
    let proposal = Proposal { bytes: entry, waiter: Waiter::default() };
    stream.apply(&proposal, at, &mut Nobody).unwrap();
    let extra = serde_json::to_vec(&stream.saved()).unwrap();
    let Some(job) = stream.store_mut().begin_checkpoint(&extra) else { return };
    let Some((body, files)) = stream.store_mut().finish_checkpoint(job.run()) else { return };
    batch.checkpoint(GROUP, index + 1, term, &body.to_bytes());
    if wal.commit(&mut batch).is_ok() {
        for path in stream.store_mut().release_files(files) {
            let _ = disk.remove_file(&path);
        }
    }
}

/// Whether a dump of a new replica is one, with or without what came after.
fn is_new(found: &Dump, new: &Dump) -> bool {
    let mut messages = found.messages.clone();
    if messages.len() > new.messages.len() {
        assert_eq!(messages.pop().map(|m| m.2).as_deref(), Some("s.later"));
        return messages == new.messages;
    }
    found == new
}

#[test]
fn at_every_operation_of_the_disk_either_state_is_there_in_full() {
    let disk = new_disk(1);
    let old = old_replica(&disk);
    let mut leader = busy(Kind::File { disk: Arc::new(new_disk(2)), dir: dir() }, |_| {});
    let new = leader.dump();
    let source = Source::with_chunks_of(&mut leader.stream, 99, 3000);
    let (mut old_found, mut new_found) = (0, 0);
    let mut is_over = false;
    for operations in 0.. {
        if is_over {
            break;
        }
        for seed in 0..4 {
            let disk = disk.fork();
            let opened = open_wal(&disk).unwrap();
            let (mut present, found) = open_stream(&disk, &opened);
            assert!(found.strays.is_empty());
            replay(&mut present, &opened);
            assert_eq!(dump(&mut present), old);
            disk.power_off_after(operations);
            let is_recorded = take_over(&disk, opened, &mut present, &source);
            is_over = !disk.is_off();
            disk.crash(seed);

            let opened = open_wal(&disk).unwrap();
            assert!(opened.report.damages.is_empty());
            let (mut stream, found) = open_stream(&disk, &opened);
            let at_checkpoint = dump(&mut stream);
            replay(&mut stream, &opened);
            let after = dump(&mut stream);
            let what = format!("{operations} operations, seed {seed}");
            if after == old {
                assert!(!is_recorded, "{what}: the log had the new state");
                old_found += 1;
            } else {
                assert!(is_new(&after, &new), "{what}: {after:?}");
                assert!(is_new(&at_checkpoint, &new), "{what}");
                new_found += 1;
            }
            assert!(found.lost.is_empty() && found.ruined.is_empty(), "{what}");
            // What is left behind is found, and its going hurts nobody.
            for path in &found.strays {
                disk.remove_file(path).unwrap();
            }
            drop((stream, opened));
            disk.kill();
            let opened = open_wal(&disk).unwrap();
            let (mut stream, found) = open_stream(&disk, &opened);
            assert!(found.strays.is_empty(), "{what}: {:?}", found.strays);
            replay(&mut stream, &opened);
            assert_eq!(dump(&mut stream), after, "{what}");
        }
    }
    assert!(old_found > 40 && new_found > 20, "{old_found} old, {new_found} new");
}

#[test]
fn a_state_that_is_given_up_leaves_nothing() {
    let disk = new_disk(1);
    let old = old_replica(&disk);
    let opened = open_wal(&disk).unwrap();
    let (mut present, _) = open_stream(&disk, &opened);
    replay(&mut present, &opened);
    let mut leader = busy(Kind::File { disk: Arc::new(new_disk(2)), dir: dir() }, |_| {});
    let source = Source::with_chunks_of(&mut leader.stream, 99, 3000);
    let files = disk.files_below(&dir());
    for is_complete in [false, true] {
        let mut sink = Sink::begin(present.store_mut(), &source.description()).unwrap();
        if is_complete {
            pull(&source, &mut sink);
            sink.finish(START).unwrap().discard();
        } else {
            let requests = sink.next_requests(1);
            sink.take(&source.chunk(requests[0]).unwrap().bytes).unwrap();
            sink.discard();
        }
        assert_eq!(disk.files_below(&dir()), files);
        assert_eq!(dump(&mut present), old);
    }
}
