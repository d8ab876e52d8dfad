//! What monitoring reads without asking anybody.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use linnet_assets::Stream;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::bearing::ReplicaState;

/// Damaged messages of a stream that are listed; beyond that they are only counted.
const DAMAGE_LISTED: usize = 1000;

/// Published values of one stream. Its pump writes, monitoring reads.
#[derive(Debug, Default)]
pub struct StreamCell {
    account: String,
    is_memory: bool,
    msgs: AtomicU64,
    bytes: AtomicU64,
    first_seq: AtomicU64,
    last_seq: AtomicU64,
    consumers: AtomicU64,
    damaged: AtomicU64,
    damaged_seqs: Mutex<Vec<u64>>,
    /// Bytes last counted towards usage.
    pub(crate) counted: AtomicU64,
    has_failed: AtomicBool,
    has_other_history: AtomicBool,
    has_ended: AtomicBool,
    failure: Mutex<Option<String>>,
    /// Where its replica stands, if it is one of several.
    replica: ArcSwapOption<ReplicaState>,
}

impl StreamCell {
    pub(crate) fn new(account: &str, is_memory: bool) -> Self {
        Self { account: account.to_owned(), is_memory, ..Self::default() }
    }

    pub(crate) fn account(&self) -> &str {
        &self.account
    }

    /// True for a memory stream.
    pub fn is_memory(&self) -> bool {
        self.is_memory
    }

    /// True once the end of the stream is in its log.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    pub(crate) fn publish(&self, stream: &Stream) {
        let state = stream.store().state();
        self.msgs.store(state.msgs, Ordering::Relaxed);
        self.bytes.store(state.bytes, Ordering::Relaxed);
        self.first_seq.store(state.first_seq, Ordering::Relaxed);
        self.last_seq.store(state.last_seq, Ordering::Relaxed);
        self.consumers.store(stream.consumer_count() as u64, Ordering::Relaxed);
        self.has_ended.store(stream.is_deleted(), Ordering::Relaxed);
        let damaged = stream.store().damaged();
        let was_damaged = self.damaged.swap(damaged.len() as u64, Ordering::Relaxed) > 0;
        if was_damaged || !damaged.is_empty() {
            let listed = damaged.iter().take(DAMAGE_LISTED);
            let mut known = self.damaged_seqs.lock();
            if !listed.clone().eq(known.iter()) {
                *known = listed.copied().collect();
            }
        }
        if let Some(error) = stream.store().failure()
            && !self.has_failed.load(Ordering::Relaxed)
        {
            self.fail(&format!("stream write error: {error}"));
        }
    }

    pub(crate) fn publish_replica(&self, state: ReplicaState) {
        self.replica.store(Some(Arc::new(state)));
    }

    /// Where its replica stands; `None` for one that is alone, or that its pump has not looked at yet.
    pub(crate) fn replica(&self) -> Option<Arc<ReplicaState>> {
        self.replica.load_full()
    }

    pub(crate) fn fail(&self, reason: &str) {
        self.has_failed.store(true, Ordering::Relaxed);
        *self.failure.lock() = Some(reason.to_owned());
    }

    /// The group was rescued without this replica.
    pub(crate) fn note_other_history(&self) {
        self.has_other_history.store(true, Ordering::Relaxed);
    }

    /// True if the group was rescued without this replica.
    pub(crate) fn has_other_history(&self) -> bool {
        self.has_other_history.load(Ordering::Relaxed)
    }

    /// Why the stream stopped, if it did.
    pub fn failure(&self) -> Option<String> {
        if self.has_failed.load(Ordering::Relaxed) { self.failure.lock().clone() } else { None }
    }

    /// Messages.
    pub fn msgs(&self) -> u64 {
        self.msgs.load(Ordering::Relaxed)
    }

    /// Accounted bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Sequence of the first message.
    pub fn first_seq(&self) -> u64 {
        self.first_seq.load(Ordering::Relaxed)
    }

    /// Sequence of the last message.
    pub fn last_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Relaxed)
    }

    /// Consumers.
    pub fn consumers(&self) -> u64 {
        self.consumers.load(Ordering::Relaxed)
    }

    /// Messages whose records are damaged.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The first of them.
    pub fn damaged_seqs(&self) -> Vec<u64> {
        self.damaged_seqs.lock().clone()
    }
}

/// What is wrong with JetStream on this server as a whole.
#[derive(Debug, Default)]
pub struct Health {
    not_recovered: Mutex<Vec<(String, String, String)>>,
    unnamed: Mutex<Vec<(String, String)>>,
    losses: Mutex<BTreeMap<(String, String), Vec<String>>>,
    may_lack_streams: Mutex<Option<PathBuf>>,
    log_failure: Mutex<Option<String>>,
    is_disk_full: AtomicBool,
    log_failed: Notify,
    is_removed: AtomicBool,
    removed: Notify,
    is_to_reopen: AtomicBool,
    reopen: Notify,
}

impl Health {
    pub(crate) fn note_not_recovered(&self, account: &str, stream: &str, reason: &str) {
        self.not_recovered.lock().push((account.to_owned(), stream.to_owned(), reason.to_owned()));
    }

    /// The stream's log has lost something.
    pub(crate) fn note_losses(&self, account: &str, stream: &str, losses: Vec<String>) {
        if !losses.is_empty() {
            self.losses.lock().insert((account.to_owned(), stream.to_owned()), losses);
        }
    }

    pub(crate) fn note_missing_streams(&self, note: PathBuf) {
        *self.may_lack_streams.lock() = Some(note);
    }

    pub(crate) fn note_unnamed(&self, group: &str, reason: &str) {
        self.unnamed.lock().push((group.to_owned(), reason.to_owned()));
    }

    /// True for a group of which nothing said what it is when the store was opened.
    pub(crate) fn is_unnamed(&self, group: linnet_ids::GroupId) -> bool {
        let group = group.to_string();
        self.unnamed.lock().iter().any(|(unnamed, _)| *unnamed == group)
    }

    pub(crate) fn fail_log(&self, reason: &str) {
        *self.log_failure.lock() = Some(reason.to_owned());
        self.log_failed.notify_waiters();
    }

    pub(crate) fn note_disk_full(&self, is_full: bool) {
        self.is_disk_full.store(is_full, Ordering::Relaxed);
        if is_full {
            tracing::error!(
                "Disk full, JetStream disabled: no space left on the disk, streams in files refuse messages"
            );
        } else {
            tracing::info!("JetStream: there is space on the disk again");
        }
    }

    /// True while there is no space for messages of streams in files.
    pub fn is_disk_full(&self) -> bool {
        self.is_disk_full.load(Ordering::Relaxed)
    }

    /// Why the write-ahead log stopped, if it did.
    pub fn log_failure(&self) -> Option<String> {
        self.log_failure.lock().clone()
    }

    /// The store is to be opened again: what it holds is to be read as something else.
    pub(crate) fn ask_for_reopening(&self) {
        self.is_to_reopen.store(true, Ordering::SeqCst);
        self.reopen.notify_waiters();
    }

    /// Returns once the store is to be opened again.
    pub async fn wait_for_reopening(&self) {
        let mut asked = std::pin::pin!(self.reopen.notified());
        asked.as_mut().enable();
        if !self.is_to_reopen.load(Ordering::SeqCst) {
            asked.await;
        }
    }

    /// This server was taken out of its cluster.
    pub(crate) fn note_removed(&self) {
        if !self.is_removed.swap(true, Ordering::SeqCst) {
            self.removed.notify_waiters();
        }
    }

    /// Returns once this server was taken out of its cluster.
    pub async fn wait_for_removal(&self) {
        let mut removed = std::pin::pin!(self.removed.notified());
        // Registered before looking, so that a removal in between is not missed.
        removed.as_mut().enable();
        if !self.is_removed.load(Ordering::SeqCst) {
            removed.await;
        }
    }

    /// Returns once the write-ahead log has stopped.
    pub async fn wait_for_log_failure(&self) {
        let mut failed = std::pin::pin!(self.log_failed.notified());
        // Registered before looking, so that a failure in between is not missed.
        failed.as_mut().enable();
        if self.log_failure().is_none() {
            failed.await;
        }
    }

    pub(crate) fn forget(&self, account: &str, stream: &str) {
        self.losses.lock().remove(&(account.to_owned(), stream.to_owned()));
        self.not_recovered.lock().retain(|(a, s, _)| a != account || s != stream);
    }

    /// What the logs of streams have lost, in words, by account and stream.
    pub fn losses(&self) -> BTreeMap<(String, String), Vec<String>> {
        self.losses.lock().clone()
    }

    /// Set if there may have been streams of which nothing is left when the store was opened: the note that says so.
    pub(crate) fn missing_streams_note(&self) -> Option<PathBuf> {
        self.may_lack_streams.lock().clone()
    }

    /// Groups of streams that a damaged catalogue has lost and nothing else names: group, reason.
    pub fn unnamed(&self) -> Vec<(String, String)> {
        self.unnamed.lock().clone()
    }

    /// Streams that could not be opened: account, stream, reason.
    pub fn not_recovered(&self) -> Vec<(String, String, String)> {
        self.not_recovered.lock().clone()
    }
}
