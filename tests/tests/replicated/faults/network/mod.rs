//! Networks whose ways from one server to another can be cut, made lossy or slow, each direction for itself. Clients
//! reach every server all the time.

mod injuries;
mod namespaces;
mod proxies;

use std::time::Duration;

use linnet_launch::ClusterSpec;

pub(super) use injuries::Disturbance;
use namespaces::Namespaces;
use proxies::Proxies;

/// How bytes get from one server to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Nothing gets through, and nobody is told.
    pub(super) is_cut: bool,
    /// Percent of the packets that get lost.
    pub(super) loss: u8,
    /// Kilobytes in a second at most.
    pub(super) rate: Option<u32>,
    /// How late everything comes; up to as much again by chance. Only between proxies.
    pub(super) delay: Duration,
    /// Whoever sends is told that the connection is gone.
    pub(super) is_reset: bool,
}

pub(super) enum Network {
    /// Each server has a network stack of its own, whose kernel drops packets.
    Namespaces(Namespaces),
    /// What goes from one server to another passes this process, which may let it wait.
    Proxies(Proxies),
}

impl Network {
    /// One of namespaces for so many servers; else why this machine has none.
    pub(super) fn of_namespaces(servers: usize) -> Result<Self, String> {
        Namespaces::new(servers).map(Self::Namespaces)
    }

    pub(super) fn of_proxies(servers: usize) -> Self {
        Self::Proxies(Proxies::new(servers))
    }

    /// Servers `n0`, `n1` and so on are in this network.
    pub(super) fn describe(&self, spec: ClusterSpec) -> ClusterSpec {
        match self {
            Self::Namespaces(namespaces) => spec.places(|at| namespaces.place(at)),
            Self::Proxies(proxies) => proxies.describe(spec),
        }
    }

    pub(super) fn set(&self, from: &str, to: &str, way: Way) {
        let (from, to) = (position(from), position(to));
        match self {
            Self::Namespaces(namespaces) => namespaces.set(from, to, way),
            Self::Proxies(proxies) => proxies.set(from, to, way),
        }
    }

    /// In both directions.
    pub(super) fn set_both(&self, one: &str, other: &str, way: Way) {
        self.set(one, other, way);
        self.set(other, one, way);
    }

    /// Everything gets through again.
    pub(super) fn heal(&self, names: &[String]) {
        for (at, one) in names.iter().enumerate() {
            for other in &names[at + 1..] {
                self.set_both(one, other, Way::default());
            }
        }
    }
}

/// Place of a server in its cluster: they are called `n0`, `n1` and so on.
fn position(name: &str) -> usize {
    name[1..].parse().unwrap()
}
