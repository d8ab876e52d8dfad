//! Text forms of durations and times.

use std::time::Duration;

use linnet_jsapi::Nanos;

/// `1y2d3h4m5s`: leading zero units left out, a year of 365 days.
pub(crate) fn uptime(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let (s, m, h) = (seconds % 60, minutes % 60, hours % 24);
    match (days / 365, days % 365) {
        (0, 0) if hours == 0 && minutes == 0 => format!("{s}s"),
        (0, 0) if hours == 0 => format!("{m}m{s}s"),
        (0, 0) => format!("{h}h{m}m{s}s"),
        (0, d) => format!("{d}d{h}h{m}m{s}s"),
        (y, d) => format!("{y}y{d}d{h}h{m}m{s}s"),
    }
}

/// A round-trip time; below a millisecond only whole microseconds are shown.
pub(crate) fn rtt(duration: Duration) -> String {
    let shown = if duration < Duration::from_millis(1) {
        Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(0))
    } else {
        duration
    };
    Nanos::from(shown).to_string()
}

/// Whole nanoseconds as configurations and pages hold them.
pub(crate) fn nanos(duration: Duration) -> i64 {
    Nanos::from(duration).0
}

/// A count as the signed number Go has for it.
pub(crate) fn signed(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{rtt, uptime};
    use std::time::Duration;

    #[test]
    fn uptime_starts_at_its_largest_unit() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (87, "1m27s"),
            (3600, "1h0m0s"),
            (86_403, "1d0h0m3s"),
            (365 * 86_400 - 1, "364d23h59m59s"),
            (367 * 86_400 + 3 * 3600 + 245, "1y2d3h4m5s"),
        ] {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
        assert_eq!(uptime(Duration::from_millis(1999)), "1s");
    }

    #[test]
    fn round_trips_below_a_millisecond_are_cut_to_microseconds() {
        for (nanos, text) in [
            (0, "0s"),
            (999, "0s"),
            (266_900, "266µs"),
            (1_280_790, "1.28079ms"),
            (1_500_000_000, "1.5s"),
            (123_400_000_000, "2m3.4s"),
        ] {
            assert_eq!(rtt(Duration::from_nanos(nanos)), text);
        }
    }
}
