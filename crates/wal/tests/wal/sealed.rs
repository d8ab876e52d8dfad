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

fn with_encryption(test: impl Fn()) {
    for cipher in [Cipher::ChaCha, Cipher::Aes] {
        CIPHER.set(Some(cipher));
        test();
    }
    CIPHER.set(None);
}

#[test]
fn acknowledged_batches_survive_crashes_failures_and_full_disks() {
    with_encryption(|| {
        for seed in seeds(100) {
            for faults in [Faults::None, Faults::Failures, Faults::FullDisk] {
                run(seed, false, faults).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            }
        }
    });
}

#[test]
fn the_check_notices_syncs_that_do_nothing() {
    with_encryption(|| {
        let noticed = (0..30).filter(|seed| run(*seed, true, Faults::None).is_err()).count();
        assert!(noticed > 20, "only {noticed} of 30 seeds fail without syncs");
    });
}

#[test]
fn no_damage_is_served_or_forgotten() {
    with_encryption(|| {
        damage::random_damage_is_never_served_or_forgotten();
        damage::no_truncation_loses_anything_silently();
        damage::no_bad_sector_or_block_of_a_sealed_log_loses_anything_silently();
        damage::a_missing_segment_is_noticed_wherever_it_stood();
    });
}
