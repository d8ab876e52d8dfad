//! New settings while streams run.

use std::sync::Arc;

use linnet_jsapi::Nanos;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::AccountLimits;
use linnet_jsapi::limits::{Amounts, Limits};
use linnet_jsapi::policies::StorageType;

use super::Engine;
use crate::catalogue::{Accounts, JsAccount};
use crate::config::Config;

/// Settings that may change while streams run.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Bytes of memory streams.
    pub max_memory: u64,
    /// Bytes of file streams.
    pub max_storage: u64,
    max_ack_pending: i64,
    max_request_batch: i64,
    default_max_consumers: i64,
    max_duplicate_window: i64,
}

/// How far new settings reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// They can be taken over as it runs.
    Live,
    /// Streams come or go with their accounts: the store has to be opened again.
    Reopen,
    /// The same, and streams in memory of accounts that stay would be lost.
    Loses,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            max_memory: config.max_memory,
            max_storage: config.max_storage,
            max_ack_pending: config.max_ack_pending,
            max_request_batch: config.max_request_batch,
            default_max_consumers: config.default_max_consumers,
            max_duplicate_window: config.max_duplicate_window,
        }
    }
}

impl Engine {
    /// The settings in force of those that may change.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// What the rules are told is allowed, for a request of `account`.
    pub(crate) fn limits_for(&self, account: &JsAccount) -> Limits {
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let amounts =
            |(memory, storage): (u64, u64)| Amounts { memory: signed(memory), storage: signed(storage) };
        let rules = self.rules.load();
        Limits {
            clustered: self.cluster.is_some(),
            duplicate_window: Nanos(rules.max_duplicate_window),
            max_request_batch: rules.max_request_batch,
            default_max_consumers: rules.default_max_consumers,
            max_ack_pending: rules.max_ack_pending,
            account: Some(account.limits()),
            // In a cluster, what each server may have is judged where streams are placed.
            server: match self.cluster {
                None => Amounts { memory: signed(rules.max_memory), storage: signed(rules.max_storage) },
                Some(_) => Amounts { memory: -1, storage: -1 },
            },
            streams: i64::try_from(self.stream_count(account)).unwrap_or(i64::MAX),
            account_reserved: amounts(self.reserved_by(account)),
            server_reserved: amounts(self.reserved()),
        }
    }

    /// Streams of an account, wherever they are.
    fn stream_count(&self, account: &JsAccount) -> usize {
        match &self.cluster {
            Some(cluster) => cluster.view.streams_of(account.name()).len(),
            None => account.streams.read().len(),
        }
    }

    /// Bytes that an account reserves by `max_bytes`: memory, storage. In a cluster, of all replicas.
    fn reserved_by(&self, account: &JsAccount) -> (u64, u64) {
        let Some(cluster) = &self.cluster else { return account.reserved() };
        let mut reserved = (0, 0);
        for assignment in cluster.view.streams_of(account.name()) {
            let replicas = u64::try_from(assignment.config.num_replicas).unwrap_or(1).max(1);
            let bytes = u64::try_from(assignment.config.max_bytes).unwrap_or(0).saturating_mul(replicas);
            match assignment.config.storage {
                StorageType::Memory => reserved.0 += bytes,
                StorageType::File => reserved.1 += bytes,
            }
        }
        reserved
    }

    /// Bytes reserved by `max_bytes` in all: memory, storage.
    fn reserved(&self) -> (u64, u64) {
        let all = self.accounts.load();
        all.values().map(|a| a.reserved()).fold((0, 0), |sum, r| (sum.0 + r.0, sum.1 + r.1))
    }

    /// What it takes to get to these settings.
    pub fn reach(&self, config: &Config) -> Reach {
        let wanted = |name: &str| config.accounts.iter().any(|(wanted, _)| wanted == name);
        let present = self.accounts.load();
        let has_streams = |account: &JsAccount| !account.streams.read().is_empty();
        let leave = present.values().any(|account| !wanted(account.name()) && has_streams(account));
        let come = self.unserved.lock().iter().any(|name| wanted(name));
        if !leave && !come {
            return Reach::Live;
        }
        let in_memory =
            |account: &JsAccount| account.streams.read().values().any(|stream| stream.cell.is_memory());
        let loses = present.values().any(|account| wanted(account.name()) && in_memory(account));
        if loses { Reach::Loses } else { Reach::Reopen }
    }

    /// Takes over what may change. The broker has the new accounts already. Accounts that have streams do not leave.
    pub async fn take_over(&self, config: &Config) {
        let _one_at_a_time = self.changes.lock().await;
        self.rules.store(Arc::new(Rules::of(config)));
        self.place.batches.set_bounds(config.batches);
        self.usage.set_max(config.max_memory, config.max_storage);
        let present = self.accounts.load_full();
        let mut next = Accounts::new();
        let mut names: Vec<_> = config.accounts.iter().collect();
        names.sort_by(|a, b| a.0.cmp(&b.0));
        for (name, limits) in names {
            let Some(account) = self.broker.account(name) else { continue };
            let known = present.get(name).filter(|known| Arc::ptr_eq(&known.account, &account));
            let js = known.cloned().unwrap_or_else(|| Arc::new(JsAccount::new(account, *limits)));
            let before = known.map(|known| known.limits());
            if let Err(error) = self.may_grow(&present, before.unwrap_or_default(), *limits) {
                let code = error.err_code;
                tracing::error!("Error enabling jetstream on configured accounts: {error} ({code})");
                if known.is_none() {
                    continue;
                }
            } else {
                js.limits.store(Arc::new(*limits));
                let bound = |n: i64| u64::try_from(n).ok();
                self.usage.set_account(name, bound(limits.max_memory), bound(limits.max_storage));
            }
            next.insert(name.clone(), js);
        }
        for (name, account) in present.iter() {
            if next.contains_key(name) {
                continue;
            }
            // A stream that came into being meanwhile is not left without an owner.
            if account.streams.read().is_empty() {
                self.usage.forget_account(name);
            } else {
                next.insert(name.clone(), account.clone());
            }
        }
        self.accounts.store(Arc::new(next));
        if let Some(api) = &*self.api.lock() {
            api.cover(&self.broker);
        }
    }

    /// An account may be promised what nobody else is (`sufficientResources` in nats-server `server/jetstream.go`).
    fn may_grow(
        &self,
        accounts: &Accounts,
        before: AccountLimits,
        after: AccountLimits,
    ) -> Result<(), ApiError> {
        let promised = |limit: fn(&AccountLimits) -> i64| {
            let all = accounts.values().map(|account| limit(&account.limits()).max(0));
            let all = all.fold(0_i64, i64::saturating_add);
            let more = limit(&after).max(0) - limit(&before).max(0);
            (all.saturating_add(more), more)
        };
        let rules = self.rules.load();
        let (reserved_memory, reserved_storage) = self.reserved();
        let is_too_much = |(sum, more): (i64, i64), reserved: u64, max: u64| {
            let (sum, more) = (u64::try_from(sum).unwrap_or(0), u64::try_from(more).unwrap_or(0));
            more > 0 && (sum > max || reserved.saturating_add(more) > max)
        };
        if is_too_much(promised(|limits| limits.max_memory), reserved_memory, rules.max_memory) {
            return Err(errors::MEMORY_RESOURCES_EXCEEDED);
        }
        if is_too_much(promised(|limits| limits.max_storage), reserved_storage, rules.max_storage) {
            return Err(errors::STORAGE_RESOURCES_EXCEEDED);
        }
        Ok(())
    }
}
