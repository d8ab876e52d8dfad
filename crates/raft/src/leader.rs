//! Leading: entries out, answers in, what is committed, who belongs.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use bytes::Bytes;
use linnet_ids::{LogIndex, Mono, PeerId, Term};

use crate::effect::{Effect, Standing};
use crate::entry::{self, MembershipEntry};
use crate::log::{Entry, LogPoint};
use crate::membership::{Change, ImpossibleChange, Incarnation, Replica};
use crate::message::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Append, Appended, Body, Outcome, Snapshot};
use crate::node::{Node, RESEND_AFTER, Role};
use crate::progress::{Mode, Progress};

/// Bytes of entries that may wait to be committed; beyond it proposals are refused.
pub const UNCOMMITTED_BYTES_MAX: usize = 16 << 20;
/// Bytes of entries sent to a member of which is not known where its log ends.
const PROBE_BYTES_MAX: usize = 64 << 10;
/// Rounds of reads that may wait for a majority.
const READS_MAX: usize = 4096;
/// How long a member that was removed is still told so.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long a snapshot that has arrived may take before the member is asked again what it has.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(10);

/// Why the group does not take a proposal here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// This replica does not lead.
    #[error("this replica does not lead the group")]
    NotLeader,
    /// Leadership is being handed over.
    #[error("leadership is being handed over")]
    GivingWay,
    /// Too much waits to be committed or confirmed.
    #[error("too much waits for a majority")]
    Full,
    /// Entries of the state machine must not look like those of consensus.
    #[error("an entry begins with a reserved byte")]
    Reserved,
    /// A change of members is under way, or none may begin yet.
    #[error("a change of members is in progress")]
    ChangeInProgress,
    /// The step leads nowhere.
    #[error(transparent)]
    Impossible(#[from] ImpossibleChange),
    /// The members after the step could not decide anything: too many of them are not heard from or have forgotten
    /// what they knew.
    #[error("the members that would be left are not a reachable majority")]
    NoQuorum,
    /// The leader cannot go before it has handed over.
    #[error("the leader must hand over first")]
    IsLeader,
}

#[derive(Clone)]
struct Transfer {
    to: PeerId,
    until: Mono,
    is_asked: bool,
}

#[derive(Clone, Hash)]
struct Read {
    round: u64,
    number: u64,
    index: LogIndex,
}

#[derive(Clone)]
pub(crate) struct Leader {
    /// Its first entry.
    first: LogIndex,
    /// It answers for the group.
    is_announced: bool,
    progress: BTreeMap<PeerId, Progress>,
    /// Members that were removed and may not know it: until when, and by which entry.
    leaving: BTreeMap<PeerId, (Mono, LogIndex)>,
    /// Lives that members said they go on as.
    pub(crate) declared: BTreeMap<PeerId, Incarnation>,
    transfer: Option<Transfer>,
    /// Newest round: what members answer to from then on is newer than it.
    round: u64,
    /// Newest round that a read waits for.
    read_round: u64,
    reads: VecDeque<Read>,
    uncommitted_bytes: usize,
    /// Since when too few voters remember anything for a decision.
    stuck_since: Option<Mono>,
}

impl Leader {
    pub(crate) fn members(&self) -> impl Iterator<Item = (&PeerId, &Progress)> {
        self.progress.iter()
    }

    /// Its part of [`Node::hash_state`], without what it knows of members.
    pub(crate) fn hash_own<H: Hasher>(&self, state: &mut H) {
        let transfer = self.transfer.as_ref().map(|t| (t.to, t.is_asked));
        let leaving: Vec<_> = self.leaving.iter().map(|(peer, (_, index))| (peer, index)).collect();
        (self.first, self.is_announced, leaving, &self.declared, transfer).hash(state);
        (self.round, self.read_round, &self.reads, self.uncommitted_bytes).hash(state);
    }

    pub(crate) fn has_reads(&self) -> bool {
        !self.reads.is_empty()
    }

    pub(crate) fn is_amnesiac(&self, peer: PeerId) -> bool {
        self.progress.get(&peer).is_some_and(|p| p.is_amnesiac)
    }

    pub(crate) fn amnesiacs(&self) -> Vec<PeerId> {
        self.progress.iter().filter(|(_, p)| p.is_amnesiac).map(|(peer, _)| *peer).collect()
    }
}

/// How long a leader that can decide nothing, because others forgot what they knew, leads on.
const STUCK_FOR: Duration = Duration::from_secs(3);

/// What a leader reports of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberProgress {
    /// Its log is the leader's up to here, durably.
    pub matched: LogIndex,
    /// When it last answered.
    pub heard: Option<Mono>,
    /// It gets a state instead of entries.
    pub is_catching_up: bool,
    /// It may have forgotten something and does not count.
    pub is_amnesiac: bool,
}

impl Node {
    fn leading(&mut self) -> Option<&mut Leader> {
        match &mut self.role {
            Role::Leader(leader) => Some(leader),
            _ => None,
        }
    }

    /// The sender was removed a moment ago.
    pub(crate) fn is_leaving(&self, from: Replica) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let is_life = |p: &Progress| p.incarnation == from.incarnation;
        leader.leaving.contains_key(&from.peer) && leader.progress.get(&from.peer).is_some_and(is_life)
    }

    pub(crate) fn become_leader(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let first = self.log.last().index + 1;
        let uncommitted = (self.commit + 1..first).filter_map(|i| self.log.entry(i)).map(Entry::cost).sum();
        self.role = Role::Leader(Box::new(Leader {
            first,
            is_announced: false,
            progress: BTreeMap::new(),
            leaving: BTreeMap::new(),
            declared: BTreeMap::new(),
            transfer: None,
            round: 0,
            read_round: 0,
            reads: VecDeque::new(),
            uncommitted_bytes: uncommitted,
            stuck_since: None,
        }));
        self.follow_membership();
        self.set_leader(Some(self.me), out);
        out.push(Effect::Standing(Standing::Elected(self.hard.term)));
        self.append_own(entry::leading(), out);
        self.verified = self.log.last().index;
        self.check_quorum(now, out);
        self.advance_commit(now, out);
    }

    /// Appends an entry of this term.
    fn append_own(&mut self, payload: Bytes, out: &mut Vec<Effect>) -> LogIndex {
        let entry = Entry::new(self.hard.term, payload);
        let cost = entry.cost();
        // Its own entries can be read.
        let index = match self.append(entry, out) {
            Ok(index) => index,
            Err(fault) => {
                self.halt(fault, out);
                return 0;
            }
        };
        self.verified = index;
        if let Some(leader) = self.leading() {
            leader.uncommitted_bytes += cost;
        }
        index
    }

    /// Keeps a progress for every other member in its present life.
    fn follow_membership(&mut self) {
        let next = self.log.last().index + 1;
        let others = self.other_members();
        let Some(leader) = self.leading() else { return };
        leader.leaving.retain(|peer, _| others.iter().all(|m| m.peer != *peer));
        leader.progress.retain(|peer, p| {
            let is_member = others.iter().any(|m| m.peer == *peer && m.incarnation == p.incarnation);
            is_member || leader.leaving.contains_key(peer)
        });
        for member in others {
            leader.progress.entry(member.peer).or_insert_with(|| Progress::new(member.incarnation, next));
        }
    }

    /// Appends entries of the state machine. Index of the first; they are committed once [`Effect::Committed`] says
    /// so, unless leadership is lost before.
    pub fn propose(
        &mut self,
        payloads: impl IntoIterator<Item = Bytes>,
        out: &mut Vec<Effect>,
    ) -> Result<LogIndex, Refused> {
        let first = self.log.last().index + 1;
        let leader = self.leading().ok_or(Refused::NotLeader)?;
        if leader.transfer.is_some() {
            return Err(Refused::GivingWay);
        }
        if leader.uncommitted_bytes >= UNCOMMITTED_BYTES_MAX {
            return Err(Refused::Full);
        }
        let payloads: Vec<Bytes> = payloads.into_iter().collect();
        if payloads.iter().any(|payload| payload.is_empty() || entry::is_reserved(payload)) {
            return Err(Refused::Reserved);
        }
        for payload in payloads {
            self.append_own(payload, out);
        }
        Ok(first)
    }

    /// True if [`Node::propose`] would take more.
    pub fn may_propose(&self) -> bool {
        match &self.role {
            Role::Leader(leader) => {
                leader.transfer.is_none() && leader.uncommitted_bytes < UNCOMMITTED_BYTES_MAX
            }
            _ => false,
        }
    }

    /// Proposes one step of the membership. Index of its entry.
    pub fn change_membership(
        &mut self,
        now: Mono,
        change: Change,
        out: &mut Vec<Effect>,
    ) -> Result<LogIndex, Refused> {
        let leader = self.leading().ok_or(Refused::NotLeader)?;
        if leader.transfer.is_some() {
            return Err(Refused::GivingWay);
        }
        if !self.may_change_membership() {
            return Err(Refused::ChangeInProgress);
        }
        let is_own = change.peer() == self.me;
        if is_own && matches!(change, Change::Remove(_) | Change::Demote(_)) {
            return Err(Refused::IsLeader);
        }
        if let Change::Add(replica) = change
            && self.membership().is_retired(replica)
        {
            // It may be taken in again once it has begun another life.
            self.send(replica, Body::Retired { is_recorded: true }, out);
        }
        let next = self.membership().after(change)?;
        let able = next.voters().filter(|m| self.is_able(m.peer)).count();
        if able < next.quorum() {
            return Err(Refused::NoQuorum);
        }
        if let Change::Remove(peer) = change {
            let index = self.log.last().index + 1;
            if let Some(leader) = self.leading() {
                leader.leaving.insert(peer, (now + FAREWELL, index));
            }
        }
        let index = self.append_change(change, out)?;
        self.advance_commit(now, out);
        Ok(index)
    }

    /// The member said, in its present life, that it remembers.
    pub(crate) fn counts(&self, peer: PeerId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        leader.progress.get(&peer).is_some_and(|p| p.remembers)
    }

    /// The member can be heard and remembers.
    fn is_able(&self, peer: PeerId) -> bool {
        peer == self.me || (self.counts(peer) && self.reachable.contains(&peer))
    }

    /// An entry of this term is committed, and no other change is on its way.
    pub(crate) fn may_change_membership(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        self.commit >= leader.first && self.hard.configs.latest().0 <= self.commit
    }

    pub(crate) fn append_change(
        &mut self,
        change: Change,
        out: &mut Vec<Effect>,
    ) -> Result<LogIndex, Refused> {
        let membership = self.membership().after(change)?;
        let index = self.append_own(MembershipEntry { change, membership }.encode(), out);
        self.follow_membership();
        Ok(index)
    }

    /// Hands leadership to a voter, from the next [`Node::flush`] on. It is taken back if that takes longer than
    /// `within`.
    pub fn transfer(&mut self, now: Mono, to: PeerId, within: Duration) -> Result<(), Refused> {
        let is_voter = self.membership().is_voter(to) && to != self.me;
        let is_reachable = self.reachable.contains(&to);
        let leader = self.leading().ok_or(Refused::NotLeader)?;
        if !is_voter {
            return Err(Refused::Impossible(ImpossibleChange::NotMember(to)));
        }
        let counts = leader.progress.get(&to).is_some_and(|p| p.remembers);
        if !is_reachable || !counts {
            return Err(Refused::NoQuorum);
        }
        match &leader.transfer {
            Some(transfer) if transfer.to != to => return Err(Refused::GivingWay),
            Some(_) => {}
            None => leader.transfer = Some(Transfer { to, until: now + within, is_asked: false }),
        }
        Ok(())
    }

    /// Voters that could take over, most complete log first.
    pub fn successors(&self) -> Vec<PeerId> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let mut found: Vec<(LogIndex, PeerId)> = self
            .membership()
            .voters()
            .filter(|m| self.reachable.contains(&m.peer))
            .filter_map(|m| leader.progress.get(&m.peer).filter(|p| p.remembers).map(|p| (p.matched, m.peer)))
            .collect();
        found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        found.into_iter().map(|(_, peer)| peer).collect()
    }

    /// Gives up leading, whoever follows.
    pub fn resign(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if self.is_leader() {
            self.step_down(now, out);
        }
    }

    /// Asks for a confirmation that this replica still leads. [`Effect::ReadsConfirmed`] names `number` or a later
    /// one; numbers ascend.
    pub fn read(&mut self, number: u64, out: &mut Vec<Effect>) -> Result<(), Refused> {
        let released = self.released;
        let is_alone = self.membership().voter_count() == 1;
        let leader = self.leading().ok_or(Refused::NotLeader)?;
        if !leader.is_announced {
            return Err(Refused::NotLeader);
        }
        if leader.reads.len() >= READS_MAX {
            return Err(Refused::Full);
        }
        if is_alone {
            out.push(Effect::ReadsConfirmed { number, index: released });
            return Ok(());
        }
        let is_asked = leader.progress.values().any(|p| p.round_sent >= leader.read_round);
        if let Some(last) = leader.reads.back_mut()
            && !is_asked
        {
            // The round has not begun yet: it serves this one too.
            (last.number, last.index) = (number, released);
            return Ok(());
        }
        leader.round += 1;
        leader.read_round = leader.round;
        leader.reads.push_back(Read { round: leader.round, number, index: released });
        Ok(())
    }

    /// A member answered.
    pub(crate) fn on_appended(
        &mut self,
        now: Mono,
        from: Replica,
        term: Term,
        appended: Appended,
        out: &mut Vec<Effect>,
    ) {
        if term > self.hard.term {
            return self.follow_nobody(now, term, out);
        }
        let is_present_term = term == self.hard.term;
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else {
            // Whoever answers takes this replica for the leader that it was.
            if is_present_term && self.leader.is_none() {
                self.send(from, Body::NotLeading, out);
            }
            return;
        };
        let Some(progress) = leader.progress.get_mut(&from.peer).filter(|_| is_present_term) else { return };
        match appended.outcome {
            Outcome::Matched { durable, held } => progress.matched(durable.min(last), held.min(last)),
            Outcome::Mismatch { index, .. } if progress.has_lost(index, appended.round) => {
                // Its disk did not keep what it promised, as where syncs are put off: what else it promised is worth
                // nothing either (rule W3).
                progress.lost(now);
                return self.send(from, Body::Retired { is_recorded: false }, out);
            }
            Outcome::Mismatch { index, term } => {
                let (index, _) = self.log.find_by_term(index, term);
                progress.mismatched(index + 1, now);
            }
            Outcome::Heard => {}
        }
        progress.answered(&appended, now);
        if leader.leaving.get(&from.peer).is_some_and(|(_, index)| appended.commit >= *index) {
            leader.leaving.remove(&from.peer);
            leader.progress.remove(&from.peer);
        }
        self.advance_commit(now, out);
    }

    /// A member of the present term says that it has forgotten what it knew.
    pub(crate) fn heard_amnesiac(&mut self, now: Mono, peer: PeerId) {
        if let Some(progress) = self.leading().and_then(|l| l.progress.get_mut(&peer)) {
            progress.forgot(now);
        }
        self.note_stuck(now);
    }

    /// Notes since when so many voters have forgotten what they knew that nobody can be re-admitted. Some may be about to
    /// count again, so it leads on for a while.
    fn note_stuck(&mut self, now: Mono) {
        let can_decide = self.decides_alone() || self.remembering_voters() >= self.membership().quorum();
        if let Role::Leader(leader) = &mut self.role {
            leader.stuck_since = (!can_decide).then(|| leader.stuck_since.unwrap_or(now));
        }
    }

    /// Voters that have not said that they forgot what they knew.
    fn remembering_voters(&self) -> usize {
        let Role::Leader(leader) = &self.role else { return 0 };
        self.membership().voters().filter(|m| m.peer == self.me || !leader.is_amnesiac(m.peer)).count()
    }

    /// What a majority of voters has durably.
    fn majority_has(&self) -> LogIndex {
        let Role::Leader(leader) = &self.role else { return 0 };
        let membership = self.membership();
        let mut counted: Vec<LogIndex> = membership
            .voters()
            .map(|m| {
                if m.peer == self.me {
                    self.durable
                } else {
                    leader.progress.get(&m.peer).map_or(0, Progress::counted)
                }
            })
            .collect();
        counted.sort_unstable_by(|a, b| b.cmp(a));
        counted.get(membership.quorum() - 1).copied().unwrap_or(0)
    }

    /// Commits what a majority has. The other one of two voters may be re-admitted by this one alone; what that
    /// commits is released only once a majority has it.
    pub(crate) fn advance_commit(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else { return };
        let first = leader.first;
        let majority = self.majority_has();
        let mut commit = if majority >= first { majority } else { 0 };
        if self.decides_alone() {
            let readmission = self.hard.configs.latest().0.max(first);
            if self.durable >= readmission {
                commit = commit.max(readmission);
            }
        }
        if commit > self.commit {
            self.committed(commit);
        }
        let (changed_at, membership) = self.hard.configs.latest();
        let is_out = changed_at.max(first) <= self.commit && !membership.is_voter(self.me);
        self.release(self.commit.min(majority), out);
        self.lead_when_applied(out);
        self.confirm_reads(out);
        if is_out {
            return self.leave(now, out);
        }
        self.admit_next_stranger(out);
        self.give_way(now, out);
    }

    /// It has led others to where it is no member. Its server goes on, so nobody else would notice that nobody leads.
    fn leave(&mut self, now: Mono, out: &mut Vec<Effect>) {
        for member in self.other_members() {
            let to = Replica { peer: member.peer, incarnation: member.incarnation };
            self.send(to, Body::NotLeading, out);
        }
        self.step_down(now, out);
    }

    fn committed(&mut self, commit: LogIndex) {
        let cost: usize = (self.commit + 1..=commit).filter_map(|i| self.log.entry(i)).map(Entry::cost).sum();
        self.commit = commit;
        self.commit_members(commit);
        if let Some(leader) = self.leading() {
            leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(cost);
        }
    }

    /// Announces leadership once everything before it is applied.
    pub(crate) fn lead_when_applied(&mut self, out: &mut Vec<Effect>) {
        let (applied, term) = (self.applied, self.hard.term);
        if let Some(leader) = self.leading()
            && !leader.is_announced
            && applied >= leader.first
        {
            leader.is_announced = true;
            out.push(Effect::Standing(Standing::Leading(term)));
        }
    }

    /// True if this replica answers for the group.
    pub fn is_leading(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.is_announced)
    }

    fn confirm_reads(&mut self, out: &mut Vec<Effect>) {
        let quorum = self.membership().quorum();
        let voters: Vec<PeerId> = self.membership().voters().map(|m| m.peer).collect();
        let me = self.me;
        let Some(leader) = self.leading() else { return };
        let round = leader.round;
        let answered = |peer: &PeerId| match leader.progress.get(peer) {
            Some(progress) => progress.counted_round(),
            None if *peer == me => round,
            None => 0,
        };
        let mut rounds: Vec<u64> = voters.iter().map(answered).collect();
        rounds.sort_unstable_by(|a, b| b.cmp(a));
        let confirmed = rounds.get(quorum - 1).copied().unwrap_or(0);
        let mut newest = None;
        while let Some(read) = leader.reads.pop_front_if(|read| read.round <= confirmed) {
            newest = Some((read.number, read.index));
        }
        if let Some((number, index)) = newest {
            out.push(Effect::ReadsConfirmed { number, index });
        }
    }

    /// Asks the successor to stand once it has everything.
    pub(crate) fn give_way(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let last = self.log.last().index;
        let Some(leader) = self.leading() else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let to = transfer.to;
        let Some(progress) = leader.progress.get(&to).filter(|_| transfer.until > now) else {
            leader.transfer = None;
            return;
        };
        if progress.matched == last && progress.remembers && !transfer.is_asked {
            transfer.is_asked = true;
            let to = Replica { peer: to, incarnation: progress.incarnation };
            self.send(to, Body::GiveWay, out);
        }
    }

    /// Steps down if it cannot hear a majority.
    fn check_quorum(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let membership = self.membership();
        let heard = membership.voters().filter(|m| self.reachable.contains(&m.peer)).count();
        if heard < membership.quorum() {
            self.step_down(now, out);
        }
    }

    pub(crate) fn reachability_changed(
        &mut self,
        now: Mono,
        peer: PeerId,
        is_reachable: bool,
        out: &mut Vec<Effect>,
    ) {
        if !self.is_leader() {
            return;
        }
        if is_reachable {
            self.doubt(peer);
            self.probe_again(peer);
        } else {
            self.check_quorum(now, out);
        }
    }

    /// Finds out anew where a member's log ends.
    pub(crate) fn probe_again(&mut self, peer: PeerId) {
        if let Some(progress) = self.leading().and_then(|l| l.progress.get_mut(&peer)) {
            let next = progress.next;
            progress.probe(next);
        }
    }

    /// A member may be another life now: it does not count before it answers.
    pub(crate) fn doubt(&mut self, peer: PeerId) {
        let Some(leader) = self.leading() else { return };
        leader.round += 1;
        if let Some(progress) = leader.progress.get_mut(&peer) {
            progress.doubt(leader.round);
        }
    }

    /// Shows a member that this replica leads, and finds out what it has. One that fetches a state is busy with that.
    pub(crate) fn show_leader(&mut self, peer: PeerId) {
        let progress = self.leading().and_then(|l| l.progress.get(&peer));
        if progress.is_some_and(|p| !matches!(p.mode, Mode::Snapshot { is_sent: true, .. })) {
            self.probe_again(peer);
        }
    }

    pub(crate) fn next_leader_timeout(&self) -> Option<Mono> {
        let Role::Leader(leader) = &self.role else { return None };
        let waiting = leader.progress.iter().filter(|(peer, _)| self.reachable.contains(peer));
        let resend = waiting.filter_map(|(_, p)| Some(p.waiting_since? + patience(p)));
        let farewells = leader.leaving.values().map(|(until, _)| *until);
        let stuck = leader.stuck_since.map(|since| since + STUCK_FOR);
        resend.chain(leader.transfer.as_ref().map(|t| t.until)).chain(farewells).chain(stuck).min()
    }

    pub(crate) fn on_leader_timeout(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.note_stuck(now);
        if let Role::Leader(leader) = &self.role
            && leader.stuck_since.is_some_and(|since| since + STUCK_FOR <= now)
        {
            return self.step_down(now, out);
        }
        let reachable = self.reachable.clone();
        let Some(leader) = self.leading() else { return };
        let gone: Vec<PeerId> =
            leader.leaving.iter().filter(|(_, (until, _))| *until <= now).map(|(p, _)| *p).collect();
        for peer in gone {
            leader.leaving.remove(&peer);
            leader.progress.remove(&peer);
        }
        for (peer, progress) in &mut leader.progress {
            let is_due = progress.waiting_since.is_some_and(|since| since + patience(progress) <= now);
            if is_due && reachable.contains(peer) {
                progress.ask_again();
            }
        }
        self.give_way(now, out);
    }

    /// Sends every member what it lacks.
    pub(crate) fn send_appends(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else { return };
        let peers: Vec<PeerId> =
            leader.progress.keys().filter(|p| self.reachable.contains(p)).copied().collect();
        for peer in peers {
            self.send_appends_to(now, peer, out);
        }
    }

    fn send_appends_to(&mut self, now: Mono, peer: PeerId, out: &mut Vec<Effect>) {
        loop {
            let commit = self.commit_for(peer);
            let Role::Leader(leader) = &mut self.role else { return };
            let read_round = leader.read_round;
            let Some(progress) = leader.progress.get_mut(&peer) else { return };
            let round = read_round.max(progress.counts_from);
            let (last, next) = (self.log.last().index, progress.next);
            let is_probe = match progress.mode {
                Mode::Probe { is_sent: false } => true,
                Mode::Stream if next <= last && progress.may_stream() => false,
                Mode::Stream if progress.commit_sent < commit || progress.round_sent < round => false,
                Mode::Probe { .. } | Mode::Reading { .. } | Mode::Snapshot { .. } | Mode::Stream => return,
            };
            if next <= self.log.base().index {
                progress.mode = Mode::Snapshot { index: 0, is_sent: false, is_heard: false };
                out.push(Effect::SnapshotWanted { peer });
                return;
            }
            let Some(previous) = self.log.point(next - 1).filter(|_| next >= self.log.first_held()) else {
                progress.mode = Mode::Reading { is_probe };
                out.push(Effect::Read { peer, from: next, bytes_max: APPEND_BYTES_MAX });
                return;
            };
            let window = is_probe || progress.may_stream();
            let bytes_max = if is_probe { PROBE_BYTES_MAX } else { APPEND_BYTES_MAX };
            let entries = if window { self.entries_from(next, bytes_max) } else { Vec::new() };
            self.send_append(now, peer, previous, entries, is_probe, out);
        }
    }

    /// What a member is told to be committed. What this replica has committed alone it tells only the voter that must
    /// know it to count again: others would apply what no majority has.
    fn commit_for(&self, peer: PeerId) -> LogIndex {
        let Role::Leader(leader) = &self.role else { return 0 };
        let is_awaited = leader.is_amnesiac(peer) && self.membership().is_voter(peer);
        if is_awaited { self.commit } else { self.released }
    }

    fn entries_from(&self, next: LogIndex, bytes_max: usize) -> Vec<Entry> {
        let mut bytes = 0;
        let mut entries = Vec::new();
        let available = (next..=self.log.last().index).map_while(|index| self.log.entry(index));
        for entry in available.take(APPEND_ENTRIES_MAX) {
            bytes += entry.cost();
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry.clone());
        }
        entries
    }

    fn send_append(
        &mut self,
        now: Mono,
        peer: PeerId,
        previous: LogPoint,
        entries: Vec<Entry>,
        is_probe: bool,
        out: &mut Vec<Effect>,
    ) {
        let commit = self.commit_for(peer);
        let Some(leader) = self.leading() else { return };
        let round = leader.round;
        let Some(progress) = leader.progress.get_mut(&peer) else { return };
        let to = Replica { peer, incarnation: progress.incarnation };
        progress.commit_sent = progress.commit_sent.max(commit);
        progress.round_sent = round;
        let last = previous.index + entries.len() as u64;
        let bytes = entries.iter().map(Entry::cost).sum();
        if is_probe {
            progress.mode = Mode::Probe { is_sent: true };
            progress.waiting_since = Some(now);
        } else if entries.is_empty() {
            progress.waiting_since.get_or_insert(now);
        } else {
            progress.sent(last, bytes, now);
        }
        self.send(to, Body::Append(Append { previous, commit, round, entries }), out);
    }

    /// Entries that were asked for with [`Effect::Read`]; none if they could not be read. `previous` is the place
    /// before them.
    pub fn on_read(
        &mut self,
        now: Mono,
        peer: PeerId,
        previous: LogPoint,
        entries: Vec<Entry>,
        out: &mut Vec<Effect>,
    ) {
        let Some(progress) = self.leading().and_then(|l| l.progress.get_mut(&peer)) else { return };
        let Mode::Reading { is_probe } = progress.mode else { return };
        let is_expected = previous.index.checked_add(1) == Some(progress.next) && !entries.is_empty();
        progress.mode = if is_probe { Mode::Probe { is_sent: false } } else { Mode::Stream };
        // What was read may have been replaced since.
        let terms = std::iter::once(previous.term).chain(entries.iter().map(|entry| entry.term));
        let mut places = (previous.index..).zip(terms);
        let is_valid = is_expected && places.all(|(index, term)| self.log.term_at(index) == Some(term));
        if is_valid {
            self.send_append(now, peer, previous, entries, is_probe, out);
        } else {
            self.probe_again(peer);
        }
    }

    /// The state for a member that was asked for with [`Effect::SnapshotWanted`].
    pub fn send_snapshot(&mut self, now: Mono, peer: PeerId, snapshot: Snapshot, out: &mut Vec<Effect>) {
        let Some(progress) = self.leading().and_then(|l| l.progress.get_mut(&peer)) else { return };
        if !matches!(progress.mode, Mode::Snapshot { is_sent: false, .. }) {
            return;
        }
        progress.mode = Mode::Snapshot { index: snapshot.last.index, is_sent: true, is_heard: false };
        progress.waiting_since = Some(now);
        let to = Replica { peer, incarnation: progress.incarnation };
        self.send(to, Body::Snapshot(snapshot), out);
    }

    /// No state can be given to a member now: it is tried again.
    pub fn snapshot_failed(&mut self, now: Mono, peer: PeerId) {
        if let Some(progress) = self.leading().and_then(|l| l.progress.get_mut(&peer)) {
            progress.mode = Mode::Probe { is_sent: true };
            progress.waiting_since = Some(now);
        }
    }

    /// What a leader knows of a member.
    pub fn progress(&self, peer: PeerId) -> Option<MemberProgress> {
        let Role::Leader(leader) = &self.role else { return None };
        leader.progress.get(&peer).map(|p| MemberProgress {
            matched: p.matched,
            heard: p.heard,
            is_catching_up: matches!(p.mode, Mode::Snapshot { .. }),
            is_amnesiac: p.is_amnesiac,
        })
    }
}

fn patience(progress: &Progress) -> Duration {
    match progress.mode {
        Mode::Snapshot { is_heard: true, .. } => SNAPSHOT_PATIENCE,
        _ => RESEND_AFTER,
    }
}
