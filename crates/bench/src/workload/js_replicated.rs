//! Streams with three replicas. Clients connect to the server that leads; processor time is that of all three servers.

use anyhow::Result;

use super::js_consume::{Acks, pull_from};
use super::js_publish::publish_to;
use super::{Context, Goal, Storage, Workload};
use crate::js::{Api, StreamStorage};
use crate::measure::Sample;

const REPLICAS: usize = 3;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "r3-file-serial",
        about: "three replicas on disk, one publish at a time, 128 B",
        storage: Storage::AsAsked,
        servers: REPLICAS,
        goal: Goal { p50: Some(1.0), ..Goal::NONE },
        run: |context| publish(context, StreamStorage::File, 1),
    },
    Workload {
        name: "r3-file-64",
        about: "three replicas on disk, 64 publishes in flight, 128 B",
        storage: Storage::AsAsked,
        servers: REPLICAS,
        goal: Goal::rate(3.0),
        run: |context| publish(context, StreamStorage::File, 64),
    },
    Workload {
        name: "r3-file-512",
        about: "three replicas on disk, 512 publishes in flight, 128 B",
        storage: Storage::AsAsked,
        servers: REPLICAS,
        goal: Goal::rate(3.0),
        run: |context| publish(context, StreamStorage::File, 512),
    },
    Workload {
        name: "r3-file-512-defaults",
        about: "as r3-file-512, each server syncing as it does by default",
        storage: Storage::ServerDefault,
        servers: REPLICAS,
        goal: Goal::rate(1.3),
        run: |context| publish(context, StreamStorage::File, 512),
    },
    Workload {
        name: "r3-memory-512",
        about: "three replicas in memory, 512 publishes in flight, 128 B",
        storage: Storage::AsAsked,
        servers: REPLICAS,
        goal: Goal::rate(2.0),
        run: |context| publish(context, StreamStorage::Memory, 512),
    },
    Workload {
        name: "r3-pull-explicit-ack",
        about: "three replicas on disk, pull consumer, every message acknowledged, batches of 500, 128 B",
        storage: Storage::AsAsked,
        servers: REPLICAS,
        goal: Goal::rate(1.5),
        run: |context| {
            let mut api = Api::open(context.target.addr)?;
            let leader = api.create_replicated_stream(StreamStorage::File, REPLICAS)?;
            pull_from(context, &mut api, context.target.addr_of_named(&leader)?, Acks::Explicit)
        },
    },
];

fn publish(context: &Context<'_>, storage: StreamStorage, in_flight: usize) -> Result<Sample> {
    let mut api = Api::open(context.target.addr)?;
    let leader = api.create_replicated_stream(storage, REPLICAS)?;
    publish_to(context, &mut api, context.target.addr_of_named(&leader)?, in_flight)
}
