//! That the catalogue's group was rescued, and when: for some time after that, what is lost of streams is taken for lost.

use std::time::Duration;

use linnet_assets::Command;
use linnet_ids::Wall;
use serde::{Deserialize, Serialize};

/// Subject under which the catalogue keeps it.
pub(crate) const SUBJECT: &[u8] = b"rescued";

/// A rescue of the catalogue's group, as the catalogue stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescued {
    /// The epoch that it began ([`linnet_raft::Status::epoch`]).
    pub epoch: u32,
    /// When the first leader of that wrote this, nanoseconds since the Unix epoch.
    pub at: i64,
}

impl Rescued {
    /// True if `epoch` is the present one, and less than `within` has passed. A clock that was set back does not make it
    /// longer than that.
    pub fn is_recent(&self, epoch: u32, now: Wall, within: Duration) -> bool {
        let passed = now.0.checked_sub(self.at).and_then(|passed| u64::try_from(passed).ok());
        self.epoch == epoch && passed.is_some_and(|passed| Duration::from_nanos(passed) < within)
    }

    /// The command that stores it.
    pub fn store(&self) -> Command {
        // Plain data: writing it to memory cannot fail.
        let payload = serde_json::to_vec(self).expect("a rescue serialises");
        Command::Append { subject: SUBJECT.to_vec(), payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescue_is_recent_for_some_time_and_in_its_epoch() {
        let hour = Duration::from_secs(3600);
        let rescued = Rescued { epoch: 2, at: 1_000_000_000_000 };
        let after = |seconds: i64| Wall(rescued.at + seconds * 1_000_000_000);
        assert!(rescued.is_recent(2, after(0), hour) && rescued.is_recent(2, after(3599), hour));
        assert!(!rescued.is_recent(2, after(3600), hour) && !rescued.is_recent(3, after(1), hour));
        assert!(!rescued.is_recent(2, after(-1), hour));
    }
}
