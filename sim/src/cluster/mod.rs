//! Replicated groups: several servers, each with the production node, driver, liveness and log over its own faulty
//! disk, a network that loses, delays and cuts, and clocks that differ, all from one seed.
//!
//! The state machine is a counter: what is under test is everything below it. `server` turns the loops as a server
//! does, `world` holds servers, network, clients and evidence, `faults` breaks things, `checks` has the promises.

mod checks;
mod counter;
mod faults;
mod server;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use world::World;

/// Something that happened, for the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterEvent {
    /// A server lost power.
    PowerLoss,
    /// A server lost power in the middle of a write.
    PowerLossInWrite,
    /// A process died, the machine stayed up.
    Kill,
    /// A process did not run for a while.
    Pause,
    /// Two servers could not hear each other.
    Cut,
    /// One server could not be heard by another one that it heard.
    OneWayCut,
    /// A connection broke: frames on the way were lost.
    Reset,
    /// A frame arrived late, perhaps after the receiver was restarted.
    Late,
    /// A frame arrived twice.
    Twice,
    /// A sync failed and with it the log until it was opened again.
    FailedSync,
    /// Opening a store failed for want of power or a sync.
    FailedStart,
    /// The disk was slow.
    SlowDisk,
    /// A store was replaced by an empty one.
    Wipe,
    /// A store that was replaced came back.
    Remount,
    /// A stopped server's log was damaged.
    DamagedLog,
    /// A replica found that it may have forgotten something.
    Amnesia,
    /// It was re-admitted.
    Readmission,
    /// A leader was elected.
    Election,
    /// Leadership was handed over.
    Transfer,
    /// A replica got a state instead of entries.
    Snapshot,
    /// A replica read entries from its log for another one.
    ReadFromLog,
    /// A checkpoint was recorded.
    Checkpoint,
    /// A client was told that its addition counts.
    Acknowledged,
    /// A read was confirmed.
    Read,
}

/// Every kind of event.
pub const CLUSTER_EVENTS: &[ClusterEvent] = &[
    ClusterEvent::PowerLoss,
    ClusterEvent::PowerLossInWrite,
    ClusterEvent::Kill,
    ClusterEvent::Pause,
    ClusterEvent::Cut,
    ClusterEvent::OneWayCut,
    ClusterEvent::Reset,
    ClusterEvent::Late,
    ClusterEvent::Twice,
    ClusterEvent::FailedSync,
    ClusterEvent::FailedStart,
    ClusterEvent::SlowDisk,
    ClusterEvent::Wipe,
    ClusterEvent::Remount,
    ClusterEvent::DamagedLog,
    ClusterEvent::Amnesia,
    ClusterEvent::Readmission,
    ClusterEvent::Election,
    ClusterEvent::Transfer,
    ClusterEvent::Snapshot,
    ClusterEvent::ReadFromLog,
    ClusterEvent::Checkpoint,
    ClusterEvent::Acknowledged,
    ClusterEvent::Read,
];

/// A server that is broken on purpose, which the checks must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMutation {
    /// Syncs of the disk do nothing.
    IgnoreSyncs,
    /// What is queued for the log counts as durable.
    DurableTooEarly,
    /// Terms are written down as they were first.
    ForgetTerms,
    /// An empty store is taken for that of a member that has nothing to remember.
    WipedRemembers,
    /// A checkpoint holds the state before the newest entry.
    StaleCheckpoint,
    /// A state that a leader offers is recorded and not taken over.
    InstallNothing,
    /// Additions are acknowledged when they are proposed.
    AckOnProposal,
}

impl ClusterMutation {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::IgnoreSyncs,
        Self::DurableTooEarly,
        Self::ForgetTerms,
        Self::WipedRemembers,
        Self::StaleCheckpoint,
        Self::InstallNothing,
        Self::AckOnProposal,
    ];
}

/// The first seed at which broken servers are caught, and how.
pub fn caught_in_cluster(mutation: ClusterMutation, seeds: Range<u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| {
        let mut world = World::new(seed, false);
        world.mutation = Some(mutation);
        world.run().err().map(|failure| (seed, failure))
    })
}

/// What a sweep of clusters found.
#[derive(Clone, Debug, Default)]
pub struct ClusterSummary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Passes of servers' loops.
    pub steps: u64,
    /// What happened, and how often.
    pub events: BTreeMap<ClusterEvent, u64>,
    /// Seeds that broke a promise, and which.
    pub failures: Vec<(u64, String)>,
}

impl fmt::Display for ClusterSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seeds, {} steps, {} failures", self.seeds, self.steps, self.failures.len())?;
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
pub fn sweep_clusters(seeds: Range<u64>) -> ClusterSummary {
    let mut summary = ClusterSummary::default();
    for seed in seeds {
        let mut world = World::new(seed, false);
        let outcome = world.run();
        summary.seeds += 1;
        summary.steps += world.steps;
        for (event, times) in &world.events {
            *summary.events.entry(*event).or_default() += times;
        }
        summary.failures.extend(outcome.err().map(|failure| (seed, failure)));
    }
    summary
}

/// Runs one seed; what happened, line by line, and how it ended.
pub fn replay_cluster(seed: u64) -> (Vec<String>, Result<(), String>) {
    let mut world = World::new(seed, true);
    let outcome = world.run();
    (world.trace.take().unwrap_or_default(), outcome)
}

/// Hash of everything that was sent and committed.
pub fn fingerprint_cluster(seed: u64) -> u64 {
    let mut world = World::new(seed, false);
    let _ = world.run();
    world.hash
}
