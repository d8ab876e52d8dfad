//! What a server does when streams may hardly store more on it: it leaves leading to members of their groups that have
//! room, as a leader without room refuses what the others could store.
//!
//! Its replicas go on to take what their leaders took: the limit of a server bounds what it admits, and a replica that
//! stopped would be one copy less of what was promised.

use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, Mono, PeerId};
use linnet_jsapi::policies::StorageType;

use super::asks::Description;
use super::facts::Facts;
use super::succession::{self, Heir};
use super::{Cluster, Engine};

/// How often it is looked whether there is room.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a hand-over may take before the present leader goes on.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);
/// Room that a leader should have, bytes: a sixteenth of the limit between these, but not more than half of it.
const ROOM: (u64, u64) = (4 << 20, 64 << 20);

/// What is known of the room here, for memory and for files.
#[derive(Default)]
pub(super) struct Cramped {
    looked: Option<Mono>,
    memory: bool,
    file: bool,
    is_busy: bool,
}

/// Room that a leader should have with this limit.
fn wanted(max: u64) -> u64 {
    (max / 16).clamp(ROOM.0, ROOM.1).min(max / 2)
}

/// Whether there is too little room; there has to be twice as much before there is enough again.
fn is_cramped(was: bool, max: u64, used: u64) -> bool {
    let enough = if was { wanted(max).saturating_mul(2) } else { wanted(max) };
    max > 0 && max.saturating_sub(used) < enough
}

fn has_room(said: &Description, storage: StorageType) -> bool {
    let (max, used) = match storage {
        StorageType::Memory => (said.max.0, said.used.0),
        StorageType::File => (said.max.1, said.used.1),
    };
    max > 0 && !is_cramped(true, max, used)
}

/// Looks whether streams have room here, now and then.
pub(super) fn look_after(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let now = cluster.link.clock().mono();
    let ((max_memory, max_storage), (memory, storage)) = (engine.usage.max(), engine.usage.total());
    let (before, is_so) = {
        let mut cramped = cluster.cramped.lock();
        if cramped.is_busy || cramped.looked.is_some_and(|looked| now.since(looked) < LOOK_EVERY) {
            return;
        }
        cramped.looked = Some(now);
        let before = (cramped.memory, cramped.file);
        cramped.memory = is_cramped(before.0, max_memory, memory);
        cramped.file = is_cramped(before.1, max_storage, storage);
        let is_so = (cramped.memory, cramped.file);
        cramped.is_busy = is_so != (false, false) || is_so != before;
        if !cramped.is_busy {
            return;
        }
        (before, is_so)
    };
    let kinds = [
        (StorageType::Memory, "memory", before.0, is_so.0, memory, max_memory),
        (StorageType::File, "file", before.1, is_so.1, storage, max_storage),
    ];
    for (_, name, was, is, used, max) in kinds {
        if is && !was {
            let why = format!("{used} of {max} bytes of {name} storage are in use");
            tracing::warn!("JetStream resource limits: {why}; servers with room are to lead its streams");
            engine.tell_out_of_storage(&why);
        } else if was && !is {
            tracing::info!("JetStream resource limits: there is room for {name} storage again");
        }
    }
    let (engine, cluster) = (engine.clone(), cluster.clone());
    tokio::spawn(async move {
        let facts = engine.facts(&cluster).await;
        for (storage, _, was, is, ..) in kinds {
            if is || was {
                engine.leave_to_others(&cluster, storage, is, &facts).await;
            }
        }
        cluster.cramped.lock().is_busy = false;
    });
}

impl Engine {
    /// Gives leaderships of such streams to members with room, or takes part in elections as before.
    async fn leave_to_others(
        &self,
        cluster: &Cluster,
        storage: StorageType,
        is_cramped: bool,
        facts: &Facts,
    ) {
        let there: Vec<PeerId> = cluster
            .link
            .peers()
            .into_iter()
            .filter(|p| p.is_reachable && !p.is_offline)
            .map(|p| p.id)
            .filter(|peer| facts.of(*peer).is_some_and(|said| has_room(said, storage)))
            .collect();
        for account in self.accounts() {
            for handle in
                account.streams().into_iter().filter(|h| h.is_replica() && h.config().storage == storage)
            {
                let group = handle.group;
                self.be_reluctant(std::iter::once(group), is_cramped && !there.is_empty());
                if is_cramped && cluster.news.leads(group) {
                    self.leave_group_to(group, there.clone()).await;
                }
            }
        }
    }

    async fn leave_group_to(&self, group: GroupId, able: Vec<PeerId>) {
        let told = self.act_and_tell(group, move |replica, now, log| {
            let status = replica.status()?;
            let voters = status.membership.voters().map(|m| m.peer);
            let heirs = voters.filter(|peer| able.contains(peer)).filter_map(|peer| {
                let progress = replica.progress(peer).filter(|p| !p.is_amnesiac)?;
                Some(Heir { peer, matched: progress.matched })
            });
            let best = succession::best(group, heirs)?;
            Some(replica.transfer(now, best, HAND_OVER_WITHIN, log))
        });
        if let Some(Some(Err(e))) = told.await {
            tracing::debug!("Group {group}: handing over to a server with room waits: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    fn a_leader_has_room_for_some_messages() {
        assert!(!is_cramped(false, 0, 0), "it has no such streams");
        assert!(!is_cramped(false, 100 * MB, 90 * MB) && is_cramped(false, 100 * MB, 94 * MB));
        assert!(is_cramped(true, 100 * MB, 90 * MB) && !is_cramped(true, 100 * MB, 87 * MB));
        assert!(!is_cramped(false, 2 * MB, MB) && is_cramped(false, 2 * MB, MB + 1));
        assert!(is_cramped(false, MB, 3 * MB), "replicas take what their leaders took");
    }

    #[test]
    fn others_have_room_by_their_own_limits() {
        let said = Description { max: (0, 100 * MB), used: (0, 20 * MB), ..Description::default() };
        assert!(has_room(&said, StorageType::File) && !has_room(&said, StorageType::Memory));
        let full = Description { used: (0, 99 * MB), ..said };
        assert!(!has_room(&full, StorageType::File));
    }
}
