//! When scheduled messages are due (jetstream, "Scheduled messages"): the values of `Nats-Schedule`.

mod cron;

use std::sync::LazyLock;
use std::time::Duration;

use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ZonedDateTime};
use linnet_ids::Wall;
use linnet_jsapi::{Nanos, go_duration};

use cron::Cron;

/// Shortest interval of a repeating schedule.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
const SECOND: i64 = 1_000_000_000;

/// The time zones are part of the program: what a schedule means must not depend on the machine.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Patterns with a name, and the fields they stand for.
const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 0 1 1 *"),
    ("@annually", "0 0 0 1 1 *"),
    ("@monthly", "0 0 0 1 * *"),
    ("@weekly", "0 0 0 * * 0"),
    ("@daily", "0 0 0 * * *"),
    ("@midnight", "0 0 0 * * *"),
    ("@hourly", "0 0 * * * *"),
];

/// Why a schedule is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadSchedule {
    /// There is no such time zone.
    Zone,
    /// The pattern cannot be read, or is never due.
    Pattern,
}

/// A schedule.
#[derive(Debug)]
pub(crate) struct Schedule {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Once, at a time.
    At(Wall),
    /// Again and again after this many nanoseconds.
    Every(i64),
    /// Whenever the clock of a time zone shows certain times.
    Cron(Box<Cron>, TimeZone),
}

/// A time at which a schedule is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) at: Wall,
    /// The time as `Nats-Schedule-Next` tells it.
    pub(crate) text: String,
}

impl Schedule {
    /// Reads a pattern and the name of a time zone, if one is given.
    pub(crate) fn parse(pattern: &[u8], zone: Option<&[u8]>) -> Result<Self, BadSchedule> {
        let zone = zone.map(|name| find_zone(name).ok_or(BadSchedule::Zone)).transpose()?;
        let pattern = std::str::from_utf8(pattern).map_err(|_| BadSchedule::Pattern)?;
        let kind = match (pattern.strip_prefix("@at "), pattern.strip_prefix("@every ")) {
            (Some(_), _) | (_, Some(_)) if zone.is_some() => None,
            (Some(time), _) => Wall::parse_rfc3339(time).map(Kind::At),
            (_, Some(interval)) => parse_interval(interval).map(Kind::Every),
            _ => {
                let named = NAMED.iter().find(|(name, _)| *name == pattern);
                let cron = Cron::parse(named.map_or(pattern, |(_, fields)| fields));
                cron.map(|cron| Kind::Cron(Box::new(cron), zone.unwrap_or(TimeZone::UTC)))
            }
        };
        kind.map(|kind| Self { kind }).ok_or(BadSchedule::Pattern)
    }

    /// When it is due for the first time if it begins at `start`; `None` for never.
    pub(crate) fn first(&self, start: Wall) -> Option<Wall> {
        match self.kind {
            Kind::At(time) => Some(time),
            _ => self.after(start).map(|due| due.at),
        }
    }

    /// When it is due again, having been due at `due` and looked at `now`: times between the two are missed. `None`
    /// if it is over.
    pub(crate) fn next(&self, due: Wall, now: Wall) -> Option<Due> {
        match self.kind {
            Kind::At(_) => None,
            Kind::Every(_) => self.after(due).filter(|next| next.at >= now).or_else(|| self.after(now)),
            Kind::Cron(..) => self.after(due.max(now)),
        }
    }

    fn after(&self, time: Wall) -> Option<Due> {
        match &self.kind {
            Kind::At(_) => None,
            Kind::Every(interval) => {
                let at = Wall(whole_second(time).0.checked_add(*interval)?);
                Some(Due { at, text: at.rfc3339() })
            }
            Kind::Cron(cron, zone) => {
                let local = Timestamp::from_nanosecond(time.0.into()).ok()?.to_zoned_datetime(zone.clone());
                let next = cron.after(&local)?;
                let at = Wall(i64::try_from(next.timestamp().as_nanosecond()).ok()?);
                Some(Due { at, text: local_text(&next) })
            }
        }
    }
}

/// Names are case-sensitive.
fn find_zone(name: &[u8]) -> Option<TimeZone> {
    let name = std::str::from_utf8(name).ok()?;
    let zone = ZONES.get(name).ok()?;
    (zone.iana_name() == Some(name) && !zone.is_unknown()).then_some(zone)
}

fn parse_interval(text: &str) -> Option<i64> {
    let interval = go_duration::parse(text).filter(|interval| *interval >= Nanos::from(INTERVAL_MIN))?;
    Some(interval.0)
}

/// The nearest whole second; of two the later one.
fn whole_second(time: Wall) -> Wall {
    Wall(time.0.saturating_add(SECOND / 2).div_euclid(SECOND).saturating_mul(SECOND))
}

/// RFC 3339 with the offset of the time zone.
fn local_text(time: &ZonedDateTime) -> String {
    let format = if time.offset() == Offset::UTC { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S%:z" };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wall(text: &str) -> Wall {
        Wall::parse_rfc3339(text).unwrap()
    }

    fn first(pattern: &str, zone: Option<&str>, start: &str) -> String {
        let schedule = Schedule::parse(pattern.as_bytes(), zone.map(str::as_bytes)).unwrap();
        schedule.first(wall(start)).unwrap().rfc3339()
    }

    #[test]
    fn patterns_are_read_as_nats_server_does() {
        for (pattern, is_one) in [
            ("@at 2099-01-01T00:00:00Z", true),
            ("@at 2099-01-01T00:00:00.5+02:00", true),
            ("@at 2099-01-01", false),
            ("@at  2099-01-01T00:00:00Z", false),
            ("@at", false),
            ("@every 1s", true),
            ("@every 1.5s", true),
            ("@every 999ms", false),
            ("@every -1s", false),
            ("@every 5", false),
            ("@every", false),
            ("@hourly", true),
            ("@HOURLY", false),
            ("@foo", false),
            ("x", false),
            ("", false),
        ] {
            let read = Schedule::parse(pattern.as_bytes(), None);
            assert_eq!(read.is_ok(), is_one, "{pattern}");
        }
    }

    #[test]
    fn time_zones_are_known_by_their_exact_name_and_only_to_clocks() {
        for (zone, pattern, outcome) in [
            ("UTC", "@daily", None),
            ("Europe/Berlin", "0 0 0 * * *", None),
            ("Etc/GMT+5", "@daily", None),
            ("EST", "@daily", None),
            ("europe/berlin", "@daily", Some(BadSchedule::Zone)),
            ("Etc/Unknown", "@daily", Some(BadSchedule::Zone)),
            ("+02:00", "@daily", Some(BadSchedule::Zone)),
            ("", "@daily", Some(BadSchedule::Zone)),
            ("Nope", "x", Some(BadSchedule::Zone)),
            ("UTC", "@every 5s", Some(BadSchedule::Pattern)),
            ("UTC", "@at 2099-01-01T00:00:00Z", Some(BadSchedule::Pattern)),
        ] {
            let read = Schedule::parse(pattern.as_bytes(), Some(zone.as_bytes()));
            assert_eq!(read.err(), outcome, "{zone} {pattern}");
        }
    }

    #[test]
    fn a_time_zone_decides_when_it_is_midnight() {
        for (zone, due) in [
            (None, "2026-07-02T00:00:00Z"),
            (Some("Europe/Berlin"), "2026-07-01T22:00:00Z"),
            (Some("America/New_York"), "2026-07-02T04:00:00Z"),
        ] {
            assert_eq!(first("@daily", zone, "2026-07-01T12:00:00Z"), due);
        }
        let berlin = Schedule::parse(b"@daily", Some(b"Europe/Berlin")).unwrap();
        let next = berlin.next(wall("2026-07-01T12:00:00Z"), wall("2026-07-01T12:00:00Z")).unwrap();
        assert_eq!(next.text, "2026-07-02T00:00:00+02:00");
        let london = Schedule::parse(b"@daily", Some(b"Europe/London")).unwrap();
        let next = london.next(wall("2026-01-01T12:00:00Z"), wall("2026-01-01T12:00:00Z")).unwrap();
        assert_eq!(next.text, "2026-01-02T00:00:00Z");
    }

    #[test]
    fn intervals_begin_at_whole_seconds_and_missed_ones_are_made_up_for_once() {
        assert_eq!(first("@every 1.5s", None, "2026-01-01T00:00:00.4Z"), "2026-01-01T00:00:01.5Z");
        assert_eq!(first("@every 1s", None, "2026-01-01T00:00:00.5Z"), "2026-01-01T00:00:02Z");
        let every = Schedule::parse(b"@every 10s", None).unwrap();
        let next = |due, now| every.next(wall(due), wall(now)).unwrap().text;
        assert_eq!(next("2026-01-01T00:00:10Z", "2026-01-01T00:00:10.2Z"), "2026-01-01T00:00:20Z");
        assert_eq!(next("2026-01-01T00:00:10Z", "2026-01-01T01:00:07.2Z"), "2026-01-01T01:00:17Z");
        let once = Schedule::parse(b"@at 2026-01-01T00:00:00Z", None).unwrap();
        assert_eq!(once.next(Wall(0), Wall(0)), None);
    }
}
