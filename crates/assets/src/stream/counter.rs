//! Streams whose messages count (jetstream, "Counters").

use std::collections::{BTreeMap, HashMap};

use linnet_ids::StreamSeq;
use linnet_jsapi::errors::{self, ApiError};
use linnet_store::Record;
use linnet_wire::headers;
use num_bigint::BigInt;
use serde::Deserialize;

use super::Stream;
use super::batch::Earlier;
use super::draft::{Incoming, Sourced};

/// Header that says which part of a counter came from which counter of another stream.
pub(super) const SOURCES: &str = "Nats-Counter-Sources";

/// Where a counter stands.
#[derive(Clone, Default)]
pub(super) struct Tally {
    pub(super) total: BigInt,
    /// Value of [`SOURCES`]; empty if nothing came from elsewhere.
    pub(super) sources: Vec<u8>,
}

/// [`SOURCES`]: by stream and subject there, the value that was taken over last.
type Sources = BTreeMap<String, BTreeMap<String, String>>;

/// Values of counters whose newest message is in flight.
#[derive(Default)]
pub(super) struct Totals {
    in_flight: HashMap<Vec<u8>, (StreamSeq, Tally)>,
}

impl Totals {
    pub(super) fn set(&mut self, subject: &[u8], seq: StreamSeq, tally: Tally) {
        self.in_flight.insert(subject.to_vec(), (seq, tally));
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
        let Some(increment) = message.wishes.incr.filter(|_| message.sourced.is_none()) else {
            return Ok(None);
        };
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

    /// The counter after this increment.
    pub(super) fn incremented(
        &self,
        subject: &[u8],
        increment: Option<BigInt>,
        earlier: &Earlier,
    ) -> Result<Tally, NoTotal> {
        let increment = increment.ok_or(NoTotal::Refused(errors::MESSAGE_INCR_MISSING))?;
        let mut tally = self.tally(subject, earlier)?;
        tally.total += increment;
        Ok(tally)
    }

    /// The counter after another stream's counter came to have the value that the message says, and by how much it
    /// grew. The other counter's own sources are its own concern.
    pub(super) fn taken_over(
        &self,
        message: &Incoming<'_>,
        sourced: Sourced<'_>,
        earlier: &Earlier,
    ) -> Result<(Tally, BigInt), NoTotal> {
        let broken = || NoTotal::Refused(errors::MESSAGE_COUNTER_BROKEN);
        let value = total_of(message.payload()).ok_or_else(broken)?;
        let mut tally = self.tally(message.subject, earlier)?;
        let mut sources: Sources = match tally.sources.is_empty() {
            true => Sources::new(),
            false => serde_json::from_slice(&tally.sources).map_err(|_| broken())?,
        };
        let there = String::from_utf8_lossy(sourced.subject).into_owned();
        let known = sources.entry(sourced.origin.to_owned()).or_default().entry(there).or_default();
        let before =
            if known.is_empty() { BigInt::ZERO } else { parse(known.as_bytes()).ok_or_else(broken)? };
        *known = value.to_string();
        let growth = value - before;
        tally.total += &growth;
        // Plain data: writing it to memory cannot fail.
        tally.sources = serde_json::to_vec(&sources).expect("sources serialise");
        Ok((tally, growth))
    }

    /// Where the counter stands, with what is in flight.
    fn tally(&self, subject: &[u8], earlier: &Earlier) -> Result<Tally, NoTotal> {
        if let Some(tally) = earlier.tally(subject) {
            return Ok(tally.clone());
        }
        if let Some((_, newest)) = self.in_flight.subject(subject) {
            return match self.totals.in_flight.get(subject) {
                Some((seq, tally)) if *seq == newest => Ok(tally.clone()),
                _ => Err(NoTotal::Unknown),
            };
        }
        let Some(last) = self.store.subject(subject).map(|s| s.last) else { return Ok(Tally::default()) };
        let read = |record: &Record<'_>| {
            let sources = headers::get(record.headers, SOURCES).unwrap_or_default().to_vec();
            total_of(record.payload).map(|total| Tally { total, sources })
        };
        let tally = self.store.inspect(last, read).flatten();
        tally.ok_or(NoTotal::Refused(errors::MESSAGE_COUNTER_BROKEN))
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
