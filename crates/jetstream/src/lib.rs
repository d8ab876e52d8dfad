//! JetStream at run time.
//!
//! An [`Engine`] is one opening of a store directory: the log writer, the pumps that turn the loops of streams, the
//! disk threads, the catalogue of what exists, and the API that clients talk to. Nothing here decides what a stream
//! does; that is in `assets`. Start reading at `engine`, then `pump`, then `api`.

mod advisories;
mod api;
mod backup;
mod bearing;
mod budget;
mod catalogue;
mod cell;
mod cluster;
mod config;
mod disk_work;
mod engine;
mod inbox;
mod lazy_disk;
mod log_writer;
mod marker;
pub mod offline;
mod output;
mod pump;
mod reserve;
mod scrub;
mod sealing;
mod services;
mod usage;

pub use catalogue::{JsAccount, StreamHandle};
pub use cell::{Health, StreamCell};
pub use cluster::{
    GroupPeer, GroupState, GroupStatus, MetaLeader, MetaPeer, MetaPhase, MetaSnapshot, MetaStatus, Stall,
};
pub use config::{BatchBounds, Cipher, ClusterSettings, Config, Encryption, LogConfig};
pub use engine::{Assigned, AssignedStream, Engine, Orphan, Reach, Rules, StartError, StopReport};
pub use linnet_assets::StreamReport;
pub use linnet_seal::MasterKey;
pub use marker::MarkerError;
pub use scrub::{ScrubConfig, ScrubPass, ScrubReport};
pub use sealing::SealingError;
pub use usage::Usage;
