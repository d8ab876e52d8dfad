//! `compression` of a stream: what the API shows is what nats-server shows, and what is stored takes less space and comes
//! back as it was.

use std::fs;
use std::path::Path;

use linnet_launch::{JetStream, Options, Spec};
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, LONG, err_code, program, run};

/// Bytes that a block of the stream below holds.
const BLOCK: usize = 128 << 10;

fn options() -> Options {
    Options { monitor: true, ..JETSTREAM() }
}

/// A stream whose blocks are an eighth of its limit.
fn config(compression: &str) -> Value {
    json!({"name": "S", "subjects": ["s"], "max_bytes": 8 * BLOCK, "compression": compression})
}

fn text(n: usize) -> String {
    format!("message {n} of many that are much the same; ").repeat(40)
}

impl Fixture {
    async fn change(&mut self, config: Value) -> Value {
        self.api("STREAM.UPDATE.S", config).await
    }

    async fn shown(&mut self) -> Value {
        self.api("STREAM.INFO.S", Value::Null).await["config"]["compression"].clone()
    }

    fn shown_by_monitoring(&self) -> Value {
        let page = self.server.monitor_get("/jsz?streams=true&config=true").unwrap().body;
        let page: Value = serde_json::from_str(&page).unwrap();
        page["account_details"][0]["stream_detail"][0]["config"]["compression"].clone()
    }

    async fn fill(&mut self, numbers: std::ops::Range<usize>) {
        for n in numbers {
            assert_eq!(self.publish("s", &text(n)).await["seq"], n + 1);
        }
    }

    async fn assert_holds(&mut self, count: usize) {
        for n in 0..count {
            assert_eq!(self.stored("S", n as u64 + 1).await.unwrap().body, text(n));
        }
    }
}

on_both_servers! { options;
    async fn the_api_shows_whether_a_stream_is_compressed(s) {
        let made = s.stream(config("s2")).await;
        assert_eq!(made["config"]["compression"], "s2");
        assert_eq!((s.shown().await, s.shown_by_monitoring()), (json!("s2"), json!("s2")));
        assert_eq!(s.change(config("none")).await["config"]["compression"], "none");
        assert_eq!((s.shown().await, s.shown_by_monitoring()), (json!("none"), json!("none")));
        assert_eq!(s.change(config("s2")).await["config"]["compression"], "s2");
        let mut without = config("");
        without.as_object_mut().unwrap().remove("compression");
        assert_eq!(s.change(without).await["config"]["compression"], "none");
    }

    async fn streams_in_memory_may_ask_for_compression(s) {
        let mut config = config("s2");
        config["storage"] = json!("memory");
        assert_eq!(s.stream(config).await["config"]["compression"], "s2");
        s.fill(0..3).await;
        s.assert_holds(3).await;
    }

    async fn an_unknown_algorithm_is_refused(s) {
        let answer = s.api("STREAM.CREATE.S", config("zip")).await;
        assert_eq!(err_code(&answer), 10025, "{answer}");
    }

    async fn sizes_do_not_depend_on_compression(s) {
        s.stream(config("s2")).await;
        s.fill(0..100).await;
        let size: usize = (0..100).map(|n| text(n).len() + "s".len() + 30).sum();
        assert_eq!(s.state("S").await["bytes"], size);
    }
}

/// Bytes of all blocks in the store.
pub(crate) fn block_bytes(dir: &Path) -> u64 {
    let mut bytes = 0;
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            bytes += block_bytes(&path);
        } else if path.extension().is_some_and(|e| e == "blk") {
            bytes += entry.metadata().unwrap().len();
        }
    }
    bytes
}

/// Stored with and without compression, through an orderly restart and a kill; nothing may differ but the space taken.
/// Only ours: nats-server's newest block is as large as the stream.
fn through_restarts(encryption: &str) {
    let store = tempfile::tempdir().unwrap();
    let jetstream = JetStream {
        store_dir: Some(store.path().to_owned()),
        extra: encryption.to_owned(),
        ..JetStream::default()
    };
    let options = Options { jetstream: Some(jetstream), ..options() };
    let start = || {
        let program = program(Kind::Linnet).unwrap();
        Fixture::start(Kind::Linnet, Spec::new(program).options(options.clone()))
    };
    run(async || {
        let mut s = start();
        s.stream(config("none")).await;
        s.fill(0..200).await;
        s.server.terminate(LONG).unwrap();
        let plain = block_bytes(store.path());
        assert!(plain > 2 * BLOCK as u64, "{plain}");

        let mut s = start();
        assert_eq!(s.change(config("s2")).await["error"], Value::Null);
        s.fill(200..400).await;
        s.server.terminate(LONG).unwrap();
        let both = block_bytes(store.path());
        assert!(both < plain * 3 / 2, "{plain} bytes for half, {both} for all");

        let mut s = start();
        assert_eq!(s.shown().await, "s2");
        s.assert_holds(400).await;
        s.fill(400..450).await;
        s.server.kill().unwrap();

        let mut s = start();
        s.assert_holds(450).await;
        assert_eq!(s.change(config("none")).await["error"], Value::Null);
        s.fill(450..500).await;
        let erased = s.api("STREAM.MSG.DELETE.S", json!({"seq": 250})).await;
        assert_eq!(erased["success"], true, "{erased}");
        s.server.terminate(LONG).unwrap();

        let mut s = start();
        assert!(s.stored("S", 250).await.is_none());
        for n in (0..500).filter(|n| *n != 249) {
            assert_eq!(s.stored("S", n as u64 + 1).await.unwrap().body, text(n));
        }
        let health = s.server.monitor_get("/healthz").unwrap();
        assert_eq!(health.status, 200, "{}", health.body);
    });
}

#[test]
fn compressed_blocks_are_smaller_and_hold_the_same() {
    through_restarts("");
}

#[test]
fn compressed_blocks_are_encrypted() {
    through_restarts("cipher: aes, key: secret");
}
