//! Who else is in the cluster, for services of this server.

use linnet_links::ConnId;

use super::{Cluster, RouteUrl};
use crate::broker::{Broker, Shared};

/// Another server of the cluster, as it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutedServer {
    /// Id of this start of it.
    pub id: String,
    /// Name.
    pub name: String,
    /// Name of its cluster.
    pub cluster: String,
    /// JetStream is enabled there.
    pub has_jetstream: bool,
    /// Its JetStream domain; empty for none.
    pub domain: String,
    /// It drains.
    pub is_draining: bool,
    /// The connection that carries the system account; another one than before: what was on its way may be lost.
    pub system_conn: Option<ConnId>,
}

/// Where an address leads that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leads {
    /// There is no connection to whoever is there.
    Nowhere,
    /// To this server itself.
    Here,
    /// To the server with this id.
    To(String),
}

impl Cluster {
    /// An address was reached.
    pub(super) fn reached(&self, shared: &Shared, url: &RouteUrl, leads: Leads) {
        let config = self.config();
        let is_news = {
            let mut known = self.leads.lock();
            known.retain(|url, _| config.routes.contains(url));
            config.routes.contains(url) && known.insert(url.clone(), leads.clone()) != Some(leads)
        };
        if is_news {
            shared.servers_changed();
        }
    }
}

impl Broker {
    /// The servers that there are routes to, by id.
    pub fn routed_servers(&self) -> Vec<RoutedServer> {
        let Some(cluster) = self.shared.cluster.get() else { return Vec::new() };
        let accounts = self.shared.accounts.load();
        let system = accounts.values().find(|account| account.is_system()).map(|account| account.name());
        let peers = cluster.peers.lock();
        let servers = peers.infos().map(|info| RoutedServer {
            id: info.server_id.clone(),
            name: info.server_name.clone(),
            cluster: info.cluster.clone(),
            has_jetstream: info.jetstream,
            domain: info.domain.clone(),
            is_draining: info.ldm,
            system_conn: system.and_then(|account| peers.carrier(&info.server_id, account)),
        });
        servers.collect()
    }

    /// The addresses that the configuration names, in its order, and where they lead.
    pub fn configured_routes(&self) -> Vec<(RouteUrl, Leads)> {
        let Some(cluster) = self.shared.cluster.get() else { return Vec::new() };
        let config = cluster.config();
        let leads = cluster.leads.lock().clone();
        let peers = cluster.peers.lock();
        let look = |url: &RouteUrl| match leads.get(url) {
            Some(Leads::To(id)) if !peers.is_known(id) => Leads::Nowhere,
            Some(leads) => leads.clone(),
            None => Leads::Nowhere,
        };
        config.routes.iter().map(|url| (url.clone(), look(url))).collect()
    }
}
