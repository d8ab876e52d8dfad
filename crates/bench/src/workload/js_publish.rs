//! Publishing to a stream and waiting for its acknowledgement.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::{Context, Goal, Storage, Workload};
use crate::js::{Api, SUBJECT, StreamStorage, check_pub_ack};
use crate::measure::{Meter, Sample, histogram};
use crate::traffic::WARM_UP_DIVISOR;
use crate::window::Window;

const PIPELINE: usize = 512;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "js-file-serial",
        about: "stream on disk, one publish at a time, 128 B",
        storage: Storage::AsAsked,
        servers: 1,
        goal: Goal { p50: Some(1.0), ..Goal::NONE },
        run: |context| publish(context, StreamStorage::File, 1),
    },
    Workload {
        name: "js-file-pipelined",
        about: "stream on disk, 512 publishes in flight, 128 B",
        storage: Storage::AsAsked,
        servers: 1,
        goal: Goal::rate(20.0),
        run: |context| publish(context, StreamStorage::File, PIPELINE),
    },
    Workload {
        name: "js-file-pipelined-defaults",
        about: "as js-file-pipelined, each server syncing as it does by default",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.0),
        run: |context| publish(context, StreamStorage::File, PIPELINE),
    },
    Workload {
        name: "js-memory-serial",
        about: "stream in memory, one publish at a time, 128 B",
        storage: Storage::AsAsked,
        servers: 1,
        goal: Goal::NONE,
        run: |context| publish(context, StreamStorage::Memory, 1),
    },
    Workload {
        name: "js-memory-pipelined",
        about: "stream in memory, 512 publishes in flight, 128 B",
        storage: Storage::AsAsked,
        servers: 1,
        goal: Goal::rate(1.5),
        run: |context| publish(context, StreamStorage::Memory, PIPELINE),
    },
];

fn publish(context: &Context<'_>, storage: StreamStorage, in_flight: usize) -> Result<Sample> {
    let mut api = Api::open(context.target.addr)?;
    api.delete_stream_if_any()?;
    api.create_stream(storage)?;
    publish_to(context, &mut api, context.target.addr, in_flight)
}

/// Publishes to the stream, which is empty, by the server at `addr`.
pub(super) fn publish_to(
    context: &Context<'_>,
    api: &mut Api,
    addr: SocketAddr,
    in_flight: usize,
) -> Result<Sample> {
    let mut window = Window::open(addr, SUBJECT, &[b'x'; 128], in_flight)?;
    let warm_up = window.run(context.limit.fraction(WARM_UP_DIVISOR), &mut histogram()?, check_pub_ack)?;
    let mut latency = histogram()?;
    let meter = Meter::start(context.target)?;
    let acknowledged = window.run(context.limit, &mut latency, check_pub_ack)?;
    let sample = meter.finish(acknowledged)?.with_latency(&latency);
    let stored = api.stream_messages()?;
    let expected = warm_up + acknowledged;
    ensure!(stored == expected, "{expected} publishes were acknowledged, the stream holds {stored} messages");
    Ok(sample)
}
