//! How fresh servers agree which group they found: once, all of them, and never two.
//!
//! A server that has nothing of a group tells the others which life it would take part in. Once everybody who is
//! expected can be heard, one of them proposes a [`Founding`]; each server that it lists writes down that it accepts
//! it; when all have, it is decided. A proposer that finds an earlier value accepted somewhere proposes that one
//! again, unless it can never be decided, because a server that it lists has another life by now or is not expected
//! any more: then a majority of those it lists promise, durably, never to found it, and it is out of the world.
//! Nobody founds anything while a server knows of a group that exists.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linnet_ids::{Mono, PeerId};
use linnet_raft::{Incarnation, Replica};

/// Identity of a cluster: random, so that two that were founded apart are told apart.
pub type ClusterId = [u8; 16];

/// How often a server that waits asks the others where they stand.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// What a server said counts for this long.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Values that a server remembers never to found.
const RULED_OUT_MAX: usize = 256;

/// Who founds what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Founding {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its first voters, ordered.
    pub voters: Vec<Replica>,
}

impl Founding {
    fn lists(&self, replica: Replica) -> bool {
        self.voters.contains(&replica)
    }

    fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

/// What a server must not forget of a ballot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BallotRecord {
    /// The life in which it would take part.
    pub life: Incarnation,
    /// The value it accepts; it accepts no other before that is ruled out.
    pub accepted: Option<Founding>,
    /// Values it will never found.
    pub ruled_out: BTreeSet<ClusterId>,
    /// What was founded.
    pub founded: Option<Founding>,
    /// Clusters that were dissolved: nobody is to belong to them any more.
    pub dissolved: BTreeSet<ClusterId>,
}

/// What servers say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BallotMessage {
    /// Where do you stand?
    Ask,
    /// Where the sender stands.
    Stand {
        /// The life in which it would take part.
        life: Incarnation,
        /// What it accepts.
        accepted: Option<Founding>,
        /// The group that exists, as far as it knows.
        founded: Option<Founding>,
    },
    /// Accept this.
    Propose(Founding),
    /// The sender accepts it, durably.
    Accepted(ClusterId),
    /// All have accepted: it is founded.
    Decided(Founding),
    /// Promise never to found this.
    RuleOut(Founding),
    /// The sender never will, durably.
    Promised(ClusterId),
    /// This cluster was dissolved, by a decision of its own.
    Dissolved(ClusterId),
}

/// What a ballot wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BallotEffect {
    /// Write this before anything that follows is sent.
    Write(BallotRecord),
    /// Send.
    Send(PeerId, BallotMessage),
    /// The group is founded, and this server is one of its voters.
    Founded(Founding),
    /// A group exists that this server does not belong to, or not in the life that it lists: it may be added, or
    /// re-admitted as another life.
    Exists(Founding),
    /// What this server founded can never work: a majority of its voters promised before they heard of it. It is
    /// given up, and the ballot goes on.
    GivenUp(Founding),
    /// The cluster that this server belonged to was dissolved; the ballot goes on.
    Left(Founding),
}

struct Heard {
    at: Mono,
    life: Incarnation,
    accepted: Option<Founding>,
    /// It belongs to a group.
    has_founded: bool,
}

/// The ballot as one server sees it.
pub struct Ballot {
    me: PeerId,
    record: BallotRecord,
    /// Everybody who has to be there, this server included.
    expected: BTreeSet<PeerId>,
    heard: BTreeMap<PeerId, Heard>,
    /// Who accepted what this server proposes.
    proposal: Option<(Founding, BTreeSet<PeerId>)>,
    /// Who promised never to found a value that this server wants out of the world.
    promises: BTreeMap<ClusterId, (Founding, BTreeSet<PeerId>)>,
    /// A group that exists and does not list this server.
    exists: Option<ClusterId>,
    random: fastrand::Rng,
    next: Mono,
    is_over: bool,
}

impl Ballot {
    /// Goes on from what was written. `seed` is for the life to take part in if nothing was, and for what it proposes.
    pub fn open(
        me: PeerId,
        record: Option<BallotRecord>,
        seed: u64,
        now: Mono,
        out: &mut Vec<BallotEffect>,
    ) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let record = record.unwrap_or_else(|| {
            let record = BallotRecord { life: random.u64(1..), ..BallotRecord::default() };
            out.push(BallotEffect::Write(record.clone()));
            record
        });
        let mut ballot = Self {
            me,
            record,
            expected: BTreeSet::from([me]),
            heard: BTreeMap::new(),
            proposal: None,
            promises: BTreeMap::new(),
            exists: None,
            random,
            next: now,
            is_over: false,
        };
        if let Some(founded) = ballot.record.founded.clone() {
            ballot.is_over = true;
            out.push(BallotEffect::Founded(founded));
        }
        ballot
    }

    /// The cluster was dissolved. A server that belongs to it takes part in the ballot again, as another life.
    pub fn leave(&mut self, cluster: ClusterId, out: &mut Vec<BallotEffect>) {
        let Some(founding) = self.record.founded.take_if(|founded| founded.cluster == cluster) else {
            return;
        };
        self.record.accepted = None;
        self.record.life = self.random.u64(1..);
        if self.record.dissolved.len() >= RULED_OUT_MAX {
            self.record.dissolved.pop_first();
        }
        self.record.dissolved.insert(cluster);
        (self.is_over, self.exists, self.proposal) = (false, None, None);
        self.promises.clear();
        self.write(out);
        out.push(BallotEffect::Left(founding));
    }

    /// True if the cluster was dissolved, as this server knows.
    pub fn is_dissolved(&self, cluster: ClusterId) -> bool {
        self.record.dissolved.contains(&cluster)
    }

    /// Who has to be there before anything is founded.
    pub fn expect(&mut self, peers: impl IntoIterator<Item = PeerId>) {
        self.expected = peers.into_iter().collect();
        self.expected.insert(self.me);
        self.heard.retain(|peer, _| self.expected.contains(peer));
    }

    /// Whom this server waits for.
    pub fn missing(&self, now: Mono) -> Vec<PeerId> {
        let is_heard = |peer: &PeerId| *peer == self.me || self.is_fresh(now, *peer);
        self.expected.iter().filter(|peer| !is_heard(peer)).copied().collect()
    }

    fn is_fresh(&self, now: Mono, peer: PeerId) -> bool {
        self.heard.get(&peer).is_some_and(|heard| now.since(heard.at) < FRESH_FOR)
    }

    /// True once the group is founded.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    fn myself(&self) -> Replica {
        Replica { peer: self.me, incarnation: self.record.life }
    }

    fn write(&self, out: &mut Vec<BallotEffect>) {
        out.push(BallotEffect::Write(self.record.clone()));
    }

    /// When to call [`Ballot::on_timeout`].
    pub fn next_timeout(&self) -> Option<Mono> {
        (!self.is_over).then_some(self.next)
    }

    /// Asks where the others stand, and goes on with what this server proposes.
    pub fn on_timeout(&mut self, now: Mono, out: &mut Vec<BallotEffect>) {
        if self.is_over || now < self.next {
            return;
        }
        self.next = now + ASK_EVERY;
        for peer in self.expected.iter().filter(|peer| **peer != self.me) {
            out.push(BallotEffect::Send(*peer, BallotMessage::Ask));
        }
        let is_first = self.expected.first() == Some(&self.me);
        let sees_group =
            self.heard.values().any(|heard| heard.has_founded && now.since(heard.at) < FRESH_FOR);
        if is_first && !sees_group && self.missing(now).is_empty() {
            self.drive(out);
        }
    }

    /// Everybody is there: rules out what cannot be decided, then proposes.
    fn drive(&mut self, out: &mut Vec<BallotEffect>) {
        let mut lives: BTreeMap<PeerId, Incarnation> =
            self.heard.iter().map(|(peer, h)| (*peer, h.life)).collect();
        lives.insert(self.me, self.record.life);
        lives.retain(|peer, _| self.expected.contains(peer));
        let own = self.record.accepted.clone();
        let expected = self.heard.iter().filter(|(peer, _)| self.expected.contains(peer));
        let proposed = self.proposal.as_ref().map(|(founding, _)| founding.clone());
        let proposed = proposed.filter(|founding| !self.record.ruled_out.contains(&founding.cluster));
        let accepted: BTreeSet<Founding> =
            expected.filter_map(|(_, h)| h.accepted.clone()).chain(own).chain(proposed).collect();
        let can_be = |founding: &Founding| {
            !self.record.ruled_out.contains(&founding.cluster)
                && !self.promises.contains_key(&founding.cluster)
                && founding.voters.iter().all(|v| lives.get(&v.peer) == Some(&v.incarnation))
        };
        let chosen = accepted.iter().find(|founding| can_be(founding)).cloned();
        let others: Vec<Founding> = accepted.into_iter().filter(|f| Some(f) != chosen.as_ref()).collect();
        if !others.is_empty() {
            for founding in others {
                self.rule_out(founding, out);
            }
            return;
        }
        let founding = chosen.unwrap_or_else(|| Founding {
            cluster: self.random.u128(..).to_le_bytes(),
            voters: lives.iter().map(|(peer, life)| Replica { peer: *peer, incarnation: *life }).collect(),
        });
        self.propose(founding, out);
    }

    fn propose(&mut self, founding: Founding, out: &mut Vec<BallotEffect>) {
        if self.proposal.as_ref().is_none_or(|(known, _)| *known != founding) {
            self.proposal = Some((founding.clone(), BTreeSet::new()));
        }
        for voter in founding.voters.iter().filter(|v| v.peer != self.me) {
            out.push(BallotEffect::Send(voter.peer, BallotMessage::Propose(founding.clone())));
        }
        if self.accept(&founding, out) {
            self.accepted_by(self.me, founding.cluster, out);
        }
    }

    /// Accepts a value, unless another one is accepted or this one is ruled out.
    fn accept(&mut self, founding: &Founding, out: &mut Vec<BallotEffect>) -> bool {
        let is_free = self.record.accepted.as_ref().is_none_or(|accepted| accepted == founding);
        let may = is_free
            && founding.lists(self.myself())
            && !self.record.ruled_out.contains(&founding.cluster)
            && !self.is_dissolved(founding.cluster)
            && self.record.founded.is_none();
        if may && self.record.accepted.is_none() {
            self.record.accepted = Some(founding.clone());
            self.write(out);
        }
        may
    }

    fn accepted_by(&mut self, peer: PeerId, cluster: ClusterId, out: &mut Vec<BallotEffect>) {
        let Some((founding, by)) = &mut self.proposal else { return };
        if founding.cluster != cluster {
            return;
        }
        by.insert(peer);
        if !founding.voters.iter().all(|v| by.contains(&v.peer)) {
            return;
        }
        let founding = founding.clone();
        if founding.lists(self.myself()) && !self.record.ruled_out.contains(&cluster) {
            self.found(&founding, out);
        }
        for voter in founding.voters.iter().filter(|v| v.peer != self.me) {
            out.push(BallotEffect::Send(voter.peer, BallotMessage::Decided(founding.clone())));
        }
    }

    /// Writes down that the group exists, and begins.
    fn found(&mut self, founding: &Founding, out: &mut Vec<BallotEffect>) {
        if self.is_over {
            return;
        }
        if !founding.lists(self.myself()) || self.record.ruled_out.contains(&founding.cluster) {
            if self.exists.replace(founding.cluster) != Some(founding.cluster) {
                out.push(BallotEffect::Exists(founding.clone()));
            }
            return;
        }
        self.is_over = true;
        self.record.founded = Some(founding.clone());
        self.write(out);
        out.push(BallotEffect::Founded(founding.clone()));
    }

    /// Wants a value out of the world.
    fn rule_out(&mut self, founding: Founding, out: &mut Vec<BallotEffect>) {
        for voter in founding.voters.iter().filter(|v| v.peer != self.me) {
            out.push(BallotEffect::Send(voter.peer, BallotMessage::RuleOut(founding.clone())));
        }
        let cluster = founding.cluster;
        let is_voter = founding.voters.iter().any(|v| v.peer == self.me);
        if self.promises.len() >= RULED_OUT_MAX && !self.promises.contains_key(&cluster) {
            return;
        }
        let has_promised = is_voter && self.promise(&founding, out);
        let promises = self.promises.entry(cluster).or_insert_with(|| (founding, BTreeSet::new()));
        if has_promised {
            promises.1.insert(self.me);
        }
        self.out_of_the_world(cluster, out);
    }

    /// Once a majority of those it lists have promised, whoever accepts a value may drop it.
    fn out_of_the_world(&mut self, cluster: ClusterId, out: &mut Vec<BallotEffect>) {
        let Some((founding, by)) = self.promises.get(&cluster) else { return };
        let by_voters = founding.voters.iter().filter(|v| by.contains(&v.peer)).count();
        if by_voters < founding.majority() {
            return;
        }
        let founding = founding.clone();
        if self.record.founded.as_ref() == Some(&founding) {
            self.record.founded = None;
            self.is_over = false;
            self.promise(&founding, out);
            out.push(BallotEffect::GivenUp(founding));
        } else {
            self.promise(&founding, out);
        }
    }

    /// Never founds a value.
    fn promise(&mut self, founding: &Founding, out: &mut Vec<BallotEffect>) -> bool {
        if self.record.founded.as_ref().is_some_and(|founded| founded.cluster == founding.cluster) {
            return false;
        }
        if self.record.ruled_out.len() >= RULED_OUT_MAX && !self.record.ruled_out.contains(&founding.cluster)
        {
            return false;
        }
        self.proposal.take_if(|(proposed, _)| proposed.cluster == founding.cluster);
        let is_new = self.record.ruled_out.insert(founding.cluster);
        let dropped = self.record.accepted.take_if(|accepted| accepted.cluster == founding.cluster);
        if is_new || dropped.is_some() {
            self.write(out);
        }
        true
    }

    /// Takes what another server says.
    pub fn on_message(
        &mut self,
        now: Mono,
        from: PeerId,
        message: BallotMessage,
        out: &mut Vec<BallotEffect>,
    ) {
        match message {
            BallotMessage::Ask => {
                let stand = BallotMessage::Stand {
                    life: self.record.life,
                    accepted: self.record.accepted.clone(),
                    founded: self.record.founded.clone(),
                };
                out.push(BallotEffect::Send(from, stand));
            }
            BallotMessage::Stand { life, accepted, founded: Some(founded) } => {
                if self.expected.contains(&from) {
                    self.heard.insert(from, Heard { at: now, life, accepted, has_founded: true });
                }
                self.on_message(now, from, BallotMessage::Decided(founded), out);
            }
            BallotMessage::Decided(founded) if self.is_dissolved(founded.cluster) => {
                out.push(BallotEffect::Send(from, BallotMessage::Dissolved(founded.cluster)));
            }
            BallotMessage::Dissolved(cluster) => self.leave(cluster, out),
            BallotMessage::Decided(founded) => {
                if self.record.ruled_out.contains(&founded.cluster) {
                    out.push(BallotEffect::Send(from, BallotMessage::Promised(founded.cluster)));
                }
                self.found(&founded, out);
            }
            BallotMessage::Stand { founded: None, .. } if !self.expected.contains(&from) => {}
            BallotMessage::Stand { life, accepted, founded: None } => {
                self.heard.insert(from, Heard { at: now, life, accepted, has_founded: false });
            }
            BallotMessage::Propose(founding) => {
                let answer = if self.accept(&founding, out) {
                    BallotMessage::Accepted(founding.cluster)
                } else if self.record.ruled_out.contains(&founding.cluster) {
                    BallotMessage::Promised(founding.cluster)
                } else {
                    return;
                };
                out.push(BallotEffect::Send(from, answer));
            }
            BallotMessage::Accepted(cluster) => self.accepted_by(from, cluster, out),
            BallotMessage::RuleOut(founding) => {
                if self.promise(&founding, out) {
                    out.push(BallotEffect::Send(from, BallotMessage::Promised(founding.cluster)));
                }
            }
            BallotMessage::Promised(cluster) => {
                if let Some(founded) = self.record.founded.clone().filter(|f| f.cluster == cluster) {
                    self.promises.entry(cluster).or_insert_with(|| (founded, BTreeSet::new()));
                }
                if let Some((proposed, _)) = self.proposal.take_if(|(f, _)| f.cluster == cluster) {
                    // One that has promised will not accept it: it cannot be decided any more.
                    self.rule_out(proposed, out);
                }
                if let Some((_, by)) = self.promises.get_mut(&cluster) {
                    by.insert(from);
                    self.out_of_the_world(cluster, out);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "ballot_tests.rs"]
mod tests;
