//! A request gets no more than it asks for, and its turn comes as the consumer's priority policy says.

use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::policies::PriorityPolicy;
use linnet_wire::headers;

use super::deliveries::Delivery;
use super::{Check, broken};
use crate::consumer_facts::ConsumerFacts;
use crate::pulls::{Pull, Pulls};

const NAME: &str = "pulls";

/// A message came for the request of this number.
pub(crate) fn is_due(
    pulls: &Pulls,
    no: u64,
    config: &ConsumerConfig,
    facts: &ConsumerFacts,
    delivery: &Delivery<'_>,
) -> Check {
    let Some(pull) = pulls.get(no) else { return Ok(()) };
    let wrong = |what: &str| {
        let text = format!("{} gets {}: {what}, {pull:?}", delivery.ack.consumer, delivery.ack.stream_seq);
        broken(NAME, text)
    };
    if pull.has_ended {
        return wrong("the request has ended");
    }
    let most_bytes = pull.wanted.max_bytes;
    if most_bytes > 0 && pull.got_bytes + delivery.size() > most_bytes {
        return wrong("it has too many bytes");
    }
    match config.priority_policy {
        PriorityPolicy::None => Ok(()),
        PriorityPolicy::Prioritized => {
            let mut earlier = pulls.before(no).filter(|other| other.wanted.priority < pull.wanted.priority);
            earlier.next().map_or(Ok(()), |other| wrong(&format!("it is the turn of {other:?}")))
        }
        PriorityPolicy::Overflow => {
            let wanted = &pull.wanted;
            let is_first = delivery.ack.delivered == 1;
            let pending = delivery.ack.pending + u64::from(is_first);
            let is_over = (wanted.min_pending > 0 && pending >= wanted.min_pending)
                || (wanted.min_ack_pending > 0 && facts.most_open() >= wanted.min_ack_pending);
            let is_plain = wanted.min_pending == 0 && wanted.min_ack_pending == 0;
            if is_plain || is_over { Ok(()) } else { wrong(&format!("{pending} are pending")) }
        }
        PriorityPolicy::PinnedClient => is_of_pinned(pulls, pull, config, delivery).map_or(Ok(()), wrong),
    }
}

/// What is wrong about the client that gets a message of a consumer that pins one.
fn is_of_pinned(
    pulls: &Pulls,
    pull: &Pull,
    config: &ConsumerConfig,
    delivery: &Delivery<'_>,
) -> Option<&'static str> {
    let Some(id) = headers::get(delivery.headers, "Nats-Pin-Id") else { return Some("nobody is pinned") };
    let pinned = pulls.pinned(pull.group, &pull.consumer.0, pull.consumer.1);
    if let Some(pinned) = pinned.filter(|pinned| pinned.id == id) {
        let is_own = pull.wanted.id.as_bytes() == pinned.id || pull.pin == pinned.id;
        return (!is_own).then_some("another client is pinned");
    }
    let silence = config.priority_timeout.to_duration();
    let is_free = pinned.is_none_or(|pinned| pinned.may_end || delivery.now >= pinned.active + silence);
    if !is_free {
        return Some("the pinned client is still there");
    }
    if pulls.was_pinned(id) {
        return Some("its id was another one's");
    }
    (!pull.wanted.id.is_empty()).then_some("its id is unknown")
}
