use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, ArcSwapOption};
use linnet_auth::Authenticator;
use linnet_env::{Clock, Rng};
use linnet_wire::Info;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::account::Account;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::conn::Conn;
use crate::observer::Observer;
use crate::registry::{ClosedConn, Registry};
use crate::router::Publisher;
use crate::stats::{Stats, StatsSnapshot};
use crate::tls::{RateLimit, TlsPolicy};

/// Who the server is; fixed for one start.
#[derive(Clone, Debug)]
pub struct ServerIdentity {
    /// Public nkey of this start.
    pub id: String,
    /// Public curve nkey of this start.
    pub xkey: String,
    /// Configured name, else the id.
    pub name: String,
    /// Version clients see.
    pub version: String,
    /// Short hash of the build.
    pub git_commit: String,
    /// Toolchain.
    pub go: String,
}

/// The broker of one server. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) identity: ServerIdentity,
    pub(crate) config: ArcSwap<Config>,
    pub(crate) authenticator: ArcSwap<Authenticator>,
    /// Goes up with every reload.
    pub(crate) epoch: AtomicU64,
    pub(crate) accounts: ArcSwap<HashMap<String, Arc<Account>>>,
    /// INFO as sent to every client, without the per-connection fields.
    pub(crate) info: RwLock<Info>,
    pub(crate) registry: Registry,
    pub(crate) stats: Stats,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) runtime: Handle,
    pub(crate) lame_duck: AtomicBool,
    pub(crate) stopping: AtomicBool,
    /// Bounds the threads that check bcrypt passwords at a time.
    pub(crate) slow_logins: tokio::sync::Semaphore,
    /// `None`: clients speak plain text.
    pub(crate) tls: ArcSwapOption<TlsPolicy>,
    /// Computations of handshakes at a time, so that many of them leave processors to messages.
    pub(crate) handshake_turns: tokio::sync::Semaphore,
    pub(crate) connection_rate: RateLimit,
    /// The server is or will be part of a cluster.
    pub(crate) expects_cluster: AtomicBool,
    /// Set if the server is part of a cluster.
    pub(crate) cluster: OnceLock<Arc<Cluster>>,
    /// Watches connections come and go.
    pub(crate) observer: OnceLock<Arc<dyn Observer>>,
    /// Counts changes of who else is there.
    pub(crate) servers: watch::Sender<u64>,
}

/// bcrypt checks at a time: each takes a core for tens of milliseconds.
const SLOW_LOGINS_MAX: usize = 2;

/// Half of the processors.
fn handshake_turns() -> usize {
    std::thread::available_parallelism().map_or(1, |n| n.get() / 2).max(1)
}

impl Broker {
    /// A broker without listeners. `accounts` always contains `$G` and, unless disabled, the system account.
    pub fn new(
        identity: ServerIdentity,
        config: Config,
        authenticator: Authenticator,
        accounts: impl IntoIterator<Item = Arc<Account>>,
        clock: Arc<dyn Clock>,
        rng: Arc<dyn Rng>,
        runtime: Handle,
    ) -> Self {
        let info = Info {
            server_id: identity.id.clone(),
            server_name: identity.name.clone(),
            version: identity.version.clone(),
            git_commit: identity.git_commit.clone(),
            go: identity.go.clone(),
            proto: 1,
            headers: config.headers,
            auth_required: authenticator.is_required(),
            max_payload: i64::try_from(config.max_payload).unwrap_or(i64::MAX),
            xkey: identity.xkey.clone(),
            ..Info::default()
        };
        let accounts = accounts.into_iter().map(|a| (a.name().to_owned(), a)).collect();
        Self {
            shared: Arc::new(Shared {
                identity,
                config: ArcSwap::from_pointee(config),
                authenticator: ArcSwap::from_pointee(authenticator),
                epoch: AtomicU64::new(0),
                accounts: ArcSwap::from_pointee(accounts),
                info: RwLock::new(info),
                registry: Registry::default(),
                stats: Stats::default(),
                clock,
                rng,
                runtime,
                lame_duck: AtomicBool::new(false),
                stopping: AtomicBool::new(false),
                slow_logins: tokio::sync::Semaphore::new(SLOW_LOGINS_MAX),
                tls: ArcSwapOption::empty(),
                handshake_turns: tokio::sync::Semaphore::new(handshake_turns()),
                connection_rate: RateLimit::default(),
                expects_cluster: AtomicBool::new(false),
                cluster: OnceLock::new(),
                observer: OnceLock::new(),
                servers: watch::Sender::new(0),
            }),
        }
    }

    /// Who the server is.
    pub fn identity(&self) -> &ServerIdentity {
        &self.shared.identity
    }

    /// The limits in force.
    pub fn config(&self) -> Arc<Config> {
        self.shared.config.load_full()
    }

    /// The clock all times come from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.clock
    }

    /// The account of this name.
    pub fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.shared.accounts.load().get(name).cloned()
    }

    /// Every account, in no order.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        self.shared.accounts.load().values().cloned().collect()
    }

    /// A publishing end for a service inside the server.
    pub fn publisher(&self) -> Publisher {
        Publisher::new(self.shared.clone())
    }

    /// Changes what clients are told in INFO from now on.
    pub fn update_info(&self, change: impl FnOnce(&mut Info)) {
        change(&mut self.shared.info.write());
    }

    /// Sets what clients that connect from now on find; those connected keep what they have.
    pub fn set_tls(&self, policy: Option<TlsPolicy>) {
        self.update_info(|info| {
            let allows_plain = policy.as_ref().is_some_and(|p| p.allow_plain);
            info.tls_required = policy.is_some() && !allows_plain;
            info.tls_available = allows_plain;
            info.tls_verify = policy.as_ref().is_some_and(|p| p.verify);
        });
        self.shared.tls.store(policy.map(Arc::new));
    }

    /// Whether clients need credentials.
    pub fn auth_required(&self) -> bool {
        self.shared.authenticator.load().is_required()
    }

    /// Server-wide counters.
    pub fn stats(&self) -> StatsSnapshot {
        let mut stats = self.shared.stats.snapshot();
        if let Some(cluster) = self.shared.cluster.get() {
            let (msgs, bytes) = cluster.delivered();
            stats.route_out_msgs += msgs;
            stats.route_out_bytes += bytes;
        }
        stats
    }

    /// Where clients are told to find the servers of the cluster; empty for a server alone.
    pub fn connect_urls(&self) -> Vec<String> {
        self.shared.info.read().connect_urls.clone()
    }

    /// Open client connections.
    pub fn connection_count(&self) -> usize {
        self.shared.registry.len()
    }

    /// The open connection of this id.
    pub fn connection(&self, cid: u64) -> Option<Arc<Conn>> {
        self.shared.registry.get(cid)
    }

    /// Open connections in order of their ids.
    pub fn connections(&self) -> Vec<Arc<Conn>> {
        self.shared.registry.all()
    }

    /// Connections that ended, oldest first, as many as configured.
    pub fn closed_connections(&self) -> Vec<ClosedConn> {
        self.shared.registry.closed()
    }

    /// True while the server drains.
    pub fn is_lame_duck(&self) -> bool {
        self.shared.lame_duck.load(Ordering::Relaxed)
    }
}
