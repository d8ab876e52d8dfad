//! What one stream lacks holds up no other one.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::offline::alone_on;
use super::trio::{Trio, run, run_on};
use crate::harness::{Kind, LONG};

/// One answer to a call, whatever it says.
pub(super) async fn answer(client: &async_nats::Client, call: &str, body: &Value) -> Value {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    let request = async_nats::Request::new().payload(body.into()).timeout(Some(LONG));
    let answer = client.send_request(format!("$JS.API.{call}"), request).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

/// Has many clients change a stream that nobody leads.
async fn ask_in_vain(trio: &Trio, at: &str, stream: &str) -> Vec<async_nats::Client> {
    let body = json!({"name": stream, "subjects": [stream.to_lowercase()], "num_replicas": 1, "max_msgs": 9});
    let mut clients = Vec::new();
    for _ in 0..40 {
        let options = async_nats::ConnectOptions::new().ignore_discovered_servers();
        let client = options.connect(trio.url(at)).await.unwrap();
        let (inbox, body) = (client.new_inbox(), serde_json::to_vec(&body).unwrap());
        let subject = format!("$JS.API.STREAM.UPDATE.{stream}");
        client.publish_with_reply(subject, inbox, body.into()).await.unwrap();
        client.flush().await.unwrap();
        clients.push(client);
    }
    clients
}

#[test]
fn a_stream_without_a_leader_holds_up_no_other_one() {
    run(Kind::Linnet, async |trio| {
        let meta = trio.meta_leader().await;
        let away = trio.names().into_iter().find(|name| *name != meta).unwrap();
        let alone = alone_on(trio, &away).await;
        trio.kill(&away);
        let client = trio.at(&meta).await;
        // Placement may need to know that the server is away.
        trio.stream("BEFORE", 3, json!({})).await;
        let _clients = ask_in_vain(trio, &meta, &alone).await;
        let began = Instant::now();
        let made =
            answer(&client, "STREAM.CREATE.N", &json!({"name": "N", "subjects": ["n"], "num_replicas": 3}))
                .await;
        assert!(made["error"].is_null(), "{made}");
        let changed = json!({"name": "N", "subjects": ["n"], "num_replicas": 3, "max_msgs": 5});
        let changed = answer(&client, "STREAM.UPDATE.N", &changed).await;
        assert_eq!(changed["config"]["max_msgs"], json!(5), "{changed}");
        let gone = answer(&client, "STREAM.DELETE.N", &Value::Null).await;
        assert_eq!(gone["success"], json!(true), "{gone}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    });
}
/// Streams of overlapping subjects that are created at the same time are judged one after the other.
#[test]
fn what_is_decided_at_the_same_time_is_judged_as_if_one_after_the_other() {
    run(Kind::Linnet, async |trio| {
        let client = trio.roaming().await;
        let mut asked = tokio::task::JoinSet::new();
        for n in 0..20 {
            let client = client.clone();
            asked.spawn(async move {
                let config = json!({"name": format!("S{n}"), "subjects": ["same"], "num_replicas": 3});
                answer(&client, &format!("STREAM.CREATE.S{n}"), &config).await
            });
        }
        let answers = asked.join_all().await;
        let refused = answers.iter().filter(|answer| answer["error"]["err_code"] == json!(10065)).count();
        assert_eq!(refused, 19, "{answers:?}");
        let names = trio.api("n0", "STREAM.NAMES", Value::Null).await;
        assert_eq!(names["total"], json!(1), "{names}");
    });
}

/// The leader of a stream that is deleted says to the catalogue that it has ended, too, and may be first.
#[test]
fn every_deletion_of_a_stream_that_is_there_succeeds() {
    run_on(Kind::Linnet, 3, async |trio| {
        let client = trio.roaming().await;
        let mut told = client.subscribe("$JS.EVENT.ADVISORY.STREAM.DELETED.>").await.unwrap();
        let all = 120;
        for at in (0..all).step_by(20) {
            let mut asked = tokio::task::JoinSet::new();
            for n in at..at + 20 {
                let (client, name) = (client.clone(), format!("S{n}"));
                let config = json!({"name": name, "subjects": [name.to_lowercase()], "num_replicas": 3,
                    "storage": "memory"});
                asked.spawn(async move { answer(&client, &format!("STREAM.CREATE.{name}"), &config).await });
            }
            let made = asked.join_all().await;
            assert!(made.iter().all(|answer| answer["error"].is_null()), "{made:?}");
        }
        let mut deleted = Vec::new();
        for at in (0..all).step_by(20) {
            let mut asked = tokio::task::JoinSet::new();
            for n in at..at + 20 {
                let client = client.clone();
                asked.spawn(
                    async move { answer(&client, &format!("STREAM.DELETE.S{n}"), &Value::Null).await },
                );
            }
            deleted.extend(asked.join_all().await);
        }
        let failed: Vec<_> = deleted.iter().filter(|answer| answer["success"] != json!(true)).collect();
        assert!(failed.is_empty(), "{failed:?}");
        use futures_util::StreamExt as _;
        for _ in 0..all {
            tokio::time::timeout(LONG, told.next()).await.expect("an advisory for every stream").unwrap();
        }
    });
}
