//! Consumers between the form of archives and that of streams.

use linnet_archive::{ArchivedConsumer, ArchivedPending, ArchivedState, Position};
use linnet_assets::{Attach, ConsumerState, Floor, Pending};
use linnet_jsapi::ConsumerConfig;

pub(super) fn archived(attach: &Attach) -> ArchivedConsumer {
    let state = attach.state.as_ref();
    ArchivedConsumer { config: attach.config.clone(), state: state.map(archived_state), created: None }
}

fn archived_state(state: &ConsumerState) -> ArchivedState {
    let position = |floor: Floor| Position { consumer_seq: floor.consumer, stream_seq: floor.stream };
    let pending: std::collections::BTreeMap<_, _> = state
        .pending
        .iter()
        .map(|(seq, p)| (*seq, ArchivedPending { sequence: p.consumer_seq, timestamp: p.since }))
        .collect();
    let again = state.pending.iter().map(|(seq, p)| (*seq, p.deliveries));
    let exhausted = state.exhausted.iter().map(|(seq, (_, deliveries))| (*seq, *deliveries));
    let redelivered: std::collections::BTreeMap<_, _> = again
        .chain(exhausted)
        .filter(|(_, deliveries)| *deliveries > 1)
        .map(|(seq, deliveries)| (seq, deliveries - 1))
        .collect();
    ArchivedState {
        delivered: position(state.delivered),
        ack_floor: position(state.ack_floor),
        pending: (!pending.is_empty()).then_some(pending),
        redelivered: (!redelivered.is_empty()).then_some(redelivered),
    }
}

/// The state of a consumer of a stream whose sequences are used up to `last_seq`. A server that goes on while it makes
/// a backup may have delivered what is not in the backup.
pub(super) fn restored(
    state: Option<ArchivedState>,
    config: &ConsumerConfig,
    last_seq: u64,
) -> ConsumerState {
    let Some(archived) = state else { return ConsumerState::default() };
    let floor = |at: Position| Floor { consumer: at.consumer_seq, stream: at.stream_seq.min(last_seq) };
    let redelivered = archived.redelivered.unwrap_or_default();
    let pending = archived.pending.unwrap_or_default();
    let mut state = ConsumerState {
        delivered: floor(archived.delivered),
        ack_floor: floor(archived.ack_floor),
        last_delivered: pending.values().map(|p| p.timestamp).max(),
        ..ConsumerState::default()
    };
    for (seq, p) in &pending {
        let deliveries = redelivered.get(seq).map_or(1, |again| again.saturating_add(1));
        // Floors lie below what is pending.
        state
            .pending
            .insert(*seq, Pending { consumer_seq: p.sequence.max(1), deliveries, since: p.timestamp });
    }
    if config.max_deliver > 0 {
        let gone = redelivered
            .iter()
            .filter(|(seq, _)| **seq > archived.ack_floor.stream_seq && !pending.contains_key(*seq));
        for (seq, again) in gone {
            let first = archived.ack_floor.consumer_seq.saturating_add(1);
            state.exhausted.insert(*seq, (first, again.saturating_add(1)));
        }
    }
    // Sequences below 1 do not exist; what is behind the newest delivery was not delivered.
    let newest = state.delivered.stream;
    state.pending.retain(|seq, _| (1..=newest).contains(seq));
    state.exhausted.retain(|seq, _| (1..=newest).contains(seq));
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_comes_back_as_it_was() {
        let mut state = ConsumerState {
            delivered: Floor { consumer: 9, stream: 20 },
            ack_floor: Floor { consumer: 3, stream: 4 },
            last_delivered: Some(7),
            ..ConsumerState::default()
        };
        state.pending.insert(5, Pending { consumer_seq: 4, deliveries: 1, since: 5 });
        state.pending.insert(8, Pending { consumer_seq: 6, deliveries: 3, since: 7 });
        state.exhausted.insert(6, (4, 5));
        let config = ConsumerConfig { max_deliver: 5, ..ConsumerConfig::default() };
        let attach =
            Attach { name: "C".to_owned(), config: config.clone(), created: 1, state: Some(state.clone()) };
        assert_eq!(restored(archived(&attach).state, &config, 20), state);
    }

    #[test]
    fn nothing_is_delivered_behind_the_last_message() {
        let delivered = Position { consumer_seq: 7, stream_seq: 30 };
        let pending = [(20, ArchivedPending::default()), (30, ArchivedPending::default())].into();
        let archived = ArchivedState { delivered, pending: Some(pending), ..ArchivedState::default() };
        let state = restored(Some(archived), &ConsumerConfig::default(), 25);
        assert_eq!(state.delivered, Floor { consumer: 7, stream: 25 });
        assert_eq!(state.pending.keys().copied().collect::<Vec<_>>(), [20]);
    }

    #[test]
    fn what_cannot_be_pending_is_left_out() {
        let pending = [(0, ArchivedPending::default()), (9, ArchivedPending::default())].into();
        let archived = ArchivedState { pending: Some(pending), ..ArchivedState::default() };
        assert_eq!(restored(Some(archived), &ConsumerConfig::default(), 9).pending.len(), 0);
    }
}
