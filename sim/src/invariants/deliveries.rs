//! What is delivered is in the stream, wanted, not confirmed before, and counted right; nothing wanted is left out.

use linnet_ids::Mono;
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::policies::{AckPolicy, PriorityPolicy};
use linnet_jsapi::subjects::AckSubject;
use linnet_wire::headers;

use super::{Check, broken, content};
use crate::consumer_facts::ConsumerFacts;
use crate::facts::StreamFacts;
use crate::model::{Message, ModelConsumer};

const NAME: &str = "deliveries";

/// A message as a client of a consumer gets it.
pub(crate) struct Delivery<'a> {
    pub(crate) ack: AckSubject<'a>,
    pub(crate) reply: &'a [u8],
    pub(crate) subject: &'a [u8],
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) now: Mono,
    pub(crate) wall: i64,
}

impl Delivery<'_> {
    /// What it counts for.
    pub(crate) fn size(&self) -> u64 {
        (self.subject.len() + self.reply.len() + self.headers.len() + self.payload.len()) as u64
    }
}

/// A delivery as the client sees it.
pub(crate) fn is_right(
    stream: &StreamFacts,
    consumer: &ModelConsumer,
    facts: &ConsumerFacts,
    delivery: &Delivery<'_>,
) -> Check {
    let (ack, seq) = (&delivery.ack, delivery.ack.stream_seq);
    let who = format!("{} > {}", stream.name, ack.consumer);
    let Some(message) = stream.model.messages.get(&seq) else {
        return broken(NAME, format!("{who}: {seq} was delivered and is not in the stream"));
    };
    if !is_content(message, &consumer.config, delivery) {
        return broken(NAME, format!("{who}: {seq} was delivered with another content"));
    }
    if ack.consumer_seq > facts.deliveries() + 1 {
        let text = format!("{who}: delivery {} after {} deliveries", ack.consumer_seq, facts.deliveries());
        return broken(NAME, text);
    }
    let before = facts.delivered(seq);
    if ack.delivered > before + 1 {
        return broken(
            NAME,
            format!("{who}: {seq} delivered {} times, says attempt {}", before, ack.delivered),
        );
    }
    if let Some(most) = u64::try_from(consumer.config.max_deliver).ok().filter(|most| ack.delivered > *most) {
        return broken(NAME, format!("{who}: attempt {} at {seq}, {most} are allowed", ack.delivered));
    }
    if consumer.config.pause_until.is_some_and(|until| until.0 > delivery.wall) {
        return broken(NAME, format!("{who}: {seq} was delivered in a pause"));
    }
    let behind = || stream.model.messages.range(seq + 1..).filter(|(_, m)| consumer.covers(m)).count() as u64;
    if ack.delivered == 1 && consumer.is_plain() && ack.pending != behind() {
        let text = format!("{who}: {} come after {seq}, told were {}", behind(), ack.pending);
        return broken(NAME, text);
    }
    // While it may or may not have begun anew, what came before may come again.
    if stream.resetting.contains_key(ack.consumer) {
        return Ok(());
    }
    if facts.last().is_some_and(|last| ack.consumer_seq != last + 1) {
        let text = format!("{who}: delivery {} follows {:?}", ack.consumer_seq, facts.last());
        return broken(NAME, text);
    }
    if ack.delivered == 1 && has_too_many(stream, &consumer.config, facts) {
        let most = consumer.config.max_ack_pending;
        return broken(NAME, format!("{who}: {seq} was delivered while {most} were not acknowledged"));
    }
    if facts.is_confirmed(seq) {
        return broken(NAME, format!("{who}: {seq} was delivered after its confirmed acknowledgement"));
    }
    // What was delivered once comes again until it is acknowledged, also under another filter.
    if before == 0 && !consumer.wants(seq, message) {
        return broken(NAME, format!("{who}: {seq} was delivered and is not wanted"));
    }
    if let Some(due) = facts.due(seq).filter(|due| delivery.now < *due) {
        return broken(NAME, format!("{who}: {seq} came again at {:?}, before {due:?}", delivery.now));
    }
    Ok(())
}

/// True if as many messages as the consumer allows are delivered and not acknowledged for sure.
fn has_too_many(stream: &StreamFacts, config: &ConsumerConfig, facts: &ConsumerFacts) -> bool {
    let Some(open) = facts.open() else { return false };
    let open = open.iter().filter(|seq| stream.model.messages.contains_key(seq)).count();
    let most = usize::try_from(config.max_ack_pending).ok().filter(|most| *most > 0);
    config.ack_policy != AckPolicy::None && most.is_some_and(|most| open >= most)
}

/// The message as it is stored, or only what there is besides its payload.
fn is_content(message: &Message, config: &ConsumerConfig, delivery: &Delivery<'_>) -> bool {
    let Delivery { subject, headers, payload, .. } = delivery;
    let is_pinned = config.priority_policy == PriorityPolicy::PinnedClient;
    if !config.headers_only && !is_pinned {
        return message.subject == *subject && message.headers == *headers && message.payload == *payload;
    }
    let mut expected = content::list(&message.headers);
    if is_pinned {
        let id = headers::get(headers, "Nats-Pin-Id").unwrap_or_default();
        expected.push((b"Nats-Pin-Id".to_vec(), id.to_vec()));
    }
    let mut whole = message.payload.as_slice();
    if config.headers_only {
        expected.push((b"Nats-Msg-Size".to_vec(), whole.len().to_string().into_bytes()));
        whole = b"";
    }
    message.subject == *subject && content::list(headers) == expected && whole == *payload
}

/// After everything was offered, every message the consumer wants was delivered at least once.
pub(crate) fn are_complete(stream: &StreamFacts, name: &str, facts: &ConsumerFacts) -> Check {
    let Some(consumer) = stream.model.consumers.get(name) else { return Ok(()) };
    let wanted = stream.model.messages.iter().filter(|(seq, message)| consumer.always_wanted(**seq, message));
    for (seq, _) in wanted {
        if facts.delivered(*seq) == 0 {
            return broken(NAME, format!("{} > {name}: {seq} was never delivered", stream.name));
        }
        if facts.waits_for_ack && !facts.is_acked(*seq) {
            return broken(
                NAME,
                format!("{} > {name}: {seq} was not offered until it was acknowledged", stream.name),
            );
        }
    }
    Ok(())
}
