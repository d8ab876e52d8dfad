use std::time::Duration;

use super::{Compression, CompressionMode, Options, compression};
use crate::read::{self, Port, port_number, split_host_port};
use crate::report::Report;
use crate::secret::Secret;
use crate::table::{Field, Row, Table, key, not_yet, unknown_field};

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
    /// Time another server has for the handshake.
    pub timeout: Duration,
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
}

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
            timeout: Duration::from_secs(2),
            advertise: None,
            no_advertise: false,
            connect_retries: 0,
            connect_backoff: false,
            pool_size: Some(3),
            accounts: Vec::new(),
            compression: Compression { mode: CompressionMode::Accept, rtt_thresholds: Vec::new() },
            ping_interval: None,
            ping_max: None,
        }
    }
}

impl Cluster {
    /// The address that other servers are told: as configured, else the host listened on and `bound`, its port.
    pub fn advertised(&self, bound: u16) -> (&str, u16) {
        super::client::advertised(self.advertise.as_deref(), &self.host, bound)
    }
}

pub(super) const TOP_KEYS: &[Row<Options>] =
    &[key!(["cluster"], "map", "", Refused, cluster => read_block, "Routes to the servers of this cluster.")];

pub(crate) const TABLE: Table<Cluster> = Table { section: "cluster", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<Cluster>] = &[
    key!(["name"], "string", "(made up)", Refused, name => name, "Name of the cluster, without spaces."),
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
        Refused,
        routes = routes,
        "Servers to connect to, as nats://user:pass@host:port."
    ),
    key!(["authorization"], "map", "", Refused, user => authorization, "What other servers must show."),
    key!(
        ["advertise", "cluster_advertise"],
        "string",
        "",
        Refused,
        advertise = read::string,
        "Address that other servers are told, as host or host:port."
    ),
    key!(
        ["no_advertise"],
        "boolean",
        "false",
        Refused,
        no_advertise = read::boolean,
        "Whether clients are not told of the cluster's servers."
    ),
    key!(
        ["connect_retries"],
        "integer",
        "0",
        Refused,
        connect_retries = retries,
        "Attempts after the first to reach a server that another one told of."
    ),
    key!(
        ["connect_backoff"],
        "boolean",
        "false",
        Refused,
        connect_backoff = read::boolean,
        "Whether to wait longer after each attempt, up to half a minute."
    ),
    key!(["pool_size"], "integer", "3", Refused, pool_size => pool_size,
        "Connections between two servers; -1 for one that carries everything."),
    key!(
        ["accounts"],
        "array of strings",
        "",
        Refused,
        accounts = read::strings,
        "Accounts with connections of their own."
    ),
    key!(["compression"], "boolean, mode or map", "accept", Refused, compression => compression,
        "Compression of routes: off, accept, s2_fast (or on), s2_better, s2_best or s2_auto."),
    key!(["ping_interval"], "duration", "(as for clients, at most 30s)", Refused,
        ping_interval => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.ping_interval = read::duration(field, report);
        }, "Interval of keep-alive PINGs on routes."),
    key!(["ping_max"], "integer", "(as for clients)", Refused,
        ping_max => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.ping_max = read::positive32(field, report);
        }, "Unanswered PINGs before a route is closed."),
    not_yet!(["permissions"], Live, "Subjects of which interest is exchanged."),
    not_yet!(["tls"], Live, "TLS of routes."),
    not_yet!(["write_deadline"], Live, "How long a route may take no byte."),
    not_yet!(["write_timeout"], Live, "What happens then."),
];

pub(crate) const AUTHORIZATION: Table<Cluster> =
    Table { section: "cluster.authorization", rows: &[AUTHORIZATION_KEYS], unknown: unknown_field };

const AUTHORIZATION_KEYS: &[Row<Cluster>] = &[
    key!(["user", "username"], "string", "", Refused,
        user => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.user = read::string(field, report);
        }, "User that other servers must show."),
    key!(["pass", "password"], "string", "", Refused,
        password => |section: &mut Cluster, field: &Field<'_>, report: &mut Report| {
            section.password = read::string(field, report).map(Secret::from);
        }, "Their password."),
    key!(
        ["timeout"],
        "seconds or duration",
        "2",
        Refused,
        timeout = read::seconds,
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
