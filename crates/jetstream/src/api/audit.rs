//! Telling of API calls (jetstream, "Advisories and metrics").

use linnet_broker::ClientDescription;
use linnet_jsapi::subjects::ApiRequest;
use serde_json::{Map, Value};

/// Where calls are told of, in the account of the caller.
pub(super) const SUBJECT: &[u8] = b"$JS.EVENT.ADVISORY.API";

/// A call and its answer.
pub(super) struct Audited<'a> {
    pub(super) caller: &'a ClientDescription,
    pub(super) subject: &'a str,
    pub(super) request: &'a [u8],
    pub(super) response: &'a [u8],
}

impl Audited<'_> {
    /// What is told, besides what every advisory says.
    pub(super) fn fields(&self) -> Map<String, Value> {
        let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes).into_owned());
        let mut all = Map::from_iter([
            ("server".to_owned(), Value::from(self.caller.server())),
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

/// False for calls that are neither told of nor counted (seen on nats-server 2.15.1): messages that were read, and
/// consumers that begin anew, whatever becomes of it.
pub(super) fn is_told(api: &ApiRequest<'_>, failed: bool) -> bool {
    match api {
        ApiRequest::MsgGet { .. } => failed,
        ApiRequest::ConsumerReset { .. } => false,
        _ => true,
    }
}
