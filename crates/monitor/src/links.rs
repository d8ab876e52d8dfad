//! Gateways and leafnodes. This server has none of them, and says so in the words of one that could.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::answer::{Page, page};
use crate::monitor::Monitor;
use crate::params::Params;

/// Lists that are always empty.
type Nothing = [(); 0];

/// Gateways.
#[derive(Serialize)]
pub(crate) struct Gatewayz {
    server_id: String,
    now: String,
    outbound_gateways: BTreeMap<(), ()>,
    inbound_gateways: BTreeMap<(), ()>,
}

/// Leafnodes.
#[derive(Serialize)]
pub(crate) struct Leafz {
    server_id: String,
    now: String,
    leafnodes: i64,
    leafs: Nothing,
}

/// `/gatewayz`.
pub(crate) fn gatewayz(monitor: &Monitor, params: &Params) -> Page {
    params.subs()?;
    params.bool("accs")?;
    page(&gateways(monitor))
}

/// What `/gatewayz` shows.
pub(crate) fn gateways(monitor: &Monitor) -> Gatewayz {
    Gatewayz {
        server_id: monitor.server_id(),
        now: monitor.now(),
        outbound_gateways: BTreeMap::new(),
        inbound_gateways: BTreeMap::new(),
    }
}

/// `/leafz`.
pub(crate) fn leafz(monitor: &Monitor, params: &Params) -> Page {
    params.bool("subs")?;
    page(&leafnodes(monitor))
}

/// What `/leafz` shows.
pub(crate) fn leafnodes(monitor: &Monitor) -> Leafz {
    Leafz { server_id: monitor.server_id(), now: monitor.now(), leafnodes: 0, leafs: [] }
}
