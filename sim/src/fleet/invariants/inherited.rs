//! A stream in memory that begins again has everything acknowledged that any of its replicas still had.

use linnet_ids::GroupId;
use linnet_replication::Assignment;

use crate::field::Held;
use crate::fleet::world::World;

impl World {
    /// A stream is to begin again on the member that holds most of the group that is over.
    pub(in crate::fleet) fn check_seed(&mut self, assignment: &Assignment) {
        let Some(from) = assignment.continues.as_deref().and_then(GroupId::parse) else { return };
        // While servers come and go, the one that held most may have ended since.
        if self.field.is_faulty {
            return;
        }
        let last = |at: usize| {
            let life = self.field.machines[at].life.as_ref()?;
            let slot = life.slots.values().find(|slot| slot.group.group() == from)?;
            slot.group.status().map(|status| (status.last_term, status.last))
        };
        let seed = assignment.replicas().into_iter().find(|replica| replica.incarnation > 0);
        let chosen = seed.and_then(|seed| self.server(seed.peer)).and_then(last);
        let most = self.staying().into_iter().filter_map(last).max();
        if chosen < most {
            self.fail(format!("{from} goes on with what ends at {chosen:?}, another replica's at {most:?}"));
        }
    }

    /// Group `group` begins on a server with what was left of group `from`.
    pub(in crate::fleet) fn check_inherited(&mut self, at: usize, from: GroupId, group: GroupId) {
        let Some(slot) = self.field.life(at).and_then(|life| life.slot_of(group)) else { return };
        let held = match Held::by(&mut slot.group) {
            Ok(held) => held,
            Err(error) => return self.fail(format!("s{at} {group}: {error}")),
        };
        let Some(facts) = self.facts.streams.get(&from) else { return };
        let acknowledged: Vec<u64> =
            facts.stored.values().copied().filter(|seq| !facts.may_be_removed(*seq)).collect();
        for other in self.staying() {
            let Some(slot) = self.field.life(other).and_then(|life| life.slot_of(from)) else { continue };
            let Ok(theirs) = Held::by(&mut slot.group) else { continue };
            let missing = acknowledged
                .iter()
                .find(|seq| theirs.messages.contains_key(seq) && !held.messages.contains_key(seq));
            if let Some(seq) = missing {
                let text =
                    format!("{group} begins on s{at} without message {seq} of {from}, which s{other} has");
                return self.fail(text);
            }
        }
    }
}
