use linnet_ids::{GroupId, PeerId};
use linnet_jsapi::StreamConfig;
use linnet_raft::Member;

use crate::catalogue::{Assignment, Placed};

impl Assignment {
    /// Its group; `None` if that cannot be read.
    pub fn group_id(&self) -> Option<GroupId> {
        GroupId::parse(&self.group)
    }

    /// Its members may become others. Before it lives only those with which it began can found it: if one of them went,
    /// the others would wait for it for ever.
    pub fn may_move(&self) -> bool {
        self.live && !self.ended
    }

    /// A new stream on the servers `peers`, of which the catalogue's group has the `members`: each may begin empty in the
    /// life that it has there.
    pub fn new_stream(
        account: &str,
        config: StreamConfig,
        created: i64,
        group: GroupId,
        peers: &[PeerId],
        members: &[Member],
    ) -> Self {
        Self {
            account: account.to_owned(),
            group: group.to_string(),
            created,
            live: false,
            members: peers.iter().map(|peer| in_life(*peer, members)).collect(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config,
        }
    }
}

/// A server, and the life in which it may begin without the others.
pub fn in_life(peer: PeerId, members: &[Member]) -> Placed {
    let life = members.iter().find(|m| m.peer == peer).map_or(0, |m| m.incarnation);
    Placed { peer: peer.to_string(), life }
}

/// The members as the catalogue keeps them. Those that come have no life in which they may begin without the others.
pub fn placed(present: &Assignment, peers: &[PeerId]) -> Vec<Placed> {
    let place = |peer: &PeerId| {
        let peer = peer.to_string();
        let known = present.members.iter().find(|member| member.peer == peer).cloned();
        known.unwrap_or(Placed { peer, life: 0 })
    };
    peers.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stay_until_the_stream_lives() {
        let group = GroupId { epoch: 0, meta_index: 1, random: 1 };
        let peers = ["a", "b"].map(PeerId::of_name);
        let new = Assignment::new_stream("A", StreamConfig::default(), 1, group, &peers, &[]);
        assert!(!new.may_move());
        let lives = Assignment { live: true, ..new };
        assert!(lives.may_move());
        assert!(!Assignment { ended: true, ..lives }.may_move());
    }
}
