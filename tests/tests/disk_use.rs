//! What many streams within their limits take on the disk.
//!
//! `LINNET_CAP_STREAMS` and `LINNET_CAP_MB` set the number of streams and what goes through all of them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use futures_util::future::join_all;
use linnet_launch::{JetStream, Options, Spec};
use serde_json::{Value, json};

use crate::harness::{Fixture, JETSTREAM, Kind, program, run, setting, within};

const MIB: u64 = 1 << 20;
const STREAM_MAX: u64 = 1_000_000;
const MESSAGE: usize = 64 << 10;
const IN_FLIGHT: u64 = 128;
/// What a server keeps of each stream beyond its limit: blocks that are partly removed, and small files.
const PER_STREAM: u64 = 160 << 10;
/// What was removed and not yet given back, of all streams.
const DEAD: u64 = 128 * MIB;
const LOG: u64 = 1 << 30;

/// Bytes that files take on the disk.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    log: u64,
    blocks: u64,
}

impl Taken {
    /// Files may come and go meanwhile.
    fn by(store: &Path) -> Self {
        let mut taken = Self::default();
        let mut dirs = vec![store.to_owned()];
        while let Some(dir) = dirs.pop() {
            let is_log = dir.ends_with("wal");
            let Some(entries) = there(fs::read_dir(&dir)) else { continue };
            for entry in entries.map(Result::unwrap) {
                let Some(metadata) = there(entry.metadata()) else { continue };
                if metadata.is_dir() {
                    dirs.push(entry.path());
                } else {
                    let bytes = metadata.blocks() * 512;
                    *if is_log { &mut taken.log } else { &mut taken.blocks } += bytes;
                }
            }
        }
        taken
    }
}

fn there<T>(outcome: io::Result<T>) -> Option<T> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        outcome => Some(outcome.unwrap()),
    }
}

#[test]
fn streams_within_their_limits_take_little_more_on_the_disk() {
    let streams = setting("LINNET_CAP_STREAMS", 40);
    let bytes = setting("LINNET_CAP_MB", 500) * 1_000_000;
    run(async move || {
        let store = tempfile::tempdir().unwrap();
        let jetstream = JetStream { store_dir: Some(store.path().to_owned()), ..JetStream::default() };
        let options = Options { jetstream: Some(jetstream), ..JETSTREAM() };
        let spec = Spec::new(program(Kind::Linnet).unwrap()).options(options);
        let mut s = Fixture::start(Kind::Linnet, spec);
        // It stands in the oldest part of the log and changes no more.
        s.api("STREAM.CREATE.IDLE", json!({"name": "IDLE", "subjects": ["idle"]})).await;
        assert_eq!(s.request("idle", "x").await["seq"], 1);
        for n in 0..streams {
            let name = format!("S{n}");
            let config = json!({"name": name, "subjects": [format!("s.{n}")], "max_bytes": STREAM_MAX});
            let answer = s.api(&format!("STREAM.CREATE.{name}"), config).await;
            assert!(answer["error"].is_null(), "{answer}");
        }
        let mut most = Taken::default();
        let mut body = vec![0; MESSAGE];
        fastrand::fill(&mut body);
        let (client, body) = (s.client().await, bytes::Bytes::from(body));
        for sent in (0..bytes / MESSAGE as u64).step_by(IN_FLIGHT as usize) {
            let publish = |n| client.request(format!("s.{}", n % streams), body.clone());
            let answers = within("acknowledgements", join_all((sent..sent + IN_FLIGHT).map(publish))).await;
            for answer in answers {
                let answer: Value = serde_json::from_slice(&answer.unwrap().payload).unwrap();
                assert!(answer["error"].is_null(), "{answer}");
            }
            let taken = Taken::by(store.path());
            most = Taken { log: most.log.max(taken.log), blocks: most.blocks.max(taken.blocks) };
            assert!(taken.log + taken.blocks <= streams * STREAM_MAX + LOG, "{taken:?}");
            assert!(taken.blocks <= streams * (STREAM_MAX + PER_STREAM) + DEAD, "{taken:?}");
        }
        println!("{streams} streams, {bytes} bytes: at most {most:?}");
        assert_eq!(s.api("STREAM.MSG.GET.IDLE", json!({"seq": 1})).await["message"]["data"], "eA==");
    });
}
