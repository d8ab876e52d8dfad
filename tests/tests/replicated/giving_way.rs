//! Leaders that give way to others.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::trio::{Trio, run, run_on};
use crate::harness::{Kind, eventually};

on_both_kinds! {
    fn who_steps_down_gives_way_to_whom_the_request_asks_for(kind) {
        run(kind, async |trio| {
            trio.stream("S", 3, json!({})).await;
            trio.all_current("S").await;
            let body = json!({"stream_name": "S", "config": {"durable_name": "D", "ack_policy": "explicit"}});
            trio.api("n0", "CONSUMER.DURABLE.CREATE.S.D", body).await;
            let meta = trio.meta_leader().await;
            let nowhere = json!({"placement": {"tags": ["az:9"]}});
            let unknown = json!({"foo": 1});
            let nobody = json!({"placement": {"preferred": "nobody"}});
            let mut answers = Vec::new();
            for body in [&nowhere, &unknown, &nobody] {
                answers.push(trio.try_system("META.LEADER.STEPDOWN", body).await.unwrap());
                for call in ["STREAM.LEADER.STEPDOWN.S", "CONSUMER.LEADER.STEPDOWN.S.D"] {
                    answers.push(eventually("an answer", async || trio.try_api("n0", call, body).await).await);
                }
            }
            let said: Vec<_> = answers
                .iter()
                .map(|a| (a["error"]["code"].as_u64(), a["error"]["err_code"].as_u64(),
                    a["error"]["description"].as_str().unwrap_or_default().to_owned()))
                .collect();
            let expected = [
                (Some(400), Some(10005), "no replacement peer connected".to_owned()),
                (Some(400), Some(10025), "invalid JSON: json: unknown field \"foo\"".to_owned()),
                (Some(400), Some(10005), "preferred server \"nobody\" not known".to_owned()),
            ];
            let expected: Vec<_> = expected.iter().flat_map(|e| vec![e.clone(); 3]).collect();
            assert_eq!(said, expected);
            assert_eq!(trio.meta_leader().await, meta, "nobody has moved");
            for (body, code) in [(json!({"peer_id": "nope"}), 10044), (json!({"peer": "nope"}), 10044)] {
                let refused = trio.try_system("SERVER.REMOVE", &body).await.unwrap();
                assert_eq!(refused["error"]["err_code"], json!(code), "{refused}");
            }
        });
    }
}

#[test]
fn the_leader_of_the_meta_group_can_be_removed() {
    run_on(Kind::Linnet, 4, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let leader = trio.meta_leader().await;
        let answer = trio.try_system("SERVER.REMOVE", &json!({"peer": leader})).await;
        assert_eq!(answer.as_ref().map(|a| &a["success"]), Some(&json!(true)), "{answer:?}");
        let others: Vec<_> = trio.names().into_iter().filter(|name| *name != leader).collect();
        eventually("a meta group without it", async || {
            let page = trio.try_see(&others[0], "/jsz")?;
            let meta = &page["meta_cluster"];
            let is_there = meta["replicas"].as_array()?.iter().any(|r| r["name"] == json!(leader));
            let is_led = meta["leader"].as_str().is_some_and(|l| !l.is_empty() && l != leader);
            (is_led && !is_there).then_some(())
        })
        .await;
        trio.api(&others[1], "STREAM.CREATE.T", json!({"name": "T", "subjects": ["t"], "num_replicas": 3}))
            .await;
    });
}
impl Trio {
    /// How many streams of these every server leads.
    async fn led(&mut self, streams: usize) -> BTreeMap<String, usize> {
        let mut led = BTreeMap::new();
        for n in 0..streams {
            *led.entry(self.leader(&format!("S{n}")).await).or_default() += 1;
        }
        led
    }
}

/// What a server that stops has led does not all go to the same other one.
#[test]
fn what_a_server_led_is_shared_by_the_others() {
    run(Kind::Linnet, async |trio| {
        let streams = 24;
        for n in 0..streams {
            trio.stream(&format!("S{n}"), 3, json!({})).await;
        }
        for n in 0..streams {
            let stream = format!("S{n}");
            trio.all_current(&stream).await;
            if trio.leader(&stream).await != "n0" {
                let body = json!({"placement": {"preferred": "n0"}});
                trio.api("n1", &format!("STREAM.LEADER.STEPDOWN.{stream}"), body).await;
                trio.shows(&stream, "its leader", |info| info["cluster"]["leader"] == json!("n0")).await;
            }
        }
        trio.terminate("n0");
        let led = trio.led(streams).await;
        assert!(led.len() == 2 && led.values().all(|count| *count >= 5), "{led:?}");
        // Nobody is asked for, so anybody may be taken.
        let mut taken = BTreeMap::new();
        trio.restart("n0");
        trio.all_current("S0").await;
        for _ in 0..20 {
            let before = trio.leader("S0").await;
            trio.api("n1", "STREAM.LEADER.STEPDOWN.S0", Value::Null).await;
            let moved = |info: &Value| info["cluster"]["leader"].as_str().is_some_and(|l| l != before);
            let info = trio.shows("S0", "another leader", moved).await;
            *taken.entry(info["cluster"]["leader"].to_string()).or_insert(0) += 1;
            trio.all_current("S0").await;
        }
        assert!(taken.len() > 1, "{taken:?}");
    });
}
