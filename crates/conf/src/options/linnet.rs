use std::time::Duration;

use super::Options;
use crate::lang::Value;
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, Table, key, unknown_field};

/// What only this server has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Linnet {
    /// Stored messages are verified in the background.
    pub scrub: Scrub,
}

/// How stored messages are verified in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// From the end of one pass to the beginning of the next; zero for never.
    pub interval: Duration,
    /// Bytes a second.
    pub rate: u64,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { interval: Duration::from_secs(7 * 24 * 3600), rate: 8 << 20 }
    }
}

pub(super) const TOP_KEYS: &[Row<Options>] =
    &[key!(["linnet"], "map", "", Refused, => read_own, "What only this server has.")];

pub(crate) const TABLE: Table<Linnet> = Table { section: "linnet", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<Linnet>] =
    &[key!(["scrub"], "map", "", Refused, => read_scrub, "Verifying of stored messages in the background.")];

pub(crate) const SCRUB_TABLE: Table<Scrub> =
    Table { section: "linnet.scrub", rows: &[SCRUB_KEYS], unknown: unknown_field };

const SCRUB_KEYS: &[Row<Scrub>] = &[
    key!(
        ["interval"],
        "duration string",
        "168h",
        Refused,
        interval = read::duration_string,
        "From the end of one pass over all streams to the beginning of the next; 0 switches it off."
    ),
    key!(["rate"], "size", "8388608", Refused, rate = rate, "Bytes that are read a second, 64 KiB or more."),
];

/// Slower, a pass would not end.
const RATE_MIN: u64 = 64 << 10;

fn read_own(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    match field.value {
        Value::Map(map) => TABLE.read(map, &mut options.linnet, report),
        other => report.error(field.at, format!("Expected linnet to be a map, got {}", other.kind())),
    }
}

fn read_scrub(linnet: &mut Linnet, field: &Field<'_>, report: &mut Report) {
    match field.value {
        Value::Map(map) => SCRUB_TABLE.read(map, &mut linnet.scrub, report),
        other => report.error(field.at, format!("Expected scrub to be a map, got {}", other.kind())),
    }
}

fn rate(field: &Field<'_>, report: &mut Report) -> Option<u64> {
    let bytes = read::size(field, report)?;
    let rate = u64::try_from(bytes).ok().filter(|rate| *rate >= RATE_MIN);
    if rate.is_none() {
        report.error(field.at, format!("Expected at least {RATE_MIN} bytes a second, got {bytes}"));
    }
    rate
}
