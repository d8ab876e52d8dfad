//! Every acknowledged message is at its sequence, once; of a batch there is all or nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::field::Held;
use crate::fleet::FleetEvent;
use crate::fleet::facts::StreamFacts;
use crate::fleet::workload::{payload, subject};
use crate::fleet::world::World;

impl World {
    /// Holds what is stored at rest against what publishers were told.
    pub(super) fn check_stored(&mut self) {
        for at in self.staying() {
            let Some(life) = self.field.life(at) else { continue };
            let mut all = Vec::new();
            for slot in life.slots.values_mut() {
                let is_alone = !slot.group.is_replica();
                all.push((slot.group.group(), is_alone, Held::by(&mut slot.group)));
            }
            for (group, is_alone, held) in all {
                let Some(facts) = self.facts.streams.get(&group) else { continue };
                if facts.is_ending || facts.is_memory || facts.is_lost || facts.name.is_empty() {
                    continue;
                }
                let checked = held.and_then(|held| check(facts, &held));
                if is_alone && checked.is_ok() {
                    self.count(FleetEvent::AloneChecked);
                }
                match checked {
                    Ok(messages) => *self.events.entry(FleetEvent::Checked).or_default() += messages,
                    Err(error) => self.fail(format!("s{at} {group}: {error}")),
                }
            }
        }
    }
}

/// How many messages were found.
fn check(facts: &StreamFacts, held: &Held) -> Result<u64, String> {
    for (number, seq) in &facts.stored {
        let expected = (subject(&facts.name, number.0), payload(*number));
        match held.messages.get(seq) {
            Some(found) if *found == expected => {}
            None if facts.may_be_removed(*seq) => {}
            _ => return Err(format!("{number:?} was stored at {seq} and is not there")),
        }
    }
    let mut seen = BTreeMap::new();
    for (seq, (_, payload)) in &held.messages {
        if let Some(other) = seen.insert(payload.clone(), *seq) {
            return Err(format!("messages {other} and {seq} are the same"));
        }
    }
    batches_are_whole(facts, held)?;
    Ok(held.messages.len() as u64)
}

fn batches_are_whole(facts: &StreamFacts, held: &Held) -> Result<(), String> {
    if facts.limit.is_some() || facts.is_queue {
        return Ok(());
    }
    let mut parts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (_, payload) in held.messages.values() {
        let text = String::from_utf8_lossy(payload);
        let id = text.split(' ').next().and_then(|id| id.split_once('.'));
        if let Some((number, part)) = id.and_then(|(n, p)| Some((n.parse().ok()?, p.parse().ok()?)))
            && part > 0
        {
            parts.entry(number).or_default().insert(part);
        }
    }
    match parts.iter().find(|(_, parts)| parts.len() != 3) {
        Some((number, parts)) => Err(format!("of batch {number} there are only {parts:?}")),
        None => Ok(()),
    }
}
