//! A server that begins to follow the catalogue's group asks its leader how far the catalogue is.

use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use super::asks::ASK_COMMITTED;

/// How long the leader may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Asks a leader that was not asked yet.
pub(super) fn look_after(cluster: &Arc<Cluster>) {
    let meta = cluster.meta();
    let Some(status) = meta.report.as_ref().map(|report| &report.status) else { return };
    let Some(leader) = cluster.assurance.lock().asks(status) else { return };
    let cluster = cluster.clone();
    tokio::spawn(async move {
        let answer = cluster.link.ask(leader, ASK_COMMITTED, b"", ANSWER_WITHIN).await.ok();
        let answer = answer.and_then(|answer| serde_json::from_slice(&answer).ok()).flatten();
        cluster.assurance.lock().answered(leader, answer);
        if answer.is_some() {
            cluster.news.nudge();
        }
    });
}

impl Cluster {
    /// True if this server knows everything that is decided about streams, as far as it can know.
    pub(crate) fn is_current(&self) -> bool {
        let meta = self.meta();
        let status = meta.report.as_ref().map(|report| &report.status);
        status.is_some_and(|status| self.assurance.lock().is_current(status))
    }
}
