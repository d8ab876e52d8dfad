//! Stored messages are published again where that is asked for, as they are, once, in order.

use linnet_ids::Wall;
use linnet_wire::headers;

use super::{Check, broken, content};
use crate::facts::{CopyFacts, StreamFacts};

const NAME: &str = "republished";

/// A message was published again: it is the next that should be.
pub(crate) fn is_next(stream: &mut StreamFacts, to: &[u8], block: &[u8], payload: &[u8]) -> Check {
    let next = stream.copies.pop_front();
    if stream.is_lossy || next.as_ref().is_some_and(|next| is_copy(stream, next, to, block, payload)) {
        return Ok(());
    }
    let seq = String::from_utf8_lossy(headers::get(block, "Nats-Sequence").unwrap_or_default()).into_owned();
    broken(NAME, format!("{}: {seq} was published again, due was {next:?}", stream.name))
}

fn is_copy(stream: &StreamFacts, copy: &CopyFacts, to: &[u8], block: &[u8], payload: &[u8]) -> bool {
    let Some(message) = stream.everything.get(&copy.seq).and_then(|known| known.last()) else { return false };
    let mut expected = content::list(&message.headers);
    let (size, time) = (message.payload.len().to_string(), Wall(message.time).rfc3339());
    let mut add = |key: &str, value: &[u8]| expected.push((key.as_bytes().to_vec(), value.to_vec()));
    add("Nats-Stream", stream.name.as_bytes());
    add("Nats-Subject", &message.subject);
    add("Nats-Sequence", copy.seq.to_string().as_bytes());
    add("Nats-Time-Stamp", time.as_bytes());
    add("Nats-Last-Sequence", copy.last.to_string().as_bytes());
    if copy.headers_only {
        add("Nats-Msg-Size", size.as_bytes());
    }
    let whole: &[u8] = if copy.headers_only { b"" } else { &message.payload };
    to == copy.to && content::list(block) == expected && payload == whole
}

/// The publisher of a message is answered: its copy went before.
pub(crate) fn went_before(stream: &StreamFacts, seq: u64) -> Check {
    match stream.copies.front().filter(|copy| copy.seq <= seq && !stream.is_lossy) {
        Some(copy) => broken(NAME, format!("{}: {} was not published again", stream.name, copy.seq)),
        None => Ok(()),
    }
}
