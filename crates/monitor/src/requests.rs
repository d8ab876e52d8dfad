use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The pages whose requests are counted, by the name they are counted under.
const COUNTED: [&str; 11] = [
    "/",
    "/accountz",
    "/accstatz",
    "/connz",
    "/gatewayz",
    "/healthz",
    "/jsz",
    "/leafz",
    "/routez",
    "/subsz",
    "/varz",
];

/// Requests per page since the start.
#[derive(Debug, Default)]
pub(crate) struct RequestCounts([AtomicU64; COUNTED.len()]);

impl RequestCounts {
    /// Counts a request, if requests of this page are counted.
    pub(crate) fn count(&self, page: &str) {
        if let Some(n) = COUNTED.iter().position(|p| *p == page).and_then(|at| self.0.get(at)) {
            n.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Pages that have been asked for.
    pub(crate) fn snapshot(&self) -> BTreeMap<&'static str, u64> {
        let counts = self.0.iter().map(|n| n.load(Ordering::Relaxed));
        COUNTED.into_iter().zip(counts).filter(|(_, n)| *n > 0).collect()
    }
}
