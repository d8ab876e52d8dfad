//! After the transfer nothing tells the follower from the leader.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use linnet_assets::{Command, Place, Purge};
use linnet_env::{Disk, FaultyDisk, SeededRng};
use linnet_ids::{Mono, Wall};
use linnet_jsapi::policies::{Compression, RetentionPolicy, StorageType};
use linnet_jsapi::{StreamConfig, StreamSource};
use linnet_replication::transfer::{ChunkRequest, Part, Received, Sink, Source, WINDOW};
use linnet_seal::{Cipher, KeyRing, MasterKey, SealedDisk};
use linnet_store::{Kind, Seed, StreamStore};

use crate::bench::{Bench, GROUP, START, config};

pub(crate) fn dir() -> PathBuf {
    PathBuf::from("/store/group")
}

pub(crate) fn new_disk(seed: u64) -> FaultyDisk {
    let disk = FaultyDisk::new(seed);
    disk.create_dir_all(&dir()).unwrap();
    disk
}

pub(crate) fn file_kind(disk: &FaultyDisk) -> Kind {
    Kind::File { disk: Arc::new(disk.clone()), dir: dir() }
}

fn sealed_kind(disk: &FaultyDisk, key: &str) -> Kind {
    let ring = KeyRing::new(Cipher::ChaCha, Arc::new(MasterKey::new(key)), []);
    let disk = SealedDisk::new(Arc::new(disk.clone()), Arc::new(ring), Arc::new(SeededRng::new(1)));
    Kind::File { disk: Arc::new(disk), dir: dir() }
}

/// Moves everything, with a few chunks on their way at once.
pub(crate) fn pull(source: &Source, sink: &mut Sink) {
    loop {
        let requests = sink.next_requests(WINDOW);
        if requests.is_empty() {
            break;
        }
        assert!(requests.len() <= WINDOW);
        for request in requests {
            sink.take(&source.chunk(request).unwrap().bytes).unwrap();
        }
    }
    assert!(sink.is_complete());
    let progress = sink.progress();
    assert!(progress.is_complete && progress.done == progress.places);
}

pub(crate) fn receive(leader: &mut Bench, present: &mut StreamStore, chunk_bytes: u32) -> Received {
    let source = Source::with_chunks_of(&mut leader.stream, 99, chunk_bytes);
    let mut sink = Sink::begin(present, &source.description()).unwrap();
    pull(&source, &mut sink);
    sink.finish(leader.at.wall).unwrap()
}

pub(crate) fn follower_of(leader: &mut Bench, present: &mut StreamStore, chunk_bytes: u32) -> Bench {
    let received = receive(leader, present, chunk_bytes);
    assert_eq!(received.body().is_empty(), present.is_memory());
    let (stream, _) = received.into_stream(present, START, Place::default(), Mono::default());
    let mut follower = Bench::over(stream);
    follower.at = leader.at;
    follower
}

/// A bit of everything that a stream can have.
pub(crate) fn busy(kind: Kind, with: impl FnOnce(&mut StreamConfig)) -> Bench {
    let storage = match kind {
        Kind::Memory => StorageType::Memory,
        Kind::File { .. } => StorageType::File,
    };
    let mut config = StreamConfig { allow_msg_schedules: true, ..config(storage) };
    with(&mut config);
    let mut leader = Bench::new(kind, config);
    leader.add_consumer("all", "");
    leader.add_consumer("some", "s.b.*");
    for n in 0..60 {
        let subject = format!("s.{}.{n}", ["a", "b", "c"][n % 3]);
        let id = format!("Nats-Msg-Id: id{n}");
        match n % 5 {
            0 => leader.publish(&subject, &[&id], &[1; 300]),
            1 => leader.publish(&subject, &["Nats-TTL: 1h"], b"ttl"),
            2 => leader.publish(&subject, &["Nats-TTL: never", &id], b""),
            _ => leader.publish(&subject, &[], &vec![7; n * 20]),
        };
    }
    leader.pull("all", 20);
    leader.pull("some", 7);
    (0..8).for_each(|delivery| leader.acknowledge(delivery, b"+ACK"));
    leader.acknowledge(9, b"-NAK");
    leader.acknowledge(10, b"+TERM");
    leader.acknowledge(22, b"+ACK");
    for seq in [2, 9, 10, 11, 30] {
        leader.command(Command::DeleteMessage { seq, erase: seq == 10 });
    }
    leader.command(Command::Purge(Purge { filter: "s.c.*".to_owned(), below: 25, keep: 0 }));
    leader.command(Command::Purge(Purge { filter: String::new(), below: 5, keep: 0 }));
    leader.publish("s.r", &[], b"old");
    leader.publish("s.r", &["Nats-Rollup: sub"], b"rolled up");
    // A schedule: a message that is due later.
    let schedule = ["Nats-Schedule: @at 2030-01-01T00:00:00Z", "Nats-Schedule-Target: s.t"];
    let answer = leader.publish("s.schedule", &schedule, b"later");
    assert!(!answer.contains("error"), "{answer}");
    leader
}

/// The follower is like the leader, stays so, and could lead.
pub(crate) fn assert_alike(leader: &mut Bench, follower: &mut Bench) {
    assert_eq!(follower.dump(), leader.dump());
    let at = leader.log.len();
    leader.publish("s.more", &["Nats-Msg-Id: more"], &[3; 50]);
    let last = leader.stream.store().state().last_seq;
    leader.command(Command::DeleteMessage { seq: last, erase: false });
    leader.publish("s.a.99", &["Nats-Rollup: sub"], b"");
    let more = leader.log[at..].to_vec();
    follower.follow(&more);
    assert_eq!(follower.dump(), leader.dump());
    follower.stream.finish_replay(follower.at.now, follower.at.wall);
    for id in ["id45", "id50", "id52", "id55", "id57"] {
        let line = format!("Nats-Msg-Id: {id}");
        let known = |bench: &mut Bench| bench.publish("s.dup", &[&line], b"");
        assert_eq!(known(follower), known(leader), "{id}");
    }
    follower.at = leader.at;
    let next = |bench: &mut Bench| bench.publish("s.next", &[], b"next");
    assert_eq!(next(follower), next(leader));
    for consumer in ["all", "some"] {
        let pull = |bench: &mut Bench| bench.pull(consumer, 100);
        assert_eq!(pull(follower), pull(leader), "{consumer}");
    }
    assert_eq!(follower.dump(), leader.dump());
}

#[test]
fn a_follower_that_was_wiped_becomes_like_the_leader() {
    for chunk_bytes in [1, 100, 5_000, 1 << 20] {
        let mut leader = busy(Kind::Memory, |_| {});
        let mut present = StreamStore::new(Kind::Memory, Seed::of(GROUP), 0, -1);
        let mut follower = follower_of(&mut leader, &mut present, chunk_bytes);
        assert_alike(&mut leader, &mut follower);

        let (disk, other) = (new_disk(1), new_disk(2));
        let mut leader = busy(file_kind(&disk), |_| {});
        let mut present = StreamStore::new(file_kind(&other), Seed::of(GROUP), 0, -1);
        let mut follower = follower_of(&mut leader, &mut present, chunk_bytes);
        assert_alike(&mut leader, &mut follower);
    }
}

#[test]
fn known_ids_are_duplicates_and_others_are_not() {
    let mut leader = busy(Kind::Memory, |_| {});
    let mut present = StreamStore::new(Kind::Memory, Seed::of(GROUP), 0, -1);
    let mut follower = follower_of(&mut leader, &mut present, 1000);
    let answer = follower.publish("s.dup", &["Nats-Msg-Id: id57"], b"");
    assert!(answer.contains("\"duplicate\": true"), "{answer}");
    let answer = follower.publish("s.dup", &["Nats-Msg-Id: new"], b"");
    assert!(!answer.contains("duplicate"), "{answer}");
    // As after a restart, the ids of messages that are gone are forgotten.
    let answer = follower.publish("s.dup", &["Nats-Msg-Id: id0"], b"");
    assert!(!answer.contains("duplicate"), "{answer}");
}

#[test]
fn what_is_in_files_packed_and_encrypted_goes_over() {
    for (compression, storage_key) in
        [(Compression::S2, None), (Compression::S2, Some("a")), (Compression::None, Some("b"))]
    {
        let (disk, other) = (new_disk(1), new_disk(2));
        let kind = |disk: &FaultyDisk, key: &str| match storage_key {
            None => file_kind(disk),
            Some(name) => sealed_kind(disk, &format!("{name}{key}")),
        };
        let mut leader = busy(kind(&disk, "leader"), |config| {
            config.compression = compression;
            config.max_bytes = 100 << 20;
        });
        // Several blocks, written, packed, and the newest one in memory.
        for n in 0..300 {
            leader.publish(&format!("s.bulk.{n}"), &[], &vec![b'x'; 60_000]);
            if n == 250 {
                for _ in 0..2 {
                    let job = leader.stream.store_mut().begin_checkpoint(b"").unwrap();
                    leader.stream.store_mut().finish_checkpoint(job.run()).unwrap();
                }
            }
        }
        let mut present = StreamStore::new(kind(&other, "follower"), Seed::of(GROUP), 0, -1);
        let mut follower = follower_of(&mut leader, &mut present, 1 << 20);
        assert_alike(&mut leader, &mut follower);
        let blocks = |disk: &FaultyDisk| {
            let files = disk.files_below(&dir());
            files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "blk")).count()
        };
        assert!(blocks(&other) > 1);
    }
}

#[test]
fn streams_without_messages_go_over() {
    let makers: [fn(&mut Bench); 4] = [
        |_| {},
        |leader| leader.stream.start_term(Some(70)),
        |leader| {
            leader.publish("s.a", &[], b"");
            leader.command(Command::Purge(Purge::default()));
        },
        |leader| {
            leader.publish("s.a", &[], b"");
            leader.stream.start_term(Some(9));
        },
    ];
    for (n, make) in makers.into_iter().enumerate() {
        for first_seq in [0, 40] {
            let (disk, other) = (new_disk(1), new_disk(2));
            let mut leader =
                Bench::new(file_kind(&disk), StreamConfig { first_seq, ..config(StorageType::File) });
            make(&mut leader);
            leader.settle();
            let mut present = StreamStore::new(file_kind(&other), Seed::of(GROUP), 0, -1);
            let mut follower = follower_of(&mut leader, &mut present, 64);
            assert_eq!(follower.dump(), leader.dump(), "{n} {first_seq}");
            assert_eq!(follower.publish("s.b", &[], b""), leader.publish("s.b", &[], b""), "{n} {first_seq}");
        }
    }
}

#[test]
fn counters_limits_sources_and_interest_go_over() {
    let configs: [fn(&mut StreamConfig); 4] = [
        |config| {
            config.max_msgs = 20;
            config.max_msgs_per_subject = 1;
        },
        |config| config.retention = RetentionPolicy::WorkQueue,
        |config| {
            config.retention = RetentionPolicy::Interest;
            config.allow_msg_schedules = false;
        },
        |config| {
            config.allow_msg_schedules = false;
            config.sources = vec![StreamSource { name: "O".to_owned(), ..StreamSource::default() }];
        },
    ];
    for with in configs {
        let mut config = config(StorageType::Memory);
        with(&mut config);
        let mut leader = Bench::new(Kind::Memory, config);
        if leader.stream.config().retention != RetentionPolicy::WorkQueue {
            leader.add_consumer("all", "");
        }
        leader.add_consumer("some", "s.b.*");
        for n in 0..40 {
            let subject = format!("s.b.{}", n % 7);
            if leader.stream.config().sources.is_empty() {
                leader.publish(&subject, &[], &[1; 30]);
            } else {
                leader.take_over(&subject, &format!("Nats-Stream-Source: O {} > > s.x", n + 100));
            }
        }
        let taken = leader.stream.saved().taken;
        assert_eq!(taken.is_empty(), leader.stream.config().sources.is_empty());
        assert_eq!(leader.pull("some", 7), 7, "{:?}", leader.stream.config());
        leader.acknowledge(0, b"+ACK");
        leader.acknowledge(1, b"+ACK");
        let mut present = StreamStore::new(Kind::Memory, Seed::of(GROUP), 0, -1);
        let mut follower = follower_of(&mut leader, &mut present, 300);
        assert_eq!(follower.dump(), leader.dump());
        let at = leader.log.len();
        leader.pull("some", 3);
        (2..7).for_each(|delivery| leader.acknowledge(delivery, b"+ACK"));
        (0..9).for_each(|n| drop(leader.publish(&format!("s.b.{n}"), &[], b"more")));
        follower.follow(&leader.log[at..]);
        assert_eq!(follower.dump(), leader.dump());
    }
    let mut config = config(StorageType::Memory);
    config.allow_msg_counter = true;
    let mut leader = Bench::new(Kind::Memory, config);
    (0..5).for_each(|_| drop(leader.publish("s.n", &["Nats-Incr: 7"], b"")));
    let mut present = StreamStore::new(Kind::Memory, Seed::of(GROUP), 0, -1);
    let mut follower = follower_of(&mut leader, &mut present, 300);
    let count = |bench: &mut Bench| bench.publish("s.n", &["Nats-Incr: -1"], b"");
    let answer = count(&mut follower);
    assert!(answer.contains("\"val\":\"34\""), "{answer}");
    assert_eq!(answer, count(&mut leader));
}

/// The only block of a disk.
fn block_of(disk: &FaultyDisk) -> PathBuf {
    let mut files = disk.files_below(&dir()).into_iter().map(|(path, _)| path);
    files.find(|path| path.extension().is_some_and(|e| e == "blk")).unwrap()
}

#[test]
fn damage_is_told_and_never_made_up() {
    let (disk, other) = (new_disk(1), new_disk(2));
    let mut leader = Bench::new(file_kind(&disk), config(StorageType::File));
    (0..9).for_each(|_| drop(leader.publish("s.a", &[], &[5; 100])));
    for job in leader.stream.store_mut().take_writes(true) {
        let done = job.run();
        leader.stream.store_mut().written(done);
    }
    leader.stream.release();
    // Message 4 is known to be damaged; 6 is, but nobody knows; 2 was lost earlier.
    leader.stream.store_mut().remove(2, false);
    leader.stream.store_mut().mark_damaged(2);
    leader.stream.store_mut().mark_damaged(4);
    disk.flip_bit(&block_of(&disk), (16 + 5 * 135 + 60) * 8).unwrap();
    let source = Source::with_chunks_of(&mut leader.stream, 99, 300);
    let mut present = StreamStore::new(file_kind(&other), Seed::of(GROUP), 0, -1);
    let mut sink = Sink::begin(&mut present, &source.description()).unwrap();
    let mut found = Vec::new();
    while let [request, ..] = sink.next_requests(1)[..] {
        let chunk = source.chunk(request).unwrap();
        found.extend(chunk.damaged.clone());
        sink.take(&chunk.bytes).unwrap();
    }
    assert_eq!(found, [6], "what the leader's stream is to be told of");
    let received = sink.finish(START).unwrap();
    let (stream, _) = received.into_stream(&mut present, START, Place::default(), Mono::default());
    let mut follower = Bench::over(stream);
    let (there, here) = (leader.dump(), follower.dump());
    assert_eq!(here.damaged, [2, 4, 6]);
    assert_eq!(here.messages, there.messages);
    assert_eq!(here.messages.iter().map(|m| m.0).collect::<Vec<_>>(), [1, 3, 5, 7, 8, 9]);
    let state = *follower.stream.store().state();
    assert_eq!((state.msgs, state.last_seq, state.lost.0), (6, 9, 2));
    assert_eq!(follower.stream.store().damaged(), leader.stream.store().damaged());
}

#[test]
fn the_source_stays_as_it_was_while_the_leader_goes_on() {
    let disk = new_disk(1);
    let mut leader = busy(file_kind(&disk), |_| {});
    let expected = leader.dump();
    let source = Source::with_chunks_of(&mut leader.stream, 99, 2000);
    let mut present =
        StreamStore::new(Kind::File { disk: Arc::new(new_disk(2)), dir: dir() }, Seed::of(GROUP), 0, -1);
    let mut sink = Sink::begin(&mut present, &source.description()).unwrap();
    let mut released = Vec::new();
    while let [request, ..] = sink.next_requests(1)[..] {
        leader.publish("s.more", &[], &[1; 400]);
        let first = leader.stream.store().state().first_seq;
        leader.command(Command::DeleteMessage { seq: first, erase: true });
        let store = leader.stream.store_mut();
        let job = store.begin_checkpoint(b"").unwrap();
        let (_, files) = store.finish_checkpoint(job.run()).unwrap();
        let files = store.release_files(files);
        files.iter().for_each(|path| disk.remove_file(path).unwrap());
        released.extend(files);
        sink.take(&source.chunk(request).unwrap().bytes).unwrap();
    }
    assert!(released.is_empty());
    let received = sink.finish(START).unwrap();
    let (mut stream, _) = received.into_stream(&mut present, START, Place::default(), Mono::default());
    assert_eq!(crate::bench::dump(&mut stream), expected);
    drop(source);
    assert!(!leader.stream.store_mut().release_files(Vec::new()).is_empty(), "nothing is held any more");
}

#[test]
fn a_memory_state_does_not_go_into_files() {
    let mut leader = busy(Kind::Memory, |_| {});
    let source = Source::new(&mut leader.stream, 1);
    let disk = new_disk(1);
    let mut present = StreamStore::new(file_kind(&disk), Seed::of(GROUP), 0, -1);
    let error = Sink::begin(&mut present, &source.description()).unwrap_err();
    assert_eq!(error.to_string(), "the state is of a stream with another storage type");
}

#[test]
fn a_replica_can_take_a_state_and_serve_one() {
    // From the first to the second to the third, whose disk fails in between.
    let (disk, other) = (new_disk(1), new_disk(2));
    let mut first = busy(file_kind(&disk), |_| {});
    let mut present = StreamStore::new(file_kind(&other), Seed::of(GROUP), 0, -1);
    let mut second = follower_of(&mut first, &mut present, 700);
    let mut present = second.stream;
    // Its own place is taken by a state of the third, which is that of the first.
    let mut third_present =
        StreamStore::new(Kind::File { disk: Arc::new(new_disk(3)), dir: dir() }, Seed::of(GROUP), 0, -1);
    second = Bench::over(std::mem::replace(
        &mut present,
        Bench::new(Kind::Memory, config(StorageType::Memory)).stream,
    ));
    let mut third = follower_of(&mut second, &mut third_present, 900);
    third.at = first.at;
    let mut again = follower_of(&mut third, second.stream.store_mut(), 1100);
    again.at = first.at;
    assert_alike(&mut first, &mut again);
}

#[test]
fn a_full_disk_ends_the_transfer_and_leaves_the_replica_alone() {
    let (disk, other) = (new_disk(1), new_disk(2));
    let mut leader = busy(file_kind(&disk), |_| {});
    let mut present = busy(file_kind(&other), |_| {});
    let job = present.stream.store_mut().begin_checkpoint(b"").unwrap();
    let (body, _) = present.stream.store_mut().finish_checkpoint(job.run()).unwrap();
    let before = other.files_below(&dir());
    let expected = present.dump();
    other.set_capacity(Some(other.used() + 3000));
    let source = Source::with_chunks_of(&mut leader.stream, 99, 1000);
    let mut sink = Sink::begin(present.stream.store_mut(), &source.description()).unwrap();
    pull(&source, &mut sink);
    let error = sink.finish(Wall(0)).unwrap_err();
    assert!(error.disk_failure().is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull), "{error}");
    assert!(error.is_final());
    assert_eq!(other.files_below(Path::new("/store/group")), before);
    assert_eq!(present.dump(), expected);
    let shared: Arc<dyn Disk> = Arc::new(other);
    let (_, report) = StreamStore::open(&shared, dir(), Seed::of(GROUP), Some(body), |_| -1).unwrap();
    assert!(report.strays.is_empty());
}

pub(crate) fn chunk_of(source: &Source, part: Part) -> Bytes {
    source.chunk(ChunkRequest { transfer: source.transfer(), part }).unwrap().bytes
}
