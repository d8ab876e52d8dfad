//! From options to the server's part in its cluster.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::anyhow;
use linnet_broker::{Broker, ClusterConfig, RouteTls, RouteUrl, ServerIdentity, WritePolicy};
use linnet_conf::Secret;
use linnet_conf::options::{
    Cluster, CompressionMode, Options, PING_INTERVAL_MAX, SubjectFilter, SubjectPermissions, WriteTimeout,
};
use linnet_env::Rng;
use linnet_ids::{NUID_LEN, NuidSequence};
use linnet_links::{ClusterName, Level, Local, Mode, Thresholds};
use linnet_wire::{ServerInfo, SubjectPermission};
use tokio::net::TcpListener;

use crate::address::{HostPort, ListenError, resolve};
use crate::{build, files};

/// Protocol level between servers.
const SERVER_PROTO: i32 = 3;

/// Opens the listener for routes, if the server is part of a cluster.
pub(crate) fn listen(
    broker: &Broker,
    options: &Options,
) -> anyhow::Result<Option<(TcpListener, SocketAddr)>> {
    let Some(port) = options.cluster.port else { return Ok(None) };
    let (host, port) = (&options.cluster.host, port.number());
    let bound = resolve(host, port)
        .and_then(|address| broker.bind(address).map_err(|source| ListenError::Bind { address, source }));
    let text = |error| anyhow!("Error listening on router port: {} - {error}", HostPort(host, port));
    bound.map(Some).map_err(text)
}

/// The server's part in its cluster: routes listen on `route`, clients on `client`.
pub(crate) fn config(
    options: &Options,
    identity: &ServerIdentity,
    route: SocketAddr,
    client: SocketAddr,
    tls: Option<RouteTls>,
    rng: &dyn Rng,
) -> ClusterConfig {
    let cluster = &options.cluster;
    let (host, port) = cluster.advertised(route.port());
    let is_advertised = cluster.advertise.as_ref().is_some_and(|text| !text.is_empty());
    let info = ServerInfo {
        server_id: identity.id.clone(),
        server_name: identity.name.clone(),
        version: identity.version.clone(),
        git_commit: identity.git_commit.clone(),
        go: identity.go.clone(),
        proto: SERVER_PROTO,
        host: host.to_owned(),
        port,
        ip: if is_advertised { format!("nats-route://{}/", HostPort(host, port)) } else { String::new() },
        headers: !options.client.no_header_support,
        auth_required: cluster.user.is_some(),
        tls_required: tls.is_some(),
        tls_verify: tls.is_some(),
        max_payload: i64::from(options.limits.max_payload),
        jetstream: options.jetstream.enabled,
        domain: if options.jetstream.enabled {
            options.jetstream.domain.clone().unwrap_or_default()
        } else {
            String::new()
        },
        connect_urls: if cluster.no_advertise { Vec::new() } else { connect_urls(options, client) },
        import: cluster.import.as_ref().map(published),
        export: cluster.export.as_ref().map(published),
        lnoc: true,
        lnocu: true,
        ln: true,
        ..ServerInfo::default()
    };
    let local = Local {
        cluster: name(cluster, rng),
        info,
        pool_size: cluster.pool_size.map(usize::from),
        accounts: dedicated(options),
        compression: compression(cluster.compression.mode),
        credentials: cluster.user.clone().map(|user| (user, text(cluster.password.as_ref()))),
        tls: tls.is_some(),
    };
    let url = |route: &linnet_conf::options::RouteAddress| RouteUrl {
        host: route.host.clone(),
        port: route.port,
        credentials: route.user.clone().map(|user| (user, text(route.password.as_ref()))),
    };
    ClusterConfig {
        local,
        routes: cluster.routes.iter().map(url).collect(),
        ping_interval: cluster.ping_interval.unwrap_or(options.client.ping_interval).min(PING_INTERVAL_MAX),
        ping_max: cluster.ping_max.unwrap_or(options.client.ping_max),
        handshake_timeout: cluster.handshake_timeout(),
        rtt_thresholds: match cluster.compression.rtt_thresholds.as_slice() {
            [] => Thresholds::default(),
            given => Thresholds(given.to_vec()),
        },
        connect_retries: cluster.connect_retries,
        connect_backoff: cluster.connect_backoff,
        advertises_clients: !cluster.no_advertise,
        tls,
        permissions: build::route_permissions(cluster).map(Arc::new),
        write_policy: WritePolicy {
            deadline: cluster.write_deadline.unwrap_or(options.client.write_deadline),
            is_strict: cluster.write_timeout == WriteTimeout::Close,
        },
    }
}

/// Subjects as other servers are told of them.
fn published(subjects: &SubjectPermissions) -> SubjectPermission {
    let text = |filter: &SubjectFilter| filter.subject.clone();
    SubjectPermission {
        allow: subjects.allow.iter().flatten().map(text).collect(),
        deny: subjects.deny.iter().map(text).collect(),
    }
}

fn compression(mode: CompressionMode) -> Mode {
    match mode {
        CompressionMode::NotSupported => Mode::NotSupported,
        CompressionMode::Off => Mode::Off,
        CompressionMode::Accept => Mode::Accept,
        CompressionMode::Fast => Mode::At(Level::Fast),
        CompressionMode::Better => Mode::At(Level::Better),
        CompressionMode::Best => Mode::At(Level::Best),
        CompressionMode::Auto => Mode::Auto,
    }
}

fn text(secret: Option<&Secret>) -> String {
    secret.map(|secret| secret.expose().to_owned()).unwrap_or_default()
}

fn name(cluster: &Cluster, rng: &dyn Rng) -> ClusterName {
    match &cluster.name {
        Some(name) => ClusterName { name: name.clone(), is_dynamic: false },
        None => {
            let mut entropy = [0; 28];
            rng.fill(&mut entropy);
            let id = NuidSequence::new(entropy).next().unwrap_or([b'0'; NUID_LEN]);
            ClusterName { name: String::from_utf8_lossy(&id).into_owned(), is_dynamic: true }
        }
    }
}

/// Accounts with connections of their own, the system account among them.
fn dedicated(options: &Options) -> Vec<String> {
    let mut accounts = options.cluster.accounts.clone();
    if let Some(system) = build::system_account(options)
        && !accounts.iter().any(|account| account == system)
    {
        accounts.push(system.to_owned());
    }
    accounts
}

/// Where clients reach this server: where it says, else where it listens, which may be several addresses.
fn connect_urls(options: &Options, bound: SocketAddr) -> Vec<String> {
    let (host, port) = options.client.advertised(bound.port());
    let is_everywhere = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
    if !is_everywhere {
        return vec![HostPort(host, port).to_string()];
    }
    // Addresses of one link, and the machine's own, mean nothing elsewhere.
    let is_local =
        |ip: &IpAddr| ip.is_loopback() || matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let reachable = files::addresses().into_iter().filter(|ip| !is_local(ip));
    reachable.map(|ip| SocketAddr::new(ip, port).to_string()).collect()
}
