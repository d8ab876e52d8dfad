use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use linnet_ids::{GroupId, LogIndex, Mono, PeerId, Term};
use linnet_raft::{
    Change, Effect, Entry, Fault, HardState, LogPoint, Membership, Message, Node, NotRescued, Opening,
    Refused, Snapshot, Standing, Status, WriteNo, is_reserved,
};

use super::outbox::Outbox;
use crate::log::{Log, Ticket};

/// An entry to apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place.
    pub index: LogIndex,
    /// Its term.
    pub term: Term,
    /// Its bytes; `None` if it belongs to consensus and the state machine only moves on.
    pub payload: Option<Bytes>,
}

/// What the state machine has to know or to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RaftEvent {
    /// The standing of this replica changed.
    Standing(Standing),
    /// The members changed.
    Members(Membership),
    /// Read entries from the log, then call [`RaftDriver::on_read`].
    ReadEntries {
        /// For whom.
        peer: PeerId,
        /// First index.
        from: LogIndex,
        /// Bytes that are enough.
        bytes_max: usize,
    },
    /// A peer needs a state: call [`RaftDriver::send_snapshot`].
    SnapshotWanted(PeerId),
    /// A leader offers a state: put it in place, then call [`RaftDriver::install`].
    SnapshotOffered(Snapshot),
    /// Reads up to `number` may be served once `index` is applied.
    ReadsConfirmed {
        /// Number of the last one.
        number: u64,
        /// What must be applied first.
        index: LogIndex,
    },
    /// Reads that were not confirmed will not be.
    ReadsDropped,
    /// This replica counts for nothing until it is re-admitted.
    Amnesiac,
    /// It was re-admitted.
    Remembers,
    /// It takes no part any more.
    Halted(Fault),
}

/// A node over the log of this server.
pub struct RaftDriver {
    node: Node,
    effects: Vec<Effect>,
    /// What the node has written, by the batch of the log that holds it.
    writes: VecDeque<(Ticket, WriteNo)>,
    /// The latest of those batches.
    latest: Ticket,
    /// Committed entries that were not handed out yet begin here.
    next: LogIndex,
    committed: LogIndex,
    events: Vec<RaftEvent>,
    /// Body of the checkpoint that goes with a state that is being installed.
    installing: Vec<u8>,
}

impl RaftDriver {
    /// Opens a node. Everything behind the opening's base that is not applied must be held by it.
    pub fn open(opening: Opening, now: Mono, log: &mut dyn Log, outbox: &mut Outbox) -> Self {
        let mut effects = Vec::new();
        let base = opening.base.index;
        let node = Node::open(opening, now, &mut effects);
        let mut driver = Self {
            node,
            effects,
            writes: VecDeque::new(),
            latest: 0,
            next: base + 1,
            committed: base,
            events: Vec::new(),
            installing: Vec::new(),
        };
        driver.carry_out(log, outbox);
        driver
    }

    /// Lets the node act, then carries out what it wants.
    fn act<R>(
        &mut self,
        log: &mut dyn Log,
        outbox: &mut Outbox,
        act: impl FnOnce(&mut Node, &mut Vec<Effect>) -> R,
    ) -> R {
        let result = act(&mut self.node, &mut self.effects);
        self.carry_out(log, outbox);
        result
    }

    fn carry_out(&mut self, log: &mut dyn Log, outbox: &mut Outbox) {
        let group = self.node.group();
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Append { index, entry, state, write } => {
                    let ticket = match state {
                        None => log.append(group, index, entry.term, &entry.payload),
                        Some(state) => {
                            log.append_with_state(group, index, entry.term, &entry.payload, &stored(&state))
                        }
                    };
                    self.wrote(ticket, write);
                }
                Effect::HardState { state, write } => {
                    let ticket = log.hard_state(group, &stored(&state));
                    self.wrote(ticket, write);
                }
                Effect::Install { last, state, write } => {
                    let ticket = log.install(group, last, &self.installing, &stored(&state));
                    self.wrote(ticket, write);
                    (self.next, self.committed) = (last.index + 1, last.index);
                }
                Effect::Send(message) => outbox.send(group, message),
                Effect::Committed(index) => self.committed = self.committed.max(index),
                Effect::Standing(standing) => self.events.push(RaftEvent::Standing(standing)),
                Effect::Members(members) => self.events.push(RaftEvent::Members(members)),
                Effect::Read { peer, from, bytes_max } => {
                    self.events.push(RaftEvent::ReadEntries { peer, from, bytes_max });
                }
                Effect::SnapshotWanted { peer } => self.events.push(RaftEvent::SnapshotWanted(peer)),
                Effect::SnapshotOffered(snapshot) => self.events.push(RaftEvent::SnapshotOffered(snapshot)),
                Effect::ReadsConfirmed { number, index } => {
                    self.events.push(RaftEvent::ReadsConfirmed { number, index });
                }
                Effect::ReadsDropped => self.events.push(RaftEvent::ReadsDropped),
                Effect::Amnesiac => self.events.push(RaftEvent::Amnesiac),
                Effect::Remembers => self.events.push(RaftEvent::Remembers),
                Effect::Halted(fault) => self.events.push(RaftEvent::Halted(fault)),
            }
        }
        self.effects = effects;
    }

    /// Takes a message.
    pub fn on_message(&mut self, now: Mono, message: Message, log: &mut dyn Log, outbox: &mut Outbox) {
        self.act(log, outbox, |node, out| node.on_message(now, message, out));
    }

    /// The log is durable up to this batch.
    pub fn on_durable(&mut self, now: Mono, ticket: Ticket, log: &mut dyn Log, outbox: &mut Outbox) {
        let mut durable = None;
        while let Some((_, write)) = self.writes.pop_front_if(|(t, _)| *t <= ticket) {
            durable = Some(write);
        }
        if let Some(write) = durable {
            self.act(log, outbox, |node, out| node.on_durable(now, write, out));
        }
    }

    fn wrote(&mut self, ticket: Ticket, write: WriteNo) {
        self.writes.push_back((ticket, write));
        self.latest = self.latest.max(ticket);
    }

    /// The last batch that this replica waits for.
    pub fn waits_for(&self) -> Option<Ticket> {
        (!self.writes.is_empty()).then_some(self.latest)
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Mono, log: &mut dyn Log, outbox: &mut Outbox) {
        self.act(log, outbox, |node, out| node.on_timeout(now, out));
    }

    /// When it wants to be called next.
    pub fn next_timeout(&self) -> Option<Mono> {
        self.node.next_timeout()
    }

    /// A server can be heard or cannot.
    pub fn set_reachable(
        &mut self,
        now: Mono,
        peer: PeerId,
        is_reachable: bool,
        log: &mut dyn Log,
        outbox: &mut Outbox,
    ) {
        self.act(log, outbox, |node, out| node.set_reachable(now, peer, is_reachable, out));
    }

    /// A server began anew.
    pub fn on_restarted(&mut self, now: Mono, peer: PeerId, log: &mut dyn Log, outbox: &mut Outbox) {
        self.act(log, outbox, |node, out| node.on_restarted(now, peer, out));
    }

    /// Messages to or from a server may have been lost.
    pub fn on_loss(&mut self, peer: PeerId) {
        self.node.on_loss(peer);
    }

    /// Gives up what this replica promised: [`Node::give_up`].
    pub fn give_up(&mut self, now: Mono, log: &mut dyn Log, outbox: &mut Outbox) -> bool {
        self.act(log, outbox, |node, out| node.give_up(now, out))
    }

    /// The entries behind `index` that are in memory, committed or not, without those of consensus.
    pub fn rest_after(&self, index: LogIndex) -> Vec<Bytes> {
        let entries = (index + 1..).map_while(|index| self.node.entry(index));
        entries.filter(|entry| !is_reserved(&entry.payload)).map(|entry| entry.payload.clone()).collect()
    }

    /// Makes sure of who leads.
    pub fn verify(&mut self, log: &mut dyn Log, outbox: &mut Outbox) {
        self.act(log, outbox, |node, out| node.verify(out));
    }

    /// Appends entries. Index of the first.
    pub fn propose(
        &mut self,
        payloads: impl IntoIterator<Item = Bytes>,
        log: &mut dyn Log,
        outbox: &mut Outbox,
    ) -> Result<LogIndex, Refused> {
        self.act(log, outbox, |node, out| node.propose(payloads, out))
    }

    /// Proposes a step of the membership.
    pub fn change_membership(
        &mut self,
        now: Mono,
        change: Change,
        log: &mut dyn Log,
        outbox: &mut Outbox,
    ) -> Result<LogIndex, Refused> {
        self.act(log, outbox, |node, out| node.change_membership(now, change, out))
    }

    /// Allows the voters that can be heard to go on without the others; see [`Node::rescue`].
    pub fn rescue(
        &mut self,
        now: Mono,
        needed: usize,
        within: Duration,
        log: &mut dyn Log,
        outbox: &mut Outbox,
    ) -> Result<usize, NotRescued> {
        self.act(log, outbox, |node, out| node.rescue(now, needed, within, out))
    }

    /// Hands leadership over.
    pub fn transfer(&mut self, now: Mono, to: PeerId, within: Duration) -> Result<(), Refused> {
        self.node.transfer(now, to, within)
    }

    /// Others should lead if they can; see [`Node::set_reluctant`].
    pub fn set_reluctant(&mut self, is_reluctant: bool) {
        self.node.set_reluctant(is_reluctant);
    }

    /// Asks for a confirmation that this replica still leads.
    pub fn read(&mut self, number: u64, log: &mut dyn Log, outbox: &mut Outbox) -> Result<(), Refused> {
        self.act(log, outbox, |node, out| node.read(number, out))
    }

    /// Sends what has gathered: at the end of a pass.
    pub fn flush(&mut self, now: Mono, log: &mut dyn Log, outbox: &mut Outbox) {
        self.act(log, outbox, |node, out| node.flush(now, out));
    }

    /// The next entry to apply; then [`RaftDriver::applied`].
    pub fn next_committed(&mut self) -> Option<Committed> {
        if self.next > self.committed {
            return None;
        }
        let index = self.next;
        let entry = self.node.entry(index)?;
        let payload = (!is_reserved(&entry.payload)).then(|| entry.payload.clone());
        let committed = Committed { index, term: entry.term, payload };
        self.next += 1;
        Some(committed)
    }

    /// Everything handed out up to here is applied.
    pub fn applied(&mut self, index: LogIndex, log: &mut dyn Log, outbox: &mut Outbox) {
        self.act(log, outbox, |node, out| node.on_applied(index, out));
    }

    /// What happened since the last call, in order.
    pub fn take_events(&mut self) -> Vec<RaftEvent> {
        std::mem::take(&mut self.events)
    }

    /// Entries that were asked for; `previous` is the place before them.
    pub fn on_read(
        &mut self,
        now: Mono,
        peer: PeerId,
        previous: LogPoint,
        entries: Vec<Entry>,
        log: &mut dyn Log,
        outbox: &mut Outbox,
    ) {
        self.act(log, outbox, |node, out| node.on_read(now, peer, previous, entries, out));
    }

    /// The state that a peer needs; `None` if there is none now.
    pub fn send_snapshot(
        &mut self,
        now: Mono,
        peer: PeerId,
        snapshot: Option<Snapshot>,
        log: &mut dyn Log,
        outbox: &mut Outbox,
    ) {
        self.act(log, outbox, |node, out| match snapshot {
            Some(snapshot) => node.send_snapshot(now, peer, snapshot, out),
            None => node.snapshot_failed(now, peer),
        });
    }

    /// Goes on behind a state that a leader offered, if that is still wanted. `body` is what the log's checkpoint says
    /// of it. The state must be durable by the time the log's next batch is.
    pub fn install(
        &mut self,
        now: Mono,
        snapshot: &Snapshot,
        body: Vec<u8>,
        log: &mut dyn Log,
        outbox: &mut Outbox,
    ) -> bool {
        self.installing = body;
        let done = self.act(log, outbox, |node, out| node.install(now, snapshot, out));
        self.installing = Vec::new();
        done
    }

    /// Records in the log that everything up to `to` is in a checkpoint.
    pub fn checkpoint(&mut self, to: LogPoint, body: &[u8], log: &mut dyn Log) -> Ticket {
        let ticket = log.checkpoint(self.node.group(), to.index, to.term, body);
        self.node.compact(to);
        ticket
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The node, for what writes and sends nothing.
    pub fn node_mut(&mut self) -> &mut Node {
        &mut self.node
    }

    /// What it shows of itself.
    pub fn status(&self) -> Status {
        self.node.status()
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.node.group()
    }
}

fn stored(state: &HardState) -> linnet_wal::HardState {
    linnet_wal::HardState {
        term: state.term,
        vote: state.vote.map(linnet_raft::Replica::to_bytes),
        incarnation: state.incarnation,
        membership: state.record(),
    }
}
