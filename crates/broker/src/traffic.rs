//! Messages and bytes of an account, by the kind of connection on the other side.

use std::sync::atomic::{AtomicU64, Ordering};

/// Messages and their header and payload bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Messages.
    pub msgs: u64,
    /// Header and payload bytes.
    pub bytes: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.msgs += 1;
        self.bytes += bytes as u64;
    }

    pub(crate) fn is_zero(self) -> bool {
        self.msgs == 0
    }
}

impl std::ops::Add for Amount {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { msgs: self.msgs + other.msgs, bytes: self.bytes + other.bytes }
    }
}

/// Counters of an account since the start. Folded in once per batch.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) from_clients: Counter,
    pub(crate) to_clients: Counter,
    pub(crate) from_routes: Counter,
    pub(crate) to_routes: Counter,
    pub(crate) slow_consumers: AtomicU64,
}

/// An amount that threads add to.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    msgs: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    pub(crate) fn add(&self, amount: Amount) {
        if !amount.is_zero() {
            self.msgs.fetch_add(amount.msgs, Ordering::Relaxed);
            self.bytes.fetch_add(amount.bytes, Ordering::Relaxed);
        }
    }

    fn get(&self) -> Amount {
        Amount { msgs: self.msgs.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// Values of an account's counters, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficSnapshot {
    /// What clients published.
    pub from_clients: Amount,
    /// What clients were sent.
    pub to_clients: Amount,
    /// What other servers of the cluster sent.
    pub from_routes: Amount,
    /// What other servers of the cluster were sent.
    pub to_routes: Amount,
    /// Connections closed because they did not keep up.
    pub slow_consumers: u64,
}

impl Traffic {
    pub(crate) fn snapshot(&self) -> TrafficSnapshot {
        TrafficSnapshot {
            from_clients: self.from_clients.get(),
            to_clients: self.to_clients.get(),
            from_routes: self.from_routes.get(),
            to_routes: self.to_routes.get(),
            slow_consumers: self.slow_consumers.load(Ordering::Relaxed),
        }
    }
}

/// What one publisher has done for an account since it last folded its counts in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) to_clients: Amount,
    pub(crate) from_routes: Amount,
    pub(crate) to_routes: Amount,
}

impl Sums {
    /// Adds everything to the account's counters.
    pub(crate) fn fold_into(&mut self, traffic: &Traffic) {
        let sums = std::mem::take(self);
        traffic.to_clients.add(sums.to_clients);
        traffic.from_routes.add(sums.from_routes);
        traffic.to_routes.add(sums.to_routes);
    }
}
