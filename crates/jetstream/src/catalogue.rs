//! What exists: accounts with JetStream and their streams.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use linnet_assets::{Answer, Command};
use linnet_broker::Account;
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::errors;
use linnet_jsapi::info::AccountLimits;
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::stream_rules::OtherStreams;
use linnet_replication::Assignment;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::backup::Slots;
use crate::cell::StreamCell;
use crate::inbox::StreamInbox;
use crate::pump::{GroupKey, PumpHandle};

/// An account that has JetStream.
pub struct JsAccount {
    pub(crate) account: Arc<Account>,
    pub(crate) limits: ArcSwap<AccountLimits>,
    pub(crate) streams: RwLock<BTreeMap<String, Arc<StreamHandle>>>,
    api_total: AtomicU64,
    api_errors: AtomicU64,
    /// Its snapshots and restores.
    pub(crate) backups: Slots,
}

/// A stream on this server: how to reach it and what to know without asking it.
pub struct StreamHandle {
    pub(crate) key: GroupKey,
    pub(crate) group: GroupId,
    pub(crate) pump: PumpHandle,
    pub(crate) inbox: Arc<StreamInbox>,
    pub(crate) cell: Arc<StreamCell>,
    pub(crate) config: ArcSwap<StreamConfig>,
    pub(crate) created: Wall,
    /// It is one of several replicas, or may become one: its group decides by consensus.
    pub(crate) is_replica: AtomicBool,
    /// Why it could not be recovered. Its name and its subjects stay taken, and every call is refused.
    pub(crate) lost: Option<String>,
    /// Names of the consumers that the catalogue keeps, of a stream in memory.
    pub(crate) kept: Mutex<BTreeSet<String>>,
}

impl StreamHandle {
    /// Its entry in the catalogue, with `config`.
    pub(crate) fn assignment(&self, account: &JsAccount, config: StreamConfig) -> Assignment {
        Assignment {
            account: account.name().to_owned(),
            group: self.group.to_string(),
            created: self.created.0,
            live: true,
            members: Vec::new(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config,
        }
    }

    /// True if its group decides by consensus, with whatever number of members.
    pub(crate) fn is_replica(&self) -> bool {
        self.is_replica.load(Ordering::Acquire)
    }

    /// Its group decides by consensus from here on.
    pub(crate) fn set_replica(&self) {
        self.is_replica.store(true, Ordering::Release);
    }

    /// Gives the stream a command and waits for its answer.
    pub(crate) async fn ask(&self, command: Command) -> Answer {
        self.inbox.command(command).await.unwrap_or(Err(errors::STREAM_NOT_FOUND))
    }

    /// Configuration in force.
    pub fn config(&self) -> Arc<StreamConfig> {
        self.config.load_full()
    }

    /// When it was created.
    pub fn created(&self) -> Wall {
        self.created
    }

    /// Why it could not be recovered; `None` for one that is served.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Published values.
    pub fn cell(&self) -> &StreamCell {
        &self.cell
    }

    /// Messages and requests that wait to be looked at.
    pub fn waiting(&self) -> usize {
        self.inbox.waiting()
    }

    /// Identity of its group.
    pub fn group(&self) -> GroupId {
        self.group
    }
}

impl JsAccount {
    pub(crate) fn new(account: Arc<Account>, limits: AccountLimits) -> Self {
        Self {
            account,
            limits: ArcSwap::from_pointee(limits),
            streams: RwLock::default(),
            api_total: AtomicU64::new(0),
            api_errors: AtomicU64::new(0),
            backups: Slots::of_account(),
        }
    }

    /// Nobody finds this stream any more. Another one of its name stays.
    pub(crate) fn hide(&self, stream: &Arc<StreamHandle>) {
        let name = stream.config().name.clone();
        let mut streams = self.streams.write();
        if streams.get(&name).is_some_and(|known| Arc::ptr_eq(known, stream)) {
            streams.remove(&name);
        }
    }

    /// Name of the account.
    pub fn name(&self) -> &str {
        self.account.name()
    }

    /// Its limits.
    pub fn limits(&self) -> AccountLimits {
        **self.limits.load()
    }

    /// Its streams by name.
    pub fn streams(&self) -> Vec<Arc<StreamHandle>> {
        self.streams.read().values().cloned().collect()
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<Arc<StreamHandle>> {
        self.streams.read().get(name).cloned()
    }

    /// Counts an API call that is answered.
    pub(crate) fn count_call(&self, failed: bool) {
        self.api_total.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.api_errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// API calls and refused ones.
    pub fn api_counts(&self) -> (u64, u64) {
        (self.api_total.load(Ordering::Relaxed), self.api_errors.load(Ordering::Relaxed))
    }

    /// Bytes reserved by `max_bytes`: memory, storage.
    pub fn reserved(&self) -> (u64, u64) {
        let mut reserved = (0, 0);
        for stream in self.streams.read().values() {
            let config = stream.config.load();
            let bytes = u64::try_from(config.max_bytes).unwrap_or(0);
            match config.storage {
                StorageType::Memory => reserved.0 += bytes,
                StorageType::File => reserved.1 += bytes,
            }
        }
        reserved
    }
}

/// The other streams of an account, for the rules.
pub(crate) struct Others<'a>(pub(crate) &'a JsAccount);

impl OtherStreams for Others<'_> {
    fn overlaps(&self, subject: &str, except: &str) -> bool {
        self.0.streams.read().iter().filter(|(name, _)| *name != except).any(|(_, stream)| {
            let config = stream.config.load();
            config.subjects.iter().any(|other| linnet_subject::overlaps(subject.as_bytes(), other.as_bytes()))
        })
    }

    fn config(&self, name: &str) -> Option<StreamConfig> {
        self.0.streams.read().get(name).map(|stream| (**stream.config.load()).clone())
    }
}

/// The accounts that have JetStream, by name.
pub(crate) type Accounts = HashMap<String, Arc<JsAccount>>;

/// The streams of an account in a cluster, for the rules.
pub(crate) struct Known(pub(crate) Vec<Arc<Assignment>>);

impl OtherStreams for Known {
    fn overlaps(&self, subject: &str, except: &str) -> bool {
        let others = self.0.iter().filter(|a| a.config.name != except);
        others
            .flat_map(|a| &a.config.subjects)
            .any(|other| linnet_subject::overlaps(subject.as_bytes(), other.as_bytes()))
    }

    fn config(&self, name: &str) -> Option<StreamConfig> {
        self.0.iter().find(|a| a.config.name == name).map(|a| a.config.clone())
    }
}
