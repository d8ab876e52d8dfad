//! A short sweep; `LINNET_SEEDS=n` makes it longer, `LINNET_SEED=n` replays one seed with its trace.

use linnet_sim::{Mode, fingerprint, replay, sweep};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn mode() -> Mode {
    if std::env::var("LINNET_DAMAGE").is_ok() { Mode::Damage } else { Mode::Faults }
}

#[test]
fn smoke() {
    if let Some(seed) = number("LINNET_SEED") {
        let (lines, outcome) = replay(seed, mode());
        panic!("{}\n{outcome:?}", lines.join("\n"));
    }
    let start = number("LINNET_FROM").unwrap_or(0);
    let summary = sweep(start..start + number("LINNET_SEEDS").unwrap_or(200), mode());
    assert!(summary.failures.is_empty(), "{summary}");
    let never = summary.never(mode() == Mode::Damage);
    assert!(never.is_empty(), "{never:?} never happened\n{summary}");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    for seed in 0..10 {
        assert_eq!(fingerprint(seed, Mode::Faults), fingerprint(seed, Mode::Faults), "seed {seed}");
    }
}
