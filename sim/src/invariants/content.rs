//! Every acknowledged message is at its sequence with its content, once, until something acknowledged removed it.

use linnet_store::{Lookup, StreamStore};
use linnet_wire::headers;

use super::{Check, broken};
use crate::facts::{PublishFacts, StreamFacts, publish_of};
use crate::model::Message;

const NAME: &str = "content";

/// A message about to be visible is what a client sent.
pub(crate) fn is_as_sent(
    publishes: &[PublishFacts],
    stream: &StreamFacts,
    seq: u64,
    message: &Message,
) -> Check {
    let Some((no, sent)) = publish_of(publishes, message) else {
        return broken(NAME, format!("{}: nobody sent message {seq}", stream.name));
    };
    let headers = stream.model.headers_of(&sent.headers);
    let is_place = sent.group == stream.group && stream.model.is_stored_as(&sent.subject, message);
    if !is_place || headers != list(&message.headers) {
        return broken(NAME, format!("{}: message {seq} differs from publish {no}", stream.name));
    }
    let is_right = if stream.model.config.allow_msg_counter {
        is_sum(stream, message)
    } else {
        sent.payload() == message.payload
    };
    if !is_right {
        let head = String::from_utf8_lossy(message.payload.get(..40).unwrap_or(&message.payload));
        let text = format!("{}: message {seq} has another payload than publish {no}: {head}", stream.name);
        return broken(NAME, text);
    }
    Ok(())
}

/// The value of a counter is what its subject had and the increment. What limits and age took while the message was on
/// its way may still count.
fn is_sum(stream: &StreamFacts, message: &Message) -> bool {
    let increment = message.header("Nats-Incr").and_then(integer).unwrap_or(0);
    let is = |total: i64| message.payload == format!("{{\"val\":\"{}\"}}", total + increment).as_bytes();
    let is_new = stream.model.last_of(&message.subject) == 0;
    is(stream.model.total(&message.subject))
        || (is_new
            && stream.counted.get(&message.subject).is_some_and(|totals| totals.iter().any(|t| is(*t))))
}

/// A decimal number.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Keys and values of a header block.
pub(crate) fn list(block: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    headers::iter(block).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// A positive answer to publish `no` names the sequence at which it is stored, and no other publish got that one.
pub(crate) fn is_acknowledged_once(stream: &StreamFacts, no: usize, seq: u64) -> Check {
    if stream.stored.get(&seq) != Some(&no) {
        return broken(
            NAME,
            format!("{}: publish {no} was acknowledged as {seq}, which it is not", stream.name),
        );
    }
    if let Some(other) = stream.acked.get(&seq) {
        return broken(NAME, format!("{}: {seq} acknowledged publishes {other} and {no}", stream.name));
    }
    Ok(())
}

/// Reads a message, from disk if need be. `Err(true)` if it is damaged, `Err(false)` if it is not there.
pub(crate) fn read(store: &mut StreamStore, seq: u64) -> Result<Message, bool> {
    loop {
        match store.get(seq, true) {
            Lookup::Found(record) => {
                return Ok(Message {
                    subject: record.subject.to_vec(),
                    headers: record.headers.to_vec(),
                    payload: record.payload.to_vec(),
                    time: record.timestamp.0,
                });
            }
            Lookup::Cold(job) => {
                if store.loaded(job.run()).is_err() {
                    return Err(true);
                }
            }
            Lookup::Missing => return Err(false),
            Lookup::Damaged | Lookup::Repairing => return Err(true),
        }
    }
}

/// The store holds exactly the messages of the model.
pub(crate) fn holds_all(stream: &StreamFacts, store: &mut StreamStore) -> Check {
    for (seq, expected) in &stream.model.messages {
        match read(store, *seq) {
            Ok(found) if found == *expected => {}
            Ok(_) => return broken(NAME, format!("{}: message {seq} has changed", stream.name)),
            Err(damaged) => {
                let what = if damaged { "is damaged" } else { "is gone" };
                return broken(NAME, format!("{}: message {seq} {what}", stream.name));
            }
        }
    }
    Ok(())
}
