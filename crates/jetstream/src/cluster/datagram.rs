//! The head of everything but frames, which have one of their own.

use bytes::Bytes;
use linnet_ids::PeerId;

const VERSION: u8 = 1;
const HEAD_LEN: usize = 1 + PeerId::LEN + 8;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) from: PeerId,
    /// Number of the sender's process.
    pub(super) boot: u64,
}

impl Head {
    /// The head, for a body to be appended.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.from.to_bytes());
        out.extend_from_slice(&self.boot.to_le_bytes());
        out
    }

    /// The head and what is behind it; `None` if it is none that this server knows.
    pub(super) fn decode(bytes: &Bytes) -> Option<(Self, Bytes)> {
        let (head, _) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let (version, head) = head.split_first()?;
        let (from, boot) = head.split_first_chunk()?;
        let from = PeerId::from_bytes(*from).ok().filter(|_| *version == VERSION)?;
        let boot = u64::from_le_bytes(boot.try_into().ok()?);
        Some((Self { from, boot }, bytes.slice(HEAD_LEN..)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_round_trip_and_others_are_refused() {
        let head = Head { from: PeerId::of_name("a"), boot: 77 };
        let mut bytes = head.encode();
        bytes.extend_from_slice(b"body");
        let whole = Bytes::from(bytes.clone());
        assert_eq!(Head::decode(&whole), Some((head, Bytes::from_static(b"body"))));
        assert_eq!(Head::decode(&whole.slice(..HEAD_LEN - 1)), None);
        bytes[0] = 2;
        assert_eq!(Head::decode(&bytes.clone().into()), None, "another version");
        (bytes[0], bytes[1]) = (1, b'-');
        assert_eq!(Head::decode(&bytes.into()), None, "no peer");
    }
}
