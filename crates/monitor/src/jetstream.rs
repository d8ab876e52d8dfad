//! What `/varz` and `/jsz` both tell about JetStream.

use linnet_conf::Options;
use linnet_conf::options::JetStreamLimits;
use linnet_jetstream::Engine;
use linnet_jsapi::API_LEVEL;
use linnet_jsapi::info::ApiStats;
use serde::Serialize;

use crate::format::{nanos, signed};

/// The interval nats-server names when every write is synced: its default.
const SYNC_INTERVAL_DEFAULT: i64 = 120_000_000_000;

/// How JetStream is configured; zeros when it is off.
#[derive(Default, Serialize)]
pub(crate) struct JsConfig {
    max_memory: i64,
    max_storage: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    store_dir: String,
    #[serde(skip_serializing_if = "is_zero")]
    sync_interval: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sync_always: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    domain: String,
    /// As nats-server shows it: only where both sizes are configured.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    compress_ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    unique_tag: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
}

/// What JetStream uses on this server.
#[derive(Default, Serialize)]
pub(crate) struct JsStats {
    memory: u64,
    storage: u64,
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: i64,
    ha_assets: i64,
    api: ApiStats,
}

/// Limits on assets; those not set are left out.
#[derive(Serialize)]
pub(crate) struct JsLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_request_batch: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ack_pending: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ha_assets: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duplicate_window: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_batch_inflight_per_stream: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_batch_inflight_total: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_batch_size: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_batch_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_max_consumers: Option<i64>,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

impl JsConfig {
    pub(crate) fn of(engine: &Engine, options: &Options) -> Self {
        let (config, rules) = (engine.config(), engine.rules());
        let js = &options.jetstream;
        let is_given = |size: Option<u64>| size.is_some_and(|size| size > 0);
        Self {
            max_memory: signed(rules.max_memory),
            max_storage: signed(rules.max_storage),
            store_dir: engine.dir().display().to_string(),
            sync_interval: config.sync_interval.map_or(SYNC_INTERVAL_DEFAULT, nanos),
            sync_always: config.sync_interval.is_none(),
            domain: config.domain.clone(),
            compress_ok: is_given(js.max_memory) && is_given(js.max_file),
            unique_tag: js.unique_tag.clone().unwrap_or_default(),
            strict: config.strict,
        }
    }
}

impl JsConfig {
    /// Without the directory, which is nobody's business on other machines.
    pub(crate) fn without_place(self) -> Self {
        Self { store_dir: String::new(), ..self }
    }
}

impl JsStats {
    pub(crate) fn of(engine: &Engine) -> Self {
        let accounts = engine.accounts();
        let mut stats = Self {
            accounts: signed(accounts.len()),
            ha_assets: signed(engine.replica_count()),
            api: ApiStats { level: API_LEVEL, ..ApiStats::default() },
            ..Self::default()
        };
        // Not the usage of the server as a whole, in which its own catalogue is included.
        for account in accounts {
            let (memory, storage) = engine.usage().account(account.name());
            stats.memory += memory;
            stats.storage += storage;
            let (memory, storage) = account.reserved();
            let (total, errors) = account.api_counts();
            stats.reserved_memory += memory;
            stats.reserved_storage += storage;
            stats.api.total += total;
            stats.api.errors += errors;
        }
        stats
    }
}

impl JsLimits {
    pub(crate) fn of(options: &Options) -> Self {
        let JetStreamLimits {
            max_ack_pending,
            max_ha_assets,
            max_request_batch,
            duplicate_window,
            default_max_consumers,
            batch,
        } = &options.jetstream.limits;
        let is_set = |key: &str| options.explicit.contains(&format!("jetstream.limits.batch.{key}"));
        let set = |key: &str, n: u64| is_set(key).then(|| signed(n));
        Self {
            max_request_batch: max_request_batch.map(signed),
            max_ack_pending: max_ack_pending.map(signed),
            max_ha_assets: max_ha_assets.map(signed),
            max_duplicate_window: duplicate_window.map(nanos),
            max_batch_inflight_per_stream: set("max_inflight_per_stream", batch.max_inflight_per_stream),
            max_batch_inflight_total: set("max_inflight_total", batch.max_inflight_total),
            max_batch_size: set("max_msgs", batch.max_msgs),
            max_batch_timeout: is_set("timeout").then(|| nanos(batch.timeout)),
            default_max_consumers: default_max_consumers.map(signed),
        }
    }
}
