//! `linnet store` on the store of a server that has ended: what it tells, what it changes, and that damage of every kind of
//! file is told by it and by the server.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Fixture, Kind, LONG, program, run};
use crate::scrub::{NEVER, blocks, flip_byte, flip_last_byte, page, start, used_store};

const PLAIN: &str = "";
const SEALED: &str = "cipher: chacha, key: \"first key\"";

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}{}", self.out, self.err))
    }
}

fn store(action: &str, dir: &Path, encryption: &str, more: &[&str]) -> Ran {
    let mut command = Command::new(program(Kind::Linnet).unwrap());
    command.args(["store", action]).arg(dir).args(more);
    if encryption == SEALED {
        command.args(["--key", "first key"]);
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Every file with its content.
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

/// The file of the stream, not of the catalogue, whose name has this in it.
fn stream_file(dir: &Path, name: &str) -> PathBuf {
    let group = blocks(dir)[0].parent().unwrap().to_owned();
    let mut files: Vec<_> = fs::read_dir(group).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().contains(name)).unwrap()
}

fn stopped(mut s: Fixture) {
    s.server.terminate(LONG).unwrap();
}

#[test]
fn a_store_is_looked_at_without_a_change() {
    run(async || {
        for encryption in [PLAIN, SEALED] {
            let dir = tempfile::tempdir().unwrap();
            used_store(dir.path(), encryption).await;
            let before = content(dir.path());
            let inspected = store("inspect", dir.path(), encryption, &["--json"]);
            assert_eq!(inspected.code, 0, "{}", inspected.err);
            let told = inspected.json();
            assert_eq!((&told["clean"], &told["encrypted"]), (&json!(true), &json!(encryption == SEALED)));
            let stream = &told["streams"][0];
            assert_eq!((&stream["account"], &stream["stream"]), (&json!("$G"), &json!("S")), "{told}");
            assert_eq!((&stream["messages"], &stream["last_seq"]), (&json!(8), &json!(8)), "{told}");
            assert_eq!(stream["blocks"], blocks(dir.path()).len(), "{told}");
            let segments = fs::read_dir(dir.path().join("jetstream/wal")).unwrap().count();
            assert_eq!(told["segments"].as_array().unwrap().len(), segments, "{told}");

            let verified = store("verify", &dir.path().join("jetstream"), encryption, &[]);
            assert_eq!(verified.code, 0, "{}{}", verified.out, verified.err);
            assert!(verified.out.contains("nothing is damaged"), "{}", verified.out);
            assert!(verified.err.contains("$G > S"), "progress: {}", verified.err);
            assert!(before == content(dir.path()), "nothing has changed");
        }
    });
}

#[test]
fn what_cannot_be_opened_is_refused_with_the_cause() {
    run(async || {
        let dir = tempfile::tempdir().unwrap();
        for (action, path, cause) in
            [("verify", dir.path(), "holds no store"), ("nonsense", dir.path(), "unrecognized subcommand")]
        {
            let ran = store(action, path, PLAIN, &[]);
            assert!(ran.code == 2 && ran.err.contains(cause), "{}", ran.err);
        }
        let s = start(dir.path(), SEALED, NEVER);
        for action in ["inspect", "verify", "repair", "compact"] {
            let ran = store(action, dir.path(), SEALED, &[]);
            assert!(ran.code == 2 && ran.err.contains("in use by another process"), "{}", ran.err);
        }
        stopped(s);
        let before = content(dir.path());
        for action in ["verify", "repair"] {
            let ran = store(action, dir.path(), PLAIN, &[]);
            assert!(ran.code == 2 && ran.err.contains("is encrypted: configure its 'key'"), "{}", ran.err);
            let ran = store(action, dir.path(), PLAIN, &["--key", "wrong"]);
            assert!(ran.code == 2 && ran.err.contains("another key"), "{}", ran.err);
        }
        assert!(before == content(dir.path()), "nothing has changed");
        let config = dir.path().join("server.conf");
        fs::write(&config, "jetstream { key: \"first key\" }").unwrap();
        let ran = store("verify", dir.path(), PLAIN, &["--config", config.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{}", ran.err);
    });
}

#[test]
fn a_damaged_bit_in_any_kind_of_file_is_told() {
    run(async || {
        for encryption in [PLAIN, SEALED] {
            for kind in ["blk", "idx", "state", "both states", "marker", "copy"] {
                let dir = tempfile::tempdir().unwrap();
                let first_block = used_store(dir.path(), encryption).await[0].clone();
                let (file, is_lossy) = match kind {
                    "blk" => (first_block, true),
                    "idx" => (stream_file(dir.path(), ".idx"), false),
                    "state" => (stream_file(dir.path(), "state."), false),
                    "both states" => (stream_file(dir.path(), "state."), true),
                    "marker" => (dir.path().join("jetstream/linnet.store"), false),
                    _ => (dir.path().join("jetstream/linnet.store.copy"), false),
                };
                flip_last_byte(&file);
                if kind == "both states" {
                    flip_byte(&file, if encryption == SEALED { 8192 + 20 } else { 20 });
                }
                let before = content(dir.path());
                let verified = store("verify", dir.path(), encryption, &["--json"]);
                assert_eq!(verified.code, 1, "{kind}: {}{}", verified.out, verified.err);
                let told = verified.json()["damages"].clone();
                let name = file.to_string_lossy().into_owned();
                let is_named =
                    told[0]["file"] == name.as_str() || told[0]["what"].as_str().unwrap().contains(&name);
                assert!(is_named && told.as_array().unwrap().len() == 1, "{kind}: {told}");
                if kind == "blk" {
                    assert!(told[0]["sequence"].is_u64() && told[0]["offset"].is_u64(), "{told}");
                }
                assert!(before == content(dir.path()), "nothing has changed");

                let repaired = store("repair", dir.path(), encryption, &[]);
                assert_eq!(repaired.code, 1, "{kind}: {}{}", repaired.out, repaired.err);
                let again = store("verify", dir.path(), encryption, &[]);
                assert_eq!(again.code, i32::from(is_lossy), "{kind}: {}", again.out);
                if kind == "both states" {
                    assert_eq!(fs::read(&file).unwrap(), before[&file], "it may be put back");
                }

                let mut s = start(dir.path(), encryption, NEVER);
                let seq = told[0]["sequence"].as_u64().unwrap_or(1);
                let answer = s.api("STREAM.MSG.GET.S", json!({"seq": seq})).await;
                let expected = match kind {
                    "blk" => 10900,
                    "both states" => 10118,
                    _ => 0,
                };
                assert_eq!(answer["error"]["err_code"].as_u64().unwrap_or(0), expected, "{kind}: {answer}");
                let status = s.server.monitor_get("/healthz").unwrap().status;
                assert_eq!(status, if kind == "both states" { 503 } else { 200 }, "{kind}");
                if kind == "blk" {
                    let health = page(&s, "/healthz?details=true");
                    assert_eq!(health["damaged"][0]["sequences"], json!([seq]), "{health}");
                }
                stopped(s);
            }
        }
    });
}

#[test]
fn a_catalogue_that_lost_its_state_is_told_and_made_anew() {
    run(async || {
        for is_removed in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            used_store(dir.path(), PLAIN).await;
            let catalogue = dir.path().join("jetstream/groups").join("0".repeat(40));
            let is_state = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("state.");
            let state = content(&catalogue).into_keys().find(is_state).unwrap();
            if is_removed {
                fs::remove_file(&state).unwrap();
            } else {
                flip_byte(&state, 20);
                flip_last_byte(&state);
            }
            let before = content(dir.path());
            let verified = store("verify", dir.path(), PLAIN, &["--json"]);
            assert_eq!(verified.code, 1, "{}{}", verified.out, verified.err);
            let told = verified.json()["damages"].clone();
            assert_eq!(told[0]["stream"], "catalogue of streams", "{told}");
            assert!(told[0]["what"].as_str().unwrap().contains(state.to_str().unwrap()), "{told}");
            assert!(before == content(dir.path()), "nothing has changed");
            assert_eq!(store("repair", dir.path(), PLAIN, &[]).code, 1);
            let again = store("verify", dir.path(), PLAIN, &[]);
            assert_eq!(again.code, 0, "{}{}", again.out, again.err);
            let mut s = start(dir.path(), PLAIN, NEVER);
            assert_eq!(s.api("STREAM.INFO.S", Value::Null).await["state"]["last_seq"], 8);
            stopped(s);
        }
    });
}

/// Flips a bit half-way through what is written of the segment that holds most; which it is.
fn flip_in_the_middle_of_the_log(dir: &Path) -> PathBuf {
    let entries = fs::read_dir(dir.join("jetstream/wal")).unwrap();
    let segments = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let written = |bytes: &[u8]| bytes.iter().filter(|byte| **byte != 0).count();
    let contents = segments.map(|path| (fs::read(&path).unwrap(), path));
    let (mut bytes, path) = contents.max_by_key(|(bytes, _)| written(bytes)).unwrap();
    // What is not written yet is zeros.
    let middle = written(&bytes) / 2;
    let at = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).nth(middle).unwrap().0;
    bytes[at] ^= 1;
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn damage_of_the_log_is_told_and_repaired_behind_a_gap() {
    run(async || {
        for encryption in [PLAIN, SEALED] {
            let dir = tempfile::tempdir().unwrap();
            let mut s = start(dir.path(), encryption, NEVER);
            s.api("STREAM.CREATE.S", json!({"name": "S", "subjects": ["a"]})).await;
            for seq in 1..=8 {
                assert_eq!(s.request("a", vec![b'x'; 64 << 10]).await["seq"], seq);
            }
            // Only the log has them.
            s.server.kill().unwrap();
            let segment = flip_in_the_middle_of_the_log(dir.path());

            let verified = store("verify", dir.path(), encryption, &["--json"]);
            assert_eq!(verified.code, 1, "{}{}", verified.out, verified.err);
            let told = verified.json()["damages"].clone();
            assert_eq!(told[0]["file"], segment.to_str().unwrap(), "{told}");
            assert!(told.as_array().unwrap().iter().any(|damage| damage["stream"] == "$G > S"), "{told}");

            let repaired = store("repair", dir.path(), encryption, &[]);
            assert_eq!(repaired.code, 1, "{}{}", repaired.out, repaired.err);
            let mut s = start(dir.path(), encryption, NEVER);
            let state = s.api("STREAM.INFO.S", Value::Null).await["state"].clone();
            assert_eq!(state["messages"], 7, "{state}");
            assert!(state["last_seq"].as_u64().unwrap() > 500_000, "no sequence is used twice: {state}");
            assert!(s.request("a", "x").await["seq"].as_u64().unwrap() > 500_000);
            stopped(s);
        }
    });
}

#[test]
fn a_compact_store_holds_the_same_in_less() {
    run(async || {
        for encryption in [PLAIN, SEALED] {
            let dir = tempfile::tempdir().unwrap();
            used_store(dir.path(), encryption).await;
            let mut s = start(dir.path(), encryption, NEVER);
            assert_eq!(
                s.api("STREAM.MSG.DELETE.S", json!({"seq": 2, "no_erase": true})).await["success"],
                true
            );
            stopped(s);
            let size =
                || blocks(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum::<u64>();
            let before = size();
            let compacted = store("compact", dir.path(), encryption, &["--json"]);
            assert_eq!(compacted.code, 0, "{}", compacted.err);
            let told = compacted.json();
            assert!(told["bytes_after"].as_u64() < told["bytes_before"].as_u64(), "{told}");
            assert!(size() + (64 << 10) <= before, "{} of {before}", size());
            assert_eq!(store("verify", dir.path(), encryption, &[]).code, 0);

            let mut s = start(dir.path(), encryption, NEVER);
            for seq in [1, 3, 4, 5, 6, 7, 8] {
                let got = s.api("STREAM.MSG.GET.S", json!({"seq": seq})).await;
                assert_eq!(got["message"]["seq"], seq, "{got}");
            }
            assert_eq!(s.request("a", "x").await["seq"], 9);
            stopped(s);
        }
    });
}
