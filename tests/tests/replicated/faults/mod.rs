//! Servers of a cluster are killed, paused, wiped and damaged in random order under load. Afterwards what was
//! acknowledged is there once, at its sequence, on every server, and nothing that was confirmed came again.
//! `LINNET_FAULT_ROUNDS` makes the runs longer, `LINNET_FAULT_SEED` repeats one.

#![allow(clippy::print_stderr, reason = "a failed run is repeated with what it says")]

mod checks;
mod injuries;
mod ledger;
mod load;
mod outage;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::trio::{Trio, run};
use crate::harness::{Kind, setting};
use injuries::Injury;
use ledger::Ledger;
use load::Load;

/// Faults of a run that is part of the ordinary tests.
const ROUNDS: u64 = 4;

/// What may happen in a run.
struct Plan {
    /// Storage of the streams.
    storages: &'static [&'static str],
    injuries: &'static [Injury],
}

#[test]
fn one_server_at_a_time_suffers() {
    let injuries = &[Injury::Kill, Injury::Pause, Injury::Terminate, Injury::Kill, Injury::Pause];
    soak(&Plan { storages: &["file", "memory"], injuries });
}

#[test]
fn a_disk_at_a_time_is_lost_or_damaged() {
    let injuries = &[Injury::Wipe, Injury::FlipLog, Injury::Kill];
    soak(&Plan { storages: &["file", "memory"], injuries });
}

#[test]
fn several_servers_suffer_together() {
    let injuries = &[Injury::KillTwo, Injury::KillAll, Injury::PauseTwo, Injury::KillAndPause, Injury::Pause];
    soak(&Plan { storages: &["file"], injuries });
}

fn soak(plan: &Plan) {
    let rounds = setting("LINNET_FAULT_ROUNDS", ROUNDS);
    let seed = setting("LINNET_FAULT_SEED", fastrand::u64(..));
    eprintln!("LINNET_FAULT_SEED={seed}");
    run(Kind::Linnet, async |trio| {
        let mut random = fastrand::Rng::with_seed(seed);
        let ledger = Arc::new(Ledger::default());
        let mut streams = Vec::new();
        for storage in plan.storages {
            streams.extend(prepare(trio, storage).await);
        }
        let load = Load::begin(trio, &streams, &ledger).await;
        for round in 0..rounds {
            grows(trio, &streams, &mut random).await;
            // Each comes once before any comes again by chance.
            let injury = match plan.injuries.get(usize::try_from(round).unwrap()) {
                Some(injury) => *injury,
                None => plan.injuries[random.usize(..plan.injuries.len())],
            };
            injury.inflict(trio, &streams, &mut random).await;
            ledger.assert_sound(&format!("round {round}, {injury:?}"));
            for stream in &streams {
                trio.all_current(stream).await;
            }
        }
        load.end().await;
        checks::everything(trio, &streams, &ledger).await;
    });
}

/// A stream of each kind with its consumer, of this storage.
async fn prepare(trio: &mut Trio, storage: &str) -> [String; 3] {
    let letter = storage[..1].to_uppercase();
    let streams = ["L", "Q", "K"].map(|kind| format!("{kind}{letter}"));
    for stream in &streams {
        let subjects = json!([format!("{}.>", stream.to_lowercase())]);
        let mut with = json!({"storage": storage, "subjects": subjects});
        match &stream[..1] {
            "Q" => with["retention"] = "workqueue".into(),
            // Like a bucket of keys and values that keeps 64 values of each.
            "K" => {
                with["max_msgs_per_subject"] = 64.into();
                with["allow_direct"] = true.into();
                with["deny_delete"] = true.into();
            }
            _ => {}
        }
        trio.stream(stream, 3, with).await;
        if &stream[..1] != "K" {
            let config = json!({"durable_name": "D", "ack_policy": "explicit", "ack_wait": 2_000_000_000_u64,
                "max_ack_pending": 100});
            let body = json!({"stream_name": stream, "config": config});
            trio.api("n0", &format!("CONSUMER.DURABLE.CREATE.{stream}.D"), body).await;
        }
    }
    streams
}

/// Waits until each stream has some more messages than now, by chance.
async fn grows(trio: &mut Trio, streams: &[String], random: &mut fastrand::Rng) {
    let more = random.u64(5..60);
    for stream in streams {
        let before = trio.info(stream).await["state"]["last_seq"].as_u64().unwrap();
        trio.shows(stream, "more messages", |info| {
            info["state"]["last_seq"].as_u64().unwrap() > before + more
        })
        .await;
    }
}

/// Between the parts of a fault that overlap.
fn a_while(random: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(random.u64(100..3000))
}
