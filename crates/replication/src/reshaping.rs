//! A stream's replicas change: what the catalogue says of it meanwhile.

use linnet_ids::{PeerId, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::stream_config::Placement;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Assignment, Placed};

/// A change of a stream's replicas that is under way: what the stream was before, and may be again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reshaping {
    /// When it was asked for, nanoseconds since the Unix epoch.
    pub since: i64,
    /// The number of replicas stays: they go elsewhere.
    pub is_move: bool,
    /// Number of replicas before.
    pub replicas: i64,
    /// Where the stream was to live before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// Its replicas before.
    pub members: Vec<Placed>,
    /// Others that may have a replica: from a change that was taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Placed>,
}

impl Reshaping {
    /// These may have a replica too.
    fn remember(&mut self, present: Vec<Placed>) {
        for member in present {
            if !self.members.iter().chain(&self.others).any(|known| known.peer == member.peer) {
                self.others.push(member);
            }
        }
    }
}

impl Assignment {
    /// Everybody who may have a replica: those that it shall have, and those that it had before a change that is under
    /// way.
    pub fn holders(&self) -> Vec<Placed> {
        let mut holders = self.members.clone();
        let before = self.reshaping.iter().flat_map(|change| change.members.iter().chain(&change.others));
        for member in before {
            if !holders.iter().any(|known| known.peer == member.peer) {
                holders.push(member.clone());
            }
        }
        holders
    }

    /// Ids of their servers.
    pub fn holding_peers(&self) -> Vec<PeerId> {
        self.holders().iter().filter_map(|member| member.peer.parse().ok()).collect()
    }

    /// True if it has one replica, and no others are on their way to it or from it.
    pub fn is_alone(&self) -> bool {
        self.members.len() < 2 && self.reshaping.is_none()
    }

    /// It shall have other replicas, because of what its configuration will be. A change on top of one that is under way
    /// has the same origin.
    pub fn reshape(&mut self, members: Vec<Placed>, config: &StreamConfig, now: Wall) {
        let present = std::mem::replace(&mut self.members, members);
        match &mut self.reshaping {
            Some(change) => change.remember(present),
            None => {
                self.reshaping = Some(Reshaping {
                    since: now.0,
                    is_move: config.num_replicas == self.config.num_replicas,
                    replicas: self.config.num_replicas,
                    placement: self.config.placement.clone(),
                    members: present,
                    others: Vec::new(),
                });
            }
        }
    }

    /// It shall be again as it was before the change that is under way. False if there is none.
    pub fn take_back(&mut self) -> bool {
        let Some(change) = &mut self.reshaping else { return false };
        let present = std::mem::replace(&mut self.members, change.members.clone());
        change.remember(present);
        self.config.num_replicas = change.replicas;
        self.config.placement.clone_from(&change.placement);
        true
    }

    /// It ends, everywhere.
    pub fn end(&mut self) {
        self.ended = true;
        self.members = self.holders();
        self.reshaping = None;
    }
}

#[cfg(test)]
mod tests {
    use linnet_jsapi::policies::StorageType;

    use super::*;

    fn placed(names: &str) -> Vec<Placed> {
        let place = |name: &str| Placed { peer: PeerId::of_name(name).to_string(), life: 0 };
        names.split_whitespace().map(place).collect()
    }

    fn assignment(names: &str) -> Assignment {
        let members = placed(names);
        let num_replicas = i64::try_from(members.len()).unwrap();
        Assignment {
            account: "A".to_owned(),
            group: String::new(),
            created: 1,
            live: true,
            members,
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config: StreamConfig { num_replicas, storage: StorageType::Memory, ..StreamConfig::default() },
        }
    }

    fn scaled(mut assignment: Assignment, names: &str) -> Assignment {
        let members = placed(names);
        let num_replicas = i64::try_from(members.len()).unwrap();
        let config = StreamConfig { num_replicas, ..assignment.config.clone() };
        assignment.reshape(members, &config, Wall(5));
        assignment.config = config;
        assignment
    }

    #[test]
    fn whoever_may_have_a_replica_is_known_while_replicas_change() {
        let mut present = scaled(assignment("a"), "b");
        assert_eq!(present.holders(), placed("b a"));
        assert!(present.reshaping.as_ref().is_some_and(|change| change.is_move));
        assert!(!present.is_alone() && !present.is_volatile(), "two may have one");
        present.end();
        assert_eq!((present.members, present.reshaping), (placed("b a"), None), "all learn of the end");
    }

    #[test]
    fn a_change_on_top_of_another_has_its_origin() {
        let mut present = scaled(scaled(assignment("a"), "a b c"), "a b c d e");
        assert_eq!(present.holders(), placed("a b c d e"));
        assert!(present.take_back());
        assert_eq!((present.members.clone(), present.config.num_replicas), (placed("a"), 1));
        assert_eq!(present.holders().len(), 5, "those that were on their way may have something");
        assert!(present.take_back(), "until it is done");
        for _ in 0..10 {
            present = scaled(present, "a b c");
            assert!(present.take_back());
        }
        let others = present.reshaping.as_ref().map(|change| change.others.clone());
        assert_eq!(others, Some(placed("b c d e")), "each of them once");
        present.reshaping = None;
        assert!(!present.take_back());
        assert!(present.is_alone() && present.is_volatile());
    }
}
