//! JetStream of a cluster: streams whose replicas are on several servers, over crashes, lost disks and hand-overs.

mod apart;
mod cramped;
mod describing;
mod failover;
mod faults;
mod giving_way;
mod healing;
mod health;
mod histories;
mod kept;
mod life;
mod members;
mod moving;
mod offline;
mod operator;
mod orphaned;
mod quorum;
mod repaired;
mod rescued_apart;
mod returning;
mod rolling;
mod rules;
mod scaling;
mod slow_disk;
mod trio;
mod unreadable;
