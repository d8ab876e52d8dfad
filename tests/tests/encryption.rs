//! Encryption at rest: nothing in the store's files can be read without the key, keys and ciphers can be changed, and a
//! wrong key does no harm.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use linnet_launch::{Error, JetStream, Options, Spec};
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, LONG, program, run};

const CHACHA: &str = "cipher: chacha, key: \"first key\"";
const AES: &str = "cipher: AES, ek: \"first key\"";
const SECOND: &str = "encryption_key: \"second key\", prev_ek: \"first key\"";
const WRONG: &str = "key: \"wrong key\"";
/// What must not be found in any file: all of it begins with one letter.
const SECRETS: [&str; 5] = ["VERYSTREAM", "very.subject", "very payload", "VERYCONSUMER", "very metadata"];

fn options(store: &Path, encryption: &str) -> Options {
    let jetstream =
        JetStream { store_dir: Some(store.to_owned()), extra: encryption.to_owned(), ..JetStream::default() };
    Options { jetstream: Some(jetstream), ..JETSTREAM() }
}

fn spec(kind: Kind, store: &Path, encryption: &str) -> Option<Spec> {
    Some(Spec::new(program(kind)?).options(options(store, encryption)))
}

/// Every file below a directory with its content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

/// Where a secret stands in the clear.
fn in_the_clear(store: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut found = Vec::new();
    for (path, bytes) in content(store) {
        for (secret, is_there) in SECRETS.iter().zip(are_in(&bytes)) {
            if is_there || path.to_string_lossy().contains(secret) {
                found.push((path.clone(), *secret));
            }
        }
    }
    found
}

/// Which secrets there are in what may be a whole segment of the log.
fn are_in(bytes: &[u8]) -> [bool; SECRETS.len()] {
    let mut found = [false; SECRETS.len()];
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| matches!(byte, b'V' | b'v')) {
        for (secret, is_there) in SECRETS.iter().zip(&mut found) {
            *is_there |= bytes[at..].starts_with(secret.as_bytes());
        }
    }
    found
}

/// Adds messages; makes the stream and the consumer if they do not exist.
async fn use_store(s: &mut Fixture) {
    let config = json!({"name": "VERYSTREAM", "subjects": ["very.>"], "metadata": {"note": "very metadata"}});
    let made = s.api("STREAM.CREATE.VERYSTREAM", config).await;
    assert_eq!(made["error"], Value::Null, "{made}");
    let consumer = json!({"durable_name": "VERYCONSUMER", "ack_policy": "explicit"});
    let body = json!({"stream_name": "VERYSTREAM", "config": consumer});
    s.api("CONSUMER.CREATE.VERYSTREAM.VERYCONSUMER", body).await;
    for _ in 0..20 {
        assert_eq!(s.request("very.subject", "very payload").await["error"], Value::Null);
    }
}

async fn messages(s: &mut Fixture) -> u64 {
    s.api("STREAM.INFO.VERYSTREAM", Value::Null).await["state"]["messages"].as_u64().unwrap_or(0)
}

/// Starts the server, which must have so many messages, uses it and stops it in order or kills it.
async fn life(kind: Kind, store: &Path, encryption: &str, expected: u64, kill: bool) -> String {
    let mut s = Fixture::start(kind, spec(kind, store, encryption).unwrap());
    assert_eq!(messages(&mut s).await, expected, "{encryption}: {}", s.server.log_tail());
    if expected > 0 {
        let got = s.api("STREAM.MSG.GET.VERYSTREAM", json!({"seq": expected})).await;
        assert_eq!(got["message"]["subject"], "very.subject", "{got}");
        // nats-server loses consumers when key and cipher change together.
        if kind == Kind::Linnet {
            let info = s.api("CONSUMER.INFO.VERYSTREAM.VERYCONSUMER", Value::Null).await;
            assert_eq!(info["name"], "VERYCONSUMER", "{info}");
        }
    }
    use_store(&mut s).await;
    let log = fs::read_to_string(s.server.log_file()).unwrap_or_default();
    if kill {
        s.server.kill().unwrap();
    } else {
        s.server.terminate(LONG).unwrap();
    }
    log
}

/// From plain text over two ciphers to another key: nothing is lost at either server.
fn through_all_changes(kind: Kind) {
    if program(kind).is_none() {
        return;
    }
    run(async || {
        let store = tempfile::tempdir().unwrap();
        life(kind, store.path(), "", 0, false).await;
        assert!(!in_the_clear(store.path()).is_empty(), "the search finds what is in the clear");
        let log = life(kind, store.path(), CHACHA, 20, false).await;
        assert!(log.contains("  Encryption:      ChaCha20-Poly1305"), "{log}");
        let log = life(kind, store.path(), AES, 40, false).await;
        assert!(log.contains("  Encryption:      AES-GCM"), "{log}");
        life(kind, store.path(), SECOND, 60, false).await;
        life(kind, store.path(), "key: \"second key\"", 80, false).await;
    });
}

#[test]
fn keys_and_ciphers_change_on_linnet() {
    through_all_changes(Kind::Linnet);
}

#[test]
fn keys_and_ciphers_change_on_the_peer() {
    through_all_changes(Kind::Peer);
}

#[test]
fn nothing_in_the_files_is_in_the_clear() {
    run(async || {
        for encryption in [CHACHA, AES] {
            for kill in [false, true] {
                let store = tempfile::tempdir().unwrap();
                let log = life(Kind::Linnet, store.path(), encryption, 0, kill).await;
                assert!(!log.contains("first key"), "{log}");
                assert_eq!(in_the_clear(store.path()), []);
                life(Kind::Linnet, store.path(), encryption, 20, false).await;
                assert_eq!(in_the_clear(store.path()), []);
                // What was in plain text is not after a start with a key, in whatever order it was left.
                let plain = tempfile::tempdir().unwrap();
                life(Kind::Linnet, plain.path(), "", 0, kill).await;
                assert!(!in_the_clear(plain.path()).is_empty());
                life(Kind::Linnet, plain.path(), encryption, 20, kill).await;
                assert_eq!(in_the_clear(plain.path()), []);
            }
        }
    });
}

#[test]
fn a_key_that_does_not_fit_is_refused_and_nothing_is_touched() {
    run(async || {
        let store = tempfile::tempdir().unwrap();
        life(Kind::Linnet, store.path(), CHACHA, 0, true).await;
        let before = content(store.path());
        for (encryption, cause) in [
            (WRONG, "with another key than 'key' or 'prev_key'"),
            ("", "is encrypted: configure its 'key'"),
            ("key: \"wrong\", prev_key: \"wrong too\"", "with another key than"),
            ("prev_key: \"first key\"", "is encrypted: configure its 'key'"),
        ] {
            let error = spec(Kind::Linnet, store.path(), encryption).unwrap().start().unwrap_err();
            let Error::Ended { status, log_tail, .. } = error else { panic!("{error}") };
            assert_eq!(status.code(), Some(1), "{log_tail}");
            assert!(log_tail.contains(cause) && log_tail.contains("nothing has been touched"), "{log_tail}");
            assert!(!log_tail.contains("wrong too"), "{log_tail}");
            assert!(before == content(store.path()), "{encryption}: {log_tail}");
        }
        life(Kind::Linnet, store.path(), CHACHA, 20, false).await;
    });
}

#[test]
fn an_unknown_cipher_is_refused_as_the_peer_does() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let store = tempfile::tempdir().unwrap();
        let Some(spec) = spec(kind, store.path(), "cipher: rot13, key: x") else { continue };
        let error = spec.start().unwrap_err().to_string();
        assert!(error.contains("Unknown cipher type: \"rot13\""), "{error}");
    }
}
