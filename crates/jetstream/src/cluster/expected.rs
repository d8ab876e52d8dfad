//! Which servers have to be there before the meta group is founded (rule R6).

use std::collections::{BTreeMap, BTreeSet};

use linnet_broker::{Leads, RoutedServer};
use linnet_ids::PeerId;

/// Who has to be there beside this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) peers: BTreeSet<PeerId>,
    /// Those among them that nobody has met, with a text that says whom that is. Their ids are of no server.
    pub(super) strangers: BTreeMap<PeerId, String>,
}

impl Expected {
    /// Every JetStream server of the domain that there is a route to, and whoever is behind every address of the
    /// configuration that leads nowhere yet. `routes` are those addresses. One server alone is enough only if every
    /// address leads to itself: else the first of several to start would found a group of its own.
    pub(super) fn of(domain: &str, routes: &[(String, Leads)], servers: &[RoutedServer]) -> Self {
        let mut expected = Self::default();
        for server in servers.iter().filter(|server| server.has_jetstream && server.domain == domain) {
            expected.peers.insert(PeerId::of_name(&server.name));
        }
        for (address, leads) in routes {
            let is_known = match leads {
                Leads::Here => true,
                Leads::To(id) => servers.iter().any(|server| server.id == *id),
                Leads::Nowhere => false,
            };
            if !is_known {
                expected.stranger(&format!("the server at {address}"));
            }
        }
        let is_alone = !routes.is_empty() && routes.iter().all(|(_, leads)| *leads == Leads::Here);
        if expected.peers.is_empty() && !is_alone {
            expected.stranger("another server with JetStream");
        }
        expected
    }

    fn stranger(&mut self, who: &str) {
        // No server is called so: names have no spaces.
        let id = PeerId::of_name(who);
        self.peers.insert(id);
        self.strangers.insert(id, who.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str, has_jetstream: bool, domain: &str) -> RoutedServer {
        RoutedServer {
            id: format!("N{name}"),
            name: name.to_owned(),
            cluster: "C".to_owned(),
            has_jetstream,
            domain: domain.to_owned(),
            is_draining: false,
            system_conn: None,
        }
    }

    fn to(name: &str) -> Leads {
        Leads::To(format!("N{name}"))
    }

    /// Whom a server waits for, by name.
    fn expected(routes: &[Leads], servers: &[RoutedServer]) -> Vec<String> {
        let routes: Vec<(String, Leads)> =
            routes.iter().enumerate().map(|(n, leads)| (format!("h:{n}"), leads.clone())).collect();
        let Expected { peers, strangers } = Expected::of("hub", &routes, servers);
        assert!(strangers.keys().all(|id| peers.contains(id)));
        let known = servers.iter().map(|s| s.name.clone()).filter(|n| peers.contains(&PeerId::of_name(n)));
        let mut all: Vec<String> = known.chain(strangers.into_values()).collect();
        assert_eq!(all.len(), peers.len());
        all.sort();
        all
    }

    #[test]
    fn everybody_is_expected_that_is_configured_or_met_and_has_jetstream_in_the_domain() {
        let (a, b, core, edge) = (
            server("a", true, "hub"),
            server("b", true, "hub"),
            server("core", false, "hub"),
            server("edge", true, "edge"),
        );
        let another = "another server with JetStream";
        assert_eq!(expected(&[Leads::Here, to("a"), to("b")], &[a.clone(), b.clone()]), ["a", "b"]);
        assert_eq!(
            expected(&[Leads::Here, to("a"), Leads::Nowhere], std::slice::from_ref(&a)),
            ["a", "the server at h:2"]
        );
        // A server that others told of.
        assert_eq!(expected(&[to("a")], &[a.clone(), b]), ["a", "b"]);
        assert_eq!(expected(&[to("a"), to("core"), to("edge")], &[a, core.clone(), edge.clone()]), ["a"]);
        assert_eq!(expected(&[Leads::Here, to("core"), to("edge")], &[core, edge]), [another]);
        assert_eq!(expected(&[Leads::Here, Leads::Here], &[]), [""; 0], "a cluster of itself");
        assert_eq!(expected(&[], &[]), [another]);
        assert_eq!(expected(&[Leads::Nowhere], &[]), ["the server at h:0"]);
        assert_eq!(expected(&[to("gone")], &[]), ["the server at h:0"]);
    }
}
