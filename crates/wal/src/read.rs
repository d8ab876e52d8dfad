use std::sync::Arc;

use linnet_env::DiskFile;
use linnet_ids::GroupId;

use crate::error::Error;
use crate::format::SegmentNo;
use crate::group_log::{GroupLog, Place};
use crate::wal::Wal;

/// An entry read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index in the group's log.
    pub index: u64,
    /// Term of the leader that made it.
    pub term: u64,
    /// Hash of the group's history up to and with this entry.
    pub chain: u64,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Where an entry stands. Reading through it needs no access to the [`Wal`], so any thread may do it.
#[derive(Clone)]
pub struct EntryLocation {
    /// Group of the entry.
    pub group: GroupId,
    /// Index in the group's log.
    pub index: u64,
    /// Term of the leader that made it.
    pub term: u64,
    /// Hash of the group's history up to and with this entry.
    pub chain: u64,
    place: Place,
    file: Arc<dyn DiskFile>,
}

impl std::fmt::Debug for EntryLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EntryLocation")
            .field("group", &self.group)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl EntryLocation {
    /// Length of the payload.
    pub fn payload_len(&self) -> usize {
        self.place.len as usize
    }

    /// Appends the payload to `out`, verified.
    pub fn read_into(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        read_place(&*self.file, &self.place, out).map_err(|Unverified| Error::Damaged {
            group: self.group,
            index: self.index,
            segment: self.place.segment,
            offset: u64::from(self.place.offset),
        })
    }

    /// Reads and verifies the entry.
    pub fn read(&self) -> Result<Entry, Error> {
        let mut payload = Vec::new();
        self.read_into(&mut payload)?;
        Ok(Entry { index: self.index, term: self.term, chain: self.chain, payload })
    }
}

/// The stored bytes cannot be read or are not what was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unverified;

pub(crate) fn read_place(file: &dyn DiskFile, place: &Place, out: &mut Vec<u8>) -> Result<(), Unverified> {
    let before = out.len();
    out.resize(before + place.len as usize, 0);
    let target = out.get_mut(before..).unwrap_or_default();
    let is_read = target.is_empty() || file.read_exact_at(target, u64::from(place.offset)).is_ok();
    if !is_read || crc32fast::hash(target) != place.crc {
        out.truncate(before);
        return Err(Unverified);
    }
    Ok(())
}

/// Says where the damaged payload of an index stands, as far as it is known.
fn damaged(log: &GroupLog, index: u64, place: &Place) -> Error {
    let known = log.found_damaged(index).filter(|_| place.segment == 0);
    let (segment, offset) = known.unwrap_or((place.segment, place.offset));
    Error::Damaged { group: log.group, index, segment, offset: u64::from(offset) }
}

impl Wal {
    /// Every group the log holds something of, in order.
    pub fn groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<_> = self.state.groups.keys().copied().collect();
        groups.sort_unstable();
        groups
    }

    /// First index present behind the checkpoint of a group.
    pub fn first_index(&self, group: GroupId) -> Option<u64> {
        self.state.groups.get(&group).and_then(GroupLog::first)
    }

    /// Index at which a group's log ends: its checkpoint's if nothing is behind it, 0 for an unknown group.
    pub fn last_index(&self, group: GroupId) -> u64 {
        self.state.groups.get(&group).map_or(0, GroupLog::last)
    }

    /// Term of an entry that is in the log, or of the entry the checkpoint ends with.
    pub fn term(&self, group: GroupId, index: u64) -> Option<u64> {
        self.state.groups.get(&group)?.term_at(index)
    }

    /// Chain hash after an entry, if the log knows it.
    pub fn chain(&self, group: GroupId, index: u64) -> Option<u64> {
        self.state.groups.get(&group)?.chain_at(index)
    }

    /// Where an entry stands. `Ok(None)` means that the log needs no such entry: it is not behind the checkpoint or
    /// not written yet.
    pub fn locate(&self, group: GroupId, index: u64) -> Result<Option<EntryLocation>, Error> {
        let Some(log) = self.state.groups.get(&group) else { return Ok(None) };
        let Some(entry) = log.entry(index) else {
            let behind = index > log.applied() && index <= log.last();
            return if behind { Err(Error::Lost { group, index }) } else { Ok(None) };
        };
        let place = entry.place;
        let file = self.file_of(place.segment).ok_or_else(|| damaged(log, index, &place))?;
        Ok(Some(EntryLocation { group, index, term: entry.term, chain: entry.chain, place, file }))
    }

    /// Reads and verifies an entry; answers as [`Wal::locate`].
    pub fn read(&self, group: GroupId, index: u64) -> Result<Option<Entry>, Error> {
        self.locate(group, index)?.map(|location| location.read()).transpose()
    }

    /// Body of the newest checkpoint of a group, verified.
    pub fn checkpoint_body(&self, group: GroupId) -> Result<Option<Vec<u8>>, Error> {
        let Some(log) = self.state.groups.get(&group) else { return Ok(None) };
        let Some(checkpoint) = log.checkpoint else { return Ok(None) };
        let place = checkpoint.place;
        let damaged = || damaged(log, checkpoint.applied, &place);
        let file = self.file_of(place.segment).ok_or_else(damaged)?;
        let mut body = Vec::new();
        read_place(&*file, &place, &mut body).map_err(|Unverified| damaged())?;
        Ok(Some(body))
    }

    /// Iterates the entries behind the checkpoint in order, reading one payload at a time. A lost entry is an error
    /// at its place (the first of several lost ones stands for all), and the entries behind it follow.
    pub fn entries(&self, group: GroupId) -> Entries<'_> {
        let (next, end) = match self.state.groups.get(&group) {
            Some(log) => (log.applied() + 1, log.last() + 1),
            None => (1, 1),
        };
        Entries { wal: self, group, next, end }
    }

    pub(crate) fn file_of(&self, segment: SegmentNo) -> Option<Arc<dyn DiskFile>> {
        let at = self.live.binary_search_by_key(&segment, |s| s.no).ok()?;
        self.live.get(at).map(|s| Arc::clone(&s.file))
    }
}

/// See [`Wal::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    wal: &'a Wal,
    group: GroupId,
    next: u64,
    end: u64,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let index = self.next;
        let answer = self.wal.read(self.group, index);
        self.next = match &answer {
            Err(Error::Lost { .. }) => {
                let log = self.wal.state.groups.get(&self.group)?;
                log.runs.iter().map(|r| r.first).find(|first| *first > index).unwrap_or(self.end)
            }
            _ => index + 1,
        };
        answer.transpose()
    }
}
