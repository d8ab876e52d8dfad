//! What is answered and told when too few servers are left, and when others lead.

use std::time::Duration;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::trio::{Trio, run};
use crate::harness::{Kind, LONG, eventually};

/// The next advisory of a subscription that satisfies something.
async fn advisory(from: &mut async_nats::Subscriber, is_it: impl Fn(&str, &Value) -> bool) -> Value {
    let next = async {
        loop {
            let message = from.next().await.unwrap();
            let value = serde_json::from_slice(&message.payload).unwrap();
            if is_it(&message.subject, &value) {
                return value;
            }
        }
    };
    tokio::time::timeout(LONG, next).await.expect("the advisory comes")
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A stream whose leader and whose other member died tells so.
async fn tells_of_the_lost_quorum(trio: &Trio, told: &mut async_nats::Subscriber, last: &str) {
    let lost = advisory(told, |_, _| true).await;
    assert_eq!(keys(&lost), ["id", "replicas", "stream", "timestamp", "type"]);
    assert_eq!(lost["type"], json!("io.nats.jetstream.advisory.v1.stream_quorum_lost"));
    for replica in lost["replicas"].as_array().unwrap() {
        assert_eq!(replica["current"], json!(replica["name"] == json!(last)), "{lost}");
    }
    trio.logs(last, "JetStream cluster stream '$G > S' has NO quorum, stalled").await;
    trio.logs(last, "JetStream cluster no metadata leader").await;
    // Nobody is told twice within a moment.
    let more = tokio::time::timeout(Duration::from_millis(1), told.next()).await;
    assert!(more.is_err(), "{more:?}");
}

on_both_kinds! {
    fn the_api_says_that_it_is_not_available_once_too_few_are_left(kind) {
        run(kind, async |trio| {
            trio.stream("S", 3, json!({})).await;
            let body = json!({"stream_name": "S", "config": {"durable_name": "D", "ack_policy": "explicit"}});
            trio.api("n0", "CONSUMER.DURABLE.CREATE.S.D", body).await;
            let (meta, leader) = (trio.meta_leader().await, trio.leader("S").await);
            let mut followers = trio.names();
            followers.retain(|name| *name != meta && *name != leader);
            let last = followers.remove(0);
            let client = trio.at(&last).await;
            let mut told = client.subscribe("$JS.EVENT.ADVISORY.STREAM.QUORUM_LOST.S").await.unwrap();
            client.flush().await.unwrap();
            for name in trio.names().into_iter().filter(|name| *name != last) {
                trio.kill(&name);
            }
            let is_refused = |answer: &Value| answer["error"]["err_code"] == json!(10008);
            eventually("the refusal", async || {
                let answer = trio.try_api(&last, "STREAM.NAMES", &json!({})).await?;
                assert!(is_refused(&answer), "{answer}");
                Some(())
            })
            .await;
            let config = json!({"name": "T", "subjects": ["t"]});
            let calls = [
                ("INFO", Value::Null),
                ("STREAM.LIST", json!({})),
                ("STREAM.CREATE.T", config),
                ("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["s"], "num_replicas": 3, "max_msgs": 5})),
                ("STREAM.PEER.REMOVE.S", json!({"peer": last})),
                ("STREAM.DELETE.S", Value::Null),
                ("STREAM.INFO.NONE", Value::Null),
            ];
            for (call, body) in &calls {
                let answer = trio.try_api(&last, call, body).await;
                assert!(answer.as_ref().is_some_and(is_refused), "{call}: {answer:?}");
            }
            let another =
                json!({"stream_name": "S", "config": {"durable_name": "E", "ack_policy": "explicit"}});
            let of_stream = [
                ("STREAM.PURGE.S", Value::Null),
                ("STREAM.MSG.GET.S", json!({"seq": 1})),
                ("STREAM.MSG.DELETE.S", json!({"seq": 1})),
                ("STREAM.LEADER.STEPDOWN.S", Value::Null),
                ("CONSUMER.NAMES.S", json!({})),
                ("CONSUMER.LIST.S", json!({})),
                ("CONSUMER.DURABLE.CREATE.S.E", another),
                ("CONSUMER.DELETE.S.D", Value::Null),
                ("CONSUMER.LEADER.STEPDOWN.S.D", Value::Null),
                ("CONSUMER.INFO.S.D", Value::Null),
            ];
            for (call, body) in &of_stream {
                // nats-server's consumers have leaders of their own, who may not know yet that they are alone.
                eventually(call, async || {
                    let answer = trio.try_api(&last, call, body).await?;
                    is_refused(&answer).then_some(())
                })
                .await;
            }
            // Nobody takes messages or requests for them.
            for subject in ["s", "$JS.API.CONSUMER.MSG.NEXT.S.D"] {
                eventually(&format!("that nobody answers on {subject}"), async || {
                    let asked = client.request(subject, "".into());
                    let answer = tokio::time::timeout(Duration::from_secs(1), asked).await.ok()?;
                    let kind = answer.expect_err("nobody leads").kind();
                    (kind == async_nats::RequestErrorKind::NoResponders).then_some(())
                })
                .await;
            }
            // A member describes what it has.
            let info = eventually("the description", async || {
                let info = trio.try_api(&last, "STREAM.INFO.S", &Value::Null).await?;
                info["error"].is_null().then_some(info)
            })
            .await;
            assert!(info["cluster"]["leader"].is_null(), "{info}");
            let replicas = info["cluster"]["replicas"].as_array().unwrap();
            assert_eq!(replicas.len(), 3, "{info}");
            let mine = replicas.iter().find(|r| r["name"] == json!(last)).unwrap();
            assert_eq!(mine["current"], json!(true), "{info}");
            if kind == Kind::Linnet {
                // nats-server needs longer than a test should.
                tells_of_the_lost_quorum(trio, &mut told, &last).await;
            }
        });
    }

    fn elections_are_told(kind) {
        run(kind, async |trio| {
            let system = trio.system().await;
            let client = trio.roaming().await;
            let all = "$JS.EVENT.ADVISORY.>";
            let (mut told, mut told_system) =
                (client.subscribe(all).await.unwrap(), system.subscribe(all).await.unwrap());
            client.flush().await.unwrap();
            system.flush().await.unwrap();
            trio.stream("S", 3, json!({})).await;
            let body = json!({"stream_name": "S", "config": {"durable_name": "D", "ack_policy": "explicit"}});
            trio.api("n0", "CONSUMER.DURABLE.CREATE.S.D", body).await;
            // The next leader has the consumer.
            trio.all_current("S").await;
            trio.api("n0", "STREAM.LEADER.STEPDOWN.S", Value::Null).await;
            let is_stream = |subject: &str, _: &Value| subject == "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.S";
            let first = advisory(&mut told, is_stream).await;
            let expected = ["id", "leader", "replicas", "stream", "timestamp", "type"];
            assert_eq!(keys(&first), expected, "{first}");
            assert_eq!(first["type"], json!("io.nats.jetstream.advisory.v1.stream_leader_elected"));
            let second = advisory(&mut told, is_stream).await;
            assert_ne!(first["leader"], second["leader"]);
            let replicas = second["replicas"].as_array().unwrap();
            let mut names: Vec<&str> = replicas.iter().map(|r| r["name"].as_str().unwrap()).collect();
            names.sort_unstable();
            assert_eq!(names, ["n0", "n1", "n2"], "the leader is among them");
            let same = advisory(&mut told_system, is_stream).await;
            assert_eq!((&same["account"], &same["leader"]), (&json!("$G"), &first["leader"]));

            let mut audits = system.subscribe("$JS.EVENT.ADVISORY.API").await.unwrap();
            system.flush().await.unwrap();
            let old = trio.meta_leader().await;
            let answer = system.request("$JS.API.META.LEADER.STEPDOWN", "".into()).await.unwrap();
            let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
            assert_eq!(answer["success"], json!(true), "{answer}");
            let audit = advisory(&mut audits, |_, value| {
                value["subject"] == json!("$JS.API.META.LEADER.STEPDOWN")
            })
            .await;
            assert_eq!(keys(&audit), ["client", "id", "response", "server", "subject", "timestamp", "type"]);
            assert_eq!(audit["server"], json!(old), "{audit}");
            assert!(audit["response"].as_str().unwrap().contains("\"success\":true"), "{audit}");
            let domain = advisory(&mut told_system, |subject, _| {
                subject == "$JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED"
            })
            .await;
            assert_eq!(keys(&domain), ["cluster", "id", "leader", "replicas", "timestamp", "type"]);
            assert_eq!(domain["cluster"], json!("C"));
            let replicas = domain["replicas"].as_array().unwrap();
            let new = replicas.iter().find(|r| r["peer"] == domain["leader"]).unwrap();
            assert_ne!(new["name"], json!(old), "{domain}");
            for name in trio.names() {
                let is_new = new["name"] == json!(name);
                let line = match is_new {
                    true => "Self is new JetStream cluster metadata leader".to_owned(),
                    false => {
                        format!("JetStream cluster new metadata leader: {}/C", new["name"].as_str().unwrap())
                    }
                };
                trio.logs(&name, &line).await;
            }
        });
    }
}
