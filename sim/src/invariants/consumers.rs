//! What a consumer confirmed stays, and what it counts is what happened.

use linnet_assets::Attach;

use super::{Check, broken};
use crate::consumer_facts::ConsumerFacts;
use crate::facts::StreamFacts;

const NAME: &str = "consumers";

/// The state of a consumer holds everything that was confirmed, and no delivery more than there were.
pub(crate) fn keeps_promises(stream: &StreamFacts, attach: &Attach, facts: &ConsumerFacts) -> Check {
    let Some(state) = &attach.state else { return Ok(()) };
    let who = format!("{} > {}", stream.name, attach.name);
    let open = state.pending.keys().chain(state.exhausted.keys());
    for seq in open.clone() {
        if facts.is_confirmed(*seq) {
            return broken(NAME, format!("{who}: the confirmed acknowledgement of {seq} is gone"));
        }
    }
    if let Some(last) = facts.confirmed_last()
        && state.delivered.stream < last
    {
        let text = format!("{who}: delivered up to {}, {last} was confirmed", state.delivered.stream);
        return broken(NAME, text);
    }
    if let Some(lowest) = open.min()
        && state.ack_floor.stream >= *lowest
    {
        let text = format!("{who}: floor is {}, {lowest} is open, {state:?}", state.ack_floor.stream);
        return broken(NAME, text);
    }
    if state.delivered.consumer > facts.deliveries() {
        let text = format!(
            "{who}: counts {} deliveries, there were {}",
            state.delivered.consumer,
            facts.deliveries()
        );
        return broken(NAME, text);
    }
    for (seq, pending) in &state.pending {
        let there_were = facts.delivered(*seq);
        if pending.deliveries > there_were {
            let counted = pending.deliveries;
            let text = format!("{who}: counts {counted} deliveries of {seq}, there were {there_were}");
            return broken(NAME, text);
        }
    }
    Ok(())
}
