use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::go_duration;

/// Shortest life of a message.
const TTL_MIN: Duration = Duration::from_secs(1);

/// How long a message wants to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ttl {
    /// Neither the stream's `max_age` nor anything else but limits removes it.
    Never,
    /// Removed this long after it was stored, in whole seconds.
    After(Duration),
}

impl Ttl {
    /// Reads the value of `Nats-TTL`: `never`, a duration of at least a second, or a number of seconds.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        if text.eq_ignore_ascii_case("never") {
            return Some(Self::Never);
        }
        let duration = if text.bytes().all(|b| b.is_ascii_digit()) {
            Duration::from_secs(u64::try_from(text.parse::<i64>().ok()?).ok()?)
        } else {
            Duration::from_secs(go_duration::parse(text)?.to_duration().as_secs())
        };
        (duration >= TTL_MIN).then_some(Self::After(duration))
    }

    /// When a message stored at `at` expires; `None` for never.
    pub(super) fn expiry(self, at: Wall) -> Option<Wall> {
        match self {
            Self::Never => None,
            Self::After(life) => {
                Some(Wall(at.0.saturating_add(i64::try_from(life.as_nanos()).unwrap_or(i64::MAX))))
            }
        }
    }
}

/// The messages of a stream that have a life of their own.
#[derive(Default)]
pub(super) struct Ttls {
    /// When each expires; `None` for never.
    expiry: BTreeMap<StreamSeq, Option<Wall>>,
    due: BTreeSet<(Wall, StreamSeq)>,
}

impl Ttls {
    pub(super) fn insert(&mut self, seq: StreamSeq, expiry: Option<Wall>) {
        self.expiry.insert(seq, expiry);
        if let Some(at) = expiry {
            self.due.insert((at, seq));
        }
    }

    pub(super) fn remove(&mut self, seq: StreamSeq) {
        if let Some(Some(at)) = self.expiry.remove(&seq) {
            self.due.remove(&(at, seq));
        }
    }

    /// Forgets messages that are gone.
    pub(super) fn retain(&mut self, mut is_there: impl FnMut(StreamSeq) -> bool) {
        self.expiry.retain(|seq, _| is_there(*seq));
        let expiry = &self.expiry;
        self.due.retain(|(_, seq)| expiry.contains_key(seq));
    }

    /// True if the stream's `max_age` does not concern the message.
    pub(super) fn is_exempt(&self, seq: StreamSeq) -> bool {
        self.expiry.get(&seq) == Some(&None)
    }

    /// When the first message expires.
    pub(super) fn first_due(&self) -> Option<Wall> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The messages that have expired at `now`, in order of their expiry.
    pub(super) fn expired(&self, now: Wall) -> Vec<StreamSeq> {
        self.due.range(..=(now, StreamSeq::MAX)).map(|(_, seq)| *seq).collect()
    }

    /// The same with the time of each.
    pub(super) fn expired_until(&self, now: Wall) -> Vec<(Wall, StreamSeq)> {
        self.due.range(..=(now, StreamSeq::MAX)).copied().collect()
    }

    /// Form for a checkpoint.
    pub(super) fn save(&self) -> Vec<(StreamSeq, Option<i64>)> {
        self.expiry.iter().map(|(seq, at)| (*seq, at.map(|t| t.0))).collect()
    }

    /// Inverse of [`Ttls::save`].
    pub(super) fn load(saved: &[(StreamSeq, Option<i64>)]) -> Self {
        let mut ttls = Self::default();
        for (seq, at) in saved {
            ttls.insert(*seq, at.map(Wall));
        }
        ttls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_values() {
        let seconds = |n| Some(Ttl::After(Duration::from_secs(n)));
        for (text, expected) in [
            ("never", Some(Ttl::Never)),
            ("NEVER", Some(Ttl::Never)),
            ("5", seconds(5)),
            ("5s", seconds(5)),
            ("1h30m", seconds(5400)),
            ("2500ms", seconds(2)),
            ("500ms", None),
            ("0", None),
            ("-1", None),
            ("soon", None),
            ("9223372036854775807", seconds(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(Ttl::parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn messages_expire_in_order_and_some_never() {
        let mut ttls = Ttls::default();
        ttls.insert(1, Some(Wall(30)));
        ttls.insert(2, None);
        ttls.insert(3, Some(Wall(10)));
        assert_eq!(ttls.first_due(), Some(Wall(10)));
        assert_eq!(ttls.expired(Wall(30)), [3, 1]);
        assert!(ttls.is_exempt(2) && !ttls.is_exempt(1) && !ttls.is_exempt(9));
        let mut again = Ttls::load(&ttls.save());
        again.remove(3);
        again.retain(|seq| seq != 2);
        assert_eq!(again.expired(Wall(99)), [1]);
        assert!(!again.is_exempt(2));
    }
}
