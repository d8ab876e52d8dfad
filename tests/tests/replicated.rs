//! JetStream of a cluster: streams whose replicas are on several servers, over crashes, lost disks and hand-overs.

mod failover;
mod health;
mod life;
mod members;
mod operator;
mod quorum;
mod trio;
