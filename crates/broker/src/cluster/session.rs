//! One route: its handshake, then what the other server says.

mod beginning;
#[cfg(test)]
mod convergence;
mod hearing;
mod reading;
mod secure;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_auth::Permissions;
use linnet_links::{Handshake, Origin, Role, Slot};
use linnet_s2::Decoder;
use linnet_wire::encode;

use super::interest::RemoteInterest;
use super::permissions::hearing;
use super::route::Route;
use super::{Cluster, RouteUrl};
use crate::account::Account;
use crate::broker::Shared;
use crate::close::CloseReason;
use crate::link::Link;
use crate::router::{Publisher, flush_conn};

/// First PING after this long.
const FIRST_PING: Duration = Duration::from_secs(1);
/// How often keep-alives are looked at.
const TICK: Duration = Duration::from_millis(250);

/// A route as only its task touches it.
pub(super) struct RouteSession {
    shared: Arc<Shared>,
    cluster: Arc<Cluster>,
    route: Arc<Route>,
    link: Arc<Link>,
    handshake: Handshake,
    origin: Origin,
    /// What was dialled, to dial it again for the next place of the pool.
    url: Option<RouteUrl>,
    /// Attempts before this one came to the same end.
    is_quiet: bool,
    publisher: Publisher,
    remote: RemoteInterest,
    /// Bytes that are not parsed yet.
    buffer: Vec<u8>,
    /// Set once what is read is compressed.
    decoder: Option<Box<Decoder>>,
    /// Bytes that are not decompressed yet.
    packed: Vec<u8>,
    /// Answers since everything was written.
    answers: u32,
    /// Accounts of messages before, the last one first.
    accounts: Vec<Arc<Account>>,
    /// Accounts that are not there, as far as the log has been told.
    unknown_accounts: HashSet<String>,
    /// Interest of the other side that counts; `None` for all.
    permissions: Option<Arc<Permissions>>,
    /// The reload whose settings are followed.
    epoch: u64,
    is_counted: bool,
    established: Option<Slot>,
    owes_next_place: bool,
    in_msgs: u64,
    in_bytes: u64,
}

/// One of the times that a server is dialled.
pub(super) struct Attempt {
    pub(super) url: RouteUrl,
    /// Attempts before this one came to nothing, and the log says so.
    pub(super) is_quiet: bool,
}

/// How a route ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It carried messages before.
    AfterUse,
    /// It did not come to that; dialling again may help.
    Refused,
    /// Its place with this server is taken.
    Duplicate(String),
    /// It leads to this very server.
    Ourselves,
}

/// Why the session stops.
struct Stop {
    reason: CloseReason,
    /// What the other side is told.
    said: Option<String>,
}

impl Stop {
    fn silent(reason: CloseReason) -> Self {
        Self { reason, said: None }
    }
}

impl RouteSession {
    pub(super) fn new(
        shared: Arc<Shared>,
        cluster: Arc<Cluster>,
        route: Arc<Route>,
        link: Arc<Link>,
        role: Role,
        origin: Origin,
        dialled: Option<Attempt>,
    ) -> Self {
        let (permissions, epoch) =
            (cluster.config().permissions.clone(), shared.epoch.load(Ordering::SeqCst));
        route.conn.set_permissions(permissions.clone());
        let is_counted = role == Role::Accepted;
        let nonce = format!("{:015x}", shared.rng.next_u64() & 0xfff_ffff_ffff_ffff);
        Self {
            publisher: Publisher::new(shared.clone()),
            handshake: Handshake::new(role, nonce),
            shared,
            cluster,
            route,
            link,
            origin,
            is_quiet: dialled.as_ref().is_some_and(|attempt| attempt.is_quiet),
            url: dialled.map(|attempt| attempt.url),
            remote: RemoteInterest::default(),
            buffer: Vec::new(),
            decoder: None,
            packed: Vec::new(),
            answers: 0,
            accounts: Vec::new(),
            unknown_accounts: HashSet::new(),
            permissions,
            epoch,
            is_counted,
            established: None,
            owes_next_place: false,
            in_msgs: 0,
            in_bytes: 0,
        }
    }

    /// Serves the route until it ends.
    pub(super) async fn run(mut self) -> Ended {
        let mut ended = Ended::Refused;
        let stop = match self.begin().await {
            Err(stop) => stop,
            Ok(()) => self.serve().await,
        };
        if self.established.is_some() {
            ended = Ended::AfterUse;
        } else if stop.reason == CloseReason::DuplicateRoute {
            let peer = self.peer_id();
            let is_self = self.cluster.config().local.info.server_id == peer;
            ended = if is_self { Ended::Ourselves } else { Ended::Duplicate(peer) };
        }
        self.end(&stop);
        ended
    }

    /// Makes the connection as secure as it has to be, and says the first word.
    async fn begin(&mut self) -> Result<(), Stop> {
        let config = self.cluster.config();
        if let Some(tls) = &config.tls
            && let Err(error) = self.secure(tls).await
        {
            self.complain(&format!("TLS route handshake error: {error}"));
            return Err(Stop::silent(CloseReason::TlsHandshakeFailure));
        }
        let begin = self.handshake.begin(&self.cluster.peers.lock());
        self.follow(begin)?;
        self.publisher.flush();
        Ok(())
    }

    fn peer_id(&self) -> String {
        self.route.conn.client().name
    }

    /// Reads, writes and keeps the route alive until something ends it.
    async fn serve(&mut self) -> Stop {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let begun = self.shared.clock.mono();
        let mut next_ping = begun + FIRST_PING;
        let (link, route) = (self.link.clone(), self.route.clone());
        loop {
            tokio::select! {
                ready = link.tcp().readable() => {
                    if ready.is_err() {
                        return Stop::silent(CloseReason::ReadError);
                    }
                    if let Err(stop) = self.read_some().await {
                        return stop;
                    }
                }
                () = route.wake.notified() => self.write(),
                _ = ticks.tick() => {
                    self.keep_up();
                    let now = self.shared.clock.mono();
                    let is_late = now.since(begun) > self.cluster.config().handshake_timeout;
                    if self.established.is_none() && is_late {
                        return Stop {
                            reason: CloseReason::AuthenticationTimeout,
                            said: Some("Authentication Timeout".to_owned()),
                        };
                    }
                    if self.established.is_some() && now >= next_ping {
                        next_ping = now + self.cluster.config().ping_interval;
                        if let Err(stop) = self.ping() {
                            return stop;
                        }
                    }
                }
            }
        }
    }

    fn write(&self) {
        flush_conn(&self.shared, &self.route.conn, self.shared.config.load().write_policy);
    }

    fn ping(&mut self) -> Result<(), Stop> {
        let timers = &self.route.conn.timers;
        if timers.pings_out.load(Ordering::Relaxed) >= self.cluster.config().ping_max {
            self.shared.stats.stale_connections.fetch_add(1, Ordering::Relaxed);
            self.shared.stats.stale_routes.fetch_add(1, Ordering::Relaxed);
            let said = Some("Stale Connection".to_owned());
            return Err(Stop { reason: CloseReason::StaleConnection, said });
        }
        timers.pings_out.fetch_add(1, Ordering::Relaxed);
        timers.ping_sent.store(self.shared.clock.mono().0, Ordering::Relaxed);
        self.publisher.push(&self.route.conn, encode::PING);
        self.publisher.flush();
        Ok(())
    }

    /// Notices a reload: what was remembered is forgotten, and interest that does not count any more goes.
    fn keep_up(&mut self) {
        let epoch = self.shared.epoch.load(Ordering::SeqCst);
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.publisher.reconfigure();
        self.publisher.release();
        self.accounts.clear();
        self.permissions = self.cluster.config().permissions.clone();
        let permissions = self.permissions.clone();
        self.route.conn.set_permissions(permissions.clone());
        self.remote.judge(|subject| hearing(permissions.as_deref(), subject));
        self.route.interests.store(self.remote.len(), Ordering::Relaxed);
    }

    /// Logs what is wrong; an attempt like many before it is not worth an operator's attention.
    fn complain(&self, text: &str) {
        if self.is_quiet {
            tracing::debug!("{} - {text}", self.prefix());
        } else {
            tracing::error!("{} - {text}", self.prefix());
        }
    }

    fn prefix(&self) -> String {
        self.route.conn.log_prefix()
    }

    fn end(mut self, stop: &Stop) {
        self.count_finished();
        let conn = &self.route.conn;
        conn.note_reason(stop.reason);
        let reason = conn.close_reason().unwrap_or(stop.reason);
        if let Some(text) = &stop.said {
            self.complain(text);
            self.say_error(text);
            self.publisher.flush();
        }
        let conn = &self.route.conn;
        conn.outbound.finish(&self.shared.runtime, std::net::Shutdown::Both);
        if self.established.is_some() {
            self.cluster.leave(&self.shared, &self.route);
        }
        let remote = self.route.bound().map(|bound| format!(" - Remote: {}", bound.server_name));
        let count = self.remote.len();
        self.remote.forget();
        let text = reason.as_str();
        let line =
            format!("{} - Router connection closed: {text}{}", self.prefix(), remote.unwrap_or_default());
        if self.is_quiet {
            tracing::debug!("{line}");
        } else {
            tracing::info!("{line}");
        }
        tracing::debug!("{} - {count} interests of the route are gone", self.prefix());
    }
}
