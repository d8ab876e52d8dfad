use std::time::Duration;

use super::Options;
use crate::duration;
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, key};

/// Files the process writes about itself, how it leaves, and how loudly it retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// File for the process id.
    pub pid_file: Option<String>,
    /// Directory for the file that lists the ports in use.
    pub ports_file_dir: Option<String>,
    /// Time over which lame duck mode closes the clients.
    pub lame_duck_duration: Duration,
    /// Time lame duck mode waits before it closes the first client. Part of the duration.
    pub lame_duck_grace_period: Duration,
    /// A server that is to stop waits while other members of its groups could not do without it.
    pub lame_duck_quorum_guard: bool,
    /// Every n-th failed first attempt to connect to another server is logged.
    pub connect_error_reports: u64,
    /// Every n-th failed attempt to reconnect to another server is logged.
    pub reconnect_error_reports: u64,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            pid_file: None,
            ports_file_dir: None,
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            lame_duck_quorum_guard: false,
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
        }
    }
}

const LAME_DUCK_DURATION_MIN: Duration = Duration::from_secs(30);

pub(super) const KEYS: &[Row<Options>] = &[
    key!(
        ["pid_file", "pidfile"],
        "string",
        "",
        Live,
        process.pid_file = read::string,
        "File to write the process id to."
    ),
    key!(
        ["ports_file_dir"],
        "string",
        "",
        Live,
        process.ports_file_dir = read::string,
        "Directory for a file that lists the ports in use."
    ),
    key!(
        ["lame_duck_duration"],
        "duration string",
        "2m",
        Refused,
        process.lame_duck_duration = lame_duck_duration,
        "Time over which lame duck mode closes the clients, at least 30s."
    ),
    key!(
        ["lame_duck_grace_period"],
        "duration string",
        "10s",
        Refused,
        process.lame_duck_grace_period = lame_duck_grace_period,
        "Time lame duck mode waits before it closes the first client; below lame_duck_duration."
    ),
    key!(
        ["lame_duck_quorum_guard"],
        "boolean",
        "false",
        Live,
        process.lame_duck_quorum_guard = read::boolean,
        "Lame duck mode and a stop wait while another server of a group of this one is away or behind."
    ),
    key!(
        ["connect_error_reports"],
        "integer",
        "3600",
        Live,
        process.connect_error_reports = read::magnitude,
        "Log every n-th failed first attempt to connect to another server."
    ),
    key!(
        ["reconnect_error_reports"],
        "integer",
        "1",
        Live,
        process.reconnect_error_reports = read::magnitude,
        "Log every n-th failed attempt to reconnect to another server."
    ),
];

fn lame_duck_duration(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    let found = read::duration_string(field, report)?;
    if found < LAME_DUCK_DURATION_MIN {
        let text = format!("invalid {} of {}, minimum is 30 seconds", field.name, duration::show(found));
        report.error(field.at, text);
        return None;
    }
    Some(found)
}

/// Zero is a value here: close at once.
fn lame_duck_grace_period(field: &Field<'_>, report: &mut Report) -> Option<Duration> {
    if matches!(field.value, crate::lang::Value::String(text) if text.starts_with('-')) {
        report.error(field.at, format!("invalid {}, needs to be positive", field.name));
        return None;
    }
    read::duration_string(field, report)
}
