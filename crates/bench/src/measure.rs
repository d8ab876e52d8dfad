use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::target::Target;
use crate::{clock, stats};

/// What one measurement of one server found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// Messages that were counted: deliveries if there are any, else publishes.
    pub(crate) messages: u64,
    /// Messages per second.
    pub(crate) rate: f64,
    /// Server processor time per message, nanoseconds.
    pub(crate) cpu_ns: Option<f64>,
    /// Latency, microseconds.
    pub(crate) p50_us: Option<f64>,
    /// Latency, microseconds.
    pub(crate) p99_us: Option<f64>,
    /// Resident memory in bytes: of the server, or per connection where a workload is about that.
    pub(crate) memory: Option<f64>,
    /// Processors the server kept busy.
    pub(crate) server_cores: Option<f64>,
    /// Processors the load generator kept busy. Where it is the larger one, the generator may be the limit.
    pub(crate) client_cores: f64,
    /// Processors that everything else on the machine kept busy. The more, the less the figures say.
    pub(crate) other_cores: Option<f64>,
    /// SUB and UNSUB pairs per second that were really sent, in workloads with churn.
    pub(crate) churn_rate: Option<f64>,
}

/// Everything that is read before and after a measured phase.
pub(crate) struct Meter<'a> {
    target: &'a Target,
    server_cpu: Option<Duration>,
    client_cpu: Duration,
    machine_cpu: Option<Duration>,
    start: Instant,
}

impl<'a> Meter<'a> {
    /// Begins a measured phase.
    pub(crate) fn start(target: &'a Target) -> Result<Self> {
        let server_cpu = target.usage()?.map(|usage| usage.cpu);
        Ok(Self {
            target,
            server_cpu,
            client_cpu: clock::own_cpu(),
            machine_cpu: clock::machine_cpu(),
            start: clock::now(),
        })
    }

    /// Ends it: `messages` were completed since the start.
    pub(crate) fn finish(self, messages: u64) -> Result<Sample> {
        let seconds = self.start.elapsed().as_secs_f64();
        let client_cpu = clock::own_cpu().saturating_sub(self.client_cpu).as_secs_f64();
        let machine_cpu = clock::machine_cpu()
            .zip(self.machine_cpu)
            .map(|(after, before)| after.saturating_sub(before).as_secs_f64());
        let usage = self.target.usage()?;
        let server_cpu =
            usage.zip(self.server_cpu).map(|(after, before)| after.cpu.saturating_sub(before).as_secs_f64());
        Ok(Sample {
            messages,
            rate: stats::per_second(messages, seconds),
            cpu_ns: server_cpu.filter(|_| messages > 0).map(|cpu| cpu * 1e9 / messages as f64),
            memory: usage.map(|usage| usage.rss_bytes as f64),
            server_cores: server_cpu.map(|cpu| cpu / seconds),
            client_cores: client_cpu / seconds,
            other_cores: machine_cpu
                .zip(server_cpu)
                .map(|(machine, server)| ((machine - server - client_cpu) / seconds).max(0.0)),
            ..Sample::default()
        })
    }
}

impl Sample {
    /// With the latencies of a histogram of nanoseconds.
    pub(crate) fn with_latency(mut self, latency: &Histogram<u64>) -> Self {
        if !latency.is_empty() {
            self.p50_us = Some(latency.value_at_quantile(0.5) as f64 / 1e3);
            self.p99_us = Some(latency.value_at_quantile(0.99) as f64 / 1e3);
        }
        self
    }
}

/// A histogram of nanoseconds up to a minute with three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_max(60_000_000_000, 3)?)
}

/// Adds a latency; more than the histogram holds counts as its largest value.
pub(crate) fn record(latency: &mut Histogram<u64>, took: Duration) {
    latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
}

/// How long a phase lasts: a time or a number of published messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Until this much time has passed.
    Time(Duration),
    /// Until this many messages were published.
    Messages(u64),
}

/// A phase that has begun.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// Ends then.
    Until(Instant),
    /// Ends after this many messages.
    Messages(u64),
}

impl Limit {
    /// Begins now.
    pub(crate) fn begin(self) -> Budget {
        match self {
            Self::Time(time) => Budget::Until(clock::now() + time),
            Self::Messages(messages) => Budget::Messages(messages),
        }
    }

    /// A part of it, for warming up.
    pub(crate) fn fraction(self, divisor: u32) -> Self {
        match self {
            Self::Time(time) => Self::Time(time / divisor),
            Self::Messages(messages) => Self::Messages((messages / u64::from(divisor)).max(1)),
        }
    }

    /// The share of one of several publishers.
    pub(crate) fn share(self, publishers: usize) -> Self {
        match self {
            Self::Time(time) => Self::Time(time),
            Self::Messages(messages) => Self::Messages(messages.div_ceil(publishers.max(1) as u64)),
        }
    }
}

impl Budget {
    /// Whether nothing more is to be sent after `sent` messages, at `now`.
    pub(crate) fn is_spent(self, sent: u64, now: Instant) -> bool {
        match self {
            Self::Until(end) => now >= end,
            Self::Messages(messages) => sent >= messages,
        }
    }
}
