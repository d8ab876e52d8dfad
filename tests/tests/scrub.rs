//! Stored messages are verified in the background: what is damaged shows before anybody reads it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linnet_launch::{JetStream, Options, Spec, poll_until};
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, LONG, program, run};

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
