//! A short sweep of clusters; `LINNET_SEEDS=n` makes it longer, `LINNET_SEED=n` replays one seed with its trace.

use linnet_sim::{
    CLUSTER_EVENTS, ClusterMutation, caught_in_cluster, fingerprint_cluster, replay_cluster, sweep_clusters,
};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_fault_of_a_minority_breaks_a_promise() {
    if let Some(seed) = number("LINNET_SEED") {
        let (lines, outcome) = replay_cluster(seed);
        panic!("{}\n{outcome:?}", lines.join("\n"));
    }
    let start = number("LINNET_FROM").unwrap_or(0);
    let summary = sweep_clusters(start..start + number("LINNET_SEEDS").unwrap_or(200));
    assert!(summary.failures.is_empty(), "{summary}");
    let never: Vec<_> = CLUSTER_EVENTS.iter().filter(|e| !summary.events.contains_key(e)).collect();
    assert!(never.is_empty(), "{never:?} never happened\n{summary}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..5 {
        assert_eq!(fingerprint_cluster(seed), fingerprint_cluster(seed), "seed {seed}");
    }
}

/// Seeds within which each broken server must be caught.
const BOUNDS: [(ClusterMutation, u64); 7] = [
    (ClusterMutation::IgnoreSyncs, 100),
    (ClusterMutation::DurableTooEarly, 100),
    (ClusterMutation::ForgetTerms, 500),
    (ClusterMutation::WipedRemembers, 500),
    (ClusterMutation::StaleCheckpoint, 20),
    (ClusterMutation::InstallNothing, 100),
    (ClusterMutation::AckOnProposal, 20),
];

#[test]
fn every_broken_server_is_caught() {
    for mutation in ClusterMutation::ALL {
        let bound = BOUNDS.iter().find(|(m, _)| *m == mutation).map_or(0, |(_, bound)| *bound);
        let found = caught_in_cluster(mutation, 0..bound);
        let Some((seed, failure)) = found else { panic!("{mutation:?} is not caught in {bound} seeds") };
        println!("{mutation:?}: seed {seed}: {failure}");
    }
}
