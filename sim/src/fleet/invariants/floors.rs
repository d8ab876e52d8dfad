//! The acknowledgement floor of a consumer never goes back.

use linnet_ids::LogIndex;

use crate::fleet::world::World;

impl World {
    /// Holds the floor at one place of the log against those before and after it.
    pub(in crate::fleet) fn check_floor(&mut self, at: usize, key: u64, applied: LogIndex) {
        let Some(slot) = self.field.life(at).and_then(|life| life.slots.get(&key)) else { return };
        let group = slot.group.group();
        let consumers = slot.group.stream().saved().consumers;
        let Some(state) = consumers.into_iter().find_map(|consumer| consumer.state) else { return };
        let floor = state.ack_floor.stream;
        let Some(facts) = self.facts.streams.get_mut(&group) else { return };
        let before = facts.floors.range(..=applied).next_back().map(|(_, floor)| *floor);
        let after = facts.floors.range(applied..).next().map(|(_, floor)| *floor);
        facts.floors.insert(applied, floor);
        if before.is_some_and(|before| floor < before) || after.is_some_and(|after| after < floor) {
            let text = format!(
                "s{at} {group}: the floor at {applied} is {floor}, around it {before:?} and {after:?}"
            );
            self.fail(text);
        }
    }
}
