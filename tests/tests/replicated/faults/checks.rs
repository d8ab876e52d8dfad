//! What has to be so after everything is healed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::PullConsumer;
use futures_util::StreamExt as _;
use linnet_launch::Deadline;
use serde_json::{Value, json};

use super::super::trio::Trio;
use super::ledger::{Ledger, Promised};
use super::load::confirms;
use crate::harness::{LONG, eventually};

/// Messages that are asked for at a time.
const WINDOW: usize = 64;

/// Checks every stream through every server, and what the servers logged.
pub(super) async fn everything(trio: &mut Trio, streams: &[String], ledger: &Ledger) {
    for stream in streams {
        trio.all_current(stream).await;
        if &stream[..1] != "K" {
            drain(trio, stream, ledger).await;
        }
        let promised = ledger.promised(stream);
        assert!(!promised.acknowledged.is_empty(), "{stream}: nothing was acknowledged");
        let mut seen: Option<(Value, BTreeMap<u64, String>)> = None;
        for server in trio.names() {
            led_by(trio, stream, &server).await;
            trio.all_current(stream).await;
            let info = trio.info(stream).await;
            assert_eq!(
                info["cluster"]["leader"],
                json!(server),
                "{stream} has another leader though nothing happens"
            );
            let mut state = info["state"].clone();
            // How many consumers there are is not part of what was stored.
            state.as_object_mut().unwrap().remove("consumer_count");
            let messages = read(trio, stream, &info["state"]).await;
            compare(stream, &server, &promised, &messages);
            let (first_state, first_messages) = seen.get_or_insert_with(|| (state.clone(), messages.clone()));
            assert_eq!(*first_state, state, "{stream} at {server}");
            assert_eq!(*first_messages, messages, "{stream} at {server}");
        }
    }
    ledger.assert_sound("at the end");
    logs_are_clean(trio);
}

/// Each server knows the streams that were made, with their consumers, and none that was removed. Those that came and went
/// are removed then.
pub(super) async fn keeps_its_word(trio: &mut Trio, streams: &[String], ledger: &Ledger) {
    // What was called last and not answered may still be carried out.
    let there = eventually("the same streams at all servers", async || {
        let mut all = Vec::new();
        for server in trio.names() {
            let names = trio.api(&server, "STREAM.NAMES", json!({})).await;
            let names: BTreeSet<String> = serde_json::from_value(names["streams"].clone()).unwrap();
            assert!(streams.iter().all(|stream| names.contains(stream)), "{names:?} at {server}");
            ledger.assert_named(&names);
            all.push(names);
        }
        all.dedup();
        (all.len() == 1).then(|| all.remove(0))
    })
    .await;
    for stream in there.difference(&streams.iter().cloned().collect()) {
        eventually("a stream less", async || {
            let answer = trio.try_api("n0", &format!("STREAM.DELETE.{stream}"), &Value::Null).await?;
            // An earlier call may not have been answered in time.
            let is_gone = answer["success"] == json!(true) || answer["error"]["err_code"] == json!(10_059);
            is_gone.then_some(())
        })
        .await;
    }
    for stream in streams {
        let expected = if &stream[..1] == "K" { json!([]) } else { json!(["D"]) };
        let names = trio.api("n0", &format!("CONSUMER.NAMES.{stream}"), json!({})).await;
        assert_eq!(names["consumers"], expected, "{stream}");
    }
}

/// Every acknowledged message is there once, at its sequence.
fn compare(stream: &str, server: &str, promised: &Promised, messages: &BTreeMap<u64, String>) {
    let taken = &stream[..1] == "Q";
    for (seq, body) in &promised.acknowledged {
        match messages.get(seq) {
            Some(found) => assert_eq!(found, body, "{stream} at {server}: {seq}"),
            None if taken => {
                assert!(promised.delivered.contains(body), "{stream}: {seq} was never delivered")
            }
            // Only the last 64 of a key are kept.
            None if &stream[..1] == "K" => {
                let first = messages.keys().next().copied().unwrap_or(u64::MAX);
                assert!(*seq < first, "{stream} at {server}: {seq} is not there, and not too old");
            }
            None => panic!("{stream} at {server}: {seq} ({body}) is not there"),
        }
    }
    let bodies: BTreeSet<&String> = messages.values().collect();
    assert_eq!(bodies.len(), messages.len(), "{stream} at {server}: a message is there twice");
}

/// Takes all that is left; everything acknowledged was delivered then.
async fn drain(trio: &mut Trio, stream: &str, ledger: &Ledger) {
    let client = trio.restless().await;
    let context = async_nats::jetstream::new(client.clone());
    let consumer: PullConsumer = context.get_consumer_from_stream("D", stream).await.unwrap();
    let (mut progress, mut deadline) = (None, Deadline::after(LONG));
    loop {
        take_some(&client, &consumer, stream, ledger).await;
        let confirmed = ledger.confirmed_floor(stream);
        let info = trio.api("n0", &format!("CONSUMER.INFO.{stream}.D"), Value::Null).await;
        ledger.floor(stream, info["ack_floor"]["stream_seq"].as_u64().unwrap(), confirmed);
        if info["num_pending"] == json!(0) && info["num_ack_pending"] == json!(0) {
            break;
        }
        // There may be much of it.
        let now = Some((info["delivered"].clone(), info["ack_floor"].clone()));
        if std::mem::replace(&mut progress, now.clone()) != now {
            deadline = Deadline::after(LONG);
        }
        assert!(!deadline.has_passed(), "{stream}: nothing more comes, and not all has: {info}");
    }
    let promised = ledger.promised(stream);
    for (seq, body) in &promised.acknowledged {
        assert!(promised.delivered.contains(body), "{stream}: {seq} ({body}) was never delivered");
    }
}

async fn take_some(client: &Client, consumer: &PullConsumer, stream: &str, ledger: &Ledger) {
    let confirmed = ledger.confirmed(stream);
    let batch = consumer.fetch().max_messages(100).expires(Duration::from_millis(300)).messages();
    let Ok(mut batch) = batch.await else { return };
    while let Some(Ok(message)) = batch.next().await {
        let seq = message.info().unwrap().stream_sequence;
        ledger.deliver(stream, seq, &String::from_utf8_lossy(&message.payload), &confirmed);
        if confirms(client, &message).await {
            ledger.confirm(stream, seq);
        }
    }
}

/// Has a server lead a stream.
pub(in super::super) async fn led_by(trio: &mut Trio, stream: &str, server: &str) {
    let what = format!("{server} leads {stream}");
    eventually(&what, async || {
        if trio.leader(stream).await == server {
            return Some(());
        }
        let body = json!({"placement": {"preferred": server}});
        let _ = trio.try_api("n0", &format!("STREAM.LEADER.STEPDOWN.{stream}"), &body).await;
        None
    })
    .await;
}

/// Everything that its leader has, by sequence.
async fn read(trio: &Trio, stream: &str, state: &Value) -> BTreeMap<u64, String> {
    let client = trio.restless().await;
    let (first, last) = (state["first_seq"].as_u64().unwrap(), state["last_seq"].as_u64().unwrap());
    let gets = futures_util::stream::iter(first..=last).map(|seq| {
        let client = client.clone();
        let call = format!("$JS.API.STREAM.MSG.GET.{stream}");
        async move {
            let answer = client.request(call, json!({"seq": seq}).to_string().into()).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            if answer["error"]["err_code"] == 10_037 {
                return None;
            }
            let time = time_of(answer["message"]["time"].as_str().unwrap());
            let data = answer["message"]["data"].as_str().unwrap_or_else(|| panic!("{seq}: {answer}"));
            let data = data_encoding::BASE64.decode(data.as_bytes()).unwrap();
            Some((seq, (time, String::from_utf8(data).unwrap())))
        }
    });
    let messages: BTreeMap<u64, (String, String)> =
        gets.buffer_unordered(WINDOW).filter_map(std::future::ready).collect().await;
    let in_order = messages.values().is_sorted_by(|(one, _), (other, _)| one <= other);
    assert!(in_order, "{stream}: messages are older than those before them");
    let messages: BTreeMap<u64, String> = messages.into_iter().map(|(seq, (_, body))| (seq, body)).collect();
    assert_eq!(state["messages"], json!(messages.len()), "{stream} has what it counts: {state}");
    messages
}

/// A time that compares as text.
fn time_of(text: &str) -> String {
    let text = text.trim_end_matches('Z');
    let (seconds, part) = text.split_once('.').unwrap_or((text, ""));
    format!("{seconds}.{part:0<9}")
}

/// No server has met an error of its own.
fn logs_are_clean(trio: &Trio) {
    for member in trio.cluster.members() {
        let log = std::fs::read_to_string(member.server().log_file()).unwrap();
        let bad = log.lines().filter(|line| line.contains("internal error") || line.contains("panicked"));
        let bad: Vec<&str> = bad.collect();
        assert!(bad.is_empty(), "{}: {bad:#?}", member.name());
    }
}
