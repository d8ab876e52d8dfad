//! A short sweep of whole clusters; `LINNET_SEEDS=n` makes it longer, `LINNET_FROM=n` starts elsewhere, `LINNET_SEED=n`
//! replays one seed with its trace, `LINNET_MUTATION=Name` looks for one broken server only.

use linnet_sim::{FleetMutation, caught_in_fleet, fingerprint_fleet, replay_fleet, sweep_fleets};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Seeds within which what is seldom has to happen.
const SELDOM: u64 = 500;

#[test]
fn no_fault_breaks_a_promise() {
    if let Some(seed) = number("LINNET_SEED") {
        let (lines, outcome) = replay_fleet(seed);
        panic!("{}\n{outcome:?}", lines.join("\n"));
    }
    let start = number("LINNET_FROM").unwrap_or(0);
    let seeds = number("LINNET_SEEDS").unwrap_or(200);
    let summary = sweep_fleets(start..start + seeds);
    println!("{summary}");
    assert!(summary.failures.is_empty(), "{summary}");
    let is_seldom = |event: &String| event == "OldDisk" && seeds < SELDOM;
    let missing: Vec<_> = summary.missing().into_iter().filter(|event| !is_seldom(event)).collect();
    assert!(missing.is_empty(), "{missing:?} never happened\n{summary}");
}

#[test]
fn a_leader_of_two_whose_first_question_is_lost_asks_again() {
    let (_, outcome) = replay_fleet(60088);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn a_member_of_a_stream_that_begins_again_may_lose_power_before_it_has_a_life() {
    let (_, outcome) = replay_fleet(111640);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn a_stream_that_lost_the_log_of_its_last_replica_uses_no_sequence_again() {
    let (_, outcome) = replay_fleet(119615);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn one_of_two_voters_decides_nothing_alone_while_a_learner_may_vote() {
    let (_, outcome) = replay_fleet(204800);
    assert_eq!(outcome, Ok(()));
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..3 {
        assert_eq!(fingerprint_fleet(seed), fingerprint_fleet(seed), "seed {seed}");
    }
}

/// Seeds within which each broken server must be caught.
const BOUND: u64 = 2000;

/// Seeds that catch what few seeds catch; if they do not any more, all are tried.
const HINTS: [(FleetMutation, u64); 5] = [
    (FleetMutation::BelieveOldWords, 6903),
    (FleetMutation::RemoveUnnoted, 319),
    (FleetMutation::NoHealing, 213),
    (FleetMutation::EverybodyFounds, 24),
    (FleetMutation::BeginUninformed, 6),
];

#[test]
fn every_broken_server_is_caught() {
    let only = std::env::var("LINNET_MUTATION").ok();
    let is_meant = |of: &FleetMutation| only.as_ref().is_none_or(|only| *only == format!("{of:?}"));
    for mutation in FleetMutation::ALL.into_iter().filter(is_meant) {
        let hint = HINTS.iter().find(|(of, _)| *of == mutation).map_or(0, |(_, seed)| *seed);
        let from = number("LINNET_FROM").unwrap_or(0);
        let found = caught_in_fleet(mutation, hint..hint + 1)
            .or_else(|| caught_in_fleet(mutation, from..from + BOUND));
        let Some((seed, failure)) = found else { panic!("{mutation:?} is not caught in {BOUND} seeds") };
        println!("{mutation:?}: seed {seed}: {}", failure.lines().next().unwrap_or_default());
    }
}
