//! What must hold, whatever breaks.

use std::collections::BTreeMap;

use super::ReplicaEvent;
use super::clients::{CONSUMER, payload, subject};
use super::server::Life;
use super::world::World;
use crate::field::{Held, Machine};

/// Entries that a replica may be behind.
const LAG_MAX: u64 = 40;

impl World {
    /// At one place of the log, every replica has the same state.
    pub(super) fn compare(&mut self, at: usize) {
        if self.field.machines[at].disk.is_off() {
            return;
        }
        let Some(life) = &mut self.field.machines[at].life else { return };
        let held = match Held::by(&mut life.group) {
            Ok(held) => held,
            Err(error) => return self.fail(format!("s{at}: {error}")),
        };
        let hash = held.hash();
        let text = (self.field.trace.is_some()).then_some(held.text);
        match self.states.get(&held.applied) {
            None => {
                self.states.insert(held.applied, (hash, at, text));
            }
            Some((known, by, other)) if *known != hash => {
                let both = format!("\n{text:?}\n{other:?}");
                let text = format!("s{at} and s{by} differ at {}{both}", held.applied);
                self.fail(text);
            }
            Some(_) => self.count(ReplicaEvent::Compared),
        }
    }

    /// Everything is healed, and clients go on: no replica is far behind.
    pub(super) fn check_lag(&mut self) {
        let applied =
            |server: &Machine<Life>| server.life.as_ref().and_then(|l| l.group.status()).map(|s| s.applied);
        let applied: Vec<_> =
            self.field.machines.iter().map(|server| applied(server).unwrap_or_default()).collect();
        let most = applied.iter().max().copied().unwrap_or_default();
        if let Some(at) = applied.iter().position(|applied| applied + LAG_MAX < most) {
            self.fail(format!("s{at} has applied {} of {most} while clients go on", applied[at]));
        }
    }

    /// Everything is healed and clients are silent: equal states, nothing acknowledged is lost, nothing is there twice.
    pub(super) fn check_rest(&mut self) {
        let Some(leader) = self.leader() else { return self.fail("no leader at rest".to_owned()) };
        let applied = |world: &Self, at: usize| {
            world.field.machines[at]
                .life
                .as_ref()
                .and_then(|l| l.group.status())
                .map(|s| (s.applied, s.is_amnesiac))
        };
        let expected = applied(self, leader);
        for at in 0..self.field.machines.len() {
            let found = applied(self, at);
            if found != expected {
                return self.fail(format!("s{at} has {found:?} at rest, the leader s{leader} {expected:?}"));
            }
            self.compare(at);
        }
        let Some(life) = &mut self.field.machines[leader].life else { return };
        let pending = life.group.stream().saved().consumers.into_iter().find(|c| c.name == CONSUMER);
        let pending = pending.and_then(|c| c.state).unwrap_or_default().pending;
        let held = match Held::by(&mut life.group) {
            Ok(held) => held,
            Err(error) => return self.fail(format!("s{leader}: {error}")),
        };
        for (number, seq) in self.stored.clone() {
            let expected = (subject(number), payload(number));
            match held.messages.get(&seq) {
                Some(found) if *found == expected => {}
                None if self.may_be_removed(seq) => {}
                _ => return self.fail(format!("{number} was stored at {seq} and is not there")),
            }
        }
        let mut seen = BTreeMap::new();
        for (seq, (_, payload)) in &held.messages {
            if let Some(other) = seen.insert(payload.clone(), *seq) {
                return self.fail(format!("messages {other} and {seq} are the same"));
            }
        }
        if let Some(seq) = self.confirmed.iter().find(|seq| pending.contains_key(seq)) {
            self.fail(format!("the acknowledgement of {seq} was confirmed, and it is pending"));
        }
    }
}
