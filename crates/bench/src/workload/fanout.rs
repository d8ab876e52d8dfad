//! Publishers and plain subscribers: one to one, one to many, many to many.

use anyhow::Result;

use super::{Context, Goal, Storage, Workload};
use crate::frames;
use crate::measure::Sample;
use crate::traffic::{Feed, Traffic};

const GOAL: Goal = Goal::rate_and_cpu(2.5, 0.35);
const PAYLOAD_BYTES: usize = 128;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "pub-sub",
        about: "one publisher, one subscriber, 128 B",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| traffic(1, 1).run(context.target, context.limit),
    },
    Workload {
        name: "fan-out-10",
        about: "one publisher, ten subscribers, 128 B, per delivery",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| traffic(1, 10).run(context.target, context.limit),
    },
    Workload {
        name: "fan-out-100",
        about: "one publisher, a hundred subscribers, 128 B, per delivery",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| traffic(1, 100).run(context.target, context.limit),
    },
    Workload {
        name: "fan-out-100-sids",
        about: "as fan-out-100, but no two subscribers number their subscriptions alike",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| {
            let mut traffic = traffic(1, 100);
            traffic.subscriptions = (1..=100).map(subscription).collect();
            traffic.run(context.target, context.limit)
        },
    },
    Workload {
        name: "n-to-n",
        about: "four publishers, four subscribers to all of them, 128 B, per delivery",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: many_to_many,
    },
];

fn many_to_many(context: &Context<'_>) -> Result<Sample> {
    traffic(4, 4).run(context.target, context.limit)
}

/// Every publisher has a subject of its own; every subscriber hears all of them.
pub(super) fn traffic(publishers: usize, subscribers: u64) -> Traffic {
    let subjects: Vec<String> = (0..publishers).map(|index| format!("bench.fan.{index}")).collect();
    Traffic {
        feeds: subjects
            .iter()
            .map(|subject| Feed::new([subject.as_str()], PAYLOAD_BYTES, subscribers))
            .collect(),
        subscriptions: (0..subscribers).map(|_| subscription(1)).collect(),
        fan_out: subscribers,
        payload_bytes: PAYLOAD_BYTES,
        churn_per_second: None,
        places: &[0],
    }
}

fn subscription(sid: u64) -> Vec<u8> {
    let mut line = Vec::new();
    frames::put_sub(&mut line, "bench.fan.*", None, sid);
    line
}
