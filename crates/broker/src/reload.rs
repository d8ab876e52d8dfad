//! New settings while clients are connected: who may stay, and with which permissions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_auth::{Authenticator, Permissions, Recheck, SubscribeVerdict};

use crate::account::{Account, AccountLimits};
use crate::broker::{Broker, Shared};
use crate::close::CloseReason;
use crate::config::Config;
use crate::conn::Conn;
use crate::router::{close_with_text, push_and_flush};
use crate::session::refusal;
use crate::tls::is_pinned;

/// What a reload did to connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Closed because fewer connections are allowed now.
    pub over_maximum: usize,
    /// Closed because their keys are not pinned.
    pub not_pinned: usize,
}

impl Broker {
    /// Puts new settings into force for the clients connected, too. Those whom the new authorization would not let in
    /// are closed, the others lose the subscriptions they may not have any more. Takes as long as passwords whose
    /// hashes changed take to verify, so it belongs on a thread that may block.
    ///
    /// Accounts that stay keep their subscriptions; TLS has been set with [`Broker::set_tls`].
    pub fn reload(
        &self,
        config: Config,
        authenticator: Authenticator,
        accounts: impl IntoIterator<Item = (String, bool, AccountLimits)>,
    ) -> Reloaded {
        let shared = &self.shared;
        let max_connections = config.max_connections;
        self.update_info(|info| {
            info.auth_required = authenticator.is_required();
            info.max_payload = i64::try_from(config.max_payload).unwrap_or(i64::MAX);
        });
        let present = shared.accounts.load_full();
        let next: HashMap<String, Arc<Account>> = accounts
            .into_iter()
            .map(|(name, is_system, limits)| {
                let account = present.get(&name).cloned();
                let account = account.unwrap_or_else(|| {
                    let account = Account::new(&name, is_system, limits);
                    if shared.expects_cluster.load(Ordering::Relaxed) {
                        let cluster = shared.cluster.get();
                        let permissions = cluster.and_then(|cluster| cluster.config().permissions.clone());
                        account.announcer.switch_on(permissions);
                    }
                    account
                });
                account.set_limits(limits);
                (name, account)
            })
            .collect();
        shared.config.store(Arc::new(config));
        shared.accounts.store(Arc::new(next));
        if let Some(cluster) = shared.cluster.get() {
            cluster.carry_all(shared);
        }
        shared.authenticator.store(Arc::new(authenticator));
        // Reader tasks look at this before and after each buffer. What one of them decides by the old settings it does
        // either before this, and is found below, or it looks again itself.
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        let not_pinned = self.close_unpinned();
        for conn in self.connections() {
            recheck(shared, &conn);
        }
        Reloaded { over_maximum: self.close_over(max_connections), not_pinned }
    }

    fn close_over(&self, max: usize) -> usize {
        let conns = self.connections();
        let surplus = conns.len().saturating_sub(max);
        for conn in &conns[..surplus] {
            let text = "maximum connections exceeded";
            tracing::error!("{} - {text}", conn.log_prefix());
            close_with_text(&self.shared, conn, CloseReason::MaximumConnectionsExceeded, text);
        }
        surplus
    }

    fn close_unpinned(&self) -> usize {
        let policy = self.shared.tls.load_full();
        let Some(pins) = policy.as_ref().and_then(|policy| policy.pinned.as_ref()) else { return 0 };
        let conns = self.connections();
        let is_strange = |conn: &&Arc<Conn>| conn.tls.get().is_some_and(|tls| !is_pinned(Some(pins), tls));
        conns.iter().filter(is_strange).inspect(|conn| conn.close(CloseReason::TlsHandshakeFailure)).count()
    }
}

/// Judges a connection by the present authorization, unless that has let it in itself.
pub(crate) fn recheck(shared: &Arc<Shared>, conn: &Arc<Conn>) {
    let now = shared.authenticator.load_full();
    let Some(login) = conn.login() else { return };
    if Arc::ptr_eq(&login.checked_by, &now) || conn.close_reason().is_some() {
        return;
    }
    match now.recheck(&login.checked_by, &login.credentials) {
        Recheck::Stays(identity) => {
            let account = conn.account().filter(|a| a.name() == identity.account);
            let stays =
                account.filter(|a| shared.accounts.load().get(a.name()).is_some_and(|b| Arc::ptr_eq(a, b)));
            let Some(account) = stays else {
                conn.finish(shared, CloseReason::ClientClosed);
                return;
            };
            conn.checked(&now);
            conn.set_permissions(identity.permissions.clone());
            prune(shared, conn, &account, identity.permissions.as_deref());
        }
        Recheck::Gone => conn.finish(shared, CloseReason::ClientClosed),
        Recheck::Refused => {
            let shown = &login.credentials;
            tracing::error!("{} - {}", conn.log_prefix(), refusal(&shown.user, &shown.token));
            close_with_text(shared, conn, CloseReason::AuthenticationFailure, "Authorization Violation");
        }
    }
}

/// Takes away the subscriptions that the permissions do not allow.
pub(crate) fn prune(
    shared: &Arc<Shared>,
    conn: &Arc<Conn>,
    account: &Arc<Account>,
    permissions: Option<&Permissions>,
) {
    for sub in conn.subscriptions() {
        let verdict = permissions
            .map_or(SubscribeVerdict::Allowed, |p| p.may_subscribe(&sub.subject, sub.queue.as_deref()));
        if verdict != SubscribeVerdict::Denied {
            sub.filtered.store(verdict == SubscribeVerdict::Filtered, Ordering::Relaxed);
            continue;
        }
        conn.subs.lock().remove(&sub.sid);
        account.remove(&sub);
        let (subject, sid) = (String::from_utf8_lossy(&sub.subject), String::from_utf8_lossy(&sub.sid));
        let user = conn.client().user.unwrap_or_default();
        tracing::info!("Removed sub \"{subject}\" (sid \"{sid}\") for User \"{user}\" - not authorized");
        let mut line = Vec::new();
        let text = format!("Permissions Violation for Subscription to \"{subject}\" (sid \"{sid}\")");
        linnet_wire::encode::err(&mut line, &text);
        push_and_flush(shared, conn, &line);
    }
    account.forget_matches();
}
