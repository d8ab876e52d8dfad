//! Load generator for any NATS server, and side-by-side comparison of two.
//!
//! It measures servers from outside: messages per second, latency, processor time per message and resident memory of
//! the server process. The generator must not be what is measured: it writes prebuilt frames from large buffers,
//! only counts what arrives, and reports its own processor time beside every figure.
//!
//! Start reading at [`run`]; the workloads are in `workload`, one file per family; `traffic` drives the core ones and
//! `window` those that wait for answers.

mod args;
mod clock;
mod compare;
mod conn;
mod frames;
mod js;

mod measure;
mod readers;
mod report;
mod stats;
mod target;
mod traffic;
mod window;

mod workload;

pub use args::{Args, SyncArg};

use anyhow::Result;

/// Runs the workloads that the arguments choose and prints what was measured.
pub fn run(args: &Args) -> Result<()> {
    compare::run(args)
}
