//! What other servers said of themselves last: streams are placed on servers that are away for a moment, too, where there
//! are no others.

use std::collections::BTreeMap;
use std::sync::Arc;

use linnet_ids::{Mono, PeerId};
use linnet_raft::MEMBERS_MAX;

use super::asks::{ASK_DESCRIPTION, DESCRIBE_WITHIN, Description};
use super::{Cluster, LOOK_EVERY};

/// Servers that described themselves, whichever server leads the catalogue's group then.
#[derive(Default)]
pub(super) struct Acquaintances {
    known: BTreeMap<PeerId, Description>,
    /// The newest start of each that was asked.
    asked: BTreeMap<PeerId, String>,
    looked: Option<Mono>,
}

impl Acquaintances {
    pub(super) fn note(&mut self, descriptions: &[(PeerId, Description)]) {
        for (peer, description) in descriptions {
            if self.known.len() < MEMBERS_MAX || self.known.contains_key(peer) {
                self.known.insert(*peer, description.clone());
            }
        }
    }

    /// A server that can be heard and was not asked since it started; not more often than is useful.
    fn next(&mut self, now: Mono, heard: impl Iterator<Item = (PeerId, String)>) -> Option<PeerId> {
        if self.looked.is_some_and(|looked| now.since(looked) < LOOK_EVERY) {
            return None;
        }
        self.looked = Some(now);
        let mut heard: BTreeMap<PeerId, String> = heard.collect();
        let next = heard.iter().find(|(peer, start)| self.asked.get(peer) != Some(start));
        let peer = next.map(|(peer, _)| *peer)?;
        let start = heard.remove(&peer)?;
        if self.asked.len() < MEMBERS_MAX || self.asked.contains_key(&peer) {
            self.asked.insert(peer, start);
        }
        Some(peer)
    }
}

/// Has servers describe themselves that came.
pub(super) fn look_after(cluster: &Arc<Cluster>) {
    let heard = cluster.link.peers().into_iter().filter(|peer| peer.is_reachable);
    let heard = heard.map(|peer| (peer.id, peer.server_id));
    let now = cluster.link.clock().mono();
    let Some(peer) = cluster.acquaintances.lock().next(now, heard) else { return };
    let cluster = cluster.clone();
    tokio::spawn(async move {
        let answer = cluster.link.ask(peer, ASK_DESCRIPTION, b"", DESCRIBE_WITHIN).await;
        let description = answer.ok().and_then(|answer| serde_json::from_slice(&answer).ok());
        let mut acquaintances = cluster.acquaintances.lock();
        match description {
            Some(description) => {
                acquaintances.note(&[(peer, description)]);
                cluster.arrivals.send_replace(());
            }
            // It is asked again.
            None => {
                acquaintances.asked.remove(&peer);
            }
        }
    });
}

impl Cluster {
    /// What a server said of itself last.
    pub(super) fn last_description(&self, peer: PeerId) -> Option<Description> {
        self.acquaintances.lock().known.get(&peer).cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_start_of_a_server_is_asked_once() {
        let mut all = Acquaintances::default();
        let peer = PeerId::of_name;
        let mut now = Mono(1);
        let mut next = |heard: &[(&str, &str)]| {
            now = now + Duration::from_secs(1);
            all.next(now, heard.iter().map(|(name, start)| (peer(name), (*start).to_owned())))
        };
        let first = next(&[("a", "1"), ("b", "1")]).unwrap();
        let second = next(&[("a", "1"), ("b", "1")]).unwrap();
        assert_ne!(first, second);
        assert_eq!(next(&[("a", "1"), ("b", "1")]), None);
        assert_eq!(next(&[("a", "2"), ("b", "1")]), Some(peer("a")));
    }
}
