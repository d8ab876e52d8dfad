//! The simulator: the production loops of streams, consumers, log and store over a fake clock and a faulty disk, all
//! from one seed.
//!
//! `process` turns the loops as the server's threads do, `restore` and `flows` carry out the steps of opening a
//! store and of creating and removing streams; `world` holds clients, faults and evidence (`facts`), `model` is what a
//! stream should hold, and `invariants` has one promise per file. Start reading at [`sweep`], then `run`.
//!
//! It owns no product behaviour and is linked into nothing.

mod adoption;
mod backups;
mod cluster;
mod consumer_facts;
mod facts;
mod field;
mod fleet;
mod flows;
mod invariants;
mod log;
mod model;
mod mutation;
mod outbox;
mod process;
mod pulls;
mod questions;
mod receiving;
mod replicas;
mod restore;
mod run;
mod summary;
mod trace;
mod wire;
mod workload;
mod world;

use std::ops::Range;

pub use cluster::{
    CLUSTER_EVENTS, ClusterEvent, ClusterMutation, ClusterSummary, caught_in_cluster, fingerprint_cluster,
    replay_cluster, sweep_clusters,
};
pub use field::Fault;
pub use fleet::{
    FLEET_EVENTS, FleetEvent, FleetMutation, FleetSummary, caught_in_fleet, fingerprint_fleet, replay_fleet,
    sweep_fleets,
};
pub use invariants::Violation;
pub use mutation::Mutation;
pub use replicas::{
    REPLICA_EVENTS, ReplicaEvent, ReplicaMutation, ReplicaSummary, caught_in_replicas, replay_replicas,
    sweep_replicas,
};
pub use summary::{Failure, Summary};

/// Which faults a run meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Restarts only.
    Calm,
    /// Power loss, kills, full disks, failing writes and syncs: no promise may break.
    Faults,
    /// Stored data rots as well: what is lost beyond the promise must be reported.
    Damage,
}

/// Runs every seed and adds up what happened. Goes on after a failure.
pub fn sweep(seeds: Range<u64>, mode: Mode) -> Summary {
    sweep_mutated(seeds, mode, None)
}

/// As [`sweep`], with a server that is broken on purpose.
pub fn sweep_mutated(seeds: Range<u64>, mode: Mode, mutation: Option<Mutation>) -> Summary {
    let mut summary = Summary::default();
    for seed in seeds {
        summary.add(seed, run::run(seed, mode, mutation, false));
    }
    summary
}

/// The first seed at which a broken server is caught, and the promise that it broke.
pub fn caught(mutation: Mutation, seeds: Range<u64>) -> Option<(u64, Violation)> {
    seeds.into_iter().find_map(|seed| {
        let ended = run::run(seed, mutation.mode(), Some(mutation), false);
        ended.outcome.err().map(|violation| (seed, violation))
    })
}

/// Runs one seed; what happened, line by line, and how it ended.
pub fn replay(seed: u64, mode: Mode) -> (Vec<String>, Result<(), Violation>) {
    let ended = run::run(seed, mode, None, true);
    (ended.trace, ended.outcome)
}

/// Hash of everything that was on disk at every restart and of everything that left the server.
pub fn fingerprint(seed: u64, mode: Mode) -> u64 {
    run::run(seed, mode, None, false).hash
}

/// Positive answers to publishes before and after a sync of the log fails, while clients go on.
pub fn acks_around_failing_sync(seed: u64) -> Result<(u64, u64), Violation> {
    run::around_failing_sync(seed)
}
