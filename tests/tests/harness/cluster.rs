use std::collections::BTreeSet;

use linnet_launch::{ClusterSpec, Dial, Member, poll_until};
use serde_json::Value;

use super::{Kind, LONG, Raw, program};

/// Connections between two servers with the default pool: three and one for the system account.
pub(crate) const PER_PAIR: usize = 4;

/// Servers of these kinds as the cluster `C`, named `n0`, `n1` and so on, each dialling those before it.
pub(crate) fn mesh(kinds: &[Kind]) -> Option<ClusterSpec> {
    let mut spec = ClusterSpec::new("C").dial(Dial::Earlier).timeout(LONG);
    for (at, kind) in kinds.iter().enumerate() {
        spec = spec.server(format!("n{at}"), program(*kind)?);
    }
    Some(spec)
}

/// A server of the cluster `C` that dials nobody unless told to.
pub(crate) fn single(kind: Kind, name: &str) -> Option<ClusterSpec> {
    Some(ClusterSpec::new("C").server(name, program(kind)?).timeout(LONG))
}

/// What a server of a cluster says of it, and clients of it.
pub(crate) trait Inside {
    /// A monitoring page.
    fn page(&self, path: &str) -> Value;

    /// Names of the servers that routes lead to, one for each route.
    fn peers(&self) -> Vec<String>;

    /// What routes say that other servers are interested in.
    fn interests(&self) -> BTreeSet<String>;

    /// Waits until other servers are interested in the subject, or are not.
    fn knows(&self, subject: &str, is_known: bool);

    /// A client that has logged in.
    fn client(&self) -> Raw;
}

impl Inside for Member {
    fn page(&self, path: &str) -> Value {
        serde_json::from_str(&self.server().monitor_get(path).unwrap().body).unwrap()
    }

    fn peers(&self) -> Vec<String> {
        let page = self.page("/routez");
        let routes = page["routes"].as_array().unwrap();
        routes.iter().map(|route| route["remote_name"].as_str().unwrap().to_owned()).collect()
    }

    fn interests(&self) -> BTreeSet<String> {
        let page = self.page("/routez?subs=1");
        let lists = page["routes"].as_array().unwrap().iter().filter_map(|route| {
            Some(route["subscriptions_list"].as_array()?.iter().filter_map(|s| s.as_str().map(str::to_owned)))
        });
        lists.flatten().collect()
    }

    fn knows(&self, subject: &str, is_known: bool) {
        let found = poll_until(LONG, || self.interests().contains(subject) == is_known);
        assert!(found, "{subject} should be known: {is_known}, {:?}", self.interests());
    }

    fn client(&self) -> Raw {
        Raw::login(self.server().client_addr().unwrap())
    }
}
