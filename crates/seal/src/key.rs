//! The configured key and what is derived from it.

use std::sync::Arc;

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use linnet_env::Rng;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::keystream::Keystream;

/// Bytes of [`MasterKey::new_check`].
pub const CHECK_BYTES: usize = 48;
pub(crate) const SALT_BYTES: usize = 32;
pub(crate) const TAG_BYTES: usize = 32;
pub(crate) const KEY_ID_BYTES: usize = 8;

/// Separates these keys from whatever else the same secret may be used for.
const DOMAIN: &[u8] = b"linnet encryption at rest 1";
const CHECK_SALT_BYTES: usize = CHECK_BYTES - TAG_BYTES;

/// How files are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    /// ChaCha20.
    ChaCha,
    /// AES-256 in counter mode.
    Aes,
}

impl Cipher {
    /// The name nats-server gives it, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChaCha => "ChaCha20-Poly1305",
            Self::Aes => "AES-GCM",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::ChaCha => 1,
            Self::Aes => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::ChaCha, Self::Aes].into_iter().find(|cipher| cipher.code() == code)
    }
}

/// What all keys of a store are derived from. Wiped from memory when it is dropped.
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// From the configured text.
    pub fn new(secret: &str) -> Self {
        let (extracted, _) = Hkdf::<Sha256>::extract(Some(DOMAIN), secret.as_bytes());
        let mut key = Zeroizing::new([0; 32]);
        key.copy_from_slice(&extracted);
        Self(key)
    }

    fn derive(&self, purpose: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        let expander = Hkdf::<Sha256>::from_prk(&*self.0).expect("32 bytes are what SHA-256 extracts");
        expander.expand_multi_info(purpose, &mut *out).expect("32 bytes are fewer than HKDF's limit");
        out
    }

    /// Tells this key from others without giving it away.
    pub(crate) fn id(&self) -> [u8; KEY_ID_BYTES] {
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(self.derive(&[b"id"]).get(..KEY_ID_BYTES).unwrap_or_default());
        id
    }

    /// The keystream of a file, or of a part of it that was written again, in which case `part` is that part's salt.
    pub(crate) fn keystream(&self, cipher: Cipher, salt: &[u8; SALT_BYTES], part: &[u8]) -> Keystream {
        Keystream::new(cipher, &self.derive(&[b"file", &[cipher.code()], salt, part]))
    }

    fn mac(&self, purpose: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
        let key = self.derive(&[purpose]);
        let mut mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(&*key).expect("HMAC takes keys of any length");
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    pub(crate) fn header_tag(&self, content: &[u8]) -> [u8; TAG_BYTES] {
        self.mac(b"header", &[content]).finalize().into_bytes().into()
    }

    pub(crate) fn is_header_tag(&self, content: &[u8], tag: &[u8]) -> bool {
        self.mac(b"header", &[content]).verify_slice(tag).is_ok()
    }

    /// What a store keeps to know this key again.
    pub fn new_check(&self, rng: &dyn Rng) -> [u8; CHECK_BYTES] {
        let mut check = [0; CHECK_BYTES];
        let (salt, tag) = check.split_at_mut(CHECK_SALT_BYTES);
        rng.fill(salt);
        tag.copy_from_slice(&self.mac(b"check", &[salt]).finalize().into_bytes());
        check
    }

    /// True if the check was made with this key.
    pub fn fits(&self, check: &[u8; CHECK_BYTES]) -> bool {
        let (salt, tag) = check.split_at(CHECK_SALT_BYTES);
        self.mac(b"check", &[salt]).verify_slice(tag).is_ok()
    }
}

/// The key and cipher that new files get, and the keys that files may have been written with before.
#[derive(Debug)]
pub struct KeyRing {
    pub(crate) cipher: Cipher,
    /// The present one first, each with its id.
    pub(crate) keys: Vec<([u8; KEY_ID_BYTES], Arc<MasterKey>)>,
}

impl KeyRing {
    /// New files get `key`; files with the others can be read.
    pub fn new(
        cipher: Cipher,
        key: Arc<MasterKey>,
        others: impl IntoIterator<Item = Arc<MasterKey>>,
    ) -> Self {
        let keys = std::iter::once(key).chain(others).map(|key| (key.id(), key)).collect();
        Self { cipher, keys }
    }

    /// The cipher of new files.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    pub(crate) fn present(&self) -> &([u8; KEY_ID_BYTES], Arc<MasterKey>) {
        self.keys.first().expect("a ring is made with a key")
    }

    pub(crate) fn find(&self, id: &[u8]) -> Option<&MasterKey> {
        self.keys.iter().find(|(known, _)| known == id).map(|(_, key)| &**key)
    }
}
