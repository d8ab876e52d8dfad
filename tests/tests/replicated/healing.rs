//! Servers are taken out, and streams get replicas elsewhere.

use serde_json::{Value, json};

use super::failover::Publisher;
use super::trio::{Trio, publish, run, run_on};
use crate::harness::{Kind, eventually};

#[test]
fn a_stream_is_taken_off_a_server_by_name_or_id() {
    run_on(Kind::Linnet, 4, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let publisher = Publisher::begin(trio, "s").await;
        for by_id in [false, true] {
            let members = trio.members("S").await;
            let spare = trio.names().into_iter().find(|name| !members.contains(name)).unwrap();
            // The leader goes, too.
            let gone = members[usize::from(by_id)].clone();
            let id = linnet_ids::PeerId::of_name(&gone).to_string();
            let body = json!({"peer": if by_id { &id } else { &gone }});
            let answer = trio.api("n0", "STREAM.PEER.REMOVE.S", body).await;
            assert_eq!(answer["success"], json!(true), "{answer}");
            trio.shows("S", "the other member", |info| {
                let text = info["cluster"].to_string();
                text.contains(&spare) && !text.contains(&gone)
            })
            .await;
            trio.has_replicas("S", 3).await;
            trio.has_no_streams(&gone).await;
        }
        let published = publisher.end().await;
        published.is_in(trio, "S").await;
    });
}

#[test]
fn a_stream_is_not_taken_off_a_server_without_another_one_for_it() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        trio.stream("R", 1, json!({})).await;
        let only = trio.leader("R").await;
        for (stream, peer, code) in
            [("S", "", 10003), ("S", "n1", 10075), ("S", "nobody", 10040), ("R", only.as_str(), 10075)]
        {
            let call = format!("STREAM.PEER.REMOVE.{stream}");
            let answer = trio.try_api("n0", &call, &json!({"peer": peer})).await.unwrap();
            assert_eq!(answer["error"]["err_code"], json!(code), "{stream} {peer}: {answer}");
        }
        trio.all_current("S").await;
    });
}

#[test]
fn a_dead_server_that_is_removed_is_replaced_where_a_spare_exists() {
    run_on(Kind::Linnet, 4, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.roaming().await;
        for n in 1..=20 {
            assert_eq!(publish(&client, "s", &n.to_string()).await, n);
        }
        let dead = trio.members("S").await.remove(2);
        trio.kill(&dead);
        trio.removes_server(&dead).await;
        trio.shows("S", "other members", |info| !info["cluster"].to_string().contains(&dead)).await;
        trio.has_replicas("S", 3).await;
        assert_eq!(trio.info("S").await["state"]["messages"], json!(20));
    });
}

#[test]
fn a_server_that_was_away_when_a_stream_was_taken_off_it_lets_go_when_it_returns() {
    run_on(Kind::Linnet, 4, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.roaming().await;
        publish(&client, "s", "1").await;
        let dead = trio.members("S").await.remove(1);
        trio.kill(&dead);
        let at = trio.running().remove(0);
        let answer = trio.api(&at, "STREAM.PEER.REMOVE.S", json!({"peer": dead})).await;
        assert_eq!(answer["success"], json!(true), "{answer}");
        trio.shows("S", "other members", |info| !info["cluster"].to_string().contains(&dead)).await;
        trio.has_replicas("S", 3).await;
        trio.restart(&dead);
        trio.has_no_streams(&dead).await;
        trio.has_replicas("S", 3).await;
    });
}

#[test]
fn a_server_that_is_removed_while_it_runs_switches_jetstream_off() {
    run_on(Kind::Linnet, 4, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let leader = trio.meta_leader().await;
        let removed = trio.members("S").await.into_iter().find(|name| *name != leader).unwrap();
        trio.removes_server(&removed).await;
        let page = |trio: &Trio, path: &str| {
            let member = trio.cluster.members().iter().find(|member| member.name() == removed).unwrap();
            member.server().monitor_get(path).ok().map(|answer| (answer.status, answer.body))
        };
        eventually("a server without JetStream", async || {
            let (status, body) = page(trio, "/healthz")?;
            (status == 503 && body.contains("JetStream not enabled (10076)")).then_some(())
        })
        .await;
        assert_eq!(page(trio, "/healthz?js-server-only=true").unwrap().0, 200);
        trio.shows("S", "other members", |info| !info["cluster"].to_string().contains(&removed)).await;
        trio.has_replicas("S", 3).await;
    });
}

#[test]
fn without_a_spare_a_stream_has_fewer_replicas_until_a_server_comes() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        trio.stream("R", 1, json!({})).await;
        let only = trio.leader("R").await;
        let leader = trio.meta_leader().await;
        let dead = trio.names().into_iter().find(|name| *name != leader && *name != only).unwrap();
        trio.kill(&dead);
        trio.removes_server(&dead).await;
        let info = trio.has_replicas("S", 2).await;
        assert_eq!(info["config"]["num_replicas"], json!(3), "{info}");
        let client = trio.roaming().await;
        assert_eq!(publish(&client, "s", "1").await, 1);
    });
}

#[test]
fn a_server_that_joins_makes_streams_whole() {
    run_on(Kind::Linnet, 4, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let members = trio.members("S").await;
        let spare = trio.names().into_iter().find(|name| !members.contains(name)).unwrap();
        trio.kill(&spare);
        let leader = trio.meta_leader().await;
        let gone = members[1..].iter().find(|name| **name != leader).unwrap();
        // It runs still: without it and the spare one, two of four could decide nothing.
        trio.removes_server(gone).await;
        trio.has_replicas("S", 2).await;
        trio.restart(&spare);
        trio.has_replicas("S", 3).await;
        assert!(trio.members("S").await.contains(&spare));
    });
}

#[test]
fn what_only_a_removed_server_has_is_not_begun_again_elsewhere() {
    run(Kind::Linnet, async |trio| {
        let leader = trio.meta_leader().await;
        let dead = trio.names().into_iter().find(|name| *name != leader).unwrap();
        let mut theirs = None;
        for n in 0..20 {
            let name = format!("R{n}");
            trio.stream(&name, 1, json!({})).await;
            if trio.leader(&name).await == dead {
                theirs = Some(name);
                break;
            }
        }
        let name = theirs.expect("a stream on each server");
        let client = trio.roaming().await;
        publish(&client, &name.to_lowercase(), "kept").await;
        trio.kill(&dead);
        trio.removes_server(&dead).await;
        eventually("the stream among those that are missing", async || {
            let list = trio.try_api(&leader, "STREAM.LIST", &json!({})).await?;
            list["missing"].as_array()?.contains(&json!(name)).then_some(())
        })
        .await;
        eventually("that the stream is offline", async || {
            let answer = trio.try_api(&leader, &format!("STREAM.INFO.{name}"), &Value::Null).await?;
            assert_eq!(answer["error"]["err_code"], json!(10118), "{answer}");
            Some(())
        })
        .await;
    });
}
