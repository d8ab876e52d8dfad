//! What has to be so after everything is healed.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::super::trio::Trio;
use super::ledger::{Ledger, Promised};
use super::load::confirms;
use crate::harness::eventually;

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
    let consumer: async_nats::jetstream::consumer::PullConsumer =
        context.get_consumer_from_stream("D", stream).await.unwrap();
    eventually(&format!("{stream}: everything is taken"), async || {
        let confirmed = ledger.confirmed(stream);
        let batch = consumer.fetch().max_messages(100).expires(std::time::Duration::from_millis(300));
        let mut batch = batch.messages().await.ok()?;
        while let Some(Ok(message)) = batch.next().await {
            let seq = message.info().unwrap().stream_sequence;
            ledger.deliver(stream, seq, &String::from_utf8_lossy(&message.payload), &confirmed);
            if confirms(&client, &message).await {
                ledger.confirm(stream, seq);
            }
        }
        let info = trio.api("n0", &format!("CONSUMER.INFO.{stream}.D"), Value::Null).await;
        ledger.floor(stream, info["ack_floor"]["stream_seq"].as_u64().unwrap());
        (info["num_pending"] == json!(0) && info["num_ack_pending"] == json!(0)).then_some(())
    })
    .await;
    let promised = ledger.promised(stream);
    for (seq, body) in &promised.acknowledged {
        assert!(promised.delivered.contains(body), "{stream}: {seq} ({body}) was never delivered");
    }
}

/// Has a server lead a stream.
async fn led_by(trio: &mut Trio, stream: &str, server: &str) {
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
            let data = answer["message"]["data"].as_str().unwrap_or_else(|| panic!("{seq}: {answer}"));
            let data = data_encoding::BASE64.decode(data.as_bytes()).unwrap();
            Some((seq, String::from_utf8(data).unwrap()))
        }
    });
    let messages: BTreeMap<u64, String> =
        gets.buffer_unordered(WINDOW).filter_map(std::future::ready).collect().await;
    assert_eq!(state["messages"], json!(messages.len()), "{stream} has what it counts: {state}");
    messages
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
