//! Standing for election and voting.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use linnet_ids::{Mono, PeerId, Term};

use crate::effect::Effect;
use crate::membership::{Replica, Role as MemberRole};
use crate::message::{Ballot, Body, Candidacy};
use crate::node::{Node, Role};

/// What a replica lets those before it in the order of the group go first.
const RANK_DELAY: Duration = Duration::from_millis(50);
/// Randomness of the first attempt.
const FIRST_SPREAD: Duration = Duration::from_millis(25);
/// How long an attempt waits for answers; doubled for every one that follows.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);
/// Pause after an attempt, about; doubled for every one that follows.
const PAUSE: Duration = Duration::from_millis(100);
/// Bound of the doubling.
const DOUBLINGS_MAX: u32 = 4;
/// How far at most a voter that decides alone goes ahead: far enough that two never meet.
const LONE_TERM_STEP_MAX: u64 = 1 << 40;
/// Who should not lead lets others go first by this.
const RELUCTANCE: Duration = Duration::from_secs(1);

/// When to stand for election.
#[derive(Clone, Default)]
pub(crate) struct Timing {
    pub(crate) election_at: Option<Mono>,
    /// Attempts since the last leader.
    attempts: u32,
    /// Others should lead.
    is_reluctant: bool,
    /// Whoever asked for its vote lacks what it has.
    is_needed: bool,
}

impl Timing {
    /// There is a leader.
    pub(crate) fn settle(&mut self) {
        self.election_at = None;
        self.attempts = 0;
        self.is_needed = false;
    }

    /// Its part of [`Node::hash_state`].
    pub(crate) fn hash_state<H: Hasher>(&self, state: &mut H) {
        (self.election_at.is_some(), self.is_needed).hash(state);
    }

    fn doubled(&self, time: Duration) -> Duration {
        time * (1 << self.attempts.min(DOUBLINGS_MAX))
    }
}

impl Node {
    /// Others should lead if they can: this server drains, or its disk is slow.
    pub fn set_reluctant(&mut self, is_reluctant: bool) {
        self.timing.is_reluctant = is_reluctant;
    }

    fn below(&mut self, bound: Duration) -> Duration {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.u64(0..nanos.max(1)))
    }

    /// True if it could win.
    fn may_stand(&self) -> bool {
        let membership = self.membership();
        let reachable = membership.voters().filter(|m| self.reachable.contains(&m.peer)).count();
        (membership.is_voter(self.me) || self.may_still_be_voter() || self.is_needed())
            && self.remembers()
            && (reachable >= membership.quorum() || self.may_be_rescued())
    }

    /// The step that took its vote is not known to be committed: it may be the only one with what comes before.
    fn may_still_be_voter(&self) -> bool {
        self.hard.configs.latest().0 > self.commit && self.hard.configs.at(self.commit).is_voter(self.me)
    }

    /// A learner that nobody can be elected without: it leads until what it has is committed.
    fn is_needed(&self) -> bool {
        self.timing.is_needed && self.membership().get(self.me).is_some()
    }

    /// How many reachable voters come before this one. The order differs from group to group, so that the groups of
    /// a server that died find different leaders.
    fn rank(&self) -> u32 {
        let voters: Vec<PeerId> = self.membership().voters().map(|m| m.peer).collect();
        if voters.is_empty() {
            return 0;
        }
        let mix = linnet_ids::chain_start(self.group) ^ self.hard.term;
        // Bounded by the number of voters.
        let start = usize::try_from(mix % voters.len() as u64).unwrap_or(0);
        let order = voters.iter().cycle().skip(start).take(voters.len());
        let before =
            order.take_while(|peer| **peer != self.me).filter(|peer| self.reachable.contains(peer)).count();
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// Plans to stand if there is no leader and winning is possible; else waits until something changes.
    pub(crate) fn schedule_election(&mut self, now: Mono) {
        if self.leader.is_some()
            || !matches!(self.role, Role::Follower)
            || self.fault().is_some()
            || !self.may_stand()
        {
            if matches!(self.role, Role::Follower) {
                self.timing.election_at = None;
            }
            return;
        }
        if self.timing.election_at.is_some() {
            return;
        }
        let rank = RANK_DELAY * self.rank();
        let spread = if self.timing.attempts == 0 { FIRST_SPREAD } else { self.timing.doubled(PAUSE) * 2 };
        let reluctance = if self.timing.is_reluctant { RELUCTANCE } else { Duration::ZERO };
        let is_alone = self.membership().voter_count() == 1;
        let delay = if is_alone { Duration::ZERO } else { rank + self.below(spread) + reluctance };
        self.timing.election_at = Some(now + delay);
    }

    /// Stands for election now, whatever was planned: the preferred leader of a new group does.
    pub fn campaign(&mut self, now: Mono) {
        if self.leader.is_none() && matches!(self.role, Role::Follower) && self.may_stand() {
            self.timing.election_at = Some(now);
        }
    }

    pub(crate) fn on_election_timeout(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.timing.election_at = None;
        match self.role {
            Role::Leader(_) => {}
            Role::Follower if self.leader.is_none() && self.may_stand() => self.ask_for_pre_votes(now, out),
            Role::Follower => {}
            Role::PreCandidate { .. } | Role::Candidate { .. } => {
                self.timing.attempts += 1;
                self.role = Role::Follower;
                self.schedule_election(now);
            }
        }
    }

    fn other_voters(&self) -> Vec<Replica> {
        self.membership().voters().filter(|m| m.peer != self.me).map(|m| m.replica()).collect()
    }

    fn candidacy(&self, is_transfer: bool) -> Candidacy {
        Candidacy { last: self.log.last(), is_transfer }
    }

    fn ask_for_pre_votes(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.role = Role::PreCandidate { granted: BTreeSet::from([self.me]) };
        self.declared_amnesia.clear();
        self.timing.election_at = Some(now + self.timing.doubled(ANSWERS_WITHIN));
        let body = Body::AskPreVote(self.candidacy(false));
        let term = self.hard.term + 1;
        // Of two voters one may come to decide alone: not without the learners, which may vote by now.
        let is_of_two = self.membership().voter_count() == 2;
        let asked = self.other_members().into_iter().filter(|m| is_of_two || m.role == MemberRole::Voter);
        for to in asked.map(|member| member.replica()) {
            let message = crate::Message { from: self.myself(), to, term, body: body.clone() };
            out.push(Effect::Send(message));
        }
        self.count_pre_votes(now, out);
    }

    fn count_pre_votes(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let Role::PreCandidate { granted } = &self.role else { return };
        let is_alone = self.needs_amnesiac(granted);
        if self.is_majority(granted) && (!is_alone || self.learners_agree(granted)) {
            self.stand(now, false, is_alone, out);
        } else if self.is_rescued_by(granted) {
            self.stand_in(now, self.next_rescue_term(), false, false, out);
        }
    }

    /// True if the majority is one only because a voter has forgotten what it knew.
    fn needs_amnesiac(&self, granted: &BTreeSet<PeerId>) -> bool {
        self.membership().voter_count() == 2
            && self.declared_amnesia.iter().any(|peer| granted.contains(peer))
    }

    /// True if no learner can have been made a voter by the one that forgot: each has answered, in the life that is known
    /// here, that its log is not ahead, or that it has never counted in that life.
    fn learners_agree(&self, granted: &BTreeSet<PeerId>) -> bool {
        let mut learners = self.membership().members().iter().filter(|m| m.role == MemberRole::Learner);
        learners.all(|m| granted.contains(&m.peer))
    }

    fn is_majority(&self, granted: &BTreeSet<PeerId>) -> bool {
        let membership = self.membership();
        membership.voters().filter(|m| granted.contains(&m.peer)).count() >= membership.quorum()
    }

    /// Begins a term and asks for votes once that is durable. Who decides alone takes a term that nobody else has: the
    /// other voter may have led in one that it has forgotten, and its disk may come back.
    fn stand(&mut self, now: Mono, is_transfer: bool, is_alone: bool, out: &mut Vec<Effect>) {
        let step = if is_alone { self.random.u64(1..LONE_TERM_STEP_MAX) } else { 0 };
        self.stand_in(now, self.hard.term + 1 + step, is_transfer, is_alone, out);
    }

    fn stand_in(&mut self, now: Mono, term: Term, is_transfer: bool, is_alone: bool, out: &mut Vec<Effect>) {
        self.adopt_term(term, out);
        self.hard.vote = Some(self.myself());
        let self_write = self.write_hard_state(out);
        self.role = Role::Candidate { granted: BTreeSet::new(), self_write, is_transfer, is_alone };
        self.timing.election_at = Some(now + self.timing.doubled(ANSWERS_WITHIN));
    }

    pub(crate) fn ask_for_votes_when_durable(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let Role::Candidate { granted, self_write, is_transfer, .. } = &mut self.role else { return };
        let (self_write, is_transfer) = (*self_write, *is_transfer);
        if granted.contains(&self.me) || !self.is_written(self_write) {
            return;
        }
        if let Role::Candidate { granted, .. } = &mut self.role {
            granted.insert(self.me);
        }
        let body = Body::AskVote(self.candidacy(is_transfer));
        for to in self.other_voters() {
            self.send(to, body.clone(), out);
        }
        self.count_votes(now, out);
    }

    fn count_votes(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if let Role::Candidate { granted, .. } = &self.role
            && self.is_majority(granted)
        {
            self.become_leader(now, out);
        } else if let Role::Candidate { granted, .. } = &self.role
            && self.is_rescued_by(granted)
        {
            self.go_on_alone(now, out);
        }
    }

    /// True if the replica has a leader, or is one, that it can hear.
    fn has_leader(&self) -> bool {
        self.is_leader() || self.leader.is_some_and(|leader| self.reachable.contains(&leader))
    }

    fn is_up_to_date(&self, candidacy: &Candidacy) -> bool {
        let (mine, theirs) = (self.log.last(), candidacy.last);
        (theirs.term, theirs.index) >= (mine.term, mine.index)
    }

    pub(crate) fn on_ask_pre_vote(
        &mut self,
        now: Mono,
        from: Replica,
        term: Term,
        candidacy: Candidacy,
        out: &mut Vec<Effect>,
    ) {
        if term > self.hard.term && self.leader == Some(from.peer) {
            // A leader that asks leads no more.
            self.lose_leader(now, out);
        }
        if !self.remembers() {
            return self.declare_amnesia(from, term);
        }
        if self.membership().is_retired(from) && self.hard.configs.latest().0 <= self.commit {
            // It was removed while it could not be told.
            return self.send(from, Body::Retired { is_recorded: true }, out);
        }
        let is_granted = term > self.hard.term
            && !self.has_leader()
            && !self.is_removed()
            && self.is_up_to_date(&candidacy);
        if !is_granted {
            self.help_who_asks(now, from, &candidacy, out);
        }
        let leader = self.leader.filter(|_| self.has_leader());
        let term = if is_granted { term } else { self.hard.term };
        let body = Body::PreVote(Ballot { is_granted, leader });
        out.push(Effect::Send(crate::Message { from: self.myself(), to: from, term, body }));
    }

    /// Somebody without a leader asks in vain: a leader shows itself, one who follows a leader makes sure that there
    /// is one, one who knows more stands soon.
    fn help_who_asks(&mut self, now: Mono, from: Replica, candidacy: &Candidacy, out: &mut Vec<Effect>) {
        if self.is_leader() {
            self.probe_again(from.peer);
        } else if let Some(leader) = self.leader.filter(|leader| *leader != from.peer) {
            let leader = Replica { peer: leader, incarnation: self.leader_incarnation };
            self.send(leader, Body::AskLeader, out);
        } else if !self.has_leader() && !self.is_up_to_date(candidacy) && matches!(self.role, Role::Follower)
        {
            self.timing.is_needed = true;
            let soon = now + self.below(FIRST_SPREAD);
            if self.may_stand() && self.timing.election_at.is_none_or(|at| at > soon) {
                self.timing.election_at = Some(soon);
            }
        }
    }

    pub(crate) fn is_led_by(&self, replica: Replica) -> bool {
        self.leader == Some(replica.peer)
            && self.leader_incarnation == replica.incarnation
            && !self.is_leader()
    }

    /// The one that was followed leads no more.
    pub(crate) fn lose_leader(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.set_leader(None, out);
        self.schedule_election(now);
    }

    pub(crate) fn on_ask_leader(&mut self, from: Replica, term: Term, out: &mut Vec<Effect>) {
        if self.is_leader() && self.hard.term == term {
            self.show_leader(from.peer);
        } else if self.hard.term >= term {
            self.send(from, Body::NotLeading, out);
        }
    }

    /// Whoever led in a term and does not any more never leads in it again.
    pub(crate) fn on_not_leading(&mut self, now: Mono, from: Replica, out: &mut Vec<Effect>) {
        if self.is_led_by(from) {
            self.lose_leader(now, out);
        }
    }

    pub(crate) fn on_pre_vote(
        &mut self,
        now: Mono,
        from: Replica,
        term: Term,
        ballot: Ballot,
        out: &mut Vec<Effect>,
    ) {
        if !ballot.is_granted && term > self.hard.term {
            self.follow_nobody(now, term, out);
            return;
        }
        let expected = self.hard.term + 1;
        if let Role::PreCandidate { granted } = &mut self.role
            && ballot.is_granted
            && term == expected
        {
            granted.insert(from.peer);
            self.count_pre_votes(now, out);
        }
    }

    pub(crate) fn on_ask_vote(
        &mut self,
        now: Mono,
        from: Replica,
        term: Term,
        candidacy: Candidacy,
        out: &mut Vec<Effect>,
    ) {
        if !self.remembers() {
            return self.declare_amnesia(from, term);
        }
        if self.has_leader() && !candidacy.is_transfer && self.leader != Some(from.peer) {
            self.help_who_asks(now, from, &candidacy, out);
            return self.send(from, Body::Vote(Ballot { is_granted: false, leader: self.leader }), out);
        }
        if term > self.hard.term {
            self.follow_nobody(now, term, out);
        }
        let is_free = self.hard.vote.is_none_or(|vote| vote == from) && self.leader.is_none();
        let may_vote = is_free && !self.is_removed();
        let is_granted = term == self.hard.term && may_vote && self.is_up_to_date(&candidacy);
        if is_granted && self.hard.vote.is_none() {
            self.hard.vote = Some(from);
            self.write_hard_state(out);
        }
        if is_granted {
            // The one voted for gets time to win.
            self.timing.election_at =
                self.timing.election_at.map(|_| now + self.timing.doubled(ANSWERS_WITHIN));
        } else {
            self.help_who_asks(now, from, &candidacy, out);
        }
        let body = Body::Vote(Ballot { is_granted, leader: self.leader });
        self.promise(from, self.hard.term, body);
    }

    pub(crate) fn on_vote(
        &mut self,
        now: Mono,
        from: Replica,
        term: Term,
        ballot: Ballot,
        out: &mut Vec<Effect>,
    ) {
        if term > self.hard.term {
            return self.follow_nobody(now, term, out);
        }
        if let Role::Candidate { granted, .. } = &mut self.role
            && ballot.is_granted
            && term == self.hard.term
        {
            granted.insert(from.peer);
            self.count_votes(now, out);
        }
    }

    /// A voter answers a candidate that it has forgotten what it knew: a rescue does not wait for it.
    pub(crate) fn note_forgetful(&mut self, now: Mono, peer: PeerId, out: &mut Vec<Effect>) {
        if self.membership().is_voter(peer) && self.declared_amnesia.insert(peer) {
            self.count_pre_votes(now, out);
            self.count_votes(now, out);
        }
    }

    /// A member in answer to whom we stood says that it has forgotten what it knew. Of two voters the other one then
    /// decides alone, unless learners may vote by now: everything that was ever committed is in its log. A learner that says
    /// so in the life that is known here has never counted in it.
    pub(crate) fn count_amnesiac(&mut self, now: Mono, from: Replica, term: Term, out: &mut Vec<Effect>) {
        let peer = from.peer;
        let membership = self.membership();
        let is_learner = |m: &crate::Member| m.role == MemberRole::Learner && m.replica() == from;
        if membership.get(peer).is_some_and(is_learner) {
            if let Role::PreCandidate { granted } = &mut self.role
                && term == self.hard.term + 1
            {
                granted.insert(peer);
                self.count_pre_votes(now, out);
            }
            return;
        }
        let is_other_of_two =
            membership.voter_count() == 2 && membership.is_voter(peer) && membership.is_voter(self.me);
        if !is_other_of_two {
            return;
        }
        match &mut self.role {
            Role::PreCandidate { granted } if term == self.hard.term + 1 => {
                granted.insert(peer);
                self.declared_amnesia.insert(peer);
                self.count_pre_votes(now, out);
            }
            Role::Candidate { granted, is_alone: true, .. } if term == self.hard.term => {
                granted.insert(peer);
                self.count_votes(now, out);
            }
            _ => {}
        }
    }

    /// The leader gives way to this replica.
    pub(crate) fn on_give_way(&mut self, now: Mono, from: Replica, term: Term, out: &mut Vec<Effect>) {
        let is_leaders = term == self.hard.term && self.leader == Some(from.peer);
        if is_leaders && self.membership().is_voter(self.me) && self.remembers() {
            self.set_leader(None, out);
            self.stand(now, true, false, out);
        }
    }

    /// A later term has begun.
    pub(crate) fn follow_nobody(&mut self, now: Mono, term: Term, out: &mut Vec<Effect>) {
        self.adopt_term(term, out);
        self.step_down(now, out);
    }

    /// Is no candidate and no leader any more.
    pub(crate) fn step_down(&mut self, now: Mono, out: &mut Vec<Effect>) {
        if let Role::Leader(leader) = std::mem::replace(&mut self.role, Role::Follower)
            && leader.has_reads()
        {
            out.push(Effect::ReadsDropped);
        }
        self.timing.election_at = None;
        self.set_leader(None, out);
        self.schedule_election(now);
    }
}
