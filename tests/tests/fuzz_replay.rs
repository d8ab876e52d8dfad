//! The corpus of every fuzz target, replayed on stable.

#![allow(unreachable_pub, reason = "the harnesses are shared with the fuzz targets, where they are public")]

#[path = "../../fuzz/harness/archive.rs"]
mod archive;
#[path = "../../fuzz/harness/client.rs"]
mod client;
#[path = "../../fuzz/harness/conf.rs"]
mod conf;
#[path = "../../fuzz/harness/wal.rs"]
mod wal;

fn replay(target: &str, run: fn(&[u8])) {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&dir).expect("the corpus is part of the repository") {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        // Every beginning and a few flips of each input cost little and reach further.
        for len in 0..=bytes.len() {
            run(&bytes[..len]);
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            run(&flipped);
        }
        count += 1;
    }
    assert!(count > 0, "no corpus for {target}");
}

#[test]
fn backups_survive_their_corpus() {
    replay("archive", archive::run);
}

#[test]
fn client_protocol_survives_its_corpus() {
    replay("client", client::run);
}

#[test]
fn configuration_language_survives_its_corpus() {
    replay("conf", conf::run);
}

#[test]
fn log_recovery_survives_its_corpus() {
    replay("wal", wal::run);
}
