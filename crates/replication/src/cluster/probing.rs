//! Members that say nothing although their server can be heard: what a leader sent may have come before their group was
//! there, and was lost.

use std::time::Duration;

use linnet_ids::{LogIndex, Mono, PeerId};
use linnet_raft::{MemberProgress, Role};

use crate::group::StreamGroup;
use crate::log::Log;
use crate::raft::PeerChange;

/// A member that lacks something, or that does not vote yet, and was silent for so long is asked again.
pub const SILENT_AFTER: Duration = Duration::from_secs(1);

impl StreamGroup {
    /// As its leader: asks members again that lack something, or do not vote yet, and do not answer.
    pub fn probe_silent(&mut self, now: Mono, me: PeerId, log: &mut dyn Log) {
        let Some(status) = self.status() else { return };
        for member in status.membership.members().iter().filter(|m| m.peer != me) {
            let Some(progress) = self.progress(member.peer) else { continue };
            if is_to_be_asked(now, member.role, progress, status.commit) {
                self.on_peer(now, PeerChange::Lossy(member.peer), log);
            }
        }
    }
}

fn is_to_be_asked(now: Mono, role: Role, progress: MemberProgress, commit: LogIndex) -> bool {
    let is_silent = progress.heard.is_none_or(|heard| now.since(heard) >= SILENT_AFTER);
    // One that does not vote and has everything may have begun anew since: it waits for word of its leader.
    is_silent && (progress.matched < commit || role == Role::Learner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_members_are_asked_that_lack_something_or_do_not_vote() {
        let now = Mono(0) + 2 * SILENT_AFTER;
        let heard_at = |heard: Option<Mono>, matched| MemberProgress {
            matched,
            heard,
            is_catching_up: false,
            is_amnesiac: false,
        };
        let (long_ago, just_now) = (Some(Mono(0)), Some(now));
        assert!(is_to_be_asked(now, Role::Voter, heard_at(long_ago, 4), 5));
        assert!(is_to_be_asked(now, Role::Voter, heard_at(None, 4), 5));
        assert!(!is_to_be_asked(now, Role::Voter, heard_at(just_now, 4), 5));
        assert!(!is_to_be_asked(now, Role::Voter, heard_at(long_ago, 5), 5), "idle groups are silent");
        assert!(is_to_be_asked(now, Role::Learner, heard_at(long_ago, 5), 5));
        assert!(!is_to_be_asked(now, Role::Learner, heard_at(just_now, 5), 5));
    }
}
