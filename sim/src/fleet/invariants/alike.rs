//! At one place of the log, every replica has the same state.

use linnet_ids::GroupId;

use crate::field::Held;
use crate::fleet::FleetEvent;
use crate::fleet::world::World;

impl World {
    /// Compares every group of a server with what others had at the same place.
    pub(in crate::fleet) fn compare_all(&mut self, at: usize) {
        for key in self.keys(at) {
            self.compare(at, key);
        }
    }

    fn compare(&mut self, at: usize, key: u64) {
        if self.field.machines[at].disk.is_off() {
            return;
        }
        let Some(slot) = self.field.life(at).and_then(|life| life.slots.get_mut(&key)) else { return };
        let group = slot.group.group();
        let status = slot.group.status();
        let newest = slot.group.stream().store().state().last_seq;
        if let Some(facts) = self.facts.streams.get_mut(&group) {
            facts.newest = facts.newest.max(newest);
        }
        // What forgot something has nothing to compare yet.
        if status.is_none_or(|status| status.is_amnesiac || status.applied == 0) {
            return;
        }
        let held = match Held::by(&mut slot.group) {
            Ok(held) => held,
            Err(error) => return self.fail(format!("s{at} {group}: {error}")),
        };
        let (hash, applied) = (held.hash(), held.applied);
        let text = self.field.trace.is_some().then_some(held.text);
        let is_meta = group == GroupId::META;
        if !is_meta && !self.facts.streams.contains_key(&group) {
            return self.fail(format!("s{at} has group {group}, which nobody created"));
        }
        let facts = self.facts.streams.entry(group).or_default();
        // Whoever was the only one to have it goes on with what is left.
        if facts.is_lost {
            return;
        }
        match facts.states.get(&applied) {
            None => drop(facts.states.insert(applied, (hash, at, text))),
            Some((known, by, other)) if *known != hash => {
                let text = format!("s{at} and s{by} differ at {applied} of {group}\n{text:?}\n{other:?}");
                return self.fail(text);
            }
            Some(_) => self.count(FleetEvent::Compared),
        }
        self.check_floor(at, key, applied);
    }
}
