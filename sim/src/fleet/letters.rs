use bytes::Bytes;
use linnet_ids::{GroupId, LogIndex, PeerId, Term};
use linnet_replication::cluster::{MetaRequest, Standing};

use crate::field::Parcel;

/// What servers send each other.
#[derive(Clone)]
pub(super) enum Letter {
    Frame(Bytes),
    /// A question, by its number.
    Ask(u64, Question),
    /// The answer to it.
    Answer(u64, Reply),
    /// Of the state of a group.
    Parcel(GroupId, Parcel),
}

#[derive(Clone, Debug)]
pub(super) enum Question {
    /// In which life would you take part in this group? The second one is over.
    Life(GroupId, Option<u64>),
    /// How does your replica stand?
    Standing(GroupId),
    /// Give up what your replica promised.
    GiveUp(GroupId),
    /// Something for the leader of the catalogue's group.
    Meta(MetaRequest),
    /// Who are the members of a group that you lead?
    Members(GroupId),
    /// What of the catalogue's group, which you lead, is committed?
    Committed,
    /// End the stream that you lead.
    End(GroupId),
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Life(u64),
    Standing(Standing),
    Members(Vec<PeerId>),
    Committed(Term, LogIndex),
    Done,
    /// The asked server cannot say.
    Nothing,
}
