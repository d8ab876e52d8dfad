//! The server is killed at random moments under load. What it acknowledged is there afterwards, in order, once.
//!
//! `LINNET_CRASH_ROUNDS` sets the number of kills.

mod checker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use linnet_launch::{Deadline, JetStream, Options, Server, Spec, free_port};
use parking_lot::Mutex;
use serde_json::{Value, json};

use self::checker::{Found, FoundStream, Promises, StreamPromises, check};
use crate::compression::block_bytes;
use crate::harness::{JETSTREAM, Kind, LONG, program, run, setting, within};

const STREAMS: usize = 20;
/// Messages that fill several blocks of every stream in a short run.
const SEVERAL_BLOCKS: u64 = 8000;
/// Error of a stream that takes no more.
const FULL: u64 = 10_077;
/// Publishes of one stream that are under way at the same time.
const WINDOW: usize = 4;
/// Long enough that no acknowledgement is late, short enough that messages come again within a long run.
const ACK_WAIT_NANOS: u64 = 15_000_000_000;

/// What the clients remember.
#[derive(Default)]
struct Memory {
    promises: Promises,
    /// The number of the next message, by stream.
    next: Vec<u64>,
    /// The next consumer.
    next_consumer: u64,
    filler: usize,
}

/// What the store does with what it writes.
#[derive(Clone, Copy)]
struct Store {
    /// More of the server's `jetstream` block.
    settings: &'static str,
    /// `compression` of the streams.
    compression: &'static str,
    /// How much longer messages are than they could be: only what fills blocks is compressed.
    filler: usize,
}

const PLAIN: Store = Store { settings: "", compression: "none", filler: 1 };
const COMPRESSED: Store = Store { settings: "", compression: "s2", filler: 8 };
const ENCRYPTED: &str = "cipher: aes, key: secret";

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let rounds = setting("LINNET_CRASH_ROUNDS", 3);
    run(async || crash(rounds, PLAIN).await);
}

#[test]
fn what_was_acknowledged_survives_every_kill_of_an_encrypted_store() {
    let rounds = setting("LINNET_CRASH_ROUNDS", 3);
    run(async || crash(rounds, Store { settings: ENCRYPTED, ..PLAIN }).await);
}

#[test]
fn what_was_acknowledged_survives_every_kill_of_compressed_streams() {
    let rounds = setting("LINNET_CRASH_ROUNDS", 2);
    run(async || crash(rounds, COMPRESSED).await);
}

#[test]
fn what_was_acknowledged_survives_every_kill_of_compressed_streams_of_an_encrypted_store() {
    let rounds = setting("LINNET_CRASH_ROUNDS", 2);
    run(async || crash(rounds, Store { settings: ENCRYPTED, ..COMPRESSED }).await);
}

async fn crash(rounds: u64, store: Store) {
    let seed = setting("LINNET_CRASH_SEED", fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let jetstream = JetStream { extra: store.settings.to_owned(), ..JetStream::default() };
    let options = Options { port: Some(free_port().unwrap()), jetstream: Some(jetstream), ..JETSTREAM() };
    let spec = Spec::new(program(Kind::Linnet).unwrap()).options(options);
    let mut server = spec.ready(linnet_launch::Ready::Info, LONG).start().unwrap();
    let promises = Promises { streams: vec![StreamPromises::default(); STREAMS], ..Promises::default() };
    let memory = Arc::new(Mutex::new(Memory {
        promises,
        next: vec![0; STREAMS],
        next_consumer: 0,
        filler: store.filler,
    }));
    let client = connect(&server).await;
    for n in 0..STREAMS {
        let name = format!("S{n}");
        // More consumers come into being in many rounds than a stream has by default.
        let mut body = json!({"name": name, "subjects": [format!("s.{n}")], "max_consumers": 1_000_000,
            "compression": store.compression});
        if store.compression != "none" {
            // Blocks are the smaller the less there may be, and compressed once they are full.
            body["max_bytes"] = (rounds << 20).into();
            body["discard"] = "new".into();
        }
        api(&client, &format!("STREAM.CREATE.{name}"), body).await;
        let config = json!({"durable_name": "C", "ack_policy": "explicit", "ack_wait": ACK_WAIT_NANOS});
        let body = json!({"stream_name": name, "config": config});
        api(&client, &format!("CONSUMER.CREATE.{name}.C"), body).await;
    }
    let mut has_packed = false;
    for round in 0..rounds {
        let moment = Duration::from_millis(random.u64(100..1500));
        // Blocks are compressed by checkpoints, which are made by a server that stops: once it may finish, later it is
        // killed while it is at it.
        let stopping = match round {
            _ if store.compression == "none" => None,
            0 => Some(LONG),
            _ => random.bool().then(|| Duration::from_millis(random.u64(0..500))),
        };
        load_until_ended(&mut server, &memory, moment, stopping).await;
        let on_disk = block_bytes(server.dir());
        server.restart().unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        let client = connect(&server).await;
        let promises = memory.lock().promises.clone();
        let violations = check(&promises, &look(&client, store.filler).await);
        assert!(violations.is_empty(), "seed {seed}, round {round}: {violations:#?}");
        has_packed |= on_disk > 0 && on_disk < stored_bytes(&client).await / 2;
    }
    assert!(has_packed || store.compression == "none", "seed {seed}: no block was compressed");
    let promises = &memory.lock().promises;
    assert!(promises.streams.iter().any(|s| !s.acknowledged.is_empty()), "nothing was acknowledged");
    assert!(promises.streams.iter().any(|s| !s.confirmed.is_empty()), "nothing was confirmed");
    assert!(!promises.created.is_empty(), "no call was answered");
}

async fn connect(server: &Server) -> async_nats::Client {
    // A reader gets a whole stream at once, and the client drops what exceeds the capacity.
    let options = async_nats::ConnectOptions::new()
        .request_timeout(None)
        .max_reconnects(1)
        .subscription_capacity(1 << 24);
    within("connect", options.connect(server.client_url().unwrap())).await.unwrap()
}

async fn try_api(client: &async_nats::Client, subject: &str, body: Value) -> Option<Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = client.request(format!("$JS.API.{subject}"), body.into()).await.ok()?;
    serde_json::from_slice(&answer.payload).ok()
}

async fn api(client: &async_nats::Client, subject: &str, body: Value) -> Value {
    let answer = within(subject, try_api(client, subject, body)).await.unwrap();
    assert_eq!(answer["error"], Value::Null, "{subject}: {answer}");
    answer
}

/// Publishes, acknowledges and calls until the moment comes, then kills the server.
/// Kills the server under load at that moment, or has it stop then without load and kills it unless it has ended after
/// `stopping`.
async fn load_until_ended(
    server: &mut Server,
    memory: &Arc<Mutex<Memory>>,
    moment: Duration,
    stopping: Option<Duration>,
) {
    let mut tasks = tokio::task::JoinSet::new();
    let client = connect(server).await;
    for stream in 0..STREAMS {
        for _ in 0..WINDOW {
            tasks.spawn(publish(client.clone(), memory.clone(), stream));
        }
    }
    let consuming = connect(server).await;
    for stream in 0..STREAMS {
        tasks.spawn(consume(consuming.clone(), memory.clone(), stream));
    }
    tasks.spawn(manage(connect(server).await, memory.clone()));
    let (until, latest) = (Deadline::after(moment), Deadline::after(LONG));
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let is_too_little = || stopping == Some(LONG) && memory.lock().next.iter().sum::<u64>() < SEVERAL_BLOCKS;
    while !until.has_passed() || (is_too_little() && !latest.has_passed()) {
        ticks.tick().await;
    }
    if stopping.is_none() {
        server.kill().unwrap();
    }
    // What was under way has no answer; nobody waits for it.
    tasks.abort_all();
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    if let Some(patience) = stopping
        && server.terminate(patience).is_err()
    {
        server.kill().unwrap();
    }
}

async fn publish(client: async_nats::Client, memory: Arc<Mutex<Memory>>, stream: usize) {
    loop {
        let (number, filler) = {
            let mut memory = memory.lock();
            memory.next[stream] += 1;
            (memory.next[stream], memory.filler)
        };
        let body = body_of(number, filler);
        let Ok(answer) = client.request(format!("s.{stream}"), body.into()).await else { return };
        let Ok(answer) = serde_json::from_slice::<Value>(&answer.payload) else { return };
        if answer["error"]["err_code"] == FULL {
            return;
        }
        let seq = answer["seq"].as_u64().filter(|seq| *seq > 0).unwrap_or_else(|| panic!("{answer}"));
        memory.lock().promises.acknowledge(stream, seq, number).unwrap();
    }
}

async fn consume(client: async_nats::Client, memory: Arc<Mutex<Memory>>, stream: usize) {
    let inbox = client.new_inbox();
    let Ok(mut messages) = client.subscribe(inbox.clone()).await else { return };
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.S{stream}.C");
    loop {
        let pull = client.publish_with_reply(next.clone(), inbox.clone(), Bytes::from_static(b"10"));
        if pull.await.is_err() {
            return;
        }
        for _ in 0..10 {
            let Some(message) = messages.next().await else { return };
            let Some(reply) = message.reply else { return };
            let seq = reply.split('.').nth(5).unwrap().parse().unwrap();
            if client.request(reply, Bytes::from_static(b"+ACK")).await.is_err() {
                return;
            }
            memory.lock().promises.confirm(stream, seq).unwrap();
        }
    }
}

/// Creates consumers and deletes every second one.
async fn manage(client: async_nats::Client, memory: Arc<Mutex<Memory>>) {
    loop {
        let number = {
            let mut memory = memory.lock();
            memory.next_consumer += 1;
            memory.next_consumer
        };
        let name = format!("M{number}");
        let body = json!({"stream_name": "S0", "config": {"durable_name": name, "ack_policy": "explicit"}});
        let Some(answer) = try_api(&client, &format!("CONSUMER.CREATE.S0.{name}"), body).await else {
            return;
        };
        assert_eq!(answer["error"], Value::Null, "{answer}");
        memory.lock().promises.created.insert(name.clone());
        if number % 2 == 0 {
            // From the request on it may be gone; only the answer makes it a promise.
            memory.lock().promises.created.remove(&name);
            let Some(answer) = try_api(&client, &format!("CONSUMER.DELETE.S0.{name}"), Value::Null).await
            else {
                return;
            };
            assert_eq!(answer["success"], true, "{answer}");
            memory.lock().promises.deleted.insert(name);
        }
    }
}

/// The body of a message, which tells whether it is whole.
fn body_of(number: u64, filler: usize) -> String {
    format!("{number}:{}", "x".repeat(filler * usize::try_from(number % 499).unwrap()))
}

/// The number of a message that is whole.
fn number_of(body: &[u8], filler: usize) -> Option<u64> {
    let number = std::str::from_utf8(body).ok()?.split_once(':')?.0.parse().ok()?;
    (body == body_of(number, filler).as_bytes()).then_some(number)
}

#[test]
fn a_body_that_is_not_whole_has_no_number() {
    let body = body_of(1234, 2);
    assert_eq!(number_of(body.as_bytes(), 2), Some(1234));
    assert_eq!(number_of(&body.as_bytes()[1..], 2), None);
    assert_eq!(number_of(&body.as_bytes()[..body.len() - 1], 2), None);
    assert_eq!(number_of(body.replacen('x', "y", 1).as_bytes(), 2), None);
}

/// Everything that the server has and that was promised.
async fn look(client: &async_nats::Client, filler: usize) -> Found {
    let mut found = Found { streams: Vec::new(), consumers: consumer_names(client).await };
    for stream in 0..STREAMS {
        let messages = read_all(client, stream, filler).await;
        let info = api(client, &format!("CONSUMER.INFO.S{stream}.C"), Value::Null).await;
        found.streams.push(FoundStream {
            messages,
            delivered: info["delivered"]["stream_seq"].as_u64().unwrap(),
            floor: info["ack_floor"]["stream_seq"].as_u64().unwrap(),
            pending: info["num_ack_pending"].as_u64().unwrap(),
        });
    }
    found
}

/// What the streams hold, in bytes as the API counts them.
async fn stored_bytes(client: &async_nats::Client) -> u64 {
    let mut bytes = 0;
    for stream in 0..STREAMS {
        let info = api(client, &format!("STREAM.INFO.S{stream}"), Value::Null).await;
        bytes += info["state"]["bytes"].as_u64().unwrap();
    }
    bytes
}

async fn consumer_names(client: &async_nats::Client) -> BTreeSet<String> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let page = api(client, "CONSUMER.NAMES.S0", json!({"offset": names.len()})).await;
        let found = page["consumers"].as_array().unwrap();
        names.extend(found.iter().map(|name| name.as_str().unwrap().to_owned()));
        if found.is_empty() || names.len() as u64 >= page["total"].as_u64().unwrap() {
            break;
        }
    }
    names.into_iter().collect()
}

/// Sequence and number of every message in order, read with an ordered consumer's means.
async fn read_all(client: &async_nats::Client, stream: usize, filler: usize) -> Vec<(u64, Option<u64>)> {
    let info = api(client, &format!("STREAM.INFO.S{stream}"), Value::Null).await;
    let count = info["state"]["messages"].as_u64().unwrap();
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await.unwrap();
    let config = json!({"deliver_subject": inbox, "ack_policy": "none", "mem_storage": true,
        "inactive_threshold": 60_000_000_000_u64});
    let body = json!({"stream_name": format!("S{stream}"), "config": config});
    let reader = api(client, &format!("CONSUMER.CREATE.S{stream}"), body).await;
    let mut stored: Vec<(u64, Option<u64>)> = Vec::new();
    while (stored.len() as u64) < count {
        let Ok(message) = tokio::time::timeout(LONG, messages.next()).await else {
            let name = reader["name"].as_str().unwrap();
            let now = api(client, &format!("CONSUMER.INFO.S{stream}.{name}"), Value::Null).await;
            let last = stored.last().map(|(seq, _)| *seq);
            panic!("stream {stream} stops after {last:?}\nat the start: {info}\nits reader: {now}");
        };
        let message = message.unwrap();
        let seq: u64 = message.reply.unwrap().split('.').nth(5).unwrap().parse().unwrap();
        stored.push((seq, number_of(&message.payload, filler)));
    }
    stored
}
