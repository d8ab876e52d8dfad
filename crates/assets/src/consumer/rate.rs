//! How many bits a second a push consumer delivers at most (`rate_limit_bps`).

use std::time::Duration;

use linnet_ids::Mono;

/// What may be sent at once where the stream does not limit its messages.
const BURST: u64 = 1 << 20;
const NANOS: u128 = 1_000_000_000;

/// A bucket of bytes that fills as time passes, up to the largest message.
#[derive(Debug)]
pub(super) struct Rate {
    bytes_per_second: u64,
    burst: u64,
    /// When the bucket would be full again.
    full_at: Mono,
    /// Until when the next message has to wait.
    waits_until: Option<Mono>,
}

impl Rate {
    /// The limit in bits a second; `None` for none. Messages of the stream have at most `max_msg_size` bytes.
    pub(super) fn new(bits_per_second: u64, max_msg_size: i32) -> Option<Self> {
        let burst = u64::try_from(max_msg_size).ok().filter(|max| *max > 0).unwrap_or(BURST);
        let bytes_per_second = (bits_per_second / 8).max(1);
        (bits_per_second > 0).then(|| Self {
            bytes_per_second,
            burst,
            full_at: Mono::default(),
            waits_until: None,
        })
    }

    /// Time that so many bytes take.
    fn time_of(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * NANOS / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// True if so many bytes may be sent now; otherwise it is remembered when.
    pub(super) fn allows(&mut self, bytes: u64, now: Mono) -> bool {
        // What is larger than the bucket waits until that is full.
        let spare = self.time_of(self.burst.saturating_sub(bytes));
        let missing = self.full_at.since(now).saturating_sub(spare);
        self.waits_until = (!missing.is_zero()).then(|| now + missing);
        missing.is_zero()
    }

    /// They were sent.
    pub(super) fn charge(&mut self, bytes: u64, now: Mono) {
        self.full_at = self.full_at.max(now) + self.time_of(bytes);
    }

    /// Ends a wait that was long enough: what was waited for may be gone.
    pub(super) fn end_wait(&mut self, now: Mono) {
        self.waits_until.take_if(|due| *due <= now);
    }

    /// When the next message may be sent, if it waits.
    pub(super) fn waits_until(&self) -> Option<Mono> {
        self.waits_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sent_as_the_bucket_fills() {
        let at = |millis| Mono::default() + Duration::from_millis(millis);
        let mut rate = Rate::new(16_000, 2000).unwrap();
        for now in [0, 0, 500, 1000] {
            assert!(rate.allows(1000, at(now)), "{now}");
            rate.charge(1000, at(now));
            assert_eq!(rate.waits_until(), None);
        }
        assert!(!rate.allows(1000, at(1100)));
        assert_eq!(rate.waits_until(), Some(at(1500)));
        // One larger than the bucket waits until that is full.
        assert!(!rate.allows(5000, at(1900)));
        assert_eq!(rate.waits_until(), Some(at(2000)));
        assert!(rate.allows(5000, at(2000)));
        assert!(Rate::new(0, 2000).is_none());
    }
}
