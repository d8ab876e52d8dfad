use std::sync::atomic::{AtomicU64, Ordering};

/// Server-wide counters. Hot ones are folded in once per read batch.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) in_msgs: AtomicU64,
    pub(crate) in_bytes: AtomicU64,
    pub(crate) route_in_msgs: AtomicU64,
    pub(crate) route_in_bytes: AtomicU64,
    /// Of routes that have ended.
    pub(crate) route_out_msgs: AtomicU64,
    pub(crate) route_out_bytes: AtomicU64,
    pub(crate) out_msgs: AtomicU64,
    pub(crate) out_bytes: AtomicU64,
    pub(crate) slow_consumers: AtomicU64,
    pub(crate) slow_routes: AtomicU64,
    pub(crate) stale_connections: AtomicU64,
    pub(crate) stale_routes: AtomicU64,
    pub(crate) stalled_clients: AtomicU64,
    pub(crate) total_connections: AtomicU64,
    pub(crate) matches: AtomicU64,
    pub(crate) cache_hits: AtomicU64,
}

/// Values of the server-wide counters, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// Messages that arrived.
    pub in_msgs: u64,
    /// Header and payload bytes that arrived.
    pub in_bytes: u64,
    /// Those of them that other servers sent.
    pub route_in_msgs: u64,
    /// Their bytes.
    pub route_in_bytes: u64,
    /// Messages sent.
    pub out_msgs: u64,
    /// Header and payload bytes sent.
    pub out_bytes: u64,
    /// Those of them that went to other servers.
    pub route_out_msgs: u64,
    /// Their bytes.
    pub route_out_bytes: u64,
    /// Connections closed because they did not keep up.
    pub slow_consumers: u64,
    /// Those of them that are routes.
    pub slow_routes: u64,
    /// Connections closed because they did not answer PINGs.
    pub stale_connections: u64,
    /// Those of them that are routes.
    pub stale_routes: u64,
    /// Times a producer was paused for a slow subscriber.
    pub stalled_clients: u64,
    /// Connections ever accepted.
    pub total_connections: u64,
    /// Look-ups of who wants a message.
    pub matches: u64,
    /// Look-ups answered from a connection's cache.
    pub cache_hits: u64,
}

impl Stats {
    pub(crate) fn snapshot(&self) -> StatsSnapshot {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        StatsSnapshot {
            in_msgs: get(&self.in_msgs),
            in_bytes: get(&self.in_bytes),
            route_in_msgs: get(&self.route_in_msgs),
            route_in_bytes: get(&self.route_in_bytes),
            out_msgs: get(&self.out_msgs),
            out_bytes: get(&self.out_bytes),
            route_out_msgs: get(&self.route_out_msgs),
            route_out_bytes: get(&self.route_out_bytes),
            slow_consumers: get(&self.slow_consumers),
            slow_routes: get(&self.slow_routes),
            stale_connections: get(&self.stale_connections),
            stale_routes: get(&self.stale_routes),
            stalled_clients: get(&self.stalled_clients),
            total_connections: get(&self.total_connections),
            matches: get(&self.matches),
            cache_hits: get(&self.cache_hits),
        }
    }
}
