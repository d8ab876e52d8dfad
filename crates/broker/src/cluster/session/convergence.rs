//! In the end every server knows what every other is interested in, whatever happens on the way.
//!
//! The servers have their production sessions, accounts and announcers; queues of lines stand in for sockets. A seed
//! decides who subscribes, who dials whom, which connection moves next and which breaks unnoticed. What was sent on one
//! connection arrives in its order or not at all; between connections there is no order.
//!
//! `LINNET_SEEDS=n` makes the sweep longer, `LINNET_SEED=n` runs one seed.

mod world;

use world::{Fault, World};

const STEPS: usize = 300;
const SEEDS: u64 = 2000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs seeds until one goes wrong: which, and how.
fn sweep(seeds: impl Iterator<Item = u64>, fault: Fault) -> Result<(), String> {
    // Tasks that would dial over sockets are never run: the world dials.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let link = runtime.block_on(world::unused_link());
    for seed in seeds {
        let _within = runtime.enter();
        let mut world = World::new(seed, fault, link.clone(), runtime.handle().clone());
        for _ in 0..STEPS {
            world.step();
        }
        let settled = world.settle().and_then(|()| world.check());
        let moved = settled.and_then(|()| world.move_an_account()).and_then(|()| world.check());
        moved.map_err(|why| format!("seed {seed}: {why}"))?;
    }
    Ok(())
}

#[test]
fn every_server_knows_every_interest_in_the_end() {
    let seeds = match number("LINNET_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LINNET_SEEDS").unwrap_or(SEEDS),
    };
    sweep(seeds, Fault::None).unwrap();
}

/// The check above notices connections and sessions that do not do what they promise.
#[test]
fn broken_connections_and_sessions_are_noticed() {
    for fault in [Fault::Loses, Fault::Reorders, Fault::Keeps] {
        assert!(sweep(0..100, fault).is_err(), "{fault:?} is not noticed");
    }
}
