//! Readers of single values: each takes a field and returns its value, or reports what is wrong with it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::duration;
use crate::lang::{Map, Value};
use crate::report::Report;
use crate::table::Field;

/// A port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// This one.
    Fixed(u16),
    /// One the operating system chooses; written `-1`.
    Random,
}

impl Port {
    /// The number to bind: 0 lets the operating system choose.
    pub fn number(self) -> u16 {
        match self {
            Self::Fixed(port) => port,
            Self::Random => 0,
        }
    }
}

/// An address to listen on. Both parts are optional: `4222`, `:4222`, `localhost:4222`.
pub(crate) struct Listen {
    pub(crate) host: Option<String>,
    /// `None` for 0, which leaves the default in place.
    pub(crate) port: Option<Port>,
}

pub(crate) fn string(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let Value::String(text) = field.value else {
        report.mismatch(field, "a string");
        return None;
    };
    Some(text.clone())
}

pub(crate) fn boolean(field: &Field<'_>, report: &mut Report) -> Option<bool> {
    let Value::Bool(value) = field.value else {
        report.mismatch(field, "a boolean");
        return None;
    };
    Some(*value)
}

pub(crate) fn integer(field: &Field<'_>, report: &mut Report) -> Option<i64> {
    let Value::Integer(value) = field.value else {
        report.mismatch(field, "an integer");
        return None;
    };
    Some(*value)
}

/// An integer where everything below zero means zero.
pub(crate) fn floored(field: &Field<'_>, report: &mut Report) -> Option<u64> {
    integer(field, report).map(|n| u64::try_from(n).unwrap_or(0))
}

/// An integer whose sign does not matter and of which zero keeps the default: the divisor of "every n-th".
pub(crate) fn magnitude(field: &Field<'_>, report: &mut Report) -> Option<u64> {
    integer(field, report).map(i64::unsigned_abs).filter(|n| *n > 0)
}

/// An integer where zero and below mean "no limit".
pub(crate) fn limit(field: &Field<'_>, report: &mut Report) -> Option<Option<u64>> {
    integer(field, report).map(|n| u64::try_from(n).ok().filter(|n| *n > 0))
}

/// An integer where anything below zero means "no limit".
pub(crate) fn limit_from_zero(field: &Field<'_>, report: &mut Report) -> Option<Option<u64>> {
    integer(field, report).map(|n| u64::try_from(n).ok())
}

/// An integer of which zero keeps the default and less is an error.
pub(crate) fn positive(field: &Field<'_>, report: &mut Report) -> Option<u64> {
    let n = integer(field, report)?;
    match u64::try_from(n) {
        Ok(n) => Some(n).filter(|n| *n > 0),
        Err(_) => {
            report.error(field.at, format!("{} can not be negative", field.name));
            None
        }
    }
}

/// As [`positive`], up to 2³¹−1.
pub(crate) fn positive32(field: &Field<'_>, report: &mut Report) -> Option<u32> {
    let n = positive(field, report)?;
    if n > i32::MAX.unsigned_abs().into() {
        report.error(field.at, format!("{} value is too big", field.name));
        return None;
    }
    u32::try_from(n).ok()
}

/// A duration text, or whole seconds with a warning. Zero keeps the default.
pub(crate) fn duration(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    let found = match field.value {
        Value::Integer(seconds) => {
            let name = field.name;
            let text = format!("invalid use of field {name:?}: {name} should be converted to a duration");
            report.warning(field.at, text);
            let seconds = u64::try_from(*seconds).ok().filter(|s| *s <= MAX_SECONDS);
            if seconds.is_none() {
                report.error(field.at, format!("error parsing {name}: out of range"));
            }
            Duration::from_secs(seconds?)
        }
        Value::String(text) => parse_duration(field, text, report)?,
        _ => {
            report.mismatch(field, "a duration such as \"10s\"");
            return None;
        }
    };
    Some(found).filter(|d| !d.is_zero())
}

/// 292 years, the most nats-server can hold.
const MAX_SECONDS: u64 = i64::MAX.unsigned_abs() / 1_000_000_000;

/// A duration text.
pub(crate) fn duration_string(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    match field.value {
        Value::String(text) => parse_duration(field, text, report),
        _ => {
            report.mismatch(field, "a duration such as \"10s\"");
            None
        }
    }
}

fn parse_duration(field: &Field<'_>, text: &str, report: &mut Report) -> Option<Duration> {
    let Some(nanos) = duration::parse_nanos(text) else {
        report.error(field.at, format!("error parsing {}: invalid duration {text:?}", field.name));
        return None;
    };
    let nanos = u64::try_from(nanos).ok();
    if nanos.is_none() {
        report.error(field.at, format!("{} can not be negative", field.name));
    }
    nanos.map(Duration::from_nanos)
}

/// Seconds, whole or not, or a duration text; more than a minute is worth a warning. Zero keeps the default.
pub(crate) fn seconds(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    let name = field.name;
    let (shown, found) = match field.value {
        Value::Integer(n) => (n.to_string(), u64::try_from(*n).ok().map(Duration::from_secs)),
        Value::Float(x) => (x.to_string(), Duration::try_from_secs_f64(*x).ok()),
        Value::String(text) => (text.clone(), Some(parse_duration(field, text, report)?)),
        _ => {
            report.mismatch(field, "seconds or a duration");
            return None;
        }
    };
    let Some(found) = found.filter(|d| d.as_secs() <= MAX_SECONDS) else {
        report.error(field.at, format!("error parsing {name}: {shown} seconds are out of range"));
        return None;
    };
    if found > Duration::from_secs(60) {
        let text = format!(
            "invalid use of field {name:?}: {name} of {shown} ({:.6} seconds) is high, consider keeping it under 60 seconds. possibly caused by unquoted duration; use '1m' instead of 1m, for example",
            found.as_secs_f64()
        );
        report.warning(field.at, text);
    }
    Some(found).filter(|d| !d.is_zero())
}

/// Bytes: an integer, which may have had a suffix, or a string ending in `K M G T`, which is 1024-based.
pub(crate) fn size(field: &Field<'_>, report: &mut Report) -> Option<i64> {
    match field.value {
        Value::Integer(n) => Some(*n),
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => {
            let power = text.chars().last().and_then(|c| "KMGT".find(c.to_ascii_uppercase()));
            let Some(power) = power else {
                let text = format!("{} sizes defined as strings must end in K, M, G, T", field.name);
                report.error(field.at, text);
                return None;
            };
            let scale = 1024_i64.pow(u32::try_from(power).unwrap_or(0) + 1);
            let bytes = text[..text.len() - 1].parse::<i64>().ok().and_then(|n| n.checked_mul(scale));
            if bytes.is_none() {
                report.error(field.at, format!("{}: {text:?} is not a size", field.name));
            }
            bytes
        }
        _ => {
            report.mismatch(field, "a size");
            None
        }
    }
}

/// As [`size`], where anything below zero means "choose automatically".
pub(crate) fn size_or_automatic(field: &Field<'_>, report: &mut Report) -> Option<Option<u64>> {
    size(field, report).map(|n| u64::try_from(n).ok())
}

/// A number of a port; 0 is none.
pub(crate) fn port(field: &Field<'_>, report: &mut Report) -> Option<Option<Port>> {
    let n = integer(field, report)?;
    let port = port_number(n);
    if port.is_none() {
        report.error(field.at, format!("{}: {n} is not a port", field.name));
    }
    port
}

pub(crate) fn port_number(n: i64) -> Option<Option<Port>> {
    match n {
        -1 => Some(Some(Port::Random)),
        0 => Some(None),
        _ => u16::try_from(n).ok().map(|p| Some(Port::Fixed(p))),
    }
}

/// A port, or `host:port`.
pub(crate) fn listen(field: &Field<'_>, report: &mut Report) -> Option<Listen> {
    let text = match field.value {
        Value::Integer(_) => return port(field, report).map(|port| Listen { host: None, port }),
        Value::String(text) => text,
        other => {
            report.error(field.at, format!("expected port or host:port, got {}", other.kind()));
            return None;
        }
    };
    let Some((host, port)) = split_host_port(text) else {
        report.error(field.at, format!("could not parse address string {text:?}"));
        return None;
    };
    let Some(port) = port.parse::<i64>().ok().and_then(port_number) else {
        report.error(field.at, format!("could not parse port {port:?}"));
        return None;
    };
    Some(Listen { host: Some(host.to_owned()), port })
}

/// The parts of `host:port`, without the brackets of an IPv6 address.
pub(crate) fn split_host_port(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix('[') {
        return rest
            .split_once("]:")
            .filter(|(host, port)| !host.contains(['[', ']']) && !port.contains(':'));
    }
    text.rsplit_once(':').filter(|(host, _)| !host.contains([':', '[', ']']))
}

/// One string, or an array of them.
pub(crate) fn strings(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    let text = |value: &Value| if let Value::String(text) = value { Some(text.clone()) } else { None };
    match field.value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => {
            let found: Option<Vec<String>> = items.iter().map(|n| text(&n.value)).collect();
            if found.is_none() {
                let odd = items.iter().find(|n| text(&n.value).is_none()).map_or("", |n| n.value.kind());
                let text = format!("error parsing {}: unsupported type in array: {odd}", field.name);
                report.error(field.at, text);
            }
            found
        }
        other => {
            let text = format!("error parsing {}: unsupported type {}", field.name, other.kind());
            report.error(field.at, text);
            None
        }
    }
}

/// A map whose keys are free and whose values `each` reads. Keys keep their case.
pub(crate) fn free_map<T>(
    field: &Field<'_>,
    report: &mut Report,
    each: impl Fn(&Field<'_>, &mut Report) -> Option<T>,
) -> Option<BTreeMap<String, T>> {
    let map = map(field, report)?;
    let mut out = BTreeMap::new();
    for entry in map.in_order() {
        let inner = Field { name: &entry.key, at: &entry.at, value: &entry.node.value };
        if let Some(value) = each(&inner, report) {
            out.insert(entry.key.clone(), value);
        }
    }
    Some(out)
}

pub(crate) fn map<'a>(field: &Field<'a>, report: &mut Report) -> Option<&'a Map> {
    let Value::Map(map) = field.value else {
        report.mismatch(field, "a map");
        return None;
    };
    Some(map)
}
