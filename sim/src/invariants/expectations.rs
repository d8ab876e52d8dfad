//! A message that names what it expects to follow does follow it.

use super::{Check, broken};
use crate::facts::StreamFacts;
use crate::model::Message;

/// `stream.model` is as it was before the message.
pub(crate) fn are_met(stream: &StreamFacts, seq: u64, message: &Message) -> Check {
    let number = |key| message.header(key).and_then(|v| std::str::from_utf8(v).ok()?.parse::<u64>().ok());
    if let Some(expected) = number("Nats-Expected-Last-Sequence")
        && expected != stream.model.last
    {
        let text =
            format!("{}: message {seq} expected {expected}, follows {}", stream.name, stream.model.last);
        return broken("expectations", text);
    }
    if let Some(expected) = number("Nats-Expected-Last-Subject-Sequence") {
        let last = stream.model.last_of(&message.subject);
        // What limits took while the message was on its way does not make its expectation wrong: nobody came between.
        let was_last =
            stream.everything.get(&expected).is_some_and(|m| m.iter().any(|m| m.subject == message.subject));
        if expected != last && (last > expected || !was_last) {
            let text =
                format!("{}: message {seq} expected {expected} on its subject, not {last}", stream.name);
            return broken("expectations", text);
        }
    }
    Ok(())
}
