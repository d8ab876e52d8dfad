//! What servers tell of themselves every few seconds (monitoring, "STATSZ").

use linnet_broker::Amount;
use serde::Serialize;

use crate::accstatz::Count;
use crate::format::signed;
use crate::jetstream::{JsConfig, JsLimits, JsStats};
use crate::meta::Meta;
use crate::monitor::Monitor;
use crate::process;
use crate::varz::PerKind;

/// The server in numbers.
#[derive(Serialize)]
pub(crate) struct Statsz {
    start: String,
    mem: i64,
    cores: i64,
    cpu: f64,
    connections: i64,
    total_connections: u64,
    active_accounts: i64,
    subscriptions: i64,
    sent: Count,
    sent_to_clients: Count,
    received: Count,
    received_from_clients: Count,
    slow_consumers: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_consumer_stats: Option<PerKind>,
    #[serde(skip_serializing_if = "is_zero")]
    stale_connections: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_connection_stats: Option<PerKind>,
    #[serde(skip_serializing_if = "is_zero")]
    stalled_clients: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    active_servers: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    jetstream: Option<JetStream>,
    gomaxprocs: i64,
}

/// A connection to another server of the cluster.
#[derive(Serialize)]
struct Route {
    rid: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    sent: Count,
    received: Count,
    pending: i64,
}

#[derive(Serialize)]
struct JetStream {
    config: JsConfig,
    stats: JsStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
    limits: JsLimits,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

fn per_kind(all: u64, routes: u64) -> Option<PerKind> {
    (all > 0).then(|| PerKind::of(all, routes))
}

/// The rest of an amount. The counters are read one after the other, so that a part may be ahead of the whole.
fn without(all: Amount, part: Amount) -> Amount {
    Amount { msgs: all.msgs.saturating_sub(part.msgs), bytes: all.bytes.saturating_sub(part.bytes) }
}

/// The server now; `active_servers` are all that are known, this one included.
pub(crate) fn report(monitor: &Monitor, active_servers: usize) -> Statsz {
    let broker = monitor.broker();
    let accounts = broker.accounts();
    let stats = broker.stats();
    let received = Amount { msgs: stats.in_msgs, bytes: stats.in_bytes };
    let sent = Amount { msgs: stats.out_msgs, bytes: stats.out_bytes };
    let from_routes = Amount { msgs: stats.route_in_msgs, bytes: stats.route_in_bytes };
    let to_routes = Amount { msgs: stats.route_out_msgs, bytes: stats.route_out_bytes };
    Statsz {
        start: monitor.state.start.rfc3339(),
        mem: signed(process::memory().1),
        cores: signed(process::cores()),
        cpu: monitor.cpu.percent(),
        connections: signed(broker.connection_count()),
        total_connections: stats.total_connections,
        active_accounts: signed(accounts.iter().filter(|account| account.connections() > 0).count()),
        subscriptions: signed(accounts.iter().map(|a| a.interest_stats().subscriptions).sum::<u64>()),
        sent: sent.into(),
        sent_to_clients: without(sent, to_routes).into(),
        received: received.into(),
        received_from_clients: without(received, from_routes).into(),
        slow_consumers: signed(stats.slow_consumers),
        slow_consumer_stats: per_kind(stats.slow_consumers, stats.slow_routes),
        stale_connections: signed(stats.stale_connections),
        stale_connection_stats: per_kind(stats.stale_connections, stats.stale_routes),
        stalled_clients: signed(stats.stalled_clients),
        routes: routes(monitor),
        active_servers: signed(active_servers),
        jetstream: monitor.engine().map(|engine| JetStream {
            config: JsConfig::of(&engine, &monitor.options()).without_place(),
            stats: JsStats::of(&engine),
            meta: Meta::broadcast(&engine),
            limits: JsLimits::of(&monitor.options()),
        }),
        gomaxprocs: signed(monitor.state.worker_threads),
    }
}

fn routes(monitor: &Monitor) -> Vec<Route> {
    let routes = monitor.broker().routes().into_iter().map(|route| Route {
        rid: route.conn.cid,
        name: route.remote_name,
        sent: Amount { msgs: route.conn.out_msgs, bytes: route.conn.out_bytes }.into(),
        received: Amount { msgs: route.conn.in_msgs, bytes: route.conn.in_bytes }.into(),
        pending: signed(route.conn.pending_bytes),
    });
    routes.collect()
}
