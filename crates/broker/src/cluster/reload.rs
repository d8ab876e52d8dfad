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
        close_misfits(&self.shared, &routes, &old, &config);
        if old.local.info != config.local.info {
            say_who_we_are(&self.shared, cluster, &routes);
        }
        dial_missing(&self.shared, cluster, &old, &config);
        cluster.tell_clients(&self.shared);
    }
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
    let places_differ =
        old.local.pool_size != new.local.pool_size || old.local.accounts != new.local.accounts;
    for route in routes {
        let (conn, slot) = (&route.conn, route.bound().map(|bound| &bound.slot));
        let pins = new.tls.as_ref().and_then(|tls| tls.pinned.as_ref());
        if let Some(url) = route.url().filter(|url| is_removed(url)) {
            conn.close(CloseReason::RouteRemoved);
            tracing::info!("Removed route nats://{}:{}", url.host, url.port);
        } else if old.local.compression != new.local.compression || old.rtt_thresholds != new.rtt_thresholds {
            conn.close(CloseReason::ClientClosed);
        } else if places_differ && !keeps_place(slot, old, new) {
            conn.close(CloseReason::RouteRemoved);
        } else if !route.is_dialled && !route.shows(new.local.credentials.as_ref()) {
            tracing::error!("{} - authentication error", conn.log_prefix());
            close_with_text(shared, conn, CloseReason::AuthenticationFailure, "Authorization Violation");
        } else if conn.tls.get().is_some_and(|facts| !is_pinned(pins, facts)) {
            conn.close(CloseReason::TlsHandshakeFailure);
        }
    }
}

/// True if a connection carries the same accounts under both settings.
fn keeps_place(slot: Option<&Slot>, old: &ClusterConfig, new: &ClusterConfig) -> bool {
    match slot {
        Some(Slot::Account(account)) => {
            new.local.pool_size.is_some()
                && old.local.pool_size.is_some()
                && new.local.accounts.contains(account)
        }
        Some(Slot::Only | Slot::Pool(_)) | None => false,
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

/// Dials servers that are new, and for accounts that have connections of their own now.
fn dial_missing(shared: &Arc<Shared>, cluster: &Arc<Cluster>, old: &ClusterConfig, new: &ClusterConfig) {
    for url in new.routes.iter().filter(|url| !old.routes.contains(url)) {
        dial::keep_dialling(shared.clone(), cluster.clone(), url.clone());
    }
    let had_pool = old.local.pool_size.is_some();
    let is_new = |account: &&String| !had_pool || !old.local.accounts.contains(account);
    if new.local.pool_size.is_some() {
        let known: Vec<RouteUrl> = cluster.dialling.lock().keys().cloned().collect();
        for account in new.local.accounts.iter().filter(is_new) {
            dial::dial_for_account(shared, cluster, &known, account);
        }
    }
}
