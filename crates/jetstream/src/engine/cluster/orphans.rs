//! Streams on this server that no entry of the catalogue names (jetstream-clustering 1.14). They stay: that nobody names
//! them does not say that nobody wants them. They are told of in the log and in `/jsz`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, Mono};
use linnet_jsapi::stream_rules::OtherStreams as _;

use super::{Cluster, Engine};
use crate::catalogue::{JsAccount, Known, StreamHandle};

/// How often they are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What has been without an entry for so long is one: an entry may be on its way.
const ORPHANED_AFTER: Duration = Duration::from_secs(30);

/// A stream on this server that the cluster's catalogue does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orphan {
    /// Its group.
    pub group: String,
    /// Account.
    pub account: String,
    /// Name.
    pub stream: String,
    /// What is known about it, in words.
    pub reason: String,
}

/// Streams without an entry.
#[derive(Default)]
pub(super) struct Orphans {
    looked: Option<Mono>,
    /// Since when, and whether it was told.
    since: BTreeMap<GroupId, (Mono, bool)>,
    found: Vec<Orphan>,
    hidden: BTreeMap<GroupId, Orphan>,
}

impl Cluster {
    /// A stream stays hidden because the catalogue cannot take it.
    pub(super) fn note_hidden(&self, group: GroupId, orphan: Orphan) {
        self.orphans.lock().hidden.insert(group, orphan);
    }

    /// It is shown, or gone.
    pub(super) fn note_shown(&self, group: GroupId) {
        self.orphans.lock().hidden.remove(&group);
    }
}

/// Looks for streams without an entry, not more often than is useful.
pub(super) fn look_for(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let now = engine.broker.clock().mono();
    let mut guard = cluster.orphans.lock();
    let orphans = &mut *guard;
    let is_due = orphans.looked.is_none_or(|looked| now.since(looked) >= LOOK_EVERY);
    if !is_due || !cluster.is_current() || cluster.view.is_damaged() {
        return;
    }
    orphans.looked = Some(now);
    let mut without: BTreeMap<GroupId, (Arc<JsAccount>, Arc<StreamHandle>)> = BTreeMap::new();
    for account in engine.accounts() {
        for handle in account.streams() {
            if cluster.view.of_group(handle.group()).is_none() {
                without.insert(handle.group(), (account.clone(), handle));
            }
        }
    }
    orphans.since.retain(|group, _| without.contains_key(group));
    orphans.found.clear();
    for (group, (account, handle)) in without {
        let stream = handle.config().name.clone();
        let orphan = |reason: &str| Orphan {
            group: group.to_string(),
            account: account.name().to_owned(),
            stream: stream.clone(),
            reason: reason.to_owned(),
        };
        if let Some(reason) = why_hidden(cluster, &account, &handle) {
            hide(engine, cluster, account.clone(), handle, orphan(reason));
            continue;
        }
        let (since, was_told) = orphans.since.entry(group).or_insert((now, false));
        if now.since(*since) < ORPHANED_AFTER {
            continue;
        }
        if !std::mem::replace(was_told, true) {
            tracing::warn!(
                "JetStream: no entry of the cluster's catalogue names stream '{} > {stream}' of this server, \
                 which stays where it is",
                account.name()
            );
        }
        orphans.found.push(orphan("no entry of the cluster's catalogue names it"));
    }
}

/// Why a stream without an entry is not to take messages; `None` if it may, or if it goes or changes anyway.
fn why_hidden(cluster: &Cluster, account: &JsAccount, handle: &StreamHandle) -> Option<&'static str> {
    let config = handle.config();
    // Another stream of the name decides about it.
    if cluster.view.entry(account.name(), &config.name).is_some() || handle.lost().is_some() {
        return None;
    }
    let known = Known(cluster.view.streams_of(account.name()));
    if config.subjects.iter().any(|subject| known.overlaps(subject, &config.name)) {
        return Some("no entry of the cluster's catalogue names it, and another stream has its subjects");
    }
    // Whoever serves it may have been away when it was deleted.
    Some("no entry of the cluster's catalogue names it")
}

/// Serves a stream no more, until the store is opened with a catalogue that names it.
fn hide(
    engine: &Arc<Engine>,
    cluster: &Arc<Cluster>,
    account: Arc<JsAccount>,
    handle: Arc<StreamHandle>,
    orphan: Orphan,
) {
    let group = handle.group();
    let Some(busy) = cluster.take_on(&orphan.account, &orphan.stream) else { return };
    let (engine, cluster) = (engine.clone(), cluster.clone());
    tokio::spawn(async move {
        tracing::error!(
            "JetStream: stream '{} > {}' of this server is kept and not served: {}",
            orphan.account,
            orphan.stream,
            orphan.reason
        );
        engine.stop_serving(&cluster, &account, &handle).await;
        cluster.note_hidden(group, orphan);
        drop(busy);
    });
}

impl Engine {
    /// Streams on this server that the cluster's catalogue does not name.
    pub fn orphans(&self) -> Vec<Orphan> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let orphans = cluster.orphans.lock();
        orphans.hidden.values().chain(&orphans.found).cloned().collect()
    }
}
