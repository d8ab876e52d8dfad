use std::time::Duration;

use super::jetstream::JetStream;
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, Table, key, unknown_field};

/// Limits on JetStream assets of all accounts. `None` is unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStreamLimits {
    /// Unacknowledged messages of one consumer.
    pub max_ack_pending: Option<u64>,
    /// Replicated assets on this server.
    pub max_ha_assets: Option<u64>,
    /// Messages one pull may ask for.
    pub max_request_batch: Option<u64>,
    /// Longest window in which duplicates are found.
    pub duplicate_window: Option<Duration>,
    /// Consumers of a stream that does not say.
    pub default_max_consumers: Option<u64>,
    /// Limits on atomic batches.
    pub batch: BatchLimits,
}

impl Default for JetStreamLimits {
    fn default() -> Self {
        Self {
            max_ack_pending: None,
            max_ha_assets: None,
            max_request_batch: None,
            duplicate_window: None,
            default_max_consumers: Some(1000),
            batch: BatchLimits::default(),
        }
    }
}

/// Limits on messages published as an atomic batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Unfinished batches of one stream.
    pub max_inflight_per_stream: u64,
    /// Unfinished batches of the server.
    pub max_inflight_total: u64,
    /// Messages of one batch.
    pub max_msgs: u64,
    /// Time after which an unfinished batch is dropped.
    pub timeout: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self {
            max_inflight_per_stream: 50,
            max_inflight_total: 1000,
            max_msgs: 1000,
            timeout: Duration::from_secs(10),
        }
    }
}

pub(crate) const TABLE: Table<JetStreamLimits> =
    Table { section: "jetstream.limits", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<JetStreamLimits>] = &[
    key!(
        ["max_ack_pending"],
        "integer",
        "",
        Live,
        max_ack_pending = read::limit,
        "Unacknowledged messages of one consumer."
    ),
    key!(
        ["max_ha_assets"],
        "integer",
        "",
        Live,
        max_ha_assets = read::limit,
        "Replicated assets on this server."
    ),
    key!(
        ["max_request_batch"],
        "integer",
        "",
        Live,
        max_request_batch = read::limit,
        "Messages one pull may ask for."
    ),
    key!(
        ["duplicate_window"],
        "duration string",
        "",
        Live,
        duplicate_window = read::duration_string,
        "Longest window in which duplicates are found."
    ),
    key!(
        ["default_max_consumers"],
        "integer",
        "1000",
        Live,
        default_max_consumers = default_max_consumers,
        "Consumers of a stream that does not set its own limit; below 0 is unlimited."
    ),
    key!(["batch"], "map", "", Live, => batch, "Limits on atomic batches."),
];

pub(crate) const BATCH_TABLE: Table<BatchLimits> =
    Table { section: "jetstream.limits.batch", rows: &[BATCH_KEYS], unknown: unknown_field };

const BATCH_KEYS: &[Row<BatchLimits>] = &[
    key!(
        ["max_inflight_per_stream"],
        "integer",
        "50",
        Live,
        max_inflight_per_stream = read::positive,
        "Unfinished batches of one stream."
    ),
    key!(
        ["max_inflight_total"],
        "integer",
        "1000",
        Live,
        max_inflight_total = read::positive,
        "Unfinished batches of the server."
    ),
    key!(["max_msgs"], "integer", "1000", Live, max_msgs = read::positive, "Messages of one batch."),
    key!(
        ["timeout"],
        "duration string",
        "10s",
        Live,
        timeout = batch_timeout,
        "Time after which an unfinished batch is dropped."
    ),
];

pub(super) fn read(section: &mut JetStream, field: &Field<'_>, report: &mut Report) {
    if let Some(map) = read::map(field, report) {
        TABLE.read(map, &mut section.limits, report);
    }
}

fn batch(section: &mut JetStreamLimits, field: &Field<'_>, report: &mut Report) {
    if let Some(map) = read::map(field, report) {
        BATCH_TABLE.read(map, &mut section.batch, report);
    }
}

/// Zero keeps the default.
fn default_max_consumers(field: &Field<'_>, report: &mut Report) -> Option<Option<u64>> {
    match read::integer(field, report)? {
        0 => None,
        n => Some(u64::try_from(n).ok()),
    }
}

fn batch_timeout(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    read::duration_string(field, report).filter(|d| !d.is_zero())
}
