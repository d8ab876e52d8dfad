use linnet_ids::{ConsumerSeq, StreamSeq};

use super::ACK_PREFIX;

/// The reply subject of a delivered message: everything the server needs to know to take the acknowledgement, and
/// everything a client is told about the delivery.
///
/// There are two forms (nats-server `server/consumer.go`): `$JS.ACK.<stream>.<consumer>.` or
/// `$JS.ACK.<domain or _>.<account hash>.<stream>.<consumer>.`, both followed by the five numbers. The second may have
/// further tokens after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckSubject<'a> {
    /// Name of the stream.
    pub stream: &'a str,
    /// Name of the consumer.
    pub consumer: &'a str,
    /// How often the message was delivered, this delivery included.
    pub delivered: u64,
    /// Sequence of the message in the stream.
    pub stream_seq: StreamSeq,
    /// Sequence of this delivery.
    pub consumer_seq: ConsumerSeq,
    /// When the message was stored, in nanoseconds since the Unix epoch.
    pub timestamp: i64,
    /// Matching messages that remain after this one.
    pub pending: u64,
}

impl<'a> AckSubject<'a> {
    /// Reads either form; `None` if it is neither.
    pub fn parse(subject: &'a [u8]) -> Option<Self> {
        let rest = str::from_utf8(subject.strip_prefix(ACK_PREFIX.as_bytes())?).ok()?;
        let mut tokens = rest.split('.');
        let count = 1 + rest.bytes().filter(|b| *b == b'.').count();
        match count {
            7 => {}
            9.. => {
                tokens.next()?;
                tokens.next()?;
            }
            _ => return None,
        }
        let named = |token: Option<&'a str>| token.filter(|name| !name.is_empty());
        Some(Self {
            stream: named(tokens.next())?,
            consumer: named(tokens.next())?,
            delivered: number(tokens.next()?)?,
            stream_seq: number(tokens.next()?)?,
            consumer_seq: number(tokens.next()?)?,
            timestamp: timestamp(tokens.next()?)?,
            pending: number(tokens.next()?)?,
        })
    }

    /// Appends the first form.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(ACK_PREFIX.as_bytes());
        self.write_tail(out);
    }

    /// Appends the second form.
    pub fn write_v2(&self, domain: Option<&str>, account_hash: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(ACK_PREFIX.as_bytes());
        out.extend_from_slice(domain.unwrap_or("_").as_bytes());
        out.push(b'.');
        out.extend_from_slice(account_hash.as_bytes());
        out.push(b'.');
        self.write_tail(out);
    }

    fn write_tail(&self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(self.stream.as_bytes());
        out.push(b'.');
        out.extend_from_slice(self.consumer.as_bytes());
        for number in [self.delivered, self.stream_seq, self.consumer_seq] {
            out.push(b'.');
            out.extend_from_slice(digits.format(number).as_bytes());
        }
        out.push(b'.');
        out.extend_from_slice(digits.format(self.timestamp).as_bytes());
        out.push(b'.');
        out.extend_from_slice(digits.format(self.pending).as_bytes());
    }
}

/// Digits only: the standard parser would take a plus sign.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.bytes().try_fold(0_u64, |n, b| {
        let digit = b.is_ascii_digit().then(|| u64::from(b - b'0'))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

fn timestamp(text: &str) -> Option<i64> {
    match text.strip_prefix('-') {
        Some(magnitude) => 0_i64.checked_sub_unsigned(number(magnitude)?),
        None => i64::try_from(number(text)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> AckSubject<'static> {
        AckSubject {
            stream: "S",
            consumer: "C",
            delivered: 1,
            stream_seq: 22,
            consumer_seq: 33,
            timestamp: 1_700_000_000_000_000_000,
            pending: 4,
        }
    }

    #[test]
    fn both_forms_are_read() {
        for text in [
            "$JS.ACK.S.C.1.22.33.1700000000000000000.4",
            "$JS.ACK._.hash.S.C.1.22.33.1700000000000000000.4",
            "$JS.ACK.hub.hash.S.C.1.22.33.1700000000000000000.4",
            "$JS.ACK.hub.hash.S.C.1.22.33.1700000000000000000.4.random",
            "$JS.ACK.hub.hash.S.C.1.22.33.1700000000000000000.4.random.more",
        ] {
            assert_eq!(AckSubject::parse(text.as_bytes()), Some(sample()), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "$JS.ACK.",
            "$JS.ACK.S.C.1.22.33.17",
            "$JS.ACK.x.S.C.1.22.33.17.4",
            "$JS.ACK.S.C.1.22.33.17.x",
            "$JS.ACK.S.C.+1.22.33.17.4",
            "$JS.ACK.S.C.1.22.33.17.18446744073709551616",
            "$JS.ACK.S.C.1.22.33.9223372036854775808.4",
            "$JS.ACK..C.1.22.33.17.4",
            "$JS.ACK.S..1.22.33.17.4",
            "$JS.FC.S.C.1.22.33.17.4",
        ] {
            assert_eq!(AckSubject::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(AckSubject::parse(b"$JS.ACK.\xff.C.1.22.33.17.4"), None);
    }

    proptest! {
        #[test]
        fn written_subjects_are_read_back(
            stream in "[a-zA-Z0-9_-]{1,12}", consumer in "[^.\\s]{1,12}",
            delivered: u64, stream_seq: u64, consumer_seq: u64, timestamp: i64, pending: u64,
            domain in proptest::option::of("[a-z]{1,5}"),
        ) {
            let ack = AckSubject {
                stream: &stream, consumer: &consumer, delivered, stream_seq, consumer_seq, timestamp, pending,
            };
            let (mut v1, mut v2) = (Vec::new(), Vec::new());
            ack.write(&mut v1);
            ack.write_v2(domain.as_deref(), "0aB9", &mut v2);
            prop_assert_eq!(AckSubject::parse(&v1), Some(ack));
            prop_assert_eq!(AckSubject::parse(&v2), Some(ack));
        }

        #[test]
        fn any_bytes_are_read_or_refused(tail in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = AckSubject::parse(&tail);
            let _ = AckSubject::parse(&[ACK_PREFIX.as_bytes(), &tail].concat());
        }
    }
}
