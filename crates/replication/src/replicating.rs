//! The part of a group that has several replicas: proposing, applying what a majority has, leading and following.

use std::time::Duration;

use linnet_assets::{EntryError, Moment, Nobody, Output, Waiter};
use linnet_ids::{LogIndex, Mono, PeerId, Term};
use linnet_jsapi::errors;
use linnet_raft::{
    Bearing, Change, Entry, LogPoint, MemberProgress, Message, NotRescued, Refused, Snapshot, Standing,
    Status,
};

use crate::group::{LogPosition, Seat, StreamGroup, answer_all};
use crate::log::{Log, Ticket};
use crate::raft::{Outbox, PeerChange};
use crate::replica::{Replica, ReplicaRequest};

impl StreamGroup {
    pub(crate) fn replica_mut(&mut self) -> Option<&mut Replica> {
        match &mut self.seat {
            Seat::Solo(_) => None,
            Seat::Replica(replica) => Some(replica),
        }
    }

    pub(crate) fn replica_ref(&self) -> Option<&Replica> {
        match &self.seat {
            Seat::Solo(_) => None,
            Seat::Replica(replica) => Some(replica),
        }
    }

    /// The life of this replica; `None` for a group with one voter.
    pub fn incarnation(&self) -> Option<u64> {
        self.replica_ref().map(|replica| replica.driver().node().incarnation())
    }

    /// True if it has several replicas, or may have.
    pub fn is_replica(&self) -> bool {
        self.replica_ref().is_some()
    }

    /// What the replica shows of itself; `None` for a group with one voter.
    pub fn status(&self) -> Option<Status> {
        self.replica_ref().map(|replica| replica.driver().status())
    }

    /// True if it may answer for what is committed: it leads, or it has what it knows to be committed, and has lost
    /// nothing of it.
    pub fn may_answer(&self) -> bool {
        let is_current = || self.replica_ref().is_some_and(|replica| replica.driver().node().is_current());
        self.stream.is_leading() || (is_current() && !self.stream.store().awaits_lost())
    }

    /// How far the replica is; `None` for a group with one voter.
    pub fn bearing(&self) -> Option<Bearing> {
        self.replica_ref().map(|replica| replica.driver().node().bearing())
    }

    /// What this replica, if it leads, knows of a member.
    pub fn progress(&self, peer: PeerId) -> Option<MemberProgress> {
        self.replica_ref()?.driver().node().progress(peer)
    }

    /// Takes a message of another replica. [`StreamGroup::flush`] afterwards, as after the other inputs.
    pub fn on_message(&mut self, now: Mono, message: Message, log: &mut dyn Log) {
        if let Some(replica) = self.replica_mut() {
            replica.on_message(now, message, log);
        }
    }

    /// Whether another server can be heard.
    pub fn on_peer(&mut self, now: Mono, change: PeerChange, log: &mut dyn Log) {
        if let Some(replica) = self.replica_mut() {
            replica.on_peer(now, change, log);
        }
    }

    /// Entries that were asked for; `previous` is the place before them.
    pub fn entries_read(
        &mut self,
        now: Mono,
        peer: PeerId,
        previous: LogPoint,
        entries: Vec<Entry>,
        log: &mut dyn Log,
    ) {
        if let Some(replica) = self.replica_mut() {
            replica.on_read(now, peer, previous, entries, log);
        }
    }

    /// The state that a peer needs; `None` if there is none now.
    pub fn send_snapshot(&mut self, now: Mono, peer: PeerId, snapshot: Option<Snapshot>, log: &mut dyn Log) {
        if let Some(replica) = self.replica_mut() {
            replica.send_snapshot(now, peer, snapshot, log);
        }
    }

    /// A snapshot of everything applied, with the given description of the state.
    pub fn snapshot_of_applied(&self, body: bytes::Bytes) -> Option<Snapshot> {
        let saved = self.replica_ref()?.saved_at(self.applied.index)?;
        Some(Snapshot { last: saved.last, membership: saved.membership, since: saved.since, body })
    }

    /// Hands leadership to another voter. What is decided until now becomes part of the log before that.
    pub fn transfer(
        &mut self,
        now: Mono,
        to: PeerId,
        within: Duration,
        log: &mut dyn Log,
    ) -> Result<(), Refused> {
        let proposals = self.stream.take_proposals(now);
        let replica = self.replica_mut().ok_or(Refused::NotLeader)?;
        replica.propose(proposals, log);
        replica.transfer(now, to, within)
    }

    /// Others should lead if they can, or need not any more.
    pub fn set_reluctant(&mut self, is_reluctant: bool) {
        if let Some(replica) = self.replica_mut() {
            replica.set_reluctant(is_reluctant);
        }
    }

    /// Allows the voters that can be heard, `needed` at least, to go on without the others, if no leader shows up, for
    /// `within`. How many were needed before.
    pub fn rescue(
        &mut self,
        now: Mono,
        needed: usize,
        within: Duration,
        log: &mut dyn Log,
    ) -> Result<usize, NotRescued> {
        let replica = self.replica_mut().ok_or(NotRescued::NotVoter)?;
        replica.rescue(now, needed, within, log)
    }

    /// Proposes a step of the membership.
    pub fn change_membership(
        &mut self,
        now: Mono,
        change: Change,
        log: &mut dyn Log,
    ) -> Result<LogIndex, Refused> {
        let replica = self.replica_mut().ok_or(Refused::NotLeader)?;
        replica.change_membership(now, change, log)
    }

    /// What it needs done, in order.
    pub fn take_requests(&mut self) -> Vec<ReplicaRequest> {
        self.replica_mut().map(Replica::take_requests).unwrap_or_default()
    }

    /// What it has to send.
    pub fn outbox(&mut self) -> Option<&mut Outbox> {
        self.replica_mut().map(Replica::outbox)
    }

    /// One turn of a replica.
    pub(crate) fn replicate(
        &mut self,
        at: Moment,
        log: &mut dyn Log,
        out: &mut dyn Output,
    ) -> Result<Option<Ticket>, EntryError> {
        self.advance(at, log, out)?;
        let proposals = self.stream.take_proposals(at.now);
        if let Some(replica) = self.replica_mut() {
            replica.propose(proposals, log);
            replica.flush(at.now, log);
            replica.settle(at.now, log);
        }
        self.advance(at, log, out)?;
        let Some(replica) = self.replica_mut() else { return Ok(None) };
        replica.flush(at.now, log);
        Ok(replica.take_ticket())
    }

    /// Applies what is committed, and leads or follows as it was decided.
    pub(crate) fn advance(
        &mut self,
        at: Moment,
        log: &mut dyn Log,
        out: &mut dyn Output,
    ) -> Result<(), EntryError> {
        loop {
            let has_applied = self.apply_committed(at, log, out)?;
            let standings = self.replica_mut().map(Replica::take_standings).unwrap_or_default();
            if standings.is_empty() && !has_applied {
                break;
            }
            for standing in standings {
                self.stand(standing, at, out);
            }
        }
        if let Some(standing) = self.leads_once_whole.filter(|_| !self.stream.store().awaits_lost()) {
            self.stand(standing, at, out);
        }
        Ok(())
    }

    fn apply_committed(
        &mut self,
        at: Moment,
        log: &mut dyn Log,
        out: &mut dyn Output,
    ) -> Result<bool, EntryError> {
        let mut has_applied = false;
        if self.is_still(at.now) {
            return Ok(false);
        }
        while let Some(committed) = self.replica_mut().and_then(Replica::next_committed) {
            has_applied = true;
            if self.stream.is_leading() {
                self.doubt_leading(committed.term, at, out);
            }
            let waiter = match self.stream.is_leading() {
                true => self.replica_mut().map(|r| r.take_waiter(committed.index)).unwrap_or_default(),
                false => Waiter::default(),
            };
            if let Some(payload) = &committed.payload {
                self.since_checkpoint += payload.len() as u64;
                if self.stream.is_leading() {
                    self.stream.apply_with(payload, &waiter, at, out)?;
                } else {
                    let at = Moment { live: false, ..at };
                    self.stream.apply_with(payload, &waiter, at, &mut Nobody)?;
                }
            }
            self.applied = LogPosition { index: committed.index, term: committed.term };
        }
        if has_applied {
            let applied = self.applied.index;
            if let Some(replica) = self.replica_mut() {
                replica.applied(applied, log);
            }
            if self.stream.is_leading() {
                self.stream.run_deferred(at, out);
            }
        }
        Ok(has_applied)
    }

    /// An entry of `term` is to be applied by a stream that leads, while the replica may not lead any more: what comes
    /// together, several entries and who leads now, is only told afterwards. An entry of its own term is its own, and whoever
    /// waits for it may know; one of another term stands where something else was decided here.
    fn doubt_leading(&mut self, term: Term, at: Moment, out: &mut dyn Output) {
        if self.leads_in != Some(term) {
            self.stop_leading(at, out);
        } else if self.replica_ref().is_some_and(|replica| !replica.driver().node().is_leading()) {
            // The next leader may have delivered these again, and they may be acknowledged.
            self.stream.drop_deliveries();
        }
    }

    fn stop_leading(&mut self, at: Moment, out: &mut dyn Output) {
        self.leads_in = None;
        let waiters = self.replica_mut().map(|r| r.give_up().collect()).unwrap_or_default();
        answer_all(waiters, &errors::CLUSTER_NOT_AVAIL, out);
        self.stream.follow(&errors::CLUSTER_NOT_AVAIL, at, out);
    }

    fn stand(&mut self, standing: Standing, at: Moment, out: &mut dyn Output) {
        let leads = matches!(standing, Standing::Leading(_));
        // What is lost here may be the newest message of a subject, or the next one of a consumer.
        self.leads_once_whole = Some(standing).filter(|_| leads && self.stream.store().awaits_lost());
        if self.leads_once_whole.is_some() {
            return;
        }
        match standing {
            Standing::Leading(term) => {
                if !self.stream.is_leading() {
                    self.begin_leading(at);
                }
                self.leads_in = Some(term);
            }
            _ if self.stream.is_leading() => self.stop_leading(at, out),
            _ => {}
        }
        if let Some(replica) = self.replica_mut() {
            replica.tell_standing(standing);
        }
    }

    fn begin_leading(&mut self, at: Moment) {
        self.stream.lead(at);
        self.is_held = false;
        let owner = self.replica_ref().and_then(|replica| replica.owner().cloned());
        if let Some(owner) = owner.filter(|_| self.stream.owner().is_none()) {
            self.stream.record_config();
            self.stream.record_owner(owner);
        }
        self.skip_lost();
    }

    /// A replica's checkpoint ends where its log can still say what was there.
    pub(crate) fn may_checkpoint(&self) -> bool {
        self.replica_ref().is_none_or(|replica| replica.saved_at(self.applied.index).is_some())
    }
}
