//! The fast paths while the account's interest changes all the time.

use anyhow::Result;

use super::{Context, Goal, Storage, Workload, fanout};
use crate::measure::Sample;

const CHURN_PER_SECOND: u32 = 5000;
const GOAL: Goal = Goal::rate(1.5);

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "churn-pub-sub",
        about: "as pub-sub, with 5 000 SUB+UNSUB per second by another client",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| churning(context, 1, 1),
    },
    Workload {
        name: "churn-fan-out-10",
        about: "as fan-out-10, with 5 000 SUB+UNSUB per second by another client",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| churning(context, 1, 10),
    },
    Workload {
        name: "churn-n-to-n",
        about: "as n-to-n, with 5 000 SUB+UNSUB per second by another client",
        storage: Storage::None,
        servers: 1,
        goal: GOAL,
        run: |context| churning(context, 4, 4),
    },
];

fn churning(context: &Context<'_>, publishers: usize, subscribers: u64) -> Result<Sample> {
    let mut traffic = fanout::traffic(publishers, subscribers);
    traffic.churn_per_second = Some(CHURN_PER_SECOND);
    traffic.run(context.target, context.limit)
}
