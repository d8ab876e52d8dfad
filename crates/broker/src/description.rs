use linnet_ids::{Mono, Wall};
use serde::Serialize;

use crate::conn::Conn;

/// A client as events and advisories describe it (monitoring, "Events").
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClientDescription {
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    acc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    ver: String,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name_tag: Option<String>,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_type: Option<&'static str>,
}

impl ClientDescription {
    /// A client in an account, at `now`.
    pub fn new(conn: &Conn, account: &str, now: Mono) -> Self {
        let shown = conn.snapshot(now);
        Self {
            start: Some(shown.start.rfc3339()),
            host: Some(shown.peer.ip().to_canonical().to_string()),
            id: Some(shown.cid),
            acc: account.to_owned(),
            user: shown.client.user,
            name: shown.client.name,
            lang: shown.client.lang,
            ver: shown.client.version,
            rtt: u64::try_from(shown.rtt.as_nanos()).ok().filter(|rtt| *rtt > 0),
            kind: "Client",
            client_type: Some("nats"),
            ..Self::default()
        }
    }

    /// A stream of this server that reads another one.
    pub fn stream(account: &str) -> Self {
        Self { acc: account.to_owned(), kind: "JetStream", ..Self::default() }
    }

    /// Names the server it is connected to.
    #[must_use]
    pub fn at_server(mut self, server: &str) -> Self {
        server.clone_into(&mut self.server);
        self
    }

    /// Names the account for people.
    #[must_use]
    pub fn with_name_tag(mut self) -> Self {
        self.name_tag = Some(self.acc.clone());
        self
    }

    /// Says when it left.
    #[must_use]
    pub fn stopped(mut self, at: Wall) -> Self {
        self.stop = Some(at.rfc3339());
        self
    }

    /// The server it is connected to, as far as said.
    pub fn server(&self) -> &str {
        &self.server
    }
}
