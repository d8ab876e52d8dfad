//! What must hold, as somebody sees it who sees all disks at once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use linnet_ids::{LogIndex, PeerId, Term};
use linnet_raft::{Body, Change, Entry, Membership, MembershipEntry, Message, Outcome, Replica};

use crate::disk::Image;
use crate::world::World;

/// What was ever seen.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Ghost {
    leaders: BTreeMap<Term, Replica>,
    votes: BTreeMap<(Replica, Term), Replica>,
    /// Hash of the history up to an entry.
    histories: BTreeMap<(LogIndex, Term), u64>,
    /// What is committed, as the first one to say so has it.
    pub(crate) committed: BTreeMap<LogIndex, Entry>,
    /// What a publisher was told.
    pub(crate) acknowledged: BTreeMap<LogIndex, Bytes>,
    /// Lives that may count.
    counting: BTreeSet<Replica>,
    /// What lives that are over left behind.
    departed: BTreeMap<Replica, Image>,
}

impl Ghost {
    /// The life began with all that its group knew.
    pub(crate) fn may_count(&mut self, life: Replica) {
        self.counting.insert(life);
    }

    /// The newest membership that is committed does not have it.
    pub(crate) fn is_gone(&self, peer: PeerId) -> bool {
        let steps = self.committed.values().rev();
        let newest = steps.filter_map(|entry| MembershipEntry::decode(&entry.payload).ok().flatten()).next();
        newest.is_some_and(|step| step.membership.get(peer).is_none())
    }

    pub(crate) fn depart(&mut self, life: Replica, image: Image) {
        self.departed.insert(life, image);
    }

    /// Nobody may take the place of a committed entry.
    pub(crate) fn commit(&mut self, index: LogIndex, entry: &Entry) -> Result<bool, String> {
        match self.committed.get(&index) {
            Some(known) if known == entry => Ok(false),
            Some(known) => Err(format!("{entry:?} is committed at {index}, where {known:?} was")),
            None => {
                self.committed.insert(index, entry.clone());
                Ok(true)
            }
        }
    }

    /// Same index and term: same history.
    fn note_history(&mut self, index: LogIndex, term: Term, chain: u64) -> Result<(), String> {
        match self.histories.insert((index, term), chain) {
            Some(known) if known != chain => Err(format!("two histories up to {index} of term {term}")),
            _ => Ok(()),
        }
    }

    fn note_vote(&mut self, voter: Replica, term: Term, candidate: Replica) -> Result<(), String> {
        match self.votes.insert((voter, term), candidate) {
            Some(other) if other != candidate => {
                Err(format!("{voter:?} votes in term {term} for {other:?} and {candidate:?}"))
            }
            _ => Ok(()),
        }
    }
}

impl World {
    fn image_of(&self, life: Replica) -> Option<&Image> {
        let server = self.servers.iter().find(|s| s.peer == life.peer)?;
        let is_life = |image: &Image| image.hard.as_ref().is_some_and(|h| h.incarnation == life.incarnation);
        let mounted = Some(&server.disk.durable).filter(|image| is_life(image));
        mounted.or_else(|| self.ghost.departed.get(&life))
    }

    /// The life has, durably, the entry and what comes before it.
    fn has_durably(&self, life: Replica, index: LogIndex, chain: u64) -> bool {
        self.image_of(life).is_some_and(|image| {
            index <= image.base.index || (index <= image.last().index && image.point(index).chain == chain)
        })
    }

    fn counts(&self, life: Replica) -> bool {
        self.ghost.counting.contains(&life)
    }

    /// What is released for the first time is durable on a majority of voters that remember.
    pub(crate) fn check_release(&self, at: usize, index: LogIndex) -> Result<(), String> {
        let members = self.members_of(at);
        let chain = self.servers[at].disk.visible.point(index).chain;
        let have = members
            .voters()
            .filter(|m| self.counts(m.replica()) && self.has_durably(m.replica(), index, chain))
            .count();
        if have < members.quorum() {
            return Err(format!("n{at} releases {index}, which {have} of {members:?} have durably"));
        }
        Ok(())
    }

    pub(crate) fn members_of(&self, at: usize) -> Membership {
        self.servers[at].node.as_ref().map(|n| n.status().membership).unwrap_or_default()
    }

    /// One leader per term, elected by a majority, with everything that is committed.
    pub(crate) fn check_elected(&mut self, at: usize, term: Term) -> Result<(), String> {
        let Some(node) = &self.servers[at].node else { return Ok(()) };
        let me = Replica { peer: self.servers[at].peer, incarnation: node.incarnation() };
        if let Some(other) = self.ghost.leaders.insert(term, me)
            && other != me
        {
            return Err(format!("{other:?} and {me:?} lead in term {term}"));
        }
        let hard = self.servers[at].disk.durable.hard.as_ref();
        if hard.is_some_and(|hard| hard.term == term && hard.vote == Some(me)) {
            self.ghost.note_vote(me, term, me)?;
        }
        let members = self.members_of(at);
        let votes =
            members.voters().filter(|m| self.ghost.votes.get(&(m.replica(), term)) == Some(&me)).count();
        // Of two voters one may lead while the other one has forgotten what it knew.
        let is_alone = members.voter_count() == 2
            && members.voters().any(|m| m.peer != me.peer && !self.remembers(m.replica()));
        if votes < members.quorum() && !is_alone {
            return Err(format!("{me:?} leads in term {term} with {votes} votes of {members:?}"));
        }
        let image = &self.servers[at].disk.visible;
        for (index, entry) in self.ghost.committed.range(image.base.index + 1..) {
            if image.entry(*index) != Some(entry) {
                return Err(format!("{me:?} leads in term {term} without {index}, which is committed"));
            }
        }
        Ok(())
    }

    /// The server that has this peer is, now, in a life that remembers.
    fn remembers(&self, life: Replica) -> bool {
        let server = self.servers.iter().find(|s| s.peer == life.peer);
        server.and_then(|s| s.disk.visible.hard.as_ref()).is_some_and(|hard| {
            hard.incarnation == life.incarnation && !hard.is_amnesiac && self.counts(life)
        })
    }

    pub(crate) fn check_append(&mut self, at: usize) -> Result<(), String> {
        let last = self.servers[at].disk.visible.last();
        self.ghost.note_history(last.index, last.term, last.chain)
    }

    /// Who promises something may, and does not contradict what it promised.
    pub(crate) fn check_promise(&mut self, at: usize, message: &Message) -> Result<(), String> {
        if self.sees_disks {
            self.check_durable(at, message)?;
        }
        let (from, term) = (message.from, message.term);
        match &message.body {
            Body::Vote(ballot) if ballot.is_granted => {
                self.check_counts(at, from)?;
                self.ghost.note_vote(from, term, message.to)
            }
            Body::AskVote(_) => {
                self.check_counts(at, from)?;
                self.ghost.note_vote(from, term, from)
            }
            Body::PreVote(ballot) if ballot.is_granted => self.check_counts(at, from),
            Body::Appended(appended) if appended.remembers => self.check_counts(at, from),
            _ => Ok(()),
        }
    }

    /// What a message promises is durable.
    fn check_durable(&self, at: usize, message: &Message) -> Result<(), String> {
        let image = &self.servers[at].disk.durable;
        let (term, vote) = image.hard.as_ref().map_or((0, None), |h| (h.term, h.vote));
        let remembers = image.hard.as_ref().is_some_and(|hard| !hard.is_amnesiac);
        let has_voted = |whom| term > message.term || (term == message.term && vote == Some(whom));
        let is_durable = match &message.body {
            Body::Vote(ballot) => !ballot.is_granted || (remembers && has_voted(message.to)),
            Body::AskVote(_) => remembers && has_voted(message.from),
            Body::Appended(appended) => {
                let is_held = match appended.outcome {
                    Outcome::Matched { durable, .. } => {
                        durable <= image.last().index && (durable == 0 || term >= message.term)
                    }
                    _ => true,
                };
                // A life that began with the group need not have written so.
                let is_first = image.hard.is_none() && self.counts(message.from);
                is_held && (remembers || is_first || !appended.remembers)
            }
            _ => true,
        };
        if is_durable { Ok(()) } else { Err(format!("n{at} could forget what it says: {message:?}")) }
    }

    /// A life counts if it has the entry that admits it, and that is committed.
    pub(crate) fn check_counts(&mut self, at: usize, life: Replica) -> Result<(), String> {
        if self.counts(life) {
            return Ok(());
        }
        let image = &self.servers[at].disk.durable;
        let before = self.ghost.committed.range(..=image.base.index).map(|(index, entry)| (*index, entry));
        if admission(before, life).is_none() {
            let Some((index, entry)) = admission((image.base.index + 1..).zip(&image.entries), life) else {
                return Err(format!("{life:?} counts, and has no entry that admits it"));
            };
            let chain = image.point(index).chain;
            let others: Vec<Replica> = entry.membership.voters().map(|m| m.replica()).collect();
            let have = others
                .iter()
                .filter(|other| {
                    other.peer != life.peer && self.counts(**other) && self.has_durably(**other, index, chain)
                })
                .count();
            let needed = if others.len() == 2 { 1 } else { entry.membership.quorum() };
            if have < needed && !self.ghost.committed.contains_key(&index) {
                return Err(format!("{life:?} counts, and {have} of {others:?} have its admission"));
            }
        }
        self.ghost.may_count(life);
        Ok(())
    }

    /// Commit and applied never go back while a replica lives.
    pub(crate) fn check_progress(&mut self, at: usize) -> Result<(), String> {
        let server = &mut self.servers[at];
        let Some(node) = &server.node else { return Ok(()) };
        let status = node.status();
        let (commit, applied) = server.seen;
        server.seen = (status.commit, status.applied);
        if status.commit < commit || status.applied < applied {
            return Err(format!("n{at} goes back from {commit}, {applied}: {status:?}"));
        }
        Ok(())
    }
}

/// The entry that admits a life, and its index.
fn admission<'a>(
    mut entries: impl Iterator<Item = (LogIndex, &'a Entry)>,
    life: Replica,
) -> Option<(LogIndex, MembershipEntry)> {
    entries.find_map(|(index, entry)| {
        let step = MembershipEntry::decode(&entry.payload).ok().flatten()?;
        let admits = match step.change {
            Change::Add(replica) => replica == life,
            Change::Reincarnate { peer, new, .. } => peer == life.peer && new == life.incarnation,
            _ => false,
        };
        admits.then_some((index, step))
    })
}
