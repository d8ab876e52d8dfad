use linnet_ids::PeerId;
use linnet_jsapi::policies::StorageType;

use super::tags::{Tags, normal};

/// What a server last reported of its resources (its STATSZ).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Bytes of memory that streams may still take; see [`PeerStats::available`].
    pub memory_available: u64,
    /// Bytes on disk that streams may still take; see [`PeerStats::available`].
    pub storage_available: u64,
    /// Replicated assets there, the meta group among them.
    pub ha_assets: u64,
}

impl PeerStats {
    /// What is left of `max` bytes when `reserved` are promised to streams and `used` are taken.
    pub fn available(max: u64, reserved: u64, used: u64) -> u64 {
        max.saturating_sub(reserved.max(used))
    }

    pub(super) fn free(&self, storage: StorageType) -> u64 {
        match storage {
            StorageType::File => self.storage_available,
            StorageType::Memory => self.memory_available,
        }
    }
}

/// A member of the meta group, as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub peer: PeerId,
    /// Name of the server; empty while nothing but the id is known.
    pub name: String,
    /// Name of its cluster; empty while nothing but the id is known.
    pub cluster: String,
    /// Its `server_tags`.
    pub tags: Tags,
    /// Whether it counts as online.
    pub is_online: bool,
    /// Its last report; `None` until it was heard.
    pub stats: Option<PeerStats>,
    /// Streams assigned to it.
    pub streams: u64,
    /// Streams of more than one replica assigned to it. Its report counts too, but later.
    pub ha_streams: u64,
}

impl Candidate {
    /// A member of which nothing but the id is known.
    pub fn unknown(peer: PeerId) -> Self {
        Self {
            peer,
            name: String::new(),
            cluster: String::new(),
            tags: Tags::default(),
            is_online: false,
            stats: None,
            streams: 0,
            ha_streams: 0,
        }
    }

    pub(super) fn free(&self, storage: StorageType) -> u64 {
        self.stats.map_or(0, |s| s.free(storage))
    }
}

/// Limits of the server that plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetLimits {
    /// `max_ha_assets`: most replicated assets of a server, the meta group not counted; 0 is no limit.
    max_ha_assets: u64,
    /// `unique_tag`: replicas of a stream differ in their tag of this prefix; empty for no such rule.
    unique_tag: String,
}

impl FleetLimits {
    /// Limits as configured.
    pub fn new(max_ha_assets: u64, unique_tag: &str) -> Self {
        Self { max_ha_assets, unique_tag: normal(unique_tag) }
    }

    pub(super) fn unique_tag(&self) -> Option<&str> {
        Some(self.unique_tag.as_str()).filter(|tag| !tag.is_empty())
    }

    /// Whether a server may carry no further replicated asset. Its report counts the meta group, the limit does not.
    pub(super) fn is_full(&self, candidate: &Candidate) -> bool {
        self.max_ha_assets > 0 && candidate.stats.is_some_and(|s| s.ha_assets > self.max_ha_assets)
    }
}

/// The members of the meta group. Never larger than that group.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// Sorted by peer.
    candidates: Vec<Candidate>,
    limits: FleetLimits,
}

impl Fleet {
    /// A fleet without members.
    pub fn new(limits: FleetLimits) -> Self {
        Self { candidates: Vec::new(), limits }
    }

    /// What plans are bound to.
    pub fn limits(&self) -> &FleetLimits {
        &self.limits
    }

    /// Adds a member, or replaces what was known of it, its counts included.
    pub fn insert(&mut self, candidate: Candidate) {
        match self.position(candidate.peer) {
            Ok(at) => self.candidates[at] = candidate,
            Err(at) => self.candidates.insert(at, candidate),
        }
    }

    /// Takes a member out.
    pub fn remove(&mut self, peer: PeerId) -> Option<Candidate> {
        self.position(peer).ok().map(|at| self.candidates.remove(at))
    }

    /// What is known of a member.
    pub fn get(&self, peer: PeerId) -> Option<&Candidate> {
        self.position(peer).ok().map(|at| &self.candidates[at])
    }

    /// The same, to change; its `peer` must stay.
    pub fn get_mut(&mut self, peer: PeerId) -> Option<&mut Candidate> {
        self.position(peer).ok().map(|at| &mut self.candidates[at])
    }

    /// All members, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates.iter()
    }

    /// Counts a stream that now has these replicas.
    pub fn assigned(&mut self, peers: &[PeerId]) {
        self.count(peers, |count| count.saturating_add(1));
    }

    /// Takes back what [`Fleet::assigned`] did for these replicas.
    pub fn released(&mut self, peers: &[PeerId]) {
        self.count(peers, |count| count.saturating_sub(1));
    }

    /// Whether this is a member that counts as online.
    pub fn is_online(&self, peer: PeerId) -> bool {
        self.get(peer).is_some_and(|c| c.is_online)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    fn count(&mut self, peers: &[PeerId], change: fn(u64) -> u64) {
        for peer in peers {
            if let Some(candidate) = self.get_mut(*peer) {
                candidate.streams = change(candidate.streams);
                if peers.len() > 1 {
                    candidate.ha_streams = change(candidate.ha_streams);
                }
            }
        }
    }

    fn position(&self, peer: PeerId) -> Result<usize, usize> {
        self.candidates.binary_search_by_key(&peer, |c| c.peer)
    }
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Fleet, FleetLimits, PeerId, PeerStats};

    #[test]
    fn available_is_what_neither_reservations_nor_data_take() {
        assert_eq!(PeerStats::available(100, 30, 10), 70);
        assert_eq!(PeerStats::available(100, 30, 60), 40);
        assert_eq!(PeerStats::available(100, 130, 60), 0);
    }

    #[test]
    fn members_are_found_replaced_and_removed() {
        let mut fleet = Fleet::new(FleetLimits::default());
        let peers = ["a", "b", "c"].map(PeerId::of_name);
        for peer in peers {
            fleet.insert(Candidate::unknown(peer));
        }
        fleet.insert(Candidate { is_online: true, ..Candidate::unknown(peers[1]) });
        assert_eq!(fleet.iter().count(), 3);
        assert!(fleet.is_online(peers[1]) && !fleet.is_online(peers[0]));
        assert!(fleet.remove(peers[1]).is_some());
        assert!(fleet.get(peers[1]).is_none() && fleet.remove(peers[1]).is_none());
        assert!(!fleet.is_online(peers[1]));
    }

    #[test]
    fn replicas_are_counted_where_they_are() {
        let mut fleet = Fleet::new(FleetLimits::default());
        let peers = ["a", "b"].map(PeerId::of_name);
        for peer in peers {
            fleet.insert(Candidate::unknown(peer));
        }
        let counts = |fleet: &Fleet| peers.map(|p| fleet.get(p).map(|c| (c.streams, c.ha_streams)));
        fleet.assigned(&peers);
        fleet.assigned(&[peers[0], PeerId::of_name("elsewhere")][..1]);
        assert_eq!(counts(&fleet), [Some((2, 1)), Some((1, 1))]);
        fleet.released(&peers);
        assert_eq!(counts(&fleet), [Some((1, 0)), Some((0, 0))]);
    }
}
