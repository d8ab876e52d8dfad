//! How a group with several voters makes entries certain: a majority has them.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use linnet_assets::{Owner, Proposal, Waiter};
use linnet_ids::{GroupId, LogIndex, Mono, PeerId};
use linnet_raft::{
    Entry, Fault, LogPoint, Membership, Message, NotRescued, Opening, Refused, Snapshot, Standing,
};
use linnet_wal::HardState;

use crate::log::{Log, Ticket};
use crate::raft::{Committed, Outbox, PeerChange, RaftDriver, RaftEvent};

/// Bytes of applied entries that a group in memory keeps for members that are behind.
const VOLATILE_HELD_MAX: usize = 16 << 20;

/// What a replica needs done by whoever has the log, the disk and the other servers.
#[derive(Debug)]
pub enum ReplicaRequest {
    /// Read entries from the log, then call [`StreamGroup::entries_read`](crate::StreamGroup::entries_read).
    ReadEntries {
        /// For whom.
        peer: PeerId,
        /// First index.
        from: LogIndex,
        /// Bytes that are enough.
        bytes_max: usize,
    },
    /// A peer needs the state: it is pinned and described.
    SendState(PeerId),
    /// A leader offers its state.
    TakeState(Snapshot),
    /// This replica leads, follows, or knows no leader.
    Standing(Standing),
    /// The members changed.
    Members(Membership),
    /// It takes no part any more.
    Halted(Fault),
    /// It has just become a replica: tell it which servers can be heard.
    Peers,
}

/// A proposal of this leader that is not committed.
struct Pending {
    index: LogIndex,
    bytes: usize,
    waiter: Waiter,
}

/// The end of a checkpoint, and the members there.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) last: LogPoint,
    pub(crate) membership: Membership,
    pub(crate) since: LogIndex,
}

/// One voter among several, or a learner.
pub(crate) struct Replica {
    driver: RaftDriver,
    /// Whose the group is, for its first leader to write down.
    owner: Option<Owner>,
    outbox: Outbox,
    /// What could not be proposed yet.
    held: VecDeque<Proposal>,
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    requests: Vec<ReplicaRequest>,
    standing: Standing,
    /// The last ticket that somebody was asked to wait for.
    told: Ticket,
    /// The log is durable up to here.
    durable: Ticket,
    /// Entries stay in memory: the log only has terms, votes and members.
    is_volatile: bool,
}

impl Replica {
    /// Opens a replica.
    pub(crate) fn open(
        opening: Opening,
        owner: Option<Owner>,
        is_volatile: bool,
        now: Mono,
        log: &mut dyn Log,
    ) -> Self {
        let mut outbox = Outbox::default();
        let mut opening = opening;
        if is_volatile {
            // What is not in memory any more cannot be read again.
            opening.held_bytes_max = opening.held_bytes_max.max(VOLATILE_HELD_MAX);
        }
        let driver = match is_volatile {
            false => RaftDriver::open(opening, now, log, &mut outbox),
            true => RaftDriver::open(opening, now, &mut VolatileLog(log), &mut outbox),
        };
        Self {
            driver,
            owner,
            outbox,
            held: VecDeque::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            requests: Vec::new(),
            standing: Standing::Leaderless,
            told: 0,
            durable: 0,
            is_volatile,
        }
    }

    /// Asks to be told which servers can be heard.
    pub(crate) fn ask_for_peers(&mut self) {
        self.requests.push(ReplicaRequest::Peers);
    }

    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.owner.as_ref()
    }

    pub(crate) fn driver(&self) -> &RaftDriver {
        &self.driver
    }

    /// Lets the driver act on the log that this replica has.
    fn act<R>(
        &mut self,
        log: &mut dyn Log,
        act: impl FnOnce(&mut RaftDriver, &mut dyn Log, &mut Outbox) -> R,
    ) -> R {
        match self.is_volatile {
            false => act(&mut self.driver, log, &mut self.outbox),
            true => act(&mut self.driver, &mut VolatileLog(log), &mut self.outbox),
        }
    }

    pub(crate) fn on_message(&mut self, now: Mono, message: Message, log: &mut dyn Log) {
        self.act(log, |driver, log, outbox| driver.on_message(now, message, log, outbox));
    }

    pub(crate) fn on_timeout(&mut self, now: Mono, log: &mut dyn Log) {
        if self.driver.next_timeout().is_some_and(|at| at <= now) {
            self.act(log, |driver, log, outbox| driver.on_timeout(now, log, outbox));
        }
    }

    pub(crate) fn on_durable(&mut self, now: Mono, ticket: Ticket, log: &mut dyn Log) {
        self.durable = self.durable.max(ticket);
        let durable = self.durable;
        self.act(log, |driver, log, outbox| driver.on_durable(now, durable, log, outbox));
    }

    pub(crate) fn give_up_promises(&mut self, now: Mono, log: &mut dyn Log) -> bool {
        self.act(log, |driver, log, outbox| driver.give_up(now, log, outbox))
    }

    /// What a group in memory has written is durable without waiting.
    pub(crate) fn settle(&mut self, now: Mono, log: &mut dyn Log) {
        if self.is_volatile {
            self.on_durable(now, AT_ONCE, log);
        }
    }

    /// Whether a server of the group can be heard.
    pub(crate) fn on_peer(&mut self, now: Mono, change: PeerChange, log: &mut dyn Log) {
        self.act(log, |driver, log, outbox| match change {
            PeerChange::Reachable(peer) => driver.set_reachable(now, peer, true, log, outbox),
            PeerChange::Unreachable(peer) => driver.set_reachable(now, peer, false, log, outbox),
            PeerChange::Restarted(peer) => driver.on_restarted(now, peer, log, outbox),
            PeerChange::Lossy(peer) => driver.on_loss(peer),
        });
    }

    pub(crate) fn on_read(
        &mut self,
        now: Mono,
        peer: PeerId,
        previous: LogPoint,
        entries: Vec<Entry>,
        log: &mut dyn Log,
    ) {
        self.act(log, |driver, log, outbox| driver.on_read(now, peer, previous, entries, log, outbox));
    }

    pub(crate) fn send_snapshot(
        &mut self,
        now: Mono,
        peer: PeerId,
        snapshot: Option<Snapshot>,
        log: &mut dyn Log,
    ) {
        self.act(log, |driver, log, outbox| driver.send_snapshot(now, peer, snapshot, log, outbox));
    }

    /// False if the state is not wanted any more.
    pub(crate) fn install(
        &mut self,
        now: Mono,
        snapshot: &Snapshot,
        body: Vec<u8>,
        log: &mut dyn Log,
    ) -> bool {
        self.act(log, |driver, log, outbox| driver.install(now, snapshot, body, log, outbox))
    }

    pub(crate) fn transfer(&mut self, now: Mono, to: PeerId, within: Duration) -> Result<(), Refused> {
        self.driver.transfer(now, to, within)
    }

    pub(crate) fn set_reluctant(&mut self, is_reluctant: bool) {
        self.driver.set_reluctant(is_reluctant);
    }

    pub(crate) fn rescue(
        &mut self,
        now: Mono,
        needed: usize,
        within: Duration,
        log: &mut dyn Log,
    ) -> Result<usize, NotRescued> {
        self.act(log, |driver, log, outbox| driver.rescue(now, needed, within, log, outbox))
    }

    pub(crate) fn change_membership(
        &mut self,
        now: Mono,
        change: linnet_raft::Change,
        log: &mut dyn Log,
    ) -> Result<LogIndex, Refused> {
        self.act(log, |driver, log, outbox| driver.change_membership(now, change, log, outbox))
    }

    /// Proposes entries, those first that had to wait.
    pub(crate) fn propose(&mut self, proposals: Vec<Proposal>, log: &mut dyn Log) {
        self.held.extend(proposals);
        while let Some(first) = self.held.front_mut().filter(|_| self.driver.node().may_propose()) {
            let bytes = Bytes::from(std::mem::take(&mut first.bytes));
            let len = bytes.len();
            let waiter = std::mem::take(&mut first.waiter);
            self.held.pop_front();
            // What may be proposed is not refused, and streams' entries do not look like those of consensus.
            if let Ok(index) = self.act(log, |driver, log, outbox| driver.propose([bytes], log, outbox)) {
                self.pending_bytes += len;
                self.pending.push_back(Pending { index, bytes: len, waiter });
            }
        }
    }

    /// True while more may be decided.
    pub(crate) fn has_room(&self) -> bool {
        self.held.is_empty() && self.driver.node().may_propose()
    }

    /// Bytes that wait for a majority.
    pub(crate) fn in_flight(&self) -> usize {
        self.pending_bytes
    }

    /// True if something that was decided here waits.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || !self.held.is_empty()
    }

    /// The next entry to apply.
    pub(crate) fn next_committed(&mut self) -> Option<Committed> {
        self.driver.next_committed()
    }

    /// Who waits here for an entry that this replica has decided as the leader of its term.
    pub(crate) fn take_waiter(&mut self, index: LogIndex) -> Waiter {
        let mut waiter = Waiter::default();
        while let Some(pending) = self.pending.pop_front_if(|p| p.index <= index) {
            self.pending_bytes -= pending.bytes;
            if pending.index == index {
                waiter = pending.waiter;
            }
        }
        waiter
    }

    pub(crate) fn applied(&mut self, index: LogIndex, log: &mut dyn Log) {
        self.act(log, |driver, log, outbox| driver.applied(index, log, outbox));
    }

    pub(crate) fn flush(&mut self, now: Mono, log: &mut dyn Log) {
        self.act(log, |driver, log, outbox| driver.flush(now, log, outbox));
    }

    /// What happened; what others have to do is noted.
    pub(crate) fn take_standings(&mut self) -> Vec<Standing> {
        let mut standings = Vec::new();
        for event in self.driver.take_events() {
            match event {
                RaftEvent::Standing(standing) => {
                    self.standing = standing;
                    standings.push(standing);
                }
                RaftEvent::Members(members) => self.requests.push(ReplicaRequest::Members(members)),
                RaftEvent::ReadEntries { peer, from, bytes_max } => {
                    self.requests.push(ReplicaRequest::ReadEntries { peer, from, bytes_max });
                }
                RaftEvent::SnapshotWanted(peer) => self.requests.push(ReplicaRequest::SendState(peer)),
                RaftEvent::SnapshotOffered(snapshot) => {
                    self.requests.push(ReplicaRequest::TakeState(snapshot));
                }
                RaftEvent::Halted(fault) => self.requests.push(ReplicaRequest::Halted(fault)),
                RaftEvent::ReadsConfirmed { .. }
                | RaftEvent::ReadsDropped
                | RaftEvent::Amnesiac
                | RaftEvent::Remembers => {}
            }
        }
        standings
    }

    /// Has others told how this replica stands.
    pub(crate) fn tell_standing(&mut self, standing: Standing) {
        self.requests.push(ReplicaRequest::Standing(standing));
    }

    /// Everybody here who waits for an entry that others may commit or drop.
    pub(crate) fn give_up(&mut self) -> impl Iterator<Item = Waiter> {
        self.pending_bytes = 0;
        let held = std::mem::take(&mut self.held).into_iter().map(|p| p.waiter);
        std::mem::take(&mut self.pending).into_iter().map(|p| p.waiter).chain(held)
    }

    /// A batch of the log to wait for, if it was not told yet.
    pub(crate) fn take_ticket(&mut self) -> Option<Ticket> {
        let ticket = self.driver.waits_for().filter(|ticket| *ticket > self.told)?;
        self.told = ticket;
        Some(ticket)
    }

    pub(crate) fn next_timeout(&self) -> Option<Mono> {
        self.driver.next_timeout()
    }

    pub(crate) fn take_requests(&mut self) -> Vec<ReplicaRequest> {
        std::mem::take(&mut self.requests)
    }

    pub(crate) fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Nobody else counts in the group.
    pub(crate) fn is_only_voter(&self) -> bool {
        self.driver.node().is_only_voter()
    }

    /// The place of an applied entry, and the members there ([`Node::members_at`]); `None` if the log does not reach back
    /// to it.
    pub(crate) fn saved_at(&self, index: LogIndex) -> Option<Saved> {
        let last = self.driver.node().point(index)?;
        let (since, membership) = self.driver.node().members_at(index);
        Some(Saved { last, membership: membership.clone(), since })
    }

    /// Records that everything up to a place is in a checkpoint.
    pub(crate) fn checkpoint(&mut self, last: LogPoint, body: &[u8], log: &mut dyn Log) -> Ticket {
        match self.is_volatile {
            false => self.driver.checkpoint(last, body, log),
            true => self.driver.checkpoint(last, body, &mut VolatileLog(log)),
        }
    }
}

/// The log of a group whose entries live in memory: terms, votes and members are written, entries are not.
struct VolatileLog<'a>(&'a mut dyn Log);

/// What is as durable as it gets.
const AT_ONCE: Ticket = 0;

impl Log for VolatileLog<'_> {
    fn append(&mut self, _: GroupId, _: u64, _: u64, _: &[u8]) -> Ticket {
        AT_ONCE
    }

    fn hard_state(&mut self, group: GroupId, state: &HardState) -> Ticket {
        self.0.hard_state(group, state)
    }

    fn checkpoint(&mut self, _: GroupId, _: u64, _: u64, _: &[u8]) -> Ticket {
        AT_ONCE
    }

    fn append_with_state(&mut self, group: GroupId, _: u64, _: u64, _: &[u8], state: &HardState) -> Ticket {
        self.0.hard_state(group, state)
    }

    fn install(&mut self, group: GroupId, _: LogPoint, _: &[u8], state: &HardState) -> Ticket {
        self.0.hard_state(group, state)
    }

    fn end_group(&mut self, group: GroupId) -> Ticket {
        self.0.end_group(group)
    }
}
