//! Queue groups: every message goes to one of the members.

use super::{Goal, Storage, Workload};
use crate::frames;
use crate::traffic::{Feed, Traffic};

const MEMBERS: usize = 10;
const PAYLOAD_BYTES: usize = 128;

pub(super) const WORKLOADS: &[Workload] = &[Workload {
    name: "queue-group",
    about: "one publisher, a queue group of ten members, 128 B",
    storage: Storage::None,
    servers: 1,
    goal: Goal::rate_and_cpu(1.5, 0.6),
    run: |context| traffic().run(context.target, context.limit),
}];

fn traffic() -> Traffic {
    let mut lines = Vec::new();
    frames::put_sub(&mut lines, "bench.queue", Some("workers"), 1);
    Traffic {
        feeds: vec![Feed::new(["bench.queue"], PAYLOAD_BYTES, 1)],
        subscriptions: vec![lines; MEMBERS],
        fan_out: 1,
        payload_bytes: PAYLOAD_BYTES,
        churn_per_second: None,
        places: &[0],
    }
}
