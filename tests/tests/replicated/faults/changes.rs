//! Servers are killed at random moments while streams get replicas, move, are repaired and come into the cluster.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::failover::Publisher;
use super::super::trio::{Trio, publish, run, run_on};
use super::super::{kept, repaired};
use super::{a_while, seed};
use crate::harness::{Kind, eventually, setting};

/// Changes in a run that is part of the ordinary tests.
const ROUNDS: u64 = 1;
/// Messages that a replica has to take.
const MESSAGES: u64 = 200;

fn rounds() -> u64 {
    setting("LINNET_FAULT_ROUNDS", ROUNDS)
}

/// Kills a server at random, soon, and starts it again; twice at times.
async fn kills(trio: &mut Trio, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..=2) {
        tokio::time::sleep(Duration::from_millis(random.u64(..1500))).await;
        let names = trio.names();
        let victim = &names[random.usize(..names.len())];
        eprintln!("kill {victim}");
        trio.kill(victim);
        tokio::time::sleep(a_while(random) / 2).await;
        trio.restart(victim);
    }
}

/// A stream of so many replicas, with messages.
async fn filled(trio: &mut Trio, replicas: u64) {
    trio.stream("S", replicas, json!({})).await;
    let client = trio.roaming().await;
    let body = "x".repeat(8_000);
    let sent = (0..MESSAGES).map(|n| {
        let (client, id) = (client.clone(), format!("{n}-{body}"));
        async move { publish(&client, "s", &id).await }
    });
    futures_util::future::join_all(sent).await;
}

/// Every replica has every message that was acknowledged, and counts the same.
async fn has_everything(trio: &mut Trio, publisher: Publisher, replicas: usize) {
    let published = publisher.end().await;
    trio.has_replicas("S", replicas).await;
    let mut states = Vec::new();
    for server in trio.members("S").await {
        super::checks::led_by(trio, "S", &server).await;
        let info = trio.has_replicas("S", replicas).await;
        let state = &info["state"];
        assert_eq!(state["messages"], state["last_seq"], "{info}");
        states.push(["messages", "first_seq", "last_seq", "bytes"].map(|key| state[key].clone()));
        published.is_in(trio, "S").await;
    }
    states.dedup();
    assert_eq!(states.len(), 1, "{states:?}");
}

async fn scales(trio: &mut Trio, replicas: usize, random: &mut fastrand::Rng) {
    let publisher = Publisher::begin(trio, "s").await;
    let config = json!({"name": "S", "subjects": ["s"], "num_replicas": replicas});
    let at = trio.running().remove(0);
    trio.api(&at, "STREAM.UPDATE.S", config).await;
    kills(trio, random).await;
    has_everything(trio, publisher, replicas).await;
}

#[test]
fn servers_are_killed_while_a_stream_gets_replicas_and_loses_them() {
    let mut random = fastrand::Rng::with_seed(seed());
    run(Kind::Linnet, async |trio| {
        filled(trio, 1).await;
        for _ in 0..rounds() {
            scales(trio, 3, &mut random).await;
            scales(trio, 1, &mut random).await;
        }
    });
}

#[test]
fn servers_are_killed_while_a_stream_moves() {
    let mut random = fastrand::Rng::with_seed(seed());
    run_on(Kind::Linnet, 4, async |trio| {
        filled(trio, 3).await;
        for _ in 0..rounds() {
            let publisher = Publisher::begin(trio, "s").await;
            let members = trio.members("S").await;
            let from = members[random.usize(..3)].clone();
            let answer = eventually("an answer", async || {
                trio.try_system("ACCOUNT.STREAM.MOVE.$G.S", &json!({"server": from})).await
            })
            .await;
            assert!(answer["error"].is_null(), "{answer}");
            kills(trio, &mut random).await;
            trio.shows("S", "the stream elsewhere", |info| {
                let cluster = &info["cluster"];
                cluster["desired"].is_null() && !cluster.to_string().contains(&format!("\"{from}\""))
            })
            .await;
            has_everything(trio, publisher, 3).await;
        }
    });
}

#[test]
fn servers_are_killed_while_replicas_are_repaired() {
    let mut random = fastrand::Rng::with_seed(seed());
    run(Kind::Linnet, async |trio| {
        let ids = repaired::filled(trio).await;
        for _ in 0..rounds() {
            let names = trio.names();
            let victim = names[random.usize(..3)].clone();
            trio.terminate(&victim);
            let files = repaired::blocks(trio, &victim, false);
            // A few messages of one block, and another block.
            for _ in 0..4 {
                crate::scrub::flip_byte(&files[0], random.u64(1_000..200_000));
            }
            std::fs::remove_file(&files[random.usize(1..files.len() - 1)]).unwrap();
            let _ = std::fs::remove_file(files[0].with_extension("idx"));
            trio.restart(&victim);
            kills(trio, &mut random).await;
            repaired::is_whole(trio, &victim).await;
            repaired::leads(trio, &victim).await;
            repaired::reads_everything(trio, &ids).await;
        }
    });
}

#[test]
fn servers_are_killed_while_streams_come_into_the_cluster() {
    let mut random = fastrand::Rng::with_seed(seed());
    run(Kind::Linnet, async |trio| {
        for round in 0..rounds() {
            let meta = trio.meta_leader().await;
            let newcomer = trio.names().into_iter().find(|name| *name != meta).unwrap();
            let name = format!("S{round}");
            kept::come_from_alone(trio, &newcomer, &name).await;
            kills(trio, &mut random).await;
            let info = trio.shows(&name, "the stream of the newcomer", |info| info["error"].is_null()).await;
            assert_eq!(info["state"]["messages"], json!(5), "{info}");
            let client = trio.roaming().await;
            assert_eq!(publish(&client, &name.to_lowercase(), "sixth").await, 6);
            // What the newcomer had before is no more part of the cluster.
            let at = trio.running().remove(0);
            trio.api(&at, &format!("STREAM.DELETE.{name}"), Value::Null).await;
        }
    });
}
