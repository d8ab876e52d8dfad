use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Snapshots, and restores, of the server at a time: each holds a window of chunks, and a thread while it works.
const OF_SERVER: usize = 64;
/// Of an account, so that one whose clients do not listen keeps nobody else waiting.
const OF_ACCOUNT: usize = 16;

/// How many snapshots and restores may be under way. They are counted apart: what stalls a snapshot is no reason to
/// refuse a restore.
#[derive(Debug)]
pub(crate) struct Slots {
    snapshots: Arc<Semaphore>,
    restores: Arc<Semaphore>,
}

/// What runs in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Snapshot,
    Restore,
}

/// A place of the server and one of the account, until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _of_server: OwnedSemaphorePermit,
    _of_account: OwnedSemaphorePermit,
}

impl Slots {
    pub(crate) fn of_server() -> Self {
        Self::new(OF_SERVER)
    }

    pub(crate) fn of_account() -> Self {
        Self::new(OF_ACCOUNT)
    }

    fn new(each: usize) -> Self {
        Self { snapshots: Arc::new(Semaphore::new(each)), restores: Arc::new(Semaphore::new(each)) }
    }

    fn take(&self, kind: Kind) -> Option<OwnedSemaphorePermit> {
        let slots = match kind {
            Kind::Snapshot => &self.snapshots,
            Kind::Restore => &self.restores,
        };
        slots.clone().try_acquire_owned().ok()
    }
}

impl Slot {
    /// `None` if the server or the account has as many under way as it may.
    pub(crate) fn take(server: &Slots, account: &Slots, kind: Kind) -> Option<Self> {
        Some(Self { _of_account: account.take(kind)?, _of_server: server.take(kind)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_an_account_nor_the_other_kind_takes_all() {
        let (server, accounts) = (Slots::of_server(), [(); 5].map(|()| Slots::of_account()));
        let take = |account: usize, kind| Slot::take(&server, &accounts[account], kind);
        let mut taken: Vec<Slot> = std::iter::from_fn(|| take(0, Kind::Snapshot)).collect();
        assert_eq!(taken.len(), OF_ACCOUNT);
        assert!(take(0, Kind::Restore).is_some() && take(1, Kind::Snapshot).is_some());
        for account in 1..accounts.len() {
            taken.extend(std::iter::from_fn(|| take(account, Kind::Snapshot)));
        }
        assert_eq!(taken.len(), OF_SERVER);
        assert!(take(4, Kind::Restore).is_some());
        taken.swap_remove(0);
        assert!(take(0, Kind::Snapshot).is_some());
    }
}
