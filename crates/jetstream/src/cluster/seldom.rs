use std::time::Duration;

use linnet_ids::Mono;
use parking_lot::Mutex;

/// Between two lines of the same kind in the log.
const EVERY: Duration = Duration::from_secs(10);

/// Lets something be said now and then, whatever others send.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Mono>,
    unsaid: u64,
}

impl Seldom {
    /// How often it happened since it was said last, this time included; `None` if it is not to be said now.
    pub(super) fn occurs(&self, now: Mono) -> Option<u64> {
        let state = &mut *self.state.lock();
        state.unsaid += 1;
        if state.last.is_some_and(|last| now.since(last) < EVERY) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_now_and_then() {
        let seldom = Seldom::default();
        let at = |seconds| Mono(1) + Duration::from_secs(seconds);
        assert_eq!(seldom.occurs(at(0)), Some(1));
        assert_eq!((seldom.occurs(at(1)), seldom.occurs(at(9))), (None, None));
        assert_eq!(seldom.occurs(at(10)), Some(3));
    }
}
