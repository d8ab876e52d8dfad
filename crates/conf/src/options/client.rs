use std::time::Duration;

use super::{Options, Tls, tls};
use crate::read::{self, Port};
use crate::report::Report;
use crate::table::{Field, Row, key};

/// The listener for clients and how their connections are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Interface to listen on.
    pub host: String,
    /// Port to listen on.
    pub port: Port,
    /// `host[:port]` to tell clients and other servers instead of the address listened on.
    pub advertise: Option<String>,
    /// TLS; `None` for plain text.
    pub tls: Option<Tls>,
    /// Serve clients without TLS, too, although there is TLS.
    pub allow_non_tls: bool,
    /// How long a client may take no byte; with `write_timeout: close`, how long it may take for what is written at a time.
    pub write_deadline: Duration,
    /// What happens when a write takes longer.
    pub write_timeout: WriteTimeout,
    /// Never slow a publisher down for subscribers that lag.
    pub no_fast_producer_stall: bool,
    /// Pretend not to know message headers.
    pub no_header_support: bool,
    /// Do not cache the result of matching a subject.
    pub disable_sublist_cache: bool,
    /// Time between pings to a silent client.
    pub ping_interval: Duration,
    /// Unanswered pings after which a client is stale.
    pub ping_max: u32,
}

/// What happens to a connection whose write deadline passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteTimeout {
    /// As the kind of connection has it; clients are closed.
    #[default]
    Default,
    /// Close.
    Close,
    /// Go on, unless not a single byte was taken. Of routes only.
    Retry,
}

impl Client {
    /// The advertised host and port instead of the host listened on and `bound`, its port. A part that is not
    /// advertised is the listener's.
    pub fn advertised(&self, bound: u16) -> (&str, u16) {
        advertised(self.advertise.as_deref(), &self.host, bound)
    }
}

/// What is advertised instead of the host listened on and the port in use.
pub(super) fn advertised<'a>(text: Option<&'a str>, host: &'a str, bound: u16) -> (&'a str, u16) {
    let Some(text) = text.filter(|t| !t.is_empty()) else {
        return (host, bound);
    };
    match read::split_host_port(text) {
        Some((host, port)) => (host, port.parse().ok().filter(|p| *p > 0).unwrap_or(bound)),
        None => (text, bound),
    }
}

impl Default for Client {
    fn default() -> Self {
        Self {
            host: "0.0.0.0".to_owned(),
            port: Port::Fixed(4222),
            advertise: None,
            tls: None,
            allow_non_tls: false,
            write_deadline: Duration::from_secs(10),
            write_timeout: WriteTimeout::Default,
            no_fast_producer_stall: false,
            no_header_support: false,
            disable_sublist_cache: false,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
        }
    }
}

pub(super) const KEYS: &[Row<Options>] = &[
    key!(["listen"], "port or host:port", "", Refused, => listen,
        "Host and port for client connections in one."),
    key!(
        ["host", "net"],
        "string",
        "0.0.0.0",
        Refused,
        client.host = host,
        "Interface to listen on for client connections."
    ),
    key!(["port"], "integer", "4222", Refused, client.port => port,
        "Port to listen on for client connections; -1 lets the system choose."),
    key!(
        ["client_advertise"],
        "host[:port]",
        "",
        Live,
        client.advertise = read::string,
        "Address to give to clients and other servers instead of the one listened on."
    ),
    key!(["tls"], "map", "", Live, client.tls => |options: &mut Options, field, report| {
            if let Some(found) = tls::read(field, report) {
                options.client.tls = Some(found);
            }
        },
        "TLS for clients."),
    key!(
        ["allow_non_tls"],
        "boolean",
        "false",
        Refused,
        client.allow_non_tls = read::boolean,
        "Serve clients with and without TLS on one port."
    ),
    key!(
        ["write_deadline"],
        "duration",
        "10s",
        Live,
        client.write_deadline = read::duration,
        "How long a client may take no byte."
    ),
    key!(
        ["write_timeout"],
        "default, close or retry",
        "default",
        Refused,
        client.write_timeout = write_timeout,
        "Whether a client that takes some bytes before the deadline, and not all, is closed (close) or goes on (default, retry)."
    ),
    key!(
        ["no_fast_producer_stall"],
        "boolean",
        "false",
        Live,
        client.no_fast_producer_stall = read::boolean,
        "Do not slow down publishers whose subscribers lag."
    ),
    key!(
        ["no_header_support"],
        "boolean",
        "false",
        Refused,
        client.no_header_support = read::boolean,
        "Refuse messages with headers."
    ),
    key!(
        ["disable_sublist_cache", "no_sublist_cache"],
        "boolean",
        "false",
        Refused,
        client.disable_sublist_cache = read::boolean,
        "Do not cache which subscriptions match a subject."
    ),
    key!(
        ["ping_interval"],
        "duration",
        "2m",
        Live,
        client.ping_interval = read::duration,
        "Time between pings to a client."
    ),
    key!(
        ["ping_max"],
        "integer",
        "2",
        Live,
        client.ping_max = read::positive32,
        "Unanswered pings after which a connection is closed as stale."
    ),
];

fn listen(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    let Some(listen) = read::listen(field, report) else { return };
    if let Some(host) = listen.host.filter(|h| !h.is_empty()) {
        options.client.host = host;
    }
    options.client.port = listen.port.unwrap_or(Port::Fixed(4222));
}

fn port(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    if let Some(port) = read::port(field, report) {
        options.client.port = port.unwrap_or(Port::Fixed(4222));
    }
}

/// An empty host means the default.
fn host(field: &Field<'_>, report: &mut Report) -> Option<String> {
    read::string(field, report).filter(|h| !h.is_empty())
}

pub(super) fn write_timeout(field: &Field<'_>, report: &mut Report) -> Option<WriteTimeout> {
    match read::string(field, report)?.as_str() {
        "default" => Some(WriteTimeout::Default),
        "close" => Some(WriteTimeout::Close),
        "retry" => Some(WriteTimeout::Retry),
        _ => {
            report.error(field.at, format!("{} must be 'default', 'close' or 'retry'", field.name));
            None
        }
    }
}
