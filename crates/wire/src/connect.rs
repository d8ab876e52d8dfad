use serde::Deserialize;
use thiserror::Error;

/// The `CONNECT` of a client (cluster protocols, "CONNECT from clients"). Unset fields keep the defaults of
/// [`Connect::default`]; unknown ones are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Connect {
    /// Answer every operation with `+OK`.
    pub verbose: bool,
    /// Check published subjects.
    pub pedantic: bool,
    /// Deliver the client's own messages to it.
    pub echo: bool,
    /// The client insists on TLS.
    pub tls_required: bool,
    /// User name.
    pub user: String,
    /// Password, or the token of some clients.
    pub pass: String,
    /// Token.
    pub auth_token: String,
    /// User JWT.
    pub jwt: String,
    /// Public user nkey.
    pub nkey: String,
    /// Signature over the nonce.
    pub sig: String,
    /// Name of the connection.
    pub name: String,
    /// Language of the client library.
    pub lang: String,
    /// Version of the client library.
    pub version: String,
    /// 0, or 1 when the client handles asynchronous INFO.
    pub protocol: i64,
    /// The client understands headers.
    pub headers: bool,
    /// The client wants a 503 when nobody listens.
    pub no_responders: bool,
    /// Legacy; any use is refused.
    pub account: String,
    /// Legacy; any use is refused.
    pub new_account: bool,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            verbose: true,
            pedantic: true,
            echo: true,
            tls_required: false,
            user: String::new(),
            pass: String::new(),
            auth_token: String::new(),
            jwt: String::new(),
            nkey: String::new(),
            sig: String::new(),
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            protocol: 0,
            headers: false,
            no_responders: false,
            account: String::new(),
            new_account: false,
        }
    }
}

/// The JSON of a `CONNECT` cannot be read.
#[derive(Debug, Error)]
#[error("CONNECT is not valid JSON: {0}")]
pub struct ConnectError(#[from] serde_json::Error);

impl Connect {
    /// Parses the argument of `CONNECT`. What is not UTF-8 in it becomes U+FFFD, as Go reads JSON.
    pub fn parse(json: &[u8]) -> Result<Self, ConnectError> {
        let json = String::from_utf8_lossy(json);
        let mut fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&json)?;
        // Clients send null for what they do not set.
        fields.retain(|_, value| !value.is_null());
        Ok(serde_json::from_value(serde_json::Value::Object(fields))?)
    }
}

#[cfg(test)]
mod tests {
    use super::Connect;

    #[test]
    fn an_empty_connect_is_verbose_pedantic_and_echoes() {
        let connect = Connect::parse(b"{}").unwrap();
        assert!(connect.verbose && connect.pedantic && connect.echo && !connect.headers);
        assert!(Connect::parse(b"{").is_err());
        assert!(Connect::parse(b"{\"name\":\"a\xff\xfeb\"}").is_ok_and(|c| c.name == "a\u{fffd}\u{fffd}b"));
        assert!(Connect::parse(br#"{"unknown":[1],"user":"a"}"#).is_ok_and(|c| c.user == "a"));
        assert!(
            Connect::parse(br#"{"user":null,"verbose":null}"#).is_ok_and(|c| c.user.is_empty() && c.verbose)
        );
    }
}
