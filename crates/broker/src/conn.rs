use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use linnet_auth::{Authenticator, Credentials, Permissions};
use linnet_ids::{Mono, Wall};
use parking_lot::Mutex;

use crate::account::Account;
use crate::broker::Shared;
use crate::close::CloseReason;
use crate::link::Link;
use crate::outbound::Outbound;
use crate::reply_permissions::ReplyPermissions;
use crate::subscription::SubRef;
use crate::tls::ConnTls;

/// What is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnKind {
    Client,
    /// Another server of the cluster.
    Route,
}

impl ConnKind {
    /// How many times `max_pending` may wait. A route carries what everybody publishes: it is not closed for a moment in
    /// which its other side pauses. nats-server sets no bound.
    fn pending_factor(self) -> usize {
        match self {
            Self::Client => 1,
            Self::Route => 4,
        }
    }
}

/// A connection as others see it: publishers append to its queue, monitoring reads its counters. The
/// parsing state belongs to the reader task (`session`).
pub struct Conn {
    kind: ConnKind,
    cid: u64,
    peer: SocketAddr,
    start: Wall,
    pub(crate) start_mono: Mono,
    pub(crate) outbound: Arc<Outbound>,
    client: Mutex<ClientInfo>,
    login: Mutex<Option<Login>>,
    permissions: Mutex<Option<Arc<Permissions>>>,
    is_limited: AtomicBool,
    pub(crate) replies: ReplyPermissions,
    pub(crate) subs: Mutex<HashMap<Box<[u8]>, SubRef>>,
    pub(crate) no_echo: AtomicBool,
    pub(crate) headers: AtomicBool,
    /// Where a publisher had its batch for this connection: a guess for the next one.
    pub(crate) staged_at: AtomicUsize,
    pub(crate) in_msgs: AtomicU64,
    pub(crate) in_bytes: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) timers: Timers,
    /// Set once the handshake is done.
    pub(crate) tls: OnceLock<Arc<ConnTls>>,
    close_reason: OnceLock<CloseReason>,
}

/// Identity of a client, from CONNECT and the login.
#[derive(Clone, Default)]
pub struct ClientInfo {
    /// Name of the connection.
    pub name: String,
    /// Language of the client library.
    pub lang: String,
    /// Version of the client library.
    pub version: String,
    /// User, `[REDACTED]` for a token.
    pub user: Option<String>,
    /// Account; `None` before the login.
    pub account: Option<Arc<Account>>,
    /// The client handles asynchronous INFO and has sent its first PING.
    pub wants_info: bool,
}

/// How a client logged in, to be judged again when the authorization changes.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) credentials: Arc<Credentials>,
    /// The authorization that let it in.
    pub(crate) checked_by: Arc<Authenticator>,
}

/// What the sweeper looks at. All times are monotonic nanoseconds; 0 means unset.
#[derive(Default)]
pub(crate) struct Timers {
    /// Last traffic from the client or delivery to it.
    pub(crate) last_activity: AtomicU64,
    pub(crate) login_deadline: AtomicU64,
    pub(crate) next_ping: AtomicU64,
    pub(crate) pings_out: AtomicU32,
    pub(crate) ping_sent: AtomicU64,
    pub(crate) rtt: AtomicU64,
}

/// Values of one connection for monitoring.
#[derive(Clone)]
pub struct ConnSnapshot {
    /// Id.
    pub cid: u64,
    /// Remote address.
    pub peer: SocketAddr,
    /// When it was accepted.
    pub start: Wall,
    /// Time since it was accepted (until it closed, for closed ones).
    pub uptime: Duration,
    /// Time since the last traffic.
    pub idle: Duration,
    /// Round-trip time; zero if not measured.
    pub rtt: Duration,
    /// Bytes waiting in its queue.
    pub pending_bytes: usize,
    /// Messages from the client.
    pub in_msgs: u64,
    /// Bytes from the client.
    pub in_bytes: u64,
    /// Messages to the client.
    pub out_msgs: u64,
    /// Bytes to the client.
    pub out_bytes: u64,
    /// Times it was paused for a slow subscriber.
    pub stalls: u64,
    /// Number of subscriptions.
    pub subscriptions: usize,
    /// Identity.
    pub client: ClientInfo,
    /// TLS; `None` without.
    pub tls: Option<Arc<ConnTls>>,
}

impl Conn {
    pub(crate) fn new(
        kind: ConnKind,
        cid: u64,
        peer: SocketAddr,
        link: Arc<Link>,
        start: Wall,
        start_mono: Mono,
    ) -> Self {
        let timers = Timers { last_activity: AtomicU64::new(start_mono.0), ..Timers::default() };
        Self {
            kind,
            cid,
            peer,
            start,
            start_mono,
            outbound: Arc::new(Outbound::new(link, kind.pending_factor())),
            client: Mutex::default(),
            login: Mutex::default(),
            permissions: Mutex::default(),
            is_limited: AtomicBool::new(false),
            replies: ReplyPermissions::default(),
            subs: Mutex::default(),
            no_echo: AtomicBool::new(false),
            headers: AtomicBool::new(false),
            staged_at: AtomicUsize::new(0),
            in_msgs: AtomicU64::new(0),
            in_bytes: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            timers,
            tls: OnceLock::new(),
            close_reason: OnceLock::new(),
        }
    }

    pub(crate) fn kind(&self) -> ConnKind {
        self.kind
    }

    /// Id, shared by all kinds of connections.
    pub fn cid(&self) -> u64 {
        self.cid
    }

    /// Remote address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Identity.
    pub fn client(&self) -> ClientInfo {
        self.client.lock().clone()
    }

    /// Account; `None` before the login.
    pub fn account(&self) -> Option<Arc<Account>> {
        self.client.lock().account.clone()
    }

    pub(crate) fn update_client(&self, change: impl FnOnce(&mut ClientInfo)) {
        change(&mut self.client.lock());
    }

    /// What its user may do; `None` for everything.
    pub fn permissions(&self) -> Option<Arc<Permissions>> {
        self.permissions.lock().clone()
    }

    /// True if the user has permissions at all; spares the hot path the lock.
    pub(crate) fn has_permissions(&self) -> bool {
        self.is_limited.load(Ordering::Relaxed)
    }

    pub(crate) fn set_permissions(&self, permissions: Option<Arc<Permissions>>) {
        self.is_limited.store(permissions.is_some(), Ordering::Relaxed);
        *self.permissions.lock() = permissions;
    }

    pub(crate) fn login(&self) -> Option<Login> {
        self.login.lock().clone()
    }

    pub(crate) fn set_login(&self, credentials: Credentials, checked_by: Arc<Authenticator>) {
        *self.login.lock() = Some(Login { credentials: Arc::new(credentials), checked_by });
    }

    /// The present authorization lets the client stay.
    pub(crate) fn checked(&self, by: &Arc<Authenticator>) {
        if let Some(login) = self.login.lock().as_mut() {
            login.checked_by = by.clone();
        }
    }

    /// Ends the connection once what is queued is written.
    pub(crate) fn finish(&self, shared: &Shared, reason: CloseReason) {
        self.note_reason(reason);
        self.outbound.finish(&shared.runtime, std::net::Shutdown::Both);
    }

    /// Records why the connection ends; the first reason stays.
    pub(crate) fn note_reason(&self, reason: CloseReason) {
        let _ = self.close_reason.set(reason);
    }

    /// Why it ended; `None` while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.close_reason.get().copied()
    }

    /// Ends the connection at once; what is queued is lost. Its reader task cleans up.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.note_reason(reason);
        self.outbound.close();
    }

    /// Start of a log line about this connection, as nats-server writes it (configuration, "Log").
    pub fn log_prefix(&self) -> String {
        if self.kind == ConnKind::Route {
            return format!("{} - rid:{}", self.peer, self.cid);
        }
        let client = self.client.lock();
        let mut text = format!("{} - cid:{}", self.peer, self.cid);
        let parts: Vec<&str> = [&client.version, &client.lang, &client.name]
            .into_iter()
            .map(String::as_str)
            .filter(|p| !p.is_empty())
            .collect();
        if !parts.is_empty() {
            let version = if client.version.is_empty() { "" } else { "v" };
            text.push_str(&format!(" - \"{version}{}\"", parts.join(":")));
        }
        if let Some(account) = &client.account {
            match &client.user {
                Some(user) => text.push_str(&format!(" - \"{}/user:{user}\"", account.name())),
                None => text.push_str(&format!(" - \"{}\"", account.name())),
            }
        }
        text
    }

    /// The subscriptions.
    pub fn subscriptions(&self) -> Vec<SubRef> {
        self.subs.lock().values().cloned().collect()
    }

    /// Values for monitoring at `now`.
    pub fn snapshot(&self, now: Mono) -> ConnSnapshot {
        let (out_msgs, out_bytes) = self.outbound.delivered();
        let last = Mono(self.timers.last_activity.load(Ordering::Relaxed));
        ConnSnapshot {
            cid: self.cid,
            peer: self.peer,
            start: self.start,
            uptime: now.since(self.start_mono),
            idle: now.since(last),
            rtt: Duration::from_nanos(self.timers.rtt.load(Ordering::Relaxed)),
            pending_bytes: self.outbound.pending(),
            in_msgs: self.in_msgs.load(Ordering::Relaxed),
            in_bytes: self.in_bytes.load(Ordering::Relaxed),
            out_msgs,
            out_bytes,
            stalls: self.stalls.load(Ordering::Relaxed),
            subscriptions: self.subs.lock().len(),
            client: self.client(),
            tls: self.tls.get().cloned(),
        }
    }
}
