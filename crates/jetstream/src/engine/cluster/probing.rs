//! Members that say nothing although their server can be heard: what a leader sent may have come before their group was
//! there, and was lost.

use std::sync::Arc;

use linnet_replication::cluster::SILENT_AFTER;

use super::{Cluster, Engine};

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
        engine.act_on(group, Box::new(move |replica, now, log| replica.probe_silent(now, me, log)));
    }
}
