//! What must hold, whatever breaks.

use bytes::Bytes;
use linnet_ids::{LogIndex, Term};

use super::ClusterEvent;
use super::counter::number_of;
use super::world::World;

impl World {
    /// What one replica has applied, every replica applies.
    pub(super) fn check_committed(
        &mut self,
        at: usize,
        index: LogIndex,
        term: Term,
        payload: Option<&Bytes>,
    ) {
        let entry = (term, payload.cloned());
        match self.committed.get(&index) {
            Some(known) if *known != entry => {
                let text =
                    format!("s{at} applies term {term} at {index}, where term {} was applied", known.0);
                self.fail(text);
            }
            Some(_) => {}
            None => {
                self.committed.insert(index, entry);
            }
        }
    }

    /// A read sees everything that had been acknowledged before it was asked.
    pub(super) fn check_reads(&mut self, at: usize) {
        let Some(life) = &mut self.servers[at].life else { return };
        let applied = life.counter.applied;
        let ready: Vec<_> = life.confirmed.extract_if(.., |(index, _)| *index <= applied).collect();
        for (index, newest) in ready {
            if index < newest {
                self.fail(format!("s{at} answers a read from {index}, {newest} was acknowledged before"));
            }
            self.count(ClusterEvent::Read);
        }
    }

    /// Everything is healed and nobody adds any more faults: one leader, equal states, nothing acknowledged is lost.
    pub(super) fn check_rest(&mut self) {
        let Some(leader) = self.leader() else { return self.fail("no leader at rest".to_owned()) };
        let Some(state) = self.servers[leader].life.as_ref().map(|l| l.counter) else { return };
        for at in 0..self.servers.len() {
            let Some(life) = &self.servers[at].life else {
                return self.fail(format!("s{at} does not run at rest"));
            };
            let status = life.driver.status();
            let lag = state.applied.saturating_sub(life.counter.applied);
            if status.is_amnesiac {
                return self.fail(format!("s{at} was not re-admitted"));
            }
            // Clients go on adding: what is on its way may be missing.
            if lag > 50 {
                return self.fail(format!(
                    "s{at} has applied {}, the leader {}",
                    life.counter.applied, state.applied
                ));
            }
            if life.counter.applied == state.applied && life.counter != state {
                return self.fail(format!("s{at} and the leader differ at {}", state.applied));
            }
        }
        if let Some((newest, _)) = self.acknowledged.last_key_value()
            && state.applied < *newest
        {
            return self.fail(format!("{newest} was acknowledged, {} is what is left", state.applied));
        }
        let lost = self.acknowledged.iter().find(|(index, number)| {
            let committed = self.committed.get(index).and_then(|(_, payload)| payload.as_ref());
            committed.is_none_or(|payload| number_of(payload) != **number)
        });
        if let Some((index, number)) = lost {
            self.fail(format!("{number} was acknowledged at {index}, where something else is"));
        }
    }
}
