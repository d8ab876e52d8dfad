//! Streams get more replicas and fewer, while they are written to.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::failover::{Publisher, goes_on};
use super::trio::{Trio, publish, run, run_on};
use crate::harness::{Kind, LONG, eventually};

async fn scale(trio: &mut Trio, stream: &str, replicas: usize) {
    let config = json!({"name": stream, "subjects": [stream.to_lowercase()], "num_replicas": replicas});
    let at = trio.running().remove(0);
    let answer = trio.api(&at, &format!("STREAM.UPDATE.{stream}"), config).await;
    assert_eq!(answer["config"]["num_replicas"], json!(replicas), "{answer}");
}

#[test]
fn a_stream_grows_to_five_replicas_and_shrinks_to_one() {
    run_on(Kind::Linnet, 5, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let publisher = Publisher::begin(trio, "s").await;
        for count in [5, 3, 5, 1] {
            scale(trio, "S", count).await;
            trio.has_replicas("S", count).await;
            let members = trio.members("S").await;
            for server in trio.names().iter().filter(|name| !members.contains(name)) {
                trio.has_no_streams(server).await;
            }
        }
        let published = publisher.end().await;
        assert!(published.count() > 30);
        published.is_in(trio, "S").await;
    });
}

/// Has the consumer `d` of a stream deliver two messages, of which the first is acknowledged for certain.
pub(super) async fn deliver_two(trio: &mut Trio, stream: &str) {
    let at = trio.running().remove(0);
    let config = json!({"durable_name": "d", "ack_policy": "explicit", "ack_wait": 3_600_000_000_000_i64});
    let create = json!({"stream_name": stream, "config": config});
    trio.api(&at, &format!("CONSUMER.DURABLE.CREATE.{stream}.d"), create).await;
    let client = trio.at(&at).await;
    let mut inbox = client.subscribe("two").await.unwrap();
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.d");
    client.publish_with_reply(next, "two", r#"{"batch":2}"#.into()).await.unwrap();
    let first = tokio::time::timeout(LONG, inbox.next()).await.unwrap().unwrap();
    tokio::time::timeout(LONG, inbox.next()).await.unwrap().unwrap();
    client.request(first.reply.unwrap(), "+ACK".into()).await.unwrap();
    inbox.unsubscribe().await.unwrap();
}

/// What the consumer `d` of a stream has delivered, and what it knows to be acknowledged.
pub(super) async fn delivered(trio: &mut Trio, stream: &str) -> (Value, Value, Value) {
    let at = trio.running().remove(0);
    let info = trio.api(&at, &format!("CONSUMER.INFO.{stream}.d"), Value::Null).await;
    let (delivered, floor) = (&info["delivered"]["stream_seq"], &info["ack_floor"]["stream_seq"]);
    (delivered.clone(), floor.clone(), info["num_ack_pending"].clone())
}

#[test]
fn a_stream_with_one_replica_gets_more() {
    run_on(Kind::Linnet, 5, async |trio| {
        for (stream, storage, subject, count) in [("F", "file", "f", 3), ("M", "memory", "m", 5)] {
            trio.stream(stream, 1, json!({"storage": storage})).await;
            let client = trio.roaming().await;
            for n in 1..=50 {
                assert_eq!(publish(&client, subject, &n.to_string()).await, n);
            }
            deliver_two(trio, stream).await;
            let holder = trio.leader(stream).await;
            let publisher = Publisher::begin(trio, subject).await;
            let config = json!({"name": stream, "subjects": [subject], "num_replicas": count,
                "storage": storage});
            let at = trio.running().remove(0);
            let answer = trio.api(&at, &format!("STREAM.UPDATE.{stream}"), config).await;
            assert_eq!(answer["config"]["num_replicas"], json!(count), "{answer}");
            trio.has_replicas(stream, count).await;
            assert_eq!(trio.leader(stream).await, holder, "who has everything leads");
            goes_on(trio, stream).await;
            assert_eq!(publish(&client, subject, "7").await, 7, "ids are remembered");
            trio.kill(&holder);
            goes_on(trio, stream).await;
            assert_eq!(delivered(trio, stream).await, (json!(2), json!(1), json!(1)));
            assert_eq!(publish(&client, subject, "9").await, 9, "ids are remembered by others");
            trio.restart(&holder);
            trio.has_replicas(stream, count).await;
            let published = publisher.end().await;
            published.is_in(trio, stream).await;
        }
    });
}

#[test]
fn new_replicas_have_what_was_stored_before_them() {
    for storage in ["file", "memory"] {
        run_on(Kind::Linnet, 4, async |trio| {
            trio.stream("S", 3, json!({"storage": storage})).await;
            let client = trio.roaming().await;
            for n in 1..=50 {
                assert_eq!(publish(&client, "s", &n.to_string()).await, n);
            }
            let members = trio.members("S").await;
            let spare = trio.names().into_iter().find(|name| !members.contains(name)).unwrap();
            let answer = trio.api(&spare, "STREAM.PEER.REMOVE.S", json!({"peer": members[1]})).await;
            assert_eq!(answer["success"], json!(true), "{answer}");
            trio.shows("S", "the new member", |info| {
                let replicas = info["cluster"]["replicas"].as_array().unwrap();
                replicas.len() == 2
                    && replicas.iter().any(|r| r["name"] == json!(spare) && r["current"] == json!(true))
            })
            .await;
            // A member that began to vote a moment ago may not win at once.
            let preferred = json!({"placement": {"preferred": spare}});
            eventually("the new leader", async || {
                let _ = trio.try_api(&spare, "STREAM.LEADER.STEPDOWN.S", &preferred).await;
                (trio.leader("S").await == spare).then_some(())
            })
            .await;
            let info = trio.info("S").await;
            assert_eq!(info["state"]["messages"], json!(50), "{info}");
            assert_eq!(publish(&client, "s", "7").await, 7, "ids are remembered");
        });
    }
}

#[test]
fn more_replicas_than_servers_are_refused() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let config = json!({"name": "S", "subjects": ["s"], "num_replicas": 5});
        let answer = trio.try_api("n0", "STREAM.UPDATE.S", &config).await.unwrap();
        assert_eq!(answer["error"]["err_code"], json!(10005), "{answer}");
        assert_eq!(trio.info("S").await["config"]["num_replicas"], json!(3));
    });
}
