//! Delivery latency at a rate far below saturation, where it is the server's and not a queue's.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use super::{Context, Goal, Storage, Workload};
use crate::clock;
use crate::conn::{Conn, Scratch};
use crate::frames::{self, Frame};
use crate::measure::{self, Limit, Meter, Sample, histogram};
use crate::traffic::WARM_UP_DIVISOR;

const PER_SECOND: u32 = 10_000;
const PAYLOAD_BYTES: usize = 128;
const SUBJECT: &str = "bench.latency";

pub(super) const WORKLOADS: &[Workload] = &[Workload {
    name: "paced-pub-sub",
    about: "one publisher at 10 000 messages per second, one subscriber, 128 B: latency of delivery",
    storage: Storage::None,
    servers: 1,
    goal: Goal::NONE,
    run: paced,
}];

fn paced(context: &Context<'_>) -> Result<Sample> {
    let mut scratch = Scratch::large();
    let mut subscriber = Conn::open(context.target.addr, &mut scratch)?;
    let mut line = Vec::new();
    frames::put_sub(&mut line, SUBJECT, None, 1);
    subscriber.send(&line)?;
    subscriber.flush(&mut scratch)?;
    let mut publisher = Conn::open(context.target.addr, &mut scratch)?;
    phase(&mut publisher, &mut subscriber, messages(context.limit.fraction(WARM_UP_DIVISOR)))?;
    let meter = Meter::start(context.target)?;
    let messages = messages(context.limit);
    let latency = phase(&mut publisher, &mut subscriber, messages)?;
    Ok(meter.finish(messages)?.with_latency(&latency))
}

fn messages(limit: Limit) -> u64 {
    match limit {
        Limit::Time(time) => (time.as_secs_f64() * f64::from(PER_SECOND)).ceil() as u64,
        Limit::Messages(messages) => messages,
    }
}

fn phase(publisher: &mut Conn, subscriber: &mut Conn, messages: u64) -> Result<Histogram<u64>> {
    let base = clock::now();
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(publisher, messages, base));
        let latency = receive(subscriber, messages, base);
        publishing.join().map_err(|_| anyhow::anyhow!("the publishing thread panicked"))??;
        latency
    })
}

/// The payload starts with the time of sending, in nanoseconds after `base`, as text of a fixed width.
fn publish(conn: &mut Conn, messages: u64, base: Instant) -> Result<()> {
    let interval = Duration::from_secs(1) / PER_SECOND;
    let mut due = base;
    let mut frame = Vec::new();
    for _ in 0..messages {
        clock::pace(due);
        due += interval;
        frame.clear();
        let stamp = format!("{:0PAYLOAD_BYTES$}", base.elapsed().as_nanos());
        frames::put_pub(&mut frame, SUBJECT.as_bytes(), None, stamp.as_bytes());
        conn.send(&frame)?;
    }
    Ok(())
}

fn receive(conn: &mut Conn, messages: u64, base: Instant) -> Result<Histogram<u64>> {
    let mut scratch = Scratch::large();
    let mut latency = histogram()?;
    while latency.len() < messages {
        conn.read(&mut scratch, |frame| {
            let Frame::Msg(msg) = frame else { return Ok(()) };
            let stamp = std::str::from_utf8(msg.payload).ok().and_then(|text| text.parse().ok());
            let sent = Duration::from_nanos(stamp.context("a payload was changed on its way")?);
            measure::record(&mut latency, base.elapsed().saturating_sub(sent));
            Ok(())
        })?;
    }
    Ok(latency)
}
