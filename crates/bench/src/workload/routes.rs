//! Publishers and subscribers at different servers of a cluster. Processor time is that of all three servers.

use super::fanout::traffic;
use super::{Goal, Storage, Workload};

const GOAL: Goal = Goal::rate_and_cpu(2.0, 0.4);

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "routes-pub-sub",
        about: "three servers, a publisher at one, a subscriber at another, 128 B",
        storage: Storage::None,
        servers: 3,
        goal: GOAL,
        run: |context| {
            let mut traffic = traffic(1, 1);
            traffic.places = &[1];
            traffic.run(context.target, context.limit)
        },
    },
    Workload {
        name: "routes-fan-out",
        about: "three servers, a publisher at one, a subscriber at each, 128 B, per delivery",
        storage: Storage::None,
        servers: 3,
        goal: GOAL,
        run: |context| {
            let mut traffic = traffic(1, 3);
            traffic.places = &[0, 1, 2];
            traffic.run(context.target, context.limit)
        },
    },
];
