//! Which servers of a cluster carry an asset: a pure planner for the leader of the meta group.
//!
//! A [`Fleet`] says what is known of every server. A [`Planner`] looks at it and answers with peers, or with the
//! error a client sees. It never looks at assets: how many a server carries is a count in its [`Candidate`], which
//! [`Fleet::assigned`] and [`Fleet::released`] keep, so a plan costs the same with ten assets and with a hundred
//! thousand.
//!
//! The rules are nats-server's (its `selectPeerGroup`), seen from outside, but for what it leaves to chance:
//! - Where replicas must differ in a tag, the best server of each value is taken, so a placement is found whenever
//!   there is one. nats-server takes any one of each value, and refuses when that one happens to be offline.
//! - Assets of one replica are spread in proportion to free storage. nats-server gives every one of them to the
//!   server with the most free bytes, until the next report of usage says otherwise.
//! - A move keeps the members that fit the new placement.
//! - Members count as online only when they are. A group that lost a server, or heals, gets online servers only;
//!   where an operator demands a replacement, an offline one is the last resort.
//!
//! Whether a change of members is safe at this moment is for the group itself to say; a plan is where it shall end.

mod choose;
mod consumers;
mod fleet;
mod group;
mod moves;
mod quote;
mod refusal;
mod repair;
mod scale;
mod screen;
mod step_down;
mod streams;
mod tags;

pub use fleet::{Candidate, Fleet, FleetLimits, PeerStats};
pub use group::{Demand, Group, Origin, Plan, Planner};
pub use repair::Repair;
pub use scale::{Replica, scale_down};
pub use step_down::StepDown;
pub use tags::Tags;
