use std::time::Duration;

use linnet_env::FaultyDisk;
use linnet_ids::{Mono, PeerId};

/// Where a server's store is on its disk.
pub(crate) const STORE: &str = "/store";

/// A running process.
pub(crate) trait Life {
    /// What servers send each other.
    type Letter: Clone;
    /// What a server begins as that has nothing and never had.
    type Founding: Clone;

    /// When it wants the next pass.
    fn next_due(&self, now: Mono) -> Mono;

    /// Something comes from another server.
    fn receive(&mut self, from: PeerId, letter: Self::Letter);

    /// The connection to another server broke.
    fn on_disconnected(&mut self, now: Mono, peer: PeerId);

    /// Stands for a letter in the hash of everything that was sent.
    fn digest(letter: &Self::Letter) -> u64;
}

/// A server, whether it runs or not.
pub(crate) struct Machine<L: Life> {
    pub(crate) peer: PeerId,
    pub(crate) disk: FaultyDisk,
    pub(crate) store_id: [u8; 16],
    pub(crate) founding: Option<L::Founding>,
    pub(crate) life: Option<L>,
    /// It does not run until then.
    pub(crate) paused_until: Mono,
    pub(crate) write_time: Duration,
    boots: u64,
}

impl<L: Life> Machine<L> {
    pub(crate) fn new(peer: PeerId, founding: Option<L::Founding>, random: &mut fastrand::Rng) -> Self {
        Self {
            peer,
            disk: FaultyDisk::new(random.u64(..)),
            store_id: random.u128(..).to_le_bytes(),
            founding,
            life: None,
            paused_until: Mono(0),
            write_time: Duration::from_micros(random.u64(100..3000)),
            boots: 0,
        }
    }

    /// The number of its next process: larger than all before it, also over a replaced store.
    pub(crate) fn next_boot(&mut self, random: &mut fastrand::Rng) -> u64 {
        self.boots += 1;
        self.boots << 32 | u64::from(random.u32(..))
    }

    /// Its store is replaced by an empty one.
    pub(crate) fn wipe(&mut self, random: &mut fastrand::Rng) {
        self.disk = FaultyDisk::new(random.u64(..));
        self.store_id = random.u128(..).to_le_bytes();
        self.founding = None;
    }
}
