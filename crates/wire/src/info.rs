use serde::{Deserialize, Serialize};

/// The `INFO` a client gets. Field order and omission follow nats-server (cluster protocols, "INFO: every field").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// Public nkey of this start of the server.
    pub server_id: String,
    /// Configured name, else the id.
    pub server_name: String,
    /// Version that clients use for feature detection.
    pub version: String,
    /// Protocol level; 1 towards clients.
    pub proto: i32,
    /// Short hash of the build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// Toolchain.
    pub go: String,
    /// Listen or advertised host of the client listener.
    pub host: String,
    /// Port of the client listener.
    pub port: u16,
    /// Header support.
    pub headers: bool,
    /// Credentials are needed.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// The client must begin a TLS handshake.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// The client must show a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// The client may begin a TLS handshake.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// Largest message in bytes.
    pub max_payload: i64,
    /// JetStream is enabled.
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// Id of this connection.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    /// The client's address as the server sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// Name of the cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Addresses of all servers of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// Lame duck mode.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// True in the INFO that answers CONNECT.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// Account the client was bound to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// The account is the system account.
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
    /// JetStream API level.
    #[serde(skip_serializing_if = "is_zero")]
    pub api_lvl: u64,
    /// Public curve nkey of this start, for what is to be read by this server only.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

fn is_false(b: &bool) -> bool {
    !*b
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Info {
    /// Appends the `INFO` line.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"INFO ");
        // Writing a struct of strings and numbers to memory cannot fail.
        serde_json::to_writer(&mut *out, self).expect("INFO serialises");
        out.extend_from_slice(b" \r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::Info;

    #[test]
    fn info_omits_what_is_unset() {
        let mut out = Vec::new();
        Info { server_id: "N1".into(), port: 4222, ..Info::default() }.encode(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(
            text,
            "INFO {\"server_id\":\"N1\",\"server_name\":\"\",\"version\":\"\",\"proto\":0,\"go\":\"\",\"host\":\"\",\"port\":4222,\"headers\":false,\"max_payload\":0} \r\n"
        );
    }
}
