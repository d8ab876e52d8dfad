//! What probes and monitoring see of streams in a cluster.

use linnet_launch::HttpResponse;
use serde_json::{Value, json};

use super::trio::{Trio, publish, run};
use crate::harness::{Kind, eventually};

impl Trio {
    /// A monitoring page of a server, as it is now.
    pub(super) fn get(&self, name: &str, path: &str) -> Option<HttpResponse> {
        let member = self.cluster.members().iter().find(|member| member.name() == name)?;
        member.server().monitor_get(path).ok()
    }

    /// A monitoring page that is JSON.
    pub(super) fn see(&self, name: &str, path: &str) -> Value {
        serde_json::from_str(&self.get(name, path).unwrap().body).unwrap()
    }

    /// The same, of a server that may not answer.
    pub(super) fn try_see(&self, name: &str, path: &str) -> Option<Value> {
        serde_json::from_str(&self.get(name, path)?.body).ok()
    }

    /// Waits until a server answers a probe with this status and something that contains this.
    async fn probe(&self, name: &str, path: &str, status: u16, text: &str) {
        eventually(&format!("{status} {text:?} of {name} on {path}"), async || {
            let answer = self.get(name, path)?;
            (answer.status == status && answer.body.contains(text)).then_some(())
        })
        .await;
    }
}

/// Forms of the probe that say nothing of the cluster.
const ALONE: [&str; 2] = ["/healthz?js-server-only=true", "/healthz?js-enabled-only=true"];
const OK: &str = "{\"status\":\"ok\"}";

on_both_kinds! {
    fn probes_tell_of_the_streams_of_a_server(kind) {
        run(kind, async |trio| {
            trio.stream("S", 3, json!({})).await;
            trio.stream("R", 1, json!({})).await;
            let body = json!({"stream_name": "S", "config": {"durable_name": "D", "ack_policy": "explicit"}});
            trio.api("n0", "CONSUMER.DURABLE.CREATE.S.D", body).await;
            let on = trio.leader("R").await;
            for name in trio.names() {
                trio.probe(&name, "/healthz", 200, OK).await;
                trio.probe(&name, "/healthz?js-meta-only=1", 200, OK).await;
                trio.probe(&name, "/healthz?account=$G", 200, OK).await;
                trio.probe(&name, "/healthz?account=$G&stream=S&consumer=D", 200, OK).await;
                let elsewhere = "JetStream stream \\\"R\\\" not found on account \\\"$G\\\"";
                let (status, text) = if name == on { (200, OK) } else { (404, elsewhere) };
                trio.probe(&name, "/healthz?account=$G&stream=R", status, text).await;
                let text = "JetStream consumer \\\"X\\\" not found for stream \\\"S\\\" on account \\\"$G\\\"";
                trio.probe(&name, "/healthz?account=$G&stream=S&consumer=X", 404, text).await;
                let text = "JetStream account \\\"SYS\\\" not found";
                trio.probe(&name, "/healthz?account=SYS", 404, text).await;
            }
        });
    }

    fn probes_follow_servers_that_end_and_come_back(kind) {
        run(kind, async |trio| {
            trio.stream("S", 3, json!({})).await;
            for name in trio.names() {
                trio.probe(&name, "/healthz", 200, OK).await;
            }
            let first = trio.leader("S").await;
            trio.kill(&first);
            let left = trio.running();
            let client = trio.roaming().await;
            // Acknowledged: two of three go on.
            publish(&client, "s", "after the first").await;
            for name in &left {
                trio.probe(name, "/healthz", 200, OK).await;
            }
            let last = &left[1];
            trio.kill(&left[0]);
            trio.probe(last, "/healthz?js-meta-only=true", 503, "JetStream").await;
            trio.probe(last, "/healthz?details=true", 503, "\"type\":\"JETSTREAM\"").await;
            for form in ALONE {
                trio.probe(last, form, 200, OK).await;
            }
            trio.kill(last);
            trio.restart(last);
            // Nobody else is there: it has no leader, and cannot know what it lacks.
            trio.probe(last, "/healthz", 503, "JetStream").await;
            for form in ALONE {
                trio.probe(last, form, 200, OK).await;
            }
            trio.restart(&first);
            for name in [last, &first] {
                trio.probe(name, "/healthz", 200, OK).await;
            }
            trio.restart(&left[0]);
            trio.probe(&left[0], "/healthz", 200, OK).await;
        });
    }

    fn pages_show_a_streams_replicas_as_each_server_sees_them(kind) {
        run(kind, async |trio| {
            trio.stream("S", 3, json!({})).await;
            trio.stream("R", 1, json!({})).await;
            let (leader, alone) = (trio.leader("S").await, trio.leader("R").await);
            trio.all_current("S").await;
            for name in trio.names() {
                let page = trio.see(&name, "/jsz?streams=1&raft=1");
                let streams = 1 + i64::from(name == alone);
                assert_eq!(page["streams"], json!(streams), "{page}");
                let led = i64::from(name == leader) + i64::from(name == alone);
                assert_eq!(page["streams_leader"].as_i64().unwrap_or(0), led, "{page}");
                let details = page["account_details"][0]["stream_detail"].as_array().unwrap();
                assert_eq!(i64::try_from(details.len()).unwrap(), streams);
                let s = details.iter().find(|s| s["name"] == json!("S")).unwrap();
                let cluster = &s["cluster"];
                assert_eq!((&cluster["name"], &cluster["leader"]), (&json!("C"), &json!(leader)));
                assert!(cluster["raft_group"].as_str().unwrap().starts_with("S-R3F-"), "{cluster}");
                assert_eq!(cluster["raft_group"], s["stream_raft_group"]);
                assert_eq!(cluster["leader_since"].is_string(), name == leader, "{cluster}");
                let replicas = cluster["replicas"].as_array().unwrap();
                let mut others = trio.names();
                others.retain(|other| *other != name);
                let names: Vec<&str> = replicas.iter().map(|r| r["name"].as_str().unwrap()).collect();
                assert_eq!(names, others);
                for replica in replicas {
                    // A follower knows of its leader only.
                    let is_known = name == leader || replica["name"] == json!(leader);
                    assert_eq!(replica["current"], json!(is_known), "{cluster}");
                }
                let page = trio.see(&name, "/jsz?streams=1&stream-leader-only=1");
                let details = page["account_details"][0]["stream_detail"].as_array().cloned();
                let shown = details.map_or(0, |details| i64::try_from(details.len()).unwrap());
                assert_eq!(shown, led, "{page}");
                let group = cluster["raft_group"].as_str().unwrap();
                let raft = trio.see(&name, &format!("/raftz?acc=$G&group={group}"));
                let replica = &raft["$G"][group];
                let state = if name == leader { "LEADER" } else { "FOLLOWER" };
                assert_eq!((&replica["state"], &replica["size"]), (&json!(state), &json!(3)), "{raft}");
                assert_eq!(replica["peers"].as_object().unwrap().len(), 2);
                // Without an account the system's groups are meant.
                assert!(trio.see(&name, "/raftz").get("$G").is_none());
            }
        });
    }
}

/// Row A13: every form of the probe, from a first start without anybody else to the end.
#[test]
fn a13_every_form_of_the_probe_from_the_first_start_to_the_end() {
    const FORMS: [&str; 6] = [
        "/healthz",
        "/healthz?js-meta-only=true",
        "/healthz?js-enabled-only=1",
        "/healthz?js-enabled=t",
        "/healthz?js-server-only=TRUE",
        "/healthz?details=true&js-server-only=1",
    ];
    run(Kind::Linnet, async |trio| {
        let text = "Error decoding boolean for 'js-meta-only': strconv.ParseBool: parsing \"banana\": invalid syntax";
        trio.probe("n0", "/healthz?js-meta-only=banana", 400, text).await;
        let text = "\\\"account\\\" must not be empty when checking stream health";
        trio.probe("n0", "/healthz?stream=S", 400, text).await;
        for name in trio.names() {
            trio.kill(&name);
            std::fs::remove_dir_all(trio.store_of(&name)).unwrap();
        }
        let asks = async |trio: &Trio, name: &str, status: u16, text: &str| {
            for form in &FORMS[..2] {
                trio.probe(name, form, status, text).await;
            }
            for form in &FORMS[2..] {
                trio.probe(name, form, 200, OK).await;
            }
        };
        trio.restart("n0");
        asks(trio, "n0", 503, "JetStream is still recovering meta layer").await;
        trio.probe("n0", "/healthz?details=1", 503, "\"warnings\":[\"Waiting for ").await;
        trio.restart("n1");
        for name in ["n0", "n1"] {
            asks(trio, name, 503, "JetStream has not established contact with a meta leader").await;
        }
        trio.restart("n2");
        for name in trio.names() {
            asks(trio, &name, 200, OK).await;
        }
        // Who leads is well whoever else is not.
        let leader = trio.meta_leader().await;
        let away = trio.names().into_iter().find(|name| *name != leader).unwrap();
        trio.kill(&away);
        eventually("that it is not heard", async || {
            let answer = trio.get(&leader, "/healthz?details=true")?;
            assert_eq!(answer.status, 200, "{}", answer.body);
            answer.body.contains("cannot be heard").then_some(())
        })
        .await;
        trio.stream("S", 1, json!({})).await;
        trio.kill(&leader);
        let last = trio.running().remove(0);
        asks(trio, &last, 503, "JetStream has not established contact with a meta leader").await;
        trio.restart(&leader);
        asks(trio, &last, 200, OK).await;
        trio.signal(&last, rustix::process::Signal::USR2);
        for form in FORMS {
            trio.probe(&last, form, 500, "failed to be ready for connections after 1ms: server").await;
        }
    });
}
