use std::collections::BTreeMap;

use serde::Serialize;

use crate::monitor::Monitor;
use crate::varz::feature_flags;

/// Bit of `flags`: the server has JetStream. The others are abilities of nats-server's own replication.
const HAS_JETSTREAM: u64 = 1;

/// A server in everything it says over NATS (monitoring, "ServerInfo").
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ServerDescription {
    name: String,
    host: String,
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    domain: String,
    ver: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    feature_flags: BTreeMap<String, bool>,
    jetstream: bool,
    flags: u64,
    seq: u64,
    time: String,
}

/// A server in the answer to `IDZ`.
#[derive(Serialize)]
pub(crate) struct ServerId {
    name: String,
    host: String,
    id: String,
}

impl ServerDescription {
    /// This server; `seq` is the number of what it says.
    pub(crate) fn new(monitor: &Monitor, seq: u64) -> Self {
        let options = monitor.options();
        let identity = monitor.broker().identity();
        let engine = monitor.engine();
        Self {
            name: identity.name.clone(),
            host: options.client.host.clone(),
            id: identity.id.clone(),
            cluster: monitor.broker().cluster_name().unwrap_or_default(),
            domain: engine.as_ref().map(|engine| engine.config().domain.clone()).unwrap_or_default(),
            ver: identity.version.clone(),
            tags: options.identity.server_tags.clone(),
            metadata: options.identity.server_metadata.clone(),
            feature_flags: feature_flags(&options),
            jetstream: engine.is_some(),
            flags: if engine.is_some() { HAS_JETSTREAM } else { 0 },
            seq,
            time: monitor.now(),
        }
    }
}

impl ServerId {
    pub(crate) fn new(monitor: &Monitor) -> Self {
        let host = monitor.options().client.host.clone();
        Self { name: monitor.server_name(), host, id: monitor.server_id() }
    }
}
