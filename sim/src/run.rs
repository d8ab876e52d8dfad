//! One run: steps until the seed is used up, then everything in order.

use std::hash::Hasher;
use std::time::Duration;

use linnet_env::FaultCounters;
use linnet_ids::GroupId;
use linnet_replication::Host as _;

use crate::Mode;
use crate::invariants::{Check, Violation, broken, damage, deliveries, origins};
use crate::mutation::Mutation;
use crate::pulls::Wanted;
use crate::trace::Trace;
use crate::workload::GROUP;
use crate::workload::pushing::is_pull;
use crate::world::{Totals, World};

/// Rounds in which consumers get everything that is left.
const DRAIN_ROUNDS: u32 = 60;
/// Steps of time in which mirrors and sources get it.
const TAKE_ROUNDS: u32 = 60;

/// How a run went.
pub(crate) struct Ended {
    pub(crate) outcome: Check,
    pub(crate) counters: FaultCounters,
    pub(crate) totals: Totals,
    pub(crate) hash: u64,
    pub(crate) trace: Vec<String>,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, mode: Mode, mutation: Option<Mutation>, traced: bool) -> Ended {
    let trace = if traced { Trace::on() } else { Trace::default() };
    let mut world = match World::new(seed, mode, mutation, trace) {
        Ok(world) => world,
        Err(violation) => return failed(violation),
    };
    let outcome = live(&mut world);
    world.count_work();
    Ended {
        outcome,
        counters: world.disk.counters(),
        totals: world.totals,
        hash: world.hash.finish(),
        trace: world.trace.into_lines(),
    }
}

fn failed(violation: Violation) -> Ended {
    Ended {
        outcome: Err(violation),
        counters: FaultCounters::default(),
        totals: Totals::default(),
        hash: 0,
        trace: Vec::new(),
    }
}

fn live(world: &mut World) -> Check {
    let steps = world.rng.u32(150..500);
    let restless = world.rng.u32(40..200);
    for _ in 0..steps {
        if world.gave_up {
            return Ok(());
        }
        step(world, restless)?;
    }
    if world.gave_up { Ok(()) } else { finish(world) }
}

fn step(world: &mut World, restless: u32) -> Check {
    if world.disk.is_off() {
        // Power loss, or only the process: whatever was under way stops in the middle.
        let power_loss = world.rng.u8(..3) > 0;
        return world.restart(power_loss);
    }
    if world.rng.u32(..restless) == 0 {
        return fault(world);
    }
    if world.process.log_failure.is_some() && world.rng.u8(..20) == 0 {
        let power_loss = world.rng.bool();
        return world.restart(power_loss);
    }
    match world.rng.u32(..10) {
        0..3 => world.act(),
        3 if world.rng.u8(..4) == 0 => world.back_up()?,
        3 if world.rng.u8(..6) == 0 => checkpoint(world),
        3 if world.rng.u8(..6) == 0 => world.turn_deaf(),
        3 if world.rng.u8(..3) == 0 => world.pass_time(),
        _ => world.turn_server()?,
    }
    if world.process.is_stuck() && world.rng.u8(..10) == 0 {
        world.advance(Duration::from_millis(700));
    }
    world.observe()
}

fn checkpoint(world: &mut World) {
    let keys: Vec<u64> = world.process.slots.keys().copied().collect();
    if let Some(key) = keys.get(world.rng.usize(..keys.len().max(1))) {
        world.trace.line(|| format!("checkpoint of {key}"));
        world.process.checkpoint(*key);
    }
}

fn fault(world: &mut World) -> Check {
    let wide = if world.mode == Mode::Faults { 10 } else { 3 };
    match world.rng.u8(..wide) {
        0 => return world.restart(true),
        1 => return world.restart(false),
        2..5 => world.disk.power_off_after(world.rng.u64(..30)),
        5 | 6 => {
            let free = world.rng.u64(..80_000);
            world.trace.line(|| format!("the disk has {free} bytes left"));
            world.disk.set_capacity(Some(world.disk.used() + free));
        }
        7 => world.disk.set_capacity(None),
        8 => {
            let after = world.rng.u64(..20);
            world.trace.line(|| format!("sync {after} will fail"));
            world.disk.fail_sync_after(after);
        }
        _ => {
            let after = world.rng.u64(..20_000);
            world.trace.line(|| format!("the write after {after} bytes will fail"));
            world.disk.fail_write_after(after);
        }
    }
    Ok(())
}

/// The faults end; consumers get what is left; one more restart shows what is stored.
fn finish(world: &mut World) -> Check {
    world.trace.line(|| "faults end".to_owned());
    world.process.deaf = false;
    world.disk.set_capacity(None);
    world.disk.fail_sync_after(u64::MAX);
    world.disk.fail_write_after(u64::MAX);
    if world.mode == Mode::Faults {
        world.mode = Mode::Calm;
    }
    // A store that met a failed write may have given up on its blocks: it starts again.
    let power_loss = world.rng.bool();
    world.restart(power_loss)?;
    if world.gave_up {
        return Ok(());
    }
    world.settle(4000)?;
    if let Some(failure) = &world.process.log_failure {
        return broken("log", format!("the log stops without a fault: {failure}"));
    }
    if !world.process.is_quiet() && !world.is_damaged {
        return broken("log", "the server does not come to rest");
    }
    world.end_schedules();
    world.settle(2000)?;
    expire(world)?;
    if world.mode != Mode::Damage {
        drain(world)?;
        take_over(world)?;
    }
    let mode = std::mem::replace(&mut world.mode, Mode::Calm);
    world.restart(true)?;
    world.mode = mode;
    world.settle(4000)?;
    damage::nothing_is_deleted(&world.disk, &world.kept)
}

/// Publishes, then lets every sync fail until one of the log does: positive answers before and after. For a test.
pub(crate) fn around_failing_sync(seed: u64) -> Result<(u64, u64), Violation> {
    let mut world = World::new(seed, Mode::Calm, None, Trace::default())?;
    while world.totals.acknowledged < 5 {
        world.act();
        world.turn_server()?;
    }
    world.settle(1000)?;
    let before = world.totals.acknowledged;
    for _ in 0..200 {
        if world.process.log_failure.is_none() {
            world.disk.fail_sync_after(0);
        }
        world.act();
        world.turn_server()?;
    }
    world.settle(1000)?;
    Ok((before, world.totals.acknowledged))
}

/// Messages that are too old go, even if nobody does anything.
fn expire(world: &mut World) -> Check {
    world.advance(Duration::from_secs(100));
    for _ in 0..6 {
        world.settle(2000)?;
        world.advance(Duration::from_secs(1));
    }
    let wall = linnet_env::Clock::wall(&*world.clock).0;
    for stream in
        world.facts.streams.values().filter(|s| world.process.key_of(s.group).is_some() && !s.is_lossy)
    {
        let age = stream.model.config.max_age.0;
        for (seq, message) in &stream.model.messages {
            let by_age = age > 0 && message.time < wall - age && !stream.model.is_exempt(*seq);
            if by_age || stream.model.end_of(*seq).is_some_and(|end| end < wall) {
                return broken("expiry", format!("{}: message {seq} outlives its time", stream.name));
            }
        }
    }
    Ok(())
}

/// Mirrors and sources get what is left.
fn take_over(world: &mut World) -> Check {
    let mut outcome = Ok(());
    for _ in 0..TAKE_ROUNDS {
        let process = &world.process;
        outcome = origins::are_complete(&world.facts, |group| process.key_of(group).is_some());
        if outcome.is_ok() {
            break;
        }
        world.advance(Duration::from_secs(2));
        world.settle(3000)?;
    }
    outcome
}

/// Every consumer gets everything it wants, and acknowledges it.
fn drain(world: &mut World) -> Check {
    world.held.clear();
    for round in 0..DRAIN_ROUNDS {
        let before = world.totals.delivered;
        world.listen_to_all();
        world.answer_flow();
        let wanted: Vec<(GroupId, String)> = world
            .facts
            .streams
            .values()
            .flat_map(|s| s.model.consumers.keys().map(|name| (s.group, name.clone())))
            .filter(|(_, name)| is_pull(name))
            .collect();
        for (group, name) in wanted {
            let group_name = world.priority_of(group, &name).map(|_| GROUP.to_owned());
            let wanted = Wanted { batch: 200, no_wait: true, group: group_name, ..Wanted::default() };
            world.request(group, &name, wanted);
        }
        world.settle(3000)?;
        while !world.held.is_empty() {
            world.send_ack(0, b"+ACK", true);
            world.observe()?;
        }
        world.settle(3000)?;
        world.advance(Duration::from_secs(32));
        world.settle(3000)?;
        if world.totals.delivered == before && (world.asked.is_empty() || round > DRAIN_ROUNDS / 2) {
            break;
        }
    }
    for stream in world.facts.streams.values().filter(|s| world.process.key_of(s.group).is_some()) {
        for (name, consumer) in &stream.model.consumers {
            let Some(facts) = stream.consumers.get(&(name.clone(), consumer.born)) else { continue };
            if !stream.is_lossy && !consumer.config.sourcing {
                deliveries::are_complete(stream, name, facts)?;
            }
        }
    }
    Ok(())
}
