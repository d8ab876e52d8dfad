//! `cargo xtask ci`: everything a change has to pass.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::{metadata, tidy, tools};

/// Every step in order; the first one that fails ends it.
pub(crate) fn run() -> anyhow::Result<()> {
    step("format", || cargo(&["fmt", "--all", "--check"], &[]))?;
    step("tidy", tidy::run)?;
    let tools = step("tools", tools::install)?;
    step("lints", || {
        cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
    })?;
    step("build", || cargo(&["build", "--quiet", "--package", "linnet"], &[]))?;
    let binary = metadata::load()?.target_directory.join("debug/linnet");
    let mut environment = vec![("LINNET_BIN", binary)];
    if let Some(server) = tools.nats_server {
        environment.push(("NATS_SERVER", server));
    }
    // Most of the time is that of whole servers, whose tests wait for processes, disks and timers.
    let threads = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    environment.push(("RUST_TEST_THREADS", threads.to_string().into()));
    step("tests", || cargo(&["test", "--workspace", "--no-fail-fast"], &environment))
}

fn step<T>(name: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    println!("== {name}");
    let (outcome, took) = timed(run);
    println!(
        "== {name}: {} after {:.1} s",
        if outcome.is_ok() { "done" } else { "failed" },
        took.as_secs_f64()
    );
    outcome
}

#[allow(clippy::disallowed_methods, reason = "a developer task runs in real time only")]
fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = std::time::Instant::now();
    (run(), start.elapsed())
}

fn cargo(arguments: &[&str], environment: &[(&str, std::path::PathBuf)]) -> anyhow::Result<()> {
    let status = Command::new(metadata::cargo())
        .args(arguments)
        .envs(environment.iter().map(|(key, value)| (key, value)))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo {} ended with {status}", arguments.join(" "));
    Ok(())
}
