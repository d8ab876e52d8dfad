use linnet_env::{Rng, SeededRng};
use linnet_store::Layout;

use crate::model::Outcome;
use crate::support::SMALL;
use crate::world::{Step, World};

/// `LINNET_SEEDS` asks for a longer sweep, `LINNET_SEED` for one seed.
pub(crate) fn seeds(smoke: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    match number("LINNET_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LINNET_SEEDS").unwrap_or(smoke),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    /// Power losses and kills only.
    Crashes,
    /// Also failing writes and syncs, and full disks.
    Errors,
    /// Syncs do nothing: the store cannot keep its promise.
    NoSyncs,
}

fn layout(rng: &SeededRng) -> Layout {
    let between = |low: u64, high: u64| usize::try_from(low + rng.below(high - low)).unwrap();
    Layout {
        block_max: between(300, 3000),
        rows_max: between(4, 40),
        extent: between(100, 1200),
        squeeze_min: 40 + rng.below(300),
        frame: between(100, 900),
        ..SMALL
    }
}

/// Some lives of a store, each ended by a crash or a kill at any point.
pub(crate) fn run(seed: u64, faults: Faults) -> Outcome {
    let rng = SeededRng::new(seed);
    let mut world = World::on_disk(seed, layout(&rng));
    let disk = world.disk.clone().ok_or("no disk")?;
    disk.ignore_syncs(faults == Faults::NoSyncs);
    world.step(&Step::Compression(seed.is_multiple_of(2)))?;
    for _ in 0..3 {
        if faults == Faults::Errors {
            match rng.below(4) {
                0 => disk.fail_sync_after(rng.below(12)),
                1 => disk.fail_write_after(rng.below(6000)),
                2 => disk.set_capacity(Some(disk.used() + rng.below(4000))),
                _ => {}
            }
        }
        // The power fails between steps, or within a job.
        if rng.below(2) == 0 {
            disk.power_off_after(rng.below(80));
        }
        for _ in 0..20 + rng.below(150) {
            let step = Step::random(&rng);
            // With the power off, or with a file system that fails, nothing can be read back.
            let must_read = matches!(step, Step::Check | Step::Reopen { .. });
            if must_read && (disk.is_off() || faults == Faults::Errors) {
                continue;
            }
            world.step(&step)?;
        }
        disk.set_capacity(None);
        if faults == Faults::NoSyncs || rng.below(5) > 0 {
            disk.crash(rng.next_u64());
        } else {
            disk.kill();
        }
        world.reopen(rng.below(2) == 0)?;
    }
    Ok(())
}

#[test]
fn nothing_recorded_is_lost_in_a_crash() {
    for seed in seeds(4000) {
        if let Err(error) = run(seed, Faults::Crashes) {
            panic!("LINNET_SEED={seed}: {error}");
        }
    }
}

#[test]
fn nothing_recorded_is_lost_when_writes_and_syncs_fail() {
    for seed in seeds(4000) {
        if let Err(error) = run(seed, Faults::Errors) {
            panic!("LINNET_SEED={seed}: {error}");
        }
    }
}

#[test]
fn without_syncs_these_tests_fail() {
    let failed = (0..60).filter(|seed| run(*seed, Faults::NoSyncs).is_err()).count();
    assert!(failed >= 20, "only {failed} of 60 seeds noticed that nothing was synced");
}
