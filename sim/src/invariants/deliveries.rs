//! What is delivered is in the stream, wanted, not confirmed before, and counted right; nothing wanted is left out.

use linnet_jsapi::subjects::AckSubject;

use super::{Check, broken};
use crate::facts::{ConsumerFacts, StreamFacts};

const NAME: &str = "deliveries";

/// A delivery as the client sees it.
pub(crate) fn is_right(
    stream: &StreamFacts,
    facts: &ConsumerFacts,
    ack: &AckSubject<'_>,
    subject: &[u8],
    headers: &[u8],
    payload: &[u8],
) -> Check {
    let (who, seq) = (format!("{} > {}", stream.name, ack.consumer), ack.stream_seq);
    let Some(message) = stream.model.messages.get(&seq) else {
        return broken(NAME, format!("{who}: {seq} was delivered and is not in the stream"));
    };
    if message.subject != subject || message.headers != headers || message.payload != payload {
        return broken(NAME, format!("{who}: {seq} was delivered with another content"));
    }
    if facts.is_confirmed(seq) {
        return broken(NAME, format!("{who}: {seq} was delivered after its confirmed acknowledgement"));
    }
    if ack.consumer_seq > facts.deliveries + 1 {
        let text = format!("{who}: delivery {} after {} deliveries", ack.consumer_seq, facts.deliveries);
        return broken(NAME, text);
    }
    let before = facts.delivered.get(&seq).copied().unwrap_or(0);
    // What was delivered once comes again until it is acknowledged, also under another filter.
    let is_wanted = stream.model.consumers.get(ack.consumer).is_none_or(|c| c.wants(seq, message));
    if before == 0 && !is_wanted {
        return broken(NAME, format!("{who}: {seq} was delivered and is not wanted"));
    }
    if ack.delivered > before + 1 {
        return broken(
            NAME,
            format!("{who}: {seq} delivered {} times, says attempt {}", before, ack.delivered),
        );
    }
    Ok(())
}

/// After everything was offered, every message the consumer wants was delivered at least once.
pub(crate) fn are_complete(stream: &StreamFacts, name: &str, facts: &ConsumerFacts) -> Check {
    let Some(consumer) = stream.model.consumers.get(name) else { return Ok(()) };
    for (seq, _) in stream.model.messages.iter().filter(|(seq, message)| consumer.wants(**seq, message)) {
        if !facts.delivered.contains_key(seq) {
            return broken(NAME, format!("{} > {name}: {seq} was never delivered", stream.name));
        }
        if facts.waits_for_ack && !facts.acked.contains(seq) {
            return broken(
                NAME,
                format!("{} > {name}: {seq} was not offered until it was acknowledged", stream.name),
            );
        }
    }
    Ok(())
}
