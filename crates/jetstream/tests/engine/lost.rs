//! Streams that cannot be recovered: known, never silently empty.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::{Disk, FaultyDisk};
use linnet_jetstream::Engine;

use super::{broker, request, settings, start};

const GROUPS: &str = "/store/jetstream/groups";
const OFFLINE: &str = r#""err_code":10118"#;

/// Files of all groups, the catalogue's or those of streams.
fn files(disk: &FaultyDisk, of_catalogue: bool, prefix: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for group in disk.list(Path::new(GROUPS)).expect("the disk works") {
        let dir = Path::new(GROUPS).join(&group.name);
        if group.name.trim_matches('0').is_empty() == of_catalogue {
            let names = disk.list(&dir).expect("the disk works").into_iter().map(|e| e.name);
            found.extend(names.filter(|n| n.starts_with(prefix) && n.ends_with(suffix)).map(|n| dir.join(n)));
        }
    }
    assert!(!found.is_empty(), "no {prefix}*{suffix}");
    found
}

fn flip(disk: &FaultyDisk, path: &Path, at: impl Fn(&[u8]) -> usize) {
    let mut bytes = disk.read(path).expect("the disk works");
    let at = at(&bytes);
    bytes[at] ^= 1;
    disk.replace(path, &bytes).expect("the disk works");
}

/// Two streams, each with a message, in a store that was closed in order.
async fn two_streams(disk: &FaultyDisk) {
    let broker = broker();
    let engine = start(&broker, disk).await;
    for (name, subject) in [("A", "a.*"), ("B", "b.*")] {
        let config = format!(r#"{{"name":"{name}","subjects":["{subject}"]}}"#);
        request(&broker, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
    }
    assert_eq!(request(&broker, "a.x", "one").await, r#"{"stream":"A","seq":1}"#);
    assert_eq!(request(&broker, "b.x", "one").await, r#"{"stream":"B","seq":1}"#);
    assert!(engine.stop().await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_its_state_file_is_offline_until_it_is_deleted() {
    let disk = FaultyDisk::new(1);
    two_streams(&disk).await;
    for path in files(&disk, false, "state.", "") {
        // Its state stands in it twice.
        flip(&disk, &path, |_| 0);
        flip(&disk, &path, |bytes| {
            bytes.windows(12).rposition(|w| w == b"linnet state").expect("the second copy")
        });
    }
    let create = r#"{"name":"A","subjects":["a.*"]}"#;
    for round in 0..2 {
        let broker = broker();
        let engine = start(&broker, &disk).await;
        assert_eq!(engine.health().not_recovered().len(), 2, "round {round}");
        let names = request(&broker, "$JS.API.STREAM.NAMES", "").await;
        assert!(names.contains(r#""streams":["A","B"]"#), "{names}");
        let list = request(&broker, "$JS.API.STREAM.LIST", "").await;
        assert!(list.contains(r#""missing":["A","B"]"#) && list.contains(r#""offline":{"A":"#), "{list}");
        for (subject, body) in [
            ("$JS.API.STREAM.INFO.A", ""),
            ("$JS.API.STREAM.CREATE.A", create),
            ("$JS.API.STREAM.CREATE.A", r#"{"name":"A","subjects":["other"]}"#),
            ("$JS.API.STREAM.UPDATE.A", create),
            ("$JS.API.STREAM.PURGE.A", ""),
            ("$JS.API.STREAM.MSG.GET.A", r#"{"seq":1}"#),
            ("$JS.API.CONSUMER.NAMES.A", ""),
            ("$JS.API.CONSUMER.INFO.A.C", ""),
            ("a.x", "refused"),
        ] {
            let answer = request(&broker, subject, body).await;
            assert!(answer.contains(OFFLINE), "{subject}: {answer}");
        }
        let overlap = request(&broker, "$JS.API.STREAM.CREATE.C", r#"{"name":"C","subjects":["a.>"]}"#).await;
        assert!(overlap.contains(r#""err_code":10065"#), "{overlap}");
        assert!(engine.stop().await.clean);
    }

    let broker = broker();
    let engine = start(&broker, &disk).await;
    let deleted = request(&broker, "$JS.API.STREAM.DELETE.A", "").await;
    assert!(deleted.contains(r#""success":true"#), "{deleted}");
    assert_eq!(engine.health().not_recovered().len(), 1);
    let aside = disk.list(Path::new("/store/jetstream/quarantine")).expect("the disk works");
    let kept = aside.iter().find(|e| e.is_dir).expect("its directory is kept");
    let kept = disk.list(&Path::new("/store/jetstream/quarantine").join(&kept.name)).expect("the disk works");
    assert!(kept.iter().any(|e| e.name.ends_with(".blk")), "{kept:?}");
    let created = request(&broker, "$JS.API.STREAM.CREATE.A", create).await;
    assert!(created.contains(r#""did_create":true"#), "{created}");
    assert_eq!(request(&broker, "a.x", "new").await, r#"{"stream":"A","seq":1}"#);
    assert!(engine.stop().await.clean);
    drop(engine);

    let engine = start(&broker, &disk).await;
    let lost: Vec<String> = engine.health().not_recovered().into_iter().map(|(_, name, _)| name).collect();
    assert_eq!(lost, ["B"]);
    assert_eq!(request(&broker, "a.x", "new").await, r#"{"stream":"A","seq":2}"#);
    assert!(engine.stop().await.clean);
}

/// Flips a bit in the newest entry of `A`.
fn flip_entry(disk: &FaultyDisk, block: &Path) {
    flip(disk, block, |bytes| bytes.windows(10).rposition(|w| w == br#""name":"A""#).expect("an entry of A"));
}

fn cut(disk: &FaultyDisk, block: &Path) {
    let bytes = disk.read(block).expect("the disk works");
    disk.replace(block, &bytes[..20]).expect("the disk works");
}

fn remove(disk: &FaultyDisk, file: &Path) {
    disk.remove_file(file).expect("the disk works");
}

/// Both streams are there with their message, now and after one more restart.
async fn both_go_on(disk: &FaultyDisk) {
    for round in 2..4 {
        let broker = broker();
        let engine = start(&broker, disk).await;
        assert_eq!((engine.health().not_recovered(), engine.health().unnamed()), (Vec::new(), Vec::new()));
        for (name, subject) in [("A", "a.x"), ("B", "b.x")] {
            let got = request(&broker, &format!("$JS.API.STREAM.MSG.GET.{name}"), r#"{"seq":1}"#).await;
            assert!(got.contains(r#""message""#), "round {round}, {name}: {got}");
            let ack = request(&broker, subject, "more").await;
            assert_eq!(ack, format!(r#"{{"stream":"{name}","seq":{round}}}"#));
        }
        assert!(engine.stop().await.clean);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_catalogue_gets_its_entries_back_from_the_streams() {
    for damage in [flip_entry, cut, remove] {
        let disk = FaultyDisk::new(2);
        two_streams(&disk).await;
        for block in files(&disk, true, "", ".blk") {
            damage(&disk, &block);
        }
        both_go_on(&disk).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_without_its_state_file_is_made_anew_from_the_streams() {
    for damage in [cut, remove] {
        let disk = FaultyDisk::new(3);
        two_streams(&disk).await;
        for state in files(&disk, true, "state.", "") {
            damage(&disk, &state);
        }
        both_go_on(&disk).await;
        // Entries made since are found again, too.
        let broker = broker();
        let engine = start(&broker, &disk).await;
        request(&broker, "$JS.API.STREAM.DELETE.A", "").await;
        assert!(engine.stop().await.clean);
        drop(engine);
        let engine = start(&broker, &disk).await;
        let names = request(&broker, "$JS.API.STREAM.NAMES", "").await;
        assert!(names.contains(r#""streams":["B"]"#), "{names}");
        assert!(engine.stop().await.clean);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_nothing_names_is_reported_until_its_directory_is_removed() {
    let disk = FaultyDisk::new(4);
    two_streams(&disk).await;
    for block in files(&disk, true, "", ".blk") {
        remove(&disk, &block);
    }
    for state in files(&disk, false, "state.", "") {
        cut(&disk, &state);
    }
    for _ in 0..3 {
        let broker = broker();
        let engine = start(&broker, &disk).await;
        assert_eq!(engine.health().unnamed().len(), 2);
        // New entries in the catalogue do not hide that it lost others.
        request(&broker, "$JS.API.STREAM.CREATE.N", r#"{"name":"N","subjects":["n"]}"#).await;
        request(&broker, "$JS.API.STREAM.DELETE.N", "").await;
        request(&broker, "$JS.API.STREAM.CREATE.K", r#"{"name":"K","subjects":["k"]}"#).await;
        assert!(engine.stop().await.clean);
    }
    for (group, _) in unnamed(&disk).await {
        let dir = Path::new(GROUPS).join(group);
        assert!(disk.list(&dir).expect("the disk works").iter().any(|e| e.name.ends_with(".blk")));
        disk.remove_dir_all(&dir).expect("the disk works");
    }
    assert_eq!(unnamed(&disk).await, []);
    assert_eq!(unnamed(&disk).await, []);
}

/// Groups of unknown streams that an opening finds.
async fn unnamed(disk: &FaultyDisk) -> Vec<(String, String)> {
    let engine = start(&broker(), disk).await;
    let found = engine.health().unnamed();
    assert!(engine.stop().await.clean);
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_made_anew_has_what_the_log_holds_behind_its_checkpoint() {
    let disk = FaultyDisk::new(5);
    two_streams(&disk).await;
    let engine = start(&broker(), &disk).await;
    assert!(engine.stop().await.clean);
    drop(engine);
    let broker = broker();
    let engine = start(&broker, &disk).await;
    request(&broker, "$JS.API.STREAM.DELETE.A", "").await;
    request(&broker, "$JS.API.STREAM.CREATE.C", r#"{"name":"C","subjects":["c"]}"#).await;
    request(&broker, "$JS.API.STREAM.CREATE.M", r#"{"name":"M","subjects":["m"],"storage":"memory"}"#).await;
    let mut after = disk.fork();
    after.crash(1);
    engine.stop().await;
    drop(engine);
    for state in files(&after, true, "state.", "") {
        cut(&after, &state);
    }
    for _ in 0..2 {
        let engine = start(&broker, &after).await;
        let names = request(&broker, "$JS.API.STREAM.NAMES", "").await;
        assert!(names.contains(r#""streams":["B","C","M"]"#), "{names}");
        let next = after.fork();
        next.crash(1);
        engine.stop().await;
        after = next;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_its_log_is_refused_and_stays_as_it_is() {
    let disk = FaultyDisk::new(6);
    two_streams(&disk).await;
    let log = Path::new("/store/jetstream/wal");
    disk.remove_dir_all(log).expect("the disk works");
    for _ in 0..2 {
        let refused = Engine::start(settings(), broker(), Arc::new(disk.clone()), "n").await;
        let said = refused.err().expect("it is refused").to_string();
        assert!(said.contains("holds no write-ahead log"), "{said}");
        assert!(!disk.exists(log).expect("the disk works"));
    }
}

/// Overwrites a part of the log's first segment.
fn shred(disk: &FaultyDisk, from: usize, to: usize) {
    let path = Path::new("/store/jetstream/wal/0000000001.wal");
    let mut bytes = disk.read(path).expect("the disk works");
    for (n, byte) in bytes[from..to].iter_mut().enumerate() {
        *byte ^= n as u8 | 1;
    }
    disk.replace(path, &bytes).expect("the disk works");
}

/// Bytes of the log's first segment that are in use.
fn used(disk: &FaultyDisk) -> usize {
    let bytes = disk.read(Path::new("/store/jetstream/wal/0000000001.wal")).expect("the disk works");
    bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_has_lost_is_told() {
    let mut disk = FaultyDisk::new(6);
    let running = broker();
    let engine = start(&running, &disk).await;
    let create = |name: &str, subject: &str| {
        let config = format!(r#"{{"name":"{name}","subjects":["{subject}"]}}"#);
        (format!("$JS.API.STREAM.CREATE.{name}"), config)
    };
    let (subject, config) = create("A", "a");
    request(&running, &subject, &config).await;
    request(&running, "a", "one").await;
    let from = used(&disk);
    let (subject, config) = create("B", "b");
    request(&running, &subject, &config).await;
    request(&running, "a", "two").await;
    assert_eq!(request(&running, "b", "promised").await, r#"{"stream":"B","seq":1}"#);
    let to = used(&disk);
    request(&running, "a", "three").await;
    // The disk as a power loss leaves it; the engine that ran on it goes down with its own handles.
    let next = disk.fork();
    next.crash(1);
    engine.stop().await;
    disk = next;
    shred(&disk, from.next_multiple_of(512), to / 512 * 512);

    let broker = broker();
    let engine = start(&broker, &disk).await;
    let names = request(&broker, "$JS.API.STREAM.NAMES", "").await;
    assert!(names.contains(r#""streams":["A"]"#), "{names}");
    let note = engine.may_lack_streams().expect("nothing is left of B");
    assert!(engine.stop().await.clean);
    drop(engine);
    let engine = start(&broker, &disk).await;
    assert!(engine.may_lack_streams().is_some(), "until the note is removed");
    disk.remove_file(&note).expect("the disk works");
    assert_eq!(engine.may_lack_streams(), None);
    assert!(engine.stop().await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_a_log_has_lost_are_told() {
    let disk = FaultyDisk::new(7);
    let running = broker();
    let engine = start(&running, &disk).await;
    request(&running, "$JS.API.STREAM.CREATE.A", r#"{"name":"A","subjects":["a"]}"#).await;
    request(&running, "a", "one").await;
    let from = used(&disk);
    request(&running, "a", "two").await;
    let to = used(&disk);
    request(&running, "a", "three").await;
    let next = disk.fork();
    next.crash(1);
    engine.stop().await;
    shred(&next, from.next_multiple_of(512), to / 512 * 512);

    let broker = broker();
    let engine = start(&broker, &next).await;
    let losses = engine.health().losses();
    let of_stream = losses.get(&("$G".to_owned(), "A".to_owned())).expect("its log has a gap");
    assert!(of_stream.iter().any(|text| text.contains("lost")), "{of_stream:?}");
    assert!(engine.stop().await.clean);
}
