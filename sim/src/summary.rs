//! What a sweep saw.

use std::fmt;

use linnet_env::FaultCounters;

use crate::invariants::Violation;
use crate::run::Ended;
use crate::world::Totals;

/// A seed that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The promise.
    pub violation: Violation,
}

/// Sums over the runs of a sweep.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// Runs that broke a promise.
    pub failures: Vec<Failure>,
    counters: FaultCounters,
    totals: Totals,
}

impl Summary {
    pub(crate) fn add(&mut self, seed: u64, ended: Ended) {
        self.seeds += 1;
        if let Err(violation) = ended.outcome {
            self.failures.push(Failure { seed, violation });
        }
        let (sum, run) = (&mut self.counters, &ended.counters);
        let pairs = [
            (&mut sum.syncs, run.syncs),
            (&mut sum.syncs_ignored, run.syncs_ignored),
            (&mut sum.sync_errors, run.sync_errors),
            (&mut sum.write_errors, run.write_errors),
            (&mut sum.no_space, run.no_space),
            (&mut sum.reads_failed, run.reads_failed),
            (&mut sum.crashes, run.crashes),
            (&mut sum.kills, run.kills),
            (&mut sum.sectors_kept, run.sectors_kept),
            (&mut sum.sectors_lost, run.sectors_lost),
            (&mut sum.names_lost, run.names_lost),
            (&mut sum.flipped, run.flipped),
            (&mut sum.zeroed, run.zeroed),
            (&mut sum.made_stale, run.made_stale),
            (&mut sum.misplaced, run.misplaced),
            (&mut sum.made_unreadable, run.made_unreadable),
            (&mut sum.truncated, run.truncated),
            (&mut sum.removed, run.removed),
        ];
        pairs.into_iter().for_each(|(sum, n)| *sum += n);
        let (sum, run) = (&mut self.totals, &ended.totals);
        let pairs = [
            (&mut sum.published, run.published),
            (&mut sum.acknowledged, run.acknowledged),
            (&mut sum.acknowledged_in_memory, run.acknowledged_in_memory),
            (&mut sum.duplicates, run.duplicates),
            (&mut sum.refused, run.refused),
            (&mut sum.delivered, run.delivered),
            (&mut sum.beats, run.beats),
            (&mut sum.confirmed, run.confirmed),
            (&mut sum.fast, run.fast),
            (&mut sum.republished, run.republished),
            (&mut sum.handed_over, run.handed_over),
            (&mut sum.backups, run.backups),
            (&mut sum.restored, run.restored),
            (&mut sum.calls, run.calls),
            (&mut sum.reads, run.reads),
            (&mut sum.commits, run.commits),
            (&mut sum.checkpoints, run.checkpoints),
            (&mut sum.rewrites, run.rewrites),
            (&mut sum.refused_space, run.refused_space),
            (&mut sum.loads, run.loads),
            (&mut sum.floors, run.floors),
            (&mut sum.log_failures, run.log_failures),
            (&mut sum.reopened, run.reopened),
        ];
        pairs.into_iter().for_each(|(sum, n)| *sum += n);
    }

    /// What should have happened at least once and did not.
    pub fn never(&self, damage: bool) -> Vec<&'static str> {
        let faults = if damage { self.damages().to_vec() } else { self.faults() };
        let work = self.work().into_iter().filter(|(name, _)| !damage || !name.contains("space"));
        let all = faults.into_iter().chain(work);
        all.filter(|(_, n)| *n == 0).map(|(name, _)| name).collect()
    }

    fn faults(&self) -> Vec<(&'static str, u64)> {
        let c = &self.counters;
        vec![
            ("sync errors", c.sync_errors),
            ("write errors", c.write_errors),
            ("writes without space", c.no_space),
            ("power losses", c.crashes),
            ("kills", c.kills),
            ("sectors kept", c.sectors_kept),
            ("sectors lost", c.sectors_lost),
            ("names lost", c.names_lost),
            ("openings repeated", self.totals.reopened),
        ]
    }

    fn damages(&self) -> [(&'static str, u64); 8] {
        let c = &self.counters;
        [
            ("bits flipped", c.flipped),
            ("sectors zeroed", c.zeroed),
            ("sectors stale", c.made_stale),
            ("sectors misplaced", c.misplaced),
            ("sectors unreadable", c.made_unreadable),
            ("reads failed", c.reads_failed),
            ("files cut", c.truncated),
            ("files removed", c.removed),
        ]
    }

    fn work(&self) -> Vec<(&'static str, u64)> {
        let t = &self.totals;
        vec![
            ("publishes", t.published),
            ("acknowledged", t.acknowledged),
            ("acknowledged in memory", t.acknowledged_in_memory),
            ("duplicates", t.duplicates),
            ("refused", t.refused),
            ("delivered", t.delivered),
            ("heartbeats and flow control requests", t.beats),
            ("confirmed", t.confirmed),
            ("answers to fast batches", t.fast),
            ("messages published again", t.republished),
            ("messages between streams", t.handed_over),
            ("backups read", t.backups),
            ("streams restored", t.restored),
            ("calls answered", t.calls),
            ("direct gets answered", t.reads),
            ("log commits", t.commits),
            ("checkpoints", t.checkpoints),
            ("log rewrites", t.rewrites),
            ("batches without space", t.refused_space),
            ("block reads", t.loads),
            ("floors recorded", t.floors),
            ("log failures", t.log_failures),
        ]
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seeds, {} failures", self.seeds, self.failures.len())?;
        for (name, n) in self.faults().into_iter().chain(self.damages()).chain(self.work()) {
            writeln!(f, "  {name}: {n}")?;
        }
        for failure in self.failures.iter().take(20) {
            let Violation { invariant, text } = &failure.violation;
            writeln!(f, "  seed {}: {invariant}: {text}", failure.seed)?;
        }
        Ok(())
    }
}
