//! Who the client is: INFO, CONNECT, its account.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_auth::{Authenticator, Credentials, Identity};
use linnet_wire::{Connect, encode};

use super::{End, Next, Session};
use crate::broker::Shared;
use crate::close::CloseReason;
use crate::conn::Conn;
use crate::reload::{prune, recheck};
use crate::subscription::SubRef;

/// First PING after this long, plus up to a fifth.
const FIRST_PING: Duration = Duration::from_secs(2);

/// The INFO a new connection gets.
pub(crate) fn greeting(shared: &Shared, conn: &Conn) -> Vec<u8> {
    let mut info = shared.info.read().clone();
    info.client_id = conn.cid();
    info.client_ip = conn.peer().ip().to_string();
    let mut line = Vec::with_capacity(512);
    info.encode(&mut line);
    line
}

/// The log's words about a client that may not log in.
pub(crate) fn refusal(user: &str, token: &str) -> String {
    match (user, token) {
        ("", "") => "authentication error".to_owned(),
        ("", _) => "authentication error - Token \"[REDACTED]\"".to_owned(),
        (user, _) => format!("authentication error - User \"{user}\""),
    }
}

impl Session {
    /// Sends INFO.
    pub(super) fn greet(&mut self) {
        let line = greeting(&self.shared, &self.conn);
        self.publisher.push(&self.conn, &line);
        self.publisher.flush();
    }

    /// Starts the timers; from here on the client is expected to speak.
    pub(super) fn await_login(&mut self) {
        let now = self.shared.clock.mono();
        let timers = &self.conn.timers;
        let first = nanos(FIRST_PING);
        timers.next_ping.store(now.0 + first + self.shared.rng.below(first / 5), Ordering::Relaxed);
        if self.must_login {
            let timeout = self.shared.config.load().auth_timeout;
            timers.login_deadline.store((now + timeout).0, Ordering::Relaxed);
            return;
        }
        let authenticator = self.shared.authenticator.load_full();
        let given = self.credentials(&Connect::default());
        if let Some(identity) = authenticator.verify(&given) {
            // Without a login the client may act at once, as the anonymous user.
            let _ = self.bind(identity);
            self.conn.set_login(given, authenticator);
        }
    }

    pub(super) fn on_connect(&mut self, json: &[u8]) -> Option<Next> {
        let Ok(connect) = Connect::parse(json) else {
            return Some(Next::End(End::Said(CloseReason::ProtocolViolation)));
        };
        let authenticator = self.shared.authenticator.load_full();
        let given = self.credentials(&connect);
        if authenticator.is_slow(&given) {
            return Some(Next::SlowLogin(Box::new(connect)));
        }
        let identity = authenticator.verify(&given);
        self.login(connect, identity, authenticator).err().map(Next::End)
    }

    /// Checks a hashed password away from the tasks that move messages.
    pub(super) async fn verify_slowly(&self, connect: &Connect, by: &Arc<Authenticator>) -> Option<Identity> {
        let Ok(_permit) = self.shared.slow_logins.acquire().await else { return None };
        let authenticator = by.clone();
        let given = self.credentials(connect);
        tokio::task::spawn_blocking(move || authenticator.verify(&given)).await.ok().flatten()
    }

    fn credentials(&self, connect: &Connect) -> Credentials {
        let peer = self.conn.tls.get().and_then(|tls| tls.peer.as_ref());
        Credentials {
            user: connect.user.clone(),
            pass: connect.pass.clone(),
            token: connect.auth_token.clone(),
            certificate: peer.map(|peer| peer.names.clone()),
        }
    }

    pub(super) fn refuse_login(&mut self) -> End {
        if let Some(observer) = self.shared.observer.get() {
            self.conn.note_reason(CloseReason::AuthenticationFailure);
            observer.refused(&self.conn);
        }
        self.end_with(CloseReason::AuthenticationFailure, "Authorization Violation")
    }

    pub(super) fn login(
        &mut self,
        connect: Connect,
        identity: Option<Identity>,
        checked_by: Arc<Authenticator>,
    ) -> Result<(), End> {
        if !(0..=1).contains(&connect.protocol) {
            return Err(self.end_with(CloseReason::BadClientProtocolVersion, "invalid client protocol"));
        }
        if !connect.account.is_empty() || connect.new_account {
            return Err(self.refuse_login());
        }
        let given = self.credentials(&connect);
        let is_plain = identity.is_some() && connect.user.is_empty();
        let mapped = if is_plain { None } else { checked_by.mapped_user(&given) };
        if mapped.is_some() && !connect.user.is_empty() {
            let name = &connect.user;
            tracing::warn!("User {name:?} found in connect proto, but user required from cert");
        }
        let Some(identity) = identity else {
            let user = mapped.unwrap_or(&connect.user);
            tracing::error!("{} - {}", self.conn.log_prefix(), refusal(user, &connect.auth_token));
            self.introduce(&connect);
            let user = Some(user.to_owned()).filter(|user| !user.is_empty());
            self.conn.update_client(|c| c.user = user);
            return Err(self.refuse_login());
        };
        let with_headers = connect.headers && self.shared.config.load().headers;
        if connect.no_responders && !with_headers {
            let text = "no responders requires headers support";
            return Err(self.end_with(CloseReason::NoRespondersRequiresHeaders, text));
        }
        self.limits.headers = with_headers;
        self.conn.headers.store(with_headers, Ordering::Relaxed);
        self.conn.no_echo.store(!connect.echo, Ordering::Relaxed);
        self.verbose = connect.verbose;
        self.pedantic = connect.pedantic;
        self.no_responders = connect.no_responders;
        self.introduce(&connect);
        self.bind(identity)?;
        self.conn.set_login(given, checked_by);
        self.must_login = false;
        self.owes_connect_info = connect.protocol >= 1;
        self.conn.timers.login_deadline.store(0, Ordering::Relaxed);
        self.estimate_rtt();
        if self.verbose {
            self.publisher.push(&self.conn, encode::OK);
        }
        if let (Some(observer), Some(account)) = (self.shared.observer.get(), &self.account) {
            observer.connected(&self.conn, account);
        }
        Ok(())
    }

    /// Until a PING is answered, the time from INFO to CONNECT stands for the round trip, as with nats-server.
    fn estimate_rtt(&self) {
        let timers = &self.conn.timers;
        if timers.rtt.load(Ordering::Relaxed) == 0 {
            let uptime = self.conn.snapshot(self.shared.clock.mono()).uptime;
            timers.rtt.store(nanos(uptime).max(1), Ordering::Relaxed);
        }
    }

    /// Notes what the client says of itself.
    fn introduce(&self, connect: &Connect) {
        self.conn.update_client(|c| {
            c.name.clone_from(&connect.name);
            c.lang.clone_from(&connect.lang);
            c.version.clone_from(&connect.version);
        });
    }

    /// Puts the connection into its account. A second login drops the subscriptions of the first.
    pub(super) fn bind(&mut self, identity: Identity) -> Result<(), End> {
        let Some(account) = self.shared.accounts.load().get(&identity.account).cloned() else {
            return Err(self.refuse_login());
        };
        let is_same = self.account.as_ref().is_some_and(|a| Arc::ptr_eq(a, &account));
        if !is_same {
            let before = account.connections.fetch_add(1, Ordering::Relaxed);
            let elsewhere = account.connections_elsewhere();
            if account.limits().max_connections.is_some_and(|max| before + elsewhere >= max) {
                account.connections.fetch_sub(1, Ordering::Relaxed);
                let text = "maximum account active connections exceeded";
                return Err(self.end_with(CloseReason::MaximumAccountConnectionsExceeded, text));
            }
        }
        if let Some(old) = self.account.take() {
            let subs: Vec<SubRef> = self.conn.subs.lock().drain().map(|(_, sub)| sub).collect();
            subs.iter().for_each(|sub| old.remove(sub));
            if !is_same {
                old.connections.fetch_sub(1, Ordering::Relaxed);
            }
            self.publisher.release();
        }
        self.conn.set_permissions(identity.permissions);
        self.conn.update_client(|c| {
            c.user = identity.user;
            c.account = Some(account.clone());
        });
        self.account = Some(account);
        self.take_over_limits();
        Ok(())
    }

    /// The limits in force for what the client sends.
    fn take_over_limits(&mut self) {
        let config = self.shared.config.load();
        let of_account = self.account.as_ref().and_then(|account| account.limits().max_payload);
        self.limits.max_payload = Some(of_account.map_or(config.max_payload, |m| m.min(config.max_payload)));
        self.limits.max_control_line = config.max_control_line;
    }

    /// Notices a reload: cached decisions are forgotten, and what this connection did by the old settings after
    /// others had looked is judged again.
    pub(super) fn keep_up(&mut self) {
        let epoch = self.shared.epoch.load(Ordering::SeqCst);
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        self.take_over_limits();
        self.publisher.reconfigure();
        self.publisher.release();
        recheck(&self.shared, &self.conn);
        if let Some(account) = &self.account {
            prune(&self.shared, &self.conn, account, self.conn.permissions().as_deref());
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
