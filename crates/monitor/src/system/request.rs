//! What is asked for over NATS: subjects and bodies (monitoring, "System services over NATS").

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What can be asked of a server, or of all.
pub(crate) const SERVER_VERBS: [&str; 15] = [
    "IDZ",
    "STATSZ",
    "VARZ",
    "CONNZ",
    "ROUTEZ",
    "GATEWAYZ",
    "LEAFZ",
    "SUBSZ",
    "ACCOUNTZ",
    "JSZ",
    "HEALTHZ",
    "PROFILEZ",
    "EXPVARZ",
    "IPQUEUESZ",
    "RAFTZ",
];
/// What can be asked of one server only.
pub(crate) const SERVER_ACTIONS: [&str; 3] = ["RELOAD", "KICK", "LDM"];
/// What can be asked about an account.
pub(crate) const ACCOUNT_VERBS: [&str; 7] = ["SUBSZ", "CONNZ", "LEAFZ", "JSZ", "INFO", "STATZ", "CONNS"];

/// A request's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    /// Of this server, or of all.
    Server { verb: &'a str },
    /// About an account.
    Account { account: &'a str, verb: &'a str },
    /// About all accounts of a server.
    AllAccounts,
    /// About the one who asks.
    User,
}

impl<'a> Subject<'a> {
    /// Reads a subject below `$SYS.REQ`.
    pub(crate) fn parse(subject: &'a str) -> Option<Self> {
        let rest = subject.strip_prefix("$SYS.REQ.")?;
        let mut tokens = rest.split('.');
        let parsed = match (tokens.next()?, tokens.next()?, tokens.next()) {
            ("SERVER", "PING", None) => Self::Server { verb: "STATSZ" },
            ("SERVER", _, Some(verb)) => Self::Server { verb },
            ("ACCOUNT", "PING", Some("STATZ")) => Self::AllAccounts,
            ("ACCOUNT", account, Some(verb)) => Self::Account { account, verb },
            ("USER", "INFO", None) => Self::User,
            _ => return None,
        };
        tokens.next().is_none().then_some(parsed)
    }
}

/// The JSON of a request, its keys in lower case and without those that are null.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body(Map<String, Value>);

/// Which servers are meant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Filter {
    server_name: String,
    cluster: String,
    host: String,
    exact_match: bool,
    tags: Vec<String>,
    domain: String,
}

/// What filters look at.
pub(crate) struct Server<'a> {
    pub(crate) name: &'a str,
    pub(crate) cluster: &'a str,
    pub(crate) host: &'a str,
    pub(crate) tags: &'a [String],
    pub(crate) domain: &'a str,
}

impl Body {
    /// Reads a body; an empty one asks for nothing in particular.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let map: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let kept = map.into_iter().filter(|(_, value)| !value.is_null());
        Ok(Self(kept.map(|(key, value)| (key.to_ascii_lowercase(), value)).collect()))
    }

    /// What it asks for.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        serde_json::from_value(Value::Object(self.0.clone())).map_err(|error| error.to_string())
    }
}

impl Filter {
    /// True if the server is meant.
    pub(crate) fn admits(&self, server: &Server<'_>) -> bool {
        let fits = |wanted: &str, value: &str| match wanted {
            "" => true,
            wanted if self.exact_match => value == wanted,
            wanted => value.contains(wanted),
        };
        fits(&self.server_name, server.name)
            && fits(&self.cluster, server.cluster)
            && fits(&self.host, server.host)
            && self.tags.iter().all(|tag| server.tags.contains(tag))
            && (self.domain.is_empty() || self.domain == server.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_name_what_is_asked() {
        for (subject, meant) in [
            ("$SYS.REQ.SERVER.PING", Some(Subject::Server { verb: "STATSZ" })),
            ("$SYS.REQ.SERVER.PING.VARZ", Some(Subject::Server { verb: "VARZ" })),
            ("$SYS.REQ.SERVER.NABC.KICK", Some(Subject::Server { verb: "KICK" })),
            ("$SYS.REQ.ACCOUNT.A.JSZ", Some(Subject::Account { account: "A", verb: "JSZ" })),
            ("$SYS.REQ.ACCOUNT.PING.STATZ", Some(Subject::AllAccounts)),
            ("$SYS.REQ.ACCOUNT.PING.CONNZ", Some(Subject::Account { account: "PING", verb: "CONNZ" })),
            ("$SYS.REQ.USER.INFO", Some(Subject::User)),
            ("$SYS.REQ.SERVER.NABC", None),
            ("$SYS.REQ.SERVER.NABC", None),
            ("$SYS.REQ.SERVER.NABC.VARZ.X", None),
            ("$SYS.REQ.USER.INFO.X", None),
            ("$SYS.SERVER.PING", None),
        ] {
            assert_eq!(Subject::parse(subject), meant, "{subject}");
        }
    }

    #[test]
    fn keys_have_any_case_and_null_is_absence() {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Options {
            limit: i64,
            auth: bool,
        }
        let options: Options =
            Body::parse(br#" {"LIMIT": 5, "auth": null, "other": []} "#).unwrap().read().unwrap();
        assert_eq!((options.limit, options.auth), (5, false));
        assert!(Body::parse(b"").is_ok() && Body::parse(b" \r\n").is_ok());
        assert!(Body::parse(b"{bad").is_err() && Body::parse(b"[]").is_err());
        assert!(Body::parse(br#"{"limit":"x"}"#).unwrap().read::<Options>().is_err());
    }

    #[test]
    fn filters_look_for_parts_unless_told_otherwise() {
        let tags = ["region:eu".to_owned(), "ssd".to_owned()];
        let server = Server { name: "east-1", cluster: "east", host: "0.0.0.0", tags: &tags, domain: "hub" };
        let admits =
            |json: &str| Body::parse(json.as_bytes()).unwrap().read::<Filter>().unwrap().admits(&server);
        for (json, is_meant) in [
            ("{}", true),
            (r#"{"server_name":"east"}"#, true),
            (r#"{"server_name":"east","exact_match":true}"#, false),
            (r#"{"server_name":"east-1","exact_match":true}"#, true),
            (r#"{"cluster":"eas","host":"0.0"}"#, true),
            (r#"{"cluster":"west"}"#, false),
            (r#"{"tags":["ssd"]}"#, true),
            (r#"{"tags":["ssd","hdd"]}"#, false),
            (r#"{"domain":"hub"}"#, true),
            (r#"{"domain":"hu"}"#, false),
        ] {
            assert_eq!(admits(json), is_meant, "{json}");
        }
    }
}
