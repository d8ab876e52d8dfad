//! Fleets and streams in few words.

use linnet_assets::placement::{
    Candidate, Demand, Fleet, FleetLimits, Group, Origin, PeerStats, Planner, Tags,
};
use linnet_env::SeededRng;
use linnet_ids::PeerId;
use linnet_jsapi::{ApiError, StreamConfig};

/// Seeds that outcomes must not depend on.
pub(crate) const SEEDS: std::ops::Range<u64> = 0..40;
/// A client of the cluster that servers are in if nothing else is said.
pub(crate) const HOME: Origin<'_> = Origin { cluster: "C1", alternates: &[] };

/// A fleet from lines as `n1 az:1 ssd offline; n2 @C2 free=10`: a name, then tags and facts. Facts are `offline`,
/// `unheard` (no report yet), `unknown` (only its id), `@CLUSTER`, `free=BYTES` of disk, `mem=BYTES`, `ha=COUNT` as
/// reported, `streams=COUNT` and `replicated=COUNT` as assigned.
pub(crate) fn fleet(limits: FleetLimits, lines: &str) -> Fleet {
    let mut fleet = Fleet::new(limits);
    for line in lines.split(';') {
        fleet.insert(candidate(line));
    }
    fleet
}

/// [`fleet`] without limits.
pub(crate) fn plain(lines: &str) -> Fleet {
    fleet(FleetLimits::default(), lines)
}

/// [`fleet`] whose replicas differ in their `az:` tag.
pub(crate) fn zoned(lines: &str) -> Fleet {
    fleet(FleetLimits::new(0, "AZ:"), lines)
}

fn candidate(line: &str) -> Candidate {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap();
    let unknown = Candidate::unknown(PeerId::of_name(name));
    let mut stats = PeerStats { memory_available: 1 << 30, storage_available: 1 << 30, ha_assets: 1 };
    let mut made = Candidate { name: name.into(), cluster: "C1".into(), is_online: true, ..unknown.clone() };
    let mut tags = Vec::new();
    let mut is_heard = true;
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse().unwrap();
        match key {
            "offline" => made.is_online = false,
            "unheard" => is_heard = false,
            "unknown" => return unknown,
            "free" => stats.storage_available = number(),
            "mem" => stats.memory_available = number(),
            "ha" => stats.ha_assets = number(),
            "streams" => made.streams = number(),
            "replicated" => made.ha_streams = number(),
            _ if key.starts_with('@') => made.cluster = key[1..].into(),
            _ => tags.push(word),
        }
    }
    Candidate { tags: Tags::new(tags), stats: is_heard.then_some(stats), ..made }
}

/// A stream's configuration from fields of its JSON.
pub(crate) fn stream(fields: &str) -> StreamConfig {
    let comma = if fields.is_empty() { "" } else { "," };
    serde_json::from_str(&format!(r#"{{"name":"S"{comma}{fields}}}"#)).unwrap()
}

/// Peers of servers, named with spaces between.
pub(crate) fn peers(names: &str) -> Vec<PeerId> {
    names.split_whitespace().map(PeerId::of_name).collect()
}

/// Names of peers in the order given, with spaces between.
pub(crate) fn names(fleet: &Fleet, peers: &[PeerId]) -> String {
    let name = |peer: &PeerId| fleet.get(*peer).map_or_else(|| peer.to_string(), |c| c.name.clone());
    peers.iter().map(name).collect::<Vec<_>>().join(" ")
}

/// [`names`], sorted.
pub(crate) fn sorted_names(fleet: &Fleet, peers: &[PeerId]) -> String {
    let mut list: Vec<String> = names(fleet, peers).split(' ').map(str::to_owned).collect();
    list.sort();
    list.join(" ")
}

/// A group of the home cluster led by its first member.
pub(crate) fn group(peers: &[PeerId]) -> Group<'_> {
    Group { cluster: "C1", peers, leader: peers.first().copied() }
}

/// Asks a planner with every seed, and gives the distinct answers in order.
pub(crate) fn answers<T: Ord>(fleet: &Fleet, ask: impl Fn(Planner<'_>) -> T) -> Vec<T> {
    let mut all: Vec<T> = SEEDS.map(|seed| ask(Planner::new(fleet, &SeededRng::new(seed)))).collect();
    all.sort();
    all.dedup();
    all
}

/// The answers to creating a stream: sorted names, or the text of the refusal.
pub(crate) fn created(fleet: &Fleet, config: &StreamConfig, origin: Origin<'_>) -> Vec<String> {
    answers(fleet, |planner| match planner.create_stream(&Demand::of(config), origin) {
        Ok(plan) => {
            let preferred = plan.preferred.unwrap();
            assert!(plan.peers.contains(&preferred) && fleet.is_online(preferred));
            sorted_names(fleet, &plan.peers)
        }
        Err(error) => no_peers(&error),
    })
}

/// The reasons in an error 10005, without the words every one begins with.
pub(crate) fn no_peers(error: &ApiError) -> String {
    assert_eq!((error.code, error.err_code), (400, 10005), "{error}");
    error.description.strip_prefix("no suitable peers for placement").unwrap().to_owned()
}
