//! Opening the store of a server in a cluster.
//!
//! Which streams exist is decided by the catalogue's group, which may take a while to find its leader. A server does not
//! wait for it: what it holds itself, it knows from a file per group, the assignment with which the group began here.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use linnet_assets::{Owner, Stream};
use linnet_env::Disk;
use linnet_ids::{GroupId, Mono, PeerId, Wall};
use linnet_jsapi::policies::StorageType;
use linnet_raft::{HardState, Membership, Opening as NodeOpening, Replica};
use linnet_store::{Seed, StreamStore};
use linnet_wal::Integrity;

use crate::catalogue::{Assignment, Placed, catalogue_config};
use crate::change::Site;
use crate::group::StreamGroup;
use crate::identify::{Identity, identify};
use crate::log::Log;
use crate::open::{OpenFailure, Restored, behind_lost_log};
use crate::quarantine::put_aside;
use crate::raft::open_stream_replica;
use crate::restore::{RestoreOutcome, RestoredStream, Restoring, UnnamedGroup, group_dir};

/// Who this server is to the groups of its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Myself {
    /// Its id.
    pub peer: PeerId,
    /// Seed for delays and incarnations; different for every opening.
    pub seed: u64,
}

/// What was found in the store.
pub struct ClusterStore {
    /// The catalogue's replica; `None` if the log has nothing of it.
    pub meta: Option<Box<StreamGroup>>,
    /// The streams that this server holds replicas of.
    pub streams: Vec<RestoredStream>,
    /// Groups in the log that no file names.
    pub unnamed: Vec<UnnamedGroup>,
    /// Groups that were being removed here. They have no files any more; once they have certainly ended in the log, their
    /// assignments are to be forgotten.
    pub removing: Vec<GroupId>,
    /// The log may have lost groups.
    pub may_lack_groups: bool,
}

/// Where the assignments are that this server took part in.
fn assigned_dir(dir: &Path) -> PathBuf {
    dir.join("assigned")
}

fn assigned_path(dir: &Path, group: &str) -> PathBuf {
    assigned_dir(dir).join(group)
}

/// Remembers that this server takes part in a group, before the group begins. It blocks.
pub fn remember_assignment(disk: &dyn Disk, dir: &Path, assignment: &Assignment) -> io::Result<()> {
    disk.create_dir_all(&assigned_dir(dir))?;
    disk.sync_dir(dir)?;
    // Plain data: writing it to memory cannot fail.
    let bytes = serde_json::to_vec(assignment).expect("assignment serialises");
    disk.replace(&assigned_path(dir, &assignment.group), &bytes)
}

/// Notes that this server's part in a group ends, before anything of it goes: what a crash leaves is named by
/// [`ClusterStore::removing`]. `assignment` is the newest one of the stream's name. It blocks.
pub fn note_removal(disk: &dyn Disk, dir: &Path, group: GroupId, assignment: &Assignment) -> io::Result<()> {
    let group = group.to_string();
    let ends = Assignment { group, ended: true, unclaimed: false, ..assignment.clone() };
    remember_assignment(disk, dir, &ends)
}

/// This server takes no part in the group any more, and its log has nothing of it. It blocks.
pub fn forget_assignment(disk: &dyn Disk, dir: &Path, group: GroupId) -> io::Result<()> {
    match disk.remove_file(&assigned_path(dir, &group.to_string())) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => disk.sync_dir(&assigned_dir(dir)),
    }
}

/// How a replica begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// The group begins, and this server with it, in the life that the assignment names.
    Founding,
    /// The group exists, and this server has nothing of it.
    Joining,
}

impl Assignment {
    /// The replicas.
    pub fn replicas(&self) -> Vec<Replica> {
        let parsed = self
            .members
            .iter()
            .filter_map(|member| Some(Replica { peer: member.peer.parse().ok()?, incarnation: member.life }));
        parsed.collect()
    }

    /// What this server is to the group; `None` if it is none of its members.
    pub fn replica(&self, peer: PeerId) -> Option<Replica> {
        self.replicas().into_iter().find(|replica| replica.peer == peer)
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner { account: self.account.clone(), created: self.created }
    }

    fn empty_stream(&self, group: GroupId, site: &Site, now: Mono) -> Stream {
        let config = self.config.clone();
        let kind = site.kind(config.storage, group);
        let store = StreamStore::new(kind, Seed::of(group), config.first_seq, config.max_msgs_per_subject);
        Stream::new(config, Wall(self.created), site.place.clone(), store, Vec::new(), now)
    }

    /// A replica of it without anything. The assignment is remembered before.
    pub fn begin_replica(
        &self,
        group: GroupId,
        site: &Site,
        me: Myself,
        how: Beginning,
        now: Mono,
        log: &mut dyn Log,
    ) -> StreamGroup {
        let opening = match self.replica(me.peer) {
            // Those without a life wait until they are taken in.
            Some(replica) if how == Beginning::Founding && replica.incarnation > 0 => {
                let founders = self.replicas().into_iter().filter(|replica| replica.incarnation > 0);
                NodeOpening::founding(group, replica, Membership::of_voters(founders), me.seed)
            }
            _ => NodeOpening::forgotten(group, me.peer, me.seed),
        };
        let stream = self.empty_stream(group, site, now);
        StreamGroup::replica(opening, stream, Some(self.owner()), now, log).reserving(
            site.floor_step,
            0,
            None,
        )
    }

    /// True for a stream in memory with one replica: a server that starts has nothing of it, and only the catalogue knows
    /// its consumers.
    pub fn is_volatile(&self) -> bool {
        self.config.storage == StorageType::Memory && self.is_alone()
    }

    /// Its only replica, without anything.
    pub fn begin_alone(&self, group: GroupId, site: &Site, now: Mono) -> StreamGroup {
        self.begin(group, site.kind(self.config.storage, group), site.place.clone(), site.floor_step, now)
    }
}

/// The catalogue's replica as it begins: with `founders`, or in a group that exists.
pub fn begin_catalogue(
    site: &Site,
    me: Replica,
    seed: u64,
    founders: Option<Membership>,
    now: Mono,
    log: &mut dyn Log,
) -> StreamGroup {
    let group = GroupId::META;
    let opening = match founders {
        Some(founders) => NodeOpening::founding(group, me, founders, seed),
        None => NodeOpening::forgotten(group, me.peer, seed),
    };
    let config = catalogue_config();
    let kind = site.kind(config.storage, group);
    let store = StreamStore::new(kind, Seed::of(group), 0, config.max_msgs_per_subject);
    let stream = Stream::new(config, Wall(0), site.place.clone(), store, Vec::new(), now);
    StreamGroup::replica(opening, stream, None, now, log)
}

impl Restoring<'_> {
    /// Opens what this server holds as part of a cluster.
    pub fn run_clustered(self, me: Myself, log: &mut dyn Log) -> Result<ClusterStore, OpenFailure> {
        if self.groups.is_empty() && self.may_lack_groups {
            return Err(OpenFailure::NothingLeft);
        }
        if self.is_of_lone_server() {
            return self.run_unclaimed(me, log);
        }
        let meta = self.open_catalogue(me, log)?;
        let (assignments, mut unnamed) = self.read_assigned();
        let mut streams = Vec::new();
        let mut removing = Vec::new();
        let mut known = HashSet::from([GroupId::META]);
        for (assignment, group) in assignments {
            known.insert(group);
            if assignment.ended {
                if self.remove_files_of(group) {
                    removing.push(group);
                }
                continue;
            }
            if assignment.unclaimed {
                let outcome = self.restore_stream(&assignment, group, &[], log);
                streams.push(RestoredStream { assignment, group, outcome });
                continue;
            }
            if assignment.is_volatile() || self.was_last_in_memory(&assignment, group, me) {
                // It begins again once the catalogue is there.
                if self.recovered(group).is_some() {
                    log.end_group(group);
                }
                continue;
            }
            let outcome = self.open_assigned(&assignment, group, me, log);
            streams.push(RestoredStream { assignment, group, outcome });
        }
        for group in self.groups.iter().map(|g| g.group).filter(|group| !known.contains(group)) {
            match identify(self.wal, &**self.disk, &group_dir(self.dir, group), group) {
                // A backup that was not taken to its end, or a stream whose end was not carried out to its end.
                Identity::Restoring | Identity::Ended => {
                    log.end_group(group);
                }
                Identity::Stream(stream) => unnamed.push(UnnamedGroup {
                    group,
                    reason: format!(
                        "it is stream '{} > {}', of which no assignment of this server tells",
                        stream.account, stream.config.name
                    ),
                }),
                Identity::Unknown(_) => unnamed
                    .push(UnnamedGroup { group, reason: "no assignment of this server names it".to_owned() }),
            }
        }
        if !self.may_lack_groups {
            // What a power loss left of groups that were removed.
            unnamed.extend(self.look_at_strays(&known, log));
        }
        Ok(ClusterStore { meta, streams, unnamed, removing, may_lack_groups: self.may_lack_groups })
    }

    /// True if a group that was being removed has no files any more.
    fn remove_files_of(&self, group: GroupId) -> bool {
        let dir = group_dir(self.dir, group);
        match self.disk.remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                tracing::warn!("  Removing {}: {e}", dir.display());
                false
            }
            _ => true,
        }
    }

    /// True if the store is that of a server that was no part of a cluster: its catalogue has one voter, and no members.
    fn is_of_lone_server(&self) -> bool {
        let state = self.recovered(GroupId::META).and_then(|r| r.hard_state.as_ref());
        state.is_some_and(|state| state.membership.is_empty())
    }

    /// Opens the store of a server that was no part of a cluster: its streams become what the cluster's catalogue may
    /// not know. That is noted for each of them before the server's own catalogue goes, so that a crash in between leaves
    /// the store as it was.
    fn run_unclaimed(self, me: Myself, log: &mut dyn Log) -> Result<ClusterStore, OpenFailure> {
        let (disk, dir, may_lack_groups) = (self.disk.clone(), self.dir.to_owned(), self.may_lack_groups);
        let store = self.run(log)?;
        let mut streams = Vec::new();
        for mut stream in store.streams {
            if matches!(stream.outcome, RestoreOutcome::Ended(_)) {
                continue;
            }
            stream.assignment.members = vec![Placed { peer: me.peer.to_string(), life: 0 }];
            stream.assignment.live = true;
            stream.assignment.unclaimed = true;
            remember_assignment(&*disk, &dir, &stream.assignment)
                .map_err(|source| OpenFailure::Unclaimed { dir: assigned_dir(&dir), source })?;
            streams.push(stream);
        }
        log.end_group(GroupId::META);
        let unnamed = store.unnamed;
        Ok(ClusterStore { meta: None, streams, unnamed, removing: Vec::new(), may_lack_groups })
    }

    fn open_catalogue(&self, me: Myself, log: &mut dyn Log) -> Result<Option<Box<StreamGroup>>, OpenFailure> {
        let group = GroupId::META;
        let recovered = self.recovered(group);
        if recovered.and_then(|r| r.hard_state.as_ref()).is_none() {
            return Ok(None);
        }
        let opening = self.opening(group, catalogue_config(), Wall(0));
        match open_stream_replica(&opening, me.peer, me.seed) {
            Ok((stream, node, _)) => {
                Ok(Some(Box::new(StreamGroup::replica(node, stream, None, self.clock.mono(), log))))
            }
            Err(e) if e.is_damage() && !self.is_only_voter(group, me) => {
                self.give_up_replica(group, &format!("The catalogue of streams: {e}\n"), log);
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Puts what a server has of a group aside, which others have as well: a replica begins anew here.
    fn give_up_replica(&self, group: GroupId, note: &str, log: &mut dyn Log) {
        tracing::error!("{}: that is kept aside, and comes from the other servers", note.trim_end());
        put_aside(&**self.disk, self.dir, &group.to_string(), note);
        log.end_group(group);
    }

    /// True if nobody else counts in the group, as far as this server knows.
    fn is_only_voter(&self, group: GroupId, me: Myself) -> bool {
        let state = self.recovered(group).and_then(|r| r.hard_state.as_ref());
        let state = state.and_then(|state| {
            HardState::from_record(state.term, state.vote, state.incarnation, &state.membership).ok()
        });
        state.is_some_and(|state| {
            let membership = state.membership();
            membership.voter_count() == 1 && membership.is_voter(me.peer)
        })
    }

    fn read_assigned(&self) -> (Vec<(Assignment, GroupId)>, Vec<UnnamedGroup>) {
        let mut assignments = Vec::new();
        let mut unnamed = Vec::new();
        let dir = assigned_dir(self.dir);
        for entry in self.disk.list(&dir).unwrap_or_default() {
            let Some(group) = GroupId::parse(&entry.name) else { continue };
            let read = self.disk.read(&dir.join(&entry.name)).map_err(|e| e.to_string());
            match read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string())) {
                Ok(assignment) => assignments.push((assignment, group)),
                Err(e) => unnamed.push(UnnamedGroup { group, reason: format!("its assignment: {e}") }),
            }
        }
        (assignments, unnamed)
    }

    fn open_assigned(
        &self,
        assignment: &Assignment,
        group: GroupId,
        me: Myself,
        log: &mut dyn Log,
    ) -> RestoreOutcome {
        if assignment.is_alone() && !self.is_replicated(group) {
            // If it has ended, the catalogue may not know that yet: it is told by whoever has the stream.
            return self.open_stream(assignment, group, &[], log);
        }
        match self.open_replica_of(assignment, group, me, log) {
            Ok((solo, found)) => RestoreOutcome::Open(Box::new(solo), found),
            Err(e) if e.is_damage() && !self.is_only_voter(group, me) => {
                let (account, stream) = (&assignment.account, &assignment.config.name);
                self.give_up_replica(group, &format!("Stream '{account} > {stream}': {e}\n"), log);
                let (site, now) = (self.site(), self.clock.mono());
                let anew = assignment.begin_replica(group, &site, me, Beginning::Joining, now, log);
                RestoreOutcome::Open(Box::new(anew), Restored::default())
            }
            Err(e) => RestoreOutcome::Lost(e.to_string()),
        }
    }

    /// True if the log says that the group has had several voters.
    fn is_replicated(&self, group: GroupId) -> bool {
        let state = self.recovered(group).and_then(|r| r.hard_state.as_ref());
        state.is_some_and(|state| !state.membership.is_empty())
    }

    /// True for a stream in memory of which this server was the last voter: nobody has anything of it any more.
    fn was_last_in_memory(&self, assignment: &Assignment, group: GroupId, me: Myself) -> bool {
        assignment.config.storage == StorageType::Memory && self.is_only_voter(group, me)
    }

    fn open_replica_of(
        &self,
        assignment: &Assignment,
        group: GroupId,
        me: Myself,
        log: &mut dyn Log,
    ) -> Result<(StreamGroup, Restored), OpenFailure> {
        let now = self.clock.mono();
        let recovered = self.recovered(group);
        let is_memory = assignment.config.storage == StorageType::Memory;
        if recovered.is_none() || is_memory {
            let site = self.site();
            // A founder that never wrote anything has promised nothing.
            let is_new = recovered.is_none() && !self.may_lack_groups && !assignment.live;
            let how = if is_new { Beginning::Founding } else { Beginning::Joining };
            return Ok((assignment.begin_replica(group, &site, me, how, now, log), Restored::default()));
        }
        let opening = self.opening(group, assignment.config.clone(), Wall(assignment.created));
        let (stream, node, mut found) = open_stream_replica(&opening, me.peer, me.seed)?;
        let skip_to = behind_lost_log(&opening, &node, &stream, &found)?;
        if node.may_have_forgotten
            && skip_to.is_some()
            && let Some(Integrity::Damaged(damage)) = recovered.map(|r| &r.integrity)
        {
            found.damage = Some(damage.clone());
        }
        let replica = StreamGroup::replica(node, stream, Some(assignment.owner()), now, log);
        Ok((replica.reserving(self.floor_step, found.floor, skip_to), found))
    }

    pub(crate) fn site(&self) -> Site {
        let (disk, dir, place) = (self.disk.clone(), self.dir.to_owned(), self.place.clone());
        Site { disk, dir, place, floor_step: self.floor_step }
    }
}

#[cfg(test)]
mod tests;
