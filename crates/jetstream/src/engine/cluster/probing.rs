//! Members that say nothing although their server can be heard: what a leader sent may have come before their group was
//! there, and was lost.

use std::sync::Arc;
use std::time::Duration;

use linnet_replication::raft::PeerChange;

use super::{Cluster, Engine};

/// A member that lacks something and was silent for so long is asked again.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// Has every group that is led here ask members again that lack something and do not answer.
pub(super) fn look_after(engine: &Arc<Engine>, cluster: &Cluster) {
    let now = cluster.link.clock().mono();
    {
        let mut last = cluster.probing.lock();
        if last.is_some_and(|last| now.since(last) < SILENT_AFTER) {
            return;
        }
        *last = Some(now);
    }
    let me = cluster.me();
    for group in cluster.news.leading() {
        engine.act_on(
            group,
            Box::new(move |replica, now, log| {
                let Some(status) = replica.status() else { return };
                for member in status.membership.members().iter().filter(|m| m.peer != me) {
                    let Some(progress) = replica.progress(member.peer) else { continue };
                    let is_silent = progress.heard.is_none_or(|heard| now.since(heard) >= SILENT_AFTER);
                    if is_silent && progress.matched < status.commit {
                        replica.on_peer(now, PeerChange::Lossy(member.peer), log);
                    }
                }
            }),
        );
    }
}
