//! What clients know of one consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linnet_ids::Mono;
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::policies::AckPolicy;

use crate::model::ModelConsumer;

/// What clients got of a consumer and did about it.
#[derive(Clone, Debug, Default)]
struct Seen {
    deliveries: u64,
    /// Deliveries by message.
    delivered: BTreeMap<u64, u64>,
    /// Messages the client acknowledged, confirmed or not.
    acked: BTreeSet<u64>,
}

/// What is known of one consumer, since it was made or began anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsumerFacts {
    seen: Seen,
    /// As `seen`, since somebody asked that it begin anew.
    recent: Seen,
    confirmed: BTreeSet<u64>,
    confirmed_all: u64,
    /// Messages come again until they are acknowledged, without limit, and always did.
    pub(crate) waits_for_ack: bool,
    was_limited: bool,
    /// When messages may come again that nobody asked for.
    due: BTreeMap<u64, Mono>,
    /// Messages the client wanted again.
    refused: BTreeSet<u64>,
    /// Grows when somebody asks that it begin anew and when it does.
    pub(crate) epoch: u64,
    resets: u64,
}

impl ConsumerFacts {
    pub(crate) fn deliveries(&self) -> u64 {
        self.seen.deliveries
    }

    /// How often the message was delivered.
    pub(crate) fn delivered(&self, seq: u64) -> u64 {
        self.seen.delivered.get(&seq).copied().unwrap_or(0)
    }

    pub(crate) fn is_acked(&self, seq: u64) -> bool {
        self.seen.acked.contains(&seq)
    }

    pub(crate) fn is_confirmed(&self, seq: u64) -> bool {
        self.confirmed.contains(&seq) || (seq <= self.confirmed_all && self.seen.delivered.contains_key(&seq))
    }

    pub(crate) fn confirmed_last(&self) -> Option<u64> {
        let last = self.confirmed.last().copied().unwrap_or(0).max(self.confirmed_all);
        (last > 0).then_some(last)
    }

    /// How many messages may be delivered and not acknowledged.
    pub(crate) fn most_open(&self) -> u64 {
        self.seen.delivered.keys().filter(|seq| !self.is_confirmed(**seq)).count() as u64
    }

    /// When the message may come again, if nobody asked for it.
    pub(crate) fn due(&self, seq: u64) -> Option<Mono> {
        self.due.get(&seq).copied().filter(|_| !self.refused.contains(&seq))
    }

    /// A message came for the `attempt`th time, as the server counts.
    pub(crate) fn got(&mut self, seq: u64, attempt: u64, config: &ConsumerConfig, now: Mono) {
        for seen in [&mut self.seen, &mut self.recent] {
            seen.deliveries += 1;
            *seen.delivered.entry(seq).or_default() += 1;
        }
        if config.ack_policy != AckPolicy::None {
            self.due.insert(seq, now + wait(config, attempt));
        }
    }

    /// The client acknowledges a message, with `all` everything before it as well.
    pub(crate) fn ack(&mut self, seq: u64, all: bool) {
        for seen in [&mut self.seen, &mut self.recent] {
            if all {
                seen.acked.extend(seen.delivered.range(..=seq).map(|(seq, _)| *seq));
            }
            seen.acked.insert(seq);
        }
    }

    /// The client wants a message again.
    pub(crate) fn refuse(&mut self, seq: u64) {
        self.refused.insert(seq);
    }

    pub(crate) fn confirm(&mut self, seq: u64, all: bool) {
        if all {
            self.confirmed_all = self.confirmed_all.max(seq);
        } else {
            self.confirmed.insert(seq);
        }
    }

    /// It may have begun anew, now or soon.
    pub(crate) fn doubt(&mut self) {
        self.recent = Seen::default();
        self.due.clear();
        self.epoch += 1;
    }

    /// Follows what its log says of it.
    pub(crate) fn follow(&mut self, consumer: &ModelConsumer) {
        let config = &consumer.config;
        self.was_limited |= config.max_deliver > 0;
        self.waits_for_ack = config.ack_policy != AckPolicy::None && !self.was_limited;
        if consumer.resets > self.resets {
            self.resets = consumer.resets;
            self.seen = self.recent.clone();
            self.confirmed.clear();
            self.confirmed_all = 0;
            self.due.clear();
            self.epoch += 1;
        }
    }

    /// After a restart messages wait anew.
    pub(crate) fn forget_times(&mut self) {
        self.due.clear();
    }
}

/// How long a message waits for its acknowledgement after its `attempt`th delivery.
fn wait(config: &ConsumerConfig, attempt: u64) -> Duration {
    let at = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = config.backoff.get(at).or_else(|| config.backoff.last()).unwrap_or(&config.ack_wait);
    wait.to_duration()
}
