//! What a server of a cluster does about streams, decided without tasks, clocks or connections: whoever runs it asks other
//! servers and has groups act. The server and the simulator run the same decisions.
//!
//! | Who | Decides |
//! |---|---|
//! | every server | whether it knows what is decided: [`Assurance`]; what of the catalogue concerns it: [`Here::work`], how a replica begins: [`Assignment::first_replica`](crate::Assignment::first_replica) |
//! | the leader of a stream | the next step of its members: [`Standpoint`] |
//! | the leader of the catalogue | its own members: [`next_member`]; what others tell it: [`MetaRequest`]; streams that lack members: [`heal`]; streams that too few remember: [`Rebirth`] |

mod assurance;
mod begin;
mod earlier;
mod healing;
mod known;
mod load;
mod members;
mod placed;
mod probing;
mod requests;
mod reseed;
mod steps;
mod work;

pub use assurance::Assurance;
pub use begin::Founded;
pub use healing::{Healing, Seen, gone_with_its_server, heal, is_ailing};
pub use known::Known;
pub use load::Load;
pub use members::{NextMember, next_member};
pub use placed::{in_life, placed};
pub use probing::SILENT_AFTER;
pub use requests::MetaRequest;
pub use reseed::{Rebirth, Standing};
pub use steps::{Standpoint, Step};
pub use work::{Here, Work, has_let_go};
