//! What bounds configurations besides themselves, and how long names and texts may be.

use crate::info::AccountLimits;
use crate::time::Nanos;

/// Largest sequence a stream may be made to begin at: more follow than will ever be stored.
pub const FIRST_SEQ_MAX: u64 = i64::MAX.unsigned_abs();
/// Longest name of a stream or consumer.
pub const NAME_MAX: usize = 255;
/// Longest description of a stream or consumer.
pub const DESCRIPTION_MAX: usize = 4096;
/// Most bytes in keys and values of metadata, the server's own keys included.
pub const METADATA_MAX: usize = 128 * 1024;
/// Most replicas.
pub const REPLICAS_MAX: i64 = 5;
/// Most names in a page of `STREAM.NAMES` and `CONSUMER.NAMES`.
pub const NAMES_PAGE_MAX: usize = 1024;
/// Most entries in a page of `STREAM.LIST` and `CONSUMER.LIST`.
pub const LIST_PAGE_MAX: usize = 256;
/// Most subjects in a page of `STREAM.INFO`.
pub const SUBJECTS_PAGE_MAX: usize = 100_000;

/// What the server and the account allow at the moment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// Whether the server is part of a cluster; alone it can not replicate.
    pub clustered: bool,
    /// Longest `duplicate_window`; 0 is unlimited.
    pub duplicate_window: Nanos,
    /// Largest `max_batch` of consumers, and their default; 0 is unlimited.
    pub max_request_batch: i64,
    /// Consumers of a stream that sets no limit of its own; 0 is unlimited.
    pub default_max_consumers: i64,
    /// Largest `max_ack_pending` of consumers; 0 is unlimited.
    pub max_ack_pending: i64,
    /// What the account (or its tier for the number of replicas) may have; `None` when it has no such tier.
    pub account: Option<AccountLimits>,
    /// What the server may reserve for all accounts; −1 is unlimited.
    pub server: Amounts,
    /// Number of streams of the account (or tier).
    pub streams: i64,
    /// Reserved by the account's (or tier's) streams.
    pub account_reserved: Amounts,
    /// Reserved by all accounts.
    pub server_reserved: Amounts,
}

/// Bytes per kind of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Amounts {
    /// In memory.
    pub memory: i64,
    /// On disk.
    pub storage: i64,
}

impl Limits {
    /// No limits at all.
    pub fn unlimited() -> Self {
        Self {
            account: Some(AccountLimits::default()),
            server: Amounts { memory: -1, storage: -1 },
            ..Self::default()
        }
    }
}

/// Whether a name can be given to a stream or consumer.
pub(crate) fn is_asset_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', '*', '>', '\\', '/', ' ', '\t', '\r', '\n', '\x0c'])
}

/// True if a priority group may be called so.
pub fn is_group_name(name: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'=' | b'-');
    (1..=16).contains(&name.len()) && name.bytes().all(is_allowed)
}
