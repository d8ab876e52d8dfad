//! An engine over a disk that fails: what it promised holds, what it could not keep it did not promise.

mod lost;

use std::sync::Arc;
use std::time::Duration;

use linnet_auth::Authenticator;
use linnet_broker::{Account, AccountLimits, Broker, Config, Delivery, Message, ServerIdentity, Sink};
use linnet_env::{FaultyDisk, OsRng, RealClock};
use linnet_jetstream::{Engine, LogConfig, StartError};
use linnet_jsapi::info::AccountLimits as JsLimits;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(10);

struct Collect(mpsc::Sender<Vec<u8>>);

impl Sink for Collect {
    fn deliver(&self, delivery: &Delivery<'_>) {
        let _ = self.0.try_send(delivery.payload().to_vec());
    }
}

fn broker() -> Broker {
    let identity = ServerIdentity {
        id: "N".into(),
        xkey: "X".into(),
        name: "n".into(),
        version: "2.15.1".into(),
        git_commit: String::new(),
        go: "rust".into(),
    };
    Broker::new(
        identity,
        Config::default(),
        Authenticator::open("$G"),
        [Account::new("$G", false, AccountLimits::default())],
        Arc::new(RealClock::new()),
        Arc::new(OsRng),
        tokio::runtime::Handle::current(),
    )
}

fn settings() -> linnet_jetstream::Config {
    linnet_jetstream::Config {
        store_dir: "/store".into(),
        max_memory: 1 << 30,
        max_storage: 1 << 30,
        cluster: None,
        domain: String::new(),
        sync_interval: None,
        encryption: None,
        strict: true,
        max_buffered_msgs: 1000,
        max_buffered_bytes: 1 << 20,
        request_queue_limit: 100,
        max_ack_pending: 0,
        max_request_batch: 0,
        batches: linnet_jetstream::BatchBounds::default(),
        default_max_consumers: 0,
        max_duplicate_window: 0,
        log: LogConfig::default(),
        scrub: linnet_jetstream::ScrubConfig::default(),
        accounts: vec![("$G".into(), JsLimits::default())],
    }
}

/// Asks and waits for the answer.
async fn request(broker: &Broker, subject: &str, body: &str) -> String {
    let account = broker.account("$G").expect("the global account");
    let (sender, mut answers) = mpsc::channel(4);
    let _inbox = account.subscribe(b"inbox", None, Arc::new(Collect(sender)));
    let message = Message {
        subject: subject.as_bytes(),
        shown_subject: b"",
        reply: b"inbox",
        header_len: 0,
        body: body.as_bytes(),
    };
    broker.publisher().publish(&account, &message);
    let answer = tokio::time::timeout(PATIENCE, answers.recv()).await.expect("an answer in time");
    String::from_utf8(answer.expect("the inbox is open")).expect("answers are text")
}

async fn start(broker: &Broker, disk: &FaultyDisk) -> Arc<Engine> {
    start_with(settings(), broker, disk).await
}

async fn start_with(settings: linnet_jetstream::Config, broker: &Broker, disk: &FaultyDisk) -> Arc<Engine> {
    let started = tokio::time::timeout(PATIENCE, async {
        loop {
            match Engine::start(settings.clone(), broker.clone(), Arc::new(disk.clone()), "n").await {
                // A task of the engine before may hold the store a moment longer.
                Err(StartError::Locked(_)) => tokio::task::yield_now().await,
                outcome => return outcome,
            }
        }
    });
    started.await.expect("the store is let go").expect("the engine starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_sync_acknowledges_nothing_and_reopening_keeps_what_was_acknowledged() {
    let disk = FaultyDisk::new(1);
    let broker = broker();
    let engine = start(&broker, &disk).await;
    request(&broker, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"]}"#).await;
    for n in 1..=3 {
        let ack = request(&broker, "s.a", &format!("kept {n}")).await;
        assert_eq!(ack, format!(r#"{{"stream":"S","seq":{n}}}"#));
    }

    let mut kept = 3;
    let refused = loop {
        // It strikes once, which may be at a segment that is made ahead.
        disk.fail_sync_after(0);
        let answer = request(&broker, "s.a", "not promised").await;
        if answer.contains("\"error\"") {
            break answer;
        }
        kept += 1;
        assert_eq!(answer, format!(r#"{{"stream":"S","seq":{kept}}}"#));
        assert!(kept < 100, "a sync of the log fails at last");
    };
    assert!(refused.contains("\"err_code\":10077"), "{refused}");
    assert!(!refused.contains('/'), "no paths of the server: {refused}");
    tokio::time::timeout(PATIENCE, engine.health().wait_for_log_failure())
        .await
        .expect("the failure is known");
    let refused = request(&broker, "s.a", "nor is this").await;
    assert!(refused.contains("\"error\""), "{refused}");

    assert!(!engine.stop().await.clean);
    drop(engine);
    let engine = start(&broker, &disk).await;
    for n in 1..=kept {
        let got = request(&broker, "$JS.API.STREAM.MSG.GET.S", &format!(r#"{{"seq":{n}}}"#)).await;
        assert!(got.contains("\"message\""), "{got}");
    }
    let ack = request(&broker, "s.a", "goes on").await;
    assert!(ack.contains("\"seq\":"), "{ack}");
    assert!(engine.stop().await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_loss_keeps_every_answered_call() {
    let mut disk = FaultyDisk::new(2);
    let broker = broker();
    let mut last = 0;
    for round in 0..6 {
        let engine = start(&broker, &disk).await;
        if round == 0 {
            request(&broker, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"]}"#).await;
        }
        let info = request(&broker, "$JS.API.STREAM.INFO.S", "").await;
        assert!(info.contains(&format!("\"messages\":{last},")), "round {round}: {info}");
        for _ in 0..20 {
            let ack = request(&broker, "s.a", "x").await;
            last += 1;
            assert_eq!(ack, format!(r#"{{"stream":"S","seq":{last}}}"#));
        }
        // The disk as a power loss leaves it; the engine that ran on it goes down with its own handles.
        let next = disk.fork();
        next.crash(round);
        engine.stop().await;
        disk = next;
    }
}

/// Settings with a small log.
fn small() -> linnet_jetstream::Config {
    let log = LogConfig {
        segment_bytes: 2 << 20,
        first_segment_bytes: 1 << 20,
        max_bytes: 64 << 20,
        ahead_after: 0,
        ..LogConfig::default()
    };
    linnet_jetstream::Config { log, ..settings() }
}

/// Publishes messages of these sizes in turn until one is refused; how many were stored.
async fn fill(broker: &Broker, sizes: &[usize]) -> usize {
    for stored in 0.. {
        let body = "x".repeat(sizes[stored % sizes.len()]);
        let answer = request(broker, "s", &body).await;
        if answer.contains("error") {
            assert!(answer.contains("\"err_code\":10047"), "{answer}");
            return stored;
        }
    }
    unreachable!("the disk is full at last")
}

/// Purges the stream and publishes until that works again.
async fn make_room(broker: &Broker, disk: &FaultyDisk) {
    let purged = request(broker, "$JS.API.STREAM.PURGE.S", "").await;
    assert!(purged.contains("\"success\":true"), "{purged}");
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = request(broker, "s", "there is room").await;
        if answer.starts_with(r#"{"stream":"S","seq":"#) {
            return;
        }
        assert!(
            answer.contains("10047") && tokio::time::Instant::now() < until,
            "{answer}; {} of the disk's bytes are used by {:?}",
            disk.used(),
            disk.files_below(std::path::Path::new("/store"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_messages_and_a_purge_makes_room_again() {
    let disk = FaultyDisk::new(4);
    let broker = broker();
    let engine = start_with(small(), &broker, &disk).await;
    for (name, subject, storage) in [("S", "s", "file"), ("M", "m", "memory")] {
        let config = format!(r#"{{"name":"{name}","subjects":["{subject}"],"storage":"{storage}"}}"#);
        request(&broker, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
    }
    disk.set_capacity(Some(disk.used() + (32 << 20)));
    let stored = fill(&broker, &[100_000]).await;
    assert!(stored > 50, "{stored}");
    assert!(engine.health().is_disk_full());
    let kept = request(&broker, "m", "in memory").await;
    assert_eq!(kept, r#"{"stream":"M","seq":1}"#, "memory needs no disk");
    make_room(&broker, &disk).await;
    assert!(!engine.health().is_disk_full());
    assert!(engine.stop().await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_full_disk_stops_starts_and_makes_room_again_and_again() {
    let disk = FaultyDisk::new(5);
    let broker = broker();
    let mut engine = start_with(small(), &broker, &disk).await;
    request(&broker, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#).await;
    disk.set_capacity(Some(disk.used() + (48 << 20)));
    for round in 0..3 {
        let stored = fill(&broker, &[100, 500_000, 10_000, 100_000]).await;
        assert!(stored > 0, "round {round}");
        engine.stop().await;
        drop(engine);
        engine = start_with(small(), &broker, &disk).await;
        make_room(&broker, &disk).await;
    }
    assert!(engine.stop().await.clean);
}

/// Blocks leave the last space of a disk to others, so the log fills up although it finds space itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_no_block_relieves_refuses_messages_and_a_purge_makes_room_again() {
    let disk = FaultyDisk::new(6);
    let broker = broker();
    let log = LogConfig { max_bytes: 8 << 20, ..small().log };
    let engine = start_with(linnet_jetstream::Config { log, ..settings() }, &broker, &disk).await;
    request(&broker, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"]}"#).await;
    let until = tokio::time::Instant::now() + PATIENCE;
    // The first segment, two that are made ahead, and the reserve.
    while disk.used() < 9 << 20 {
        assert!(
            tokio::time::Instant::now() < until,
            "{:?}",
            disk.files_below(std::path::Path::new("/store"))
        );
        tokio::task::yield_now().await;
    }
    disk.set_capacity(Some(disk.used() + (7 << 20)));
    let stored = fill(&broker, &[100_000]).await;
    assert!(stored > 10, "{stored}");
    assert!(engine.health().is_disk_full());
    make_room(&broker, &disk).await;
    assert!(!engine.health().is_disk_full());
    assert!(engine.stop().await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_leaves_the_last_messages_of_each_subject_to_deliver() {
    let disk = FaultyDisk::new(3);
    let broker = broker();
    let engine = start(&broker, &disk).await;
    request(&broker, "$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.*"]}"#).await;
    for (subject, body) in [("s.a", "a1"), ("s.b", "b1"), ("s.c", "c1"), ("s.b", "b2"), ("s.c", "c2")] {
        request(&broker, subject, body).await;
    }
    let config = r#"{"durable_name":"C","deliver_policy":"last_per_subject","filter_subject":"s.*","ack_policy":"none"}"#;
    let create = format!(r#"{{"stream_name":"S","config":{config}}}"#);
    request(&broker, "$JS.API.CONSUMER.DURABLE.CREATE.S.C", &create).await;
    let next = "$JS.API.CONSUMER.MSG.NEXT.S.C";
    assert_eq!(request(&broker, next, "").await, "a1");

    assert!(engine.stop().await.clean);
    drop(engine);
    let engine = start(&broker, &disk).await;
    request(&broker, "s.b", "b3").await;
    for expected in ["b2", "c2", "b3"] {
        assert_eq!(request(&broker, next, "").await, expected);
    }
    assert!(engine.stop().await.clean);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_streams_go_on_at_the_same_sequence_after_a_power_loss() {
    let disk = FaultyDisk::new(4);
    let broker = broker();
    let engine = start(&broker, &disk).await;
    for (name, first) in [("NEW", 0), ("MOVED", 0), ("FIRST", 50), ("BOTH", 50)] {
        let config = format!(r#"{{"name":"{name}","subjects":["{name}"],"first_seq":{first}}}"#);
        request(&broker, &format!("$JS.API.STREAM.CREATE.{name}"), &config).await;
    }
    for name in ["NEW", "FIRST"] {
        let config = format!(r#"{{"name":"{name}","subjects":["{name}"],"first_seq":70}}"#);
        request(&broker, &format!("$JS.API.STREAM.UPDATE.{name}"), &config).await;
    }
    for name in ["MOVED", "BOTH"] {
        request(&broker, &format!("$JS.API.STREAM.PURGE.{name}"), r#"{"seq":90}"#).await;
    }
    // The disk as a power loss leaves it; the engine that ran on it goes down with its own handles.
    let after = disk.fork();
    after.crash(1);
    engine.stop().await;
    drop(engine);
    let engine = start(&broker, &after).await;
    for (name, seq) in [("NEW", 1), ("FIRST", 50), ("MOVED", 90), ("BOTH", 90)] {
        let expected = format!(r#"{{"stream":"{name}","seq":{seq}}}"#);
        assert_eq!(request(&broker, name, "x").await, expected);
    }
    assert!(engine.stop().await.clean);
}
