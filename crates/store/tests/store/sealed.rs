//! The same tests with encryption: nothing may change but what is on the disk.

use std::cell::Cell;
use std::sync::Arc;

use linnet_env::{Disk, FaultyDisk, SeededRng};
use linnet_seal::{Cipher, KeyRing, MasterKey, SealedDisk};

use crate::crash::{Faults, run, seeds};
use crate::damage;

thread_local! {
    static CIPHER: Cell<Option<Cipher>> = const { Cell::new(None) };
    static LIVES: Cell<u64> = const { Cell::new(0) };
}

/// The disk as the tests hand it on: encrypting, while [`with_encryption`] runs.
pub(crate) fn shared(disk: &FaultyDisk) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let Some(cipher) = CIPHER.get() else { return disk };
    LIVES.set(LIVES.get() + 1);
    let ring = KeyRing::new(cipher, Arc::new(MasterKey::new("key")), []);
    Arc::new(SealedDisk::new(disk, Arc::new(ring), Arc::new(SeededRng::new(LIVES.get()))))
}

pub(crate) fn with_encryption(test: impl Fn()) {
    for cipher in [Cipher::ChaCha, Cipher::Aes] {
        CIPHER.set(Some(cipher));
        test();
    }
    CIPHER.set(None);
}

#[test]
fn nothing_recorded_is_lost() {
    with_encryption(|| {
        for seed in seeds(600) {
            for faults in [Faults::Crashes, Faults::Errors] {
                run(seed, faults).unwrap_or_else(|e| panic!("LINNET_SEED={seed}: {e}"));
            }
        }
    });
}

#[test]
fn no_damage_yields_a_wrong_message() {
    with_encryption(|| {
        damage::random_damage_never_yields_a_wrong_message();
        damage::a_missing_block_is_reported_message_by_message();
    });
}
