//! What is said of streams whose servers are not there, and who answers while the leader is silent.

use std::time::Duration;

use tokio::time::Instant;

use serde_json::{Value, json};

use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually};

/// A stream of one replica on another server than that which leads the meta group; its name and its server.
async fn elsewhere(trio: &mut Trio, with: Value) -> (String, String) {
    let leader = trio.meta_leader().await;
    for n in 0..30 {
        let name = format!("R{n}");
        trio.stream(&name, 1, with.clone()).await;
        let server = trio.leader(&name).await;
        if server != leader {
            return (name, server);
        }
    }
    panic!("all streams are on {leader}");
}

/// A stream of one replica, with the consumer `D`, on this server.
pub(super) async fn alone_on(trio: &mut Trio, server: &str) -> String {
    for n in 0..30 {
        let name = format!("R{n}");
        trio.stream(&name, 1, json!({})).await;
        if trio.leader(&name).await == server {
            let consumer = json!({"stream_name": name, "config": {"durable_name": "D"}});
            trio.api("n0", &format!("CONSUMER.DURABLE.CREATE.{name}.D"), consumer).await;
            // The others would be lost with the servers that they are on.
            for other in 0..n {
                trio.api("n0", &format!("STREAM.DELETE.R{other}"), Value::Null).await;
            }
            return name;
        }
    }
    panic!("no stream is on {server}");
}

/// A stream and its consumer whose only server is dead are said to be offline, and where they were.
pub(super) async fn is_said_to_be_offline(trio: &mut Trio, name: &str, server: &str) {
    let at = trio.running().remove(0);
    for (call, code) in [(format!("STREAM.INFO.{name}"), 10118), (format!("CONSUMER.INFO.{name}.D"), 10119)] {
        eventually("an answer", async || {
            let asked = Instant::now();
            let answer = trio.try_api(&at, &call, &Value::Null).await?;
            assert_eq!(answer["error"]["err_code"], json!(code), "{answer}");
            assert!(asked.elapsed() >= Duration::from_millis(500), "{:?}", asked.elapsed());
            Some(())
        })
        .await;
    }
    let list = trio.api(&at, "STREAM.LIST", json!({})).await;
    assert!(list["missing"].as_array().unwrap().contains(&json!(name)), "{list}");
    let shown = list["streams"].as_array().unwrap().iter().find(|s| s["config"]["name"] == json!(name));
    let replicas = &shown.unwrap()["cluster"]["replicas"];
    assert_eq!((&replicas[0]["name"], &replicas[0]["offline"]), (&json!(server), &json!(true)));
}

#[test]
fn followers_answer_direct_gets_and_never_with_what_is_not_committed() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({"allow_direct": true})).await;
        let client = trio.roaming().await;
        publish(&client, "s", "first").await;
        trio.all_current("S").await;
        let members = trio.members("S").await;
        let (leader, follower) = (&members[0], &members[1]);
        let there = trio.at(follower).await;
        let get = async || {
            let request = there.request("$JS.API.DIRECT.GET.S.s", "".into());
            let answer = tokio::time::timeout(Duration::from_millis(400), request).await.ok()?.ok()?;
            (answer.status.is_none()).then(|| String::from_utf8_lossy(&answer.payload).into_owned())
        };
        eventually("the message", async || get().await).await;
        // Nobody leads a group whose other members are away, and what was published then is not committed.
        trio.cluster.pause(leader).unwrap();
        let answer = eventually("the message while the leader is silent", async || get().await).await;
        trio.cluster.resume(leader).unwrap();
        assert_eq!(answer, "first");
        for other in members.iter().filter(|name| *name != follower) {
            trio.kill(other);
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            let _ =
                tokio::time::timeout(Duration::from_millis(200), there.publish("s", "second".into())).await;
            assert_ne!(get().await.as_deref(), Some("second"));
        }
    });
}

#[test]
fn a_stream_in_memory_has_its_durable_consumers_after_a_restart() {
    run(Kind::Linnet, async |trio| {
        let (name, server) = elsewhere(trio, json!({"storage": "memory"})).await;
        for consumer in ["D", "E"] {
            let body = json!({"stream_name": name, "config": {"durable_name": consumer}});
            trio.api("n0", &format!("CONSUMER.DURABLE.CREATE.{name}.{consumer}"), body).await;
        }
        trio.api("n1", &format!("CONSUMER.DELETE.{name}.E"), Value::Null).await;
        let client = trio.roaming().await;
        let before = publish(&client, &name.to_lowercase(), "1").await;
        trio.kill(&server);
        trio.restart(&server);
        let names = trio.api("n0", &format!("CONSUMER.NAMES.{name}"), json!({})).await;
        assert_eq!(names["consumers"], json!(["D"]), "{names}");
        assert!(publish(&client, &name.to_lowercase(), "2").await > before, "sequences go on");
        trio.api("n2", &format!("STREAM.DELETE.{name}"), Value::Null).await;
        trio.stream(&name, 1, json!({"storage": "memory"})).await;
        let names = trio.api("n0", &format!("CONSUMER.NAMES.{name}"), json!({})).await;
        assert_eq!(names["consumers"].as_array().map_or(0, Vec::len), 0, "{names}");
    });
}
