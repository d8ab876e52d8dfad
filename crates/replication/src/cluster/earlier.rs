//! Streams that have ended and whose name others have by now: servers that were away learn from the entry of the name what
//! they may remove, and the entry stays until all of them have.

use linnet_ids::{GroupId, PeerId};

use super::requests::MetaRequest;
use crate::catalogue::{Assignment, Earlier};

/// Most earlier streams that an entry names. A server with one that is not named keeps it, and does not serve it.
const EARLIER_MAX: usize = 64;

impl Assignment {
    /// The same, in the place of an entry whose stream has ended.
    pub fn in_place_of(mut self, entry: &Self) -> Self {
        let peers: Vec<String> = entry.holding_peers().iter().map(PeerId::to_string).collect();
        let last = Earlier { group: entry.group.clone(), peers };
        let ended = entry.earlier.iter().cloned().chain([last]);
        let mut ended: Vec<Earlier> =
            ended.filter(|e| e.group != self.group && !e.peers.is_empty()).collect();
        self.earlier = ended.split_off(ended.len().saturating_sub(EARLIER_MAX));
        self
    }

    /// The same once the group has the members that it shall have. Those that it had are waited for until they say that
    /// they have nothing of it: they may be away, and the stream end before they come back.
    pub(super) fn shaped(&self) -> Self {
        let left = self.earlier.iter().filter(|earlier| earlier.group == self.group);
        let left = left.flat_map(|earlier| earlier.peers.iter().cloned());
        let held = self.holding_peers().into_iter().map(|peer| peer.to_string());
        let mut former: Vec<String> = left.chain(held).collect();
        former.sort_unstable();
        former.dedup();
        former.retain(|peer| self.members.iter().all(|member| member.peer != *peer));
        let mut shaped = Self { reshaping: None, ..self.clone() };
        shaped.earlier.retain(|earlier| earlier.group != self.group);
        if !former.is_empty() {
            shaped.earlier.push(Earlier { group: self.group.clone(), peers: former });
        }
        shaped
    }

    /// True if the catalogue says that a stream of this name and this group has ended.
    pub fn is_over(&self, group: GroupId) -> bool {
        self.earlier.iter().any(|earlier| GroupId::parse(&earlier.group) == Some(group))
    }

    /// Groups of this name that have ended and of which server `me`, which has `here`, has nothing any more although the
    /// catalogue waits for it.
    pub fn gone_from(&self, me: PeerId, here: Option<GroupId>) -> Vec<GroupId> {
        let me = me.to_string();
        let earlier = self.earlier.iter().filter(|earlier| earlier.peers.contains(&me));
        let is_waited_for = self.ended && self.members.iter().any(|member| member.peer == me);
        let present = is_waited_for.then_some(&self.group);
        let groups = earlier.map(|earlier| &earlier.group).chain(present);
        groups.filter_map(|group| GroupId::parse(group)).filter(|group| Some(*group) != here).collect()
    }

    /// The entry once a server has nothing of a group that has ended; `None` if nobody needs it any more.
    pub(super) fn without(&self, group: &str, peer: &str) -> Option<Self> {
        let mut left = self.clone();
        if left.ended && left.group == group {
            left.members.retain(|member| member.peer != peer);
        }
        for earlier in left.earlier.iter_mut().filter(|earlier| earlier.group == group) {
            earlier.peers.retain(|other| other != peer);
        }
        left.earlier.retain(|earlier| !earlier.peers.is_empty());
        let is_needed = !left.ended || !left.members.is_empty() || !left.earlier.is_empty();
        is_needed.then_some(left)
    }

    /// What a server says that has nothing of a group of this name.
    pub fn say_gone(&self, group: GroupId, peer: PeerId) -> MetaRequest {
        MetaRequest::Gone {
            account: self.account.clone(),
            stream: self.config.name.clone(),
            group: group.to_string(),
            peer: peer.to_string(),
        }
    }

    /// Those that have not said that they have nothing of what has ended, of this stream or earlier ones.
    pub(super) fn waited_for(&self) -> impl Iterator<Item = (GroupId, PeerId)> {
        let members = self.members.iter().filter(|_| self.ended).map(|member| (&self.group, &member.peer));
        let earlier = self.earlier.iter().flat_map(|e| e.peers.iter().map(move |peer| (&e.group, peer)));
        let all = members.chain(earlier);
        all.filter_map(|(group, peer)| Some((GroupId::parse(group)?, peer.parse().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use linnet_jsapi::StreamConfig;

    use super::*;

    fn group(meta_index: u64) -> GroupId {
        GroupId { epoch: 0, meta_index, random: 9 }
    }

    fn peer(name: &str) -> PeerId {
        PeerId::of_name(name)
    }

    fn stream(index: u64, peers: &[&str]) -> Assignment {
        let peers: Vec<PeerId> = peers.iter().map(|name| peer(name)).collect();
        let new = Assignment::new_stream("A", StreamConfig::default(), 1, group(index), &peers, &[]);
        Assignment { live: true, ..new }
    }

    fn ended(assignment: Assignment) -> Assignment {
        Assignment { ended: true, ..assignment }
    }

    #[test]
    fn a_server_that_was_away_learns_of_every_stream_that_ended() {
        let second = ended(stream(2, &["b"]).in_place_of(&ended(stream(1, &["a", "b"]))));
        let third = stream(3, &["c"]).in_place_of(&second);
        assert!(third.is_over(group(1)) && third.is_over(group(2)) && !third.is_over(group(3)));
        assert_eq!(third.gone_from(peer("a"), Some(group(1))), []);
        assert_eq!(third.gone_from(peer("a"), None), [group(1)]);
        assert_eq!(third.gone_from(peer("b"), Some(group(2))), [group(1)]);
        assert_eq!(third.gone_from(peer("c"), Some(group(3))), []);
    }

    #[test]
    fn an_entry_stays_until_all_have_nothing_of_what_ended() {
        let second = ended(stream(2, &["b"]).in_place_of(&ended(stream(1, &["a"]))));
        let name = |group: GroupId| group.to_string();
        let waits = second.without(&name(group(2)), &peer("b").to_string()).unwrap();
        assert_eq!(waits.waited_for().collect::<Vec<_>>(), [(group(1), peer("a"))]);
        assert!(waits.without(&name(group(1)), &peer("a").to_string()).is_none());
        let lives = stream(3, &["b"]).in_place_of(&waits);
        let lives = lives.without(&name(group(1)), &peer("a").to_string()).unwrap();
        assert!(lives.earlier.is_empty() && lives.members.len() == 1);
    }

    #[test]
    fn a_former_member_is_waited_for_also_when_the_stream_ends_before_it_hears() {
        let mut shrinks = stream(1, &["a", "b"]);
        let config = shrinks.config.clone();
        let only_a = shrinks.members[..1].to_vec();
        shrinks.reshape(only_a, &config, linnet_ids::Wall(1));
        let shaped = shrinks.shaped();
        assert!(shaped.reshaping.is_none());
        assert_eq!(shaped.gone_from(peer("b"), Some(group(1))), [], "it has it still");
        assert_eq!(shaped.gone_from(peer("b"), None), [group(1)]);
        let over = ended(shaped).without(&group(1).to_string(), &peer("a").to_string()).unwrap();
        assert_eq!(over.waited_for().collect::<Vec<_>>(), [(group(1), peer("b"))]);
        assert!(over.without(&group(1).to_string(), &peer("b").to_string()).is_none());
    }

    #[test]
    fn so_many_are_named() {
        let mut newest = ended(stream(1, &["a"]));
        for index in 2..100 {
            newest = ended(stream(index, &["a"]).in_place_of(&newest));
        }
        assert_eq!(newest.earlier.len(), EARLIER_MAX);
        assert!(newest.is_over(group(98)) && !newest.is_over(group(1)));
    }
}
