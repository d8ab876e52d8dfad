use std::ops::Add;
use std::time::Duration;

/// A point on the process's monotonic clock, in nanoseconds since an arbitrary start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mono(pub u64);

/// A point in real time, in nanoseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub i64);

impl Mono {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Most bytes of a time in RFC 3339.
const RFC3339_MAX: usize = 30;

impl Wall {
    /// Time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The time so long after.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The time so long before.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// RFC 3339 in UTC with up to nine decimals, trailing zeros of the fraction dropped, as NATS JSON has it.
    /// The zero of the JSON world, year 1, stands for "unset" and is written by [`Wall::ZERO_TEXT`].
    pub fn rfc3339(self) -> String {
        let mut text = Vec::with_capacity(RFC3339_MAX);
        self.write_rfc3339(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Appends what [`Wall::rfc3339`] gives.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        let (days, nanos_of_day) =
            (self.0.div_euclid(86_400_000_000_000), self.0.rem_euclid(86_400_000_000_000));
        let (year, month, day) = civil_from_days(days);
        let (seconds, nanos) = (nanos_of_day / 1_000_000_000, nanos_of_day % 1_000_000_000);
        let fields = [
            (b'-', month),
            (b'-', day),
            (b'T', seconds / 3600),
            (b':', seconds / 60 % 60),
            (b':', seconds % 60),
        ];
        push_digits(out, year, 4);
        for (mark, value) in fields {
            out.push(mark);
            push_digits(out, value, 2);
        }
        if nanos > 0 {
            out.push(b'.');
            push_digits(out, nanos, 9);
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        out.push(b'Z');
    }

    /// How an unset time is written in NATS JSON.
    pub const ZERO_TEXT: &'static str = "0001-01-01T00:00:00Z";

    /// Parses RFC 3339 with any offset and up to nine decimals (further ones are cut) as strictly as Go's
    /// `time.Parse`, by which nats-server judges times: `T` and `Z` are capitals, an hour may have one digit, decimals
    /// may follow a comma, and an offset reaches 24:60.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let mut rest = Rest(text.as_bytes());
        let days = rest.date()?;
        rest.mark(b"T")?;
        let seconds = days * 86_400 + rest.time_of_day()?;
        let nanos = rest.decimals()?;
        let seconds = seconds - rest.offset()?;
        let is_all = rest.0.is_empty();
        seconds.checked_mul(1_000_000_000)?.checked_add(nanos).filter(|_| is_all).map(Self)
    }
}

/// What is left of a time that is being parsed.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    /// One of these bytes.
    fn mark(&mut self, any: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        any.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    /// So many digits.
    fn digits(&mut self, len: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        digits.iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    }

    /// Two digits up to `max`.
    fn up_to(&mut self, max: i64) -> Option<i64> {
        self.digits(2).filter(|n| *n <= max)
    }

    /// How many digits come next.
    fn digits_ahead(&self, from: usize) -> usize {
        self.0.iter().skip(from).take_while(|b| b.is_ascii_digit()).count()
    }

    /// A date, in days since 1970.
    fn date(&mut self) -> Option<i64> {
        let year = self.digits(4)?;
        self.mark(b"-")?;
        let month = self.digits(2).filter(|n| (1..=12).contains(n))?;
        self.mark(b"-")?;
        let day = self.digits(2).filter(|n| (1..=days_in_month(year, month)).contains(n))?;
        Some(days_from_civil(year, month, day))
    }

    /// Seconds of a day.
    fn time_of_day(&mut self) -> Option<i64> {
        let hour = self.digits(self.digits_ahead(0).clamp(1, 2)).filter(|n| *n <= 23)?;
        self.mark(b":")?;
        let minute = self.up_to(59)?;
        self.mark(b":")?;
        Some(hour * 3600 + minute * 60 + self.up_to(59)?)
    }

    /// Nanoseconds behind a point or a comma; none without a digit behind it.
    fn decimals(&mut self) -> Option<i64> {
        let len = self.digits_ahead(1);
        if len == 0 || self.mark(b".,").is_none() {
            return Some(0);
        }
        let kept = len.min(9);
        let nanos = self.digits(kept)? * 10_i64.pow(u32::try_from(9 - kept).ok()?);
        self.0 = self.0.get(len - kept..)?;
        Some(nanos)
    }

    /// Seconds ahead of UTC.
    fn offset(&mut self) -> Option<i64> {
        let sign = match self.mark(b"Z+-")? {
            b'Z' => return Some(0),
            b'+' => 1,
            _ => -1,
        };
        let hours = self.up_to(24)?;
        self.mark(b":")?;
        Some(sign * (hours * 3600 + self.up_to(60)? * 60))
    }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Appends `value` with leading zeros. The years that nanoseconds reach have four digits.
fn push_digits(out: &mut Vec<u8>, mut value: i64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out.iter_mut().skip(start).rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

/// Inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let m = (5 * day_of_year + 2) / 153;
    let month = if m < 10 { m + 3 } else { m - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * m + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::Wall;

    #[test]
    fn rfc3339_round_trips() {
        for (text, nanos) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2024-02-29T23:59:59.000000001Z", 1_709_251_199_000_000_001),
            ("2026-11-24T06:55:13.5Z", 1_795_503_313_500_000_000),
            ("1969-12-31T23:59:59.9Z", -100_000_000),
        ] {
            assert_eq!(Wall::parse_rfc3339(text), Some(Wall(nanos)), "{text}");
            assert_eq!(Wall(nanos).rfc3339(), text);
        }
    }

    #[test]
    fn rfc3339_offsets_are_applied_and_garbage_refused() {
        assert_eq!(Wall::parse_rfc3339("1970-01-01T01:00:00+01:00"), Some(Wall(0)));
        for bad in [
            "",
            "2024-13-01T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2024-01-01",
            "2024-01-01T00:00:00",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T:00:00Z",
            "2024-01-01T000:00:00Z",
            "2024-01-01T00:00:00Z ",
            "2024-01-01T00:00:00+0100",
        ] {
            assert_eq!(Wall::parse_rfc3339(bad), None, "{bad}");
        }
    }

    /// What nats-server 2.15.1 takes and what it does not.
    #[test]
    fn rfc3339_is_what_go_takes_for_it() {
        for (good, same) in [
            ("2020-01-01T1:00:00Z", "2020-01-01T01:00:00Z"),
            ("2020-01-01T00:00:00,5Z", "2020-01-01T00:00:00.5Z"),
            ("2020-01-01T00:00:00.1234567891234Z", "2020-01-01T00:00:00.123456789Z"),
            ("2020-01-01T00:00:00-00:00", "2020-01-01T00:00:00Z"),
            ("2020-01-01T00:00:00+23:60", "2019-12-31T00:00:00Z"),
            ("2020-01-01T1:00:00+24:60", "2019-12-31T00:00:00Z"),
        ] {
            assert_eq!(Wall::parse_rfc3339(good).map(Wall::rfc3339).as_deref(), Some(same), "{good}");
        }
        for bad in [
            "2020-01-01 00:00:00Z",
            "2020-01-01t00:00:00Z",
            "2020-01-01T00:00:00z",
            "2020-01-01T00:00:00+25:00",
            "2020-01-01T00:00:00+23:61",
            "2020-01-01T00:00:00+1:00",
            "2020-01-01T24:00:00Z",
            "2020-01-01T00:00:60Z",
            "2020-01-01T00:00Z",
            "2020-1-01T00:00:00Z",
            "2020-01-01T00:00:00 Z",
        ] {
            assert_eq!(Wall::parse_rfc3339(bad), None, "{bad}");
        }
    }
}
