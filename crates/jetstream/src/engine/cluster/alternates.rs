//! Where else the messages of a stream can be read: clients choose the copy that is nearest.

use linnet_jsapi::info::StreamAlternate;
use linnet_replication::Assignment;

use super::{Cluster, Engine};

impl Engine {
    /// A stream and its mirrors, those in the cluster of this server first; empty if it has none.
    pub(crate) fn alternates(&self, cluster: &Cluster, account: &str, stream: &str) -> Vec<StreamAlternate> {
        let mirrors = cluster.view.with(|known| known.mirrors_of(account, stream));
        let Some(origin) = cluster.view.stream(account, stream).filter(|_| !mirrors.is_empty()) else {
            return Vec::new();
        };
        let here = self.broker.cluster_name().unwrap_or_default();
        let describe = |assignment: &Assignment| StreamAlternate {
            name: assignment.config.name.clone(),
            domain: self.config.domain.clone(),
            cluster: home_of(cluster, assignment).unwrap_or_else(|| here.clone()),
        };
        let mut all: Vec<StreamAlternate> =
            std::iter::once(&origin).chain(&mirrors).map(|assignment| describe(assignment)).collect();
        all.sort_by_key(|alternate| alternate.cluster != here);
        all
    }
}

/// The cluster of the servers of a stream, as far as they have said.
fn home_of(cluster: &Cluster, assignment: &Assignment) -> Option<String> {
    let replicas = assignment.replicas();
    let said = replicas.iter().filter_map(|replica| cluster.last_description(replica.peer));
    said.map(|description| description.cluster).find(|name| !name.is_empty())
}
