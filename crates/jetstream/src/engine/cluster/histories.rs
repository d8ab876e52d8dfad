//! Clusters that were founded apart and whose servers meet (rule R6). Their groups have nothing to say to each other. One that
//! has no stream gives itself up, and its servers join the other one; where both have streams, both go on, and say so.

use std::sync::Arc;

use linnet_replication::Dissolved;
use linnet_replication::raft::{ClusterId, History, HistoryContent};

use super::{Cluster, Engine};
use crate::cluster::{Foundation, Founder, Stranger};

/// What a server is told of another cluster by those of its servers that it met.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Met {
    cluster: ClusterId,
    content: HistoryContent,
    /// One of its servers.
    server: String,
}

impl Engine {
    /// Tells the other servers which cluster this one belongs to.
    pub(super) fn follow_history(&self, cluster: &Cluster) {
        let Some(id) = cluster.founder().and_then(Founder::cluster) else { return };
        cluster.link.set_history(Some(History { cluster: id, content: self.content(cluster) }));
    }

    /// What there is in this server's cluster, its own streams included that the catalogue does not name.
    fn content(&self, cluster: &Cluster) -> HistoryContent {
        let has_some = self.accounts().iter().any(|account| !account.streams().is_empty());
        let keeps_unnamed = cluster.keeps_unnamed() || !self.orphans().is_empty();
        if has_some || keeps_unnamed || !cluster.view.all().is_empty() {
            HistoryContent::Streams
        } else if cluster.is_current() && cluster.view.is_empty() {
            HistoryContent::Nothing
        } else {
            HistoryContent::Uncertain
        }
    }
}

/// Looks whom this server met.
pub(super) async fn look_after(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let Some(founder) = cluster.founder() else { return };
    if let Some(ours) = cluster.link.history() {
        let was_told = *founder.watch().borrow() == Foundation::Waiting;
        let has_ended = cluster.view.dissolved().is_some() && cluster.is_current();
        if (was_told || has_ended) && cluster.meta().report.is_some() {
            return engine.leave(cluster, founder, ours.cluster).await;
        }
    }
    engine.follow_history(cluster);
    let Some(ours) = cluster.link.history() else { return };
    let strangers = cluster.link.strangers();
    cluster.note_strangers(&strangers);
    let Some(other) = met(&strangers).into_iter().find(|other| yields(ours, other)) else { return };
    if cluster.leads_meta() && ours.content == HistoryContent::Nothing {
        dissolve(engine, cluster, other.server);
    }
}

/// The other clusters.
fn met(strangers: &[Stranger]) -> Vec<Met> {
    let mut found: Vec<Met> = Vec::new();
    for Stranger { name, history, .. } in strangers {
        let rank = |content| match content {
            HistoryContent::Uncertain => 0,
            HistoryContent::Nothing => 1,
            HistoryContent::Streams => 2,
        };
        match found.iter_mut().find(|met| met.cluster == history.cluster) {
            Some(met) if rank(history.content) > rank(met.content) => met.content = history.content,
            Some(_) => {}
            None => {
                found.push(Met { cluster: history.cluster, content: history.content, server: name.clone() })
            }
        }
    }
    found
}

/// True if a cluster is to give itself up for another one.
fn yields(ours: History, other: &Met) -> bool {
    let has_nothing = ours.content == HistoryContent::Nothing;
    has_nothing
        && match other.content {
            HistoryContent::Streams => true,
            HistoryContent::Nothing => other.cluster > ours.cluster,
            HistoryContent::Uncertain => false,
        }
}

/// As the leader of the catalogue's group: ends a cluster without streams.
fn dissolve(engine: &Arc<Engine>, cluster: &Arc<Cluster>, met: String) {
    let Some(busy) = cluster.take_on("", "") else { return };
    let (engine, cluster) = (engine.clone(), cluster.clone());
    tokio::spawn(async move {
        // No stream is created meanwhile, and none after it.
        let _one_at_a_time = engine.changes.lock().await;
        if cluster.view.is_empty() && cluster.view.dissolved().is_none() {
            let end = Dissolved { met, at: cluster.link.clock().wall().0 };
            if let Err(e) = engine.decide(&cluster, end.store()).await {
                tracing::debug!("The cluster cannot give itself up yet: {e}");
            }
        }
        drop(busy);
    });
}

impl Engine {
    /// The cluster is no more: this server gives up what it has of the catalogue, and comes back to look for another one.
    async fn leave(&self, cluster: &Cluster, founder: &Founder, ours: ClusterId) {
        if !founder.leave(ours).await || !cluster.leave_history() {
            return;
        }
        let met = cluster.view.dissolved().map(|dissolved| format!("that of {}", dissolved.met));
        let met = met.unwrap_or_else(|| "another one".to_owned());
        tracing::warn!(
            "The JetStream meta group of this server has no stream and gave itself up for {met}, which this server joins"
        );
        self.leave_history().await;
    }
}

impl Cluster {
    /// There are streams here that the catalogue does not name.
    fn keeps_unnamed(&self) -> bool {
        !self.unclaimed.lock().is_empty() || !self.unserved.lock().is_empty()
    }

    /// Tells of servers of other clusters, once.
    fn note_strangers(&self, strangers: &[Stranger]) {
        let now: Vec<String> = strangers.iter().map(|stranger| stranger.name.clone()).collect();
        let before = std::mem::replace(&mut *self.strangers.lock(), now.clone());
        if before == now {
            return;
        }
        if now.is_empty() {
            tracing::info!("No server of another JetStream meta group is connected any more");
        } else {
            tracing::error!(
                "Servers of another JetStream meta group are connected, which was founded apart from this one: {}",
                now.join(", ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use linnet_ids::PeerId;

    use super::*;

    fn history(id: u8, content: HistoryContent) -> History {
        History { cluster: [id; 16], content }
    }

    fn stranger(name: &str, id: u8, content: HistoryContent) -> Stranger {
        Stranger { id: PeerId::of_name(name), name: name.to_owned(), history: history(id, content) }
    }

    #[test]
    fn a_cluster_is_known_by_what_any_of_its_servers_is_certain_of() {
        use HistoryContent::{Nothing, Streams, Uncertain};
        let strangers = [
            stranger("a", 1, Uncertain),
            stranger("b", 1, Streams),
            stranger("c", 1, Nothing),
            stranger("d", 2, Uncertain),
        ];
        let found = met(&strangers);
        let found: Vec<_> =
            found.iter().map(|met| (met.cluster[0], met.content, met.server.as_str())).collect();
        assert_eq!(found, [(1, Streams, "a"), (2, Uncertain, "d")]);
    }

    #[test]
    fn what_has_nothing_yields_to_what_has_streams_and_of_two_without_one_does() {
        use HistoryContent::{Nothing, Streams, Uncertain};
        let yields = |ours: (u8, HistoryContent), other: (u8, HistoryContent)| {
            let met = met(&[stranger("a", other.0, other.1)]);
            yields(history(ours.0, ours.1), &met[0])
        };
        assert!(yields((2, Nothing), (1, Streams)) && yields((1, Nothing), (2, Streams)));
        assert!(yields((1, Nothing), (2, Nothing)) && !yields((2, Nothing), (1, Nothing)));
        assert!(!yields((1, Nothing), (2, Uncertain)), "it may have nothing, too");
        assert!(!yields((1, Streams), (2, Streams)) && !yields((1, Uncertain), (2, Streams)));
    }
}
