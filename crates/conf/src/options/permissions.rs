use std::time::Duration;

use crate::duration;
use crate::lang::{Node, Position, Value};
use crate::read;
use crate::report::Report;
use crate::subject::is_filter;
use crate::table::{Field, Row, Table, key};

/// What a user may publish and subscribe to. `None` means everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects to publish to.
    pub publish: Option<SubjectPermissions>,
    /// Subjects to subscribe to.
    pub subscribe: Option<SubjectPermissions>,
    /// Permission to answer on reply subjects.
    pub allow_responses: Option<ResponsePermission>,
}

/// Subjects allowed and denied; what is denied is not allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectPermissions {
    /// `None` allows everything, an empty list nothing.
    pub allow: Option<Vec<SubjectFilter>>,
    /// Exceptions.
    pub deny: Vec<SubjectFilter>,
}

/// A subject with wildcards; for subscriptions optionally with a queue group, which may have wildcards too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectFilter {
    /// The subject.
    pub subject: String,
    /// The queue group; `None` means plain subscriptions and every group.
    pub queue: Option<String>,
}

/// For how many messages and how long the reply subject of a received message may be published to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePermission {
    /// Messages per reply subject; `None` is unlimited.
    pub max: Option<u64>,
    /// Time since the request; `None` is unlimited.
    pub expires: Option<Duration>,
}

impl Default for ResponsePermission {
    fn default() -> Self {
        Self { max: Some(1), expires: Some(Duration::from_secs(120)) }
    }
}

pub(crate) const TABLE: Table<Permissions> = Table {
    section: "permissions",
    rows: &[KEYS],
    unknown: |key| format!("Unknown field {key:?} parsing permissions"),
};

const KEYS: &[Row<Permissions>] = &[
    key!(
        ["publish", "pub", "import"],
        "subjects or {allow, deny}",
        "(everything)",
        Live,
        publish = publish,
        "Subjects the user may publish to."
    ),
    key!(
        ["subscribe", "sub", "export"],
        "subjects or {allow, deny}",
        "(everything)",
        Live,
        subscribe = subject_permissions,
        "Subjects the user may subscribe to; \"subject queue\" limits to a queue group."
    ),
    key!(
        ["allow_responses", "publish_allow_responses"],
        "boolean or map",
        "false",
        Live,
        allow_responses = allow_responses,
        "Let the user publish to the reply subjects of messages it received."
    ),
];

pub(crate) const RESPONSE_TABLE: Table<ResponsePermission> = Table {
    section: "allow_responses",
    rows: &[RESPONSE_KEYS],
    unknown: |key| format!("Unknown field {key:?} parsing permissions"),
};

const RESPONSE_KEYS: &[Row<ResponsePermission>] = &[
    key!(
        ["max", "max_msgs", "max_messages", "max_responses"],
        "integer",
        "1",
        Live,
        max = response_max,
        "Messages per reply subject; below 0 is unlimited."
    ),
    key!(
        ["expires", "expiration", "ttl"],
        "duration string",
        "2m",
        Live,
        expires = response_expires,
        "How long a reply subject may be used; below 0 is unlimited."
    ),
];

pub(crate) const SUBJECTS_TABLE: Table<SubjectPermissions> = Table {
    section: "subject permissions",
    rows: &[SUBJECTS_KEYS],
    unknown: |key| {
        format!(
            "Unknown field name {key:?} parsing subject permissions, only 'allow' or 'deny' are permitted"
        )
    },
};

const SUBJECTS_KEYS: &[Row<SubjectPermissions>] = &[
    key!(["allow"], "subjects", "(everything)", Live, allow = filters, "Subjects permitted."),
    key!(["deny"], "subjects", "", Live, deny = filters, "Subjects not permitted although allowed."),
];

/// Reads a permissions map.
pub(crate) fn read(field: &Field<'_>, report: &mut Report) -> Option<Permissions> {
    let Value::Map(map) = field.value else {
        let text = format!("Expected permissions to be a map/struct, got {}", field.value.kind());
        report.error(field.at, text);
        return None;
    };
    let mut found = Permissions::default();
    TABLE.read(map, &mut found, report);
    if found.allow_responses.is_some() {
        // Whoever may answer and is not said to publish anything else may only answer.
        found.publish.get_or_insert_default().allow.get_or_insert_default();
    }
    Some(found)
}

fn publish(field: &Field<'_>, report: &mut Report) -> Option<SubjectPermissions> {
    let found = subject_permissions(field, report)?;
    let queue = found.allow.iter().flatten().chain(&found.deny).find(|f| f.queue.is_some());
    if let Some(SubjectFilter { subject, queue: Some(queue) }) = queue {
        report.error(field.at, invalid_subject(&format!("{subject} {queue}")));
        return None;
    }
    Some(found)
}

/// Subjects without more, or a map of allowed and denied ones. An empty map says nothing.
fn subject_permissions(field: &Field<'_>, report: &mut Report) -> Option<SubjectPermissions> {
    let mut found = SubjectPermissions::default();
    match field.value {
        Value::Map(map) => {
            SUBJECTS_TABLE.read(map, &mut found, report);
            if map.is_empty() {
                return None;
            }
        }
        Value::String(_) | Value::Array(_) => found.allow = Some(filters(field, report)?),
        other => {
            let text = format!(
                "Expected subject permissions to be a subject, or array of subjects, got {}",
                other.kind()
            );
            report.error(field.at, text);
            return None;
        }
    }
    Some(found)
}

fn filters(field: &Field<'_>, report: &mut Report) -> Option<Vec<SubjectFilter>> {
    match field.value {
        Value::String(text) => Some(vec![filter(text, field.at, report)?]),
        Value::Array(items) => items.iter().map(|node| filter_node(node, report)).collect(),
        _ => {
            report.mismatch(field, "a subject, or array of subjects");
            None
        }
    }
}

fn filter_node(node: &Node, report: &mut Report) -> Option<SubjectFilter> {
    let Value::String(text) = &node.value else {
        report.error(
            &node.at,
            format!("Subject in permissions array should be string, not {}", node.value.kind()),
        );
        return None;
    };
    filter(text, &node.at, report)
}

fn filter(text: &str, at: &Position, report: &mut Report) -> Option<SubjectFilter> {
    let mut words = text.split_whitespace();
    let (subject, queue) = (words.next().unwrap_or(""), words.next());
    if words.next().is_some() || !is_filter(subject) || queue.is_some_and(|q| !is_filter(q)) {
        report.error(at, invalid_subject(text));
        return None;
    }
    Some(SubjectFilter { subject: subject.to_owned(), queue: queue.map(str::to_owned) })
}

fn invalid_subject(text: &str) -> String {
    format!("subject {text:?} is not a valid subject")
}

fn allow_responses(field: &Field<'_>, report: &mut Report) -> Option<Option<ResponsePermission>> {
    match field.value {
        Value::Bool(on) => Some(on.then(ResponsePermission::default)),
        Value::Map(map) => {
            let mut found = ResponsePermission::default();
            RESPONSE_TABLE.read(map, &mut found, report);
            Some(Some(found))
        }
        _ => {
            report.error(field.at, "error parsing response permissions, expected a boolean or a map");
            None
        }
    }
}

fn response_max(field: &Field<'_>, report: &mut Report) -> Option<Option<u64>> {
    match read::integer(field, report)? {
        0 => None,
        n => Some(u64::try_from(n).ok()),
    }
}

fn response_expires(field: &Field<'_>, report: &mut Report) -> Option<Option<Duration>> {
    let Value::String(text) = field.value else {
        report.error(field.at, format!("error parsing {}, not a duration string", field.name));
        return None;
    };
    match duration::parse_nanos(text) {
        None => {
            report.error(field.at, format!("error parsing {}: invalid duration {text:?}", field.name));
            None
        }
        Some(0) => None,
        Some(nanos) => Some(u64::try_from(nanos).ok().map(Duration::from_nanos)),
    }
}
