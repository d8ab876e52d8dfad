/// What a public nkey identifies; decides its first letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublicKeyKind {
    /// `N…`: a server.
    Server,
    /// `A…`: an account.
    Account,
    /// `U…`: a user.
    User,
    /// `X…`: a curve key.
    Curve,
}

impl PublicKeyKind {
    fn prefix(self) -> u8 {
        match self {
            Self::Account => 0,
            Self::Server => 13 << 3,
            Self::User => 20 << 3,
            Self::Curve => 23 << 3,
        }
    }
}

/// Text form of a public nkey: base32 without padding of prefix, key and CRC-16 (56 characters).
pub fn encode_public_key(kind: PublicKeyKind, key: &[u8; 32]) -> String {
    let mut raw = Vec::with_capacity(35);
    raw.push(kind.prefix());
    raw.extend_from_slice(key);
    let crc = crc16(&raw);
    raw.extend_from_slice(&crc.to_le_bytes());
    data_encoding::BASE32_NOPAD.encode(&raw)
}

/// CRC-16/XMODEM, which the nkey format uses.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0_u16, |crc, b| {
        (0..8)
            .fold(crc ^ (u16::from(*b) << 8), |c, _| if c & 0x8000 != 0 { (c << 1) ^ 0x1021 } else { c << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::{PublicKeyKind, crc16, encode_public_key};

    #[test]
    fn server_key_has_56_characters_and_starts_with_n() {
        let text = encode_public_key(PublicKeyKind::Server, &[7; 32]);
        assert_eq!(text.len(), 56);
        assert!(text.starts_with('N'));
        assert!(encode_public_key(PublicKeyKind::User, &[7; 32]).starts_with('U'));
    }

    #[test]
    fn crc_matches_the_published_check_value() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }
}
