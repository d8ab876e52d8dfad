//! What the kernel tells about a process in `/proc`.

use std::fs;
use std::io;
use std::time::Duration;

use crate::{Error, Result};

/// Processor time in user and kernel mode of all threads, those that ended included.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let text = read(pid, "stat")?;
    let ticks = cpu_ticks(&text).ok_or_else(|| malformed(pid, "stat"))?;
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_secs(ticks / per_second)
        + Duration::from_secs(ticks % per_second) / divisor(per_second))
}

/// Resident memory.
pub(crate) fn rss_bytes(pid: u32) -> Result<u64> {
    let text = read(pid, "statm")?;
    let pages = resident_pages(&text).ok_or_else(|| malformed(pid, "statm"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// Whether every thread is stopped by a signal.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.filter_map(std::result::Result::ok).all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        state(&stat) == Some('T')
    })
}

/// The field behind the name.
fn state(stat: &str) -> Option<char> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.trim_start().chars().next()
}

/// The fields start after the name, which is in parentheses and may contain anything; utime and stime are the 14th
/// and 15th, proc_pid_stat(5).
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn divisor(per_second: u64) -> u32 {
    u32::try_from(per_second).unwrap_or(u32::MAX)
}

fn read(pid: u32, name: &str) -> Result<String> {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).map_err(Error::file(path))
}

fn malformed(pid: u32, name: &str) -> Error {
    Error::file(format!("/proc/{pid}/{name}"))(io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_the_field_behind_the_name() {
        assert_eq!(state("12 (a) b) T 1 12 12"), Some('T'));
        assert_eq!(state("12"), None);
    }

    #[test]
    fn name_with_parentheses_and_blanks_does_not_shift_the_fields() {
        let stat = "42 (a) b) (c) S 1 42 42 0 -1 4194560 1 2 3 4 150 25 0 0 20 0 9 0";
        assert_eq!(cpu_ticks(stat), Some(175));
        assert_eq!(cpu_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn resident_pages_are_the_second_field() {
        assert_eq!(resident_pages("1000 250 90 1 0 300 0\n"), Some(250));
        assert_eq!(resident_pages(""), None);
    }
}
