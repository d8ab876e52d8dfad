//! Store directories that are not ours to open: refused with the reason, and left as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use linnet_launch::{Error, JetStream, Options, Spec, poll_until};
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, LONG, program, run};

/// Every file below a directory with its content.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(content(&path));
            found.insert(path, Vec::new());
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, bytes);
        }
    }
    found
}

fn options(store: &Path) -> Options {
    Options {
        jetstream: Some(JetStream { store_dir: Some(store.to_owned()), ..JetStream::default() }),
        ..JETSTREAM()
    }
}

/// What the server says when it refuses the store.
fn refusal(store: &Path) -> String {
    let before = content(store);
    let error = Spec::new(program(Kind::Linnet).unwrap()).options(options(store)).start().unwrap_err();
    let Error::Ended { status, log_tail, .. } = error else { panic!("{error}") };
    assert_eq!(status.code(), Some(1), "{log_tail}");
    let after = content(store);
    for path in before.keys().chain(after.keys()) {
        assert!(before.get(path) == after.get(path), "{} has changed; {log_tail}", path.display());
    }
    log_tail
}

/// A store with a message in it, made by a server that has stopped in order.
async fn used_store(kind: Kind, store: &Path) {
    let Some(program) = program(kind) else { return };
    let mut s = Fixture::start(kind, Spec::new(program).options(options(store)));
    s.api("STREAM.CREATE.S", json!({"name": "S", "subjects": ["a"]})).await;
    assert_eq!(s.request("a", "x").await["seq"], 1);
    s.server.terminate(LONG).unwrap();
}

#[test]
fn a_store_of_nats_server_is_refused() {
    if program(Kind::Peer).is_none() {
        return;
    }
    run(async || {
        let store = tempfile::tempdir().unwrap();
        used_store(Kind::Peer, store.path()).await;
        let said = refusal(store.path());
        assert!(said.contains("nats-server") && said.contains("untouched"), "{said}");
    });
}

#[test]
fn a_store_in_use_is_refused() {
    run(async || {
        let store = tempfile::tempdir().unwrap();
        let program = program(Kind::Linnet).unwrap();
        let mut first = Fixture::start(Kind::Linnet, Spec::new(&program).options(options(store.path())));
        first.api("STREAM.CREATE.S", json!({"name": "S", "subjects": ["a"]})).await;
        // Paused, it changes nothing itself.
        first.server.pause().unwrap();
        let said = refusal(store.path());
        first.server.resume().unwrap();
        assert!(said.contains("another process") || said.contains("in use"), "{said}");
        assert_eq!(first.request("a", "x").await["seq"], 1, "the first one goes on");
    });
}

#[test]
fn a_store_of_a_newer_format_is_refused() {
    run(async || {
        let store = tempfile::tempdir().unwrap();
        used_store(Kind::Linnet, store.path()).await;
        let marker = content(store.path()).into_keys().find(|path| path.ends_with("linnet.store")).unwrap();
        let mut fields: Value = serde_json::from_slice(&fs::read(&marker).unwrap()).unwrap();
        fields["format"] = json!(999);
        fs::write(&marker, fields.to_string()).unwrap();
        let said = refusal(store.path());
        assert!(said.contains("format 999"), "{said}");
    });
}

#[test]
fn a_directory_of_somebody_else_is_refused() {
    let store = tempfile::tempdir().unwrap();
    fs::create_dir(store.path().join("jetstream")).unwrap();
    fs::write(store.path().join("jetstream/thesis.txt"), "years of work").unwrap();
    let said = refusal(store.path());
    assert!(said.contains("not a store of this server"), "{said}");
}

#[test]
fn a_file_in_place_of_the_directory_is_refused_and_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    let error = Spec::new(program(Kind::Linnet).unwrap()).options(options(&file)).start().unwrap_err();
    let Error::Ended { status, log_tail, .. } = error else { panic!("{error}") };
    assert_eq!(status.code(), Some(1), "{log_tail}");
    let text =
        format!("Can't start JetStream: storage directory is not a directory: {}/jetstream", file.display());
    assert!(log_tail.trim_end().ends_with(&text), "{log_tail}");
}

#[test]
fn a_store_survives_a_restart_in_another_place() {
    run(async || {
        let dir = tempfile::tempdir().unwrap();
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        used_store(Kind::Linnet, &here).await;
        fs::rename(&here, &there).unwrap();
        let program = program(Kind::Linnet).unwrap();
        let mut s = Fixture::start(Kind::Linnet, Spec::new(program).options(options(&there)));
        assert_eq!(s.request("a", "x").await["seq"], 2);
        assert_eq!(s.api("STREAM.MSG.GET.S", json!({"seq": 1})).await["message"]["data"], "eA==");
    });
}

/// Changes one byte of every `text` in every file of the catalogue, or of streams, whose name fits.
fn damage(store: &Path, of_catalogue: bool, name: &str, text: &str) {
    let mut damaged = 0;
    for (path, mut bytes) in content(store) {
        let group =
            path.parent().and_then(Path::file_name).map_or_else(String::new, |n| n.to_string_lossy().into());
        let is_meant = group.len() == 40 && (group.trim_matches('0').is_empty() == of_catalogue);
        if is_meant && path.file_name().unwrap().to_string_lossy().contains(name) {
            let places = bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text.as_bytes());
            let places: Vec<usize> = places.map(|(at, _)| at).collect();
            assert!(!places.is_empty(), "{} without {text}", path.display());
            places.into_iter().for_each(|at| bytes[at] ^= 1);
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0, "no file like {name}");
}

fn monitored(store: &Path) -> Fixture {
    let options = Options { monitor: true, ..options(store) };
    Fixture::start(Kind::Linnet, Spec::new(program(Kind::Linnet).unwrap()).options(options))
}

#[test]
fn a_stream_survives_damage_of_the_catalogue() {
    run(async || {
        for (name, text) in [(".blk", "\"name\":\"S\""), ("state.", "linnet state")] {
            let store = tempfile::tempdir().unwrap();
            used_store(Kind::Linnet, store.path()).await;
            damage(store.path(), true, name, text);
            let mut s = monitored(store.path());
            assert_eq!(s.request("a", "x").await["seq"], 2);
            assert_eq!(s.api("STREAM.MSG.GET.S", json!({"seq": 1})).await["message"]["data"], "eA==");
            assert_eq!(s.server.monitor_get("/healthz").unwrap().status, 200);
        }
    });
}

#[test]
fn a_flipped_bit_in_a_state_file_costs_nothing_and_is_mended_while_the_server_runs() {
    run(async || {
        for of_catalogue in [true, false] {
            let store = tempfile::tempdir().unwrap();
            used_store(Kind::Linnet, store.path()).await;
            let is_meant = |path: &Path| {
                let group = path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
                path.file_name().unwrap().to_string_lossy().starts_with("state.")
                    && group.trim_matches('0').is_empty() == of_catalogue
            };
            let path = content(store.path()).into_keys().find(|path| is_meant(path)).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            bytes[20] ^= 16;
            fs::write(&path, bytes).unwrap();
            let mut s = monitored(store.path());
            assert_eq!(s.api("STREAM.MSG.GET.S", json!({"seq": 1})).await["message"]["data"], "eA==");
            assert_eq!(s.server.monitor_get("/healthz").unwrap().status, 200);
            let log = fs::read_to_string(s.server.log_file()).unwrap();
            let told = format!("{}: one of two copies", path.display());
            assert!(log.contains(&told), "{log}");
            assert!(poll_until(LONG, || !path.exists()), "it is written anew");
            assert_eq!(s.request("a", "x").await["seq"], 2);
            s.server.terminate(LONG).unwrap();
        }
    });
}

#[test]
fn a_stream_that_cannot_be_recovered_is_offline_until_it_is_deleted() {
    run(async || {
        let store = tempfile::tempdir().unwrap();
        used_store(Kind::Linnet, store.path()).await;
        damage(store.path(), false, "state.", "linnet state");
        let config = json!({"name": "S", "subjects": ["a"]});
        for _ in 0..2 {
            let mut s = monitored(store.path());
            let answers = [
                s.api("STREAM.INFO.S", Value::Null).await,
                s.api("STREAM.CREATE.S", config.clone()).await,
                s.request("a", "x").await,
            ];
            for answer in answers {
                assert_eq!(answer["error"]["err_code"], 10118, "{answer}");
            }
            assert_eq!(s.api("STREAM.NAMES", Value::Null).await["streams"], json!(["S"]));
            let health = s.server.monitor_get("/healthz").unwrap();
            assert!(
                health.status == 503 && health.body.contains("S' could not be recovered"),
                "{}",
                health.body
            );
            s.server.terminate(LONG).unwrap();
        }
        let mut s = monitored(store.path());
        assert_eq!(s.api("STREAM.DELETE.S", Value::Null).await["success"], true);
        assert_eq!(s.server.monitor_get("/healthz").unwrap().status, 200);
        s.api("STREAM.CREATE.S", config).await;
        assert_eq!(s.request("a", "x").await["seq"], 1);
    });
}
