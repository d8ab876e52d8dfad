use super::jetstream::switch;
use crate::lang::Value;
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, Table, key, unknown_field};

/// What an account may use of JetStream. `None` is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountJetStream {
    /// Bytes of memory storage.
    pub max_memory: Option<u64>,
    /// Bytes of file storage.
    pub max_store: Option<u64>,
    /// Streams.
    pub max_streams: Option<u64>,
    /// Consumers.
    pub max_consumers: Option<u64>,
    /// Every stream must have a size limit.
    pub max_bytes_required: bool,
    /// Bytes of one memory stream.
    pub mem_max_stream_bytes: Option<u64>,
    /// Bytes of one file stream.
    pub disk_max_stream_bytes: Option<u64>,
    /// Unacknowledged messages of one consumer.
    pub max_ack_pending: Option<u64>,
    /// Whose account carries replication traffic.
    pub cluster_traffic: ClusterTraffic,
}

/// The account in which the traffic of replicated assets travels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClusterTraffic {
    /// The system account.
    #[default]
    System,
    /// The account that owns the assets.
    Owner,
}

pub(crate) const TABLE: Table<AccountJetStream> =
    Table { section: "account jetstream", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<AccountJetStream>] = &[
    key!(
        ["max_memory", "max_mem", "mem", "memory"],
        "integer",
        "-1",
        Live,
        max_memory = read::limit_from_zero,
        "Bytes of memory storage; -1 is unlimited."
    ),
    key!(
        ["max_store", "max_file", "max_disk", "store", "disk"],
        "integer",
        "-1",
        Live,
        max_store = read::limit_from_zero,
        "Bytes of file storage; -1 is unlimited."
    ),
    key!(
        ["max_streams", "streams"],
        "integer",
        "-1",
        Live,
        max_streams = read::limit_from_zero,
        "Streams; -1 is unlimited."
    ),
    key!(
        ["max_consumers", "consumers"],
        "integer",
        "-1",
        Live,
        max_consumers = read::limit_from_zero,
        "Consumers; -1 is unlimited."
    ),
    key!(
        ["max_bytes_required", "max_stream_bytes", "max_bytes"],
        "boolean",
        "false",
        Live,
        max_bytes_required = read::boolean,
        "Refuse streams without a size limit."
    ),
    key!(
        ["mem_max_stream_bytes", "memory_max_stream_bytes"],
        "integer",
        "-1",
        Live,
        mem_max_stream_bytes = read::limit_from_zero,
        "Bytes of one memory stream; -1 is unlimited."
    ),
    key!(
        ["disk_max_stream_bytes", "store_max_stream_bytes"],
        "integer",
        "-1",
        Live,
        disk_max_stream_bytes = read::limit_from_zero,
        "Bytes of one file stream; -1 is unlimited."
    ),
    key!(
        ["max_ack_pending"],
        "integer",
        "-1",
        Live,
        max_ack_pending = read::limit_from_zero,
        "Unacknowledged messages of one consumer; -1 is unlimited."
    ),
    key!(
        ["cluster_traffic"],
        "system or owner",
        "system",
        Live,
        cluster_traffic = cluster_traffic,
        "Account in which replication traffic travels."
    ),
];

/// The outer `None` is an error, the inner one means off.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Option<Option<AccountJetStream>> {
    let Value::Map(map) = field.value else {
        return switch(field, report).map(|on| on.then(AccountJetStream::default));
    };
    let mut limits = AccountJetStream::default();
    TABLE.read(map, &mut limits, report);
    Some(Some(limits))
}

fn cluster_traffic(field: &Field<'_>, report: &mut Report) -> Option<ClusterTraffic> {
    let text = read::string(field, report)?;
    match text.as_str() {
        "system" => Some(ClusterTraffic::System),
        "owner" => Some(ClusterTraffic::Owner),
        _ => {
            let name = field.name;
            report.error(
                field.at,
                format!("Expected 'system' or 'owner' string value for {name:?}, got {text}"),
            );
            None
        }
    }
}
