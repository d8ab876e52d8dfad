//! Calls that nobody can answer: for how long they wait for a leader, and what is said why there is none.

use std::time::Duration;

use linnet_ids::PeerId;
use linnet_jsapi::errors::{self, ApiError};

use super::{Cluster, LEADERLESS_AFTER};
use crate::cluster::Founder;
use crate::pump::ReplicaReport;

/// A call is answered after this if too few servers are there for a leader: soon enough for clients that wait five
/// seconds, late enough for servers that are only restarted.
const LACKING_AFTER: Duration = Duration::from_secs(4);

/// What came of waiting for a leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// This server leads: it answers.
    Here,
    /// Another one does, or it is not known.
    Elsewhere,
    /// Too few servers are there for a leader: that is answered.
    Nobody(ApiError),
}

impl Cluster {
    /// Waits until the catalogue's group has a leader, for as long as there may soon be one.
    pub(crate) async fn await_leader(&self) -> Awaited {
        let began = tokio::time::Instant::now();
        let (lacking, deadline) = (began + LACKING_AFTER, began + LEADERLESS_AFTER);
        let mut standings = self.standings.subscribe();
        let mut until = lacking;
        loop {
            if self.leads_meta() {
                return Awaited::Here;
            }
            if self.meta.load().leaderless_since.is_none() {
                return Awaited::Elsewhere;
            }
            match tokio::time::timeout_at(until, standings.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Awaited::Elsewhere,
                Err(_) if until == deadline => return Awaited::Elsewhere,
                Err(_) => match self.lack() {
                    Some(lack) => return Awaited::Nobody(errors::CLUSTER_NOT_AVAIL.because(&lack)),
                    None => until = deadline,
                },
            }
        }
    }

    /// The error for what needs a leader of the catalogue's group while there is none, with the reason if that is known.
    pub(crate) fn unavailable(&self) -> ApiError {
        match self.lack() {
            Some(lack) => errors::CLUSTER_NOT_AVAIL.because(&lack),
            None => errors::CLUSTER_NOT_AVAIL,
        }
    }

    /// Who lacks for a leader of the catalogue's group, in words; `None` if enough servers are there.
    pub(super) fn lack(&self) -> Option<String> {
        let meta = self.meta();
        let Some(report) = &meta.report else {
            let missing = self.founder().map(Founder::missing).unwrap_or_default();
            let names: Vec<String> = missing.into_iter().map(|missing| missing.who).collect();
            return (!names.is_empty()).then(|| format!("waiting for {}", names.join(", ")));
        };
        let membership = &report.status.membership;
        if !membership.is_voter(self.me()) {
            // Others know more.
            return None;
        }
        let (quorum, voters) = (membership.quorum(), membership.voter_count());
        lack_of(&self.away(), &self.forgetful(report), voters, quorum)
    }

    /// Names of the members that count, can be heard, and have forgotten what they knew.
    fn forgetful(&self, report: &ReplicaReport) -> Vec<String> {
        let forgetful = report.status.forgetful.iter().copied().filter(|peer| self.link.hears(*peer));
        self.names_of(forgetful.filter(|peer| report.status.membership.is_voter(*peer)))
    }

    fn names_of(&self, peers: impl Iterator<Item = PeerId>) -> Vec<String> {
        let name = |peer| self.link.name_of(peer).unwrap_or_else(|| format!("peer {peer}"));
        let mut names: Vec<String> = peers.map(name).collect();
        names.sort_unstable();
        names
    }

    /// Names of the members of the catalogue's group that count and cannot be heard.
    pub(crate) fn away(&self) -> Vec<String> {
        let meta = self.meta();
        let Some(report) = &meta.report else { return Vec::new() };
        let voters = report.status.membership.voters().map(|member| member.peer);
        self.names_of(voters.filter(|peer| *peer != self.me() && !self.link.hears(*peer)))
    }
}

/// Who lacks of so many members if these are away and those have forgotten what they knew, in words.
fn lack_of(away: &[String], forgetful: &[String], members: usize, needed: usize) -> Option<String> {
    if members.saturating_sub(away.len() + forgetful.len()) >= needed {
        return None;
    }
    let lost = [(away, "cannot be heard"), (forgetful, "lost what they had of the meta group")];
    let lost = lost.into_iter().filter(|(names, _)| !names.is_empty());
    let lost: Vec<String> = lost.map(|(names, what)| format!("{} {what}", names.join(", "))).collect();
    Some(format!("{}, {needed} of {members} servers are needed", lost.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_is_said_in_words() {
        let names = ["a".to_owned(), "b".to_owned()];
        assert_eq!(lack_of(&names[..1], &[], 3, 2), None);
        let said = lack_of(&names, &[], 3, 2).unwrap();
        assert_eq!(said, "a, b cannot be heard, 2 of 3 servers are needed");
        let said = lack_of(&names[..1], &names[1..], 3, 2).unwrap();
        assert_eq!(
            said,
            "a cannot be heard, b lost what they had of the meta group, 2 of 3 servers are needed"
        );
    }
}
