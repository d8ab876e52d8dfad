//! Streams come, change, hold what they are given, and go.

use serde_json::{Value, json};

use super::trio::{publish, run};
use crate::harness::Kind;

#[test]
fn a_stream_of_three_replicas_is_on_all_servers_and_answers_through_each() {
    run(Kind::Linnet, async |trio| {
        for storage in ["file", "memory"] {
            let name = storage.to_uppercase();
            let made = trio.stream(&name, 3, json!({"storage": storage})).await;
            assert_eq!(made["cluster"]["replicas"].as_array().unwrap().len(), 2, "{made}");
            for (n, server) in (1..).zip(trio.names()) {
                let client = trio.at(&server).await;
                assert_eq!(publish(&client, storage, &format!("{storage} {n}")).await, n);
                let info = trio.api(&server, &format!("STREAM.INFO.{name}"), Value::Null).await;
                assert_eq!(info["state"]["messages"], json!(n), "{info}");
            }
            trio.all_current(&name).await;
        }
    });
}

#[test]
fn a_change_of_configuration_and_a_purge_reach_every_replica() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.roaming().await;
        for n in 0..10 {
            publish(&client, "s", &n.to_string()).await;
        }
        let config = json!({"name": "S", "subjects": ["s"], "num_replicas": 3, "max_msgs": 4});
        trio.api("n1", "STREAM.UPDATE.S", config).await;
        let info = trio.info("S").await;
        assert_eq!((&info["config"]["max_msgs"], &info["state"]["messages"]), (&json!(4), &json!(4)));
        let old = trio.leader("S").await;
        trio.api("n2", "STREAM.LEADER.STEPDOWN.S", Value::Null).await;
        let moved = trio
            .shows("S", "another leader", |info| {
                info["cluster"]["leader"].as_str().is_some_and(|leader| leader != old)
            })
            .await;
        assert_eq!((&moved["config"]["max_msgs"], &moved["state"]["first_seq"]), (&json!(4), &json!(7)));
        let purged = trio.api("n0", "STREAM.PURGE.S", json!({"keep": 1})).await;
        assert_eq!(purged["purged"], json!(3));
        assert_eq!(trio.info("S").await["state"]["messages"], json!(1));
    });
}

#[test]
fn a_deleted_stream_leaves_nothing_and_its_name_can_be_used_again() {
    run(Kind::Linnet, async |trio| {
        for round in 0..2 {
            trio.stream("S", 3, json!({})).await;
            let client = trio.roaming().await;
            assert_eq!(publish(&client, "s", &format!("of {round}")).await, 1, "it begins empty");
            trio.all_current("S").await;
            trio.api("n2", "STREAM.DELETE.S", Value::Null).await;
            let gone = trio.try_api("n0", "STREAM.INFO.S", &Value::Null).await.unwrap();
            assert_eq!(gone["error"]["err_code"], json!(10059), "{gone}");
        }
        for name in trio.names() {
            trio.has_no_streams(&name).await;
        }
    });
}

#[test]
fn streams_of_one_replica_are_served_wherever_they_are() {
    run(Kind::Linnet, async |trio| {
        for n in 0..6 {
            trio.stream(&format!("R{n}"), 1, json!({})).await;
        }
        let mut leaders = std::collections::BTreeSet::new();
        for n in 0..6 {
            leaders.insert(trio.leader(&format!("R{n}")).await);
            for server in trio.names() {
                let client = trio.at(&server).await;
                publish(&client, &format!("r{n}"), &server).await;
            }
            assert_eq!(trio.info(&format!("R{n}")).await["state"]["messages"], json!(3));
        }
        assert!(leaders.len() > 1, "they are spread: {leaders:?}");
        let names = trio.api("n1", "STREAM.NAMES", json!({})).await;
        assert_eq!(names["streams"].as_array().unwrap().len(), 6);
        let list = trio.api("n2", "STREAM.LIST", json!({})).await;
        assert_eq!(list["streams"].as_array().unwrap().len(), 6, "{list}");
    });
}

#[test]
fn every_call_is_answered_once() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        let client = trio.at("n0").await;
        for call in
            ["INFO", "STREAM.NAMES", "STREAM.INFO.S", "STREAM.INFO.NONE", "CONSUMER.NAMES.S", "STREAM.LIST"]
        {
            let inbox = client.new_inbox();
            let mut answers = client.subscribe(inbox.clone()).await.unwrap();
            client.publish_with_reply(format!("$JS.API.{call}"), inbox, "".into()).await.unwrap();
            use futures_util::StreamExt as _;
            assert!(answers.next().await.is_some(), "{call}");
            // A second answer would come before one to a later call.
            trio.api("n0", "STREAM.LIST", json!({})).await;
            let more = tokio::time::timeout(std::time::Duration::from_millis(1), answers.next()).await;
            assert!(more.is_err(), "{call} is answered twice: {more:?}");
        }
    });
}

#[test]
fn all_servers_stop_and_start_again_with_everything() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        trio.stream("R", 1, json!({})).await;
        let client = trio.roaming().await;
        for n in 1..=20 {
            assert_eq!(publish(&client, "s", &n.to_string()).await, n);
            assert_eq!(publish(&client, "r", &n.to_string()).await, n);
        }
        let consumer = json!({"stream_name": "S", "config": {"durable_name": "D", "ack_policy": "explicit"}});
        trio.api("n0", "CONSUMER.DURABLE.CREATE.S.D", consumer).await;
        for round in 0..2 {
            for name in trio.names() {
                if round == 0 { trio.kill(&name) } else { trio.terminate(&name) }
            }
            for name in trio.names() {
                trio.restart(&name);
            }
            trio.has_leader().await;
            for stream in ["S", "R"] {
                let info = trio.info(stream).await;
                assert_eq!(info["state"]["messages"], json!(20), "{info}");
            }
            let info = trio.api("n1", "CONSUMER.INFO.S.D", Value::Null).await;
            assert_eq!(info["num_pending"], json!(20), "{info}");
            let client = trio.roaming().await;
            assert_eq!(publish(&client, "s", "1").await, 1, "ids are remembered");
        }
    });
}

#[test]
fn a_stream_in_memory_begins_again_when_all_its_servers_have_ended() {
    run(Kind::Linnet, async |trio| {
        trio.stream("M", 3, json!({"storage": "memory"})).await;
        let client = trio.roaming().await;
        publish(&client, "m", "1").await;
        for name in trio.names() {
            trio.kill(&name);
        }
        for name in trio.names() {
            trio.restart(&name);
        }
        let info = trio.info("M").await;
        assert_eq!(info["state"]["messages"], json!(0), "{info}");
        let client = trio.roaming().await;
        publish(&client, "m", "2").await;
        trio.all_current("M").await;
    });
}

#[test]
fn a_stream_in_memory_goes_on_with_what_one_of_three_servers_still_has() {
    run(Kind::Linnet, async |trio| {
        trio.stream("M", 3, json!({"storage": "memory"})).await;
        let client = trio.roaming().await;
        for n in 1..=20 {
            assert_eq!(publish(&client, "m", &n.to_string()).await, n);
        }
        trio.all_current("M").await;
        let survivor = trio.leader("M").await;
        for name in trio.names().into_iter().filter(|name| *name != survivor) {
            trio.kill(&name);
        }
        for name in trio.names().into_iter().filter(|name| *name != survivor) {
            trio.restart(&name);
        }
        let info = trio.info("M").await;
        assert_eq!(info["state"]["messages"], json!(20), "{info}");
        let client = trio.roaming().await;
        assert_eq!(publish(&client, "m", "20").await, 20, "ids are remembered");
        assert_eq!(publish(&client, "m", "21").await, 21);
        trio.all_current("M").await;
    });
}
