use std::time::Duration;

use crate::duration::show;
use crate::options::{DEFAULT_SYSTEM_ACCOUNT, GLOBAL_ACCOUNT, Options, User};
use crate::read::{port_number, split_host_port};

/// A contradiction between options, in nats-server's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckError {
    /// Lame duck mode would end before it begins.
    #[error(
        "lame duck grace period ({}) should be strictly lower than lame duck duration ({})",
        show(*.grace), show(*.duration)
    )]
    LameDuck {
        /// `lame_duck_grace_period`
        grace: Duration,
        /// `lame_duck_duration`
        duration: Duration,
    },
    /// A message could never be sent.
    #[error("max_payload ({max_payload}) cannot be higher than max_pending ({max_pending})")]
    Payload {
        /// Bytes.
        max_payload: u64,
        /// Bytes.
        max_pending: u64,
    },
    /// Clients would see two names.
    #[error("server name cannot contain spaces")]
    ServerName,
    /// `no_auth_user` without any users.
    #[error("no_auth_user: {0:?} present, but users/nkeys are not defined")]
    NoUsers(String),
    /// `no_auth_user` names nobody.
    #[error(
        "no_auth_user: {0:?} not present as user or nkey in authorization block or account configuration"
    )]
    NoAuthUser(String),
    /// A domain that is not a single subject token.
    #[error("invalid domain name: may not contain ., * or >")]
    Domain,
    /// A domain that cannot be part of a subject.
    #[error("invalid domain name: derived \"$JS.{0}.API.>\" is not a valid subject")]
    DomainSubject(String),
    /// `system_account` names no account.
    #[error("error resolving system account: account missing")]
    SystemAccount,
    /// Ways to log in that exclude each other.
    #[error("{0}")]
    Login(&'static str),
    /// `client_advertise` is not an address.
    #[error("invalid ClientAdvertise value of {0}, err=could not parse as host[:port]")]
    ClientAdvertise(String),
    /// `advertise` of `cluster {}` is not an address.
    #[error("invalid Cluster.Advertise value of {0}, err=could not parse as host[:port]")]
    ClusterAdvertise(String),
    /// Somebody to dial, and no cluster to be part of.
    #[error("solicited routes require cluster capabilities, e.g. --cluster")]
    RoutesWithoutCluster,
    /// A server of a replicated group is known by its name.
    #[error("jetstream cluster requires `server_name` to be set")]
    JetStreamServerName,
    /// A cluster with streams is known by its name, which must not be made up.
    #[error("jetstream cluster requires `cluster.name` to be set")]
    JetStreamClusterName,
    /// Flags ask for TLS and name no certificate, or no key.
    #[error("TLS Server {0} must be present and valid")]
    TlsFlags(&'static str),
}

/// Checks that concern several options at once. They belong after the flags: a flag can repair or break things.
pub fn check(options: &Options) -> Result<(), Vec<CheckError>> {
    let errors: Vec<CheckError> = [
        lame_duck(options),
        payload(options),
        server_name(options),
        login(options),
        no_auth_user(options),
        domain(options),
        system_account(options),
        client_advertise(options),
        cluster_advertise(options),
        tls_flags(options),
        jetstream_in_cluster(options),
        routes_without_cluster(options),
    ]
    .into_iter()
    .flatten()
    .collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn lame_duck(options: &Options) -> Option<CheckError> {
    let (grace, duration) = (options.process.lame_duck_grace_period, options.process.lame_duck_duration);
    (grace >= duration).then_some(CheckError::LameDuck { grace, duration })
}

fn jetstream_in_cluster(options: &Options) -> Option<CheckError> {
    let is_empty = |name: &Option<String>| name.as_ref().is_none_or(String::is_empty);
    if options.cluster.port.is_none() || !options.jetstream.enabled {
        None
    } else if is_empty(&options.identity.server_name) {
        Some(CheckError::JetStreamServerName)
    } else if is_empty(&options.cluster.name) {
        Some(CheckError::JetStreamClusterName)
    } else {
        None
    }
}

fn routes_without_cluster(options: &Options) -> Option<CheckError> {
    let cluster = &options.cluster;
    (cluster.port.is_none() && !cluster.routes.is_empty()).then_some(CheckError::RoutesWithoutCluster)
}

fn payload(options: &Options) -> Option<CheckError> {
    let (max_payload, max_pending) = (u64::from(options.limits.max_payload), options.limits.max_pending);
    (max_payload > max_pending).then_some(CheckError::Payload { max_payload, max_pending })
}

fn server_name(options: &Options) -> Option<CheckError> {
    let has_space = |name: &String| name.contains(char::is_whitespace);
    options.identity.server_name.as_ref().is_some_and(has_space).then_some(CheckError::ServerName)
}

/// A file's own conflicts are found while it is read; this one is for flags.
fn login(options: &Options) -> Option<CheckError> {
    let accounts_have_users = options.accounts.accounts.iter().flatten().any(|a| !a.users.is_empty());
    let beside_accounts = options.authorization.conflict_with_accounts().filter(|_| accounts_have_users);
    options.authorization.conflict().or(beside_accounts).map(CheckError::Login)
}

fn no_auth_user(options: &Options) -> Option<CheckError> {
    let name = options.accounts.no_auth_user.clone().filter(|n| !n.is_empty())?;
    let accounts = options.accounts.accounts.iter().flatten().flat_map(|a| &a.users);
    let mut users = options.authorization.users.iter().flatten().chain(accounts).peekable();
    if users.peek().is_none() {
        return Some(CheckError::NoUsers(name));
    }
    let known = users.any(|user: &User| user.name == name);
    (!known).then_some(CheckError::NoAuthUser(name))
}

fn domain(options: &Options) -> Option<CheckError> {
    let domain = options.jetstream.domain.as_ref()?;
    if domain.contains(['.', '*', '>']) {
        Some(CheckError::Domain)
    } else if domain.contains(char::is_whitespace) {
        Some(CheckError::DomainSubject(domain.clone()))
    } else {
        None
    }
}

fn system_account(options: &Options) -> Option<CheckError> {
    let name = options.accounts.system_account.as_deref().filter(|n| !n.is_empty())?;
    // nats-server wants even its own default to be defined once it is named; here it exists either way.
    let built_in = name == DEFAULT_SYSTEM_ACCOUNT || name == GLOBAL_ACCOUNT;
    (!built_in && options.accounts.get(name).is_none()).then_some(CheckError::SystemAccount)
}

fn client_advertise(options: &Options) -> Option<CheckError> {
    let text = options.client.advertise.as_ref().filter(|t| !t.is_empty())?;
    let names_host = split_host_port(text).is_none_or(|(host, _)| !host.is_empty());
    (!names_host || !has_port(text)).then(|| CheckError::ClientAdvertise(text.clone()))
}

/// The host that is listened on may stand for one that is not named.
fn cluster_advertise(options: &Options) -> Option<CheckError> {
    let text = options.cluster.advertise.as_ref().filter(|t| !t.is_empty())?;
    (!has_port(text)).then(|| CheckError::ClusterAdvertise(text.clone()))
}

/// True for an address whose port, if there is one, can be one.
fn has_port(text: &str) -> bool {
    match split_host_port(text) {
        Some((_, port)) => port.parse::<i64>().ok().and_then(port_number).is_some(),
        None => !text.contains(':') || text.parse::<std::net::Ipv6Addr>().is_ok(),
    }
}

fn tls_flags(options: &Options) -> Option<CheckError> {
    let tls = options.client.tls.as_ref().filter(|tls| tls.from_flags)?;
    let missing = match (&tls.cert_file, &tls.key_file) {
        (None, _) => "certificate",
        (_, None) => "private key",
        _ => return None,
    };
    Some(CheckError::TlsFlags(missing))
}
