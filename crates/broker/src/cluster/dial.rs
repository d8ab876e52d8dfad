//! Where routes come from: the listener, the configuration, and what other servers tell.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_links::{Origin, Role};
use linnet_wire::{GossipMode, ServerInfo};
use tokio::net::TcpStream;

use super::route::Route;
use super::session::{Attempt, Ended, RouteSession};
use super::{Cluster, Leads, RouteUrl};
use crate::broker::Shared;
use crate::conn::{Conn, ConnKind};
use crate::link::Link;
use crate::listen::canonical;

const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between attempts to reach a server.
const RETRY: Duration = Duration::from_secs(1);
/// Pauses after the first attempts to reach a server that the configuration names: servers of a cluster that start
/// together are a moment apart.
const FIRST_RETRIES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];
/// The longest pause, if pauses grow.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Attempts after the first to get into a server that another one told of and that refuses.
const REFUSALS_MAX: u32 = 3;
/// Two servers that dial each other at the same time may both find the other's connection one too many, and then both have
/// none: a route that ends so soon is dialled again at once, so many times in a row.
const COLLISION: Duration = Duration::from_secs(1);
const COLLISIONS_MAX: u32 = 5;
/// Connections that others opened and that are in their handshakes.
const UNFINISHED_MAX: usize = 1024;
/// Servers that others tell of within a second and that are dialled for it.
const TOLD_MAX: usize = 256;
/// Added at random, so that two servers that dial each other do not stay in step.
const JITTER: Duration = Duration::from_millis(100);

/// Somebody dialled this server.
pub(super) fn accept(shared: &Arc<Shared>, cluster: &Arc<Cluster>, stream: TcpStream, peer: SocketAddr) {
    // Strangers that say nothing are closed in time; there must not be any number of them until then.
    let before = cluster.unfinished.fetch_add(1, Ordering::Relaxed);
    if before >= UNFINISHED_MAX {
        cluster.unfinished.fetch_sub(1, Ordering::Relaxed);
        tracing::debug!("{peer} - too many routes in their handshakes");
        return;
    }
    let (route, link) = open(shared, cluster, stream, canonical(peer), None, false);
    let (shared, cluster) = (shared.clone(), cluster.clone());
    tokio::spawn(async move {
        RouteSession::new(shared, cluster, route, link, Role::Accepted, Origin::Accepted, None).run().await;
    });
}

fn open(
    shared: &Shared,
    cluster: &Cluster,
    stream: TcpStream,
    peer: SocketAddr,
    url: Option<RouteUrl>,
    is_explicit: bool,
) -> (Arc<Route>, Arc<Link>) {
    // Messages are batched by us, not by the kernel.
    let _ = stream.set_nodelay(true);
    let link = Arc::new(Link::new(stream));
    let (wall, mono) = (shared.clock.wall(), shared.clock.mono());
    let conn =
        Arc::new(Conn::new(ConnKind::Route, shared.registry.next_cid(), peer, link.clone(), wall, mono));
    conn.outbound.set_write_policy(cluster.config().write_policy);
    (Route::new(conn, url, is_explicit), link)
}

/// One connection that is dialled again and again.
#[derive(Clone)]
struct Dialler {
    url: RouteUrl,
    /// For this account only.
    account: Option<String>,
    /// The configuration names the server; else another server told of it, in this mode.
    told: Option<GossipMode>,
}

/// Dials a server that the configuration names, for the first place of the pool and for each account that has a
/// connection of its own.
pub(super) fn keep_dialling(shared: Arc<Shared>, cluster: Arc<Cluster>, url: RouteUrl) {
    begin(&shared, &cluster, &url, None);
}

fn begin(shared: &Arc<Shared>, cluster: &Arc<Cluster>, url: &RouteUrl, told: Option<GossipMode>) {
    let config = cluster.config();
    let has_pool = config.local.pool_size.is_some();
    let accounts = config.local.accounts.iter().filter(|_| has_pool).cloned().map(Some);
    for account in accounts.chain([None]) {
        let dialler = Dialler { url: url.clone(), account, told };
        tokio::spawn(dialler.run(shared.clone(), cluster.clone()));
    }
}

/// Dials known servers for an account that has connections of its own now.
pub(super) fn dial_for_account(
    shared: &Arc<Shared>,
    cluster: &Arc<Cluster>,
    urls: &HashSet<RouteUrl>,
    account: &str,
) {
    for url in urls {
        let told = (!cluster.config().routes.contains(url)).then_some(GossipMode::Default);
        let dialler = Dialler { url: url.clone(), account: Some(account.to_owned()), told };
        tokio::spawn(dialler.run(shared.clone(), cluster.clone()));
    }
}

/// Dials once more for the next free place of the pool, if there is one.
pub(super) fn dial_next_place(
    shared: &Arc<Shared>,
    cluster: &Arc<Cluster>,
    url: &RouteUrl,
    is_explicit: bool,
    server_id: &str,
) {
    let places = {
        let peers = cluster.peers.lock();
        let info = peers.infos().find(|info| info.server_id == server_id).cloned();
        let free = info.filter(|info| peers.free_slot(info).is_some());
        free.and_then(|info| peers.pool_size(&info)).unwrap_or(0)
    };
    // Those who have lost their places dial again themselves.
    let dialling = cluster.dialling.lock().get(url).copied().unwrap_or(0);
    if dialling < places {
        let told = (!is_explicit).then_some(GossipMode::Default);
        let dialler = Dialler { url: url.clone(), account: None, told };
        tokio::spawn(dialler.run(shared.clone(), cluster.clone()));
    }
}

/// Another server told of this one.
pub(super) fn dial_told(shared: &Arc<Shared>, cluster: &Arc<Cluster>, info: &ServerInfo) {
    let is_known = {
        let peers = cluster.peers.lock();
        peers.is_known(&info.server_id) || peers.local().info.server_id == info.server_id
    };
    let Some(mut url) = parse_ip(&info.ip) else { return };
    let is_configured = cluster.config().routes.iter().any(|r| r.host == url.host && r.port == url.port);
    let is_new = || {
        let mut told = cluster.told.lock();
        told.len() < TOLD_MAX && told.insert(info.server_id.clone())
    };
    if info.auth_required {
        url.credentials.clone_from(&cluster.config().local.credentials);
    }
    let is_dialled = cluster.dialling.lock().contains_key(&url);
    if is_known || is_configured || is_dialled || !is_new() {
        return;
    }
    let (shared, cluster, id) = (shared.clone(), cluster.clone(), info.server_id.clone());
    let told = GossipMode::from_number(info.gossip_mode);
    begin(&shared, &cluster, &url, Some(told));
    tokio::spawn(async move {
        // From then on it may be told of again.
        tokio::time::sleep(RETRY).await;
        cluster.told.lock().remove(&id);
    });
}

/// `nats-route://host:port/`.
pub(super) fn parse_ip(text: &str) -> Option<RouteUrl> {
    let address = text.strip_prefix("nats-route://")?.trim_end_matches('/');
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(RouteUrl { host, port: port.parse().ok()?, credentials: None })
}

impl Dialler {
    /// Dials until it makes no sense any more.
    async fn run(self, shared: Arc<Shared>, cluster: Arc<Cluster>) {
        if self.account.is_none() {
            *cluster.dialling.lock().entry(self.url.clone()).or_insert(0) += 1;
        }
        self.dial(&shared, &cluster).await;
        if self.account.is_none() {
            let mut dialling = cluster.dialling.lock();
            let left = dialling.get(&self.url).map_or(0, |count| count - 1);
            if left == 0 {
                dialling.remove(&self.url)
            } else {
                dialling.insert(self.url.clone(), left)
            };
        }
    }

    async fn dial(&self, shared: &Arc<Shared>, cluster: &Arc<Cluster>) {
        let mut failures: u32 = 0;
        let mut refusals: u32 = 0;
        let mut collisions: u32 = 0;
        while self.is_wanted(shared, cluster) {
            let begun = shared.clock.mono();
            let ended = match self.connect().await {
                Ok((stream, peer)) => {
                    failures = 0;
                    self.serve(shared, cluster, stream, peer, refusals).await
                }
                Err(error) => {
                    failures += 1;
                    self.report(&error, failures);
                    if self.told.is_some() && failures > cluster.config().connect_retries {
                        return;
                    }
                    Ended::Refused
                }
            };
            if self.told.is_none() {
                match &ended {
                    Ended::Ourselves => cluster.reached(shared, &self.url, Leads::Here),
                    Ended::Duplicate(id) => cluster.reached(shared, &self.url, Leads::To(id.clone())),
                    Ended::AfterUse | Ended::Refused => {}
                }
            }
            match &ended {
                Ended::Ourselves => return,
                // Whoever was told of dials again when it is told of again; the place is in good hands.
                Ended::Duplicate(_) if self.told.is_some() => return,
                Ended::AfterUse | Ended::Duplicate(_) => refusals = 0,
                // What other servers tell is no reason to ask for ever.
                Ended::Refused if self.told.is_some() && refusals >= REFUSALS_MAX => return,
                Ended::Refused if failures == 0 => refusals += 1,
                Ended::Refused => {}
            }
            let may_collide = matches!(ended, Ended::AfterUse | Ended::Duplicate(_));
            let was_short = shared.clock.mono().since(begun) < COLLISION;
            collisions = if may_collide && was_short { collisions + 1 } else { 0 };
            let pause = if (1..=COLLISIONS_MAX).contains(&collisions) {
                jitter(shared)
            } else {
                self.pause(shared, cluster, &ended, failures, refusals)
            };
            tokio::time::sleep(pause).await;
            if let Ended::Duplicate(server_id) = &ended {
                self.await_place(shared, cluster, server_id).await;
            }
        }
    }

    /// True as long as the settings in force want the server to be dialled.
    fn is_wanted(&self, shared: &Shared, cluster: &Cluster) -> bool {
        let config = cluster.config();
        let names_server = self.told.is_some() || config.routes.contains(&self.url);
        let names_account = self.account.as_ref().is_none_or(|account| {
            config.local.pool_size.is_some() && config.local.accounts.contains(account)
        });
        names_server && names_account && !shared.stopping.load(Ordering::Relaxed)
    }

    /// Waits until the connection that has the place is gone.
    async fn await_place(&self, shared: &Shared, cluster: &Cluster, server_id: &str) {
        while !cluster.peers.lock().lacks(server_id, self.account.as_deref()) {
            if !self.is_wanted(shared, cluster) {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    fn pause(
        &self,
        shared: &Shared,
        cluster: &Cluster,
        ended: &Ended,
        failures: u32,
        refusals: u32,
    ) -> Duration {
        let jitter = jitter(shared);
        if self.told.is_some() && *ended == Ended::AfterUse {
            return jitter;
        }
        let first = first_pause(failures).filter(|_| self.told.is_none());
        let later = || pause_after(failures.max(refusals), cluster.config().connect_backoff) + jitter;
        first.unwrap_or_else(later)
    }

    async fn connect(&self) -> std::io::Result<(TcpStream, SocketAddr)> {
        let connecting = async {
            let stream = TcpStream::connect((self.url.host.as_str(), self.url.port)).await?;
            let peer = stream.peer_addr()?;
            Ok((stream, peer))
        };
        let timed_out = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
        tokio::time::timeout(DIAL_TIMEOUT, connecting).await.map_err(timed_out)?
    }

    fn report(&self, error: &std::io::Error, attempt: u32) {
        if is_reported(attempt) {
            let RouteUrl { host, port, .. } = &self.url;
            tracing::error!(
                "Error trying to connect to route (attempt {attempt}): dial tcp {host}:{port}: {error}"
            );
        }
    }

    async fn serve(
        &self,
        shared: &Arc<Shared>,
        cluster: &Arc<Cluster>,
        stream: TcpStream,
        peer: SocketAddr,
        refusals: u32,
    ) -> Ended {
        let (route, link) =
            open(shared, cluster, stream, canonical(peer), Some(self.url.clone()), self.told.is_none());
        let role = Role::Dialled {
            account: self.account.clone(),
            credentials: self.url.credentials.clone(),
            gossip: self.told.unwrap_or_default(),
        };
        let origin = self.told.map_or(Origin::Configured, Origin::Told);
        let (shared, cluster) = (shared.clone(), cluster.clone());
        let attempt = Attempt { url: self.url.clone(), is_quiet: !is_reported(refusals + 1) };
        RouteSession::new(shared, cluster, route, link, role, origin, Some(attempt)).run().await
    }
}

fn jitter(shared: &Shared) -> Duration {
    Duration::from_nanos(shared.rng.below(u64::try_from(JITTER.as_nanos()).unwrap_or(0)))
}

/// Every attempt of the first few that fail in a row is worth a line in the log, then about one a minute.
fn is_reported(attempt: u32) -> bool {
    attempt <= 3 || attempt.is_multiple_of(60)
}

/// How long to wait after the first failures in a row to reach a server at all.
fn first_pause(failures: u32) -> Option<Duration> {
    FIRST_RETRIES.get(usize::try_from(failures).ok()?.checked_sub(1)?).copied()
}

/// How long to wait after so many failures in a row.
fn pause_after(failures: u32, grows: bool) -> Duration {
    let doublings = if grows { failures.saturating_sub(1).min(5) } else { 0 };
    (RETRY * (1 << doublings)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_half_a_minute() {
        let seconds = |grows| [0, 1, 2, 3, 5, 6, 100].map(|failures| pause_after(failures, grows).as_secs());
        assert_eq!(seconds(true), [1, 1, 2, 4, 16, 30, 30]);
        assert_eq!(seconds(false), [1; 7]);
    }

    #[test]
    fn servers_that_start_a_moment_later_are_reached_in_a_moment() {
        let millis = [0, 1, 2, 3, 4, 5, 99].map(|failures| first_pause(failures).map(|p| p.as_millis()));
        assert_eq!(millis, [None, Some(50), Some(100), Some(200), Some(400), None, None]);
    }

    #[test]
    fn addresses_that_other_servers_tell() {
        let parsed = parse_ip("nats-route://10.0.0.3:6222/").map(|url| (url.host, url.port));
        assert_eq!(parsed, Some(("10.0.0.3".to_owned(), 6222)));
        assert_eq!(parse_ip("nats-route://[::1]:1/").map(|url| url.host), Some("::1".to_owned()));
        for bad in ["", "10.0.0.3:6222", "nats-route://host/", "nats-route://host:x/"] {
            assert_eq!(parse_ip(bad), None, "{bad}");
        }
    }
}
