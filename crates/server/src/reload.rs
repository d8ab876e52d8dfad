//! The configuration read again while the server runs: all of it is taken over, or nothing.

use std::sync::Arc;

use linnet_conf::options::{HandshakeFirst, Options};
use linnet_conf::{Change, Parsed, ProcessSource, Reload, check, diff, load};
use linnet_env::OsRng;
use linnet_ids::format_bytes;
use linnet_monitor::ConfigVersion;
use linnet_tls::Acceptor;

use crate::logging::Log;
use crate::run::Server;
use crate::{build, cluster, files, refusals, tls};

impl Server {
    /// Reads the configuration again and says in the log what came of it; fails with the reason.
    pub(crate) async fn reload(&self, log: &Log) -> Result<(), String> {
        let outcome = self.try_reload(log).await;
        if let Err(reason) = &outcome {
            tracing::error!("Failed to reload server configuration: {reason}");
        }
        outcome
    }

    async fn try_reload(&self, log: &Log) -> Result<(), String> {
        let path = self
            .config
            .as_ref()
            .ok_or("can only reload config when a file is provided using -c or --config")?;
        let Parsed { mut options, digest, .. } = load(path, &ProcessSource).map_err(|e| e.to_string())?;
        self.overrides.apply(&mut options);
        check(&options).map_err(|errors| errors.first().map_or_else(String::new, ToString::to_string))?;
        let acceptor = tls::acceptor(&options).map_err(|error| error.to_string())?;
        let route_tls = tls::of_routes(&options).map_err(|error| error.to_string())?;
        let old = self.options.load_full();
        let changes = diff(&old, &options);
        if let Some(reason) = refusals::reason(&old, &options, &changes) {
            return Err(reason);
        }
        let mut jetstream = build::jetstream_config(&options);
        let is_automatic = (options.jetstream.max_memory.is_none(), options.jetstream.max_file.is_none());
        if let Some(reason) = self.jetstream.refusal(jetstream.as_mut(), is_automatic).await {
            return Err(reason);
        }
        // The one step that can fail comes before those that cannot.
        log.configure(&old.logging, &options.logging)
            .map_err(|error| format!("cannot open log file: {error}"))?;

        self.broker.set_tls(acceptor.as_ref().and_then(|acceptor| tls::policy(&options, acceptor)));
        let digest_of = |acceptor: Option<&Acceptor>| acceptor.map(|acceptor| acceptor.digest);
        let is_other = digest_of(acceptor.as_ref()) != digest_of(self.tls.load().as_deref());
        self.tls.store(acceptor.map(Arc::new));
        self.options.store(Arc::new(options.clone()));
        let reloaded = {
            let (broker, options) = (self.broker.clone(), options.clone());
            // Passwords may have to be verified again.
            let apply = move || {
                broker.reload(
                    build::broker_config(&options),
                    build::authenticator(&options),
                    build::account_rules(&options),
                )
            };
            tokio::task::spawn_blocking(apply).await.unwrap_or_default()
        };
        if changed(&changes, "client_advertise") {
            self.advertise(&options);
        }
        if let Some(route) = self.route {
            let identity = self.broker.identity();
            let config = cluster::config(&options, identity, route, self.bound, route_tls, &OsRng);
            self.broker.reload_cluster(config);
        }
        self.replace_files(&old, &options);
        announce_cluster(&old, &options);
        announce(&old, &options, &changes, is_other);
        self.system.accounts_changed().await;
        self.jetstream.reload(jetstream).await;
        if reloaded.over_maximum > 0 {
            tracing::info!("Closed {} connections to fall within max_connections", reloaded.over_maximum);
        }
        if reloaded.not_pinned > 0 {
            tracing::info!("Disconnect {} clients due to pinned certs reload", reloaded.not_pinned);
        }
        let loaded = self.broker.clock().wall();
        tracing::info!("Reloaded server configuration ({digest})");
        self.version.store(Arc::new(ConfigVersion { digest, loaded }));
        Ok(())
    }

    /// The pid file and the ports file, where they are to be elsewhere. A failure is not worth refusing everything
    /// else.
    fn replace_files(&self, old: &Options, new: &Options) {
        if old.process.pid_file != new.process.pid_file
            && let Some(path) = &new.process.pid_file
            && let Err(error) = files::write_pid(path)
        {
            tracing::error!("Could not write pidfile: open {path}: {error}");
        }
        if old.process.ports_file_dir != new.process.ports_file_dir
            || old.client.tls.is_some() != new.client.tls.is_some()
        {
            self.write_ports(new);
        }
    }
}

fn changed(changes: &[Change], key: &str) -> bool {
    changes.iter().any(|change| change.key == key)
}

fn announce_cluster(old: &Options, new: &Options) {
    let without_routes = |options: &Options| {
        let mut cluster = options.cluster.clone();
        cluster.routes.clear();
        cluster
    };
    if without_routes(old) != without_routes(new) {
        tracing::info!("Reloaded: cluster");
    }
    if old.cluster.routes != new.cluster.routes {
        tracing::info!("Reloaded: cluster routes");
    }
}

/// One line for each thing that is different now, as nats-server has them.
fn announce(old: &Options, new: &Options, changes: &[Change], is_other_tls: bool) {
    // These two are said at every reload.
    tracing::info!("Reloaded: authorization users");
    tracing::info!("Reloaded: accounts");
    for change in changes.iter().filter(|change| change.reload == Reload::Live) {
        if let Some(line) = line(&change.key, new) {
            tracing::info!("{line}");
        }
    }
    if changes.iter().any(|change| change.key.starts_with("jetstream.limits.")) && new.jetstream.enabled {
        tracing::info!("Reloaded: JetStream limits");
    }
    let login = |o: &Options| (o.authorization.user.clone(), o.authorization.password.clone());
    if login(old).0 != login(new).0 {
        tracing::info!("Reloaded: authorization username");
    }
    if login(old).1 != login(new).1 {
        tracing::info!("Reloaded: authorization password");
    }
    if old.authorization.token != new.authorization.token {
        tracing::info!("Reloaded: authorization token");
    }
    if old.auth_timeout() != new.auth_timeout() {
        tracing::info!("Reloaded: authorization timeout = {}", new.auth_timeout().as_secs_f64());
    }
    announce_tls(old, new, is_other_tls);
}

fn announce_tls(old: &Options, new: &Options, is_other: bool) {
    let (Some(tls), before) = (&new.client.tls, &old.client.tls) else {
        if old.client.tls.is_some() {
            tracing::info!("Reloaded: tls = disabled");
        }
        return;
    };
    if is_other {
        tracing::info!("Reloaded: tls = enabled");
    }
    let before = before.clone().unwrap_or_default();
    if before.timeout != tls.timeout {
        tracing::info!("Reloaded: tls timeout = {}", tls.timeout.as_secs_f64());
    }
    if before.pinned_certs != tls.pinned_certs {
        tracing::info!("Reloaded: {} pinned_certs", tls.pinned_certs.as_ref().map_or(0, |pins| pins.len()));
    }
    if before.handshake_first != tls.handshake_first {
        let is_first = tls.handshake_first != HandshakeFirst::No;
        tracing::info!("Reloaded: Client TLS handshake first: {is_first}");
        if let HandshakeFirst::Within(time) = tls.handshake_first {
            tracing::info!("Reloaded: Client TLS handshake first fallback delay: {time:?}");
        }
    }
}

/// The line about a key; `None` for those that have lines of their own.
fn line(key: &str, new: &Options) -> Option<String> {
    let time = linnet_conf::show_duration;
    let (logging, limits, client) = (&new.logging, &new.limits, &new.client);
    Some(match key {
        "server_tags" => "Reloaded: tags".to_owned(),
        "server_metadata" => "Reloaded: metadata".to_owned(),
        "client_advertise" => {
            format!("Reload: client_advertise = {}", client.advertise.as_deref().unwrap_or_default())
        }
        "debug" => format!("Reloaded: debug = {}", logging.debug),
        "trace" => format!("Reloaded: trace = {}", logging.trace),
        "trace_verbose" => format!("Reloaded: trace_verbose = {}", logging.trace_verbose),
        "trace_headers" => format!("Reloaded: trace_headers = {}", logging.trace_headers),
        "logtime" => format!("Reloaded: logtime = {}", logging.logtime),
        "logtime_utc" => format!("Reloaded: logtime_utc = {}", logging.logtime_utc),
        "log_file" => format!("Reloaded: log_file = {}", logging.log_file.as_deref().unwrap_or_default()),
        "max_traced_msg_len" => {
            format!("Reloaded: max_traced_msg_len = {}", logging.max_traced_msg_len.unwrap_or(0))
        }
        "jetstream.enabled" => "Reloaded: JetStream".to_owned(),
        "jetstream.max_mem" => {
            format!("Reloaded: JetStream max_mem_store = {}", format_bytes(new.jetstream.max_memory?))
        }
        "jetstream.max_file" => {
            format!("Reloaded: JetStream max_file_store = {}", format_bytes(new.jetstream.max_file?))
        }
        "max_connections" => format!("Reloaded: max_connections = {}", limits.max_connections),
        "max_control_line" => format!("Reloaded: max_control_line = {}", limits.max_control_line),
        "max_payload" => format!("Reloaded: max_payload = {}", limits.max_payload),
        "ping_interval" => format!("Reloaded: ping_interval = {}", time(client.ping_interval)),
        "ping_max" => format!("Reloaded: ping_max = {}", client.ping_max),
        "write_deadline" => format!("Reloaded: write_deadline = {}", time(client.write_deadline)),
        "no_fast_producer_stall" => {
            let not = if client.no_fast_producer_stall { "not " } else { "" };
            format!("Reloaded: fast producers will {not}be stalled")
        }
        "pid_file" => {
            format!("Reloaded: pid_file = {}", new.process.pid_file.as_deref()?)
        }
        "ports_file_dir" => {
            let dir = new.process.ports_file_dir.as_deref().unwrap_or_default();
            format!("Reloaded: ports_file_dir = {dir}")
        }
        "connect_error_reports" => {
            format!("Reloaded: connect_error_reports = {}", new.process.connect_error_reports)
        }
        "reconnect_error_reports" => {
            format!("Reloaded: reconnect_error_reports = {}", new.process.reconnect_error_reports)
        }
        _ => return None,
    })
}
