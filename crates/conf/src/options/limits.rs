use super::Options;
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, key};

/// Bounds on clients and their messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Client connections; 0 refuses every client.
    pub max_connections: u64,
    /// Subscriptions of one connection; `None` is unlimited.
    pub max_subscriptions: Option<u64>,
    /// Tokens in the subject of a subscription; `None` is unlimited.
    pub max_sub_tokens: Option<u8>,
    /// Bytes of a protocol line.
    pub max_control_line: u32,
    /// Bytes of a message with its headers.
    pub max_payload: u32,
    /// Bytes that may wait for a client before it is a slow consumer.
    pub max_pending: u64,
    /// Closed connections remembered for monitoring.
    pub max_closed_clients: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_subscriptions: None,
            max_sub_tokens: None,
            max_control_line: 4096,
            max_payload: 1 << 20,
            max_pending: 64 << 20,
            max_closed_clients: 10_000,
        }
    }
}

pub(super) const KEYS: &[Row<Options>] = &[
    key!(
        ["max_connections", "max_conn"],
        "integer",
        "65536",
        Live,
        limits.max_connections = read::floored,
        "Client connections at a time; 0 and below refuse everyone."
    ),
    key!(
        ["max_subscriptions", "max_subs"],
        "integer",
        "0",
        Refused,
        limits.max_subscriptions = read::limit,
        "Subscriptions of one connection; 0 is unlimited."
    ),
    key!(
        ["max_sub_tokens", "max_subscription_tokens"],
        "integer",
        "",
        Refused,
        limits.max_sub_tokens = max_sub_tokens,
        "Tokens in the subject of a subscription, 1 to 255."
    ),
    key!(
        ["max_control_line"],
        "integer",
        "4096",
        Live,
        limits.max_control_line = read::positive32,
        "Bytes of a protocol line, without payload."
    ),
    key!(
        ["max_payload"],
        "integer",
        "1048576",
        Live,
        limits.max_payload = read::positive32,
        "Bytes of a message with its headers; not above max_pending."
    ),
    key!(
        ["max_pending"],
        "integer",
        "67108864",
        Refused,
        limits.max_pending = read::positive,
        "Bytes that may wait to be sent to a client before it is cut off as a slow consumer."
    ),
    key!(
        ["max_closed_clients"],
        "integer",
        "10000",
        Refused,
        limits.max_closed_clients = read::positive,
        "Closed connections remembered for monitoring."
    ),
];

fn max_sub_tokens(field: &Field<'_>, report: &mut Report) -> Option<u8> {
    let n = read::integer(field, report)?;
    let text = match u8::try_from(n) {
        Ok(tokens) if tokens > 0 => return Some(tokens),
        _ if n <= 0 => "can not be negative",
        _ => "is too big",
    };
    report.error(field.at, format!("{} value {text}", field.name));
    None
}
