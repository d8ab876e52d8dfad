//! Patterns of six fields: second, minute, hour, day of the month, month, day of the week.

use jiff::civil::Weekday;
use jiff::{SignedDuration, ToSpan, ZonedDateTime};

/// A pattern that does not match within this many years never does.
const YEARS_MAX: i16 = 5;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What a field may hold.
struct Bounds {
    min: u32,
    max: u32,
    /// Names of the values from `min` on.
    names: &'static [&'static str],
}

const SECONDS: Bounds = Bounds { min: 0, max: 59, names: &[] };
const MINUTES: Bounds = SECONDS;
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS_OF_MONTH: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS_OF_YEAR: Bounds = Bounds { min: 1, max: 12, names: &MONTHS };
const DAYS_OF_WEEK: Bounds = Bounds { min: 0, max: 6, names: &DAYS };

/// The values that match a field.
#[derive(Clone, Copy, Debug, Default)]
struct Field {
    /// One bit for each.
    values: u64,
    /// It says that every value will do.
    is_star: bool,
}

impl Field {
    /// A list of ranges; `None` if one cannot be read or nothing matches.
    fn parse(text: &str, bounds: &Bounds) -> Option<Self> {
        let mut field = Self::default();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            field.add(range, bounds)?;
        }
        (field.values != 0).then_some(field)
    }

    /// `*`, `N`, `N-M`, each with an optional `/step`. `N/step` ends at the greatest value.
    fn add(&mut self, text: &str, bounds: &Bounds) -> Option<()> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (text, None),
        };
        let mut ends = range.split('-');
        let low = ends.next()?;
        let high = ends.next();
        if ends.next().is_some() {
            return None;
        }
        let is_star = matches!(low, "*" | "?");
        let (from, to) = match (is_star, high) {
            (true, _) => (bounds.min, bounds.max),
            (false, Some(high)) => (bounds.value(low)?, bounds.value(high)?),
            (false, None) => {
                let low = bounds.value(low)?;
                (low, if step.is_some() { bounds.max } else { low })
            }
        };
        if from < bounds.min || to > bounds.max || from > to || step == Some(0) {
            return None;
        }
        let step = step.unwrap_or(1);
        self.is_star |= is_star && step == 1;
        for value in (from..=to).step_by(usize::try_from(step).ok()?) {
            self.values |= 1 << value;
        }
        Some(())
    }

    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.values >> value & 1 == 1)
    }
}

impl Bounds {
    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        match named.map(u32::try_from) {
            Some(at) => Some(self.min + at.ok()?),
            None => number(text),
        }
    }
}

/// A number with an optional plus.
fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// Times of the day on days.
#[derive(Debug)]
pub(super) struct Cron {
    second: Field,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Cron {
    /// Reads six fields.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_whitespace();
        let mut field = |bounds| Field::parse(fields.next()?, bounds);
        let cron = Self {
            second: field(&SECONDS)?,
            minute: field(&MINUTES)?,
            hour: field(&HOURS)?,
            day: field(&DAYS_OF_MONTH)?,
            month: field(&MONTHS_OF_YEAR)?,
            weekday: field(&DAYS_OF_WEEK)?,
        };
        fields.next().is_none().then_some(cron)
    }

    /// The first whole second after `time` that matches.
    pub(super) fn after(&self, time: &ZonedDateTime) -> Option<ZonedDateTime> {
        let last_year = time.year().saturating_add(YEARS_MAX);
        let rest = i64::from(time.subsec_nanosecond());
        let mut at = time.checked_add(SignedDuration::from_nanos(1_000_000_000 - rest)).ok()?;
        while at.year() <= last_year {
            at = if !self.month.has(at.month()) {
                at.first_of_month().ok()?.checked_add(1.month()).ok()?.start_of_day().ok()?
            } else if !self.has_day(&at) {
                at.tomorrow().ok()?.start_of_day().ok()?
            } else if !self.hour.has(at.hour()) {
                let past = i64::from(at.minute()) * 60 + i64::from(at.second());
                at.checked_add(SignedDuration::from_secs(3600 - past)).ok()?
            } else if !self.minute.has(at.minute()) {
                at.checked_add(SignedDuration::from_secs(60 - i64::from(at.second()))).ok()?
            } else if !self.second.has(at.second()) {
                at.checked_add(SignedDuration::from_secs(1)).ok()?
            } else {
                return Some(at);
            };
        }
        None
    }

    /// Where both fields about days are restricted, one of them has to match, else both.
    fn has_day(&self, at: &ZonedDateTime) -> bool {
        let of_month = self.day.has(at.day());
        let of_week = self.weekday.has(Weekday::to_sunday_zero_offset(at.weekday()));
        if self.day.is_star || self.weekday.is_star { of_month && of_week } else { of_month || of_week }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_nats_server_does() {
        for good in [
            "* * * * * *",
            "0  0 0 * * *",
            " 0 0 0 1 1 ? ",
            "0 0 0 * JAN-MAR SUN",
            "0 0 0 * jan mon-fri",
            "0 0 0 ?/2 * ?",
            "*/15,5/15,1-5/2 * * * * *",
            "1,,3 * * * * *",
            "*-5 * * * * *",
            "*,5 * * * * *",
            "*/61 * * * * *",
            "0/100 * * * * *",
            "+1 * * * * *",
        ] {
            assert!(Cron::parse(good).is_some(), "{good}");
        }
        for bad in [
            "* * * * *",
            "* * * * * * *",
            "60 * * * * *",
            "0 60 * * * *",
            "0 0 24 * * *",
            "0 0 0 0 1 *",
            "0 0 0 1 13 *",
            "0 0 0 1 0 *",
            "0 0 0 * * 7",
            "0 0 0 * * L",
            "0 0 0 * * Sunday",
            "0 0 0 15W * *",
            "5-1 * * * * *",
            "-5 * * * * *",
            "1-2-3 * * * * *",
            "*/0 * * * * *",
            "1/2/3 * * * * *",
            ", * * * * *",
            "a * * * * *",
        ] {
            assert!(Cron::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_next_match_is_found() {
        for (pattern, start, next) in [
            ("* * * * * *", "2026-01-01T00:00:00.5", "2026-01-01T00:00:01"),
            ("* * * * * *", "2026-01-01T00:00:00", "2026-01-01T00:00:01"),
            ("*/15 * * * * *", "2026-01-01T00:00:46", "2026-01-01T00:01:00"),
            ("5/20 30 4 * * *", "2026-01-01T04:30:45", "2026-01-02T04:30:05"),
            ("0 0 0 29 2 *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
            ("0 0 12 * * mon", "2026-01-01T00:00:00", "2026-01-05T12:00:00"),
            // Both days are restricted: the thirteenth, or a Friday.
            ("0 0 0 13 * fri", "2026-01-03T00:00:00", "2026-01-09T00:00:00"),
            ("0 0 0 13 * fri", "2026-01-10T00:00:00", "2026-01-13T00:00:00"),
            // Every second day is no restriction of the weekday alone.
            ("0 0 0 */2 * fri", "2026-01-03T00:00:00", "2026-01-05T00:00:00"),
            ("0 0 0 31 12 *", "2026-12-31T00:00:00", "2027-12-31T00:00:00"),
        ] {
            let start: ZonedDateTime = format!("{start}[UTC]").parse().unwrap();
            let found = Cron::parse(pattern).unwrap().after(&start).unwrap();
            assert_eq!(found.datetime().to_string(), next, "{pattern}");
        }
        let start: ZonedDateTime = "2026-01-01T00:00:00[UTC]".parse().unwrap();
        assert!(Cron::parse("0 0 0 31 2 *").unwrap().after(&start).is_none());
    }

    #[test]
    fn clocks_that_are_put_forward_skip_what_they_do_not_show() {
        let zone = jiff::tz::TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
        let at = |text: &str| {
            text.parse::<jiff::civil::DateTime>().unwrap().to_zoned_datetime(zone.clone()).unwrap()
        };
        let after = |pattern, start| Cron::parse(pattern).unwrap().after(&at(start)).unwrap();
        // On 29 March 2026 there is no half past two.
        let skipped = after("0 30 2 * * *", "2026-03-28T12:00:00");
        assert_eq!(skipped.datetime().to_string(), "2026-03-30T02:30:00");
        // On 25 October 2026 there are two.
        let first = after("0 30 2 * * *", "2026-10-25T00:00:00");
        let second = Cron::parse("0 30 2 * * *").unwrap().after(&first).unwrap();
        assert_eq!(first.timestamp().to_string(), "2026-10-25T00:30:00Z");
        assert_eq!(second.timestamp().to_string(), "2026-10-25T01:30:00Z");
    }
}
