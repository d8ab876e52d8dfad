//! What a client of a fast batch is told is stored is so, and what comes behind its end is not.

use serde_json::Value;

use super::{Check, broken};
use crate::facts::StreamFacts;

const NAME: &str = "fast";

/// Something was sent to the client of a batch.
pub(crate) fn is_told_rightly(stream: &mut StreamFacts, id: &str, body: &[u8]) -> Check {
    let told: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(batch) = stream.fast.get_mut(id) else {
        return broken(NAME, format!("{}: batch {id} is answered and nobody made it", stream.name));
    };
    let number = |key: &str| told.get(key).and_then(Value::as_u64);
    match told.get("type").and_then(Value::as_str) {
        Some("ack") => return are_stored(stream, id, number("seq").unwrap_or(u64::MAX)),
        Some("err") => {
            batch.refused.extend(number("seq"));
            return Ok(());
        }
        Some("gap") => {
            let missing = number("last_seq").zip(number("seq"));
            batch.refused.extend(missing.map(|(from, to)| from..to).into_iter().flatten());
            return Ok(());
        }
        _ => {}
    }
    // Nothing of the batch is known any more, or it never began.
    if told.get("error").is_some() {
        return Ok(());
    }
    if std::mem::replace(&mut batch.has_ended, true) {
        return broken(NAME, format!("{}: batch {id} ends twice", stream.name));
    }
    let count = number("count").unwrap_or(u64::MAX);
    let mut later = batch.messages.range(count.saturating_add(1)..);
    if let Some((at, _)) = later.find(|(_, (no, _))| stream.kept.contains(no)) {
        return broken(
            NAME,
            format!("{}: message {at} of {id} is stored behind its end {count}", stream.name),
        );
    }
    are_stored(stream, id, count)
}

/// Everything up to a place of the batch is stored, but what was refused or stored before.
fn are_stored(stream: &StreamFacts, id: &str, up_to: u64) -> Check {
    let Some(batch) = stream.fast.get(id) else { return Ok(()) };
    for at in 1..=up_to.min(1000) {
        let is_stored = match batch.messages.get(&at) {
            Some((no, has_id)) => stream.kept.contains(no) || *has_id,
            None => false,
        };
        if !is_stored && !batch.refused.contains(&at) {
            let text = format!("{}: message {at} of {id} is called stored and is not", stream.name);
            return broken(NAME, text);
        }
    }
    Ok(())
}
