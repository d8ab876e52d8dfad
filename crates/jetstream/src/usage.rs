use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linnet_assets::{Stream, StreamLimits};
use parking_lot::RwLock;

use crate::cell::StreamCell;

/// Bytes in use, by account and in all.
#[derive(Default)]
pub struct Usage {
    total: Amounts,
    accounts: RwLock<HashMap<String, Arc<AccountUsage>>>,
    max: Amounts,
}

#[derive(Default)]
struct Amounts {
    memory: AtomicU64,
    storage: AtomicU64,
}

#[derive(Default)]
struct AccountUsage {
    used: Amounts,
    /// [`UNLIMITED`] for none.
    max: Amounts,
}

const UNLIMITED: u64 = u64::MAX;

impl Amounts {
    fn of(&self, is_memory: bool) -> &AtomicU64 {
        if is_memory { &self.memory } else { &self.storage }
    }

    fn set(&self, memory: u64, storage: u64) {
        self.memory.store(memory, Ordering::Relaxed);
        self.storage.store(storage, Ordering::Relaxed);
    }
}

impl Usage {
    pub(crate) fn new(max_memory: u64, max_storage: u64) -> Self {
        let usage = Self::default();
        usage.set_max(max_memory, max_storage);
        usage
    }

    /// What the server may hold, from now on.
    pub(crate) fn set_max(&self, max_memory: u64, max_storage: u64) {
        self.max.set(max_memory, max_storage);
    }

    /// What an account may hold, from now on.
    pub(crate) fn set_account(&self, name: &str, max_memory: Option<u64>, max_storage: Option<u64>) {
        let mut accounts = self.accounts.write();
        let account = accounts.entry(name.to_owned()).or_default();
        account.max.set(max_memory.unwrap_or(UNLIMITED), max_storage.unwrap_or(UNLIMITED));
    }

    pub(crate) fn forget_account(&self, name: &str) {
        self.accounts.write().remove(name);
    }

    /// Counts a stream with its present size.
    pub(crate) fn update(&self, cell: &StreamCell, stream: &Stream) {
        self.count(cell, stream.store().state().bytes);
    }

    /// A stream is gone.
    pub(crate) fn forget(&self, cell: &StreamCell) {
        self.count(cell, 0);
    }

    fn count(&self, cell: &StreamCell, now: u64) {
        if is_of_the_server(cell) {
            return;
        }
        let before = cell.counted.swap(now, Ordering::Relaxed);
        if before == now {
            return;
        }
        let change = |amount: &AtomicU64| {
            if now > before {
                amount.fetch_add(now - before, Ordering::Relaxed);
            } else {
                amount.fetch_sub(before - now, Ordering::Relaxed);
            }
        };
        change(self.total.of(cell.is_memory()));
        if let Some(account) = self.accounts.read().get(cell.account()) {
            change(account.used.of(cell.is_memory()));
        }
    }

    /// What a stream may still store.
    pub(crate) fn limits(&self, cell: &StreamCell) -> StreamLimits {
        if is_of_the_server(cell) {
            return StreamLimits { account_left: None, server_left: None };
        }
        let is_memory = cell.is_memory();
        let max = self.max.of(is_memory).load(Ordering::Relaxed);
        let used = self.total.of(is_memory).load(Ordering::Relaxed);
        let account = self.accounts.read().get(cell.account()).cloned();
        let account_left = account.and_then(|a| {
            let max = a.max.of(is_memory).load(Ordering::Relaxed);
            let used = a.used.of(is_memory).load(Ordering::Relaxed);
            (max != UNLIMITED).then(|| max.saturating_sub(used))
        });
        StreamLimits { account_left, server_left: Some(max.saturating_sub(used)) }
    }

    /// Memory and storage that this server may hold, in bytes.
    pub(crate) fn max(&self) -> (u64, u64) {
        (self.max.memory.load(Ordering::Relaxed), self.max.storage.load(Ordering::Relaxed))
    }

    /// Memory and storage in use on this server, in bytes.
    pub fn total(&self) -> (u64, u64) {
        (self.total.memory.load(Ordering::Relaxed), self.total.storage.load(Ordering::Relaxed))
    }

    /// Memory and storage in use by an account, in bytes.
    pub fn account(&self, name: &str) -> (u64, u64) {
        let account = self.accounts.read().get(name).cloned();
        account.map_or((0, 0), |a| {
            (a.used.memory.load(Ordering::Relaxed), a.used.storage.load(Ordering::Relaxed))
        })
    }
}

/// What the server keeps for itself is nobody's: a full server still knows of streams that go.
fn is_of_the_server(cell: &StreamCell) -> bool {
    cell.account().is_empty()
}
