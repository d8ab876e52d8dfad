//! How worlds tell what happens, for scripts and traces: servers are `n0`, `n1`; an apostrophe is a life more.

use linnet_ids::{PeerId, Term};
use linnet_raft::{
    Body, Change, Entry, Incarnation, LogPoint, Membership, MembershipEntry, Message, Outcome, Replica, Role,
    Standing,
};

use crate::world::World;

impl World {
    /// Gives a life its number of apostrophes, if it is new.
    pub(crate) fn know_life(&mut self, life: Replica) {
        let lives = self.lives.entry(life.peer).or_default();
        if !lives.contains(&life.incarnation) && life.incarnation != 0 {
            lives.push(life.incarnation);
        }
    }

    pub(crate) fn tell_peer(&self, peer: PeerId) -> String {
        self.at(peer).map_or_else(|| "nobody".into(), |at| format!("n{at}"))
    }

    pub(crate) fn tell_life(&self, peer: PeerId, incarnation: Incarnation) -> String {
        let lives = self.lives.get(&peer);
        let lives = lives.and_then(|lives| lives.iter().position(|life| *life == incarnation));
        format!("{}{}", self.tell_peer(peer), lives.map_or_else(|| "?".into(), |n| "'".repeat(n)))
    }

    pub(crate) fn tell_members(&self, members: &Membership) -> String {
        let mut told: Vec<String> = members
            .members()
            .iter()
            .map(|m| {
                let role = if m.role == Role::Learner { " (learner)" } else { "" };
                format!("{}{role}", self.tell_life(m.peer, m.incarnation))
            })
            .collect();
        told.sort_unstable();
        told.join(", ")
    }

    pub(crate) fn tell_entry(&self, entry: &Entry) -> String {
        match MembershipEntry::decode(&entry.payload) {
            Ok(Some(step)) => self.tell_change(step.change),
            Ok(None) if entry.payload.as_ref() == [0xF0] => "leading".into(),
            _ => String::from_utf8_lossy(&entry.payload).into_owned(),
        }
    }

    fn tell_change(&self, change: Change) -> String {
        match change {
            Change::Add(replica) => format!("add {}", self.tell_life(replica.peer, replica.incarnation)),
            Change::Promote(peer) => format!("promote {}", self.tell_peer(peer)),
            Change::Demote(peer) => format!("demote {}", self.tell_peer(peer)),
            Change::Remove(peer) => format!("remove {}", self.tell_peer(peer)),
            Change::Reincarnate { peer, old, new } => {
                format!("{} goes on as {}", self.tell_life(peer, old), self.tell_life(peer, new))
            }
        }
    }

    pub(crate) fn tell_standing(&self, at: usize, standing: Standing) -> String {
        match standing {
            Standing::Leaderless => format!("n{at} has no leader"),
            Standing::Following(peer) => format!("n{at} follows {}", self.tell_peer(peer)),
            Standing::Elected(term) => format!("n{at} is elected in term {}", tell_term(term)),
            Standing::Leading(term) => format!("n{at} leads in term {}", tell_term(term)),
        }
    }

    pub(crate) fn tell_message(&self, message: &Message) -> String {
        let Message { from, to, term, body } = message;
        let (from, to) =
            (self.tell_life(from.peer, from.incarnation), self.tell_life(to.peer, to.incarnation));
        format!("{from} -> {to} term {}: {}", tell_term(*term), self.tell_body(body))
    }

    fn tell_body(&self, body: &Body) -> String {
        match body {
            Body::AskPreVote(candidacy) => format!("pre-vote? log ends at {}", tell_point(candidacy.last)),
            Body::AskVote(candidacy) => {
                let transfer = if candidacy.is_transfer { ", transfer" } else { "" };
                format!("vote? log ends at {}{transfer}", tell_point(candidacy.last))
            }
            Body::PreVote(ballot) => format!("pre-vote: {}", if ballot.is_granted { "yes" } else { "no" }),
            Body::Vote(ballot) => format!("vote: {}", if ballot.is_granted { "yes" } else { "no" }),
            Body::Append(append) => {
                let entries: Vec<String> = append
                    .entries
                    .iter()
                    .map(|entry| format!("{} of {}", self.tell_entry(entry), tell_term(entry.term)))
                    .collect();
                let round =
                    if append.round == 0 { String::new() } else { format!(", round {}", append.round) };
                let (previous, commit) = (tell_point(append.previous), append.commit);
                format!("append behind {previous} [{}], commit {commit}{round}", entries.join(", "))
            }
            Body::Appended(appended) => {
                let outcome = match appended.outcome {
                    Outcome::Matched { durable, held } if durable == held => format!("has {held}"),
                    Outcome::Matched { durable, held } => format!("has {held}, {durable} durably"),
                    Outcome::Mismatch { index, term } => {
                        format!("does not match, try {index} of {}", tell_term(term))
                    }
                    Outcome::Heard => "heard".into(),
                };
                let forgot = if appended.remembers { "" } else { ", amnesiac" };
                let round =
                    if appended.round == 0 { String::new() } else { format!(", round {}", appended.round) };
                format!("{outcome}, commit {}{round}{forgot}", appended.commit)
            }
            Body::Snapshot(snapshot) => format!(
                "snapshot at {}, members {}",
                tell_point(snapshot.last),
                self.tell_members(&snapshot.membership)
            ),
            Body::AskLeader => "do you lead?".into(),
            Body::NotLeading => "I do not lead".into(),
            Body::GiveWay => "give way".into(),
            Body::Stranger(stranger) => {
                if stranger.is_amnesiac {
                    "I am amnesiac".into()
                } else {
                    "I am another life".into()
                }
            }
            Body::Retired { is_recorded } => {
                format!("your life is over, {}", if *is_recorded { "it is written" } else { "I lead others" })
            }
        }
    }
}

/// Terms of voters that decide alone are drawn at random.
pub(crate) fn tell_term(term: Term) -> String {
    if term > 1_000_000 { "lone".into() } else { term.to_string() }
}

pub(crate) fn tell_point(point: LogPoint) -> String {
    format!("{}/{}", point.index, tell_term(point.term))
}
