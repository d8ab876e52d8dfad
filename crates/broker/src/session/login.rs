//! Who the client is: INFO, CONNECT, its account.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_auth::{Credentials, Identity};
use linnet_wire::{Connect, encode};

use super::{End, Next, Session};
use crate::broker::Shared;
use crate::close::CloseReason;
use crate::conn::Conn;
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

impl Session {
    /// Sends INFO and starts the timers.
    pub(super) fn greet(&mut self) {
        let line = greeting(&self.shared, &self.conn);
        self.publisher.push(&self.conn, &line);
        self.publisher.flush();
        let now = self.shared.clock.mono();
        let timers = &self.conn.timers;
        let first = nanos(FIRST_PING);
        timers.next_ping.store(now.0 + first + self.shared.rng.below(first / 5), Ordering::Relaxed);
        if self.must_login {
            let timeout = self.shared.config.load().auth_timeout;
            timers.login_deadline.store((now + timeout).0, Ordering::Relaxed);
        } else if let Some(identity) = self.shared.authenticator.load().verify(&Credentials::default()) {
            // Without a login the client may act at once, as the anonymous user.
            let _ = self.bind(identity);
        }
    }

    pub(super) fn on_connect(&mut self, json: &[u8]) -> Option<Next> {
        let Ok(connect) = Connect::parse(json) else {
            return Some(Next::End(End::Said(CloseReason::ProtocolViolation)));
        };
        let authenticator = self.shared.authenticator.load_full();
        let given = credentials(&connect);
        if authenticator.is_slow(&given) {
            return Some(Next::SlowLogin(Box::new(connect)));
        }
        let identity = authenticator.verify(&given);
        self.login(connect, identity).err().map(Next::End)
    }

    /// Checks a hashed password away from the tasks that move messages.
    pub(super) async fn verify_slowly(&self, connect: &Connect) -> Option<Identity> {
        let Ok(_permit) = self.shared.slow_logins.acquire().await else { return None };
        let authenticator = self.shared.authenticator.load_full();
        let given = credentials(connect);
        tokio::task::spawn_blocking(move || authenticator.verify(&given)).await.ok().flatten()
    }

    pub(super) fn refuse_login(&mut self) -> End {
        self.end_with(CloseReason::AuthenticationFailure, "Authorization Violation")
    }

    pub(super) fn login(&mut self, connect: Connect, identity: Option<Identity>) -> Result<(), End> {
        if !(0..=1).contains(&connect.protocol) {
            return Err(self.end_with(CloseReason::BadClientProtocolVersion, "invalid client protocol"));
        }
        if !connect.account.is_empty() || connect.new_account {
            return Err(self.refuse_login());
        }
        let Some(identity) = identity else {
            tracing::error!("{} - authentication error - User \"{}\"", self.conn.log_prefix(), connect.user);
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
        self.conn.update_client(|c| {
            c.name.clone_from(&connect.name);
            c.lang.clone_from(&connect.lang);
            c.version.clone_from(&connect.version);
        });
        self.bind(identity)?;
        self.must_login = false;
        self.owes_connect_info = connect.protocol >= 1;
        self.conn.timers.login_deadline.store(0, Ordering::Relaxed);
        if self.verbose {
            self.publisher.push(&self.conn, encode::OK);
        }
        Ok(())
    }

    /// Puts the connection into its account. A second login drops the subscriptions of the first.
    pub(super) fn bind(&mut self, identity: Identity) -> Result<(), End> {
        let Some(account) = self.shared.accounts.load().get(&identity.account).cloned() else {
            return Err(self.refuse_login());
        };
        let is_same = self.account.as_ref().is_some_and(|a| Arc::ptr_eq(a, &account));
        if !is_same {
            let before = account.connections.fetch_add(1, Ordering::Relaxed);
            if account.limits().max_connections.is_some_and(|max| before >= max) {
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
        let config = self.shared.config.load();
        let max_payload =
            account.limits().max_payload.map_or(config.max_payload, |m| m.min(config.max_payload));
        self.limits.max_payload = Some(max_payload);
        self.conn.set_permissions(identity.permissions);
        self.conn.update_client(|c| {
            c.user = identity.user;
            c.account = Some(account.clone());
        });
        self.account = Some(account);
        Ok(())
    }
}

fn credentials(connect: &Connect) -> Credentials {
    Credentials { user: connect.user.clone(), pass: connect.pass.clone(), token: connect.auth_token.clone() }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
