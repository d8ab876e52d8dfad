//! Replicas that may have forgotten what they knew, and how they come back.
//!
//! Such a replica goes on as another life and declares so to whoever speaks to the old one. A leader then has a
//! majority that does not include it commit an entry that re-admits it; it counts again once it durably has the log
//! through that entry, knows that it is committed, and has written that down.

use linnet_ids::{Mono, PeerId, Term};

use crate::effect::Effect;
use crate::membership::{Change, Incarnation, Replica};
use crate::message::{Body, Stranger};
use crate::node::{Node, Role};

impl Node {
    /// Goes on as another life.
    pub(crate) fn forget(&mut self, now: Mono, out: &mut Vec<Effect>) {
        self.hard.incarnation = self.fresh_incarnation();
        self.hard.is_amnesiac = true;
        self.admission = None;
        self.forget_promises();
        self.write_hard_state(out);
        out.push(Effect::Amnesiac);
        self.step_down(now, out);
    }

    /// Gives up everything that it promised, on somebody's word who knows that the group cannot go on (rule R8). It keeps
    /// what it holds. False if it knows a leader: then the group goes on.
    pub fn give_up(&mut self, now: Mono, out: &mut Vec<Effect>) -> bool {
        let has_leader = self.is_leader() || self.leader.is_some();
        if !has_leader && self.remembers() {
            self.forget(now, out);
        }
        !has_leader
    }

    /// 0 is nobody's.
    pub(crate) fn fresh_incarnation(&mut self) -> Incarnation {
        self.random.u64(1..)
    }

    /// Answers a message that was meant for another life.
    pub(crate) fn answer_as_stranger(
        &mut self,
        from: Replica,
        addressed: Incarnation,
        term: Term,
        body: &Body,
    ) {
        let is_request = matches!(
            body,
            Body::AskPreVote(_)
                | Body::AskVote(_)
                | Body::AskLeader
                | Body::Append(_)
                | Body::Snapshot(_)
                | Body::GiveWay
        );
        if is_request {
            let is_amnesiac = !self.remembers();
            self.promise(from, term, Body::Stranger(Stranger { addressed, is_amnesiac }));
        }
    }

    /// Tells one who asks for a vote that this replica has forgotten what a vote would say.
    pub(crate) fn declare_amnesia(&mut self, to: Replica, term: Term) {
        let stranger = Stranger { addressed: self.hard.incarnation, is_amnesiac: true };
        self.promise(to, term, Body::Stranger(stranger));
    }

    /// A member is another life than the one that was spoken to.
    pub(crate) fn on_stranger(
        &mut self,
        now: Mono,
        from: Replica,
        term: Term,
        stranger: Stranger,
        out: &mut Vec<Effect>,
    ) {
        if self.is_led_by(Replica { peer: from.peer, incarnation: stranger.addressed })
            && term == self.hard.term
        {
            // The life that led is over.
            self.lose_leader(now, out);
        }
        if self.membership().is_retired(from) && !stranger.is_amnesiac {
            return self.send(from, Body::Retired { is_recorded: true }, out);
        }
        let Some(member) = self.membership().get(from.peer).copied() else { return };
        if member.incarnation != stranger.addressed {
            return;
        }
        if stranger.is_amnesiac {
            self.count_amnesiac(now, from, term, out);
            self.note_forgetful(now, from.peer, out);
        }
        if !self.is_leader() || term != self.hard.term {
            return;
        }
        if stranger.is_amnesiac {
            if from.incarnation == member.incarnation && self.counts(from.peer) {
                // It said so before it counted.
                return;
            }
            self.heard_amnesiac(now, from.peer);
            if from.incarnation != member.incarnation {
                self.declared(from);
            }
            self.advance_commit(now, out);
        } else if from.incarnation != member.incarnation {
            self.send(from, Body::Retired { is_recorded: false }, out);
        }
    }

    /// Notes the life that a member declared.
    fn declared(&mut self, replica: Replica) {
        if let Role::Leader(leader) = &mut self.role {
            leader.declared.insert(replica.peer, replica.incarnation);
        }
    }

    /// Proposes the entry that re-admits a member, one at a time.
    pub(crate) fn admit_next_stranger(&mut self, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let membership = self.hard.configs.latest().1;
        leader.declared.retain(|peer, new| membership.get(*peer).is_some_and(|m| m.incarnation != *new));
        let next = leader.declared.iter().next().map(|(peer, new)| (*peer, *new));
        let Some((peer, new)) = next else { return };
        if !self.may_change_membership() {
            return;
        }
        let Some(old) = self.membership().get(peer).map(|m| m.incarnation) else { return };
        // Refused only if the leader lost its place, in which case the next one is told.
        let _ = self.append_change(Change::Reincarnate { peer, old, new }, out);
    }

    /// Of two voters, the other one has forgotten what it knew and said so in this term.
    pub(crate) fn decides_alone(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let membership = self.membership();
        membership.voter_count() == 2
            && membership.is_voter(self.me)
            && membership.voters().filter(|m| m.peer != self.me).all(|m| leader.is_amnesiac(m.peer))
    }

    /// This life is over: an old disk has come back.
    pub(crate) fn on_retired(&mut self, now: Mono, term: Term, is_recorded: bool, out: &mut Vec<Effect>) {
        if self.hard.is_amnesiac || !(is_recorded || term >= self.hard.term) {
            return;
        }
        if self.is_leader() && term == self.hard.term && !is_recorded {
            // Two leaders in one term have nothing to tell each other: neither gives up what it has.
            return;
        }
        if self.missed_rescue(term) {
            return self.lose_history(out);
        }
        self.forget(now, out);
    }

    /// Counts again if it has everything through its re-admission and knows that to be committed.
    pub(crate) fn end_amnesia(&mut self, out: &mut Vec<Effect>) {
        if !self.hard.is_amnesiac {
            return;
        }
        let Some(admitted_at) = self.hard.configs.admitted_by(self.commit, self.myself()) else { return };
        if self.durable.min(self.verified) >= admitted_at && self.commit >= admitted_at {
            self.hard.is_amnesiac = false;
            self.admission = Some(self.write_hard_state(out));
        }
    }

    /// Whom a reachable majority would have to wait for.
    pub fn amnesiacs(&self) -> Vec<PeerId> {
        match &self.role {
            Role::Leader(leader) => leader.amnesiacs(),
            _ => Vec::new(),
        }
    }
}
