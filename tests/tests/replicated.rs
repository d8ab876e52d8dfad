//! JetStream of a cluster: streams whose replicas are on several servers, over crashes, lost disks and hand-overs.

mod failover;
mod faults;
mod healing;
mod health;
mod life;
mod members;
mod offline;
mod operator;
mod quorum;
mod scaling;
mod trio;
