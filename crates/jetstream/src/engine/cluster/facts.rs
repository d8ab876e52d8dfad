//! What is known of the servers when it is decided where streams go.
//!
//! Servers are asked before anything is decided, so that one that is slow to answer holds up nobody but those who asked.

use std::sync::Arc;

use linnet_assets::placement::{Candidate, Fleet, FleetLimits, PeerStats, Tags};
use linnet_ids::{Mono, PeerId};

use super::asks::Description;
use super::{Cluster, Engine};

/// What the servers that answered said of themselves.
#[derive(Clone, Default)]
pub(crate) struct Facts(Arc<Vec<(PeerId, Description)>>);

impl Facts {
    /// What a server said, if it answered.
    pub(super) fn of(&self, peer: PeerId) -> Option<&Description> {
        self.0.iter().find(|(of, _)| *of == peer).map(|(_, said)| said)
    }
}

/// What was heard last, and when it was asked for.
pub(super) type Heard = Option<(Mono, Facts)>;

impl Engine {
    /// Asks all servers of the catalogue's group. Whoever comes while they are asked shares the next answers.
    pub(crate) async fn facts(&self, cluster: &Arc<Cluster>) -> Facts {
        let came = cluster.link.clock().mono();
        let mut heard = cluster.heard.lock().await;
        if let Some((asked, facts)) = &*heard
            && *asked >= came
        {
            return facts.clone();
        }
        let asked = cluster.link.clock().mono();
        let facts = Facts(Arc::new(self.describe_all(cluster).await));
        *heard = Some((asked, facts.clone()));
        facts
    }

    /// The members of the catalogue's group, with what they carry by now.
    pub(super) fn fleet(&self, cluster: &Cluster, facts: &Facts) -> Fleet {
        let config = self.config.cluster.as_ref();
        let max_ha_assets = config.and_then(|c| c.max_ha_assets).unwrap_or(0);
        let unique_tag = config.map(|c| c.unique_tag.as_str()).unwrap_or_default();
        let mut fleet = Fleet::new(FleetLimits::new(max_ha_assets, unique_tag));
        let meta = cluster.meta();
        let members = meta.report.as_ref().map(|r| r.status.membership.members()).unwrap_or_default();
        for member in members {
            let mut candidate = Candidate::unknown(member.peer);
            let load = cluster.view.load_of(member.peer);
            (candidate.streams, candidate.ha_streams) = (load.streams, load.ha_streams);
            let answer = facts.of(member.peer);
            candidate.is_online = answer.is_some();
            // One that is away is described by what it said last.
            if let Some(description) = answer.cloned().or_else(|| cluster.last_description(member.peer)) {
                candidate.name.clone_from(&description.name);
                candidate.cluster.clone_from(&description.cluster);
                candidate.tags = Tags::new(description.tags.iter().map(String::as_str));
                let reserved = load.reserved();
                let Description { max, used, ha_consumers, .. } = description;
                candidate.stats = Some(PeerStats {
                    memory_available: PeerStats::available(max.0, reserved.0, used.0),
                    storage_available: PeerStats::available(max.1, reserved.1, used.1),
                    // The catalogue's group is one.
                    ha_assets: ha_consumers.saturating_add(1).saturating_add(load.ha_streams),
                });
            }
            fleet.insert(candidate);
        }
        fleet
    }
}
