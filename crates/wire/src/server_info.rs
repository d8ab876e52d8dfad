use serde::{Deserialize, Serialize};

/// The `INFO` that servers of a cluster send each other (cluster protocols, "INFO: every field"). Order and omission
/// follow nats-server; what is unknown is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// Public nkey of this start of the server.
    pub server_id: String,
    /// Configured name, else the id.
    pub server_name: String,
    /// Version.
    pub version: String,
    /// Protocol level; 3 between servers.
    pub proto: i32,
    /// Short hash of the build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// Toolchain.
    pub go: String,
    /// Listen or advertised host of the route listener.
    pub host: String,
    /// Port of the route listener.
    pub port: u16,
    /// Header support.
    pub headers: bool,
    /// Credentials are needed.
    #[serde(skip_serializing_if = "is_default")]
    pub auth_required: bool,
    /// The route uses TLS.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_required: bool,
    /// Certificates of the other side are verified.
    #[serde(skip_serializing_if = "is_default")]
    pub tls_verify: bool,
    /// Largest message a client may publish, in bytes.
    pub max_payload: i64,
    /// JetStream is enabled.
    #[serde(skip_serializing_if = "is_default")]
    pub jetstream: bool,
    /// Where to dial the server, as `nats-route://host:port/`: when it is advertised or gossiped.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Random text; without a use on routes, but always there in the first one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The name was made up and gives way to another.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster_dynamic: bool,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Where clients reach the server, as `host:port`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// The same for WebSocket.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// Lame duck mode.
    #[serde(skip_serializing_if = "is_default")]
    pub ldm: bool,
    /// Compression that is configured or agreed on; empty if the server knows none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// Subjects of which interest is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<SubjectPermission>,
    /// Subjects for which interest is accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<SubjectPermission>,
    /// Knows interest on behalf of a leaf's cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub lnoc: bool,
    /// Knows the cluster's name also when such interest goes.
    #[serde(skip_serializing_if = "is_default")]
    pub lnocu: bool,
    /// Knows interest on behalf of leaves without a cluster.
    #[serde(skip_serializing_if = "is_default")]
    pub ln: bool,
    /// Addresses of the leafnode listener.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub leafnode_urls: Vec<String>,
    /// Connections per pair of servers; 0 or less for one without a pool.
    #[serde(skip_serializing_if = "is_default")]
    pub route_pool_size: i64,
    /// Which of them this one is, said by the dialling side.
    #[serde(skip_serializing_if = "is_default")]
    pub route_pool_idx: i64,
    /// The only account of this connection.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_account: String,
    /// Id of the request to give an account a connection of its own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route_acc_add_reqid: String,
    /// See [`GossipMode`].
    #[serde(skip_serializing_if = "is_default")]
    pub gossip_mode: u8,
    /// Name of the cluster of a gateway.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Gateway addresses of that cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gateway_urls: Vec<String>,
    /// The sending server's gateway address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway_url: String,
}

/// Whether the server that is told of another passes it on (cluster protocols, "Gossip, implicit routes, duplicates").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GossipMode {
    /// As the receiver sees fit.
    #[default]
    Default,
    /// Not to be passed on.
    Disabled,
    /// To be passed on in any case.
    Override,
}

impl GossipMode {
    /// The mode as `gossip_mode` says it; unknown numbers are the default.
    pub fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Disabled,
            2 => Self::Override,
            _ => Self::Default,
        }
    }

    /// As `gossip_mode` says it.
    pub fn number(self) -> u8 {
        match self {
            Self::Default => 0,
            Self::Disabled => 1,
            Self::Override => 2,
        }
    }
}

/// Subjects allowed and denied; no list allows everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectPermission {
    /// Allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Denied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// The `CONNECT` between servers of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerConnect {
    /// Always true.
    pub echo: bool,
    /// Always false.
    pub verbose: bool,
    /// Always false.
    pub pedantic: bool,
    /// User of the cluster's authorization.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Its password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    /// The dialling side uses TLS.
    pub tls_required: bool,
    /// Header support.
    pub headers: bool,
    /// Id of the server.
    pub name: String,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The name was made up and gives way to another.
    #[serde(skip_serializing_if = "is_default")]
    pub cluster_dynamic: bool,
    /// See [`ServerInfo::lnoc`].
    #[serde(skip_serializing_if = "is_default")]
    pub lnoc: bool,
    /// See [`ServerInfo::ln`].
    #[serde(skip_serializing_if = "is_default")]
    pub ln: bool,
    /// Set by clients only.
    #[serde(skip_serializing)]
    pub lang: String,
    /// Set by gateways only.
    #[serde(skip_serializing)]
    pub gateway: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ServerInfo {
    /// Appends the `INFO` line.
    pub fn encode(&self, out: &mut Vec<u8>) {
        line(out, b"INFO ", self);
    }

    /// Reads the argument of `INFO`.
    ///
    /// # Errors
    /// It is not JSON, or a known field has another type.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        parse(json)
    }
}

impl ServerConnect {
    /// Appends the `CONNECT` line.
    pub fn encode(&self, out: &mut Vec<u8>) {
        line(out, b"CONNECT ", self);
    }

    /// Reads the argument of `CONNECT`.
    ///
    /// # Errors
    /// It is not JSON, or a known field has another type.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        parse(json)
    }
}

fn line(out: &mut Vec<u8>, verb: &[u8], value: &impl Serialize) {
    out.extend_from_slice(verb);
    // Writing a struct of strings and numbers to memory cannot fail.
    serde_json::to_writer(&mut *out, value).expect("a handshake serialises");
    out.extend_from_slice(crate::encode::CRLF);
}

/// Go writes null for lists that are not there.
fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json)?;
    fields.retain(|_, value| !value.is_null());
    serde_json::from_value(serde_json::Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_of_the_other_server_is_read() {
        let info = ServerInfo::parse(
            br#"{"server_id":"NA","server_name":"A","version":"2.15.1","proto":3,"go":"go1.25","host":"127.0.0.1",
            "port":6222,"headers":true,"max_payload":1048576,"nonce":"abc","cluster":"C","connect_urls":null,
            "compression":"accept","lnoc":true,"lnocu":true,"ln":true,"route_pool_size":3,"unknown":[1]}"#,
        )
        .unwrap();
        assert_eq!((info.server_id.as_str(), info.cluster.as_str(), info.route_pool_size), ("NA", "C", 3));
        assert!(info.lnoc && info.lnocu && info.ln && info.connect_urls.is_empty());
        let connect =
            ServerConnect::parse(br#"{"echo":true,"name":"NB","cluster":"C","lang":"go"}"#).unwrap();
        assert_eq!((connect.name.as_str(), connect.lang.as_str()), ("NB", "go"));
        assert!(ServerInfo::parse(b"{").is_err());
        assert!(ServerInfo::parse(br#"{"port":"x"}"#).is_err());
    }

    #[test]
    fn what_is_unset_is_left_out() {
        let mut out = Vec::new();
        let connect = ServerConnect {
            echo: true,
            headers: true,
            name: "NB".into(),
            cluster: "C".into(),
            lnoc: true,
            ln: true,
            ..ServerConnect::default()
        };
        connect.encode(&mut out);
        let expected = "CONNECT {\"echo\":true,\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\
            \"headers\":true,\"name\":\"NB\",\"cluster\":\"C\",\"lnoc\":true,\"ln\":true}\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
