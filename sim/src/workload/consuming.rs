//! What clients do with consumers.

use linnet_ids::GroupId;
use linnet_jsapi::policies::{AckPolicy, PriorityPolicy};
use linnet_replication::Host as _;

use super::GROUP;
use super::pushing::is_push;
use crate::facts::AckFacts;
use crate::process::Letter;
use crate::pulls::{Pull, Wanted};
use crate::world::World;

impl World {
    fn consumers(&self, group: GroupId) -> Vec<(String, u64)> {
        let Some(stream) = self.facts.streams.get(&group) else { return Vec::new() };
        let own = stream.model.consumers.iter().filter(|(_, consumer)| !consumer.config.sourcing);
        own.map(|(name, c)| (name.clone(), c.born)).collect()
    }

    pub(super) fn pull(&mut self, stream: &str, group: GroupId) {
        let consumers = self.consumers(group);
        if consumers.is_empty() {
            self.consumer_call(stream, group);
            return;
        }
        let (consumer, _) = consumers[self.rng.usize(..consumers.len())].clone();
        if is_push(&consumer) && self.rng.u8(..20) > 0 {
            self.turn_to(stream, &consumer);
            return;
        }
        let wanted = self.wanted(group, &consumer);
        self.request(group, &consumer, wanted);
    }

    /// What a client asks of a consumer.
    fn wanted(&mut self, group: GroupId, consumer: &str) -> Wanted {
        let known = self.facts.streams.get(&group).and_then(|s| s.model.consumers.get(consumer));
        let pinned = known.and_then(|known| self.pulls.pinned(group, consumer, known.born));
        let pinned = pinned.map(|pinned| String::from_utf8_lossy(&pinned.id).into_owned());
        let policy = self.priority_of(group, consumer);
        let mut pick = |choices: &[u64]| choices[self.rng.usize(..choices.len())];
        let kind = pick(&[0, 1, 2]);
        let wanted = Wanted {
            batch: pick(&[1, 2, 5, 11]),
            max_bytes: pick(&[0, 0, 0, 0, 300, 2000]),
            no_wait: kind == 1,
            waits: kind == 2,
            group: policy.filter(|_| pick(&[0, 1, 1, 1, 1]) == 1).map(|_| GROUP.to_owned()),
            ..Wanted::default()
        };
        match policy {
            Some(PriorityPolicy::Overflow) => Wanted {
                min_pending: pick(&[0, 0, 1, 4, 10]),
                min_ack_pending: pick(&[0, 0, 0, 2, 5]),
                ..wanted
            },
            Some(PriorityPolicy::PinnedClient) => {
                let id = match pick(&[0, 1, 1, 2]) {
                    0 => String::new(),
                    1 => pinned.unwrap_or_default(),
                    _ => "nobody".to_owned(),
                };
                Wanted { id, ..wanted }
            }
            Some(PriorityPolicy::Prioritized) => Wanted { priority: i64::from(self.rng.u8(..4)), ..wanted },
            _ => wanted,
        }
    }

    /// How the consumer chooses between requests, if it does.
    pub(crate) fn priority_of(&self, group: GroupId, consumer: &str) -> Option<PriorityPolicy> {
        let consumer = self.facts.streams.get(&group)?.model.consumers.get(consumer)?;
        Some(consumer.config.priority_policy).filter(|policy| !policy.is_none())
    }

    pub(crate) fn request(&mut self, group: GroupId, consumer: &str, wanted: Wanted) {
        let Some(key) = self.process.key_of(group) else { return };
        let payload = wanted.body();
        self.trace.line(|| format!("pull {consumer} {payload}"));
        let reply = self.note_pull(group, consumer, wanted, false);
        let letter = Letter::Next { consumer: consumer.to_owned(), payload: payload.into_bytes(), reply };
        self.process.letter(key, letter);
    }

    /// Remembers a request for messages; where they come.
    fn note_pull(&mut self, group: GroupId, consumer: &str, wanted: Wanted, is_unsure: bool) -> Vec<u8> {
        let known = self.facts.streams.get(&group).and_then(|s| s.model.consumers.get(consumer));
        let pull = Pull {
            group,
            consumer: (consumer.to_owned(), known.map_or(0, |known| known.born)),
            wanted,
            is_unsure: is_unsure || known.is_none(),
            got: 0,
            got_bytes: 0,
            has_ended: false,
            pin: Vec::new(),
        };
        format!("_pull.{}", self.pulls.add(pull)).into_bytes()
    }

    /// Nobody listens to what requests are answered with, or somebody does again.
    pub(crate) fn turn_deaf(&mut self) {
        self.process.deaf = !self.process.deaf;
        self.pulls.forget();
    }

    pub(super) fn acknowledge(&mut self) {
        for _ in 0..self.rng.u32(1..5) {
            if self.held.is_empty() {
                return;
            }
            let at = self.rng.usize(..self.held.len());
            let payload: &[u8] = match self.rng.u8(..14) {
                0 => b"-NAK",
                1 => b"-NAK 2s",
                2 => b"+WPI",
                3 => b"+TERM no",
                4 => b"+NXT 2",
                _ => b"+ACK",
            };
            let confirm = self.rng.u8(..3) > 0;
            self.send_ack(at, payload, confirm);
        }
    }

    /// Acknowledges a held message. What ends the message is not held any longer, mostly.
    pub(crate) fn send_ack(&mut self, at: usize, payload: &[u8], confirm: bool) {
        let Some(held) = self.held.get(at) else { return };
        let (group, consumer, seq) = (held.group, held.consumer.clone(), held.seq);
        let Some(key) = self.process.key_of(group) else {
            self.held.swap_remove(at);
            return;
        };
        let is_final = !payload.starts_with(b"-NAK") && !payload.starts_with(b"+WPI");
        let config = self.facts.streams.get(&group).and_then(|s| s.model.consumers.get(&consumer));
        let policy = config.map(|c| c.config.ack_policy);
        let born = held.born;
        let is_all = policy == Some(AckPolicy::All);
        let no = self.facts.acks.len();
        let subject = held.ack.clone();
        let wants_next = payload.starts_with(b"+NXT");
        let reply = match (wants_next, confirm) {
            (true, _) => {
                let wanted = Wanted { batch: 2, ..Wanted::default() };
                self.note_pull(group, &consumer, wanted, true)
            }
            (false, true) => format!("_conf.{no}").into_bytes(),
            (false, false) => Vec::new(),
        };
        let stream = self.facts.streams.get_mut(&group);
        let facts = stream.and_then(|s| s.consumers.get_mut(&(consumer.clone(), born)));
        let epoch = facts.as_ref().map_or(0, |facts| facts.epoch);
        if let Some(facts) = facts {
            if is_final {
                facts.ack(seq, is_all);
            } else if payload.starts_with(b"-NAK") {
                facts.refuse(seq);
            }
        }
        self.trace.line(|| {
            let text = String::from_utf8_lossy(payload).into_owned();
            format!("{text} {consumer} {seq} reply {}", String::from_utf8_lossy(&reply))
        });
        self.facts.acks.push(AckFacts { group, consumer, born, seq, is_final, is_all, epoch });
        let letter = Letter::Ack { subject, payload: payload.to_vec(), reply };
        self.process.letter(key, letter);
        if is_final && self.rng.u8(..10) > 0 {
            self.held.swap_remove(at);
        }
    }
}
