use linnet_env::Rng;
use linnet_ids::PeerId;
use linnet_jsapi::StreamConfig;
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::stream_config::Placement;

use super::fleet::Fleet;

/// What a stream asks of the servers that carry it.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// Number of replicas, 1 or more.
    pub replicas: usize,
    /// Where messages are kept.
    pub storage: StorageType,
    /// Bytes that every replica reserves; 0 for none.
    pub max_bytes: u64,
    /// Where the stream wants to live.
    pub placement: Option<&'a Placement>,
}

impl<'a> Demand<'a> {
    /// What a stream of this configuration asks for.
    pub fn of(config: &'a StreamConfig) -> Self {
        Self {
            replicas: usize::try_from(config.num_replicas).unwrap_or(0).max(1),
            storage: config.storage,
            max_bytes: u64::try_from(config.max_bytes).unwrap_or(0),
            placement: config.placement.as_ref(),
        }
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The cluster that the client is connected to.
    pub cluster: &'a str,
    /// Other clusters, nearest first.
    pub alternates: &'a [String],
}

impl<'a> Origin<'a> {
    /// Clusters to try, in this order.
    pub(super) fn clusters(self, demand: &Demand<'a>) -> impl Iterator<Item = &'a str> {
        let named = demand.placement.map(|p| p.cluster.as_str()).filter(|name| !name.is_empty());
        let alternates = if named.is_some() { &[] } else { self.alternates };
        std::iter::once(named.unwrap_or(self.cluster)).chain(alternates.iter().map(String::as_str))
    }
}

/// A group as it is, or as it shall be once changes under way are done.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    /// Name of its cluster.
    pub cluster: &'a str,
    /// Its members.
    pub peers: &'a [PeerId],
    /// The member that leads it, as far as known.
    pub leader: Option<PeerId>,
}

/// Where an asset goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the cluster.
    pub cluster: String,
    /// The members, those that the group already has first.
    pub peers: Vec<PeerId>,
    /// Who shall lead: the present leader if it stays, or else an online member.
    pub preferred: Option<PeerId>,
}

/// Places assets on the members of a fleet.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) rng: &'a dyn Rng,
}

impl<'a> Planner<'a> {
    /// A planner over `fleet`. What is equally good is decided by `rng`: the same numbers give the same plans.
    pub fn new(fleet: &'a Fleet, rng: &'a dyn Rng) -> Self {
        Self { fleet, rng }
    }

    /// The members of `peers` that count as online.
    pub(super) fn online(&self, peers: &[PeerId]) -> Vec<PeerId> {
        peers.iter().copied().filter(|p| self.fleet.is_online(*p)).collect()
    }

    /// Any one of `peers`.
    pub(super) fn any(&self, peers: &[PeerId]) -> Option<PeerId> {
        let at = usize::try_from(self.rng.below(peers.len() as u64)).ok()?;
        peers.get(at).copied()
    }

    /// `peers` in any order.
    pub(super) fn shuffled(&self, peers: &[PeerId]) -> Vec<PeerId> {
        let mut drawn: Vec<(u64, PeerId)> = self.lots(peers.len()).zip(peers.iter().copied()).collect();
        drawn.sort_unstable();
        drawn.into_iter().map(|(_, peer)| peer).collect()
    }

    /// Random numbers, from one call: entropy of the operating system costs a system call each time.
    pub(super) fn lots(&self, count: usize) -> impl Iterator<Item = u64> + use<> {
        let mut bytes = vec![[0; 8]; count];
        self.rng.fill(bytes.as_flattened_mut());
        bytes.into_iter().map(u64::from_le_bytes)
    }

    /// Who leads a group of these members: `leader` if it is one of them, or else any that is online.
    pub(super) fn preferred(&self, peers: &[PeerId], leader: Option<PeerId>) -> Option<PeerId> {
        leader.filter(|l| peers.contains(l)).or_else(|| self.any(&self.online(peers)))
    }
}

/// Members that a group of `replicas` needs to decide anything.
pub(super) fn majority(replicas: usize) -> usize {
    replicas / 2 + 1
}
