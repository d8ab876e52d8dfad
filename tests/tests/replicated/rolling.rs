//! Programs of users at work while servers are restarted one after the other.

#![allow(clippy::print_stderr, reason = "what the program was told is with a failed run")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{self, consumer, kv, object_store, stream};
use futures_util::StreamExt as _;
use linnet_launch::Deadline;
use parking_lot::Mutex;
use tokio::task::{JoinSet, LocalSet};

use super::failover::goes_on;
use super::trio::{Trio, run};
use crate::harness::{Kind, LONG, eventually, python, within};

/// How long the program waits for an answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it waits for something to come before it looks whether it is to end.
const A_MOMENT: Duration = Duration::from_millis(100);
/// When it tries again; client libraries that do so themselves wait as long.
const RETRY: Duration = Duration::from_millis(250);

/// Restarts every server in order, each once the one before is healthy.
async fn roll(trio: &mut Trio, streams: &[&str]) {
    for name in trio.names() {
        for stream in streams {
            goes_on(trio, stream).await;
        }
        trio.terminate(&name);
        trio.restart(&name);
        eventually("a healthy server", async || (trio.get(&name, "/healthz")?.status == 200).then_some(()))
            .await;
        for stream in streams {
            trio.all_current(stream).await;
        }
    }
}

/// What the program saw, and whether it is to end.
#[derive(Default)]
struct Seen {
    has_ended: AtomicBool,
    /// Nothing more is published, or written to the key.
    has_published: AtomicBool,
    has_written: AtomicBool,
    /// Body by sequence.
    acknowledged: Mutex<BTreeMap<u64, String>>,
    /// What was written to the key, by revision.
    written: Mutex<BTreeMap<u64, String>>,
}

impl Seen {
    fn goes_on(&self) -> bool {
        !self.has_ended.load(Ordering::Relaxed)
    }
}

/// Does it, and once again if it failed.
async fn once_more<T, E: std::fmt::Debug>(what: &str, mut call: impl AsyncFnMut() -> Result<T, E>) -> T {
    match within(what, call()).await {
        Ok(value) => value,
        Err(error) => {
            eprintln!("{what} again after {error:?}");
            tokio::time::sleep(RETRY).await;
            within(what, call()).await.unwrap_or_else(|error| panic!("{what}: {error:?}"))
        }
    }
}

async fn publish(js: jetstream::Context, seen: Arc<Seen>) {
    for n in 0_u64.. {
        let (id, body) = (format!("id{n}"), n.to_string());
        let ack = once_more(&format!("publish {n}"), async || {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", id.as_str());
            let ack = js.publish_with_headers("rs.m", headers, body.clone().into()).await?;
            ack.await
        })
        .await;
        let before = seen.acknowledged.lock().insert(ack.sequence, body);
        assert_eq!(before, None, "{} is used twice", ack.sequence);
        if !seen.goes_on() {
            return seen.has_published.store(true, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn pull(js: jetstream::Context, seen: Arc<Seen>) {
    let stream = js.get_stream("RS").await.unwrap();
    let config = consumer::pull::Config {
        durable_name: Some("D".to_owned()),
        ack_wait: Duration::from_secs(3),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let (mut idle, mut delivered) = (None, BTreeSet::new());
    // The library asks again itself, and says so when it could not.
    let mut messages = consumer.messages().await.unwrap();
    let (mut taken, mut confirmed, mut doubtful) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    loop {
        let is_settled = |sequence: &u64| confirmed.contains(sequence) || doubtful.contains(sequence);
        if seen.has_published.load(Ordering::Relaxed) && seen.acknowledged.lock().keys().all(is_settled) {
            break;
        }
        let deadline = idle.get_or_insert_with(|| Deadline::after(LONG));
        let next = tokio::time::timeout(A_MOMENT, messages.next()).await;
        if next.is_ok() {
            idle = None;
        } else {
            assert!(!deadline.has_passed(), "the consumer is stuck behind {:?}", taken.last());
            continue;
        }
        let message = match next {
            Ok(Some(Ok(message))) => message,
            Ok(Some(Err(error))) => {
                eprintln!("pull: {error:?}");
                continue;
            }
            Ok(None) | Err(_) => panic!("the consumer has ended"),
        };
        let info = message.info().unwrap();
        let sequence = info.stream_sequence;
        assert!(!confirmed.contains(&sequence), "{sequence} came again");
        delivered.insert(sequence);
        // What is delivered again may come behind what followed it.
        if info.delivered == 1 {
            taken.push(sequence);
        }
        let body = String::from_utf8_lossy(&message.payload).into_owned();
        if let Some(acknowledged) = seen.acknowledged.lock().get(&sequence) {
            assert_eq!(*acknowledged, body, "at {sequence}");
        }
        match tokio::time::timeout(ANSWER, message.double_ack()).await {
            Ok(Ok(())) => drop(confirmed.insert(sequence)),
            other => {
                eprintln!("ack of {sequence}: {other:?}");
                // It may have arrived.
                doubtful.insert(sequence);
            }
        }
    }
    assert!(taken.is_sorted(), "out of order");
    for sequence in seen.acknowledged.lock().keys() {
        assert!(delivered.contains(sequence), "{sequence} was never delivered");
    }
}

async fn write(store: kv::Store, seen: Arc<Seen>) {
    for n in 0_u64.. {
        let value = n.to_string();
        let revision =
            once_more(&format!("put {n}"), async || store.put("key", value.clone().into()).await).await;
        seen.written.lock().insert(revision, value);
        if !seen.goes_on() {
            return seen.has_written.store(true, Ordering::Relaxed);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn watch(store: kv::Store, seen: Arc<Seen>) {
    let mut watched: BTreeMap<u64, String> = BTreeMap::new();
    let mut watch = store.watch("key").await.unwrap();
    let mut idle = None;
    loop {
        let is_all = seen.written.lock().last_key_value().is_some_and(|last| watched.contains_key(last.0));
        if seen.has_written.load(Ordering::Relaxed) && is_all {
            break;
        }
        let deadline = idle.get_or_insert_with(|| Deadline::after(LONG));
        let Ok(entry) = tokio::time::timeout(A_MOMENT, watch.next()).await else {
            assert!(!deadline.has_passed(), "the watch is stuck behind {:?}", watched.last_key_value());
            continue;
        };
        idle = None;
        let entry = match entry.expect("the watch goes on") {
            Ok(entry) => entry,
            Err(error) => {
                eprintln!("watch: {error:?}");
                continue;
            }
        };
        let last = watched.last_key_value().map_or(0, |last| *last.0);
        assert!(entry.revision > last, "{} after {last}", entry.revision);
        watched.insert(entry.revision, String::from_utf8_lossy(&entry.value).into_owned());
    }
    for (revision, value) in seen.written.lock().iter() {
        assert_eq!(watched.get(revision), Some(value), "at {revision}");
    }
}

async fn put(objects: object_store::ObjectStore, seen: Arc<Seen>) {
    use tokio::io::AsyncReadExt as _;
    for n in 0_u64.. {
        let name = format!("o{n}");
        let body = name.repeat(100_000);
        once_more(&format!("object {n}"), async || objects.put(name.as_str(), &mut body.as_bytes()).await)
            .await;
        once_more(&format!("get {n}"), async || {
            let mut object = objects.get(&name).await.map_err(|error| error.to_string())?;
            let mut got = String::new();
            object.read_to_string(&mut got).await.map_err(|error| error.to_string())?;
            (got == body).then_some(()).ok_or_else(|| format!("{} of {} bytes", got.len(), body.len()))
        })
        .await;
        if !seen.goes_on() {
            return;
        }
    }
}

/// Publishes with an id and one retry, pulls, watches a key, puts and gets objects, with async-nats.
#[test]
fn a_program_with_async_nats_hardly_notices_a_rolling_restart() {
    run(Kind::Linnet, async |trio| {
        let client = trio.roaming().await;
        let mut js = jetstream::new(client);
        js.set_timeout(ANSWER);
        let config = stream::Config {
            name: "RS".to_owned(),
            subjects: vec!["rs.m".to_owned()],
            num_replicas: 3,
            ..Default::default()
        };
        js.create_stream(config).await.unwrap();
        let config =
            kv::Config { bucket: "KV".to_owned(), history: 64, num_replicas: 3, ..Default::default() };
        let store = js.create_key_value(config).await.unwrap();
        let config = object_store::Config { bucket: "OBJ".to_owned(), num_replicas: 3, ..Default::default() };
        let objects = js.create_object_store(config).await.unwrap();
        let seen = Arc::new(Seen::default());
        let (mut work, local) = (JoinSet::new(), LocalSet::new());
        work.spawn_local_on(publish(js.clone(), seen.clone()), &local);
        work.spawn_local_on(pull(js.clone(), seen.clone()), &local);
        work.spawn_local_on(write(store.clone(), seen.clone()), &local);
        work.spawn_local_on(watch(store, seen.clone()), &local);
        work.spawn_local_on(put(objects, seen.clone()), &local);
        let rolled = async {
            roll(trio, &["RS", "KV_KV"]).await;
            seen.has_ended.store(true, Ordering::Relaxed);
            while let Some(done) = within("the end of the program", work.join_next()).await {
                done.unwrap();
            }
        };
        local.run_until(rolled).await;
        assert!(seen.acknowledged.lock().len() > 10 && seen.written.lock().len() > 10);
    });
}

/// The same with nats-py.
#[test]
fn a_program_with_nats_py_hardly_notices_a_rolling_restart() {
    let Some(python) = python() else { return };
    run(Kind::Linnet, async |trio| {
        let urls: Vec<String> = trio.names().iter().map(|name| trio.url(name)).collect();
        let mut program = begin(&python, &urls.join(","));
        assert_eq!(line(&mut program), "READY");
        let mut said = program.stderr.take().unwrap();
        let said = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            said.read_to_string(&mut text).map(|_| text)
        });
        let status = {
            let early = eventually_ended(&mut program);
            tokio::select! {
                () = roll(trio, &["PY", "KV_PYKV"]) => None,
                status = early => Some(status),
            }
        };
        drop(program.stdin.take());
        let said = within("the end of the program", said).await.unwrap().unwrap();
        assert_eq!(status, None, "it ended early: {said}");
        let status = program.wait().unwrap();
        assert!(status.success(), "{status}: {said}");
    });
}

/// The status of a program that ends by itself.
async fn eventually_ended(program: &mut Child) -> ExitStatus {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        if let Some(status) = program.try_wait().unwrap() {
            return status;
        }
    }
}

fn begin(python: &Path, urls: &str) -> Child {
    Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/rolling.py"))
        .arg(urls)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn line(program: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}
