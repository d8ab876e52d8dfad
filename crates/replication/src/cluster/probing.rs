//! Members that say nothing although their server can be heard: what a leader sent may have come before their group was
//! there, and was lost.

use std::time::Duration;

use linnet_ids::{Mono, PeerId};

use crate::group::StreamGroup;
use crate::log::Log;
use crate::raft::PeerChange;

/// A member that lacks something and was silent for so long is asked again.
pub const SILENT_AFTER: Duration = Duration::from_secs(1);

impl StreamGroup {
    /// As its leader: asks members again that lack something and do not answer.
    pub fn probe_silent(&mut self, now: Mono, me: PeerId, log: &mut dyn Log) {
        let Some(status) = self.status() else { return };
        for member in status.membership.members().iter().filter(|m| m.peer != me) {
            let Some(progress) = self.progress(member.peer) else { continue };
            let is_silent = progress.heard.is_none_or(|heard| now.since(heard) >= SILENT_AFTER);
            if is_silent && progress.matched < status.commit {
                self.on_peer(now, PeerChange::Lossy(member.peer), log);
            }
        }
    }
}
