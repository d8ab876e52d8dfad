//! What servers of one JetStream domain say to each other.
//!
//! Everything rides the system account, which has a connection of its own between every two servers of a cluster. A
//! server listens to one pattern, and messages for it name it by its [`PeerId`](linnet_ids::PeerId). [`Link`] is a
//! server's end: it sends and takes frames of replicated groups, tells who can be heard, and carries questions
//! (`ask`) and the ballot by which the meta group is founded (`founding`).

mod ask;
mod boot;
mod checked_file;
mod datagram;
mod directory;
mod expected;
mod founding;
mod link;
mod loops;
mod receiving;
mod seldom;
mod sender;
mod status;
mod subjects;
#[cfg(test)]
mod testing;

pub(crate) use ask::{Answerer, AskError, AskKind};
pub(crate) use boot::next_boot;
pub(crate) use directory::{PeerView, Stranger};
pub(crate) use founding::{Foundation, Founder};
pub(crate) use link::{Link, LinkConfig};
pub(crate) use loops::Pumps;
pub(crate) use sender::FrameSender;
pub(crate) use status::MetaFacts;
pub use status::{
    GroupPeer, GroupState, GroupStatus, MetaLeader, MetaPeer, MetaPhase, MetaSnapshot, MetaStatus, Stall,
};
