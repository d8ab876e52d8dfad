//! Other settings of the cluster while there are routes (cluster protocols, "Async INFO"; configuration, "Reload").

use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_links::Slot;

use super::route::Route;
use super::{Cluster, ClusterConfig, RouteUrl, dial};
use crate::broker::{Broker, Shared};
use crate::close::CloseReason;
use crate::router::{close_with_text, push_and_flush};
use crate::tls::is_pinned;

impl Broker {
    /// Puts other settings of the cluster into force. Routes that do not fit them are closed, and those that are missing
    /// are dialled; the address that is listened on stays.
    pub fn reload_cluster(&self, mut config: ClusterConfig) {
        let Some(cluster) = self.shared.cluster.get() else { return };
        keep_made_up_name(cluster, &mut config);
        let old = cluster.config.swap(Arc::new(config.clone()));
        cluster.peers.lock().set_local(config.local.clone());
        if old.local.cluster != config.local.cluster {
            tracing::info!("Cluster name updated to {}", config.local.cluster.name);
            self.update_info(|info| info.cluster.clone_from(&config.local.cluster.name));
        }
        if old.permissions != config.permissions {
            for account in self.shared.accounts.load().values() {
                account.announcer.permit(account.name(), config.permissions.clone());
            }
        }
        // Sessions look at this, and judge anew what they have been told.
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        let routes = cluster.routes.lock().values().cloned().collect::<Vec<_>>();
        for route in &routes {
            route.conn.outbound.set_write_policy(config.write_policy);
        }
        let added = added_accounts(&old, &config);
        let confirmations = (!added.is_empty()).then(|| cluster.ask_to_move(&self.shared, &added));
        // What is to be confirmed comes by the pool.
        let is_pool_kept = old.local.pool_size == config.local.pool_size;
        if is_pool_kept || confirmations.is_none() {
            change_routes(&self.shared, cluster, &old, &config);
        }
        if let Some(confirmations) = confirmations {
            let (shared, cluster, config) = (self.shared.clone(), cluster.clone(), config.clone());
            tokio::spawn(async move {
                confirmations.wait().await;
                if !is_pool_kept {
                    change_routes(&shared, &cluster, &old, &config);
                }
                dial_for_accounts(&shared, &cluster, &old, &config);
            });
        } else {
            dial_for_accounts(&self.shared, cluster, &old, &config);
        }
        cluster.tell_clients(&self.shared);
    }
}

/// Accounts that are to have connections of their own, where the others of the pool stay.
fn added_accounts<'a>(old: &ClusterConfig, new: &'a ClusterConfig) -> Vec<&'a String> {
    let is_added = |account: &&String| !old.local.has_own(account);
    let have_pool = old.local.pool_size.is_some() && new.local.pool_size.is_some();
    new.local.accounts.iter().filter(is_added).filter(|_| have_pool).collect()
}

/// Closes the routes that there are not to be any more, tells the others what they have to know, and dials those that are
/// missing.
fn change_routes(shared: &Arc<Shared>, cluster: &Arc<Cluster>, old: &ClusterConfig, new: &ClusterConfig) {
    let routes = cluster.routes.lock().values().cloned().collect::<Vec<_>>();
    close_misfits(shared, &routes, old, new);
    if old.local.info != new.local.info {
        say_who_we_are(shared, cluster, &routes);
    }
    // What had connections of its own and has none any more is told by the pool.
    cluster.carry_all(shared);
    dial_missing(shared, cluster, old, new);
}

/// A name that was made up once stays until somebody configures one.
fn keep_made_up_name(cluster: &Cluster, config: &mut ClusterConfig) {
    if config.local.cluster.is_dynamic {
        config.local.cluster = cluster.peers.lock().local().cluster.clone();
    }
}

/// Closes the routes that would not come to be, or not like this, under the new settings.
fn close_misfits(shared: &Arc<Shared>, routes: &[Arc<Route>], old: &ClusterConfig, new: &ClusterConfig) {
    let is_removed = |url: &RouteUrl| old.routes.contains(url) && !new.routes.contains(url);
    for route in routes {
        let (conn, slot) = (&route.conn, route.bound().map(|bound| &bound.slot));
        let pins = new.tls.as_ref().and_then(|tls| tls.pinned.as_ref());
        if old.local.cluster.name != new.local.cluster.name {
            conn.close(CloseReason::ClusterNameConflict);
        } else if let Some(url) = route.url().filter(|url| is_removed(url)) {
            conn.close(CloseReason::RouteRemoved);
            tracing::info!("Removed route nats://{}:{}", url.host, url.port);
        } else if old.local.compression != new.local.compression || old.rtt_thresholds != new.rtt_thresholds {
            conn.close(CloseReason::ClientClosed);
        } else if !keeps_place(slot, old, new) {
            conn.close(CloseReason::RouteRemoved);
        } else if !route.is_dialled && !route.shows(new.local.credentials.as_ref()) {
            tracing::error!("{} - authentication error", conn.log_prefix());
            close_with_text(shared, conn, CloseReason::AuthenticationFailure, "Authorization Violation");
        } else if conn.tls.get().is_some_and(|facts| !is_pinned(pins, facts)) {
            conn.close(CloseReason::TlsHandshakeFailure);
        }
    }
}

/// True if a connection has its place under both settings.
fn keeps_place(slot: Option<&Slot>, old: &ClusterConfig, new: &ClusterConfig) -> bool {
    match slot {
        Some(Slot::Account(account)) => {
            let is_removed = old.local.has_own(account) && !new.local.has_own(account);
            old.local.pool_size.is_some() && new.local.pool_size.is_some() && !is_removed
        }
        Some(Slot::Only | Slot::Pool(_)) | None => old.local.pool_size == new.local.pool_size,
    }
}

/// Tells every other server what is different about this one.
fn say_who_we_are(shared: &Arc<Shared>, cluster: &Cluster, routes: &[Arc<Route>]) {
    let mut info = cluster.peers.lock().local().info.clone();
    let local = cluster.config().local.clone();
    info.cluster.clone_from(&local.cluster.name);
    info.route_pool_size = local.pool_size.and_then(|size| i64::try_from(size).ok()).unwrap_or(0);
    let mut line = Vec::new();
    info.encode(&mut line);
    for route in routes.iter().filter(|route| route.conn.close_reason().is_none()) {
        push_and_flush(shared, &route.conn, &line);
    }
}

/// Dials servers that are new.
fn dial_missing(shared: &Arc<Shared>, cluster: &Arc<Cluster>, old: &ClusterConfig, new: &ClusterConfig) {
    for url in new.routes.iter().filter(|url| !old.routes.contains(url)) {
        dial::keep_dialling(shared.clone(), cluster.clone(), url.clone());
    }
}

/// Dials known servers for accounts that have connections of their own now.
fn dial_for_accounts(shared: &Arc<Shared>, cluster: &Arc<Cluster>, old: &ClusterConfig, new: &ClusterConfig) {
    let had_pool = old.local.pool_size.is_some();
    let is_new = |account: &&String| !had_pool || !old.local.has_own(account);
    if new.local.pool_size.is_some() {
        let known = cluster.addresses();
        for account in new.local.accounts.iter().filter(is_new) {
            dial::dial_for_account(shared, cluster, &known, account);
        }
    }
}
