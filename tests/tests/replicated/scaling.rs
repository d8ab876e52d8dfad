//! Streams get more replicas and fewer, while they are written to.

use serde_json::json;

use super::failover::Publisher;
use super::trio::{Trio, publish, run, run_on};
use crate::harness::Kind;

async fn scale(trio: &mut Trio, stream: &str, replicas: usize) {
    let config = json!({"name": stream, "subjects": [stream.to_lowercase()], "num_replicas": replicas});
    let at = trio.running().remove(0);
    let answer = trio.api(&at, &format!("STREAM.UPDATE.{stream}"), config).await;
    assert_eq!(answer["config"]["num_replicas"], json!(replicas), "{answer}");
}

#[test]
fn a_stream_grows_to_five_replicas_and_shrinks_to_one() {
    run_on(Kind::Linnet, 5, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let publisher = Publisher::begin(trio, "s").await;
        for count in [5, 3, 5, 1] {
            scale(trio, "S", count).await;
            trio.has_replicas("S", count).await;
            let members = trio.members("S").await;
            for server in trio.names().iter().filter(|name| !members.contains(name)) {
                trio.has_no_streams(server).await;
            }
        }
        let published = publisher.end().await;
        assert!(published.count() > 30);
        published.is_in(trio, "S").await;
    });
}

#[test]
fn new_replicas_have_what_was_stored_before_them() {
    for storage in ["file", "memory"] {
        run_on(Kind::Linnet, 4, async |trio| {
            trio.stream("S", 3, json!({"storage": storage})).await;
            let client = trio.roaming().await;
            for n in 1..=50 {
                assert_eq!(publish(&client, "s", &n.to_string()).await, n);
            }
            let members = trio.members("S").await;
            let spare = trio.names().into_iter().find(|name| !members.contains(name)).unwrap();
            let answer = trio.api(&spare, "STREAM.PEER.REMOVE.S", json!({"peer": members[1]})).await;
            assert_eq!(answer["success"], json!(true), "{answer}");
            trio.shows("S", "the new member", |info| {
                let replicas = info["cluster"]["replicas"].as_array().unwrap();
                replicas.len() == 2
                    && replicas.iter().any(|r| r["name"] == json!(spare) && r["current"] == json!(true))
            })
            .await;
            let preferred = json!({"placement": {"preferred": spare}});
            trio.api(&spare, "STREAM.LEADER.STEPDOWN.S", preferred).await;
            let info =
                trio.shows("S", "the new leader", |info| info["cluster"]["leader"] == json!(spare)).await;
            assert_eq!(info["state"]["messages"], json!(50), "{info}");
            assert_eq!(publish(&client, "s", "7").await, 7, "ids are remembered");
        });
    }
}

#[test]
fn more_replicas_than_servers_are_refused() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let config = json!({"name": "S", "subjects": ["s"], "num_replicas": 5});
        let answer = trio.try_api("n0", "STREAM.UPDATE.S", &config).await.unwrap();
        assert_eq!(answer["error"]["err_code"], json!(10005), "{answer}");
        assert_eq!(trio.info("S").await["config"]["num_replicas"], json!(3));
    });
}
