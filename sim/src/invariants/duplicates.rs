//! A message id within the duplicate window is stored once.

use super::{Check, broken};
use crate::facts::StreamFacts;

/// No message that is still stored and that the window covers has the id of a new one. The latest moment any clock
/// showed decides what the window covers: a clock that was set back brings nothing back.
pub(crate) fn is_first(stream: &StreamFacts, seq: u64, max_wall: i64) -> Check {
    let Some(id) = stream.model.messages.get(&seq).and_then(|m| m.header("Nats-Msg-Id")) else {
        return Ok(());
    };
    // Damage may hide the id of a stored message.
    if stream.is_lossy {
        return Ok(());
    }
    let is_known = |seq: u64, time: i64| {
        let window = stream.model.window_since(seq);
        window > 0 && time >= max_wall.saturating_sub(window)
    };
    let earlier = stream
        .model
        .messages
        .range(..seq)
        .find(|(seq, m)| m.header("Nats-Msg-Id") == Some(id) && is_known(**seq, m.time));
    match earlier {
        Some((first, _)) => {
            let id = String::from_utf8_lossy(id);
            broken("duplicates", format!("{}: id {id} is stored as {first} and {seq}", stream.name))
        }
        None => Ok(()),
    }
}
