//! What groups with several replicas need of a pump: their mail to others, reads of the log, leading and following.

use std::collections::BTreeSet;
use std::sync::Arc;

use linnet_ids::{GroupId, Mono, PeerId};
use linnet_raft::{Entry, Fault, LogPoint, MemberProgress, Snapshot, Standing, Status};
use linnet_replication::raft::{Outbox as RaftOutbox, PeerChange};
use linnet_replication::transfer::Sources;
use linnet_replication::{Incoming, ReplicaRequest, StreamGroup, Touched};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{GroupKey, Pump};
use crate::cluster::FrameSender;

/// Entries of a group that were read for one of its members.
pub(crate) struct EntriesRead {
    pub(crate) group: GroupId,
    pub(crate) peer: PeerId,
    /// The place before the first.
    pub(crate) previous: LogPoint,
    pub(crate) entries: Vec<Entry>,
}

/// How a replica stands, and its members as far as it knows them.
pub(crate) struct ReplicaReport {
    pub(crate) status: Status,
    /// The life of this replica.
    pub(crate) incarnation: u64,
    pub(crate) progress: Vec<(PeerId, Option<MemberProgress>)>,
}

impl ReplicaReport {
    pub(crate) fn of(group: &StreamGroup) -> Option<Self> {
        let status = group.status()?;
        let incarnation = group.incarnation()?;
        let members = status.membership.members().iter().map(|member| member.peer);
        let progress = members.map(|peer| (peer, group.progress(peer))).collect();
        Some(Self { status, incarnation, progress })
    }
}

/// Who is told what replicas cannot do themselves. It is called on the pump's thread and returns at once.
pub(crate) trait ReplicaObserver: Send + Sync {
    /// The standing or the members of a group changed.
    fn changed(&self, group: GroupId, leads: bool);
    /// A member needs the state of a group, pinned in `source`.
    fn state_wanted(&self, group: GroupId, peer: PeerId);
    /// A group met damaged messages.
    fn damaged(&self, group: GroupId);
    /// A leader offers the state of a group.
    fn state_offered(&self, group: GroupId, snapshot: Snapshot);
}

/// A pump's part in the cluster.
pub(crate) struct Replicas {
    outbox: RaftOutbox,
    /// Servers that can be heard: what a group is told that begins.
    pub(super) reachable: BTreeSet<PeerId>,
    sender: FrameSender,
    observer: Arc<dyn ReplicaObserver>,
    sources: Arc<Mutex<Sources>>,
}

impl Replicas {
    pub(crate) fn new(
        sender: FrameSender,
        observer: Arc<dyn ReplicaObserver>,
        sources: Arc<Mutex<Sources>>,
    ) -> Self {
        Self { outbox: RaftOutbox::default(), reachable: BTreeSet::new(), sender, observer, sources }
    }

    /// True while the state of a group is on its way to another server: a checkpoint would end the log behind it.
    pub(super) fn is_sending(&self, group: GroupId) -> bool {
        self.sources.lock().is_sending(group)
    }

    /// Remembers who can be heard.
    pub(super) fn note_peers(&mut self, incoming: &[Incoming]) {
        for incoming in incoming {
            let Incoming::Peer(change) = incoming else { continue };
            match change {
                PeerChange::Reachable(peer) => {
                    self.reachable.insert(*peer);
                }
                PeerChange::Unreachable(peer) => {
                    self.reachable.remove(peer);
                }
                PeerChange::Restarted(peer) => self.sources.lock().release_peer(*peer),
                PeerChange::Lossy(_) => {}
            }
        }
    }

    /// Sends what gathered in this pass.
    pub(super) fn send(&mut self) {
        self.sender.send(&mut self.outbox);
    }
}

impl Pump {
    /// Gives groups what was read for them.
    pub(super) fn take_entries(&mut self, read: Vec<EntriesRead>, now: Mono, touched: &mut Touched) {
        for EntriesRead { group, peer, previous, entries } in read {
            let Some(key) = self.by_group.get(&group).copied() else { continue };
            self.guarded(key, |slot, _, log| slot.group.entries_read(now, peer, previous, entries, log));
            touched.add(key);
        }
    }

    /// Says how a group stands.
    pub(super) fn report(&self, key: GroupKey, done: oneshot::Sender<Option<ReplicaReport>>) {
        let slot = self.groups.get(&key).filter(|slot| slot.failed.is_none());
        let _ = done.send(slot.and_then(|slot| ReplicaReport::of(&slot.group)));
    }

    /// Tells of damage that a replica met.
    pub(super) fn note_damage(&mut self, key: GroupKey) {
        let (Some(replicas), Some(slot)) = (&self.replicas, self.groups.get_mut(&key)) else { return };
        if slot.group.stream_mut().store_mut().take_new_damage() {
            replicas.observer.damaged(slot.group.group());
        }
    }

    /// After a turn: takes what a replica has to send, and does what it asks for.
    pub(super) fn serve_replica(&mut self, key: GroupKey) {
        let (Some(replicas), Some(slot)) = (&mut self.replicas, self.groups.get_mut(&key)) else { return };
        let Some(outbox) = slot.group.outbox() else { return };
        replicas.outbox.append(outbox);
        if !slot.group.is_held() {
            slot.services.keep_up(&slot.group, &slot.account, &slot.inbox);
        }
        if let Some(bearing) = slot.group.bearing()
            && let Some(state) = slot.follower.look(&bearing, self.clock.mono())
        {
            slot.cell.publish_replica(state);
        }
        let group = slot.group.group();
        for request in slot.group.take_requests() {
            match request {
                ReplicaRequest::ReadEntries { peer, from, bytes_max } => {
                    self.log.read_entries(group, peer, from, bytes_max, self.handle.clone());
                }
                ReplicaRequest::SendState(peer) => replicas.observer.state_wanted(group, peer),
                ReplicaRequest::TakeState(snapshot) => replicas.observer.state_offered(group, snapshot),
                ReplicaRequest::Standing(standing) => {
                    let leads = matches!(standing, Standing::Leading(_));
                    slot.services.sync(&slot.group, &slot.account, &slot.inbox);
                    replicas.observer.changed(group, leads);
                    // What came for a leader is to be refused now, or judged.
                    self.handle.schedule(key);
                }
                ReplicaRequest::Members(_) => {
                    replicas.observer.changed(group, slot.group.stream().is_leading());
                }
                ReplicaRequest::Peers => {
                    let now = self.clock.mono();
                    for peer in &replicas.reachable {
                        slot.group.on_peer(now, PeerChange::Reachable(*peer), &mut self.log);
                    }
                    self.handle.schedule(key);
                }
                ReplicaRequest::Halted(fault) => {
                    let stream = &slot.group.stream().config().name;
                    tracing::error!("Stream '{} > {stream}' stopped: {fault}", slot.account.name());
                    slot.cell.fail(&fault.to_string());
                    if let Fault::OtherHistory(_) = fault {
                        slot.cell.note_other_history();
                    }
                    replicas.observer.changed(group, false);
                }
            }
        }
    }
}
