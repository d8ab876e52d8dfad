use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::hash::base62_of_sha256;

/// Identity of a server in replicated groups: a hash of its name, so a server that is replaced under the same name
/// is the same peer. Eight characters of `0-9A-Za-z`, as `Node:` in the startup log and `peer` in reports have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; Self::LEN]);

/// A text that is not a [`PeerId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer id has {} characters of 0-9, A-Z and a-z", PeerId::LEN)]
pub struct PeerIdError;

impl PeerId {
    /// Length of the text in bytes.
    pub const LEN: usize = 8;

    /// The id of the server called `server_name`.
    pub fn of_name(server_name: &str) -> Self {
        Self(base62_of_sha256(server_name))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        // Both ways to make an id put ASCII letters and digits in it.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The text form as bytes, for fixed-size encodings.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// Inverse of [`PeerId::to_bytes`].
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Result<Self, PeerIdError> {
        if bytes.iter().all(u8::is_ascii_alphanumeric) { Ok(Self(bytes)) } else { Err(PeerIdError) }
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        text.as_bytes().try_into().map_err(|_| PeerIdError).and_then(Self::from_bytes)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{PeerId, PeerIdError};

    #[test]
    fn peer_of_a_name_is_what_nats_server_shows() {
        let id = PeerId::of_name("n1");
        assert_eq!(id.as_str(), "fjFyEjc1");
        assert_eq!(id.to_string(), crate::node_hash("n1"));
        assert_eq!(format!("{id:?}|{id:>10}"), "fjFyEjc1|  fjFyEjc1");
    }

    #[test]
    fn text_and_bytes_round_trip() {
        let id = PeerId::of_name("other");
        assert_eq!(id.as_str().parse(), Ok(id));
        assert_eq!(PeerId::from_bytes(id.to_bytes()), Ok(id));
    }

    #[test]
    fn other_texts_are_not_peers() {
        for bad in ["", "fjFyEjc", "fjFyEjc12", "fjFyEj-1", "fjFyEjé"] {
            assert_eq!(bad.parse::<PeerId>(), Err(PeerIdError), "{bad}");
        }
        assert_eq!(PeerId::from_bytes(*b"fjFyEj\xff1"), Err(PeerIdError));
    }

    #[test]
    fn json_form_is_the_text() {
        let id = PeerId::of_name("n1");
        assert_eq!(serde_json::to_string(&id).unwrap(), r#""fjFyEjc1""#);
        assert_eq!(serde_json::from_str::<PeerId>(r#""fjFyEjc1""#).unwrap(), id);
        assert_eq!(serde_json::from_reader::<_, PeerId>(&br#""fjFyEjc1""#[..]).unwrap(), id);
        let error = serde_json::from_str::<PeerId>(r#""n1""#).unwrap_err();
        assert!(error.to_string().starts_with("a peer id has 8 characters"), "{error}");
    }
}
