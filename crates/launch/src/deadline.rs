use std::sync::LazyLock;
use std::time::Duration;

use linnet_env::{Clock as _, RealClock};
use linnet_ids::Mono;

static CLOCK: LazyLock<RealClock> = LazyLock::new(RealClock::new);

/// How often [`poll_until`] looks at its condition.
const POLL_EVERY: Duration = Duration::from_millis(2);

/// A moment after which waiting is given up.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    at: Mono,
}

impl Deadline {
    /// The moment `timeout` from now.
    pub fn after(timeout: Duration) -> Self {
        let nanos = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        Self { at: Mono(CLOCK.mono().0.saturating_add(nanos)) }
    }

    /// What is left, zero once it has passed.
    pub fn remaining(self) -> Duration {
        Duration::from_nanos(self.at.0.saturating_sub(CLOCK.mono().0))
    }

    /// Whether nothing is left.
    pub fn has_passed(self) -> bool {
        self.remaining().is_zero()
    }
}

/// Asks `condition` again and again until it holds; `false` if it did not within `timeout`.
pub fn poll_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Deadline::after(timeout);
    loop {
        if condition() {
            return true;
        }
        if deadline.has_passed() {
            return false;
        }
        std::thread::park_timeout(POLL_EVERY.min(deadline.remaining()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_that_becomes_true_ends_the_wait() {
        let mut asked = 0;
        assert!(poll_until(Duration::from_secs(5), || {
            asked += 1;
            asked == 3
        }));
        assert_eq!(asked, 3);
    }

    #[test]
    fn condition_is_asked_once_even_without_time() {
        assert!(poll_until(Duration::ZERO, || true));
        assert!(!poll_until(Duration::ZERO, || false));
    }
}
