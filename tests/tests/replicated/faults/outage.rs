//! How long writes do not go on when the leader of a stream is lost.

use std::time::Duration;

use tokio::time::Instant;

use serde_json::json;

use super::super::trio::{Trio, publish, run};
use crate::harness::{Kind, setting};

#[test]
fn writes_go_on_soon_after_a_leader_is_killed_or_paused() {
    run(Kind::Linnet, async |trio| {
        trio.stream("S", 3, json!({})).await;
        for n in 0..setting("LINNET_FAULT_ROUNDS", 1) {
            let leader = trio.leader("S").await;
            let elapsed = outage(trio, &format!("kill {n}"), &leader, |trio, leader| trio.kill(leader)).await;
            trio.restart(&leader);
            trio.all_current("S").await;
            eprintln!("writes go on {elapsed:?} after a kill");
            let leader = trio.leader("S").await;
            let elapsed =
                outage(trio, &format!("stop {n}"), &leader, |trio, leader| trio.pause(leader)).await;
            trio.resume(&leader);
            trio.all_current("S").await;
            eprintln!("writes go on {elapsed:?} after a pause");
        }
    });
}

async fn outage(trio: &mut Trio, id: &str, leader: &str, hurt: impl FnOnce(&mut Trio, &str)) -> Duration {
    let other = trio.names().into_iter().find(|name| name != leader).unwrap();
    let client = trio.at(&other).await;
    publish(&client, "s", &format!("before {id}")).await;
    hurt(trio, leader);
    let begun = Instant::now();
    publish(&client, "s", id).await;
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_secs(8), "{id}: {elapsed:?}");
    elapsed
}
