use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use linnet_assets::Stream;
use linnet_ids::{GroupId, PeerId, StreamSeq};
use linnet_store::{Filter, StreamStore};

use super::load::{Load, Loads};
use crate::catalogue::{Assignment, CatalogueEntry, catalogue_entry};
use crate::dissolved::Dissolved;
use crate::kept::KeptConsumer;
use crate::rescued::Rescued;

/// Account and name of a stream.
type StreamName = (String, String);

/// What the applied catalogue says.
#[derive(Default)]
pub struct Known {
    /// The newest sequence that is in it.
    last_seq: u64,
    /// Entries of the catalogue, streams and consumers.
    entries: u64,
    /// Entries that are damaged here.
    damaged: usize,
    content: Content,
}

/// Entries, each with the sequence of its message.
#[derive(Default)]
struct Content {
    streams: BTreeMap<StreamName, (StreamSeq, Arc<Assignment>)>,
    /// What the newest stream of each group is called.
    groups: HashMap<GroupId, StreamName>,
    /// Durable consumers of streams in memory, by group and name.
    consumers: BTreeMap<(String, String), (StreamSeq, KeptConsumer)>,
    rescued: Option<(StreamSeq, Rescued)>,
    dissolved: Option<(StreamSeq, Dissolved)>,
    loads: Loads,
}

impl Content {
    fn len(&self) -> u64 {
        let singles = usize::from(self.rescued.is_some()) + usize::from(self.dissolved.is_some());
        (self.streams.len() + self.consumers.len() + singles) as u64
    }
}

impl Known {
    /// True if the catalogue's stream holds something else by now.
    pub fn is_behind(&self, stream: &Stream) -> bool {
        let now = stream.store().state();
        let damaged = stream.store().damaged().len();
        now.last_seq != self.last_seq || now.msgs != self.entries || damaged != self.damaged
    }

    /// Takes over what the catalogue's stream holds now: the streams of which it says something new, or `None` if that
    /// may be any. It may read from the disk.
    pub fn follow(&mut self, stream: &mut Stream) -> Option<Vec<GroupId>> {
        let now = *stream.store().state();
        let damaged = stream.store().damaged().len();
        let is_other = now.last_seq < self.last_seq || damaged != self.damaged;
        let changed = if is_other || self.last_seq == 0 {
            self.content = Content::default();
            self.content.read_from(stream, 0);
            None
        } else {
            // Additions replace or add; whatever else happened shows in the number of entries.
            let mut changed = self.content.read_from(stream, self.last_seq + 1);
            if self.content.len() != now.msgs {
                changed.extend(self.content.forget_removed(stream.store()));
            }
            Some(changed)
        };
        (self.last_seq, self.entries, self.damaged) = (now.last_seq, now.msgs, damaged);
        changed
    }

    /// The stream of this name, if it exists.
    pub fn stream(&self, account: &str, stream: &str) -> Option<Arc<Assignment>> {
        self.entry(account, stream).filter(|assignment| !assignment.ended)
    }

    /// The same, also if it has ended and members may not know.
    pub fn entry(&self, account: &str, stream: &str) -> Option<Arc<Assignment>> {
        let name = (account.to_owned(), stream.to_owned());
        self.content.streams.get(&name).map(|(_, assignment)| assignment.clone())
    }

    /// The streams of an account, by name.
    pub fn streams_of(&self, account: &str) -> Vec<Arc<Assignment>> {
        let from = (account.to_owned(), String::new());
        let of_account = self.content.streams.range(from..).take_while(|((a, _), _)| a == account);
        of_account.map(|(_, (_, a))| a.clone()).filter(|a| !a.ended).collect()
    }

    /// The stream of this group, also if it has ended.
    pub fn of_group(&self, group: GroupId) -> Option<Arc<Assignment>> {
        let name = self.content.groups.get(&group)?;
        self.content.streams.get(name).map(|(_, assignment)| assignment.clone())
    }

    /// Everything, also what has ended.
    pub fn all(&self) -> Vec<Arc<Assignment>> {
        self.content.streams.values().map(|(_, assignment)| assignment.clone()).collect()
    }

    /// The durable consumers of a stream in memory.
    pub fn consumers_of(&self, group: &str) -> Vec<KeptConsumer> {
        let from = (group.to_owned(), String::new());
        let of_group = self.content.consumers.range(from..).take_while(|((g, _), _)| g == group);
        of_group.map(|(_, (_, kept))| kept.clone()).collect()
    }

    /// The mirrors of a stream in its account, by name.
    pub fn mirrors_of(&self, account: &str, stream: &str) -> Vec<Arc<Assignment>> {
        let from = (account.to_owned(), String::new());
        let of_account = self.content.streams.range(from..).take_while(|((a, _), _)| a == account);
        let is_mirror = |a: &Assignment| {
            let origin = a.config.mirror.as_ref();
            !a.ended && origin.is_some_and(|origin| origin.name == stream && origin.external.is_none())
        };
        of_account.map(|(_, (_, a))| a).filter(|a| is_mirror(a)).cloned().collect()
    }

    /// What streams ask of a server.
    pub fn load_of(&self, peer: PeerId) -> Load {
        self.content.loads.of(peer)
    }

    /// The last rescue of the catalogue's group, if there was one.
    pub fn rescued(&self) -> Option<Rescued> {
        self.content.rescued.map(|(_, rescued)| rescued)
    }

    /// That its cluster gave itself up, unless there are streams.
    pub fn dissolved(&self) -> Option<&Dissolved> {
        self.content.dissolved.as_ref().filter(|_| self.is_empty()).map(|(_, dissolved)| dissolved)
    }

    /// It names no stream, not even one that has ended.
    pub fn is_empty(&self) -> bool {
        self.content.streams.is_empty() && !self.is_damaged()
    }

    /// Entries are damaged here, and are not among what it says.
    pub fn is_damaged(&self) -> bool {
        self.damaged > 0
    }

    /// The newest sequence that is in it.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
}

#[cfg(test)]
impl Known {
    /// Knows of one stream.
    pub(super) fn of(assignment: Assignment) -> Self {
        let mut known = Self::default();
        known.content.take_stream(1, assignment);
        known
    }
}

impl Content {
    /// The groups of the streams that it reads of.
    fn read_from(&mut self, stream: &mut Stream, from: u64) -> Vec<GroupId> {
        let mut groups = Vec::new();
        let mut next = from;
        while let Some(seq) = stream.store().next(next, &Filter::all()) {
            next = seq + 1;
            match catalogue_entry(stream, seq) {
                Ok(Some(CatalogueEntry::Stream(assignment))) => {
                    groups.extend(assignment.group_id());
                    self.take_stream(seq, *assignment);
                }
                Ok(Some(CatalogueEntry::Consumer(kept))) => {
                    self.consumers.insert((kept.group.clone(), kept.name.clone()), (seq, *kept));
                }
                Ok(Some(CatalogueEntry::Rescued(rescued))) => self.rescued = Some((seq, rescued)),
                Ok(Some(CatalogueEntry::Dissolved(dissolved))) => self.dissolved = Some((seq, dissolved)),
                Ok(None) => {}
                Err(reason) => tracing::error!("Catalogue entry {seq} {reason}"),
            }
        }
        groups
    }

    /// Entries whose messages were removed; the groups of streams among them.
    fn forget_removed(&mut self, store: &StreamStore) -> Vec<GroupId> {
        self.consumers.retain(|_, (seq, _)| store.contains(*seq));
        self.rescued.take_if(|(seq, _)| !store.contains(*seq));
        self.dissolved.take_if(|(seq, _)| !store.contains(*seq));
        let mut gone = Vec::new();
        for (_, (_, assignment)) in self.streams.extract_if(.., |_, (seq, _)| !store.contains(*seq)) {
            self.loads.remove(&assignment);
            gone.extend(assignment.group_id());
        }
        for group in &gone {
            self.groups.remove(group);
        }
        gone
    }

    fn take_stream(&mut self, seq: StreamSeq, assignment: Assignment) {
        let name = (assignment.account.clone(), assignment.config.name.clone());
        let group = assignment.group_id();
        self.loads.add(&assignment);
        let before = self.streams.insert(name.clone(), (seq, Arc::new(assignment)));
        if let Some((_, before)) = &before {
            self.loads.remove(before);
        }
        let before = before.and_then(|(_, before)| before.group_id());
        if before != group
            && let Some(before) = before
        {
            self.groups.remove(&before);
        }
        if let Some(group) = group {
            self.groups.insert(group, name);
        }
    }
}
