//! Streams go to other servers, because an operator or their configuration says so.

use std::time::Duration;

use linnet_launch::JetStream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::apart::answer;
use super::failover::{Publisher, goes_on};
use super::scaling::{deliver_two, delivered};
use super::trio::{Trio, publish, run_on, run_with};
use crate::harness::{Kind, err_code, eventually};

/// Waits until a stream is led by a server with nothing under way.
async fn rests(trio: &mut Trio, stream: &str) -> Value {
    let is_done =
        |info: &Value| info["cluster"]["leader"].is_string() && info["cluster"]["desired"].is_null();
    trio.shows(stream, "a stream that rests", is_done).await
}

async fn system(trio: &Trio, call: &str, body: Value) -> Value {
    eventually(call, async || trio.try_system(call, &body).await).await
}

#[test]
fn streams_move_with_all_that_they_have() {
    run_on(Kind::Linnet, 5, async |trio| {
        let client = trio.roaming().await;
        for (stream, storage, subject) in [("F", "file", "f"), ("M", "memory", "m")] {
            trio.stream(stream, 1, json!({"storage": storage})).await;
            for n in 1..=20 {
                assert_eq!(publish(&client, subject, &n.to_string()).await, n);
            }
            deliver_two(trio, stream).await;
        }
        trio.stream("S", 3, json!({})).await;
        let publisher = Publisher::begin(trio, "s").await;
        for (stream, subject) in [("F", "f"), ("M", "m"), ("S", "s")] {
            let from = trio.leader(stream).await;
            let before = trio.members(stream).await.len();
            let call = format!("ACCOUNT.STREAM.MOVE.$G.{stream}");
            let answer = system(trio, &call, json!({"server": from})).await;
            assert!(answer["error"].is_null(), "{answer}");
            trio.shows(stream, "the stream elsewhere", |info| {
                let replicas = info["cluster"]["replicas"].as_array().map_or(0, Vec::len);
                let names = info["cluster"].to_string();
                info["cluster"]["leader"].is_string()
                    && info["cluster"]["desired"].is_null()
                    && replicas + 1 == before
                    && !names.contains(&format!("\"{from}\""))
            })
            .await;
            assert_eq!(publish(&client, subject, "1").await == 1, stream != "S", "ids are remembered");
        }
        for stream in ["F", "M"] {
            assert_eq!(delivered(trio, stream).await, (json!(2), json!(1), json!(1)));
        }
        goes_on(trio, "S").await;
        let gone = trio.leader("S").await;
        let answer = system(trio, "SERVER.EVACUATE", json!({"peer": gone})).await;
        assert_eq!(answer["success"], json!(true), "{answer}");
        trio.has_no_streams(&gone).await;
        for (stream, count) in [("F", 1), ("M", 1), ("S", 3)] {
            rests(trio, stream).await;
            trio.has_replicas(stream, count).await;
        }
        goes_on(trio, "S").await;
        publisher.end().await.is_in(trio, "S").await;
        let answer = system(trio, "ACCOUNT.PURGE.$G", json!({})).await;
        assert_eq!(answer["initiated"], json!(true), "{answer}");
        let at = trio.running().remove(0);
        eventually("an account without streams", async || {
            let names = trio.try_api(&at, "STREAM.NAMES", &json!({})).await?;
            (names["total"] == json!(0)).then_some(())
        })
        .await;
        for server in trio.names() {
            trio.has_no_streams(&server).await;
        }
    });
}

#[test]
fn what_has_no_place_is_refused_with_the_same_codes() {
    for kind in [Kind::Linnet, Kind::Peer] {
        let jetstream = JetStream { extra: "max_file: 64MB".to_owned(), ..JetStream::default() };
        run_with(
            kind,
            3,
            |spec| spec.jetstream(jetstream),
            async |trio| {
                // Each server has room for one of these.
                for name in ["R", "B", "D"] {
                    trio.stream(name, 1, json!({"max_bytes": 40_000_000})).await;
                }
                // nats-server judges by what its servers last told of themselves, which may be seconds old.
                let bytes = if kind == Kind::Linnet { 40_000_000 } else { 80_000_000 };
                let another = json!({"name": "E", "max_bytes": bytes});
                let answer =
                    eventually("an answer", async || trio.try_api("n0", "STREAM.CREATE.E", &another).await)
                        .await;
                assert_eq!(err_code(&answer), 10005, "{kind:?}: {answer}");
                trio.stream("S", 3, json!({})).await;
                let update = |with: Value| {
                    let mut config = json!({"name": "S", "subjects": ["s"], "num_replicas": 3});
                    with.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
                    config
                };
                let both = update(json!({"num_replicas": 1, "placement": {"cluster": "C"}}));
                let nowhere = update(json!({"placement": {"tags": ["nowhere"]}}));
                for (call, body, code) in [
                    ("STREAM.UPDATE.S", both, 10123),
                    ("STREAM.UPDATE.S", nowhere, 10005),
                    ("STREAM.CANCEL_MOVE.S", Value::Null, 10129),
                    ("STREAM.CANCEL_MOVE.NONE", Value::Null, 10059),
                ] {
                    let answer = eventually(call, async || trio.try_api("n0", call, &body).await).await;
                    assert_eq!(err_code(&answer), code, "{kind:?} {call}: {answer}");
                }
                for (call, body, code) in [
                    ("ACCOUNT.STREAM.MOVE.$G.S", json!({"server": "zz"}), 10044),
                    ("ACCOUNT.STREAM.MOVE.$G.NONE", json!({"server": "n0"}), 10059),
                    ("ACCOUNT.STREAM.MOVE.NOBODY.S", json!({"server": "n0"}), 10035),
                    ("ACCOUNT.STREAM.MOVE.$G.S", json!({"server": "n0"}), 10005),
                    ("ACCOUNT.STREAM.CANCEL_MOVE.$G.S", json!({}), 10129),
                    ("ACCOUNT.STREAM.CANCEL_MOVE.NOBODY.S", json!({}), 10035),
                    ("SERVER.EVACUATE", json!({"peer": "zz"}), 10044),
                    ("SERVER.EVACUATE", json!({}), 10003),
                    ("ACCOUNT.PURGE.a/b", json!({}), 10051),
                ] {
                    let answer = system(trio, call, body).await;
                    assert_eq!(err_code(&answer), code, "{kind:?} {call}: {answer}");
                }
                let answer = system(trio, "ACCOUNT.PURGE.NOBODY", json!({})).await;
                assert_eq!(answer["initiated"], json!(true), "{answer}");
            },
        );
    }
}

/// Becomes the server, which has its own name as a tag. Arguments: the program, `-c`, the configuration, more.
const TAGGED_WITH_ITS_NAME: &str = r#"
    grep -q server_tags "$3" || echo "server_tags: [$(basename "$(dirname "$3")")]" >> "$3" || exit 1
    exec "$@"
"#;

/// Who takes the state of a stream a second time does not wait until the first time is forgotten.
#[test]
fn a_stream_moves_back_to_where_it_was_at_once() {
    let launcher = ["sh", "-c", TAGGED_WITH_ITS_NAME, "sh"].map(Into::into);
    let tagged = |spec: linnet_launch::ClusterSpec| spec.launcher(launcher);
    run_with(Kind::Linnet, 3, tagged, async |trio| {
        trio.stream("S", 1, json!({"placement": {"tags": ["n1"]}})).await;
        let client = trio.at("n0").await;
        publish(&client, "s", "kept").await;
        for to in ["n2", "n1", "n2", "n1"] {
            let config = json!({"name": "S", "subjects": ["s"], "placement": {"tags": [to]}});
            let asked = Instant::now();
            let updated = answer(&client, "STREAM.UPDATE.S", &config).await;
            let took = asked.elapsed();
            assert!(updated["error"].is_null(), "to {to}, after {took:?}: {updated}");
            assert!(took < Duration::from_secs(3), "to {to}: {took:?}");
            let info = rests(trio, "S").await;
            assert_eq!(info["cluster"]["leader"], json!(to), "{info}");
            assert_eq!(info["state"]["messages"], json!(1), "{info}");
        }
    });
}
