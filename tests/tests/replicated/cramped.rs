//! Servers on which streams may hardly store more.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::offline::alone_on;
use super::trio::run_with;
use crate::harness::{Kind, LONG, eventually};

/// The answer to a publish, once somebody answers.
async fn store(client: &async_nats::Client, subject: &str, payload: &bytes::Bytes) -> Value {
    eventually("an answer to a publish", async || {
        let request = async_nats::Request::new().payload(payload.clone());
        let sent =
            client.send_request(subject.to_owned(), request.timeout(Some(Duration::from_secs(1)))).await;
        serde_json::from_slice(&sent.ok()?.payload).ok()
    })
    .await
}

#[test]
fn a_server_without_room_leaves_leading_to_others() {
    let jetstream =
        linnet_launch::JetStream { extra: "max_file: 32M".to_owned(), ..linnet_launch::JetStream::default() };
    run_with(
        Kind::Linnet,
        3,
        |spec| spec.jetstream(jetstream),
        async |trio| {
            // It has something that the others have not.
            let alone = alone_on(trio, "n2").await;
            let client = trio.at("n0").await;
            let payload = bytes::Bytes::from(vec![b'x'; 100_000]);
            for _ in 0..250 {
                let ack = store(&client, &alone.to_lowercase(), &payload).await;
                assert!(ack["error"].is_null(), "{ack}");
            }
            trio.stream("S", 3, json!({})).await;
            trio.all_current("S").await;
            let to_n2 = json!({"placement": {"preferred": "n2"}});
            if trio.leader("S").await != "n2" {
                trio.api("n0", "STREAM.LEADER.STEPDOWN.S", to_n2.clone()).await;
                trio.shows("S", "its leader", |info| info["cluster"]["leader"] == json!("n2")).await;
            }
            let system = trio.system().await;
            let mut told = system.subscribe("$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE").await.unwrap();
            system.flush().await.unwrap();
            for n in 1..=60 {
                let ack = store(&client, "s", &payload).await;
                assert!(ack["error"].is_null(), "message {n}: {ack}");
            }
            let others = |info: &Value| info["cluster"]["leader"].as_str().is_some_and(|l| l != "n2");
            trio.shows("S", "a leader with room", others).await;
            for n in 61..=120 {
                let ack = store(&client, "s", &payload).await;
                assert!(ack["error"].is_null(), "message {n}: {ack}");
            }
            let advisory = tokio::time::timeout(LONG, told.next()).await.expect("the advisory").unwrap();
            let advisory: Value = serde_json::from_slice(&advisory.payload).unwrap();
            assert_eq!(advisory["server"], json!("n2"), "{advisory}");
            assert!(advisory["error"].as_str().is_some_and(|e| e.contains("file storage")), "{advisory}");
            trio.logs("n2", "JetStream resource limits").await;
            // Its replica has everything all the same, and it does not come to lead for long.
            trio.all_current("S").await;
            trio.api("n0", "STREAM.LEADER.STEPDOWN.S", to_n2).await;
            trio.shows("S", "a leader with room", others).await;
            eventually("a publish that is taken", async || {
                store(&client, "s", &payload).await["error"].is_null().then_some(())
            })
            .await;
            // With room it takes part as before.
            trio.api("n0", &format!("STREAM.PURGE.{alone}"), json!({})).await;
            trio.api("n0", "STREAM.PURGE.S", json!({})).await;
            trio.logs("n2", "there is room for file storage again").await;
        },
    );
}
