//! One replica of a group.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use linnet_ids::{GroupId, LogIndex, Mono, PeerId, Term};

use crate::durable::HardState;
use crate::effect::{Effect, Fault, Standing, WriteNo};
use crate::election::Timing;
use crate::entry::MembershipEntry;
use crate::leader::Leader;
use crate::log::{Entry, Log, LogPoint};
use crate::membership::{Incarnation, Member, Membership, Replica};
use crate::message::{Appended, Body, Message, Outcome, Snapshot};
use crate::rescue::Rescue;

/// Bytes of applied entries that stay in memory, unless asked otherwise.
pub const HELD_BYTES_MAX: usize = 4 << 20;

/// Messages that may wait for the disk.
const PROMISES_MAX: usize = 1024;
/// Memberships that are over and wait for what they were in force for to be applied.
const PASSED_MAX: usize = 64;

/// What makes a node.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The group.
    pub group: GroupId,
    /// This server.
    pub me: PeerId,
    /// What was written last. For a new group [`Opening::founding`].
    pub hard: HardState,
    /// Where the checkpoint ends; everything up to there is applied.
    pub base: LogPoint,
    /// First index of every term in the log behind it.
    pub terms: Vec<(LogIndex, Term)>,
    /// Where the log ends.
    pub last: LogPoint,
    /// Bytes of applied entries that stay in memory for members that are a little behind.
    pub held_bytes_max: usize,
    /// The entries at its end that stay in memory until they are applied; all of those behind the base, or fewer.
    pub held: Vec<Entry>,
    /// The log or the hard state may lack something that was written.
    pub may_have_forgotten: bool,
    /// Seed for delays and incarnations; different for every opening.
    pub seed: u64,
}

impl Opening {
    /// A member of a group that begins empty.
    pub fn founding(group: GroupId, me: Replica, membership: Membership, seed: u64) -> Self {
        let configs = crate::durable::Configs::new(0, membership);
        let hard = HardState { incarnation: me.incarnation, configs, ..HardState::default() };
        let base = LogPoint { chain: linnet_ids::chain_start(group), ..LogPoint::default() };
        Self {
            group,
            me: me.peer,
            hard,
            base,
            terms: Vec::new(),
            last: base,
            held_bytes_max: HELD_BYTES_MAX,
            held: Vec::new(),
            may_have_forgotten: false,
            seed,
        }
    }

    /// The only voter of a group that was decided about without terms and votes: its log, all of it durable and applied,
    /// ends at `last`, and it writes in `term` or later ones. Others that come get what is there as a state.
    pub fn alone(group: GroupId, me: Replica, last: LogPoint, term: Term, seed: u64) -> Self {
        let configs = crate::durable::Configs::new(last.index, Membership::of_voters([me]));
        let founding = Self::founding(group, me, Membership::default(), seed);
        Self {
            hard: HardState { term: term.max(last.term), configs, ..founding.hard },
            base: last,
            last,
            ..founding
        }
    }

    /// A member that a group names and that has nothing of it.
    pub fn forgotten(group: GroupId, me: PeerId, seed: u64) -> Self {
        let nobody = Replica { peer: me, incarnation: 0 };
        Self { may_have_forgotten: true, ..Self::founding(group, nobody, Membership::default(), seed) }
    }
}

/// What a node is doing.
#[derive(Clone)]
pub(crate) enum Role {
    Follower,
    PreCandidate {
        granted: BTreeSet<PeerId>,
    },
    /// `self_write`: its own vote counts, and others are asked, once that is durable.
    /// `is_alone`: the other one of two voters has forgotten what it knew.
    Candidate {
        granted: BTreeSet<PeerId>,
        self_write: WriteNo,
        is_transfer: bool,
        is_alone: bool,
    },
    Leader(Box<Leader>),
}

/// A replica as a state machine: messages, time and completions in, [`Effect`]s out. The driver carries effects out
/// in order, and calls [`Node::flush`] at the end of every pass.
#[derive(Clone)]
pub struct Node {
    pub(crate) group: GroupId,
    pub(crate) me: PeerId,
    pub(crate) hard: HardState,
    pub(crate) log: Log,
    pub(crate) role: Role,
    pub(crate) leader: Option<PeerId>,
    /// There has been one since it was opened.
    pub(crate) had_leader: bool,
    pub(crate) commit: LogIndex,
    /// What the state machine was told is committed.
    pub(crate) released: LogIndex,
    pub(crate) applied: LogIndex,
    /// The log is durable up to here.
    pub(crate) durable: LogIndex,
    /// The log is the present leader's up to here.
    pub(crate) verified: LogIndex,
    /// The most that any leader said to be committed; the log may not reach there. It decides nothing.
    pub(crate) told: LogIndex,
    /// Newest round of the present leader.
    pub(crate) round: u64,
    pub(crate) owes_answer: bool,
    /// Life of the present leader.
    pub(crate) leader_incarnation: Incarnation,
    /// The write that made the present term durable.
    term_write: WriteNo,
    /// Members went with entries that were dropped; the next entry tells so.
    members_reverted: bool,
    writes: WriteNo,
    durable_write: WriteNo,
    unsynced: VecDeque<(WriteNo, LogIndex)>,
    /// Messages that promise what is not durable yet.
    promises: VecDeque<(WriteNo, Message)>,
    /// Re-admission that is being written.
    pub(crate) admission: Option<WriteNo>,
    /// Committed memberships that are over and that something applied, or to be applied, falls under.
    passed: VecDeque<(LogIndex, Membership)>,
    pub(crate) reachable: BTreeSet<PeerId>,
    held_bytes_max: usize,
    /// Voters that said, when asked for a pre-vote, that they have forgotten what they knew.
    pub(crate) declared_amnesia: BTreeSet<PeerId>,
    /// An operator allows fewer voters than a majority to go on.
    pub(crate) rescue: Option<Rescue>,
    pub(crate) timing: Timing,
    pub(crate) random: fastrand::Rng,
    fault: Option<Fault>,
}

impl Node {
    /// Opens a replica. If it may have forgotten something it begins another life, unless it decides alone: then
    /// what it has is all there is.
    pub fn open(opening: Opening, now: Mono, out: &mut Vec<Effect>) -> Self {
        let Opening { group, me, hard, base, terms, last, held_bytes_max, held, may_have_forgotten, seed } =
            opening;
        let commit = hard.configs.committed().clamp(base.index, last.index);
        let mut node = Self {
            group,
            me,
            hard,
            log: Log::new(base, terms, last, held),
            role: Role::Follower,
            leader: None,
            had_leader: false,
            commit,
            released: base.index,
            applied: base.index,
            durable: last.index,
            verified: 0,
            told: commit,
            round: 0,
            owes_answer: false,
            leader_incarnation: 0,
            term_write: 0,
            members_reverted: false,
            writes: 0,
            durable_write: 0,
            unsynced: VecDeque::new(),
            promises: VecDeque::new(),
            admission: None,
            passed: VecDeque::new(),
            reachable: BTreeSet::from([me]),
            held_bytes_max,
            declared_amnesia: BTreeSet::new(),
            rescue: None,
            timing: Timing::default(),
            random: fastrand::Rng::with_seed(seed),
            fault: None,
        };
        let membership = node.membership();
        let is_alone = membership.voter_count() == 1 && membership.is_voter(me);
        let is_nobody = node.hard.incarnation == 0;
        if is_nobody || (may_have_forgotten && !is_alone) {
            node.forget(now, out);
        } else {
            node.write_hard_state(out);
        }
        // One of two voters may have committed alone what the other one lacks.
        if node.remembers() && node.hard.configs.at(commit).voter_count() != 2 {
            node.release(commit, out);
        }
        node.schedule_election(now);
        node
    }

    /// Takes a message for this server.
    pub fn on_message(&mut self, now: Mono, message: Message, out: &mut Vec<Effect>) {
        if self.fault.is_some() || message.to.peer != self.me || message.from.peer == self.me {
            return;
        }
        if !message.is_plausible() {
            return;
        }
        let Message { from, to, term, body } = message;
        if let Body::Stranger(stranger) = body {
            return self.on_stranger(now, from, term, stranger, out);
        }
        if to.incarnation != self.hard.incarnation {
            return self.answer_as_stranger(from, to.incarnation, term, &body);
        }
        match body {
            Body::AskPreVote(candidacy) => self.on_ask_pre_vote(now, from, term, candidacy, out),
            Body::AskVote(candidacy) => self.on_ask_vote(now, from, term, candidacy, out),
            Body::PreVote(ballot) if self.is_present(from) => self.on_pre_vote(now, from, term, ballot, out),
            Body::Vote(ballot) if self.is_present(from) => self.on_vote(now, from, term, ballot, out),
            Body::Append(append) => self.on_append(now, from, term, append, out),
            Body::Appended(appended) if self.is_present(from) || self.is_leaving(from) => {
                self.on_appended(now, from, term, appended, out)
            }
            Body::Snapshot(snapshot) => self.on_snapshot(now, from, term, snapshot, out),
            Body::GiveWay => self.on_give_way(now, from, term, out),
            Body::AskLeader => self.on_ask_leader(from, term, out),
            Body::NotLeading => self.on_not_leading(now, from, out),
            Body::Retired { is_recorded } => self.on_retired(now, term, is_recorded, out),
            Body::PreVote(_) | Body::Vote(_) | Body::Appended(_) | Body::Stranger(_) => {}
        }
    }

    /// Does what is due.
    pub fn on_timeout(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.fault.is_some() {
            return;
        }
        self.end_rescue(now);
        if self.timing.election_at.is_some_and(|at| at <= now) {
            self.on_election_timeout(now, out);
        }
        self.on_leader_timeout(now, out);
    }

    /// When it wants to be called next.
    pub fn next_timeout(&self) -> Option<Mono> {
        if self.fault.is_some() {
            return None;
        }
        [self.timing.election_at, self.next_leader_timeout(), self.rescue_ends_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Everything up to this write is durable.
    pub fn on_durable(&mut self, now: Mono, write: WriteNo, out: &mut Vec<Effect>) {
        self.durable_write = self.durable_write.max(write);
        while let Some((_, index)) = self.unsynced.pop_front_if(|(no, _)| *no <= write) {
            self.durable = self.durable.max(index);
        }
        if self.admission.is_some_and(|no| no <= write) {
            self.admission = None;
            out.push(Effect::Remembers);
            self.release(self.commit, out);
            self.owes_answer = true;
        }
        while let Some((_, message)) = self.promises.pop_front_if(|(no, _)| *no <= write) {
            out.push(Effect::Send(message));
        }
        if self.fault.is_some() {
            return;
        }
        self.ask_for_votes_when_durable(now, out);
        self.advance_commit(now, out);
        self.answer_leader();
        self.end_amnesia(out);
    }

    /// The state machine has applied everything up to here.
    pub fn on_applied(&mut self, index: LogIndex, out: &mut Vec<Effect>) {
        self.applied = self.applied.max(index);
        self.log.release(self.applied, self.held_bytes_max);
        self.forget_passed();
        self.lead_when_applied(out);
    }

    /// The peer's server can be heard or cannot.
    pub fn set_reachable(&mut self, now: Mono, peer: PeerId, is_reachable: bool, out: &mut Vec<Effect>) {
        if peer == self.me || self.fault.is_some() {
            return;
        }
        let changed = if is_reachable { self.reachable.insert(peer) } else { self.reachable.remove(&peer) };
        if !changed {
            return;
        }
        if !is_reachable && self.leader == Some(peer) {
            self.set_leader(None, out);
        }
        self.reachability_changed(now, peer, is_reachable, out);
        self.schedule_election(now);
    }

    /// The peer's server began anew: it leads nothing any more, and messages to it may be lost.
    pub fn on_restarted(&mut self, now: Mono, peer: PeerId, out: &mut Vec<Effect>) {
        if self.fault.is_some() {
            return;
        }
        if self.leader == Some(peer) {
            self.set_leader(None, out);
        }
        self.doubt(peer);
        self.probe_again(peer);
        self.schedule_election(now);
    }

    /// Messages to or from the peer may have been lost.
    pub fn on_loss(&mut self, peer: PeerId) {
        if self.fault.is_none() {
            self.probe_again(peer);
            self.owes_answer |= self.leader == Some(peer);
            self.answer_leader();
        }
    }

    /// Sends what has gathered.
    pub fn flush(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.fault.is_none() {
            self.give_way(now, out);
            self.send_appends(now, out);
            self.release_promises(out);
        }
    }

    /// Everything up to `to`, which is applied, is in a checkpoint.
    pub fn compact(&mut self, to: LogPoint) {
        if to.index <= self.applied {
            self.log.compact(to);
        }
    }

    /// A state that a leader offered is in place. False if it is not wanted any more: nothing was changed then.
    pub fn install(&mut self, now: Mono, snapshot: &Snapshot, out: &mut Vec<Effect>) -> bool {
        if self.fault.is_some() || !self.wants(snapshot.last) || self.is_leader() {
            return false;
        }
        self.members_reverted = false;
        self.log.reset(snapshot.last);
        self.hard.configs = crate::durable::Configs::new(snapshot.since, snapshot.membership.clone());
        self.passed.clear();
        self.unsynced.clear();
        self.durable = 0;
        let write = self.next_write();
        let state = Box::new(self.hard.clone());
        out.push(Effect::Install { last: snapshot.last, state, write });
        self.unsynced.push_back((write, snapshot.last.index));
        out.push(Effect::Members(snapshot.membership.clone()));
        self.verified = snapshot.last.index;
        self.commit = snapshot.last.index;
        self.released = snapshot.last.index;
        self.applied = snapshot.last.index;
        self.owes_answer = true;
        self.schedule_election(now);
        true
    }

    pub(crate) fn membership(&self) -> &Membership {
        self.hard.configs.latest().1
    }

    pub(crate) fn myself(&self) -> Replica {
        Replica { peer: self.me, incarnation: self.hard.incarnation }
    }

    /// It may vote, stand and count.
    pub(crate) fn remembers(&self) -> bool {
        !self.hard.is_amnesiac && self.admission.is_none()
    }

    /// The sender is in the life that the membership names.
    pub(crate) fn is_present(&self, from: Replica) -> bool {
        self.membership().get(from.peer).is_some_and(|m| m.incarnation == from.incarnation)
    }

    pub(crate) fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// It knows for certain that it does not belong to the group any more.
    pub(crate) fn is_removed(&self) -> bool {
        let (index, membership) = self.hard.configs.latest();
        index <= self.commit && membership.is_retired(self.myself())
    }

    pub(crate) fn other_members(&self) -> Vec<Member> {
        self.membership().members().iter().filter(|m| m.peer != self.me).copied().collect()
    }

    fn next_write(&mut self) -> WriteNo {
        self.writes += 1;
        self.writes
    }

    pub(crate) fn last_write(&self) -> WriteNo {
        self.writes
    }

    /// Feeds what is on its way to the disk; numbers count from what is durable.
    pub(crate) fn hash_writes<H: Hasher>(&self, state: &mut H) {
        (self.behind(self.term_write), self.members_reverted, self.behind(self.writes)).hash(state);
        self.admission.map(|write| self.behind(write)).hash(state);
        for (write, index) in &self.unsynced {
            (self.behind(*write), index).hash(state);
        }
        for (write, message) in &self.promises {
            (self.behind(*write), message).hash(state);
        }
    }

    /// How many writes must become durable before this one is; 0 if it is.
    pub(crate) fn behind(&self, write: WriteNo) -> u64 {
        write.saturating_sub(self.durable_write)
    }

    pub(crate) fn is_written(&self, write: WriteNo) -> bool {
        write <= self.durable_write
    }

    pub(crate) fn write_hard_state(&mut self, out: &mut Vec<Effect>) -> WriteNo {
        let write = self.next_write();
        out.push(Effect::HardState { state: self.hard.clone(), write });
        write
    }

    /// Appends an entry. A membership in it counts at once.
    pub(crate) fn append(&mut self, entry: Entry, out: &mut Vec<Effect>) -> Result<LogIndex, Fault> {
        let index = self.log.last().index + 1;
        let step = MembershipEntry::decode(&entry.payload).map_err(|_| Fault::Unreadable(index))?;
        self.log.append(entry.clone());
        let members_changed = step.is_some() || std::mem::take(&mut self.members_reverted);
        // A state may have come with members that are younger than entries behind it.
        if let Some(step) = step.filter(|_| index > self.hard.configs.committed()) {
            self.hard.configs.push(index, step.membership);
        }
        let write = self.next_write();
        let state = members_changed.then(|| Box::new(self.hard.clone()));
        out.push(Effect::Append { index, entry, state, write });
        self.unsynced.push_back((write, index));
        if members_changed {
            out.push(Effect::Members(self.membership().clone()));
        }
        Ok(index)
    }

    /// Drops entries from `index` on, which another one replaces next.
    pub(crate) fn truncate(&mut self, index: LogIndex, previous_chain: u64) -> Result<(), Fault> {
        if index <= self.commit {
            return Err(Fault::ReplacesCommitted(index));
        }
        self.log.truncate_from(index, Some(previous_chain)).ok_or(Fault::ReplacesCommitted(index))?;
        self.durable = self.durable.min(index - 1);
        for (_, last) in &mut self.unsynced {
            *last = (*last).min(index - 1);
        }
        self.members_reverted |= self.hard.configs.truncate_from(index);
        Ok(())
    }

    /// Sends a message once everything written so far is durable.
    pub(crate) fn promise(&mut self, to: Replica, term: Term, body: Body) {
        let message = Message { from: self.myself(), to, term, body };
        self.promise_after(self.writes, message);
    }

    fn promise_after(&mut self, write: WriteNo, message: Message) {
        // A disk that hangs does not collect them: whoever waits for one asks again.
        if self.promises.len() >= PROMISES_MAX {
            self.promises.pop_front();
        }
        self.promises.push_back((write, message));
    }

    /// Sends a message that promises nothing.
    pub(crate) fn send(&self, to: Replica, body: Body, out: &mut Vec<Effect>) {
        out.push(Effect::Send(Message { from: self.myself(), to, term: self.hard.term, body }));
    }

    pub(crate) fn release_promises(&mut self, out: &mut Vec<Effect>) {
        let durable = self.durable_write;
        while let Some((_, message)) = self.promises.pop_front_if(|(no, _)| *no <= durable) {
            out.push(Effect::Send(message));
        }
    }

    /// What was promised to be said of a life that is over is not said any more.
    pub(crate) fn forget_promises(&mut self) {
        self.promises.clear();
    }

    pub(crate) fn halt(&mut self, fault: Fault, out: &mut Vec<Effect>) {
        if self.fault.is_none() {
            self.fault = Some(fault);
            self.role = Role::Follower;
            self.leader = None;
            self.timing.election_at = None;
            self.promises.clear();
            out.push(Effect::Standing(Standing::Leaderless));
            out.push(Effect::Halted(fault));
        }
    }

    /// Why it takes no part any more, if that is so.
    pub fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Moves to a later term, in which it has not voted.
    pub(crate) fn adopt_term(&mut self, term: Term, out: &mut Vec<Effect>) {
        if term > self.hard.term {
            self.hard.term = term;
            self.hard.vote = None;
            self.term_write = self.write_hard_state(out);
        }
    }

    pub(crate) fn set_leader(&mut self, leader: Option<PeerId>, out: &mut Vec<Effect>) {
        if self.leader != leader {
            self.leader = leader;
            self.verified = 0;
            self.round = 0;
            self.owes_answer = false;
            match leader {
                Some(peer) if peer == self.me => {}
                Some(peer) => out.push(Effect::Standing(Standing::Following(peer))),
                None => out.push(Effect::Standing(Standing::Leaderless)),
            }
        }
        if leader.is_some() {
            self.had_leader = true;
            self.rescue = None;
            self.timing.settle();
        }
    }

    /// Tells the state machine what is committed.
    pub(crate) fn release(&mut self, index: LogIndex, out: &mut Vec<Effect>) {
        if index > self.released {
            self.released = index;
            out.push(Effect::Committed(index));
        }
    }

    pub(crate) fn answer_of(&self, outcome: Outcome) -> Appended {
        Appended { outcome, commit: self.commit, round: self.round, remembers: self.remembers() }
    }

    /// Tells the leader how far the log has got, if that is owed.
    pub(crate) fn answer_leader(&mut self) {
        if !self.owes_answer || self.is_leader() {
            return;
        }
        let Some(peer) = self.leader else { return };
        let leader = Replica { peer, incarnation: self.leader_incarnation };
        let outcome = Outcome::Matched { durable: self.durable.min(self.verified), held: self.verified };
        let answer = self.answer_of(outcome);
        self.owes_answer = self.durable < self.verified;
        let message =
            Message { from: self.myself(), to: leader, term: self.hard.term, body: Body::Appended(answer) };
        // What is durable is all it promises, but the term must be durable too.
        self.promise_after(self.term_write, message);
    }

    /// Nobody else counts in the group.
    pub fn is_only_voter(&self) -> bool {
        let membership = self.membership();
        membership.voter_count() == 1 && membership.is_voter(self.me)
    }

    /// This server.
    pub fn me(&self) -> PeerId {
        self.me
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Its life.
    pub fn incarnation(&self) -> Incarnation {
        self.hard.incarnation
    }

    /// An entry that is in memory.
    pub fn entry(&self, index: LogIndex) -> Option<&Entry> {
        self.log.entry(index)
    }

    /// The members at an applied index, as a snapshot names them, and the entry that made them so. The oldest that are
    /// known if those are younger: the index is below what was committed when the replica was opened, or far below what
    /// is applied. Whoever begins with them has nothing to decide before it has that entry, since a majority has it.
    pub fn members_at(&self, index: LogIndex) -> (LogIndex, &Membership) {
        if self.hard.configs.committed() <= index {
            return self.hard.configs.in_force_at(index);
        }
        let passed = || self.passed.iter().map(|(at, membership)| (*at, membership));
        let oldest = || passed().next().unwrap_or_else(|| self.hard.configs.in_force_at(index));
        passed().rfind(|(at, _)| *at <= index).unwrap_or_else(oldest)
    }

    /// Entries up to `index` are committed, and the memberships in them.
    pub(crate) fn commit_members(&mut self, index: LogIndex) {
        self.passed.extend(self.hard.configs.commit(index));
        self.forget_passed();
    }

    fn forget_passed(&mut self) {
        let next = |passed: &VecDeque<(LogIndex, Membership)>| passed.get(1).map(|(at, _)| *at);
        while let Some(oldest) = self.passed.front() {
            let over_at = next(&self.passed).unwrap_or_else(|| self.hard.configs.committed());
            if over_at > self.applied && oldest.0 <= over_at && self.passed.len() <= PASSED_MAX {
                break;
            }
            self.passed.pop_front();
        }
    }

    /// Where an entry stands in the history, if memory knows it.
    pub fn point(&self, index: LogIndex) -> Option<LogPoint> {
        self.log.point(index)
    }
}

/// How long an unanswered message waits before it is sent again.
pub(crate) const RESEND_AFTER: Duration = Duration::from_millis(500);
