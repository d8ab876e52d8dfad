//! Telling of API calls (jetstream, "Advisories and metrics").

use linnet_broker::Conn;
use linnet_ids::Mono;
use linnet_jsapi::subjects::ApiRequest;
use serde::Serialize;
use serde_json::{Map, Value};

/// Where calls are told of, in the account of the caller.
pub(super) const SUBJECT: &[u8] = b"$JS.EVENT.ADVISORY.API";

/// Who called.
#[derive(Default, Serialize)]
pub(crate) struct Caller {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<u64>,
    server: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_type: Option<&'static str>,
}

impl Caller {
    /// A client, or without a connection a stream of this server that reads another one.
    pub(super) fn new(conn: Option<&Conn>, account: &str, server: &str, now: Mono) -> Self {
        let Some(conn) = conn else {
            let (acc, server) = (account.to_owned(), server.to_owned());
            return Self { acc, server, kind: "JetStream", ..Self::default() };
        };
        let shown = conn.snapshot(now);
        Self {
            start: Some(shown.start.rfc3339()),
            host: Some(shown.peer.ip().to_string()),
            id: Some(shown.cid),
            acc: account.to_owned(),
            user: shown.client.user,
            name: shown.client.name,
            lang: shown.client.lang,
            ver: shown.client.version,
            rtt: u64::try_from(shown.rtt.as_nanos()).ok().filter(|rtt| *rtt > 0),
            server: server.to_owned(),
            kind: "Client",
            client_type: Some("nats"),
        }
    }
}

/// A call and its answer.
pub(super) struct Audited<'a> {
    pub(super) caller: &'a Caller,
    pub(super) subject: &'a str,
    pub(super) request: &'a [u8],
    pub(super) response: &'a [u8],
}

impl Audited<'_> {
    /// What is told, besides what every advisory says.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
        let mut all = Map::from_iter([
            ("server".to_owned(), Value::from(self.caller.server.as_str())),
            ("client".to_owned(), serde_json::to_value(self.caller).unwrap_or_default()),
            ("subject".to_owned(), Value::from(self.subject)),
        ]);
        if !self.request.is_empty() {
            all.insert("request".to_owned(), text(self.request));
        }
        all.insert("response".to_owned(), text(self.response));
        all
    }
}

/// False for calls of which only refusals are told.
pub(super) fn is_told(api: &ApiRequest<'_>, failed: bool) -> bool {
    failed || !matches!(api, ApiRequest::MsgGet { .. } | ApiRequest::ConsumerReset { .. })
}
