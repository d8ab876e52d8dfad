//! `/varz`: the server, its configuration and its counters.

use std::collections::BTreeMap;

use linnet_conf::options::{FEATURE_FLAGS, WriteTimeout};
use linnet_conf::{Options, Port};
use linnet_ids::Wall;
use serde::Serialize;

use crate::answer::{Page, page as answer};
use crate::format::{nanos, signed, uptime};
use crate::jetstream::{JsConfig, JsLimits, JsStats};
use crate::listeners::ListenerKind;
use crate::meta::Meta;
use crate::monitor::Monitor;
use crate::process;

/// A listener or feature that is not configured.
#[derive(Default, Serialize)]
struct NotConfigured {}

/// The server, its configuration and its counters.
#[derive(Serialize)]
pub(crate) struct Varz {
    server_id: String,
    server_name: String,
    version: String,
    /// Version of this software; `version` is the one whose behaviour it has.
    linnet_version: &'static str,
    proto: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    git_commit: String,
    go: String,
    host: String,
    port: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    auth_required: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_required: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connect_urls: Vec<String>,
    max_connections: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_subscriptions: Option<i64>,
    ping_interval: i64,
    ping_max: i64,
    http_host: String,
    http_port: i64,
    http_base_path: String,
    https_port: i64,
    auth_timeout: f64,
    max_control_line: i64,
    max_payload: i64,
    max_pending: i64,
    cluster: Cluster,
    gateway: NotConfigured,
    leaf: NotConfigured,
    mqtt: NotConfigured,
    websocket: NotConfigured,
    jetstream: JetStream,
    tls_timeout: f64,
    write_deadline: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_timeout: Option<&'static str>,
    start: String,
    now: String,
    uptime: String,
    mem: i64,
    cores: i64,
    gomaxprocs: i64,
    cpu: f64,
    connections: i64,
    total_connections: u64,
    routes: i64,
    remotes: i64,
    leafnodes: i64,
    in_msgs: i64,
    in_bytes: i64,
    in_client_msgs: i64,
    in_client_bytes: i64,
    out_msgs: i64,
    out_bytes: i64,
    out_client_msgs: i64,
    out_client_bytes: i64,
    slow_consumers: i64,
    stale_connections: i64,
    stalled_clients: i64,
    subscriptions: i64,
    http_req_stats: BTreeMap<&'static str, u64>,
    config_load_time: String,
    config_digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    feature_flags: BTreeMap<String, bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_account: Option<String>,
    slow_consumer_stats: PerKind,
    stale_connection_stats: PerKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<String>,
    disk_io_wait_stats: DiskWaits,
}

/// A counter by kind of connection.
#[derive(Default, Serialize)]
pub(crate) struct PerKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl PerKind {
    /// Counted of clients and routes.
    pub(crate) fn of(all: u64, routes: u64) -> Self {
        Self { clients: all.saturating_sub(routes), routes, ..Self::default() }
    }
}

/// nats-server bounds how many of its tasks use the disk at a time and counts the waits; here nothing waits so.
#[derive(Default, Serialize)]
struct DiskWaits {
    waiters: i64,
    waits: u64,
    wait_time: i64,
    max_wait_time: i64,
}

#[derive(Default, Serialize)]
struct JetStream {
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<JsConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<JsStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<JsLimits>,
}

/// `/varz`.
pub(crate) fn page(monitor: &Monitor) -> Page {
    answer(&report(monitor))
}

/// What the page shows.
pub(crate) fn report(monitor: &Monitor) -> Varz {
    let options = monitor.options();
    let broker = monitor.broker();
    let identity = broker.identity();
    let (stats, config) = (broker.stats(), monitor.state.config.load());
    let client_addr = monitor.state.listeners.address(ListenerKind::Server);
    let (plain_port, tls_port) = ports(monitor, &options);
    let (client, limits) = (&options.client, &options.limits);
    Varz {
        server_id: identity.id.clone(),
        server_name: identity.name.clone(),
        version: identity.version.clone(),
        linnet_version: env!("CARGO_PKG_VERSION"),
        proto: 1,
        git_commit: identity.git_commit.clone(),
        go: identity.go.clone(),
        host: client.host.clone(),
        port: client_addr.map_or_else(|| client.port.number(), |a| a.port()).into(),
        auth_required: requires_auth(&options),
        tls_required: client.tls.is_some() && !client.allow_non_tls,
        tls_verify: client.tls.as_ref().is_some_and(|tls| tls.verifies()) && !client.allow_non_tls,
        connect_urls: broker.connect_urls(),
        max_connections: signed(limits.max_connections),
        max_subscriptions: limits.max_subscriptions.map(signed),
        ping_interval: nanos(client.ping_interval),
        ping_max: client.ping_max.into(),
        http_host: options.monitoring.host.clone().unwrap_or_else(|| client.host.clone()),
        http_port: plain_port.into(),
        http_base_path: Some(options.monitoring.base_path.clone()).filter(|b| b != "/").unwrap_or_default(),
        https_port: tls_port.into(),
        auth_timeout: options.auth_timeout().as_secs_f64(),
        max_control_line: limits.max_control_line.into(),
        max_payload: limits.max_payload.into(),
        max_pending: signed(limits.max_pending),
        cluster: Cluster::of(monitor, &options),
        gateway: NotConfigured {},
        leaf: NotConfigured {},
        mqtt: NotConfigured {},
        websocket: NotConfigured {},
        jetstream: jetstream(monitor, &options),
        tls_timeout: client.tls.as_ref().map_or(TLS_TIMEOUT_DEFAULT, |tls| tls.timeout.as_secs_f64()),
        write_deadline: nanos(client.write_deadline),
        write_timeout: match client.write_timeout {
            WriteTimeout::Default => None,
            WriteTimeout::Close => Some("close"),
            WriteTimeout::Retry => Some("retry"),
        },
        start: monitor.state.start.rfc3339(),
        now: monitor.now(),
        uptime: uptime(monitor.uptime()),
        mem: signed(process::memory().1),
        cores: signed(process::cores()),
        gomaxprocs: signed(monitor.state.worker_threads),
        cpu: monitor.cpu.percent(),
        connections: signed(broker.connection_count()),
        total_connections: stats.total_connections,
        routes: signed(broker.routes().len()),
        remotes: signed(broker.connected_servers().len()),
        leafnodes: 0,
        in_msgs: signed(stats.in_msgs),
        in_bytes: signed(stats.in_bytes),
        in_client_msgs: signed(stats.in_msgs.saturating_sub(stats.route_in_msgs)),
        in_client_bytes: signed(stats.in_bytes.saturating_sub(stats.route_in_bytes)),
        out_msgs: signed(stats.out_msgs),
        out_bytes: signed(stats.out_bytes),
        out_client_msgs: signed(stats.out_msgs.saturating_sub(stats.route_out_msgs)),
        out_client_bytes: signed(stats.out_bytes.saturating_sub(stats.route_out_bytes)),
        slow_consumers: signed(stats.slow_consumers),
        stale_connections: signed(stats.stale_connections),
        stalled_clients: signed(stats.stalled_clients),
        subscriptions: signed(
            broker.accounts().iter().map(|a| a.interest_stats().subscriptions).sum::<u64>(),
        ),
        http_req_stats: monitor.requests.snapshot(),
        config_load_time: config.loaded.rfc3339(),
        config_digest: config.digest.clone(),
        tags: options.identity.server_tags.clone(),
        metadata: options.identity.server_metadata.clone(),
        feature_flags: feature_flags(&options),
        system_account: monitor.system_account(),
        slow_consumer_stats: PerKind::of(stats.slow_consumers, stats.slow_routes),
        stale_connection_stats: PerKind::of(stats.stale_connections, stats.stale_routes),
        tls_cert_not_after: monitor.state.tls.load().as_ref().map(|acceptor| expiry(acceptor.not_after)),
        disk_io_wait_stats: DiskWaits::default(),
    }
}

/// Seconds; there is no TLS to configure another value for.
const TLS_TIMEOUT_DEFAULT: f64 = 2.0;

/// Whether the configuration knows any credentials, also when clients may come without.
fn requires_auth(options: &Options) -> bool {
    let login = &options.authorization;
    login.user.is_some()
        || login.token.is_some()
        || login.users.is_some()
        || options.accounts.accounts.iter().flatten().any(|a| !a.users.is_empty())
}

/// Ports of the pages without and with TLS, 0 where there is none.
fn ports(monitor: &Monitor, options: &Options) -> (u16, u16) {
    let port = |configured: Option<Port>, is_secure| {
        let bound = monitor.pages.get().filter(|pages| pages.is_secure == is_secure);
        configured.map_or(0, |port| bound.map_or_else(|| port.number(), |pages| pages.addr.port()))
    };
    (port(options.monitoring.port, false), port(options.monitoring.tls_port, true))
}

pub(crate) fn feature_flags(options: &Options) -> BTreeMap<String, bool> {
    let mut flags: BTreeMap<_, _> = FEATURE_FLAGS.iter().map(|(n, on)| ((*n).to_owned(), *on)).collect();
    flags.extend(options.identity.feature_flags.clone());
    flags
}

/// A time of a certificate, in seconds since 1970.
fn expiry(seconds: i64) -> String {
    Wall(seconds.saturating_mul(1_000_000_000)).rfc3339()
}

/// The cluster; nothing of a server that is in none.
#[derive(Default, Serialize)]
struct Cluster {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    addr: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_timeout: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_timeout: Option<f64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_required: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tls_verify: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pool_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_deadline: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    write_timeout: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<String>,
}

impl Cluster {
    fn of(monitor: &Monitor, options: &Options) -> Self {
        let Some(name) = monitor.broker().cluster_name() else { return Self::default() };
        let cluster = &options.cluster;
        let port = monitor.state.listeners.address(ListenerKind::Route).map(|address| address.port());
        Self {
            name: Some(name),
            addr: Some(cluster.host.clone()),
            cluster_port: port,
            auth_timeout: Some(cluster.handshake_timeout().as_secs_f64()),
            urls: cluster.routes.iter().map(|route| format!("{}:{}", route.host, route.port)).collect(),
            tls_timeout: Some(
                cluster.tls.as_ref().map_or(TLS_TIMEOUT_DEFAULT, |tls| tls.timeout.as_secs_f64()),
            ),
            tls_required: cluster.tls.is_some(),
            tls_verify: cluster.tls.is_some(),
            pool_size: Some(cluster.pool_size.map_or(-1, i64::from)),
            write_deadline: cluster.write_deadline.and_then(|time| u64::try_from(time.as_nanos()).ok()),
            write_timeout: match cluster.write_timeout {
                WriteTimeout::Default => None,
                WriteTimeout::Close => Some("close"),
                WriteTimeout::Retry => Some("retry"),
            },
            tls_cert_not_after: monitor.broker().route_tls_not_after().map(expiry),
        }
    }
}

fn jetstream(monitor: &Monitor, options: &Options) -> JetStream {
    monitor.engine().map_or_else(JetStream::default, |engine| JetStream {
        config: Some(JsConfig::of(&engine, options)),
        stats: Some(JsStats::of(&engine)),
        meta: Meta::of(&engine),
        limits: Some(JsLimits::of(options)),
    })
}
