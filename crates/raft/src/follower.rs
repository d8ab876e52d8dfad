//! Taking what a leader sends.

use linnet_ids::{LogIndex, Mono, Term};

use crate::effect::{Effect, Fault};
use crate::log::{Entry, LogPoint};
use crate::membership::Replica;
use crate::message::{Append, Body, Outcome, Snapshot};
use crate::node::Node;
use crate::rescue::has_been_rescued;

impl Node {
    /// Follows the sender if its term is not over. One that does not hear this server is not followed: it could not
    /// take any answer.
    fn follow(&mut self, now: Mono, from: Replica, term: Term, out: &mut Vec<Effect>) -> bool {
        if term < self.hard.term {
            // The answer's term tells the sender.
            self.answer(from, Outcome::Heard, out);
            return false;
        }
        if !self.reachable.contains(&from.peer) {
            return false;
        }
        if term > self.hard.term {
            self.follow_nobody(now, term, out);
        } else if self.is_leader() {
            // Two leaders in one term: impossible unless somebody forgot a vote.
            return false;
        } else {
            self.role = crate::node::Role::Follower;
        }
        self.set_leader(Some(from.peer), out);
        self.leader_incarnation = from.incarnation;
        true
    }

    pub(crate) fn on_append(
        &mut self,
        now: Mono,
        from: Replica,
        term: Term,
        append: Append,
        out: &mut Vec<Effect>,
    ) {
        if !self.follow(now, from, term, out) {
            return;
        }
        self.round = self.round.max(append.round);
        self.told = self.told.max(append.commit);
        if self.contradicts(append.previous) {
            return self.lose_history(out);
        }
        if let Some(mismatch) = self.mismatch(append.previous) {
            return self.answer(from, mismatch, out);
        }
        let held = match self.take_entries(&append, out) {
            Ok(held) => held,
            // What was not rescued, or what another rescue began.
            Err(Fault::ReplacesCommitted(_) | Fault::Diverged(_)) if has_been_rescued(term) => {
                return self.lose_history(out);
            }
            Err(fault) => return self.halt(fault, out),
        };
        self.verified = self.verified.max(held).max(self.commit);
        self.follow_commit(append.commit, out);
        self.owes_answer = true;
        if append.entries.is_empty() && !self.is_written(self.last_write()) {
            self.answer(from, Outcome::Heard, out);
        }
        self.answer_leader();
        self.end_amnesia(out);
    }

    fn answer(&self, to: Replica, outcome: Outcome, out: &mut Vec<Effect>) {
        self.send(to, Body::Appended(self.answer_of(outcome)), out);
    }

    /// True if something else is committed here, which a leader of the same history would have.
    fn contradicts(&self, theirs: LogPoint) -> bool {
        theirs.index <= self.commit && self.log.term_at(theirs.index).is_some_and(|term| term != theirs.term)
    }

    /// What to tell a leader whose entries could not follow anything here.
    fn mismatch(&self, previous: LogPoint) -> Option<Outcome> {
        if previous.index <= self.commit {
            // What is committed here is the leader's.
            return None;
        }
        if self.log.term_at(previous.index) == Some(previous.term) {
            return None;
        }
        let (index, term) = self.log.find_by_term(previous.index, previous.term);
        Some(Outcome::Mismatch { index: index.max(self.commit), term })
    }

    /// Appends what is new. Entries that are here already are compared. Up to where the log is the leader's then:
    /// what would be one membership too many waits until the leader knows more to be committed.
    fn take_entries(&mut self, append: &Append, out: &mut Vec<Effect>) -> Result<LogIndex, Fault> {
        let mut at = append.previous;
        self.compare(at)?;
        for entry in &append.entries {
            let before = at;
            at = point_after(before, entry);
            match self.log.term_at(at.index) {
                _ if at.index <= self.log.base().index => continue,
                Some(term) if term == entry.term => {
                    self.compare(at)?;
                    continue;
                }
                Some(_) => self.truncate(at.index, before.chain)?,
                None => {}
            }
            if !self.take_one(append.commit, entry, out)? {
                return Ok(before.index);
            }
        }
        Ok(at.index)
    }

    /// False if the entry has to wait.
    fn take_one(&mut self, commit: LogIndex, entry: &Entry, out: &mut Vec<Effect>) -> Result<bool, Fault> {
        // Memberships that the leader knows to be committed need not be remembered as ones that may be taken back.
        let known = commit.min(self.log.last().index);
        self.commit_members(known);
        if self.hard.configs.is_full() {
            return Ok(false);
        }
        self.append(entry.clone(), out).map(|_| true)
    }

    /// Two histories with one term at one index are one history.
    fn compare(&self, theirs: LogPoint) -> Result<(), Fault> {
        let is_same_entry = self.log.term_at(theirs.index) == Some(theirs.term);
        match self.log.chain_at(theirs.index) {
            Some(mine) if is_same_entry && mine != theirs.chain => Err(Fault::Diverged(theirs.index)),
            _ => Ok(()),
        }
    }

    fn follow_commit(&mut self, commit: LogIndex, out: &mut Vec<Effect>) {
        let commit = commit.min(self.verified);
        if commit > self.commit {
            self.commit = commit;
            self.commit_members(commit);
        }
        // A replica that restarted may know more to be committed than it has released.
        if self.remembers() {
            self.release(commit, out);
        }
    }

    pub(crate) fn on_snapshot(
        &mut self,
        now: Mono,
        from: Replica,
        term: Term,
        snapshot: Snapshot,
        out: &mut Vec<Effect>,
    ) {
        if !self.follow(now, from, term, out) {
            return;
        }
        self.told = self.told.max(snapshot.last.index);
        if self.wants(snapshot.last) {
            self.answer(from, Outcome::Heard, out);
            out.push(Effect::SnapshotOffered(snapshot));
            return;
        }
        if self.contradicts(snapshot.last) {
            return self.lose_history(out);
        }
        // What the log has beyond stays: the leader may count on it.
        self.verified = self.verified.max(snapshot.last.index);
        self.follow_commit(snapshot.last.index, out);
        self.owes_answer = true;
        self.answer_leader();
        self.end_amnesia(out);
    }

    /// The log does not lead to this place.
    pub(crate) fn wants(&self, last: LogPoint) -> bool {
        last.index > self.commit && self.log.term_at(last.index) != Some(last.term)
    }

    /// Something does not agree with what the leader's server says of this group, or the group has slept for long:
    /// a follower asks whether it is led, a leader asks what the others have.
    pub fn verify(&mut self, out: &mut Vec<Effect>) {
        match self.leader {
            Some(peer) if peer == self.me => {
                for member in self.other_members() {
                    self.show_leader(member.peer);
                }
            }
            Some(peer) => {
                let leader = Replica { peer, incarnation: self.leader_incarnation };
                self.send(leader, Body::AskLeader, out);
            }
            None => {}
        }
    }
}

fn point_after(before: LogPoint, entry: &Entry) -> LogPoint {
    let index = before.index + 1;
    let len = u32::try_from(entry.payload.len()).unwrap_or(u32::MAX);
    let chain = linnet_ids::chain_next(before.chain, index, entry.term, len, entry.crc);
    LogPoint { index, term: entry.term, chain }
}
