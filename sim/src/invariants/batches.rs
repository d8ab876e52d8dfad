//! Messages of a batch are in the log together or not at all.

use super::{Check, broken};
use crate::facts::StreamFacts;
use crate::model::Message;

/// Each message of an entry that belongs to a batch stands in it with all others of the batch and with nothing else.
pub(crate) fn are_whole(stream: &StreamFacts, entry: &[(u64, Message)]) -> Check {
    let Some(id) = entry.iter().find_map(|(_, message)| batch_of(message)) else {
        return Ok(());
    };
    for (at, (seq, message)) in entry.iter().enumerate() {
        let is_next = message.header("Nats-Batch-Sequence") == Some((at + 1).to_string().as_bytes());
        let is_last = message.header("Nats-Batch-Commit").is_some();
        let is_right = batch_of(message) == Some(id) && is_next;
        if !is_right || is_last != (at + 1 == entry.len()) {
            let id = String::from_utf8_lossy(id);
            return broken("batches", format!("{}: {seq} does not belong where it is in {id}", stream.name));
        }
    }
    Ok(())
}

/// What a schedule publishes may be a copy of a message of a batch.
fn batch_of(message: &Message) -> Option<&[u8]> {
    message.header("Nats-Batch-Id").filter(|_| message.header("Nats-Scheduler").is_none())
}
