use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, Table, key};

/// Limits on the connections of an account. `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Client connections.
    pub max_connections: Option<u64>,
    /// Subscriptions of one connection.
    pub max_subscriptions: Option<u64>,
    /// Bytes of a message.
    pub max_payload: Option<u64>,
    /// Leafnode connections.
    pub max_leafnodes: Option<u64>,
}

pub(crate) const TABLE: Table<AccountLimits> = Table {
    section: "account limits",
    rows: &[KEYS],
    unknown: |key| format!("Unknown field {key:?} parsing account limits"),
};

const KEYS: &[Row<AccountLimits>] = &[
    key!(
        ["max_connections", "max_conn"],
        "integer",
        "-1",
        Live,
        max_connections = limit32,
        "Client connections; -1 is unlimited."
    ),
    key!(
        ["max_subscriptions", "max_subs"],
        "integer",
        "-1",
        Live,
        max_subscriptions = limit32,
        "Subscriptions of one connection; -1 is unlimited."
    ),
    key!(
        ["max_payload", "max_pay"],
        "integer",
        "-1",
        Live,
        max_payload = limit32,
        "Bytes of a message; -1 is unlimited."
    ),
    key!(
        ["max_leafnodes", "max_leafs"],
        "integer",
        "-1",
        Live,
        max_leafnodes = limit32,
        "Leafnode connections; -1 is unlimited."
    ),
];

/// nats-server keeps these in 32 bits and lets larger ones wrap around.
fn limit32(field: &Field<'_>, report: &mut Report) -> Option<Option<u64>> {
    let limit = read::limit_from_zero(field, report)?;
    if limit.is_some_and(|n| n > i32::MAX.unsigned_abs().into()) {
        report.error(field.at, format!("{} value is too big", field.name));
        return None;
    }
    Some(limit)
}

pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<AccountLimits> {
    let map = read::map(field, report)?;
    let mut limits = AccountLimits::default();
    TABLE.read(map, &mut limits, report);
    Some(limits)
}
