//! Replicated streams: servers with the production group, log, store and transfer of states over their own faulty
//! disks, a network that loses, delays and cuts, clients that publish, pull, acknowledge and remove, all from one seed.
//!
//! `server` turns one server's loop, `world` holds servers and clients, `faults` breaks things beside [`field`](crate::field), `checks` has the promises.

mod checks;
mod clients;
mod faults;
mod opening;
mod server;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use world::World;

use crate::field::{Fault, count_all};

/// Something that happened, for the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicaEvent {
    /// A leader began to lead.
    Leading,
    /// Leadership was handed over.
    HandOver,
    /// A checkpoint was recorded.
    Checkpoint,
    /// A replica began to take a state.
    TransferBegun,
    /// A replica went on with a state that it took.
    TransferDone,
    /// A transfer came to nothing.
    TransferGivenUp,
    /// A publisher was told that its message is stored.
    Stored,
    /// A publisher was told that its message was stored before.
    Duplicate,
    /// A client got a message.
    Delivered,
    /// A client got a message not for the first time.
    Redelivered,
    /// A client was told that its acknowledgement counts.
    Confirmed,
    /// Messages were purged or deleted.
    Removed,
    /// The state of a replica was compared with another one's at the same place of the log.
    Compared,
}

/// Every kind of event.
pub const REPLICA_EVENTS: &[ReplicaEvent] = &[
    ReplicaEvent::Leading,
    ReplicaEvent::HandOver,
    ReplicaEvent::Checkpoint,
    ReplicaEvent::TransferBegun,
    ReplicaEvent::TransferDone,
    ReplicaEvent::TransferGivenUp,
    ReplicaEvent::Stored,
    ReplicaEvent::Duplicate,
    ReplicaEvent::Delivered,
    ReplicaEvent::Redelivered,
    ReplicaEvent::Confirmed,
    ReplicaEvent::Removed,
    ReplicaEvent::Compared,
];

/// A server that is broken on purpose, which the checks must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaMutation {
    /// Syncs of the disk do nothing.
    IgnoreSyncs,
    /// Files of the state before go when the new one is installed, not when the log has recorded that.
    OldStateGoesFirst,
    /// A state that arrived is installed without its newest messages.
    StateWithoutEnd,
    /// A state is described as one of a later place of the log.
    StateOfLaterPlace,
    /// Checkpoints end the log behind a state that is on its way.
    CheckpointsGoOn,
}

impl ReplicaMutation {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::IgnoreSyncs,
        Self::OldStateGoesFirst,
        Self::StateWithoutEnd,
        Self::StateOfLaterPlace,
        Self::CheckpointsGoOn,
    ];
}

/// The first seed at which broken servers are caught, and how.
pub fn caught_in_replicas(mutation: ReplicaMutation, seeds: Range<u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| {
        let mut world = World::new(seed, false);
        world.mutation = Some(mutation);
        world.run().err().map(|failure| (seed, failure))
    })
}

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct ReplicaSummary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Passes of servers' loops.
    pub steps: u64,
    /// What broke, and how often.
    pub faults: BTreeMap<Fault, u64>,
    /// What happened, and how often.
    pub events: BTreeMap<ReplicaEvent, u64>,
    /// Seeds that broke a promise, and which.
    pub failures: Vec<(u64, String)>,
}

impl fmt::Display for ReplicaSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seeds, {} steps, {} failures", self.seeds, self.steps, self.failures.len())?;
        for (fault, times) in &self.faults {
            writeln!(f, "  {fault:?} {times}")?;
        }
        for (event, times) in &self.events {
            writeln!(f, "  {event:?} {times}")?;
        }
        for (seed, failure) in &self.failures {
            writeln!(f, "  seed {seed}: {failure}")?;
        }
        Ok(())
    }
}

/// Runs every seed and adds up what happened. Goes on after a failure.
pub fn sweep_replicas(seeds: Range<u64>) -> ReplicaSummary {
    let mut summary = ReplicaSummary::default();
    for seed in seeds {
        let mut world = World::new(seed, false);
        let outcome = world.run();
        summary.seeds += 1;
        summary.steps += world.field.steps;
        count_all(&mut summary.faults, &world.field.faults);
        count_all(&mut summary.events, &world.events);
        summary.failures.extend(outcome.err().map(|failure| (seed, failure)));
    }
    summary
}

/// Runs one seed; what happened, line by line, and how it ended.
pub fn replay_replicas(seed: u64) -> (Vec<String>, Result<(), String>) {
    let mut world = World::new(seed, true);
    let outcome = world.run();
    (world.field.trace.take().unwrap_or_default(), outcome)
}
