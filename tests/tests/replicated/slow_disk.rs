//! A disk that takes its time while streams come and go.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::apart::answer;
use super::faults::no_tampering;
use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually, not_allowed};

/// Of a stream that is begun at a server: what is written for it is on its disk after that.
const SLOW: &str = "delay_enter=1500000";
const SLOWNESS: Duration = Duration::from_millis(1500);

/// How many streams a server's store names.
fn assigned(trio: &Trio, server: &str) -> usize {
    std::fs::read_dir(trio.store_of(server).join("jetstream/assigned")).unwrap().count()
}

#[test]
fn a_stream_that_is_still_being_begun_when_it_is_created_again_leaves_one_replica() {
    if let Some(why) = no_tampering() {
        return not_allowed(&why);
    }
    run(Kind::Linnet, async |trio| {
        // The directory is there.
        trio.stream("FIRST", 3, json!({})).await;
        trio.all_current("FIRST").await;
        trio.api("n0", "STREAM.DELETE.FIRST", Value::Null).await;
        let dir = trio.store_of("n2").join("jetstream/assigned");
        eventually("an end", async || (assigned(trio, "n2") == 0).then_some(())).await;
        let tampering = trio.tamper_at("n2", &dir, "fsync,fdatasync", SLOW);
        eventually("a tracer", async || is_traced(trio, "n2").then_some(())).await;
        let client = trio.at("n0").await;
        let config = json!({"name": "S", "subjects": ["s"], "num_replicas": 3});
        for call in ["STREAM.CREATE.S", "STREAM.DELETE.S", "STREAM.CREATE.S"] {
            let body = if call.contains("DELETE") { &Value::Null } else { &config };
            let answer = answer(&client, call, body).await;
            assert!(answer["error"].is_null(), "{call}: {answer}");
        }
        assert_eq!(publish(&client, "s", "1").await, 1);
        // The first one is begun, let go, and the second one begun.
        let began = Instant::now();
        eventually("one stream on the slow server", async || {
            (began.elapsed() > 4 * SLOWNESS && assigned(trio, "n2") == 1).then_some(())
        })
        .await;
        drop(tampering);
        trio.all_current("S").await;
        for server in trio.names() {
            let client = trio.at(&server).await;
            let ack = answer_of(&client, "s").await;
            assert!(ack["error"].is_null(), "{ack}");
            assert_eq!(assigned(trio, &server), 1, "{server}");
        }
        assert_eq!(trio.info("S").await["state"]["last_seq"], json!(4));
    });
}

/// The answer to one publish.
async fn answer_of(client: &async_nats::Client, subject: &str) -> Value {
    let ack = client.request(subject.to_owned(), "x".into()).await.unwrap();
    serde_json::from_slice(&ack.payload).unwrap()
}

/// True once every thread of a server is traced.
fn is_traced(trio: &Trio, server: &str) -> bool {
    let member = trio.cluster.members().iter().find(|member| member.name() == server).unwrap();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", member.server().pid())).unwrap();
    tasks.filter_map(Result::ok).all(|task| {
        // One that has ended by now is none.
        let status = std::fs::read_to_string(task.path().join("status"));
        status.is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
    })
}
