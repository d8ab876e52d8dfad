//! What a connection costs that does nothing.

use anyhow::Result;

use super::{Context, Goal, Storage, Workload};
use crate::conn::{Conn, Scratch};
use crate::measure::{Meter, Sample};

const CONNECTIONS: usize = 10_000;
const CONNECTIONS_QUICK: usize = 2_000;

pub(super) const WORKLOADS: &[Workload] = &[Workload {
    name: "idle-connections",
    about: "10 000 clients that connect and are silent: connects per second, memory per connection",
    storage: Storage::None,
    servers: 1,
    goal: Goal { memory: Some(0.35), ..Goal::NONE },
    run: idle,
}];

fn idle(context: &Context<'_>) -> Result<Sample> {
    let connections = if context.quick { CONNECTIONS_QUICK } else { CONNECTIONS };
    let mut scratch = Scratch::large();
    // The first connections make the server allocate what it then keeps.
    let warm_up: Vec<Conn> =
        (0..50).map(|_| Conn::open(context.target.addr, &mut scratch)).collect::<Result<_>>()?;
    let before = context.target.usage()?;
    let meter = Meter::start(context.target)?;
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Conn::open(context.target.addr, &mut scratch)?);
    }
    let mut sample = meter.finish(connections as u64)?;
    let after = context.target.usage()?;
    sample.memory = before
        .zip(after)
        .map(|(before, after)| after.rss_bytes.saturating_sub(before.rss_bytes) as f64 / connections as f64);
    drop((warm_up, open));
    Ok(sample)
}
