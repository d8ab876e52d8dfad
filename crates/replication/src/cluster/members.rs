use linnet_ids::PeerId;
use linnet_raft::{Change, MemberProgress, Role, Status};

/// What the leader of the catalogue's group does next about its members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextMember {
    /// This step.
    Change(Change),
    /// Take one of these in, in the life that it names.
    TakeIn(Vec<PeerId>),
    /// Nothing now.
    Nothing,
}

/// A learner that has everything and can be heard is promoted; then one of `others` is taken in, the servers that can be heard and may
/// come.
pub fn next_member(
    status: &Status,
    progress: impl Fn(PeerId) -> Option<MemberProgress>,
    is_heard: impl Fn(PeerId) -> bool,
    others: impl IntoIterator<Item = PeerId>,
) -> NextMember {
    let members = status.membership.members();
    let learners = || members.iter().filter(|m| m.role == Role::Learner);
    let has_all = |p: &MemberProgress| p.matched >= status.commit && !p.is_amnesiac;
    let heard = || learners().filter(|m| is_heard(m.peer));
    if let Some(ready) = heard().find(|m| progress(m.peer).as_ref().is_some_and(has_all)) {
        return NextMember::Change(Change::Promote(ready.peer));
    }
    // One that cannot be heard does not vote, and keeps nobody waiting.
    if heard().next().is_some() {
        return NextMember::Nothing;
    }
    let is_member = |peer: PeerId| members.iter().any(|m| m.peer == peer);
    let others: Vec<PeerId> = others.into_iter().filter(|peer| !is_member(*peer)).collect();
    if others.is_empty() { NextMember::Nothing } else { NextMember::TakeIn(others) }
}
