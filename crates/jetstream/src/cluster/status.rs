//! What monitoring shows of the meta group.

use std::time::Duration;

use linnet_ids::{PeerId, Wall};
use linnet_raft::{MemberProgress, Role, Status};

use super::directory::PeerView;

/// Where the meta group stands, as this server sees it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct MetaStatus {
    /// Name of this server's cluster.
    pub cluster: String,
    /// What this server does there.
    pub phase: MetaPhase,
    /// Another server can be heard.
    pub hears_somebody: bool,
    /// The leader, if it is known.
    pub leader: Option<MetaLeader>,
    /// This server leads.
    pub is_leader: bool,
    /// It has and has applied everything that is committed as far as it knows, and can hear the leader.
    pub is_current: bool,
    /// The other members, by name; without a leader this server is among them.
    pub peers: Vec<MetaPeer>,
    /// Members that count, those included that are away.
    pub size: usize,
    /// How many of them must be there.
    pub quorum: usize,
    /// An operator has lowered that number.
    pub is_rescued: bool,
    /// Requests to the API that wait on this server.
    pub pending_requests: usize,
    /// Questions among requests to the API that wait on this server.
    pub pending_infos: usize,
    /// What a restart would read.
    pub snapshot: MetaSnapshot,
    /// Why its log takes nothing any more.
    pub write_error: Option<String>,
    /// Why what is committed cannot be applied.
    pub apply_error: Option<String>,
    /// Whom the server waits for before the group is founded, and for how long.
    pub missing: Vec<(String, Duration)>,
    /// Servers of another meta group, which was founded apart from this one, by name.
    pub strangers: Vec<String>,
    /// The last time that this server did not run for long.
    pub stall: Option<Stall>,
    /// The replica itself, if it runs.
    pub raft: Option<GroupStatus>,
}

/// A time in which the process did not run, or far too little: it was stopped, or others had the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// How long it lasted.
    pub lasted: Duration,
    /// How long ago it ended.
    pub ago: Duration,
}

/// What a server does about the meta group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MetaPhase {
    /// It reads what it has, or looks who is there.
    #[default]
    Recovering,
    /// The group exists, and this server waits to be added to it.
    Joining,
    /// It is a member.
    Member,
    /// It has stopped, or was removed.
    Stopped,
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaLeader {
    /// Name.
    pub name: String,
    /// Id in the group.
    pub peer: PeerId,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaPeer {
    /// Name; what nats-server says of one whose name is not known.
    pub name: String,
    /// Id in the group.
    pub peer: PeerId,
    /// It has everything that is committed. Only the leader knows that of all members; others know it of the leader.
    pub is_current: bool,
    /// It is known to be away.
    pub is_offline: bool,
    /// It can be heard and hears this server.
    pub is_reachable: bool,
    /// Since when it is silent; zero if that is not known.
    pub active: Duration,
    /// How long it has not been heard; of one that was never heard, how long this server has listened.
    pub unheard: Duration,
    /// Committed entries that it lacks, as far as the leader knows.
    pub lag: u64,
    /// It does not count yet.
    pub is_pending: bool,
}

/// What a restart would read of the meta group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MetaSnapshot {
    /// Entries behind the checkpoint.
    pub pending_entries: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// When the checkpoint was made; `None` before the first.
    pub last: Option<Wall>,
    /// How long that took.
    pub took: Duration,
}

/// A replica of a group on this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Name of the group.
    pub name: String,
    /// This replica.
    pub me: PeerId,
    /// What it is.
    pub state: GroupState,
    /// Members that count.
    pub size: usize,
    /// How many of them must be there.
    pub quorum: usize,
    /// It does not count.
    pub is_observer: bool,
    /// What it knows to be committed.
    pub committed: u64,
    /// What is applied.
    pub applied: u64,
    /// It lacks what is committed.
    pub is_catching_up: bool,
    /// The leader, if it is known.
    pub leader: Option<PeerId>,
    /// Since when it leads, on the leader.
    pub leader_since: Option<Wall>,
    /// There has been a leader since the process began.
    pub ever_had_leader: bool,
    /// Its term.
    pub term: u64,
    /// Whom it gave its vote in that term.
    pub voted_for: Option<PeerId>,
    /// Term of its last entry.
    pub last_term: u64,
    /// Index of its last entry.
    pub last_index: u64,
    /// Index of the first entry that the log has.
    pub first_index: u64,
    /// Why its log takes nothing any more.
    pub write_error: Option<String>,
    /// The other members.
    pub peers: Vec<GroupPeer>,
}

/// What a replica does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// It leads.
    Leader,
    /// It follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It has stopped.
    Closed,
}

/// Another member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPeer {
    /// Id.
    pub peer: PeerId,
    /// Name; empty if it is not known.
    pub name: String,
    /// Up to where it has the leader's log, on the leader.
    pub matched: Option<u64>,
    /// How long it has been silent; `None` if it was never heard.
    pub silence: Option<Duration>,
}

/// What a [`MetaStatus`] is made from, beside what its owner knows itself.
pub(crate) struct MetaFacts<'a> {
    pub(crate) cluster: &'a str,
    /// Name of this server.
    pub(crate) name: &'a str,
    pub(crate) me: PeerId,
    pub(crate) raft: &'a Status,
    /// On the leader: what it knows of a member.
    pub(crate) progress: &'a dyn Fn(PeerId) -> Option<MemberProgress>,
    /// The other servers of the domain, from [`Link::peers`](super::Link::peers).
    pub(crate) peers: &'a [PeerView],
    /// Names of members that this process has not met.
    pub(crate) names: &'a dyn Fn(PeerId) -> Option<String>,
    /// How long this server has listened to others.
    pub(crate) listened: Duration,
}

/// What nats-server calls a member whose name it does not know.
fn unknown_name(peer: PeerId) -> String {
    format!("Server name unknown at this time (peerID: {peer})")
}

impl MetaFacts<'_> {
    fn view(&self, peer: PeerId) -> Option<&PeerView> {
        self.peers.iter().find(|view| view.id == peer)
    }

    fn name_of(&self, peer: PeerId) -> Option<String> {
        if peer == self.me {
            return Some(self.name.to_owned());
        }
        self.view(peer).map(|view| view.name.clone()).or_else(|| (self.names)(peer))
    }

    fn member(&self, peer: PeerId, is_voter: bool) -> MetaPeer {
        let raft = self.raft;
        let view = self.view(peer);
        let name = self.name_of(peer);
        let progress = (self.progress)(peer).filter(|_| raft.is_leader);
        let is_reachable = peer == self.me || view.is_some_and(|view| view.is_reachable);
        let is_offline = peer != self.me && view.is_none_or(|view| view.is_offline);
        let unheard = if peer == self.me { Some(Duration::ZERO) } else { view.and_then(|view| view.silence) };
        let silence = unheard.unwrap_or_default();
        let has_all = progress.is_some_and(|p| p.matched >= raft.commit && !p.is_amnesiac);
        let is_leader = raft.leader == Some(peer);
        MetaPeer {
            name: name.unwrap_or_else(|| unknown_name(peer)),
            peer,
            is_current: if raft.is_leader { has_all && !is_offline } else { is_leader && is_reachable },
            is_offline,
            is_reachable,
            active: if raft.is_leader || is_leader { silence } else { Duration::ZERO },
            unheard: unheard.unwrap_or(self.listened),
            lag: progress.map_or(0, |p| raft.commit.saturating_sub(p.matched)),
            is_pending: !is_voter,
        }
    }

    /// The replica itself.
    pub(crate) fn group(&self, name: &str) -> GroupStatus {
        let raft = self.raft;
        let peers =
            raft.membership.members().iter().map(|member| member.peer).filter(|peer| *peer != self.me);
        GroupStatus {
            name: name.to_owned(),
            me: self.me,
            state: match (raft.is_leader, raft.is_candidate) {
                (true, _) => GroupState::Leader,
                (false, true) => GroupState::Candidate,
                (false, false) => GroupState::Follower,
            },
            size: raft.membership.voter_count(),
            quorum: raft.membership.quorum(),
            is_observer: raft.is_amnesiac,
            committed: raft.commit,
            applied: raft.applied,
            is_catching_up: raft.leader.is_some() && !raft.is_current,
            leader: raft.leader,
            leader_since: None,
            ever_had_leader: raft.had_leader,
            term: raft.term,
            voted_for: None,
            last_term: raft.last_term,
            last_index: raft.last,
            first_index: raft.applied.min(raft.last) + 1,
            write_error: None,
            peers: peers
                .map(|peer| GroupPeer {
                    peer,
                    name: self.name_of(peer).unwrap_or_default(),
                    matched: (self.progress)(peer).filter(|_| raft.is_leader).map(|p| p.matched),
                    silence: self.view(peer).and_then(|view| view.silence),
                })
                .collect(),
        }
    }

    /// The status of a member. What only the owner knows is for it to add: what waits, checkpoints, errors, since when
    /// the leader leads, whom the replica voted for, where the log begins.
    pub(crate) fn status(&self) -> MetaStatus {
        let raft = self.raft;
        let members = raft.membership.members().iter();
        let shown = members.filter(|member| raft.leader.is_none() || member.peer != self.me);
        let mut peers: Vec<MetaPeer> =
            shown.map(|member| self.member(member.peer, member.role == Role::Voter)).collect();
        peers.sort_by(|a, b| a.name.cmp(&b.name));
        let hears_leader = raft.is_leader
            || raft.leader.and_then(|leader| self.view(leader)).is_some_and(|view| view.is_reachable);
        MetaStatus {
            cluster: self.cluster.to_owned(),
            phase: MetaPhase::Member,
            hears_somebody: self.peers.iter().any(|view| view.is_reachable),
            leader: raft.leader.map(|peer| MetaLeader {
                name: self.name_of(peer).unwrap_or_else(|| unknown_name(peer)),
                peer,
            }),
            is_leader: raft.is_leader,
            is_current: raft.is_current && hears_leader && !raft.is_amnesiac,
            peers,
            size: raft.membership.voter_count(),
            quorum: raft.rescue_quorum.unwrap_or_else(|| raft.membership.quorum()),
            is_rescued: raft.rescue_quorum.is_some(),
            raft: Some(self.group("_meta_")),
            ..MetaStatus::default()
        }
    }
}

#[cfg(test)]
mod tests;
