use std::time::Duration;

use super::Options;
use super::jetstream_limits::{self, JetStreamLimits};
use crate::lang::Value;
use crate::read;
use crate::report::Report;
use crate::secret::Secret;
use crate::table::{Field, Row, Table, key, not_yet, unknown_field};

/// Persistence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetStream {
    /// Whether the server has JetStream.
    pub enabled: bool,
    /// Directory under which the data lives; a temporary one if not set.
    pub store_dir: Option<String>,
    /// Bytes of memory storage; `None` is chosen from the memory of the machine.
    pub max_memory: Option<u64>,
    /// Bytes of file storage; `None` is chosen from the free space of the disk.
    pub max_file: Option<u64>,
    /// Name of the JetStream domain.
    pub domain: Option<String>,
    /// Prefix of the server tag in which the replicas of an asset differ; a stream is placed by it.
    pub unique_tag: Option<String>,
    /// When stored messages are forced to the disk.
    pub sync_interval: SyncInterval,
    /// Refuse API requests with unknown fields.
    pub strict: bool,
    /// Bytes that may wait to enter one stream.
    pub max_buffered_size: u64,
    /// Messages that may wait to enter one stream.
    pub max_buffered_msgs: u64,
    /// API requests that may wait.
    pub request_queue_limit: u64,
    /// Limits for all accounts.
    pub limits: JetStreamLimits,
    /// Key that stored data is encrypted with.
    pub key: Option<Secret>,
    /// Key that stored data may still be encrypted with.
    pub prev_key: Option<Secret>,
    /// How stored data is encrypted, if there is a key.
    pub cipher: StoreCipher,
}

/// How stored data is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StoreCipher {
    /// ChaCha20.
    #[default]
    ChaCha,
    /// AES-256.
    Aes,
}

/// When stored messages are forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncInterval {
    /// Before a message is acknowledged.
    Always,
    /// In the background. A crash of the machine can lose acknowledged messages.
    Every(Duration),
}

impl Default for JetStream {
    fn default() -> Self {
        Self {
            enabled: false,
            store_dir: None,
            max_memory: None,
            max_file: None,
            domain: None,
            unique_tag: None,
            // nats-server's default is two minutes, which breaks the promise an acknowledgement makes.
            sync_interval: SyncInterval::Always,
            strict: true,
            max_buffered_size: 128 << 20,
            max_buffered_msgs: 100_000,
            request_queue_limit: 10_000,
            limits: JetStreamLimits::default(),
            key: None,
            prev_key: None,
            cipher: StoreCipher::default(),
        }
    }
}

pub(super) const TOP_KEYS: &[Row<Options>] = &[
    key!(["jetstream"], "boolean, enabled, disabled or map", "false", Live, => read,
        "JetStream; a map enables it unless it says otherwise."),
    key!(["store_dir", "storedir"], "string", "(temporary)", Refused,
        => |options: &mut Options, field: &Field<'_>, report: &mut Report| {
            store_dir(&mut options.jetstream, field, report);
        }, "Directory under which JetStream keeps its data."),
];

pub(crate) const TABLE: Table<JetStream> =
    Table { section: "jetstream", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<JetStream>] = &[
    key!(["enabled", "enable"], "boolean", "true", Live, enabled = read::boolean, "Whether JetStream is on."),
    key!(["store_dir", "storedir", "store"], "string", "(temporary)", Refused, store_dir => store_dir,
        "Directory under which JetStream keeps its data."),
    key!(
        ["max_mem", "max_mem_store", "max_memory_store"],
        "size",
        "(75% of memory)",
        GrowOnly,
        max_memory = read::size_or_automatic,
        "Bytes of memory storage; 0 allows none."
    ),
    key!(
        ["max_file", "max_file_store"],
        "size",
        "(75% of free space)",
        GrowOnly,
        max_file = read::size_or_automatic,
        "Bytes of file storage; 0 allows none."
    ),
    key!(
        ["domain"],
        "string",
        "",
        Refused,
        domain = read::string,
        "Name of the JetStream domain, a single subject token."
    ),
    key!(
        ["sync_interval", "sync"],
        "duration or always",
        "always",
        Refused,
        sync_interval = sync_interval,
        "When stored messages are forced to disk: before the acknowledgement, or in the background."
    ),
    key!(
        ["strict"],
        "boolean",
        "true",
        Refused,
        strict = read::boolean,
        "Refuse API requests with unknown fields."
    ),
    key!(
        ["max_buffered_size"],
        "size",
        "134217728",
        Refused,
        max_buffered_size = positive_size,
        "Bytes that may wait to enter one stream."
    ),
    key!(
        ["max_buffered_msgs"],
        "integer",
        "100000",
        Refused,
        max_buffered_msgs = read::positive,
        "Messages that may wait to enter one stream."
    ),
    key!(
        ["request_queue_limit"],
        "integer",
        "10000",
        Refused,
        request_queue_limit = queue_limit,
        "API requests that may wait."
    ),
    not_yet!(
        ["info_queue_limit"],
        Refused,
        "API requests for information that may wait in a queue of their own."
    ),
    key!(["limits"], "map", "", Live, => jetstream_limits::read, "Limits for all accounts."),
    key!(
        ["key", "ek", "encryption_key"],
        "string",
        "",
        Refused,
        key => key,
        "Key to encrypt stored data with; what is not encrypted with it yet is at the next start."
    ),
    key!(
        ["prev_key", "prev_ek", "prev_encryption_key"],
        "string",
        "",
        Refused,
        prev_key => prev_key,
        "Key stored data is still encrypted with, to change `key`."
    ),
    key!(
        ["cipher"],
        "chacha, chachapoly or aes",
        "chacha",
        Refused,
        cipher = cipher,
        "Cipher to encrypt stored data with."
    ),
    not_yet!(["tpm"], Refused, "Key storage in a TPM."),
    not_yet!(["extension_hint"], Refused, "Whether a leafnode's JetStream extends the hub's."),
    key!(
        ["unique_tag"],
        "string",
        "",
        Refused,
        unique_tag = read::string,
        "Prefix of the tag in which the replicas of an asset must differ."
    ),
    not_yet!(["max_outstanding_catchup"], Refused, "Bytes in flight to replicas that catch up."),
    not_yet!(["meta_compact"], Live, "Entries at which the meta log is compacted."),
    not_yet!(["meta_compact_size"], Live, "Bytes at which the meta log is compacted."),
    not_yet!(["meta_compact_sync"], Live, "Compact the meta log before going on."),
    not_yet!(["max_concurrent_io"], Refused, "Disk operations at a time."),
];

fn read(options: &mut Options, field: &Field<'_>, report: &mut Report) {
    let Value::Map(map) = field.value else {
        if let Some(on) = switch(field, report) {
            options.jetstream.enabled = on;
        }
        return;
    };
    options.jetstream.enabled = true;
    TABLE.read(map, &mut options.jetstream, report);
}

/// A boolean, or one of the words for it.
pub(super) fn switch(field: &Field<'_>, report: &mut Report) -> Option<bool> {
    match field.value {
        Value::Bool(on) => Some(*on),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "enabled" | "enable" => Some(true),
            "disabled" | "disable" => Some(false),
            _ => {
                let message = format!("Expected 'enabled' or 'disabled' for string value, got '{text}'");
                report.error(field.at, message);
                None
            }
        },
        other => {
            let text = format!("Expected map, bool or string to define JetStream, got {}", other.kind());
            report.error(field.at, text);
            None
        }
    }
}

fn store_dir(section: &mut JetStream, field: &Field<'_>, report: &mut Report) {
    let Some(dir) = read::string(field, report) else { return };
    if section.store_dir.is_some() {
        report.error(field.at, "Duplicate 'store_dir' configuration");
    }
    section.store_dir = Some(dir).filter(|d| !d.is_empty());
}

fn sync_interval(field: &Field<'_>, report: &mut Report) -> Option<SyncInterval> {
    match field.value {
        Value::String(text) if text.eq_ignore_ascii_case("always") => Some(SyncInterval::Always),
        _ => read::duration(field, report).map(SyncInterval::Every),
    }
}

fn positive_size(field: &Field<'_>, report: &mut Report) -> Option<u64> {
    read::size(field, report).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)
}

/// An empty key is none.
fn key(section: &mut JetStream, field: &Field<'_>, report: &mut Report) {
    section.key = read::string(field, report).filter(|text| !text.is_empty()).map(Secret::from);
}

fn prev_key(section: &mut JetStream, field: &Field<'_>, report: &mut Report) {
    section.prev_key = read::string(field, report).filter(|text| !text.is_empty()).map(Secret::from);
}

fn cipher(field: &Field<'_>, report: &mut Report) -> Option<StoreCipher> {
    let name = read::string(field, report)?;
    match name.to_lowercase().as_str() {
        "chacha" | "chachapoly" => Some(StoreCipher::ChaCha),
        "aes" => Some(StoreCipher::Aes),
        _ => {
            report.error(field.at, format!("Unknown cipher type: {name:?}"));
            None
        }
    }
}

/// Zero and below keep the default, as in nats-server.
fn queue_limit(field: &Field<'_>, report: &mut Report) -> Option<u64> {
    read::integer(field, report).and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0)
}
