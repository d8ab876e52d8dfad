use std::time::Duration;

use serde::Deserialize;

use crate::go_duration;
use crate::time::Nanos;

/// What the payload of an acknowledgement asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind<'a> {
    /// Done: empty, `+ACK` or `+OK`.
    Ack,
    /// Deliver it again: `-NAK`, with an optional delay.
    Nak {
        /// How long to wait; none is as soon as possible.
        delay: Option<Duration>,
    },
    /// Still working: the timer starts anew.
    Progress,
    /// Never deliver it again.
    Term {
        /// Why, trimmed; empty when not said.
        reason: &'a [u8],
    },
    /// Done, and send more.
    Next {
        /// A `MSG.NEXT` body.
        body: &'a [u8],
    },
    /// None of these: ignored, although a reply is answered.
    Unknown,
}

impl<'a> AckKind<'a> {
    /// Reads a payload. A delay that can not be read counts as none.
    pub fn parse(payload: &'a [u8]) -> Self {
        if let b"" | b"+ACK" | b"+OK" = payload {
            return Self::Ack;
        }
        if let Some(rest) = payload.strip_prefix(b"-NAK") {
            return Self::Nak { delay: nak_delay(rest.trim_ascii()) };
        }
        if payload == b"+WPI" {
            return Self::Progress;
        }
        if let Some(reason) = payload.strip_prefix(b"+TERM") {
            return Self::Term { reason: reason.trim_ascii() };
        }
        if let Some(body) = payload.strip_prefix(b"+NXT") {
            return Self::Next { body: body.trim_ascii() };
        }
        Self::Unknown
    }
}

/// Reads `{"delay": <nanoseconds>}` or a Go duration.
fn nak_delay(text: &[u8]) -> Option<Duration> {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct NakOptions {
        delay: Nanos,
    }

    let delay = if text.starts_with(b"{") {
        crate::decode_lenient::<NakOptions>(text).ok()?.delay
    } else {
        go_duration::parse(str::from_utf8(text).ok()?)?
    };
    (delay.0 > 0).then(|| delay.to_duration())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn payloads_are_told_apart() {
        let nak = |delay: Option<u64>| AckKind::Nak { delay: delay.map(Duration::from_millis) };
        for (payload, expected) in [
            ("", AckKind::Ack),
            ("+ACK", AckKind::Ack),
            ("+OK", AckKind::Ack),
            ("-NAK", nak(None)),
            ("-NAK {\"delay\": 5000000000}", nak(Some(5000))),
            ("-NAK 5s", nak(Some(5000))),
            ("-NAK 1m1.5s", nak(Some(61_500))),
            ("-NAK soon", nak(None)),
            ("-NAK {", nak(None)),
            ("-NAK -5s", nak(None)),
            ("+WPI", AckKind::Progress),
            ("+TERM", AckKind::Term { reason: b"" }),
            ("+TERM  bad data ", AckKind::Term { reason: b"bad data" }),
            ("+NXT", AckKind::Next { body: b"" }),
            ("+NXT 2", AckKind::Next { body: b"2" }),
            ("+NXT {\"batch\":2}", AckKind::Next { body: b"{\"batch\":2}" }),
            ("hello", AckKind::Unknown),
            ("+ACK ", AckKind::Unknown),
        ] {
            assert_eq!(AckKind::parse(payload.as_bytes()), expected, "{payload}");
        }
    }

    proptest! {
        #[test]
        fn any_payload_has_a_kind(payload in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = AckKind::parse(&payload);
            let _ = AckKind::parse(&[b"-NAK ", payload.as_slice()].concat());
        }
    }
}
