//! Delivering what was there at the speed at which it came (`replay_policy: original`).

use linnet_ids::{Mono, StreamSeq, Wall};

/// Up to where and how a consumer follows the times of messages.
#[derive(Debug)]
pub(super) struct Replay {
    /// The last message that was there when the consumer began.
    until: StreamSeq,
    /// When the message before was stored, and when it was delivered.
    before: Option<(Wall, Mono)>,
    waits_until: Option<Mono>,
}

impl Replay {
    pub(super) fn until(last: StreamSeq) -> Self {
        Self { until: last, before: None, waits_until: None }
    }

    /// True if it is time for a message; otherwise it is remembered when.
    pub(super) fn is_time(&mut self, seq: StreamSeq, stored: Wall, now: Mono) -> bool {
        let due = self.before.filter(|_| seq <= self.until).map(|(before, at)| at + stored.since(before));
        self.waits_until = due.filter(|due| *due > now);
        self.waits_until.is_none()
    }

    /// A message was delivered.
    pub(super) fn note(&mut self, stored: Wall, now: Mono) {
        self.before = Some((stored, now));
    }

    /// Ends a wait that was long enough: what was waited for may be gone.
    pub(super) fn end_wait(&mut self, now: Mono) {
        self.waits_until.take_if(|due| *due <= now);
    }

    pub(super) fn waits_until(&self) -> Option<Mono> {
        self.waits_until
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn messages_keep_their_distance_until_the_consumer_has_caught_up() {
        let at = |millis| Mono::default() + Duration::from_millis(millis);
        let stored = |millis: i64| Wall(millis * 1_000_000);
        let mut replay = Replay::until(3);
        assert!(replay.is_time(1, stored(5000), at(10)));
        replay.note(stored(5000), at(10));
        assert!(!replay.is_time(2, stored(5700), at(20)));
        assert_eq!(replay.waits_until(), Some(at(710)));
        assert!(replay.is_time(2, stored(5700), at(710)));
        replay.note(stored(5700), at(710));
        // What came afterwards is delivered at once.
        assert!(replay.is_time(4, stored(9000), at(711)));
        assert_eq!(replay.waits_until(), None);
    }
}
