//! A heartbeat comes only when nothing else did, and tells what was delivered.

use linnet_ids::Mono;
use linnet_wire::headers;

use super::{Check, broken};
use crate::consumer_facts::ConsumerFacts;
use crate::facts::StreamFacts;
use crate::model::ModelConsumer;

const NAME: &str = "beats";

/// A heartbeat at the deliver subject of a consumer.
pub(crate) fn is_due(
    stream: &StreamFacts,
    consumer: &ModelConsumer,
    facts: &ConsumerFacts,
    block: &[u8],
    now: Mono,
) -> Check {
    let who = format!("{} > {}", stream.name, consumer.config.name);
    let number = |key| headers::get(block, key).and_then(|n| str::from_utf8(n).ok()?.parse::<u64>().ok());
    let (Some(last), Some(reached)) = (number("Nats-Last-Consumer"), number("Nats-Last-Stream")) else {
        return broken(NAME, format!("{who}: a heartbeat does not tell how far it is"));
    };
    let interval = consumer.config.idle_heartbeat.to_duration();
    if interval.is_zero() || facts.sent().is_some_and(|sent| now < sent + interval) {
        return broken(NAME, format!("{who}: a heartbeat at {now:?}, last sent at {:?}", facts.sent()));
    }
    // While it may or may not have begun anew, nobody knows how far it is.
    if stream.resetting.contains_key(&consumer.config.name) {
        return Ok(());
    }
    let most = stream.model.last.max(consumer.start() - 1);
    if reached > most || last > facts.deliveries() {
        return broken(NAME, format!("{who}: a heartbeat tells of delivery {last} of {reached}"));
    }
    if facts.last().is_some_and(|known| known != last) {
        return broken(NAME, format!("{who}: a heartbeat tells of delivery {last}, not {:?}", facts.last()));
    }
    Ok(())
}
