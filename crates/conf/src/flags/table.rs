use super::Overrides;
use crate::options::{ClusterListen, Options, RouteAddress, Tls};
use crate::read::{Port, port_number};
use crate::secret::Secret;

/// A flag of the server.
#[derive(Debug)]
pub struct Flag {
    /// Spellings without dashes, the main one first.
    pub names: &'static [&'static str],
    /// What the usage text calls its value; empty for switches, which take `true` or `false` after `=` only.
    pub value: &'static str,
    /// What it does.
    pub doc: &'static str,
    pub(super) effect: Effect,
}

/// What a flag is for.
pub(super) enum Effect {
    /// Print the usage text.
    Help,
    /// Print the usage text about TLS.
    HelpTls,
    /// Print the version.
    Version,
    /// Name the configuration file.
    Config,
    /// Check the configuration file and leave.
    Check,
    /// Signal a running server.
    Signal,
    /// Set an option; `None` if the text is not of the kind the flag takes.
    Set(&'static str, fn(&str) -> Option<Override>),
    /// Known to nats-server, refused for now.
    NotYet,
}

impl std::fmt::Debug for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set(key, _) => write!(f, "Set({key})"),
            Self::Help => f.write_str("Help"),
            Self::HelpTls => f.write_str("HelpTls"),
            Self::Version => f.write_str("Version"),
            Self::Config => f.write_str("Config"),
            Self::Check => f.write_str("Check"),
            Self::Signal => f.write_str("Signal"),
            Self::NotYet => f.write_str("NotYet"),
        }
    }
}

/// A setting from the command line.
pub(super) type Override = Box<dyn Fn(&mut Options) + Send + Sync>;

/// A flag that sets an option: `set!(names, value, key, parse, |options, value| …, doc)`.
macro_rules! set {
    ([$($name:literal),+], $value:literal, $key:literal, $parse:expr, $apply:expr, $doc:literal) => {
        Flag {
            names: &[$($name),+],
            value: $value,
            doc: $doc,
            effect: Effect::Set($key, |text| {
                let value = ($parse)(text)?;
                Some(Box::new(move |options: &mut Options| ($apply)(options, value.clone())) as Override)
            }),
        }
    };
}

macro_rules! other {
    ([$($name:literal),+], $value:literal, $effect:ident, $doc:literal) => {
        Flag { names: &[$($name),+], value: $value, doc: $doc, effect: Effect::$effect }
    };
}

/// Flags under the headings of the usage text.
pub(super) const GROUPS: &[(&str, &[Flag])] = &[
    ("Server", SERVER),
    ("Logging", LOGGING),
    ("JetStream", JETSTREAM),
    ("Authorization", AUTHORIZATION),
    ("TLS", TLS),
    ("Cluster", CLUSTER),
    ("Profiling", PROFILING),
    ("Help", HELP),
];

const SERVER: &[Flag] = &[
    set!(
        ["a", "addr", "net"],
        "HOST",
        "host",
        text,
        |o: &mut Options, v: String| {
            o.client.host = if v.is_empty() { "0.0.0.0".to_owned() } else { v };
        },
        "interface to listen on for clients"
    ),
    set!(
        ["p", "port"],
        "PORT",
        "port",
        port,
        |o: &mut Options, v: Option<Port>| {
            o.client.port = v.unwrap_or(Port::Fixed(4222));
        },
        "port to listen on for clients, -1 for any"
    ),
    set!(
        ["n", "name", "server_name"],
        "NAME",
        "server_name",
        text,
        |o: &mut Options, v: String| {
            o.identity.server_name = Some(v).filter(|n| !n.is_empty());
        },
        "name of the server"
    ),
    set!(
        ["P", "pid"],
        "FILE",
        "pid_file",
        text,
        |o: &mut Options, v: String| {
            o.process.pid_file = Some(v).filter(|f| !f.is_empty());
        },
        "file to write the process id to"
    ),
    set!(
        ["m", "http_port"],
        "PORT",
        "http_port",
        port,
        |o: &mut Options, v: Option<Port>| {
            o.monitoring.port = v;
        },
        "port of the monitoring pages, -1 for any"
    ),
    set!(
        ["ms", "https_port"],
        "PORT",
        "https_port",
        port,
        |o: &mut Options, v: Option<Port>| {
            o.monitoring.tls_port = v;
        },
        "port of the monitoring pages over TLS, -1 for any"
    ),
    other!(["c", "config"], "FILE", Config, "configuration file"),
    other!(["t"], "", Check, "check the configuration file and exit"),
    other!(
        ["sl", "signal"],
        "COMMAND[=PID]",
        Signal,
        "signal a running server: stop, quit, term, reopen, reload, ldm"
    ),
    set!(
        ["client_advertise"],
        "HOST[:PORT]",
        "client_advertise",
        text,
        |o: &mut Options, v: String| {
            o.client.advertise = Some(v).filter(|a| !a.is_empty());
        },
        "address to give to clients and other servers"
    ),
    set!(
        ["ports_file_dir"],
        "DIR",
        "ports_file_dir",
        text,
        |o: &mut Options, v: String| {
            o.process.ports_file_dir = Some(v).filter(|d| !d.is_empty());
        },
        "directory for a file that lists the ports in use"
    ),
];

const LOGGING: &[Flag] = &[
    set!(
        ["l", "log"],
        "FILE",
        "log_file",
        text,
        |o: &mut Options, v: String| {
            o.logging.log_file = Some(v).filter(|f| !f.is_empty());
        },
        "file to log to instead of standard error"
    ),
    set!(
        ["T", "logtime"],
        "",
        "logtime",
        truth,
        |o: &mut Options, v: bool| o.logging.logtime = v,
        "begin log lines with the time (default true)"
    ),
    set!(
        ["logtime_utc"],
        "",
        "logtime_utc",
        truth,
        |o: &mut Options, v: bool| o.logging.logtime_utc = v,
        "log the time in UTC"
    ),
    other!(["s", "syslog"], "", NotYet, "log to the system log"),
    other!(["r", "remote_syslog"], "URL", NotYet, "address of a system log"),
    set!(
        ["D", "debug"],
        "",
        "debug",
        truth,
        |o: &mut Options, v: bool| o.logging.debug = v,
        "log at debug level"
    ),
    set!(["V", "trace"], "", "trace", truth, |o: &mut Options, v: bool| set_trace(o, v), "log the protocol"),
    set!(
        ["VV"],
        "",
        "trace_verbose",
        truth,
        |o: &mut Options, v: bool| set_trace_verbose(o, v),
        "log the protocol, the system account's too"
    ),
    set!(
        ["DV"],
        "",
        "debug",
        truth,
        |o: &mut Options, v: bool| {
            o.logging.debug = v;
            set_trace(o, v);
        },
        "as -D -V"
    ),
    set!(
        ["DVV"],
        "",
        "debug",
        truth,
        |o: &mut Options, v: bool| {
            o.logging.debug = v;
            set_trace_verbose(o, v);
        },
        "as -D -VV"
    ),
    set!(
        ["log_size_limit"],
        "BYTES",
        "log_size_limit",
        integer,
        |o: &mut Options, v: i64| {
            o.logging.log_size_limit = above_zero(v);
        },
        "size at which the log file is rotated"
    ),
    set!(
        ["max_traced_msg_len"],
        "BYTES",
        "max_traced_msg_len",
        integer,
        |o: &mut Options, v: i64| {
            o.logging.max_traced_msg_len = above_zero(v);
        },
        "bytes of a payload shown in the trace"
    ),
];

const JETSTREAM: &[Flag] = &[
    set!(
        ["js", "jetstream"],
        "",
        "jetstream",
        truth,
        |o: &mut Options, v: bool| o.jetstream.enabled = v,
        "enable JetStream"
    ),
    set!(
        ["sd", "store_dir"],
        "DIR",
        "store_dir",
        text,
        |o: &mut Options, v: String| {
            o.jetstream.store_dir = Some(v).filter(|d| !d.is_empty());
        },
        "directory under which JetStream keeps its data"
    ),
];

const AUTHORIZATION: &[Flag] = &[
    set!(
        ["user"],
        "NAME",
        "authorization",
        text,
        |o: &mut Options, v: String| {
            o.authorization.user = Some(v).filter(|u| !u.is_empty());
        },
        "name every client has to present"
    ),
    set!(
        ["pass"],
        "PASSWORD",
        "authorization",
        text,
        |o: &mut Options, v: String| {
            o.authorization.password = Some(v).filter(|p| !p.is_empty()).map(Secret::from);
        },
        "password every client has to present"
    ),
    set!(
        ["auth"],
        "TOKEN",
        "authorization",
        text,
        |o: &mut Options, v: String| {
            o.authorization.token = Some(v).filter(|t| !t.is_empty()).map(Secret::from);
        },
        "token every client has to present"
    ),
];

const TLS: &[Flag] = &[
    set!(
        ["tls"],
        "",
        "tls",
        truth,
        |o: &mut Options, on: bool| {
            if on {
                flag_tls(o, |_| {});
            } else {
                o.client.tls = None;
            }
        },
        "require TLS of clients"
    ),
    set!(
        ["tlscert"],
        "FILE",
        "tls",
        text,
        |o: &mut Options, v: String| flag_tls(o, |tls| tls.cert_file = Some(v).filter(|f| !f.is_empty())),
        "certificate of the server"
    ),
    set!(
        ["tlskey"],
        "FILE",
        "tls",
        text,
        |o: &mut Options, v: String| flag_tls(o, |tls| tls.key_file = Some(v).filter(|f| !f.is_empty())),
        "private key of the certificate"
    ),
    set!(
        ["tlsverify"],
        "",
        "tls",
        truth,
        |o: &mut Options, on: bool| flag_tls(o, |tls| tls.verify = on),
        "require certificates of clients"
    ),
    set!(
        ["tlscacert"],
        "FILE",
        "tls",
        text,
        |o: &mut Options, v: String| flag_tls(o, |tls| tls.ca_file = Some(v).filter(|f| !f.is_empty())),
        "certificates of authorities to verify clients with"
    ),
];

const CLUSTER: &[Flag] = &[
    set!(
        ["routes"],
        "URLS",
        "cluster",
        route_urls,
        |o: &mut Options, v: Vec<RouteAddress>| o.cluster.routes = v,
        "servers to connect to, separated by commas"
    ),
    set!(
        ["cluster", "cluster_listen"],
        "URL",
        "cluster",
        ClusterListen::parse,
        |o: &mut Options, v: ClusterListen| v.apply(&mut o.cluster),
        "address to listen on for routes, as nats://user:pass@host:port; empty for none"
    ),
    set!(
        ["cluster_name"],
        "NAME",
        "cluster",
        cluster_name,
        |o: &mut Options, v: String| o.cluster.name = Some(v).filter(|name| !name.is_empty()),
        "name of the cluster"
    ),
    set!(
        ["cluster_advertise"],
        "HOST[:PORT]",
        "cluster",
        text,
        |o: &mut Options, v: String| o.cluster.advertise = Some(v),
        "address to give to other servers of the cluster"
    ),
    set!(
        ["no_advertise"],
        "",
        "cluster",
        truth,
        |o: &mut Options, v: bool| o.cluster.no_advertise = v,
        "do not tell clients about other servers"
    ),
    set!(
        ["connect_retries"],
        "N",
        "cluster",
        retries,
        |o: &mut Options, v: u32| o.cluster.connect_retries = v,
        "attempts to connect to a server another one told about"
    ),
];

const PROFILING: &[Flag] = &[other!(["profile"], "PORT", NotYet, "port of the profiler")];

const HELP: &[Flag] = &[
    other!(["h", "help"], "", Help, "print this text"),
    other!(["v", "version"], "", Version, "print the version"),
    other!(["help_tls"], "", HelpTls, "print help about TLS"),
];

/// All flags.
pub fn flags() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|(_, flags)| flags.iter())
}

/// Flags about TLS take the place of the whole block of the file.
fn flag_tls(options: &mut Options, change: impl FnOnce(&mut Tls)) {
    let given = options.client.tls.take().filter(|tls| tls.from_flags);
    let mut tls = given.unwrap_or_else(|| Tls { from_flags: true, ..Tls::default() });
    change(&mut tls);
    options.client.tls = Some(tls);
}

fn set_trace(options: &mut Options, on: bool) {
    options.logging.trace = on;
    options.logging.trace_verbose &= on;
    options.logging.trace_headers &= on;
}

fn set_trace_verbose(options: &mut Options, on: bool) {
    options.logging.trace = on;
    options.logging.trace_verbose = on;
}

#[expect(clippy::unnecessary_wraps, reason = "has the shape of the other value parsers")]
fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

/// The forms of a boolean that Go's flags take.
/// An empty text is no server.
fn route_urls(value: &str) -> Option<Vec<RouteAddress>> {
    value.split(',').map(str::trim).filter(|url| !url.is_empty()).map(RouteAddress::parse).collect()
}

fn cluster_name(value: &str) -> Option<String> {
    let is_good = value != "_" && !value.contains(char::is_whitespace);
    is_good.then(|| value.to_owned())
}

fn retries(value: &str) -> Option<u32> {
    value.parse().ok()
}

pub(super) fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn integer(value: &str) -> Option<i64> {
    value.parse().ok()
}

fn port(value: &str) -> Option<Option<Port>> {
    port_number(value.parse().ok()?)
}

fn above_zero(n: i64) -> Option<u64> {
    u64::try_from(n).ok().filter(|n| *n > 0)
}

impl Overrides {
    pub(super) fn push(&mut self, key: &'static str, setting: Override) {
        self.settings.push((key, setting));
    }
}
