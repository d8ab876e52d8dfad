use std::time::Duration;

use super::client::{self, WriteTimeout};
use super::permissions::{self, SubjectPermissions};
use super::tls::{self, Tls};
use super::{Compression, CompressionMode, Options, compression};
use crate::read::{self, Port, port_number, split_host_port};
use crate::report::Report;
use crate::secret::Secret;
use crate::table::{Field, Row, Table, key, unknown_field};

/// The servers of this cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Name; `None` for one that is made up.
    pub name: Option<String>,
    /// Interface to listen on for routes.
    pub host: String,
    /// Port; `None` is no cluster.
    pub port: Option<Port>,
    /// Servers to dial.
    pub routes: Vec<RouteAddress>,
    /// User that other servers must show.
    pub user: Option<String>,
    /// Their password.
    pub password: Option<Secret>,
    /// Time another server has for the handshake, if it is configured.
    pub timeout: Option<Duration>,
    /// Address that other servers are told, as `host` or `host:port`.
    pub advertise: Option<String>,
    /// Clients are not told of other servers.
    pub no_advertise: bool,
    /// Attempts after the first to reach a server that another one told of.
    pub connect_retries: u32,
    /// Wait longer after each attempt.
    pub connect_backoff: bool,
    /// Connections per pair of servers; `None` for one without a pool.
    pub pool_size: Option<u16>,
    /// Accounts with connections of their own.
    pub accounts: Vec<String>,
    /// Compression of routes.
    pub compression: Compression,
    /// Interval of keep-alive PINGs; `None` for that of clients, at most half a minute.
    pub ping_interval: Option<Duration>,
    /// Unanswered PINGs before a route is stale; `None` as for clients.
    pub ping_max: Option<u32>,
    /// How long a route may take no byte; `None` as for clients.
    pub write_deadline: Option<Duration>,
    /// What happens then.
    pub write_timeout: WriteTimeout,
    /// TLS, before anything else is said on a route.
    pub tls: Option<Tls>,
    /// Subjects of which interest is told to other servers; `None` for all.
    pub import: Option<SubjectPermissions>,
    /// Subjects of which the interest of other servers counts; `None` for all.
    pub export: Option<SubjectPermissions>,
}

/// Keep-alives of routes are not further apart than this.
pub const PING_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Where another server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAddress {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User to show.
    pub user: Option<String>,
    /// Password to show.
    pub password: Option<Secret>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            name: None,
            host: "0.0.0.0".to_owned(),
            port: None,
            routes: Vec::new(),
            user: None,
            password: None,
            timeout: None,
            advertise: None,
            no_advertise: false,
            connect_retries: 0,
            connect_backoff: false,
            pool_size: Some(3),
            accounts: Vec::new(),
            compression: Compression { mode: CompressionMode::Accept, rtt_thresholds: Vec::new() },
            ping_interval: None,
            ping_max: None,
            write_deadline: None,
            write_timeout: WriteTimeout::Default,
            tls: None,
            import: None,
            export: None,
        }
    }
}

impl Cluster {
    /// Time another server has for its handshake: as configured, else two seconds, with TLS a second more than that has.
    pub fn handshake_timeout(&self) -> Duration {
        let with_tls = self.tls.as_ref().map(|tls| tls.timeout + Duration::from_secs(1));
        self.timeout.or(with_tls).unwrap_or(Duration::from_secs(2))
    }

    /// The address that other servers are told: as configured, else the host listened on and `bound`, its port.
    pub fn advertised(&self, bound: u16) -> (&str, u16) {
        client::advertised(self.advertise.as_deref(), &self.host, bound)
    }
}

pub(super) const TOP_KEYS: &[Row<Options>] =
    &[key!(["cluster"], "map", "", Live, cluster => read_block, "Routes to the servers of this cluster.")];

pub(crate) const TABLE: Table<Cluster> = Table { section: "cluster", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<Cluster>] = &[
    key!(["name"], "string", "(made up)", Live, name => name, "Name of the cluster, without spaces."),
    key!(["listen"], "port or host:port", "", Refused, => listen, "Host and port to listen on for routes."),
    key!(["host", "net"], "string", "0.0.0.0", Refused, host = read::string, "Host to listen on for routes."),
    key!(
        ["port"],
        "integer",
        "",
        Refused,
        port = read::port,
        "Port to listen on for routes; -1 lets the system choose."
    ),
    key!(
        ["routes"],
        "array of URLs",
        "",
        Live,
        routes = routes,
        "Servers to connect to, as nats://user:pass@host:port."
    ),
    key!(["authorization"], "map", "", Live, user => authorization, "What other servers must show."),
    key!(
        ["advertise", "cluster_advertise"],
        "string",
        "",
        Live,
        advertise = read::string,
        "Address that other servers are told, as host or host:port."
    ),
    key!(
        ["no_advertise"],
        "boolean",
        "false",
        Live,
        no_advertise = read::boolean,
        "Whether clients are not told of the cluster's servers."
    ),
    key!(
        ["connect_retries"],
        "integer",
        "0",
        Live,
        connect_retries = retries,
        "Attempts after the first to reach a server that another one told of."
    ),
    key!(
        ["connect_backoff"],
        "boolean",
        "false",
        Live,
        connect_backoff = read::boolean,
        "Whether to wait longer after each attempt, up to half a minute."
    ),
    key!(["pool_size"], "integer", "3", Live, pool_size => pool_size,
        "Connections between two servers; -1 for one that carries everything."),
    key!(
        ["accounts"],
        "array of strings",
        "",
        Live,
        accounts = read::strings,
        "Accounts with connections of their own."
    ),
    key!(["compression"], "boolean, mode or map", "accept", Live, compression => compression,
        "Compression of routes: off, accept, s2_fast (or on), s2_better, s2_best or s2_auto."),
    key!(["ping_interval"], "duration", "(as for clients, at most 30s)", Live,
        ping_interval => ping_interval, "Interval of keep-alive PINGs on routes."),
    key!(["ping_max"], "integer", "(as for clients)", Live,
        ping_max => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.ping_max = read::positive32(field, report);
        }, "Unanswered PINGs before a route is closed."),
    key!(["permissions"], "map", "(everything)", Live, import => permissions,
        "Subjects of which interest is told to other servers (import) and of which theirs counts (export)."),
    key!(["tls"], "map", "", Live, tls => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.tls = tls::read(field, report);
        }, "TLS of routes; both sides show certificates."),
    key!(["write_deadline"], "duration", "(as for clients)", Live,
        write_deadline => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.write_deadline = read::duration(field, report);
        }, "How long a route may take no byte."),
    key!(
        ["write_timeout"],
        "default, close or retry",
        "default",
        Live,
        write_timeout = client::write_timeout,
        "Whether a route that takes some bytes before the deadline, and not all, is closed (close) or goes on (retry)."
    ),
];

pub(crate) const AUTHORIZATION: Table<Cluster> =
    Table { section: "cluster.authorization", rows: &[AUTHORIZATION_KEYS], unknown: unknown_field };

const AUTHORIZATION_KEYS: &[Row<Cluster>] = &[
    key!(["permissions"], "map", "(everything)", Live, => permissions_of_authorization,
        "As permissions of the cluster, which come first."),
    key!(["user", "username"], "string", "", Live,
        user => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.user = read::string(field, report);
        }, "User that other servers must show."),
    key!(["pass", "password"], "string", "", Live,
        password => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.password = read::string(field, report).map(Secret::from);
        }, "Their password."),
    key!(
        ["timeout"],
        "seconds or duration",
        "(2, with TLS a second more than its timeout)",
        Live,
        timeout => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.timeout = read::seconds(field, report);
        },
        "Time another server has for the handshake."
    ),
];

fn read_block(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    let Some(map) = read::map(field, report) else { return };
    let mut section = Cluster::default();
    TABLE.read(map, &mut section, report);
    options.cluster = section;
}

fn name(section: &mut Cluster, field: &Field<'_>, report: &mut Report) {
    let Some(name) = read::string(field, report) else { return };
    if name == "_" {
        report.error(field.at, "cluster name is reserved".to_owned());
    } else if name.contains(char::is_whitespace) {
        report.error(field.at, "cluster name cannot contain spaces or new lines".to_owned());
    } else {
        section.name = Some(name).filter(|name| !name.is_empty());
    }
}

fn listen(section: &mut Cluster, field: &Field<'_>, report: &mut Report) {
    if let Some(listen) = read::listen(field, report) {
        if let Some(host) = listen.host.filter(|host| !host.is_empty()) {
            section.host = host;
        }
        section.port = listen.port;
    }
}

/// Permissions in the place where they were before there was one of their own, which counts more.
fn permissions_of_authorization(section: &mut Cluster, field: &Field<'_>, report: &mut Report) {
    let text = "invalid use of field \"authorization\": setting \"permissions\" within cluster authorization block is deprecated";
    report.warning(field.at, text);
    if !report.explicit.contains("cluster.permissions") {
        permissions(section, field, report);
    }
}

fn ping_interval(section: &mut Cluster, field: &Field<'_>, report: &mut Report) {
    section.ping_interval = read::duration(field, report);
    if section.ping_interval.is_some_and(|interval| interval > PING_INTERVAL_MAX) {
        report.warning(field.at, "Cluster 'ping_interval' will reset to 30s which is the max for routes");
    }
}

fn permissions(section: &mut Cluster, field: &Field<'_>, report: &mut Report) {
    let Some(found) = permissions::read(field, report) else { return };
    if found.allow_responses.is_some() {
        report.error(field.at, "Cluster permissions do not support dynamic responses".to_owned());
    }
    (section.import, section.export) = (found.publish, found.subscribe);
}

fn authorization(section: &mut Cluster, field: &Field<'_>, report: &mut Report) {
    if let Some(map) = read::map(field, report) {
        AUTHORIZATION.read(map, section, report);
    }
}

fn retries(field: &Field<'_>, report: &mut Report) -> Option<u32> {
    let retries = read::integer(field, report)?;
    let found = u32::try_from(retries).ok();
    if found.is_none() {
        report.error(field.at, format!("{} must not be negative, got {retries}", field.name));
    }
    found
}

fn pool_size(section: &mut Cluster, field: &Field<'_>, report: &mut Report) {
    /// Connections per pair of servers at most.
    const MAX: u16 = 256;
    let Some(size) = read::integer(field, report) else { return };
    section.pool_size = match size {
        0 => Some(3),
        size if size < 0 => None,
        size => u16::try_from(size).ok().filter(|size| *size <= MAX).or_else(|| {
            report.error(field.at, format!("pool_size must be at most {MAX}, got {size}"));
            None
        }),
    };
}

fn compression(section: &mut Cluster, field: &Field<'_>, report: &mut Report) {
    if let Some(found) = compression::read(field, CompressionMode::Fast, report) {
        section.compression = found;
    }
}

fn routes(field: &Field<'_>, report: &mut Report) -> Option<Vec<RouteAddress>> {
    let urls = read::strings(field, report)?;
    let mut found = Vec::new();
    for url in urls {
        match RouteAddress::parse(&url) {
            Some(address) => found.push(address),
            None => report.error(field.at, format!("error parsing route url [{:?}]", without_secret(&url))),
        }
    }
    Some(found)
}

/// User and password, host and port of `scheme://[user:pass@]host:port`.
type UrlParts<'a> = (Option<(&'a str, Option<&'a str>)>, &'a str, &'a str);

fn url_parts(url: &str) -> Option<UrlParts<'_>> {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let (login, address) = rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
    let (host, port) = split_host_port(address.trim_end_matches('/'))?;
    let login = login.map(|login| match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    });
    Some((login, host, port))
}

impl RouteAddress {
    /// The server of `scheme://[user:pass@]host:port`.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let (login, host, port) = url_parts(url)?;
        let port = port.parse().ok().filter(|port| *port > 0)?;
        let (user, password) = match login {
            Some((user, password)) => {
                (Some(user.to_owned()), Some(Secret::from(password.unwrap_or_default().to_owned())))
            }
            None => (None, None),
        };
        Some(Self { host: host.to_owned(), port, user, password })
    }
}

/// What the flag `--cluster` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ClusterListen {
    /// There is no cluster.
    Nowhere,
    /// Listen here, and let those in who show this.
    At { host: String, port: Option<Port>, login: Option<(String, Secret)> },
}

impl ClusterListen {
    /// `scheme://[user:pass@]host:port`, or nothing. A user needs a password.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        if url.is_empty() {
            return Some(Self::Nowhere);
        }
        let (login, host, port) = url_parts(url)?;
        let port = port_number(port.parse().ok()?)?;
        let login = match login {
            Some((user, Some(password))) => Some((user.to_owned(), Secret::from(password.to_owned()))),
            Some((_, None)) => return None,
            None => None,
        };
        Some(Self::At { host: host.to_owned(), port, login })
    }

    /// Takes the place of what a file says.
    pub(crate) fn apply(self, cluster: &mut Cluster) {
        match self {
            Self::Nowhere => cluster.port = None,
            Self::At { host, port, login } => {
                if !host.is_empty() {
                    cluster.host = host;
                }
                cluster.port = port;
                (cluster.user, cluster.password) = login.unzip();
            }
        }
    }
}

fn without_secret(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, address)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn route_urls() {
        let plain = RouteAddress::parse("nats://a.b:6222").unwrap();
        assert_eq!((plain.host.as_str(), plain.port, plain.user), ("a.b", 6222, None));
        let full = RouteAddress::parse("nats-route://u:p:q@[::1]:1/").unwrap();
        assert_eq!((full.host.as_str(), full.port, full.user.as_deref()), ("::1", 1, Some("u")));
        assert_eq!(full.password.unwrap().expose(), "p:q");
        for bad in ["nats://host", "nats://host:x", "nats://host:0", ""] {
            assert!(RouteAddress::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn the_flag_takes_the_place_of_the_file() {
        let mut cluster = Cluster { user: Some("old".to_owned()), ..Cluster::default() };
        ClusterListen::parse("nats://127.0.0.1:-1").unwrap().apply(&mut cluster);
        assert_eq!(
            (cluster.host.as_str(), cluster.port, &cluster.user),
            ("127.0.0.1", Some(Port::Random), &None)
        );
        ClusterListen::parse("nats://u:p@:6222").unwrap().apply(&mut cluster);
        assert_eq!((cluster.host.as_str(), cluster.port), ("127.0.0.1", Some(Port::Fixed(6222))));
        assert_eq!((cluster.user.as_deref(), cluster.password.as_ref().unwrap().expose()), (Some("u"), "p"));
        ClusterListen::parse("").unwrap().apply(&mut cluster);
        assert_eq!(cluster.port, None);
        for bad in ["nats://u@host:1", "nats://host", "nats://host:x"] {
            assert_eq!(ClusterListen::parse(bad), None, "{bad}");
        }
    }
}
