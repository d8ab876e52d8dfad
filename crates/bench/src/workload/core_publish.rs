//! Publishing to nobody: what reading, parsing and matching cost.

use anyhow::Result;

use super::{Context, Goal, Storage, Workload};
use crate::measure::Sample;
use crate::traffic::{Feed, Traffic};

const GOAL: Goal = Goal::rate_and_cpu(2.5, 0.35);

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "publish-16",
        about: "one publisher, no subscriber, 16 B",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| publish(context, 16),
    },
    Workload {
        name: "publish-128",
        about: "one publisher, no subscriber, 128 B",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| publish(context, 128),
    },
    Workload {
        name: "publish-4k",
        about: "one publisher, no subscriber, 4 KiB",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| publish(context, 4096),
    },
];

fn publish(context: &Context<'_>, payload_bytes: usize) -> Result<Sample> {
    let traffic = Traffic {
        feeds: vec![Feed::new(["bench.publish"], payload_bytes, 0)],
        subscriptions: Vec::new(),
        fan_out: 0,
        payload_bytes,
        churn_per_second: None,
        places: &[0],
    };
    traffic.run(context.target, context.limit)
}
