//! What is confirmed to be acknowledged is not delivered again.

use linnet_ids::{GroupId, StreamSeq};

use crate::fleet::world::World;

impl World {
    /// A message reaches a client.
    pub(in crate::fleet) fn check_delivery(&mut self, at: usize, group: GroupId, seq: StreamSeq) {
        let facts = self.facts.streams.get(&group);
        if facts.is_some_and(|f| f.confirmed.contains(&seq) && !f.is_memory && !f.is_ending && !f.is_lost) {
            self.fail(format!("s{at} delivers {seq} of {group}, whose acknowledgement was confirmed"));
        }
    }

    /// At rest nothing is pending whose acknowledgement was confirmed.
    pub(super) fn check_pending(&mut self) {
        for at in self.staying() {
            let Some(life) = self.field.life(at) else { continue };
            let mut pending = Vec::new();
            for slot in life.slots.values() {
                let consumers = slot.group.stream().saved().consumers;
                let states = consumers.into_iter().filter_map(|consumer| consumer.state);
                pending
                    .extend(states.flat_map(|s| s.pending.into_keys()).map(|seq| (slot.group.group(), seq)));
            }
            for (group, seq) in pending {
                let facts = self.facts.streams.get(&group);
                if facts
                    .is_some_and(|f| f.confirmed.contains(&seq) && !f.is_memory && !f.is_ending && !f.is_lost)
                {
                    self.fail(format!("s{at} awaits {seq} of {group}, whose acknowledgement was confirmed"));
                }
            }
        }
    }
}
