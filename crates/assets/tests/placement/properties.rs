//! What holds for every plan, checked against all plans there could be.

use linnet_assets::placement::{
    Candidate, Demand, Fleet, FleetLimits, Group, PeerStats, Plan, Planner, Tags,
};
use linnet_env::SeededRng;
use linnet_ids::PeerId;
use linnet_jsapi::ApiError;
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::stream_config::Placement;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::harness::HOME;

const MAX_HA_ASSETS: u64 = 3;

#[derive(Clone, Debug)]
struct World {
    servers: Vec<Candidate>,
    is_zoned: bool,
    replicas: usize,
    max_bytes: u64,
    tags: Vec<String>,
    seed: u64,
}

fn server(at: usize) -> impl Strategy<Value = Candidate> {
    let zone = prop_oneof![1 => Just(None), 9 => (1..6_u8).prop_map(|z| Some(format!("az:{z}")))];
    let other = prop_oneof![3 => Just(None), 4 => Just(Some("h")), 2 => Just(Some("g")), 1 => Just(Some("!jetstream"))];
    let stats = (0..20_u64, 1..5_u64).prop_map(|(free, ha_assets)| PeerStats {
        memory_available: 0,
        storage_available: free,
        ha_assets,
    });
    let facts = (prop::bool::weighted(0.75), prop::option::weighted(0.95, stats), prop::bool::weighted(0.95));
    (zone, other, facts, 0..4_u64).prop_map(move |(zone, other, (is_online, stats, is_home), ha_streams)| {
        let tags = zone.into_iter().chain(other.map(str::to_owned));
        let name = format!("n{at}");
        let peer = PeerId::of_name(&name);
        Candidate {
            peer,
            name,
            cluster: if is_home { "C1".to_owned() } else { "C2".to_owned() },
            tags: Tags::new(tags),
            is_online,
            stats,
            streams: ha_streams,
            ha_streams,
        }
    })
}

fn world() -> impl Strategy<Value = World> {
    let servers = prop_oneof![1 => 0..4_usize, 4 => 4..11_usize]
        .prop_flat_map(|count| (0..count).map(server).collect::<Vec<_>>());
    let tag = prop::sample::select(vec!["h", "!g", "!h", "!az:1"]);
    let tags = prop::option::weighted(0.3, tag);
    (servers, any::<bool>(), 1..6_usize, prop_oneof![3 => Just(0), 1 => 0..20_u64], tags, any::<u64>())
        .prop_map(|(servers, is_zoned, replicas, max_bytes, tags, seed)| World {
            servers,
            is_zoned,
            replicas,
            max_bytes,
            tags: tags.into_iter().map(str::to_owned).collect(),
            seed,
        })
}

impl World {
    fn fleet(&self) -> Fleet {
        let prefix = if self.is_zoned { "az:" } else { "" };
        let mut fleet = Fleet::new(FleetLimits::new(MAX_HA_ASSETS, prefix));
        self.servers.iter().for_each(|s| fleet.insert(s.clone()));
        fleet
    }

    fn placement(&self) -> Placement {
        Placement { tags: self.tags.clone(), ..Placement::default() }
    }

    fn demand<'a>(&self, placement: &'a Placement) -> Demand<'a> {
        let storage = StorageType::File;
        Demand { replicas: self.replicas, storage, max_bytes: self.max_bytes, placement: Some(placement) }
    }

    /// Members of a group that is to have at most `most`: one or more of the servers, if there are any.
    fn members(&self, pick: Index, most: usize) -> Vec<PeerId> {
        let most = most.min(self.servers.len());
        let count = if most == 0 { 0 } else { pick.index(most) + 1 };
        self.servers.iter().take(count).map(|s| s.peer).collect()
    }

    /// Whether a server may carry the stream, tags that have to be unique left aside. What `members` take is in their
    /// figures already.
    fn suits(&self, server: &Candidate, members: &[PeerId]) -> bool {
        let has_room = server.stats.is_some_and(|stats| {
            stats.storage_available >= self.max_bytes
                && (self.replicas == 1 || stats.ha_assets <= MAX_HA_ASSETS)
        });
        let tag_rules = self.tags.iter().all(|tag| match tag.strip_prefix('!') {
            Some(unwanted) => !server.tags.contains(unwanted),
            None => server.tags.contains(tag),
        });
        server.cluster == "C1"
            && !server.tags.contains("!jetstream")
            && tag_rules
            && (has_room || members.contains(&server.peer))
    }

    fn zone(&self, server: &Candidate) -> Option<u8> {
        (1..6).find(|z| server.tags.contains(&format!("az:{z}")))
    }

    /// Whether `others` may join `kept` as far as their zones go.
    fn zones_fit(&self, kept: &[&Candidate], others: &[&Candidate]) -> bool {
        if !self.is_zoned || self.tags.iter().any(|t| t.contains("az:")) {
            return true;
        }
        let mut taken: Vec<u8> = kept.iter().filter_map(|s| self.zone(s)).collect();
        others.iter().all(|s| {
            self.zone(s).is_some_and(|z| {
                let is_free = !taken.contains(&z);
                taken.push(z);
                is_free
            })
        })
    }

    /// Online servers of every allowed way to complete `kept`, which majority or not.
    fn online_of_all_ways(&self, kept: &[&Candidate], members: &[PeerId]) -> Vec<usize> {
        let spare: Vec<&Candidate> = self
            .servers
            .iter()
            .filter(|s| self.suits(s, members) && kept.iter().all(|k| k.peer != s.peer))
            .collect();
        let wanted = self.replicas - kept.len();
        (0..1_usize << spare.len())
            .filter(|bits| bits.count_ones() as usize == wanted)
            .map(|bits| {
                let way = (0..spare.len()).filter(|i| bits >> i & 1 == 1).map(|i| spare[i]);
                way.collect::<Vec<&Candidate>>()
            })
            .filter(|way| self.zones_fit(kept, way))
            .map(|way| kept.iter().chain(&way).filter(|s| s.is_online).count())
            .collect()
    }

    /// The most online members that a plan can have, if there is a plan.
    fn best(&self, kept: &[&Candidate], members: &[PeerId]) -> Option<usize> {
        let most = self.online_of_all_ways(kept, members).into_iter().max();
        most.filter(|online| *online > self.replicas / 2)
    }

    fn named(&self, peers: &[PeerId]) -> Vec<&Candidate> {
        peers.iter().map(|p| self.servers.iter().find(|s| s.peer == *p).unwrap()).collect()
    }

    /// `peers` complete `kept` by the rules.
    fn check(&self, kept: &[PeerId], peers: &[PeerId], members: &[PeerId]) {
        assert_eq!(peers.len(), self.replicas);
        let mut distinct = peers.to_vec();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), peers.len());
        assert_eq!(&peers[..kept.len()], kept);
        let (kept, new) = (self.named(kept), self.named(&peers[kept.len()..]));
        assert!(new.iter().all(|s| self.suits(s, members)), "{new:?}");
        assert!(self.zones_fit(&kept, &new), "{new:?}");
    }
}

fn online(fleet: &Fleet, made: &Result<Plan, ApiError>) -> Option<usize> {
    made.as_ref().ok().map(|plan| plan.peers.iter().filter(|p| fleet.is_online(**p)).count())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn a_stream_is_placed_whenever_it_can_be_on_as_many_online_servers_as_can_be(world in world()) {
        let (fleet, placement) = (world.fleet(), world.placement());
        let plan = || {
            let rng = SeededRng::new(world.seed);
            Planner::new(&fleet, &rng).create_stream(&world.demand(&placement), HOME)
        };
        let made = plan();
        prop_assert_eq!(&made, &plan());
        prop_assert_eq!(online(&fleet, &made), world.best(&[], &[]));
        if let Ok(plan) = made {
            world.check(&[], &plan.peers, &[]);
            prop_assert!(plan.preferred.is_some_and(|p| plan.peers.contains(&p) && fleet.is_online(p)));
        }
    }

    #[test]
    fn scaling_up_keeps_members_and_finds_others_whenever_there_are_any(world in world(), pick: Index) {
        let (fleet, placement) = (world.fleet(), world.placement());
        let kept = world.members(pick, world.replicas);
        let group = Group { cluster: "C1", peers: &kept, leader: kept.last().copied() };
        let rng = SeededRng::new(world.seed);
        let made = Planner::new(&fleet, &rng).scale_up(&world.demand(&placement), &group);
        let members = world.named(&kept);
        let is_full = world.replicas > 1
            && members.len() == 1
            && members[0].stats.is_some_and(|s| s.ha_assets > MAX_HA_ASSETS);
        let has_data = members.iter().any(|s| s.is_online);
        prop_assert_eq!(online(&fleet, &made), world.best(&members, &[]).filter(|_| has_data && !is_full));
        if let Ok(plan) = made {
            world.check(&kept, &plan.peers, &[]);
            prop_assert_eq!(plan.preferred, group.leader);
        }
    }

    #[test]
    fn vacancies_are_filled_with_online_servers_as_far_as_there_are_any(world in world(), pick: Index) {
        let (fleet, placement) = (world.fleet(), world.placement());
        let members = world.members(pick, world.replicas);
        if members.is_empty() {
            return Ok(());
        }
        let group = Group { cluster: "C1", peers: &members, leader: None };
        let rng = SeededRng::new(world.seed);
        let demand = world.demand(&placement);
        let repair = Planner::new(&fleet, &rng).give_up(&demand, &group, members[0], &[]);
        let peers = repair.as_ref().map_or(&[][..], |r| &r.peers);
        prop_assert_eq!(repair.is_none(), peers.is_empty());
        let missing = world.replicas - peers.len();
        prop_assert_eq!(repair.as_ref().map_or(missing, |r| r.missing), missing);
        prop_assert_eq!(&peers[..members.len() - 1], &members[1..]);
        let (kept, new) = (world.named(&members[1..]), world.named(&peers[members.len() - 1..]));
        prop_assert!(new.iter().all(|s| s.is_online && s.peer != members[0] && world.suits(s, &[])));
        prop_assert!(world.zones_fit(&kept, &new));
        let mut further = world.servers.iter().filter(|s| {
            let grown: Vec<&Candidate> = new.iter().copied().chain([*s]).collect();
            s.is_online
                && s.peer != members[0]
                && !peers.contains(&s.peer)
                && world.suits(s, &[])
                && world.zones_fit(&kept, &grown)
        });
        prop_assert!(missing == 0 || further.next().is_none());
    }

    #[test]
    fn a_move_is_possible_whenever_there_is_room_and_keeps_what_fits(world in world(), pick: Index) {
        let (fleet, placement) = (world.fleet(), world.placement());
        let members = world.members(pick, world.replicas);
        let group = Group { cluster: "C1", peers: &members, leader: None };
        let rng = SeededRng::new(world.seed);
        let made = Planner::new(&fleet, &rng).relocate(&world.demand(&placement), HOME, &group);
        prop_assert_eq!(online(&fleet, &made), world.best(&[], &members));
        let now = world.named(&members);
        let fits = now.iter().all(|s| s.is_online && world.suits(s, &members)) && world.zones_fit(&[], &now);
        if let Ok(plan) = made {
            prop_assert!(!fits || plan.peers.starts_with(&members));
            world.check(&[], &plan.peers, &members);
        }
    }
}
