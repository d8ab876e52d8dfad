//! Schedules of a small group, breadth first: what can be delivered, synced, lost, wiped or time out is a choice, and
//! after each the ghost looks whether what must hold still does. States that differ only in times or in numbers of
//! writes are one state.
//!
//! There are two ways to bound that. *Every* schedule is followed to a depth; messages are a set then, and one that is
//! never chosen is one that is lost. Or every schedule is followed to its *end* that departs from the ordinary one
//! (what waits for a disk is synced, the oldest message is delivered) a few times at most. Of levels that are larger
//! than the budget allows a sample is followed; up to which depth everything was, is reported.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::schedule::{Budget, Path, State, Step};
use crate::walk::caught;
use crate::world::World;

/// States from which a group is left to come to rest, at most.
const RESTS: usize = 40;

/// What was explored.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    pub(crate) complete_depth: usize,
    pub(crate) depth: usize,
    /// Nothing was left to be done.
    is_exhausted: bool,
}

/// Explores from a world on: every level completely while it is small, then a sample of each.
pub(crate) fn explore(world: World, budget: Budget, limits: Limits) -> Result<Explored, String> {
    let mut world = world;
    world.is_mail_a_set = budget.departures.is_none();
    let mut random = fastrand::Rng::with_seed(world.seed);
    let mut level = vec![State { world, budget, path: Arc::new(Path(None)) }];
    let mut seen = HashSet::from([level[0].fingerprint()]);
    let mut explored = Explored::default();
    let mut is_complete = true;
    let mut rests = RESTS;
    while !level.is_empty() && explored.depth < limits.depth && seen.len() < limits.states {
        let mut next = Vec::new();
        for state in &level {
            if rests > 0 && random.u8(..) == 0 {
                rests -= 1;
                rest(state)?;
            }
            for step in state.choices() {
                explored.steps += 1;
                let after = state.after(step).map_err(|text| told(state, Some(step), &text))?;
                if seen.insert(after.fingerprint()) {
                    next.push(after);
                }
            }
        }
        explored.depth += 1;
        if std::env::var_os("LINNET_LEVELS").is_some() {
            eprintln!("depth {}: {} states", explored.depth, next.len());
        }
        if next.len() > limits.width {
            is_complete = false;
            random.shuffle(&mut next);
            next.truncate(limits.width);
        }
        if is_complete {
            explored.complete_depth = explored.depth;
        }
        level = next;
    }
    explored.states = seen.len();
    explored.is_exhausted = level.is_empty() && is_complete;
    Ok(explored)
}

#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// States of a level that are followed.
    width: usize,
    states: usize,
    depth: usize,
}

impl Limits {
    /// `LINNET_STATES` explores more, of all configurations.
    pub(crate) fn new(states: usize) -> Self {
        let asked = std::env::var("LINNET_STATES").ok().and_then(|n| n.parse().ok());
        let states = asked.unwrap_or(states);
        Self { width: states / 3, states, depth: 400 }
    }
}

/// If nothing goes wrong any more the group comes to rest with all that was acknowledged.
fn rest(state: &State) -> Result<(), String> {
    let mut world = state.world.clone();
    let rested = caught(|| {
        world.settle(Duration::from_secs(20));
        world.check_settled();
    });
    rested.map_err(|text| told(state, None, &text))
}

fn told(state: &State, last: Option<Step>, text: &str) -> String {
    let mut steps: Vec<Step> = last.into_iter().collect();
    let mut path = &state.path;
    while let Some((before, step)) = &path.0 {
        steps.push(*step);
        path = before;
    }
    steps.reverse();
    format!("{text}\nafter {steps:?}")
}

pub(crate) fn run(name: &str, world: World, budget: Budget, states: usize) {
    match explore(world, budget, Limits::new(states)) {
        Ok(explored) => eprintln!("{name}: {explored:?}"),
        Err(text) => panic!("{name}: {text}"),
    }
}

/// Every schedule that departs from the ordinary one once, to its end; then those that do so more often, and all to a
/// depth, while the budget lasts.
pub(crate) fn run_to_the_end(name: &str, world: &World, budget: Budget, states: usize) {
    for departures in [Some(1), Some(2), Some(3), None] {
        let budget = Budget { departures, ..budget };
        let how = departures.map_or_else(|| "all to a depth".into(), |n| format!("{n} departures"));
        // Those that end are worth more.
        let states = if departures == Some(1) { 5 * states } else { states };
        run(&format!("{name}, {how}"), world.clone(), budget, states);
    }
}
