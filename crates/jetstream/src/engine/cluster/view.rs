//! What the catalogue says, for everybody who must not ask its pump.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use linnet_assets::Stream;
use linnet_ids::GroupId;
use linnet_replication::{Assignment, CatalogueEntry, KeptConsumer, catalogue_entry};
use linnet_store::Filter;
use parking_lot::RwLock;
use tokio::sync::watch;

/// Account and name of a stream.
pub(crate) type StreamName = (String, String);

/// The applied state of the catalogue's replica here. Its pump writes it, after every turn that changed something.
pub(crate) struct CatalogueView {
    state: RwLock<State>,
    version: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// The newest sequence that is in it.
    last_seq: u64,
    /// Entries of the catalogue, streams and consumers.
    entries: u64,
    known: Known,
}

#[derive(Default)]
struct Known {
    streams: BTreeMap<StreamName, Arc<Assignment>>,
    /// What the newest stream of each group is called.
    groups: HashMap<GroupId, StreamName>,
    /// Durable consumers of streams in memory, by group and name.
    consumers: BTreeMap<(String, String), KeptConsumer>,
}

impl CatalogueView {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: RwLock::default(), version: watch::Sender::new(0) })
    }

    /// Takes over what the catalogue's stream holds now.
    pub(crate) fn follow(&self, stream: &mut Stream) {
        let now = *stream.store().state();
        let (last_seq, entries) = {
            let state = self.state.read();
            (state.last_seq, state.entries)
        };
        if now.last_seq == last_seq && now.msgs == entries {
            return;
        }
        // Additions replace or add; whatever else happened shows in the number of entries.
        let is_addition = now.last_seq > last_seq;
        let mut state = self.state.write();
        if is_addition && last_seq > 0 {
            read_from(stream, last_seq + 1, &mut state.known);
        }
        let known = (state.known.streams.len() + state.known.consumers.len()) as u64;
        if !is_addition || last_seq == 0 || known != now.msgs {
            state.known = Known::default();
            read_from(stream, 0, &mut state.known);
        }
        (state.last_seq, state.entries) = (now.last_seq, now.msgs);
        drop(state);
        self.version.send_modify(|version| *version += 1);
    }

    /// The stream of this name, if it exists.
    pub(crate) fn stream(&self, account: &str, stream: &str) -> Option<Arc<Assignment>> {
        self.entry(account, stream).filter(|assignment| !assignment.ended)
    }

    /// The same, also if it has ended and members may not know.
    pub(crate) fn entry(&self, account: &str, stream: &str) -> Option<Arc<Assignment>> {
        let name = (account.to_owned(), stream.to_owned());
        self.state.read().known.streams.get(&name).cloned()
    }

    /// The streams of an account, by name.
    pub(crate) fn streams_of(&self, account: &str) -> Vec<Arc<Assignment>> {
        let state = self.state.read();
        let from = (account.to_owned(), String::new());
        let of_account = state.known.streams.range(from..).take_while(|((a, _), _)| a == account);
        of_account.map(|(_, a)| a.clone()).filter(|a| !a.ended).collect()
    }

    /// The stream of this group, also if it has ended.
    pub(crate) fn of_group(&self, group: GroupId) -> Option<Arc<Assignment>> {
        let state = self.state.read();
        let name = state.known.groups.get(&group)?;
        state.known.streams.get(name).cloned()
    }

    /// Everything, also what has ended.
    pub(crate) fn all(&self) -> Vec<Arc<Assignment>> {
        self.state.read().known.streams.values().cloned().collect()
    }

    /// Tells of changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The durable consumers of a stream in memory.
    pub(crate) fn consumers_of(&self, group: &str) -> Vec<KeptConsumer> {
        let state = self.state.read();
        let from = (group.to_owned(), String::new());
        let of_group = state.known.consumers.range(from..).take_while(|((g, _), _)| g == group);
        of_group.map(|(_, kept)| kept.clone()).collect()
    }

    /// How often it changed.
    pub(crate) fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// The newest sequence that is in it.
    pub(crate) fn last_seq(&self) -> u64 {
        self.state.read().last_seq
    }
}

fn read_from(stream: &mut Stream, from: u64, known: &mut Known) {
    let mut next = from;
    while let Some(seq) = stream.store().next(next, &Filter::all()) {
        next = seq + 1;
        match catalogue_entry(stream, seq) {
            Ok(Some(CatalogueEntry::Stream(assignment))) => {
                let name = (assignment.account.clone(), assignment.config.name.clone());
                let group = GroupId::parse(&assignment.group);
                let before = known.streams.insert(name.clone(), Arc::new(*assignment));
                let before = before.and_then(|before| GroupId::parse(&before.group));
                if before != group
                    && let Some(before) = before
                {
                    known.groups.remove(&before);
                }
                if let Some(group) = group {
                    known.groups.insert(group, name);
                }
            }
            Ok(Some(CatalogueEntry::Consumer(kept))) => {
                known.consumers.insert((kept.group.clone(), kept.name.clone()), *kept);
            }
            Ok(None) => {}
            Err(reason) => tracing::error!("Catalogue entry {seq} {reason}"),
        }
    }
}
