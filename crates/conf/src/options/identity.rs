use std::collections::BTreeMap;

use super::Options;
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, key};

/// What the server calls itself and tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Name, unique in the system; the server id if not set.
    pub server_name: Option<String>,
    /// Labels for placement: lower case, without repetitions, in the order written.
    pub server_tags: Vec<String>,
    /// Free text shown by monitoring.
    pub server_metadata: BTreeMap<String, String>,
    /// Switches of behaviour by name, also those in no release; see [`FEATURE_FLAGS`].
    pub feature_flags: BTreeMap<String, bool>,
}

/// The feature flags of nats-server 2.15 with their defaults.
pub const FEATURE_FLAGS: &[(&str, bool)] = &[
    ("js_ack_fc_v2", false),
    ("js_api_reply_v2", false),
    ("js_raft_delete_range", true),
    ("js_snapshot_sources", false),
];

/// Flags that change what goes over the wire and that cannot be switched on yet.
const NOT_YET: &[&str] = &["js_ack_fc_v2", "js_api_reply_v2"];

pub(super) const KEYS: &[Row<Options>] = &[
    key!(
        ["server_name"],
        "string",
        "(server id)",
        Refused,
        identity.server_name = server_name,
        "Name of the server, unique in the whole system and without spaces."
    ),
    key!(
        ["server_tags"],
        "string or array of strings",
        "",
        Live,
        identity.server_tags = server_tags,
        "Labels by which placement rules choose servers; lower-cased."
    ),
    key!(
        ["server_metadata"],
        "map of strings",
        "",
        Live,
        identity.server_metadata = server_metadata,
        "Free text about the server, shown by monitoring."
    ),
    key!(
        ["feature_flags"],
        "map of booleans",
        "",
        Refused,
        identity.feature_flags = feature_flags,
        "Switches for behaviour that is new or about to go."
    ),
];

fn server_name(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let name = read::string(field, report)?;
    if name.contains(char::is_whitespace) {
        report.error(field.at, "server name cannot contain spaces");
        return None;
    }
    Some(name)
}

fn server_tags(field: &Field<'_>, report: &mut Report) -> Option<Vec<String>> {
    let mut tags: Vec<String> = Vec::new();
    for tag in read::strings(field, report)? {
        let tag = tag.trim().to_lowercase();
        if !tag.is_empty() && !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    Some(tags)
}

fn server_metadata(field: &Field<'_>, report: &mut Report) -> Option<BTreeMap<String, String>> {
    read::free_map(field, report, read::string)
}

fn feature_flags(field: &Field<'_>, report: &mut Report) -> Option<BTreeMap<String, bool>> {
    read::free_map(field, report, |flag, report| {
        let on = read::boolean(flag, report)?;
        if on && NOT_YET.contains(&flag.name) {
            report.error(flag.at, format!("feature flag {} is not supported yet", flag.name));
        }
        Some(on)
    })
}
