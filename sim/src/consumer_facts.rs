//! What clients know of one consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linnet_assets::ConsumerState;
use linnet_ids::Mono;
use linnet_jsapi::policies::AckPolicy;
use linnet_jsapi::{ConsumerConfig, Nanos};

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

#[derive(Clone, Debug, Default)]
struct Life {
    last: Option<u64>,
    open: BTreeSet<u64>,
    sent: Option<Mono>,
}

/// What is known of one consumer, since it was made or began anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsumerFacts {
    seen: Seen,
    /// As `seen`, since somebody asked that it begin anew.
    recent: Seen,
    confirmed: BTreeSet<u64>,
    confirmed_all: u64,
    /// The client acknowledged everything up to here.
    acked_all: u64,
    /// Messages come again until they are acknowledged, without limit, and always did.
    pub(crate) waits_for_ack: bool,
    was_limited: bool,
    /// When messages may come again that nobody asked for.
    due: BTreeMap<u64, Mono>,
    /// How long messages wait.
    waits: (Nanos, Vec<Nanos>),
    /// Messages the client wanted again.
    refused: BTreeSet<u64>,
    /// What the server should remember of this life: the number of the last delivery, the messages delivered and not
    /// acknowledged, and when something was sent last.
    life: Life,
    /// Grows when somebody asks that it begin anew and when it does.
    pub(crate) epoch: u64,
    resets: u64,
}

impl ConsumerFacts {
    /// What is known of a consumer that goes on from a state.
    pub(crate) fn continuing(state: &ConsumerState) -> Self {
        let open = state.pending.iter().map(|(seq, pending)| (*seq, pending.deliveries));
        let exhausted = state.exhausted.iter().map(|(seq, (_, deliveries))| (*seq, *deliveries));
        let delivered = open.chain(exhausted).collect();
        let seen = Seen { deliveries: state.delivered.consumer, delivered, acked: BTreeSet::new() };
        Self { seen, ..Self::default() }
    }

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

    /// The number of the last delivery of this life.
    pub(crate) fn last(&self) -> Option<u64> {
        self.life.last
    }

    /// When something was sent last in this life.
    pub(crate) fn sent(&self) -> Option<Mono> {
        self.life.sent
    }

    /// Something besides messages was sent.
    pub(crate) fn heard(&mut self, now: Mono) {
        self.life.sent = Some(now);
    }

    /// Messages delivered in this life that nobody acknowledged; `None` if the server may have given up on some.
    pub(crate) fn open(&self) -> Option<&BTreeSet<u64>> {
        (!self.was_limited).then_some(&self.life.open)
    }

    /// The last message in the stream's order that was delivered.
    pub(crate) fn newest(&self) -> Option<u64> {
        self.seen.delivered.last_key_value().map(|(seq, _)| *seq)
    }

    /// A message came for the `attempt`th time, as the server counts, as delivery number `number`.
    pub(crate) fn got(&mut self, seq: u64, number: u64, attempt: u64, config: &ConsumerConfig, now: Mono) {
        self.life.last = Some(number);
        self.life.sent = Some(now);
        for seen in [&mut self.seen, &mut self.recent] {
            seen.deliveries += 1;
            *seen.delivered.entry(seq).or_default() += 1;
        }
        if config.ack_policy != AckPolicy::None {
            self.due.insert(seq, now + wait(config, attempt));
            // An acknowledgement may still be on its way.
            if seq > self.acked_all && !self.is_acked(seq) {
                self.life.open.insert(seq);
            }
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
        if all {
            self.acked_all = self.acked_all.max(seq);
        }
        self.life.open.retain(|open| *open != seq && (!all || *open > seq));
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
        self.forget_life();
        self.epoch += 1;
    }

    /// Follows what its log says of it.
    pub(crate) fn follow(&mut self, consumer: &ModelConsumer) {
        let config = &consumer.config;
        self.was_limited |= config.max_deliver > 0;
        let is_awaited = !matches!(config.ack_policy, AckPolicy::None | AckPolicy::FlowControl);
        self.waits_for_ack = is_awaited && !self.was_limited;
        // A client that works on a message may have it wait for less from then on.
        let waits = (config.ack_wait, config.backoff.clone());
        if self.waits != waits {
            self.waits = waits;
            self.due.clear();
        }
        if consumer.resets > self.resets {
            self.resets = consumer.resets;
            self.seen = self.recent.clone();
            self.confirmed.clear();
            self.confirmed_all = 0;
            self.acked_all = 0;
            self.forget_life();
            self.epoch += 1;
        }
    }

    /// The server that remembers is gone.
    pub(crate) fn forget_life(&mut self) {
        self.due.clear();
        self.life = Life::default();
    }
}

/// How long a message waits for its acknowledgement after its `attempt`th delivery.
fn wait(config: &ConsumerConfig, attempt: u64) -> Duration {
    let at = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = config.backoff.get(at).or_else(|| config.backoff.last()).unwrap_or(&config.ack_wait);
    wait.to_duration()
}
