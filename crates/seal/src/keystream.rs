//! Keystream that can be applied at any place of a file.

use aes::Aes256;
use aes::cipher::{InnerIvInit, KeyInit, KeyIvInit, StreamCipher, StreamCipherSeek};
use chacha20::ChaCha20;
use ctr::{Ctr128BE, CtrCore};
use zeroize::Zeroizing;

use crate::key::Cipher;

/// Where a keystream ends: before ChaCha20's block counter does.
pub(crate) const END: u64 = 1 << 37;

/// A keystream. Each key has one, so that its nonce can be zero.
pub(crate) enum Keystream {
    ChaCha(Zeroizing<[u8; 32]>),
    /// With the key already expanded.
    Aes(Box<Aes256>),
}

impl Keystream {
    pub(crate) fn new(cipher: Cipher, key: &[u8; 32]) -> Self {
        match cipher {
            Cipher::ChaCha => Self::ChaCha(Zeroizing::new(*key)),
            Cipher::Aes => Self::Aes(Box::new(Aes256::new(key.into()))),
        }
    }

    /// Encrypts or decrypts what stands at `offset`. The end of what is touched is below [`END`].
    pub(crate) fn apply(&self, data: &mut [u8], offset: u64) {
        match self {
            Self::ChaCha(key) => apply(ChaCha20::new((&**key).into(), &[0; 12].into()), data, offset),
            Self::Aes(key) => {
                let core = CtrCore::inner_iv_init((**key).clone(), &[0; 16].into());
                apply(Ctr128BE::<Aes256>::from_core(core), data, offset);
            }
        }
    }
}

fn apply<C: StreamCipher + StreamCipherSeek>(mut cipher: C, data: &mut [u8], offset: u64) {
    cipher.seek(offset);
    cipher.apply_keystream(data);
}
