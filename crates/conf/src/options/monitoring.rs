use super::Options;
use crate::read::{self, Port};
use crate::report::Report;
use crate::table::{Field, Row, key, not_yet};

/// The HTTP listener for monitoring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// Interface; the client listener's if not set.
    pub host: Option<String>,
    /// Port; `None` is off.
    pub port: Option<Port>,
    /// Port for pages over TLS; `None` is off.
    pub tls_port: Option<Port>,
    /// Path before every page's, beginning with `/`.
    pub base_path: String,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { host: None, port: None, tls_port: None, base_path: "/".to_owned() }
    }
}

pub(super) const KEYS: &[Row<Options>] = &[
    key!(["http"], "port or host:port", "", Refused, monitoring.host => http,
        "Host and port of the monitoring pages."),
    key!(
        ["http_port", "monitor_port"],
        "integer",
        "",
        Refused,
        monitoring.port = read::port,
        "Port of the monitoring pages; -1 lets the system choose."
    ),
    key!(
        ["http_base_path"],
        "string",
        "/",
        Refused,
        monitoring.base_path = base_path,
        "Path before that of every monitoring page."
    ),
    key!(["https"], "port or host:port", "", Refused, => https,
        "Host and port of the monitoring pages over TLS."),
    key!(
        ["https_port"],
        "integer",
        "",
        Refused,
        monitoring.tls_port = read::port,
        "Port of the monitoring pages over TLS, with the certificate of the client listener; -1 lets the system choose."
    ),
    not_yet!(["prof_port"], Refused, "Port of the profiler."),
    not_yet!(["prof_block_rate"], Live, "Sampling rate of the blocking profile."),
];

fn http(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    if let Some(listen) = read::listen(field, report) {
        options.monitoring.host = listen.host.filter(|h| !h.is_empty());
        options.monitoring.port = listen.port;
    }
}

fn https(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    if let Some(listen) = read::listen(field, report) {
        options.monitoring.host = listen.host.filter(|h| !h.is_empty());
        options.monitoring.tls_port = listen.port;
    }
}

fn base_path(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let text = read::string(field, report)?;
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}
