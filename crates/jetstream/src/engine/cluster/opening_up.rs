//! A stream that one server holds alone becomes the first member of a group, so that others can join it.

use std::sync::Arc;
use std::time::Duration;

use linnet_env::{OsRng, Rng};
use linnet_ids::GroupId;
use linnet_raft::{LogPoint, Replica};
use linnet_replication::Hold;
use tokio::time::Instant;

use super::{Cluster, Engine};
use crate::catalogue::StreamHandle;

/// How long what is under way may take until the stream goes on as it was, and is tried again.
const STILL_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take to lead its group. Its messages wait meanwhile.
const LEADS_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

impl Engine {
    /// Makes a stream the first member of its group, with everything that it has. True if it leads the group.
    pub(super) async fn open_up(&self, cluster: &Arc<Cluster>, handle: &StreamHandle) -> bool {
        let group = handle.group();
        let has_begun = match self.hold_still(group).await {
            Some(Hold::Still(last)) => {
                let has_begun = self.begin_consensus(cluster, handle, last).await;
                self.act_on(group, Box::new(|group, _, _| group.let_go()));
                has_begun
            }
            Some(Hold::Replica) => true,
            Some(Hold::Waits) | None => {
                self.act_on(group, Box::new(|group, _, _| group.let_go()));
                false
            }
        };
        if !has_begun || !comes_to_lead(cluster, group).await {
            return false;
        }
        handle.set_replica();
        if !handle.cell().is_memory() {
            // What others get is what is there now; a restart begins with that, too.
            self.log.ask_for_checkpoint(group);
        }
        tracing::info!("Group {group} can have other members");
        true
    }

    async fn hold_still(&self, group: GroupId) -> Option<Hold> {
        let deadline = Instant::now() + STILL_WITHIN;
        loop {
            let hold = self.act_and_tell(group, |group, _, _| group.hold()).await?;
            if hold != Hold::Waits || Instant::now() >= deadline {
                return Some(hold);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn begin_consensus(&self, cluster: &Cluster, handle: &StreamHandle, last: u64) -> bool {
        let end = if handle.cell().is_memory() {
            // No log has its history: this is where that begins, behind a state that others must get.
            Some(LogPoint { index: 1, term: 1, chain: OsRng.next_u64() })
        } else {
            self.log.end_of(handle.group()).await.filter(|end| end.index == last)
        };
        let Some(end) = end else { return false };
        let me = Replica { peer: cluster.me(), incarnation: OsRng.next_u64().max(1) };
        let seed = OsRng.next_u64();
        let begun = self.act_and_tell(handle.group(), move |group, _, _| group.open_up(me, end, seed));
        begun.await == Some(true)
    }
}

async fn comes_to_lead(cluster: &Cluster, group: GroupId) -> bool {
    let deadline = Instant::now() + LEADS_WITHIN;
    while !cluster.news.leads(group) {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    true
}
