//! Request and reply between two clients.

use anyhow::Result;

use super::{Context, Goal, Storage, Workload};
use crate::measure::{Meter, Sample, histogram};
use crate::traffic::WARM_UP_DIVISOR;
use crate::window::{Responder, Window};

const GOAL: Goal = Goal::rate_and_cpu(1.5, 0.6);
const SUBJECT: &str = "bench.request";

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "request-serial",
        about: "one requester, one responder, one request at a time, 128 B, per request",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| requests(context, 1),
    },
    Workload {
        name: "request-pipelined",
        about: "one requester, one responder, 256 requests in flight, 128 B, per request",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| requests(context, 256),
    },
];

fn requests(context: &Context<'_>, in_flight: usize) -> Result<Sample> {
    let responder = Responder::spawn(context.target.addr, SUBJECT)?;
    let mut window = Window::open(context.target.addr, SUBJECT, &[b'x'; 128], in_flight)?;
    window.run(context.limit.fraction(WARM_UP_DIVISOR), &mut histogram()?, |_| Ok(()))?;
    let mut latency = histogram()?;
    let meter = Meter::start(context.target)?;
    let answered = window.run(context.limit, &mut latency, |_| Ok(()));
    // The responder's error says more than that no answer came.
    responder.check()?;
    Ok(meter.finish(answered?)?.with_latency(&latency))
}
