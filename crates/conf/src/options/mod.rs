//! What a configuration says, as plain structs: one per section, each in its own file beside the table of its
//! keys. A table row carries everything about a key: spellings, type, default, reload rule, and how it is read.

mod account_jetstream;
mod account_limits;
mod accounts;
mod authorization;
mod client;
mod cluster;
mod compression;
mod identity;
mod jetstream;
mod jetstream_limits;
mod later;
mod limits;
mod linnet;
mod logging;
mod monitoring;
mod permissions;
mod process;
mod tls;
mod user;

pub use account_jetstream::{AccountJetStream, ClusterTraffic};
pub use account_limits::AccountLimits;
pub use accounts::{Account, Accounts, DEFAULT_SYSTEM_ACCOUNT, GLOBAL_ACCOUNT};
pub use authorization::Authorization;
pub use client::{Client, WriteTimeout};
pub(crate) use cluster::ClusterListen;
pub use cluster::{Cluster, PING_INTERVAL_MAX, RouteAddress};
pub use compression::{Compression, CompressionMode};
pub use identity::{FEATURE_FLAGS, Identity};
pub use jetstream::{JetStream, StoreCipher, SyncInterval};
pub use jetstream_limits::{BatchLimits, JetStreamLimits};
pub use limits::Limits;
pub use linnet::{Linnet, Scrub};
pub use logging::Logging;
pub use monitoring::Monitoring;
pub use permissions::{Permissions, ResponsePermission, SubjectFilter, SubjectPermissions};
pub use process::Process;
pub use tls::{CertificateFiles, HANDSHAKE_FIRST_AUTO, HandshakeFirst, Place, Tls, TlsVersion};
pub use user::{ConnectionType, User};

use std::time::Duration;

use crate::report::Explicit;
use crate::table::{Key, Table, unknown_field};

pub(crate) use accounts::TABLE as ACCOUNT;
pub(crate) use jetstream::TABLE as JETSTREAM;
pub(crate) use jetstream_limits::{BATCH_TABLE as JETSTREAM_BATCH, TABLE as JETSTREAM_LIMITS};

/// Everything that can be configured. The default is the server without configuration file or flags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Name, tags, metadata, feature flags.
    pub identity: Identity,
    /// The client listener.
    pub client: Client,
    /// Bounds on clients and messages.
    pub limits: Limits,
    /// The monitoring listener.
    pub monitoring: Monitoring,
    /// The log.
    pub logging: Logging,
    /// Pid and ports files, lame duck mode, error reports.
    pub process: Process,
    /// Logins to the global account.
    pub authorization: Authorization,
    /// Accounts and their roles.
    pub accounts: Accounts,
    /// Persistence.
    pub jetstream: JetStream,
    /// The servers of this cluster.
    pub cluster: Cluster,
    /// What only this server has.
    pub linnet: Linnet,
    /// Which keys were set at all.
    pub explicit: Explicit,
}

impl Options {
    /// Time a client has to log in: as configured, else two seconds, with TLS a second more than the handshake.
    pub fn auth_timeout(&self) -> Duration {
        match &self.client.tls {
            Some(tls) if !self.explicit.contains("authorization.timeout") => {
                tls.timeout + Duration::from_secs(1)
            }
            _ => self.authorization.timeout,
        }
    }
}

pub(crate) const TOP: Table<Options> = Table {
    section: "",
    rows: &[
        identity::KEYS,
        client::KEYS,
        limits::KEYS,
        monitoring::KEYS,
        logging::KEYS,
        process::KEYS,
        authorization::TOP_KEYS,
        accounts::TOP_KEYS,
        jetstream::TOP_KEYS,
        cluster::TOP_KEYS,
        linnet::TOP_KEYS,
        later::KEYS,
    ],
    unknown: unknown_field,
};

/// A block of the configuration with its keys, for the reference manual.
#[derive(Clone, Debug)]
pub struct Section {
    /// Path of the block; empty for the top level.
    pub path: &'static str,
    /// Its keys in the order of the manual.
    pub keys: Vec<&'static Key>,
}

/// Every block and key there is, also those not supported yet.
pub fn sections() -> Vec<Section> {
    fn section<T>(table: &Table<T>) -> Section {
        Section { path: table.section, keys: table.keys() }
    }
    vec![
        section(&TOP),
        section(&tls::TABLE),
        section(&authorization::TABLE),
        section(&user::TABLE),
        section(&permissions::TABLE),
        section(&permissions::SUBJECTS_TABLE),
        section(&permissions::RESPONSE_TABLE),
        section(&ACCOUNT),
        section(&account_limits::TABLE),
        section(&account_jetstream::TABLE),
        section(&JETSTREAM),
        section(&JETSTREAM_LIMITS),
        section(&JETSTREAM_BATCH),
        section(&cluster::TABLE),
        section(&cluster::AUTHORIZATION),
        section(&compression::TABLE),
        section(&linnet::TABLE),
        section(&linnet::SCRUB_TABLE),
    ]
}
