//! Whether and how the files of a store are encrypted, and what changes that.
//!
//! The marker says with which key and cipher everything is encrypted, or towards which everything is being converted. It
//! changes before the first file does and once more after the last one, so that a start always knows which keys the files
//! may have. With a key that does not fit, nothing is opened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::{Disk, Rng};
use linnet_seal::{CHECK_BYTES, Cipher, KeyRing, MasterKey, SealedDisk, convert};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Encryption;

/// What the marker says about encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    /// The cipher of files.
    cipher: CipherName,
    /// What the key of files is known by, in hexadecimal.
    key_check: String,
    /// CRC-32 of `key_check`, in hexadecimal.
    key_check_crc: String,
    /// Set while some files may be something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    converting: Option<Converting>,
}

/// What files may be while a store is converted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Converting {
    /// Plain text.
    from_plain: bool,
    /// Encrypted with these keys.
    key_checks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CipherName {
    ChaCha,
    Aes,
}

impl From<Cipher> for CipherName {
    fn from(cipher: Cipher) -> Self {
        match cipher {
            Cipher::ChaCha => Self::ChaCha,
            Cipher::Aes => Self::Aes,
        }
    }
}

/// A store that cannot be read with the configured keys. Nothing of it has been touched.
#[derive(Debug, Error)]
pub enum SealingError {
    /// No key is configured.
    #[error("the store in {0} is encrypted: configure its 'key'; nothing has been touched")]
    NoKey(PathBuf),
    /// Neither key fits.
    #[error(
        "the store in {0} is encrypted with another key than 'key' or 'prev_key'; nothing has been touched"
    )]
    WrongKey(PathBuf),
    /// The change to another key was interrupted.
    #[error(
        "the key of the store in {0} was being changed: configure the new one as 'key' and the one before as \
         'prev_key' until a start has finished that; nothing has been touched"
    )]
    Unfinished(PathBuf),
}

/// What an opening is to do.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What the marker has to say before any file changes.
    pub(crate) sealed: Sealed,
    ring: Arc<KeyRing>,
}

impl Sealed {
    fn new(cipher: Cipher, key: &MasterKey, rng: &dyn Rng, converting: Option<Converting>) -> Self {
        let key_check: String = key.new_check(rng).iter().map(|b| format!("{b:02x}")).collect();
        let key_check_crc = crc_of(&key_check);
        Self { cipher: cipher.into(), key_check, key_check_crc, converting }
    }

    /// The cipher of files.
    pub(crate) fn cipher(&self) -> Cipher {
        match self.cipher {
            CipherName::ChaCha => Cipher::ChaCha,
            CipherName::Aes => Cipher::Aes,
        }
    }

    /// True unless it was changed by damage.
    pub(crate) fn is_intact(&self) -> bool {
        self.key_check_crc == crc_of(&self.key_check)
    }

    /// The same when all files have been converted.
    pub(crate) fn finished(&self) -> Self {
        Self { converting: None, ..self.clone() }
    }
}

fn crc_of(check: &str) -> String {
    format!("{:08x}", crc32fast::hash(check.as_bytes()))
}

/// True if the check was made with this key.
fn fits(key: &MasterKey, check: &str) -> bool {
    let mut bytes = [0; CHECK_BYTES];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        match check.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(parsed) => *byte = parsed,
            None => return false,
        }
    }
    key.fits(&bytes)
}

impl Plan {
    /// Judges the keys; `None` for a store in plain text. `found` is what the marker of a store says, which is missing for
    /// a new store.
    pub(crate) fn make(
        dir: &Path,
        found: Option<Option<&Sealed>>,
        wanted: Option<&Encryption>,
        rng: &dyn Rng,
    ) -> Result<Option<Self>, SealingError> {
        let dir = || dir.to_owned();
        let sealed = match (found, wanted) {
            (Some(Some(_)), None) => return Err(SealingError::NoKey(dir())),
            (_, None) => return Ok(None),
            (None, Some(wanted)) => Sealed::new(wanted.cipher, &wanted.key, rng, None),
            (Some(None), Some(wanted)) => {
                let converting = Converting { from_plain: true, key_checks: Vec::new() };
                Sealed::new(wanted.cipher, &wanted.key, rng, Some(converting))
            }
            (Some(Some(found)), Some(wanted)) if fits(&wanted.key, &found.key_check) => {
                let cipher = wanted.cipher.into();
                let converting =
                    found.converting.clone().or_else(|| (found.cipher != cipher).then(Converting::default));
                Sealed { cipher, converting, ..found.clone() }
            }
            (Some(Some(found)), Some(wanted)) => {
                let is_previous = wanted.prev_key.as_ref().is_some_and(|key| fits(key, &found.key_check));
                if !is_previous {
                    let was_before = found.converting.iter().flat_map(|c| &c.key_checks);
                    let is_unfinished = was_before.into_iter().any(|check| fits(&wanted.key, check));
                    let error = if is_unfinished { SealingError::Unfinished } else { SealingError::WrongKey };
                    return Err(error(dir()));
                }
                let mut converting = found.converting.clone().unwrap_or_default();
                converting.key_checks.push(found.key_check.clone());
                Sealed::new(wanted.cipher, &wanted.key, rng, Some(converting))
            }
        };
        let Some(wanted) = wanted else { return Ok(None) };
        let keys = [Some(&wanted.key), wanted.prev_key.as_ref()];
        let is_known = |check: &String| keys.iter().flatten().any(|key| fits(key, check));
        if !sealed.converting.iter().flat_map(|c| &c.key_checks).all(is_known) {
            return Err(SealingError::Unfinished(dir()));
        }
        let others = wanted.prev_key.iter().cloned();
        let ring = Arc::new(KeyRing::new(wanted.cipher, wanted.key.clone(), others));
        Ok(Some(Self { sealed, ring }))
    }

    /// True if files have to be converted before anything is opened.
    pub(crate) fn must_convert(&self) -> bool {
        self.sealed.converting.is_some()
    }

    /// Converts the files of the store but those of these names.
    pub(crate) fn convert(
        &self,
        disk: &Arc<dyn Disk>,
        rng: &Arc<dyn Rng>,
        dir: &Path,
        except: &[&str],
    ) -> io::Result<()> {
        let Some(converting) = &self.sealed.converting else { return Ok(()) };
        let cipher = self.ring.cipher().name();
        tracing::info!("  Converting the store to {cipher}");
        let done = convert(disk, &self.ring, rng, dir, except, converting.from_plain)?;
        tracing::info!(
            "  Converted {} files ({} bytes) to {cipher}; the store is complete",
            done.files,
            done.bytes
        );
        if done.damaged + done.unreadable_sectors > 0 {
            tracing::error!(
                "  Converting met {} files whose header is damaged and {} sectors that cannot be read",
                done.damaged,
                done.unreadable_sectors
            );
        }
        Ok(())
    }

    /// The disk through which everything but the marker is read and written.
    pub(crate) fn disk(&self, disk: Arc<dyn Disk>, rng: Arc<dyn Rng>) -> Arc<dyn Disk> {
        Arc::new(SealedDisk::new(disk, self.ring.clone(), rng))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use linnet_env::SeededRng;
    use linnet_seal::{Cipher, MasterKey};

    use super::{Plan, Sealed, SealingError};
    use crate::config::Encryption;

    fn keys(cipher: Cipher, key: &str, prev: Option<&str>) -> Encryption {
        let master = |text: &str| Arc::new(MasterKey::new(text));
        Encryption { cipher, key: master(key), prev_key: prev.map(master) }
    }

    fn plan(found: Option<&Sealed>, wanted: Option<&Encryption>) -> Result<Option<Plan>, SealingError> {
        Plan::make(Path::new("/s"), Some(found), wanted, &SeededRng::new(1))
    }

    fn new_store(wanted: &Encryption) -> Sealed {
        Plan::make(Path::new("/s"), None, Some(wanted), &SeededRng::new(1)).unwrap().unwrap().sealed
    }

    #[test]
    fn a_new_store_and_one_of_the_same_key_need_no_conversion() {
        let first = keys(Cipher::ChaCha, "first", None);
        let sealed = new_store(&first);
        let again = plan(Some(&sealed), Some(&first)).unwrap().unwrap();
        assert!(!again.must_convert() && again.sealed == sealed);
        assert!(plan(None, None).unwrap().is_none());
    }

    #[test]
    fn plain_text_another_cipher_and_another_key_are_converted() {
        let first = keys(Cipher::ChaCha, "first", None);
        let from_plain = plan(None, Some(&first)).unwrap().unwrap();
        assert!(from_plain.must_convert());
        let again = plan(Some(&from_plain.sealed), Some(&first)).unwrap().unwrap();
        assert!(again.must_convert(), "until it is finished");
        let sealed = from_plain.sealed.finished();
        assert!(
            plan(Some(&sealed), Some(&keys(Cipher::Aes, "first", None))).unwrap().unwrap().must_convert()
        );
        let second = keys(Cipher::ChaCha, "second", Some("first"));
        let changing = plan(Some(&sealed), Some(&second)).unwrap().unwrap();
        assert!(changing.must_convert());
        let done = changing.sealed.finished();
        assert!(
            !plan(Some(&done), Some(&keys(Cipher::ChaCha, "second", None))).unwrap().unwrap().must_convert()
        );
    }

    #[test]
    fn keys_that_do_not_fit_are_refused_with_the_cause() {
        let sealed = new_store(&keys(Cipher::ChaCha, "first", None));
        assert!(matches!(plan(Some(&sealed), None), Err(SealingError::NoKey(_))));
        for wrong in [keys(Cipher::ChaCha, "wrong", None), keys(Cipher::ChaCha, "wrong", Some("too"))] {
            assert!(matches!(plan(Some(&sealed), Some(&wrong)), Err(SealingError::WrongKey(_))));
        }
        let second = keys(Cipher::ChaCha, "second", Some("first"));
        let changing = plan(Some(&sealed), Some(&second)).unwrap().unwrap().sealed;
        for unfinished in [
            keys(Cipher::ChaCha, "second", None),
            keys(Cipher::ChaCha, "first", None),
            keys(Cipher::ChaCha, "third", Some("second")),
        ] {
            assert!(matches!(plan(Some(&changing), Some(&unfinished)), Err(SealingError::Unfinished(_))));
        }
        let back = keys(Cipher::ChaCha, "first", Some("second"));
        assert!(plan(Some(&changing), Some(&back)).unwrap().unwrap().must_convert(), "back is a change too");
    }
}
