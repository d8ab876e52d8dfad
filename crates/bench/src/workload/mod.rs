//! The workloads, one file per family.

mod churn;
mod core_publish;
mod fanout;
mod idle;
mod js_consume;
mod js_depth;
mod js_patterns;
mod js_publish;
mod js_replicated;
mod latency;
mod queue;
mod request;
mod routes;
mod subjects;

use anyhow::Result;

use crate::measure::{Limit, Sample};
use crate::target::Target;

/// What is needed to run a workload.
pub(crate) struct Context<'a> {
    /// The server under load.
    pub(crate) target: &'a Target,
    /// How long to measure.
    pub(crate) limit: Limit,
    /// Whether to spend less on preparation, at the cost of precision.
    pub(crate) quick: bool,
}

/// When JetStream's writes must reach the disk in a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// JetStream is off.
    None,
    /// As the command line says.
    AsAsked,
    /// As each server does when its configuration does not say.
    ServerDefault,
}

/// What ours must reach relative to the peer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Goal {
    /// Rate, at least.
    pub(crate) rate: Option<f64>,
    /// Server processor time per message, at most.
    pub(crate) cpu: Option<f64>,
    /// Median latency, at most.
    pub(crate) p50: Option<f64>,
    /// Memory, at most.
    pub(crate) memory: Option<f64>,
}

impl Goal {
    /// No goal.
    pub(crate) const NONE: Self = Self { rate: None, cpu: None, p50: None, memory: None };

    /// A rate and a processor time.
    pub(crate) const fn rate_and_cpu(rate: f64, cpu: f64) -> Self {
        Self { rate: Some(rate), cpu: Some(cpu), ..Self::NONE }
    }

    /// A rate only.
    pub(crate) const fn rate(rate: f64) -> Self {
        Self { rate: Some(rate), ..Self::NONE }
    }
}

/// One thing that is measured.
#[derive(Clone, Copy)]
pub(crate) struct Workload {
    /// Its name on the command line and in tables.
    pub(crate) name: &'static str,
    /// What it measures.
    pub(crate) about: &'static str,
    /// What it needs of JetStream.
    pub(crate) storage: Storage,
    /// Servers that make up a cluster; 1 for one without.
    pub(crate) servers: usize,
    /// What ours must reach.
    pub(crate) goal: Goal,
    /// Measures once, on a server that nothing else has used.
    pub(crate) run: fn(&Context<'_>) -> Result<Sample>,
}

/// All workloads, in the order of a report.
pub(crate) fn all() -> Vec<Workload> {
    let families = [
        core_publish::WORKLOADS,
        fanout::WORKLOADS,
        churn::WORKLOADS,
        queue::WORKLOADS,
        request::WORKLOADS,
        routes::WORKLOADS,
        latency::WORKLOADS,
        subjects::WORKLOADS,
        idle::WORKLOADS,
        js_publish::WORKLOADS,
        js_consume::WORKLOADS,
        js_depth::WORKLOADS,
        js_patterns::WORKLOADS,
        js_replicated::WORKLOADS,
    ];
    families.into_iter().flatten().copied().collect()
}
