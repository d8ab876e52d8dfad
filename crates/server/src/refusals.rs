//! What a reload must leave alone, and how it says so.

use linnet_conf::options::{
    DEFAULT_SYSTEM_ACCOUNT, GLOBAL_ACCOUNT, JetStream, Options, SyncInterval, Tls, WriteTimeout,
};
use linnet_conf::{Change, Port, Reload, show_duration};

/// A value as nats-server prints it.
type Show = fn(&Options) -> String;
type ShowJetStream = fn(&JetStream) -> String;

/// Keys that cannot change while the server runs, by the names under which nats-server reports them.
const FIXED: &[(&str, &str, Show)] = &[
    ("server_name", "ServerName", |o| text(o.identity.server_name.as_ref())),
    ("feature_flags", "FeatureFlags", |o| {
        let flags: Vec<String> =
            o.identity.feature_flags.iter().map(|(name, on)| format!("{name}:{on}")).collect();
        format!("map[{}]", flags.join(" "))
    }),
    ("host", "Host", |o| o.client.host.clone()),
    ("port", "Port", |o| port(Some(o.client.port))),
    ("allow_non_tls", "AllowNonTLS", |o| o.client.allow_non_tls.to_string()),
    ("write_timeout", "WriteTimeout", |o| match o.client.write_timeout {
        WriteTimeout::Default => String::new(),
        WriteTimeout::Close => "close".to_owned(),
        WriteTimeout::Retry => "retry".to_owned(),
    }),
    ("no_header_support", "NoHeaderSupport", |o| o.client.no_header_support.to_string()),
    ("disable_sublist_cache", "NoSublistCache", |o| o.client.disable_sublist_cache.to_string()),
    ("max_subscriptions", "MaxSubs", |o| o.limits.max_subscriptions.unwrap_or(0).to_string()),
    ("max_sub_tokens", "MaxSubTokens", |o| o.limits.max_sub_tokens.map_or(0, u64::from).to_string()),
    ("max_pending", "MaxPending", |o| o.limits.max_pending.to_string()),
    ("max_closed_clients", "MaxClosedClients", |o| o.limits.max_closed_clients.to_string()),
    ("http", "HTTPHost", |o| text(o.monitoring.host.as_ref())),
    ("http_port", "HTTPPort", |o| port(o.monitoring.port)),
    ("https_port", "HTTPSPort", |o| port(o.monitoring.tls_port)),
    ("http_base_path", "HTTPBasePath", |o| o.monitoring.base_path.trim_end_matches('/').to_owned()),
    ("log_size_limit", "LogSizeLimit", |o| o.logging.log_size_limit.unwrap_or(0).to_string()),
    ("log_max_num", "LogMaxFiles", |o| o.logging.log_max_num.unwrap_or(0).to_string()),
    ("lame_duck_duration", "LameDuckDuration", |o| show_duration(o.process.lame_duck_duration)),
    ("lame_duck_grace_period", "LameDuckGracePeriod", |o| show_duration(o.process.lame_duck_grace_period)),
    ("no_auth_user", "NoAuthUser", |o| text(o.accounts.no_auth_user.as_ref())),
    ("system_account", "SystemAccount", |o| text(o.accounts.system_account.as_ref())),
    ("no_system_account", "NoSystemAccount", |o| o.accounts.no_system_account.to_string()),
];

/// The same of JetStream's keys.
const FIXED_JETSTREAM: &[(&str, &str, ShowJetStream)] = &[
    ("jetstream.domain", "JetStreamDomain", |js| text(js.domain.as_ref())),
    ("jetstream.sync_interval", "SyncInterval", |js| match js.sync_interval {
        SyncInterval::Always => "always".to_owned(),
        SyncInterval::Every(interval) => show_duration(interval),
    }),
    ("jetstream.strict", "NoJetStreamStrict", |js| (!js.strict).to_string()),
    ("jetstream.max_buffered_size", "StreamMaxBufferedSize", |js| js.max_buffered_size.to_string()),
    ("jetstream.max_buffered_msgs", "StreamMaxBufferedMsgs", |js| js.max_buffered_msgs.to_string()),
    ("jetstream.request_queue_limit", "JetStreamRequestQueueLimit", |js| js.request_queue_limit.to_string()),
    ("jetstream.info_queue_limit", "JetStreamInfoQueueLimit", |_| String::new()),
    ("jetstream.key", "JetStreamKey", |js| hidden(js.key.is_some())),
    ("jetstream.prev_key", "JetStreamOldKey", |js| hidden(js.prev_key.is_some())),
    ("jetstream.cipher", "JetStreamCipher", |js| format!("{:?}", js.cipher)),
    ("jetstream.unique_tag", "JetStreamUniqueTag", |js| text(js.unique_tag.as_ref())),
];

fn hidden(is_set: bool) -> String {
    if is_set { "[REDACTED]".to_owned() } else { String::new() }
}

/// Why the new options cannot be taken over; `None` if they can.
pub(crate) fn reason(old: &Options, new: &Options, changes: &[Change]) -> Option<String> {
    let refused = |field: &str, old: &str, new: &str| {
        Some(format!("config reload not supported for {field}: old={old}, new={new}"))
    };
    for change in changes {
        if let Some((_, field, show)) = FIXED.iter().find(|(key, ..)| *key == change.key) {
            return refused(field, &show(old), &show(new));
        }
        let is_jetstream = change.key.starts_with("jetstream") || change.key == "store_dir";
        if is_jetstream && let Some(reason) = jetstream(&old.jetstream, &new.jetstream, &change.key) {
            return Some(format!("config reload not supported for {reason}"));
        }
        if !is_jetstream && change.reload == Reload::Refused {
            return Some(format!("config reload not supported for {}, a restart is needed", change.key));
        }
    }
    if let Some(reason) = cluster(old, new) {
        return Some(reason);
    }
    let maps = |o: &Options| o.client.tls.as_ref().is_some_and(|tls| tls.verify_and_map).to_string();
    if maps(old) != maps(new) {
        return refused("TLSMap", &maps(old), &maps(new));
    }
    let rate =
        |tls: &Option<Tls>| tls.as_ref().and_then(|tls| tls.connection_rate_limit).unwrap_or(0).to_string();
    if rate(&old.client.tls) != rate(&new.client.tls) {
        return refused("TLSRateLimit", &rate(&old.client.tls), &rate(&new.client.tls));
    }
    if new.monitoring.tls_port.is_some() && new.client.tls.is_none() {
        return Some("TLS cert and key required for HTTPS".to_owned());
    }
    None
}

/// Why the cluster cannot: where it listens stays, and an account has to be there to get connections of its own.
fn cluster(old: &Options, new: &Options) -> Option<String> {
    let (old, cluster) = (&old.cluster, &new.cluster);
    let fixed =
        [("host", old.host.clone(), cluster.host.clone()), ("port", port(old.port), port(cluster.port))];
    if let Some((key, old, new)) = fixed.iter().find(|(_, old, new)| old != new) {
        return Some(format!("config reload not supported for cluster {key}: old={old}, new={new}"));
    }
    let is_missing = |name: &&String| {
        let is_built_in = *name == GLOBAL_ACCOUNT || *name == DEFAULT_SYSTEM_ACCOUNT;
        !is_built_in && new.accounts.get(name).is_none()
    };
    let missing = cluster.accounts.iter().filter(|name| !old.accounts.contains(name)).find(is_missing)?;
    Some(format!("unable to add account {missing:?} to the list of dedicated routes: account missing"))
}

/// Why JetStream cannot take over a key.
fn jetstream(old: &JetStream, new: &JetStream, key: &str) -> Option<String> {
    let goes_on = old.enabled && new.enabled;
    let sizes = match key {
        "jetstream.max_mem" => (old.max_memory, new.max_memory),
        _ => (old.max_file, new.max_file),
    };
    let plain = match (key, sizes) {
        ("jetstream.max_mem" | "jetstream.max_file" | "jetstream.store_dir" | "store_dir", _) if !goes_on => {
            None
        }
        ("jetstream.max_mem" | "jetstream.max_file", (Some(old), Some(new))) if new < old => {
            Some("decreasing jetstream max memory and store")
        }
        ("jetstream.max_mem" | "jetstream.max_file", (Some(_), None)) => {
            Some("jetstream max memory and max store")
        }
        ("jetstream.max_mem" | "jetstream.max_file", (None, Some(_))) => {
            Some("jetstream dynamic max memory and store")
        }
        ("jetstream.store_dir" | "store_dir", _) if new.store_dir.is_none() => Some("jetstream storage dir"),
        ("jetstream.store_dir" | "store_dir", _) => Some("jetstream storage directory"),
        _ => None,
    };
    if plain.is_some() {
        return plain.map(str::to_owned);
    }
    let fixed = FIXED_JETSTREAM.iter().find(|(fixed, ..)| *fixed == key);
    fixed.map(|(_, field, show)| format!("{field}: old={}, new={}", show(old), show(new)))
}

fn text(value: Option<&String>) -> String {
    value.cloned().unwrap_or_default()
}

fn port(port: Option<Port>) -> String {
    match port {
        None => "0".to_owned(),
        Some(Port::Random) => "-1".to_owned(),
        Some(Port::Fixed(port)) => port.to_string(),
    }
}
