//! Whole clusters: several servers with the catalogue's group and groups of streams, each over one log and one faulty disk,
//! with the production decisions about streams and members (`linnet_replication::cluster`), opening of stores, loop around
//! groups, stores and transfers; clients that create, change, scale and delete streams, publish, consume and acknowledge;
//! servers that come and go. All from one seed.
//!
//! `server`, `host` and `opening` are one server's process; `clerk`, `decisions`, `reconciling` and `api` carry out what it
//! does about the catalogue; `workload` has the clients, `faults` what breaks beside [`field`](crate::field),
//! `invariants` one promise per file.

mod alone;
mod api;
mod clerk;
mod decisions;
mod facts;
mod faults;
mod host;
mod invariants;
mod letters;
mod mutation;
mod opening;
mod reconciling;
mod server;
mod summary;
mod workload;
mod world;

use std::ops::Range;

pub use mutation::FleetMutation;
pub use summary::{FLEET_EVENTS, FleetEvent, FleetSummary};
use world::World;

/// The first seed at which broken servers are caught, and how.
pub fn caught_in_fleet(mutation: FleetMutation, seeds: Range<u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| {
        let mut world = World::new(seed, false);
        world.mutation = Some(mutation);
        world.run().err().map(|failure| (seed, failure))
    })
}

/// Runs every seed and adds up what happened. Goes on after a failure.
pub fn sweep_fleets(seeds: Range<u64>) -> FleetSummary {
    let mut summary = FleetSummary::default();
    for seed in seeds {
        let mut world = World::new(seed, false);
        let outcome = world.run();
        summary.add(seed, world.field.steps, &world.field.faults, &world.events, outcome);
    }
    summary
}

/// Runs one seed; what happened, line by line, and how it ended.
pub fn replay_fleet(seed: u64) -> (Vec<String>, Result<(), String>) {
    let mut world = World::new(seed, true);
    let outcome = world.run();
    (world.field.trace.take().unwrap_or_default(), outcome)
}

/// Hash of everything that was sent.
pub fn fingerprint_fleet(seed: u64) -> u64 {
    let mut world = World::new(seed, false);
    let _ = world.run();
    world.field.hash
}
