//! What the operating system says about this process. Where there is no `/proc` the values are 0.

use std::sync::atomic::{AtomicU64, Ordering};

use linnet_ids::Mono;
use parking_lot::Mutex;

/// How often the load is measured.
pub(crate) const SAMPLE_EVERY: std::time::Duration = std::time::Duration::from_secs(1);

/// The load of this process over the last second.
#[derive(Debug, Default)]
pub(crate) struct CpuMeter {
    last: Mutex<Option<(Mono, u64)>>,
    /// Tenths of a percent of one core.
    tenths: AtomicU64,
}

impl CpuMeter {
    /// Takes a sample at `now`.
    pub(crate) fn sample(&self, now: Mono) {
        let ticks = std::fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_ticks(&stat));
        if let Some(ticks) = ticks {
            self.record(now, ticks, rustix::param::clock_ticks_per_second());
        }
    }

    fn record(&self, now: Mono, ticks: u64, ticks_per_second: u64) {
        let Some((then, before)) = self.last.lock().replace((now, ticks)) else { return };
        let nanos = u128::from(u64::try_from(now.since(then).as_nanos()).unwrap_or(u64::MAX));
        if nanos == 0 || ticks_per_second == 0 {
            return;
        }
        let used = u128::from(ticks.saturating_sub(before)) * 1_000_000_000 / u128::from(ticks_per_second);
        self.tenths.store(u64::try_from(used * 1000 / nanos).unwrap_or(0), Ordering::Relaxed);
    }

    /// Percent of one core, in steps of 0.1.
    pub(crate) fn percent(&self) -> f64 {
        f64::from(u32::try_from(self.tenths.load(Ordering::Relaxed)).unwrap_or(u32::MAX)) / 10.0
    }
}

/// User plus system time in a line of `/proc/self/stat`. The second field is a name in brackets that may hold
/// anything, so counting begins behind the last bracket.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Address space and resident memory, in bytes.
pub(crate) fn memory() -> (u64, u64) {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|statm| memory_pages(&statm));
    let (size, resident) = pages.unwrap_or_default();
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(0);
    (size * page, resident * page)
}

fn memory_pages(statm: &str) -> Option<(u64, u64)> {
    let mut fields = statm.split_ascii_whitespace();
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// CPUs this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One line per thread: id, name, state.
pub(crate) fn threads() -> String {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return String::new() };
    let mut ids: Vec<u64> = tasks.filter_map(|t| t.ok()?.file_name().to_str()?.parse().ok()).collect();
    ids.sort_unstable();
    ids.iter().filter_map(|id| describe_thread(*id)).collect()
}

fn describe_thread(id: u64) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).ok()?;
    let (name, rest) = (stat.get(stat.find('(')? + 1..stat.rfind(')')?)?, stat.get(stat.rfind(')')? + 1..)?);
    let state = match rest.split_ascii_whitespace().next()? {
        "R" => "running",
        "S" => "sleeping",
        "D" => "waiting for a disk",
        "T" | "t" => "stopped",
        "Z" => "ended",
        other => other,
    };
    Some(format!("thread {id} \"{name}\" [{state}]: {} ticks of cpu\n", cpu_ticks(&stat).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::{CpuMeter, cpu_ticks, memory_pages};
    use linnet_ids::Mono;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 13 14";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks(""), None);
        assert_eq!(memory_pages("100 20 3 4"), Some((100, 20)));
    }

    #[test]
    fn load_is_percent_of_one_core_in_tenths() {
        let meter = CpuMeter::default();
        meter.record(Mono(0), 100, 100);
        assert_eq!(meter.percent(), 0.0);
        meter.record(Mono(1_000_000_000), 250, 100);
        assert_eq!(meter.percent(), 150.0);
        meter.record(Mono(1_999_999_999), 251, 100);
        assert_eq!(meter.percent(), 1.0);
        meter.record(Mono(8_000_000_000), 253, 100);
        assert_eq!(meter.percent(), 0.3);
    }
}
