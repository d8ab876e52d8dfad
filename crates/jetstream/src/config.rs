use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linnet_jsapi::info::AccountLimits;

use linnet_seal::MasterKey;

use crate::scrub::ScrubConfig;

pub use linnet_assets::BatchBounds;
pub use linnet_seal::Cipher;
pub use linnet_wal::Config as LogConfig;

/// How the store is encrypted.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// Cipher of files.
    pub cipher: Cipher,
    /// Their key.
    pub key: Arc<MasterKey>,
    /// The key they may have had before.
    pub prev_key: Option<Arc<MasterKey>>,
}

/// The cluster that a server's JetStream is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Name of the cluster.
    pub name: String,
    /// Tags of this server, by which streams are placed.
    pub tags: Vec<String>,
    /// Replicated assets that this server takes; `None` for any number.
    pub max_ha_assets: Option<u64>,
    /// Prefix of the tag in which the replicas of a stream differ; empty for none.
    pub unique_tag: String,
}

/// Settings of JetStream on one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory that holds everything; created if missing.
    pub store_dir: PathBuf,
    /// Bytes of memory streams.
    pub max_memory: u64,
    /// Bytes of file streams.
    pub max_storage: u64,
    /// Domain, empty for none.
    pub domain: String,
    /// How often the log is synced; `None` syncs before every acknowledgement.
    pub sync_interval: Option<Duration>,
    /// How the store is encrypted; `None` for plain text.
    pub encryption: Option<Encryption>,
    /// Refuse unknown fields in API requests.
    pub strict: bool,
    /// Messages on their way into one stream.
    pub max_buffered_msgs: usize,
    /// Bytes on their way into one stream.
    pub max_buffered_bytes: usize,
    /// API requests waiting.
    pub request_queue_limit: usize,
    /// Limits on what may be configured; 0 for none.
    pub max_ack_pending: i64,
    /// Largest batch of a pull request; 0 for any.
    pub max_request_batch: i64,
    /// Consumers of a stream that sets no limit of its own; 0 for any number.
    pub default_max_consumers: i64,
    /// Longest duplicate window in nanoseconds; 0 for any.
    pub max_duplicate_window: i64,
    /// Bounds of atomic batches.
    pub batches: BatchBounds,
    /// Sizes of the write-ahead log.
    pub log: LogConfig,
    /// How stored messages are verified in the background.
    pub scrub: ScrubConfig,
    /// The cluster; `None` for a server alone.
    pub cluster: Option<ClusterSettings>,
    /// Accounts that have JetStream, with their limits.
    pub accounts: Vec<(String, AccountLimits)>,
}
