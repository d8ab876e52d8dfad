//! Servers of a cluster are killed, paused, wiped and damaged, their power fails and their network breaks, in random order
//! under load. Afterwards what was acknowledged is there once, at its sequence, on every server, and nothing that was
//! confirmed came again. `LINNET_FAULT_ROUNDS` makes the runs longer, `LINNET_FAULT_SEED` repeats one.

#![allow(clippy::print_stderr, reason = "a failed run is repeated with what it says")]

mod changes;
mod checks;
mod clocks;
mod disks;
mod injuries;
mod jepsen;
mod ledger;
mod load;
mod network;
mod outage;
mod partition;
mod rot;

use std::sync::Arc;
use std::time::Duration;

use linnet_launch::ClusterSpec;
use serde_json::json;

use super::trio::{Trio, run_with};
use crate::harness::{Kind, not_allowed, setting};
pub(super) use checks::led_by;
pub(super) use disks::no_tampering;
use injuries::Injury;
use ledger::Ledger;
use load::Load;
use network::{Disturbance, Network};

/// Faults of a run that is part of the ordinary tests.
const ROUNDS: u64 = 2;
/// The same where faults are many.
const FEW_ROUNDS: u64 = 1;

/// What may happen in a run.
struct Plan<'a> {
    /// Storages of the streams; one of them by chance in the ordinary tests.
    storages: &'a [&'a str],
    injuries: &'a [Injury],
    rounds: u64,
    network: Option<Network>,
    has_images: bool,
    has_clocks: bool,
}

impl Default for Plan<'_> {
    fn default() -> Self {
        Self {
            storages: &["file"],
            injuries: &[],
            rounds: ROUNDS,
            network: None,
            has_images: false,
            has_clocks: false,
        }
    }
}

#[test]
fn one_server_at_a_time_suffers() {
    let injuries =
        &[Injury::Kill, Injury::Pause, Injury::Terminate, Injury::RollTerminating, Injury::RollKilling];
    soak(Plan { storages: &["file", "memory"], injuries, ..Plan::default() });
}

#[test]
fn a_disk_at_a_time_is_lost_or_damaged() {
    let injuries = &[Injury::Wipe, Injury::Rot, Injury::Kill];
    soak(Plan { storages: &["file", "memory"], injuries, ..Plan::default() });
}

#[test]
fn several_servers_suffer_together() {
    let injuries = &[Injury::KillTwo, Injury::KillAll, Injury::PauseTwo, Injury::KillAndPause, Injury::Pause];
    soak(Plan { injuries, ..Plan::default() });
}

/// All that can happen to a network.
const DISTURBANCES: [Disturbance; 9] = [
    Disturbance::Isolate,
    Disturbance::Deaf,
    Disturbance::Mute,
    Disturbance::Bridge,
    Disturbance::OneWay,
    Disturbance::Flap,
    Disturbance::Lossy,
    Disturbance::Slow,
    Disturbance::Resets,
];

#[test]
fn the_network_is_cut_lossy_and_slow() {
    match Network::of_namespaces(3) {
        Ok(network) => suffers(network, &DISTURBANCES),
        Err(why) => not_allowed(&why),
    }
}

/// Packets that come late; and the same where the network cannot be that of the kernel.
#[test]
fn the_network_between_proxies_is_cut_slow_and_late() {
    let others = if Network::of_namespaces(3).is_ok() { &[][..] } else { &DISTURBANCES[..] };
    let disturbances: Vec<_> = others.iter().copied().chain([Disturbance::Late]).collect();
    suffers(Network::of_proxies(3), &disturbances);
}

fn suffers(network: Network, disturbances: &[Disturbance]) {
    let injuries: Vec<Injury> = disturbances.iter().map(|d| Injury::Network(*d)).collect();
    soak(Plan { injuries: &injuries, rounds: FEW_ROUNDS, network: Some(network), ..Plan::default() });
}

#[test]
fn a_file_system_becomes_read_only() {
    if let Some(why) = disks::missing() {
        return not_allowed(&why);
    }
    soak(Plan { injuries: &[Injury::ReadOnly], rounds: FEW_ROUNDS, has_images: true, ..Plan::default() });
}

#[test]
fn syncs_and_writes_of_a_disk_are_slow_or_fail() {
    if let Some(why) = no_tampering() {
        return not_allowed(&why);
    }
    let injuries = &[
        Injury::SlowSyncs,
        Injury::SlowSyncsEverywhere,
        Injury::FailingSyncs,
        Injury::FailingWrites,
        Injury::FailingReads,
    ];
    soak(Plan { injuries, rounds: FEW_ROUNDS, ..Plan::default() });
}

#[test]
fn the_clock_of_a_server_jumps() {
    if let Some(why) = clocks::missing() {
        return not_allowed(&why);
    }
    let injuries = &[Injury::ClockAhead, Injury::ClockBehind, Injury::ClocksApart];
    soak(Plan { injuries, rounds: FEW_ROUNDS, has_clocks: true, ..Plan::default() });
}

/// True for runs that are no part of the ordinary tests: with more of everything.
fn is_long() -> bool {
    std::env::var_os("LINNET_FAULT_ROUNDS").is_some()
}

fn seed() -> u64 {
    let seed = setting("LINNET_FAULT_SEED", fastrand::u64(..));
    eprintln!("LINNET_FAULT_SEED={seed}");
    seed
}

fn soak(plan: Plan<'_>) {
    let rounds = setting("LINNET_FAULT_ROUNDS", plan.rounds);
    let mut random = fastrand::Rng::with_seed(seed());
    let mut injuries = plan.injuries.to_vec();
    random.shuffle(&mut injuries);
    let mut storages = plan.storages.to_vec();
    if !is_long() {
        storages = vec![storages[random.usize(..storages.len())]];
    }
    let network = plan.network.as_ref();
    let describe = |spec: ClusterSpec| {
        let spec = if plan.has_images { disks::on_images(spec) } else { spec };
        let spec = if plan.has_clocks { clocks::of_their_own(spec) } else { spec };
        match network {
            Some(network) => network.describe(spec),
            None => spec,
        }
    };
    run_with(Kind::Linnet, 3, describe, async |trio| {
        let ledger = Arc::new(Ledger::default());
        let mut streams = Vec::new();
        for storage in storages {
            streams.extend(prepare(trio, storage).await);
        }
        let load = Load::begin(trio, &streams, &ledger).await;
        for round in 0..rounds {
            grows(trio, &streams, &mut random).await;
            // Each comes once before any comes again by chance.
            let injury = match injuries.get(usize::try_from(round).unwrap()) {
                Some(injury) => *injury,
                None => injuries[random.usize(..injuries.len())],
            };
            injury.inflict(trio, network, &streams, &mut random).await;
            ledger.assert_sound(&format!("round {round}, {injury:?}"));
            for stream in &streams {
                trio.all_current(stream).await;
            }
        }
        load.end().await;
        checks::keeps_its_word(trio, &streams, &ledger).await;
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
