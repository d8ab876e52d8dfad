//! What the catalogue says, for everybody who must not ask its pump.

use std::sync::Arc;

use linnet_assets::Stream;
use linnet_ids::{GroupId, PeerId};
use linnet_replication::cluster::{Known, Load};
use linnet_replication::{Assignment, Dissolved, KeptConsumer, Rescued};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

/// The applied state of the catalogue's replica here. Its pump writes it, after every turn that changed something.
pub(crate) struct CatalogueView {
    known: RwLock<Known>,
    version: watch::Sender<u64>,
    /// Streams of which it says something new since somebody asked; `None` for any.
    changed: Mutex<Option<Vec<GroupId>>>,
}

/// New things of more streams are not listed.
const CHANGED_MAX: usize = 1024;

impl CatalogueView {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { known: RwLock::default(), version: watch::Sender::new(0), changed: Mutex::new(None) })
    }

    /// Takes over what the catalogue's stream holds now.
    pub(crate) fn follow(&self, stream: &mut Stream) {
        if self.known.read().is_behind(stream) {
            let new = self.known.write().follow(stream);
            let mut changed = self.changed.lock();
            *changed = match (changed.take(), new) {
                (Some(before), Some(new)) if before.len() + new.len() <= CHANGED_MAX => {
                    Some([before, new].concat())
                }
                _ => None,
            };
            drop(changed);
            self.version.send_modify(|version| *version += 1);
        }
    }

    /// The streams of which it says something new since the last call; `None` if that may be any.
    pub(super) fn take_changes(&self) -> Option<Vec<GroupId>> {
        self.changed.lock().replace(Vec::new())
    }

    /// Lets `read` look at everything at once.
    pub(crate) fn with<R>(&self, read: impl FnOnce(&Known) -> R) -> R {
        read(&self.known.read())
    }

    /// The stream of this name, if it exists.
    pub(crate) fn stream(&self, account: &str, stream: &str) -> Option<Arc<Assignment>> {
        self.known.read().stream(account, stream)
    }

    /// The same, also if it has ended and members may not know.
    pub(crate) fn entry(&self, account: &str, stream: &str) -> Option<Arc<Assignment>> {
        self.known.read().entry(account, stream)
    }

    /// The streams of an account, by name.
    pub(crate) fn streams_of(&self, account: &str) -> Vec<Arc<Assignment>> {
        self.known.read().streams_of(account)
    }

    /// The stream of this group, also if it has ended.
    pub(crate) fn of_group(&self, group: GroupId) -> Option<Arc<Assignment>> {
        self.known.read().of_group(group)
    }

    /// Everything, also what has ended.
    pub(crate) fn all(&self) -> Vec<Arc<Assignment>> {
        self.known.read().all()
    }

    /// Tells of changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The durable consumers of a stream in memory.
    pub(crate) fn consumers_of(&self, group: &str) -> Vec<KeptConsumer> {
        self.known.read().consumers_of(group)
    }

    /// How often it changed.
    pub(crate) fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// What streams ask of a server.
    pub(super) fn load_of(&self, peer: PeerId) -> Load {
        self.known.read().load_of(peer)
    }

    /// The last rescue of the catalogue's group, if there was one.
    pub(crate) fn rescued(&self) -> Option<Rescued> {
        self.known.read().rescued()
    }

    /// That the cluster gave itself up for another one.
    pub(crate) fn dissolved(&self) -> Option<Dissolved> {
        self.known.read().dissolved().cloned()
    }

    /// No stream is named, not even one that has ended.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.read().is_empty()
    }

    /// Entries are damaged here, and are not among what it says.
    pub(crate) fn is_damaged(&self) -> bool {
        self.known.read().is_damaged()
    }

    /// The newest sequence that is in it.
    pub(crate) fn last_seq(&self) -> u64 {
        self.known.read().last_seq()
    }
}
