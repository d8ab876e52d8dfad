//! Stored messages are verified in the background: what is damaged shows before anybody reads it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linnet_launch::{JetStream, Options, Spec, poll_until};
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, LONG, err_code, program, run};

const OFTEN: &str = "linnet { scrub { interval: \"1s\" } }";
pub(crate) const NEVER: &str = "linnet { scrub { interval: \"0s\" } }";

pub(crate) fn start(store: &Path, encryption: &str, scrub: &str) -> Fixture {
    let jetstream =
        JetStream { store_dir: Some(store.to_owned()), extra: encryption.to_owned(), ..JetStream::default() };
    let options =
        Options { monitor: true, jetstream: Some(jetstream), extra: scrub.to_owned(), ..JETSTREAM() };
    Fixture::start(Kind::Linnet, Spec::new(program(Kind::Linnet).unwrap()).options(options))
}

/// A store of a stream with several blocks, made by a server that has stopped in order; its block files.
pub(crate) async fn used_store(store: &Path, encryption: &str) -> Vec<PathBuf> {
    let mut s = start(store, encryption, NEVER);
    // Blocks of a small stream are small.
    let config = json!({"name": "S", "subjects": ["a"], "max_bytes": 1 << 20});
    assert_eq!(s.api("STREAM.CREATE.S", config).await["error"], Value::Null);
    for seq in 1..=8 {
        assert_eq!(s.request("a", vec![b'x'; 64 << 10]).await["seq"], seq);
    }
    s.server.terminate(LONG).unwrap();
    blocks(store)
}

/// The block files of streams, not those of the catalogue.
pub(crate) fn blocks(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for group in fs::read_dir(store.join("jetstream/groups")).unwrap().map(|entry| entry.unwrap().path()) {
        let is_catalogue = group.file_name().unwrap().to_string_lossy().trim_matches('0').is_empty();
        let files = fs::read_dir(&group).unwrap().map(|entry| entry.unwrap().path());
        found.extend(files.filter(|path| !is_catalogue && path.extension().is_some_and(|e| e == "blk")));
    }
    found.sort();
    found
}

/// Only that byte is written: the file may be in use.
pub(crate) fn flip_last_byte(path: &Path) {
    flip_byte(path, fs::metadata(path).unwrap().len() - 1);
}

pub(crate) fn flip_byte(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

pub(crate) fn page(s: &Fixture, path: &str) -> Value {
    serde_json::from_str(&s.server.monitor_get(path).unwrap().body).unwrap()
}

#[test]
fn damage_is_found_before_somebody_reads_it() {
    run(async || {
        for encryption in ["", "cipher: chacha, key: \"first key\"", "cipher: aes, key: \"first key\""] {
            let store = tempfile::tempdir().unwrap();
            let blocks = used_store(store.path(), encryption).await;
            assert!(blocks.len() > 2, "{blocks:?}");
            let mut s = start(store.path(), encryption, NEVER);
            assert_eq!(page(&s, "/jsz")["linnet_scrub"], Value::Null);
            s.server.terminate(LONG).unwrap();

            let mut s = start(store.path(), encryption, OFTEN);
            let client = s.client().await;
            let mut advisories = client.subscribe("$JS.EVENT.ADVISORY.STREAM.DAMAGED.S").await.unwrap();
            client.flush().await.unwrap();
            let is_verified = || page(&s, "/jsz")["linnet_scrub"]["last"]["messages"].as_u64() >= Some(8);
            assert!(poll_until(LONG, is_verified));
            assert_eq!(page(&s, "/healthz?details=true")["damaged"], Value::Null);
            flip_last_byte(&blocks[0]);
            let log = || fs::read_to_string(s.server.log_file()).unwrap();
            assert!(poll_until(LONG, || log().contains(": 1 newly found to be damaged")), "{}", log());
            let scrub = page(&s, "/jsz")["linnet_scrub"]["last"].clone();
            assert!(scrub["bytes"].as_u64().unwrap() > 7 * (64 << 10), "{scrub}");
            assert!(scrub["messages"].as_u64().unwrap() >= 7, "{scrub}");
            let health = s.server.monitor_get("/healthz?details=true").unwrap();
            assert_eq!(health.status, 200, "{}", health.body);
            let damaged = serde_json::from_str::<Value>(&health.body).unwrap()["damaged"][0].clone();
            let seq = damaged["sequences"][0].as_u64().unwrap();
            assert_eq!((&damaged["stream"], &damaged["messages"]), (&json!("S"), &json!(1)), "{damaged}");
            let advisory = tokio::time::timeout(LONG, futures_util::StreamExt::next(&mut advisories)).await;
            let advisory: Value = serde_json::from_slice(&advisory.unwrap().unwrap().payload).unwrap();
            assert_eq!(advisory["stream"], "S", "{advisory}");
            assert!(log().contains(&format!("damage in {}", blocks[0].display())), "{}", log());
            let answer = s.api("STREAM.MSG.GET.S", json!({"seq": seq})).await;
            assert_eq!(answer["error"]["err_code"], 10900, "{answer}");
            let other = s.api("STREAM.MSG.GET.S", json!({"seq": 8})).await;
            assert_eq!(other["error"], Value::Null, "{other}");
        }
    });
}

/// What `/healthz` says of the damaged messages of the stream.
fn told(s: &Fixture) -> Value {
    page(s, "/healthz?details=true")["damaged"][0]["sequences"].clone()
}

/// A store whose first messages are damaged, in a block that is read when the store is opened; the number of them.
async fn damaged_store(store: &Path) -> u64 {
    let blocks = used_store(store, "").await;
    let content = fs::read(&blocks[0]).unwrap();
    fs::remove_file(blocks[0].with_extension("idx")).unwrap();
    let messages = (content.len() as u64 - 16) / (64 << 10);
    for n in 1..=messages {
        flip_byte(&blocks[0], content.len() as u64 * n / messages - 1);
    }
    messages
}

#[test]
fn a_damaged_message_that_is_deleted_is_not_told_any_more() {
    run(async || {
        for is_found_at_the_start in [true, false] {
            let store = tempfile::tempdir().unwrap();
            let damaged = if is_found_at_the_start {
                let damaged = damaged_store(store.path()).await;
                (1..=damaged).collect::<Vec<_>>()
            } else {
                flip_last_byte(&used_store(store.path(), "").await[0]);
                vec![1, 2]
            };
            let mut s = start(store.path(), "", NEVER);
            // Consumers want what is deleted.
            s.consumer("S", json!({"durable_name": "C", "ack_policy": "explicit"})).await;
            let mut left = Vec::new();
            for seq in damaged {
                let answer = s.api("STREAM.MSG.GET.S", json!({"seq": seq})).await;
                left.extend((err_code(&answer) == 10900).then_some(seq));
            }
            assert_eq!(told(&s), json!(left));
            while let Some(seq) = left.pop() {
                let deleted = s.api("STREAM.MSG.DELETE.S", json!({"seq": seq})).await;
                assert_eq!(deleted["success"], true, "{deleted}");
                let expected = if left.is_empty() { Value::Null } else { json!(left) };
                assert!(poll_until(LONG, || told(&s) == expected), "{}", told(&s));
                let again = s.api("STREAM.MSG.DELETE.S", json!({"seq": seq})).await;
                assert!(matches!(err_code(&again), 10043 | 10057), "{again}");
            }
            assert_eq!(s.state("S").await["lost"], Value::Null);
            s.server.kill().unwrap();
            let mut s = start(store.path(), "", NEVER);
            assert_eq!(told(&s), Value::Null, "also after a restart without a checkpoint");
            assert_eq!(s.state("S").await["lost"], Value::Null);
            s.server.terminate(LONG).unwrap();
            let s = start(store.path(), "", NEVER);
            assert_eq!(told(&s), Value::Null, "and with one");
        }
    });
}

#[test]
fn damaged_messages_that_are_purged_are_not_told_any_more() {
    run(async || {
        for rest in [2, 0] {
            let store = tempfile::tempdir().unwrap();
            let damaged = damaged_store(store.path()).await;
            let mut s = start(store.path(), "", NEVER);
            assert_eq!(told(&s), json!((1..=damaged).collect::<Vec<_>>()));
            // A part of them, of which nothing is alive; then all.
            let purged = s.api("STREAM.PURGE.S", json!({"seq": rest})).await;
            assert_eq!(purged["success"], true, "{purged}");
            let left: Vec<u64> = (1..=damaged).filter(|seq| rest > 0 && *seq >= rest).collect();
            let expected = if left.is_empty() { Value::Null } else { json!(left) };
            assert!(poll_until(LONG, || told(&s) == expected), "{}", told(&s));
        }
    });
}

#[test]
fn when_the_next_pass_is_due_survives_a_restart() {
    run(async || {
        let store = tempfile::tempdir().unwrap();
        used_store(store.path(), "").await;
        let mut s = start(store.path(), "", OFTEN);
        assert!(poll_until(LONG, || page(&s, "/jsz")["linnet_scrub"]["last"] != Value::Null));
        s.server.terminate(LONG).unwrap();
        let s = start(store.path(), "", "linnet { scrub { interval: \"24h\" } }");
        let scrub = page(&s, "/jsz")["linnet_scrub"].clone();
        assert!(scrub["last"]["messages"].as_u64().unwrap() >= 8, "{scrub}");
        assert_eq!(scrub["current"], Value::Null, "{scrub}");
        assert!(!poll_until(Duration::from_millis(500), || {
            page(&s, "/jsz")["linnet_scrub"]["current"] != Value::Null
        }));
    });
}
