//! What the server says of itself at start (configuration, "Start lines in order").

use linnet_conf::options::{HandshakeFirst, Options};
use linnet_ids::{format_bytes, node_hash};

use crate::{LINNET_VERSION, NATS_VERSION};

/// First lines of the log.
pub(crate) fn opening(options: &Options, name: &str, id: &str, config: Option<(&str, &str)>) {
    tracing::info!("Starting nats-server");
    tracing::info!("  Version:  {NATS_VERSION} (linnet {LINNET_VERSION})");
    tracing::info!("  Git:      [{}]", git_commit());
    tracing::info!("  Name:     {name}");
    if options.jetstream.enabled {
        tracing::info!("  Node:     {}", node_hash(name));
    }
    tracing::info!("  ID:       {id}");
    feature_flags(options);
    if crate::build::has_plain_passwords(options) {
        tracing::warn!("Plaintext passwords detected, use nkeys or bcrypt");
    }
    if let Some((path, digest)) = config {
        tracing::info!("Using configuration file: {path} ({digest})");
    }
    if options.limits.max_payload > 8 << 20 {
        tracing::warn!(
            "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance"
        );
    }
}

/// Flags of the configuration, those unknown here apart.
fn feature_flags(options: &Options) {
    let flags = &options.identity.feature_flags;
    if flags.is_empty() {
        return;
    }
    let is_known = |name: &str| linnet_conf::options::FEATURE_FLAGS.iter().any(|(known, ..)| *known == name);
    let (known, unknown): (Vec<_>, Vec<_>) = flags.iter().partition(|(name, _)| is_known(name));
    tracing::info!("  Feature flags:");
    if !known.is_empty() {
        let texts: Vec<String> = known
            .iter()
            .map(|(name, on)| format!("{name} ({})", if **on { "opt-in" } else { "opt-out" }))
            .collect();
        tracing::info!("    Configured:    {}", texts.join(", "));
    }
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.iter().map(|(name, _)| name.as_str()).collect();
        tracing::info!("    Unsupported:   {}", names.join(", "));
    }
}

/// What the client listener asks of its clients.
pub(crate) fn tls(options: &Options) {
    let Some(tls) = &options.client.tls else { return };
    if options.client.allow_non_tls {
        tracing::info!("TLS available for client connections");
    } else {
        tracing::info!("TLS required for client connections");
    }
    if tls.handshake_first == HandshakeFirst::Yes && !options.client.allow_non_tls {
        tracing::warn!("Clients that are not using \"TLS Handshake First\" option will fail to connect");
    }
}

/// The name of the cluster.
pub(crate) fn cluster(options: &Options, name: &str) {
    tracing::info!("Cluster name is {name}");
    if options.cluster.name.is_none() {
        tracing::warn!("Cluster name was dynamically generated, consider setting one");
    }
}

/// JetStream's block.
pub(crate) fn jetstream(config: &linnet_jetstream::Config, is_temporary: bool) {
    tracing::info!("Starting JetStream");
    if is_temporary {
        tracing::warn!("Temporary storage directory used, data could be lost on system reboot");
    }
    tracing::info!("---------------- JETSTREAM ----------------");
    tracing::info!("  Strict:          {}", config.strict);
    tracing::info!("  Max Memory:      {}", format_bytes(config.max_memory));
    tracing::info!("  Max Storage:     {}", format_bytes(config.max_storage));
    tracing::info!("  Store Directory: \"{}\"", config.store_dir.join("jetstream").display());
    if !config.domain.is_empty() {
        tracing::info!("  Domain:          {}", config.domain);
    }
    if let Some(encryption) = &config.encryption {
        tracing::info!("  Encryption:      {}", encryption.cipher.name());
    }
    match config.sync_interval {
        None => tracing::info!("  Sync:            always"),
        Some(interval) => tracing::warn!(
            "  Sync:            every {interval:?}: a crash of the machine can lose acknowledged messages"
        ),
    }
    tracing::info!("  API Level:       {}", linnet_jsapi::API_LEVEL);
    tracing::info!("-------------------------------------------");
}

/// Short hash of the source this was built from, if the build knew it.
pub(crate) fn git_commit() -> &'static str {
    option_env!("LINNET_GIT_COMMIT").unwrap_or("unknown")
}

/// What an operator should know about TLS of routes.
pub(crate) fn route_tls(options: &Options) {
    if options.cluster.tls.as_ref().is_some_and(|tls| tls.insecure) {
        tracing::warn!(
            "TLS certificate chain and hostname of solicited routes will not be verified. DO NOT USE IN PRODUCTION!"
        );
    }
}
