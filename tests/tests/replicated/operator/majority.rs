//! What a majority is for, and what is said without one.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::super::trio::{Trio, publish, run_on};
use crate::harness::{Kind, eventually, nats_cli, within};

/// What a client waits for an answer by default.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks as an ordinary client does; the answer.
async fn ask(client: &async_nats::Client, call: &str, body: Value) -> Option<Value> {
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).unwrap() };
    let asked = client.request(format!("$JS.API.{call}"), body.into());
    let answer = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
    Some(serde_json::from_slice(&answer.payload).unwrap())
}

/// The same until it is refused: for a moment a leader is believed in that is gone.
async fn refused(client: &async_nats::Client, call: &str, body: Value) -> Value {
    eventually(&format!("that {call} is refused"), async || {
        ask(client, call, body.clone()).await.filter(|answer| !answer["error"].is_null())
    })
    .await
}

/// Fails unless an answer says that the meta group has no leader, and who is missing.
fn says_who_is_missing(answer: &Value, missing: &[&String], needed: &str) {
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["err_code"]),
        (&json!(503), &json!(10008)),
        "{answer}"
    );
    let why = answer["error"]["description"].as_str().unwrap();
    assert!(why.starts_with("JetStream system temporarily unavailable: ") && why.contains(needed), "{why}");
    for name in missing {
        assert!(why.contains(name.as_str()), "{name} in {why}");
    }
}

/// Takes one message of a durable consumer and acknowledges it.
async fn consume(trio: &mut Trio, at: &str) -> String {
    let client = trio.at(at).await;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.unwrap();
    let next = "$JS.API.CONSUMER.MSG.NEXT.S.D";
    client.publish_with_reply(next, inbox, "".into()).await.unwrap();
    let message = within("a message", answers.next()).await.unwrap();
    client.publish(message.reply.unwrap(), "+ACK".into()).await.unwrap();
    String::from_utf8_lossy(&message.payload).into_owned()
}

/// Rows A01, A02, A04 and A18: five servers are a group that does without two of them. Without a third the API says
/// who is missing, and streams that have a majority of their own go on. Row A09: those that do not come back are taken
/// out.
#[test]
fn a01_a02_a04_a09_a18_five_servers_do_without_two() {
    run_on(Kind::Linnet, 5, async |trio| {
        for name in trio.names() {
            eventually("five members", async || {
                let meta = &trio.try_see(&name, "/jsz")?["meta_cluster"];
                (meta["cluster_size"] == json!(5) && meta["quorum_needed"] == json!(3)).then_some(())
            })
            .await;
        }
        trio.stream("S", 3, json!({})).await;
        let body = json!({"stream_name": "S", "config": {"durable_name": "D", "ack_policy": "explicit"}});
        trio.api("n0", "CONSUMER.DURABLE.CREATE.S.D", body).await;
        trio.all_current("S").await;
        let members = trio.members("S").await;
        let others: Vec<String> = trio.names().into_iter().filter(|name| !members.contains(name)).collect();
        trio.kills(&others[0]).await;
        trio.kills(&members[2]).await;
        // Two are away.
        trio.stream("T", 3, json!({})).await;
        let at = trio.running().remove(0);
        trio.api(&at, "STREAM.DELETE.T", Value::Null).await;
        trio.kills(&others[1]).await;
        // Three are.
        let missing = [&others[0], &others[1], &members[2]];
        let (client, system) = (trio.at(&members[0]).await, trio.system().await);
        let create = json!({"name": "U", "subjects": ["u"]});
        let (created, told, removed) = tokio::join!(
            refused(&client, "STREAM.CREATE.U", create),
            refused(&client, "INFO", Value::Null),
            refused(&system, "SERVER.REMOVE", json!({"peer": members[2]})),
        );
        for answer in [created, told, removed] {
            says_who_is_missing(&answer, &missing, "3 of 5 servers are needed");
        }
        assert_eq!(publish(&client, "s", "without a majority").await, 1);
        assert_eq!(consume(trio, &members[1]).await, "without a majority");
        let purged = ask(&client, "STREAM.PURGE.S", Value::Null).await.unwrap();
        assert_eq!(purged["purged"], json!(1), "{purged}");
        trio.restart(&others[1]);
        trio.stream("U", 3, json!({})).await;
        // Those that do not come back are taken out, by name and by id.
        let leader = trio.meta_leader().await;
        let id = linnet_ids::PeerId::of_name(&members[2]).to_string();
        for (dead, size, quorum) in [(&others[0], 4, 3), (&id, 3, 2)] {
            if nats_cli().is_none() {
                break;
            }
            // A leader that has just come may not know the name of one that it never heard.
            eventually("the removal", async || {
                let said = trio.cli(&leader, &["server", "cluster", "peer-remove", dead, "--force"])?;
                (!said.contains("error")).then_some(())
            })
            .await;
            eventually("the smaller group", async || {
                let meta = &trio.try_see(&leader, "/jsz")?["meta_cluster"];
                let is_smaller =
                    meta["cluster_size"] == json!(size) && meta["quorum_needed"] == json!(quorum);
                is_smaller.then_some(())
            })
            .await;
        }
    });
}

/// Row A02: three servers do without one; without another the last one says who is missing.
#[test]
fn a02_three_servers_do_without_one() {
    run_on(Kind::Linnet, 3, async |trio| {
        let names = trio.names();
        trio.kills(&names[1]).await;
        trio.stream("S", 1, json!({})).await;
        trio.kills(&names[2]).await;
        let client = trio.at(&names[0]).await;
        let answer = refused(&client, "STREAM.NAMES", json!({})).await;
        says_who_is_missing(&answer, &[&names[1], &names[2]], "2 of 3 servers are needed");
    });
}
