//! Routes: the connections to the other servers of the cluster.
//!
//! [`Cluster`] knows who is there and which connection carries what; every connection has a task of its own
//! (`session`), and every address that is dialled one that dials again when the connection ends (`dial`). What other
//! servers are interested in becomes subscriptions of the accounts here, whose target is a [`Route`].

mod announcer;
mod dial;
mod interest;
mod moving;
mod outgoing;
mod permissions;
mod reload;
mod route;
mod session;
mod urls;
mod view;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use linnet_auth::Permissions;
use linnet_links::{Admission, ConnId, Established, Local, Origin, Peers, Slot, Thresholds};
use linnet_wire::ServerInfo;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::accepting::AcceptPause;
use crate::account::Account;
use crate::broker::{Broker, Shared};
use crate::close::CloseReason;
use crate::outbound::WritePolicy;
use crate::router::push_and_flush;
use crate::tls::RouteTls;

pub(crate) use announcer::Announcer;
pub(crate) use outgoing::Outgoing;
use route::Bound;
pub(crate) use route::Route;
pub use route::RoutePermissions;
pub use view::{Leads, RoutedServer};

/// How a server takes part in its cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// This server.
    pub local: Local,
    /// Servers to dial.
    pub routes: Vec<RouteUrl>,
    /// Interval of keep-alive PINGs.
    pub ping_interval: Duration,
    /// Unanswered PINGs before a route is stale.
    pub ping_max: u32,
    /// Time the other side has for the handshake.
    pub handshake_timeout: Duration,
    /// Round-trip times that choose levels of compression.
    pub rtt_thresholds: Thresholds,
    /// Attempts after the first to reach a server that another one told of.
    pub connect_retries: u32,
    /// Wait longer after each attempt, up to half a minute.
    pub connect_backoff: bool,
    /// Clients are told of the other servers.
    pub advertises_clients: bool,
    /// TLS of routes; `None` for plain text.
    pub tls: Option<RouteTls>,
    /// Interest that is told to other servers (`publish`) and that theirs counts in (`subscribe`); `None` for all.
    pub permissions: Option<Arc<Permissions>>,
    /// How long a route may take no byte, and what happens then.
    pub write_policy: WritePolicy,
}

/// A server to dial.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteUrl {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User and password to show.
    pub credentials: Option<(String, String)>,
}

/// The cluster as this server sees it.
pub(crate) struct Cluster {
    config: ArcSwap<ClusterConfig>,
    pub(crate) peers: Mutex<Peers>,
    /// Routes that carry messages.
    routes: Mutex<BTreeMap<u64, Arc<Route>>>,
    /// Addresses that somebody dials because another server told of them.
    told: Mutex<HashSet<String>>,
    /// How many dial each server for its pool.
    dialling: Mutex<HashMap<RouteUrl, usize>>,
    /// Where addresses that the configuration names led to when they were reached last.
    leads: Mutex<HashMap<RouteUrl, Leads>>,
    /// Connections that others opened and that do not carry messages yet.
    unfinished: AtomicUsize,
    /// Accounts have moved to connections of their own because another server asked for it.
    have_moved: AtomicBool,
}

/// Values of a route for monitoring.
#[derive(Clone)]
pub struct RouteSnapshot {
    /// Values that all connections have.
    pub conn: crate::conn::ConnSnapshot,
    /// Id of the other server.
    pub remote_id: String,
    /// Its name.
    pub remote_name: String,
    /// This server dialled because its configuration says so.
    pub is_configured: bool,
    /// This server dialled.
    pub did_solicit: bool,
    /// The only account the route carries; empty for several.
    pub account: String,
    /// Different interests of the other server that came by it.
    pub interests: usize,
    /// How what is sent is compressed.
    pub compression: &'static str,
    /// What the other server lets through.
    pub permissions: RoutePermissions,
}

/// Interest of another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInterest {
    /// Account.
    pub account: String,
    /// Subject, may have wildcards.
    pub subject: String,
    /// Queue group.
    pub queue: Option<String>,
}

impl Cluster {
    pub(crate) fn new(config: ClusterConfig) -> Self {
        let peers = Mutex::new(Peers::new(config.local.clone()));
        Self {
            config: ArcSwap::from_pointee(config),
            peers,
            routes: Mutex::default(),
            told: Mutex::default(),
            dialling: Mutex::default(),
            leads: Mutex::default(),
            unfinished: AtomicUsize::new(0),
            have_moved: AtomicBool::new(false),
        }
    }

    /// The settings in force.
    pub(crate) fn config(&self) -> Arc<ClusterConfig> {
        self.config.load_full()
    }

    /// The accounts whose interest this server tells by a connection.
    fn carried(&self, shared: &Shared, bound: &Bound) -> Vec<Arc<Account>> {
        let peers = self.peers.lock();
        let accounts = shared.accounts.load();
        let carried =
            accounts.values().filter(|account| peers.tells(&bound.server_id, &bound.slot, account.name()));
        carried.cloned().collect()
    }

    /// Tells of accounts that have come since the routes were made.
    pub(crate) fn carry_all(&self, shared: &Shared) {
        let routes = self.routes.lock().values().cloned().collect::<Vec<_>>();
        for route in &routes {
            let Some(bound) = route.bound() else { continue };
            for account in self.carried(shared, bound) {
                account.announcer.join(account.name(), route);
            }
        }
    }

    /// Tells the other side of a route once more what it may not have taken before.
    fn repeat(&self, shared: &Shared, route: &Arc<Route>) {
        let Some(bound) = route.bound() else { return };
        for account in self.carried(shared, bound) {
            account.announcer.repeat(account.name(), route);
        }
    }

    /// Lets a connection carry messages, if its place is free.
    fn admit(
        &self,
        shared: &Arc<Shared>,
        route: &Arc<Route>,
        established: &Established,
        origin: Origin,
    ) -> Admission {
        if let Some(url) = route.url().filter(|_| route.is_explicit) {
            self.reached(shared, url, Leads::To(established.info.server_id.clone()));
        }
        let (is_news, admission) = {
            let mut peers = self.peers.lock();
            (peers.is_news(established), peers.admit(route.conn.cid(), established))
        };
        if admission == Admission::Duplicate {
            return admission;
        }
        self.routes.lock().insert(route.conn.cid(), route.clone());
        if let Slot::Account(account) = &established.slot {
            self.take_back(shared, &established.info.server_id, account);
        }
        for account in route.bound().map_or_else(Vec::new, |bound| self.carried(shared, bound)) {
            account.announcer.join(account.name(), route);
        }
        if is_news {
            self.pass_on(shared, route, &established.info, origin);
        }
        if admission == Admission::First {
            self.tell_clients(shared);
            shared.servers_changed();
        } else {
            shared.routes_changed();
        }
        admission
    }

    /// Tells the other servers of one that is new.
    fn pass_on(&self, shared: &Arc<Shared>, route: &Route, info: &ServerInfo, origin: Origin) {
        let addr = format!("{}:{}", host_of(route, info), info.port);
        let routes = self.routes.lock().clone();
        let is_explicit = |conn| routes.get(&conn).is_some_and(|route: &Arc<Route>| route.is_explicit);
        let told = self.peers.lock().gossip(info, &addr, origin, is_explicit);
        for (conn, info) in told {
            if let Some(other) = routes.get(&conn) {
                let mut line = Vec::new();
                info.encode(&mut line);
                push_and_flush(shared, &other.conn, &line);
            }
        }
    }

    /// Messages and bytes that went to other servers by the routes there are.
    pub(crate) fn delivered(&self) -> (u64, u64) {
        let each =
            self.routes.lock().values().map(|route| route.conn.outbound.delivered()).collect::<Vec<_>>();
        each.into_iter().fold((0, 0), |sum, route| (sum.0 + route.0, sum.1 + route.1))
    }

    /// A connection that carried messages has ended.
    fn leave(&self, shared: &Arc<Shared>, route: &Arc<Route>) {
        route.end();
        self.routes.lock().remove(&route.conn.cid());
        let (msgs, bytes) = route.conn.outbound.delivered();
        shared.stats.route_out_msgs.fetch_add(msgs, Ordering::Relaxed);
        shared.stats.route_out_bytes.fetch_add(bytes, Ordering::Relaxed);
        for account in shared.accounts.load().values() {
            account.announcer.leave(route);
        }
        let left = self.peers.lock().leave(route.conn.cid());
        match left {
            Some((_, true)) => {
                self.tell_clients(shared);
                shared.servers_changed();
            }
            Some((_, false)) => shared.routes_changed(),
            None => {}
        }
    }

    /// Another server drains.
    fn drains(&self, shared: &Arc<Shared>, server_id: &str) {
        if self.peers.lock().drains(server_id) {
            self.tell_clients(shared);
            shared.servers_changed();
        }
    }

    /// Tells the other servers that this one drains, and gives up its own place among those that clients are told of.
    pub(crate) fn announce_lame_duck(&self, shared: &Arc<Shared>) {
        let (conns, info) = {
            let mut peers = self.peers.lock();
            (peers.drain(), peers.local().info.clone())
        };
        let mut line = Vec::new();
        info.encode(&mut line);
        let routes = self.routes.lock().clone();
        for route in conns.iter().filter_map(|conn| routes.get(conn)) {
            push_and_flush(shared, &route.conn, &line);
        }
        shared.info.write().connect_urls = self.urls();
    }

    /// Where clients reach the servers of the cluster; nothing if they are not to know.
    fn urls(&self) -> Vec<String> {
        if !self.config().advertises_clients {
            return Vec::new();
        }
        let peers = self.peers.lock();
        let mut urls = peers.local().info.connect_urls.clone();
        urls.extend(peers.infos().flat_map(|info| info.connect_urls.iter().cloned()));
        let mut seen = HashSet::new();
        urls.retain(|url| seen.insert(url.clone()));
        urls
    }

    /// Tells clients where the cluster's servers are.
    fn tell_clients(&self, shared: &Arc<Shared>) {
        let urls = self.urls();
        let is_new = {
            let mut info = shared.info.write();
            let is_new = info.connect_urls != urls;
            info.connect_urls = urls;
            is_new
        };
        if is_new {
            urls::tell(shared);
        }
    }
}

/// Where a server is reached that does not say so: at the address its connection comes from.
fn host_of(route: &Route, info: &ServerInfo) -> String {
    let is_anywhere = info.host.is_empty() || info.host == "0.0.0.0" || info.host == "::";
    let host = if is_anywhere { route.conn.peer().ip().to_string() } else { info.host.clone() };
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host }
}

impl Broker {
    /// Begins to note what other servers will be told of once the server is part of a cluster. Called before there are
    /// subscriptions. Interest is told as far as `permissions` allow; without any, all of it.
    pub fn expect_cluster(&self, permissions: Option<Arc<Permissions>>) {
        self.shared.expects_cluster.store(true, Ordering::Relaxed);
        for account in self.shared.accounts.load().values() {
            account.announcer.switch_on(permissions.clone());
        }
    }

    /// Makes the server part of the cluster that was expected.
    pub fn join_cluster(&self, config: ClusterConfig) {
        self.shared.info.write().cluster.clone_from(&config.local.cluster.name);
        let cluster = Arc::new(Cluster::new(config));
        cluster.tell_clients(&self.shared);
        // A server joins once.
        let _ = self.shared.cluster.set(cluster);
    }

    /// Accepts routes from `listener`, and dials those configured, until `stop` turns true.
    pub async fn serve_routes(&self, listener: tokio::net::TcpListener, mut stop: watch::Receiver<bool>) {
        let Some(cluster) = self.shared.cluster.get() else { return };
        for url in &cluster.config().routes {
            dial::keep_dialling(self.shared.clone(), cluster.clone(), url.clone());
        }
        let mut pause = AcceptPause::default();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    pause.end();
                    dial::accept(&self.shared, cluster, stream, peer);
                }
                Err(error) => pause.after("route", &error).await,
            }
        }
    }

    /// Name of the cluster; `None` if the server is in none.
    pub fn cluster_name(&self) -> Option<String> {
        self.shared.cluster.get().map(|cluster| cluster.peers.lock().local().cluster.name.clone())
    }

    /// Ids of the servers that there are routes to. The number is another one when a server has been away meanwhile.
    pub fn connected_servers(&self) -> BTreeMap<String, ConnId> {
        self.shared.cluster.get().map_or_else(BTreeMap::new, |cluster| cluster.peers.lock().present())
    }

    /// When the certificate that routes use expires, in seconds since 1970; `None` without TLS.
    pub fn route_tls_not_after(&self) -> Option<i64> {
        Some(self.shared.cluster.get()?.config().tls.as_ref()?.not_after)
    }

    /// What this server lets through its routes.
    pub fn route_permissions(&self) -> RoutePermissions {
        let Some(cluster) = self.shared.cluster.get() else { return RoutePermissions::default() };
        let local = &cluster.config().local;
        RoutePermissions { import: local.info.import.clone(), export: local.info.export.clone() }
    }

    /// Routes that carry messages, oldest first.
    pub fn routes(&self) -> Vec<RouteSnapshot> {
        let Some(cluster) = self.shared.cluster.get() else { return Vec::new() };
        let now = self.shared.clock.mono();
        let routes = cluster.routes.lock().values().cloned().collect::<Vec<_>>();
        let snapshots = routes.iter().filter_map(|route| {
            let bound = route.bound()?;
            Some(RouteSnapshot {
                conn: route.conn.snapshot(now),
                remote_id: bound.server_id.clone(),
                remote_name: bound.server_name.clone(),
                is_configured: route.is_explicit,
                did_solicit: route.is_dialled,
                account: match &bound.slot {
                    Slot::Account(name) => name.clone(),
                    Slot::Only | Slot::Pool(_) => String::new(),
                },
                interests: route.interests.load(Ordering::Relaxed),
                compression: route.shown_compression(),
                permissions: route.told(),
            })
        });
        snapshots.collect()
    }

    /// What the other side of a route is interested in, in no order.
    pub fn route_interests(&self, cid: u64) -> Vec<RouteInterest> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut found = Vec::new();
        for account in self.shared.accounts.load().values() {
            for sub in account.subscriptions() {
                if sub.route().is_some_and(|route| route.conn.cid() == cid) {
                    let queue = sub.queue.as_deref().map(text);
                    let account = account.name().to_owned();
                    found.push(RouteInterest { account, subject: text(&sub.subject), queue });
                }
            }
        }
        found
    }

    /// Ends every route once what is queued to it is written: clients have been promised that it goes on.
    pub fn close_routes(&self) {
        let Some(cluster) = self.shared.cluster.get() else { return };
        let routes = cluster.routes.lock().values().cloned().collect::<Vec<_>>();
        routes.iter().for_each(|route| route.conn.finish(&self.shared, CloseReason::ServerShutdown));
    }

    /// Routes that are not closed.
    pub fn route_count(&self) -> usize {
        self.shared.cluster.get().map_or(0, |cluster| cluster.routes.lock().len())
    }
}
