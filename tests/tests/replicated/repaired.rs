//! Damage in the stores of replicas is made good by other replicas.

use std::path::PathBuf;

use futures_util::StreamExt;
use serde_json::{Value, json};

use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually};
use crate::scrub::flip_byte;

const MSGS: u64 = 300;

/// A stream with several blocks on every server; the messages.
pub(super) async fn filled(trio: &mut Trio) -> Vec<String> {
    trio.stream("S", 3, json!({"max_bytes": 8 << 20, "allow_direct": true})).await;
    let client = trio.roaming().await;
    let mut ids = Vec::new();
    for n in 1..=MSGS {
        let id = format!("{n}-{}", "x".repeat(8_000));
        assert_eq!(publish(&client, "s", &id).await, n);
        ids.push(id);
    }
    trio.all_current("S").await;
    ids
}

/// Block files of the stream on a server that does not run, or of the catalogue.
pub(super) fn blocks(trio: &Trio, server: &str, of_catalogue: bool) -> Vec<PathBuf> {
    let groups = trio.store_of(server).join("jetstream/groups");
    let mut found = Vec::new();
    for group in std::fs::read_dir(groups).unwrap().map(|entry| entry.unwrap()) {
        let is_catalogue = group.file_name().to_str().unwrap().bytes().all(|b| b == b'0');
        if is_catalogue == of_catalogue {
            let files = std::fs::read_dir(group.path()).unwrap().map(|entry| entry.unwrap().path());
            found.extend(files.filter(|path| path.extension().is_some_and(|e| e == "blk")));
        }
    }
    found.sort();
    assert!(!found.is_empty());
    found
}

/// Waits until a server has nothing damaged.
pub(super) async fn is_whole(trio: &Trio, server: &str) {
    let member = trio.cluster.members().iter().find(|member| member.name() == server).unwrap();
    eventually(&format!("{server} is whole"), async || {
        let page = member.server().monitor_get("/healthz?details=true").ok()?.body;
        (page.contains("\"ok\"") && !page.contains("damaged")).then_some(())
    })
    .await;
}

/// Has a server lead the stream.
pub(super) async fn leads(trio: &mut Trio, server: &str) {
    let deadline = linnet_launch::Deadline::after(crate::harness::LONG);
    while trio.leader("S").await != server {
        assert!(!deadline.has_passed(), "{server} does not come to lead");
        let body = json!({"placement": {"preferred": server}});
        let _ = trio.try_api(server, "STREAM.LEADER.STEPDOWN.S", &body).await;
    }
}

/// Every message is there, read from the leader.
pub(super) async fn reads_everything(trio: &mut Trio, ids: &[String]) {
    let info = trio.info("S").await;
    assert!(info["state"]["lost"].is_null(), "{info}");
    assert_eq!(info["state"]["messages"], json!(MSGS), "{}", trio.all_logs());
    let client = trio.roaming().await;
    let js = async_nats::jetstream::new(client);
    let stream = js.get_stream("S").await.unwrap();
    for (seq, id) in (1..).zip(ids) {
        let payload = stream.get_raw_message(seq).await.unwrap().payload;
        assert!(payload == id.as_bytes(), "message {seq} is another");
    }
}

#[test]
fn a_follower_gets_from_others_what_is_damaged_in_its_store() {
    run(Kind::Linnet, async |trio| {
        let ids = filled(trio).await;
        let victim = trio.members("S").await[1].clone();
        trio.terminate(&victim);
        let files = blocks(trio, &victim, false);
        assert!(files.len() >= 4, "{files:?}");
        // A message that is known by its index; some that are lost as the block is read; a whole block.
        flip_byte(&files[0], 20_000);
        flip_byte(&files[1], 40_000);
        flip_byte(&files[1], 90_000);
        let _ = std::fs::remove_file(files[1].with_extension("idx"));
        std::fs::remove_file(&files[2]).unwrap();
        trio.restart(&victim);
        is_whole(trio, &victim).await;
        leads(trio, &victim).await;
        reads_everything(trio, &ids).await;
        // What was lost is a duplicate all the same.
        let client = trio.roaming().await;
        for n in [1, 80, 140, MSGS] {
            assert_eq!(publish(&client, "s", &ids[usize::try_from(n - 1).unwrap()]).await, n);
        }
        trio.kill(&victim);
        trio.restart(&victim);
        is_whole(trio, &victim).await;
        leads(trio, &victim).await;
        reads_everything(trio, &ids).await;
    });
}

#[test]
fn replicas_that_are_damaged_in_different_places_make_each_other_whole() {
    run(Kind::Linnet, async |trio| {
        let ids = filled(trio).await;
        let names = trio.names();
        for name in &names {
            trio.terminate(name);
        }
        for (n, name) in names.iter().enumerate() {
            let files = blocks(trio, name, false);
            for at in [20_000, 300_000] {
                flip_byte(&files[n], at);
                flip_byte(&files[n + 1], at + 100_000 * (1 + n as u64));
            }
            // Of one block in two, each message is looked at when the store opens.
            let _ = std::fs::remove_file(files[n].with_extension("idx"));
        }
        for name in &names {
            trio.restart(name);
        }
        trio.has_leader().await;
        // Whoever leads is read, while it may lack something.
        let client = trio.roaming().await;
        let js = async_nats::jetstream::new(client);
        let stream = eventually("the stream", async || js.get_stream("S").await.ok()).await;
        let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
        let consumer = stream.create_consumer(config).await.unwrap();
        let messages = consumer.messages().await.unwrap();
        let mut read = messages.take(ids.len());
        for id in &ids {
            let message = tokio::time::timeout(crate::harness::LONG, read.next()).await;
            let message = message.expect("every message comes").unwrap().unwrap();
            let seq = message.info().unwrap().stream_sequence;
            assert!(message.payload == id.as_bytes(), "{seq} came: {}", trio.all_logs());
        }
        for name in &names {
            is_whole(trio, name).await;
            leads(trio, name).await;
            reads_everything(trio, &ids).await;
        }
    });
}

#[test]
fn a_damaged_catalogue_is_made_whole() {
    run(Kind::Linnet, async |trio| {
        for name in ["A", "B", "C"] {
            trio.stream(name, 3, json!({})).await;
        }
        let leader = trio.meta_leader().await;
        let victim = trio.names().into_iter().find(|name| *name != leader).unwrap();
        trio.terminate(&victim);
        let files = blocks(trio, &victim, true);
        let _ = std::fs::remove_file(files[0].with_extension("idx"));
        flip_byte(&files[0], 60);
        trio.restart(&victim);
        trio.logs(&victim, "damaged messages are repaired").await;
        is_whole(trio, &victim).await;
        let answer = trio.api(&victim, "STREAM.NAMES", Value::Null).await;
        assert_eq!(answer["streams"], json!(["A", "B", "C"]));
    });
}
