//! From what the catalogue says to what there is here.

use linnet_ids::{GroupId, PeerId};
use linnet_raft::Status;

use crate::catalogue::Assignment;

/// What a server has under the name of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Here {
    /// Its group.
    pub group: GroupId,
    /// It has, or may have, several replicas.
    pub is_replica: bool,
    /// This server leads it.
    pub leads: bool,
    /// It cannot be served here.
    pub is_lost: bool,
    /// Its replica here was removed from the group, which wants another one here.
    pub is_outlived: bool,
    /// Its group was rescued without the replica here, which may have more than was rescued.
    pub has_other_history: bool,
    /// Its end is in its log.
    pub has_ended: bool,
    /// It counts for nothing in its group, and holds something.
    pub is_relic: bool,
    /// It has the configuration that the catalogue says.
    pub is_configured: bool,
}

/// What is to be done about a stream on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The stream begins here.
    Begin,
    /// The stream begins here with what a replica of an earlier group holds, which ends.
    Inherit,
    /// The stream, or an earlier one of its name, ends here.
    Remove,
    /// Another stream has the name of the one here, and nothing says that this one has ended: if the catalogue here is
    /// current, it is kept, and not served.
    SetAside,
    /// What is here of the stream is kept aside, so that it can begin here anew.
    PutAside,
    /// The catalogue names this server no more: the stream goes once this server is certainly no member.
    Leave,
    /// Nothing is here of a stream that has ended, this one or an earlier one of its name, and the catalogue waits to hear it.
    SayGone,
    /// This server holds it alone, and others shall have it, too: it becomes the first member of a group.
    OpenUp,
    /// This server holds it alone, as it shall be again: a change of its members was taken back before it began.
    SayShaped,
    /// This server leads it, and it has ended in its own log, although whoever ended it did not come to tell the catalogue.
    SayEnded,
    /// This server leads it: the catalogue hears that it lives, and it follows its configuration.
    Settle,
}

impl Here {
    /// What an assignment asks of server `me`, which has `here` of it; `None` for nothing. Nothing is removed because it is
    /// missing in the catalogue.
    pub fn work(here: Option<Self>, assignment: &Assignment, me: PeerId) -> Option<Work> {
        let group = assignment.group_id()?;
        let is_member = assignment.replica(me).is_some();
        let gone =
            || (!assignment.gone_from(me, here.map(|here| here.group)).is_empty()).then_some(Work::SayGone);
        let Some(here) = here else {
            return match (is_member, assignment.ended) {
                (true, false) => Some(Work::Begin),
                _ => gone(),
            };
        };
        if here.group != group {
            let may_begin = assignment.replica(me).is_some_and(|replica| replica.incarnation > 0);
            let is_continued = assignment.continues.as_ref() == Some(&here.group.to_string());
            if is_continued && may_begin && here.is_relic && !assignment.live && !assignment.ended {
                return Some(Work::Inherit);
            }
            return Some(if assignment.is_over(here.group) { Work::Remove } else { Work::SetAside });
        }
        match () {
            () if assignment.ended || here.is_outlived => Some(Work::Remove),
            () if here.has_other_history => Some(Work::PutAside),
            () if here.leads && here.has_ended => Some(Work::SayEnded),
            () if here.is_replica && !is_member => Some(Work::Leave),
            // An old disk has come back: others have the stream by now.
            () if here.is_forsaken(assignment, me) => Some(Work::Leave),
            () if here.wants_others(assignment, me) => Some(Work::OpenUp),
            () if here.is_alone_again(assignment, me) => Some(Work::SayShaped),
            () if here.leads && !(assignment.live && here.is_configured) => Some(Work::Settle),
            () => gone(),
        }
    }

    /// True for a stream that server `me` held alone once and has no part in any more.
    fn is_forsaken(&self, assignment: &Assignment, me: PeerId) -> bool {
        !self.is_replica
            && assignment.live
            && !assignment.members.is_empty()
            && !assignment.holding_peers().contains(&me)
    }

    /// True for a stream that server `me` holds alone and that shall have no other members, although a change says so.
    fn is_alone_again(&self, assignment: &Assignment, me: PeerId) -> bool {
        let replicas = assignment.replicas();
        !self.is_replica
            && !self.is_lost
            && assignment.live
            && assignment.reshaping.is_some()
            && replicas.len() == 1
            && replicas.iter().all(|replica| replica.peer == me)
    }

    /// True for a stream that server `me` holds alone and that shall have other members.
    fn wants_others(&self, assignment: &Assignment, me: PeerId) -> bool {
        !self.is_replica
            && !self.is_lost
            && assignment.live
            && assignment.replicas().iter().any(|replica| replica.peer != me)
    }
}

/// True for a replica that is certainly no member any more and that nobody takes for the leader: one that was, tells those
/// who ask that it is not, for as long as it knows of no other one.
pub fn has_let_go(status: &Status) -> bool {
    status.is_removed && status.leader.is_some() && !status.is_leader
}

#[cfg(test)]
mod tests {
    use linnet_jsapi::StreamConfig;

    use super::*;
    use crate::catalogue::Placed;

    const GROUP: GroupId = GroupId { epoch: 0, meta_index: 7, random: 1 };

    fn place(name: &str) -> Placed {
        Placed { peer: PeerId::of_name(name).to_string(), life: 1 }
    }

    fn assignment(live: bool, ended: bool) -> Assignment {
        Assignment {
            account: "A".to_owned(),
            group: GROUP.to_string(),
            created: 1,
            live,
            members: ["a", "b"].map(place).to_vec(),
            ended,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config: StreamConfig::default(),
        }
    }

    fn here() -> Here {
        Here {
            group: GROUP,
            is_replica: true,
            leads: false,
            is_lost: false,
            is_outlived: false,
            has_other_history: false,
            has_ended: false,
            is_relic: false,
            is_configured: true,
        }
    }

    fn work(here: Option<Here>, assignment: &Assignment, me: &str) -> Option<Work> {
        Here::work(here, assignment, PeerId::of_name(me))
    }

    #[test]
    fn members_begin_and_others_do_not() {
        assert_eq!(work(None, &assignment(false, false), "a"), Some(Work::Begin));
        assert_eq!(work(None, &assignment(true, false), "c"), None);
        assert_eq!(work(Some(here()), &assignment(true, false), "a"), None);
    }

    #[test]
    fn what_has_ended_goes_and_that_is_said() {
        assert_eq!(work(Some(here()), &assignment(true, true), "a"), Some(Work::Remove));
        assert_eq!(work(None, &assignment(true, true), "a"), Some(Work::SayGone));
        assert_eq!(work(None, &assignment(true, true), "c"), None);
    }

    #[test]
    fn what_was_not_rescued_makes_room_for_what_was() {
        let other = Here { has_other_history: true, ..here() };
        assert_eq!(work(Some(other), &assignment(true, false), "a"), Some(Work::PutAside));
        assert_eq!(
            work(Some(other), &assignment(true, false), "c"),
            Some(Work::PutAside),
            "no member any more"
        );
        assert_eq!(work(Some(other), &assignment(true, true), "a"), Some(Work::Remove));
    }

    #[test]
    fn who_is_named_no_more_leaves_unless_it_is_the_only_replica() {
        assert_eq!(work(Some(here()), &assignment(true, false), "c"), Some(Work::Leave));
        let alone = Here { is_replica: false, leads: true, ..here() };
        let mut moves = Assignment { members: vec![place("c")], ..assignment(true, false) };
        let config = moves.config.clone();
        moves.reshape(vec![place("a")], &config, linnet_ids::Wall(1));
        assert_eq!(work(Some(alone), &moves, "c"), Some(Work::OpenUp), "nobody else has it yet");
        moves.reshaping = None;
        assert_eq!(work(Some(alone), &moves, "c"), Some(Work::Leave), "an old disk came back");
    }

    #[test]
    fn who_holds_alone_what_others_shall_have_lets_them_in() {
        let alone = Here { is_replica: false, leads: true, ..here() };
        assert_eq!(work(Some(alone), &assignment(true, false), "a"), Some(Work::OpenUp));
        assert_eq!(work(Some(Here { is_lost: true, ..alone }), &assignment(true, false), "a"), None);
        assert_ne!(work(Some(alone), &assignment(false, false), "a"), Some(Work::OpenUp));
    }

    #[test]
    fn a_change_that_was_taken_back_before_it_began_is_over() {
        let alone = Here { is_replica: false, leads: true, ..here() };
        let mut grows = Assignment { members: vec![place("a")], ..assignment(true, false) };
        assert_eq!(work(Some(alone), &grows, "a"), None);
        let config = grows.config.clone();
        grows.reshape(["a", "b"].map(place).to_vec(), &config, linnet_ids::Wall(1));
        assert_eq!(work(Some(alone), &grows, "a"), Some(Work::OpenUp));
        assert!(grows.take_back());
        assert_eq!(work(Some(alone), &grows, "a"), Some(Work::SayShaped));
        assert_ne!(work(Some(here()), &grows, "a"), Some(Work::SayShaped), "its leader says so");
    }

    #[test]
    fn the_leader_of_a_stream_that_has_ended_in_its_log_says_so() {
        let ended = Here { has_ended: true, is_configured: false, ..here() };
        assert_eq!(work(Some(ended), &assignment(true, false), "a"), None);
        let leads = Here { leads: true, ..ended };
        assert_eq!(work(Some(leads), &assignment(true, false), "a"), Some(Work::SayEnded));
        assert_eq!(work(Some(leads), &assignment(true, true), "a"), Some(Work::Remove));
    }

    #[test]
    fn another_stream_makes_room_and_is_removed_if_it_has_ended() {
        let at = |meta_index| Here { group: GroupId { meta_index, ..GROUP }, ..here() };
        assert_eq!(work(Some(at(6)), &assignment(true, false), "a"), Some(Work::SetAside));
        let before = Assignment { group: at(6).group.to_string(), ..assignment(true, true) };
        let next = assignment(true, false).in_place_of(&before);
        assert_eq!(work(Some(at(6)), &next, "a"), Some(Work::Remove));
        let third =
            Assignment { group: at(8).group.to_string(), ..assignment(true, false) }.in_place_of(&next);
        assert_eq!(work(Some(at(6)), &third, "a"), Some(Work::Remove));
        assert_eq!(work(Some(here()), &third, "a"), Some(Work::Remove));
        assert_eq!(
            work(Some(at(8)), &assignment(true, false), "a"),
            Some(Work::SetAside),
            "of a lost history"
        );
    }

    #[test]
    fn who_holds_most_of_a_group_that_is_over_goes_on_with_it_and_others_let_go() {
        let relic = Here { is_relic: true, ..here() };
        let next = GroupId { meta_index: 8, ..GROUP };
        let mut anew = Assignment {
            group: next.to_string(),
            continues: Some(GROUP.to_string()),
            members: vec![place("a"), Placed { life: 0, ..place("b") }],
            ..assignment(false, false)
        }
        .in_place_of(&assignment(true, false));
        assert_eq!(work(Some(relic), &anew, "a"), Some(Work::Inherit));
        assert_eq!(work(Some(relic), &anew, "b"), Some(Work::Remove));
        assert_eq!(work(Some(here()), &anew, "a"), Some(Work::Remove), "it has lost that");
        anew.live = true;
        assert_eq!(work(Some(relic), &anew, "a"), Some(Work::Remove), "it has begun before");
        anew = Assignment { continues: None, live: false, ..anew };
        assert_eq!(work(Some(relic), &anew, "a"), Some(Work::Remove), "another stream of that name");
    }

    #[test]
    fn a_leader_says_that_it_lives_and_follows_its_configuration() {
        let leads = Here { leads: true, ..here() };
        assert_eq!(work(Some(leads), &assignment(false, false), "a"), Some(Work::Settle));
        assert_eq!(work(Some(leads), &assignment(true, false), "a"), None);
        let other = Here { is_configured: false, ..leads };
        assert_eq!(work(Some(other), &assignment(true, false), "a"), Some(Work::Settle));
        assert_eq!(work(Some(Here { leads: false, ..other }), &assignment(true, false), "a"), None);
    }
}
