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
    let name = message.header("Nats-Expected-Stream");
    if let Some(name) = name.filter(|name| *name != stream.name.as_bytes()) {
        let name = String::from_utf8_lossy(name);
        return broken("expectations", format!("{}: message {seq} expected stream {name}", stream.name));
    }
    let id = message.header("Nats-Expected-Last-Msg-Id").filter(|id| !id.is_empty() && !stream.is_lossy);
    if let Some(id) = id.filter(|id| *id != stream.model.last_id) {
        let (id, last) = (String::from_utf8_lossy(id), String::from_utf8_lossy(&stream.model.last_id));
        return broken(
            "expectations",
            format!("{}: message {seq} expected id {id}, not {last}", stream.name),
        );
    }
    if let Some(expected) = number("Nats-Expected-Last-Subject-Sequence") {
        let pattern =
            message.header("Nats-Expected-Last-Subject-Sequence-Subject").unwrap_or(&message.subject);
        let is_covered = |subject: &[u8]| linnet_subject::is_subset(subject, pattern);
        let last = stream.model.last_covered(pattern);
        // What limits took while the message was on its way does not make its expectation wrong: nobody came between.
        let was_last =
            stream.everything.get(&expected).is_some_and(|m| m.iter().any(|m| is_covered(&m.subject)));
        if expected != last && (last > expected || !was_last) {
            let text =
                format!("{}: message {seq} expected {expected} on its subject, not {last}", stream.name);
            return broken("expectations", text);
        }
    }
    Ok(())
}
