//! The one place that reads a clock. A measurement is about real time, so there is nothing to simulate.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::time::{ClockId, clock_gettime};

/// Now.
#[allow(clippy::disallowed_methods, reason = "real time is what is measured")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Returns at `moment`, or at once if it has passed. For pacing, not for waiting until something is true.
pub(crate) fn pace(moment: Instant) {
    loop {
        let left = moment.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Asks `condition` until it holds; an error that says `what` was awaited if it does not within `timeout`.
pub(crate) fn wait_for(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let deadline = now() + timeout;
    while !condition()? {
        if now() >= deadline {
            bail!("{what} did not happen within {timeout:?}");
        }
        std::thread::park_timeout(Duration::from_micros(200));
    }
    Ok(())
}

/// Processor time of this process, all threads.
pub(crate) fn own_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time of everything on the machine, if the kernel tells.
pub(crate) fn machine_cpu() -> Option<Duration> {
    let busy = busy_ticks(&std::fs::read_to_string("/proc/stat").ok()?)?;
    Some(Duration::from_secs(busy) / u32::try_from(rustix::param::clock_ticks_per_second()).ok()?.max(1))
}

/// The first line is the sum of all processors, proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal.
fn busy_ticks(stat: &str) -> Option<u64> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace();
    let ticks: Vec<u64> = fields.take(8).map_while(|field| field.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    Some(total - ticks.get(3)? - ticks.get(4)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_busy() {
        assert_eq!(busy_ticks("cpu  10 1 5 1000 200 2 3 4 0 0\ncpu0 1 1 1 1\n"), Some(25));
        assert_eq!(busy_ticks("cpu  10 1"), None);
    }
}
