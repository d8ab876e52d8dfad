//! Streams whose messages count (jetstream, "Counters").

use std::collections::HashMap;

use linnet_ids::StreamSeq;
use linnet_jsapi::errors::{self, ApiError};
use num_bigint::BigInt;
use serde::Deserialize;

use super::Stream;
use super::batch::Earlier;
use super::draft::Incoming;

/// Values of counters whose newest message is in flight.
#[derive(Default)]
pub(super) struct Totals {
    in_flight: HashMap<Vec<u8>, (StreamSeq, BigInt)>,
}

impl Totals {
    pub(super) fn set(&mut self, subject: &[u8], seq: StreamSeq, total: BigInt) {
        self.in_flight.insert(subject.to_vec(), (seq, total));
    }

    /// The message is stored: it says the value itself.
    pub(super) fn stored(&mut self, subject: &[u8], seq: StreamSeq) {
        if self.in_flight.get(subject).is_some_and(|(newest, _)| *newest <= seq) {
            self.in_flight.remove(subject);
        }
    }
}

/// Why a message does not count yet.
pub(super) enum NoTotal {
    /// It is refused.
    Refused(ApiError),
    /// What it adds to can only be told once everything in flight is applied.
    Unknown,
}

/// The body of a stored counter.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    val: &'a str,
}

impl Stream {
    /// Judges an increment, whether the stream counts or not.
    pub(super) fn check_increment(&self, message: &Incoming<'_>) -> Result<Option<BigInt>, ApiError> {
        let Some(increment) = message.wishes.incr else { return Ok(None) };
        let increment = parse(increment).ok_or(errors::MESSAGE_INCR_INVALID)?;
        if !self.config.allow_msg_counter {
            return Err(errors::MESSAGE_INCR_DISABLED);
        }
        if !message.payload().is_empty() {
            return Err(errors::MESSAGE_INCR_PAYLOAD);
        }
        if message.wishes.rollup.is_some() || message.wishes.expects() {
            return Err(errors::MESSAGE_INCR_INVALID);
        }
        Ok(Some(increment))
    }

    /// The value of the counter after this increment.
    pub(super) fn new_total(
        &self,
        subject: &[u8],
        increment: Option<BigInt>,
        earlier: &Earlier,
    ) -> Result<BigInt, NoTotal> {
        let increment = increment.ok_or(NoTotal::Refused(errors::MESSAGE_INCR_MISSING))?;
        if let Some(total) = earlier.total(subject) {
            return Ok(total + increment);
        }
        if let Some((_, newest)) = self.in_flight.subject(subject) {
            return match self.totals.in_flight.get(subject) {
                Some((seq, total)) if *seq == newest => Ok(total + increment),
                _ => Err(NoTotal::Unknown),
            };
        }
        let Some(last) = self.store.subject(subject).map(|s| s.last) else { return Ok(increment) };
        let total = self.store.inspect(last, |record| total_of(record.payload)).flatten();
        Ok(total.ok_or(NoTotal::Refused(errors::MESSAGE_COUNTER_BROKEN))? + increment)
    }
}

/// What is stored for a value.
pub(super) fn body(total: &BigInt) -> Vec<u8> {
    format!("{{\"val\":\"{total}\"}}").into_bytes()
}

fn total_of(payload: &[u8]) -> Option<BigInt> {
    let body: Body<'_> = serde_json::from_slice(payload).ok()?;
    parse(body.val.as_bytes())
}

/// A decimal number of any size with an optional sign.
fn parse(text: &[u8]) -> Option<BigInt> {
    let digits = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    BigInt::parse_bytes(text, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_decimal_and_of_any_size() {
        let long = "9".repeat(500);
        for (text, expected) in [
            ("0", Some("0")),
            ("+5", Some("5")),
            ("-0", Some("0")),
            ("007", Some("7")),
            (long.as_str(), Some(long.as_str())),
            ("", None),
            ("+", None),
            ("--1", None),
            ("1_000", None),
            ("0x10", None),
            ("1.5", None),
        ] {
            assert_eq!(parse(text.as_bytes()).map(|n| n.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_value_survives_its_body() {
        let total = parse(b"-123456789012345678901234567890").unwrap();
        assert_eq!(body(&total), br#"{"val":"-123456789012345678901234567890"}"#);
        assert_eq!(total_of(&body(&total)), Some(total));
        assert_eq!(total_of(b""), None);
        assert_eq!(total_of(br#"{"val":5}"#), None);
    }
}
