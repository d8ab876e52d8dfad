//! The key pairs a start of the server makes for itself. Nothing is signed or sealed with them, so that only their
//! public halves are kept.

use ed25519_dalek::SigningKey;
use linnet_env::Rng;
use linnet_ids::{PublicKeyKind, encode_public_key};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};

/// A new server key, which is the server's id.
pub(crate) fn server(rng: &dyn Rng) -> String {
    let public = SigningKey::from_bytes(&seed(rng)).verifying_key();
    encode_public_key(PublicKeyKind::Server, public.as_bytes())
}

/// A new curve key.
pub(crate) fn curve(rng: &dyn Rng) -> String {
    encode_public_key(PublicKeyKind::Curve, &x25519(seed(rng), X25519_BASEPOINT_BYTES))
}

fn seed(rng: &dyn Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out the same bytes each time.
    struct Given([u8; 32]);

    impl Rng for Given {
        fn fill(&self, out: &mut [u8]) {
            out.copy_from_slice(&self.0);
        }
    }

    fn bytes(hex: &str) -> [u8; 32] {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
    }

    /// RFC 8032, 7.1, first test.
    #[test]
    fn the_id_is_the_public_half_of_an_ed25519_key() {
        let seed = bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = bytes("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(server(&Given(seed)), encode_public_key(PublicKeyKind::Server, &public));
    }

    /// RFC 7748, 6.1, Bob's key.
    #[test]
    fn the_curve_key_is_the_public_half_of_an_x25519_key() {
        let seed = bytes("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let public = bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
        assert_eq!(curve(&Given(seed)), encode_public_key(PublicKeyKind::Curve, &public));
    }
}
