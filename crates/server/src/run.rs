use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::{ArcSwap, ArcSwapOption};
use linnet_broker::{Broker, ServerIdentity};
use linnet_conf::Options;
use linnet_conf::flags::Overrides;
use linnet_env::{Clock, OsRng, RealClock, RealDisk};
use linnet_jetstream::Engine;
use linnet_monitor::{ConfigVersion, ListenerKind, Listeners, Monitor, MonitorState};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::address::{HostPort, ListenError, resolve};
use crate::logging::Log;
use crate::signals::{Asked, Signals};
use crate::{NATS_VERSION, banner, build, files, keys, logging};

/// How long connections have to take their last bytes at a stop.
const LAST_BYTES: Duration = Duration::from_millis(200);
/// Pause before a store whose log failed is opened again.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Runs a server until it is told to stop. `config` is the file the options come from and its digest; `overrides` are
/// the flags laid over it, which also belong over the file when it is read again.
///
/// An error has been logged, as `[FTL]`; the caller exits with 1.
pub fn run(options: Options, overrides: Overrides, config: Option<(String, String)>) -> anyhow::Result<()> {
    let log = Log::start(&options.logging).inspect_err(|error| {
        logging::say_unopenable(options.logging.log_file.as_deref().unwrap_or_default(), error);
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("linnet-net")
        .build()
        .context("cannot start the runtime")?;
    let outcome = runtime.block_on(serve(options, overrides, config, &log));
    // What is still running serves nobody any more.
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Err(error) = &outcome {
        tracing::error!(target: logging::FATAL, "{}", causes(error));
    }
    outcome
}

fn identity(options: &Options) -> ServerIdentity {
    let id = keys::server(&OsRng);
    ServerIdentity {
        name: options.identity.server_name.clone().unwrap_or_else(|| id.clone()),
        id,
        xkey: keys::curve(&OsRng),
        version: NATS_VERSION.to_owned(),
        git_commit: banner::git_commit().to_owned(),
        go: format!("rust{}", option_env!("CARGO_PKG_RUST_VERSION").unwrap_or_default()),
    }
}

/// An error and its causes in one line. Many errors of ours end with their cause already.
fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

async fn serve(
    options: Options,
    overrides: Overrides,
    config: Option<(String, String)>,
    log: &Log,
) -> anyhow::Result<()> {
    let mut signals = Signals::listen().context("cannot listen to signals")?;
    let identity = identity(&options);
    banner::opening(
        &options,
        &identity.name,
        &identity.id,
        config.as_ref().map(|(path, digest)| (path.as_str(), digest.as_str())),
    );
    if let Some(path) = &options.process.pid_file {
        files::write_pid(path).with_context(|| format!("Could not write pidfile: open {path}"))?;
    }
    let clock = Arc::new(RealClock::new());
    let broker = Broker::new(
        identity.clone(),
        build::broker_config(&options),
        build::authenticator(&options),
        build::accounts(&options),
        clock.clone(),
        Arc::new(OsRng),
        tokio::runtime::Handle::current(),
    );
    let engine = Arc::new(ArcSwapOption::<Engine>::empty());
    let stopping = Arc::new(AtomicBool::new(false));
    let listeners = Arc::new(Listeners::expecting([ListenerKind::Server]));
    // Before JetStream is restored, so that probes can watch it.
    let monitoring = monitor(&options, config.as_ref(), &broker, &engine, &listeners, &*clock).await?;

    if let Some(settings) = build::jetstream_config(&options) {
        banner::jetstream(&settings, options.jetstream.store_dir.is_none());
        let domain = settings.domain.clone();
        let started = Engine::start(settings.clone(), broker.clone(), Arc::new(RealDisk), &identity.name)
            .await
            .context("Can't start JetStream")?;
        engine.store(Some(started));
        let keeper = Keeper {
            settings,
            broker: broker.clone(),
            engine: engine.clone(),
            server: identity.name.clone(),
        };
        tokio::spawn(keeper.run(stopping.clone()));
        broker.update_info(|info| {
            info.jetstream = true;
            info.domain = domain;
            info.api_lvl = linnet_jsapi::API_LEVEL;
        });
    }

    let (listener, bound) = listen(&broker, &options)?;
    broker.update_info(|info| {
        let (host, port) = options.client.advertised(bound.port());
        host.clone_into(&mut info.host);
        info.port = port;
    });
    let (stop_accepting, accepting) = watch::channel(false);
    listeners.opened(ListenerKind::Server, bound);
    tracing::info!("Listening for client connections on {}", HostPort(&options.client.host, bound.port()));
    let ports_file = match &options.process.ports_file_dir {
        Some(dir) => match files::write_ports(dir, bound, monitoring) {
            Ok(path) => Some(path),
            Err(error) => {
                tracing::error!("Could not write ports file in {dir}: {error}");
                None
            }
        },
        None => None,
    };
    let serving = tokio::spawn({
        let broker = broker.clone();
        async move { broker.serve(listener, accepting).await }
    });
    tracing::info!("Server is ready");

    let config = config.map(|(path, _)| path);
    let server = Server { broker, engine, options, listeners, stop_accepting, stopping, config, overrides };
    server.obey(&mut signals, log).await;
    server.stop().await;
    let _ = serving.await;
    if let Some(path) = ports_file {
        files::remove(&path);
    }
    tracing::info!("Server Exiting..");
    Ok(())
}

/// Opens the listener for clients.
fn listen(broker: &Broker, options: &Options) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let (host, port) = (&options.client.host, options.client.port.number());
    resolve(host, port)
        .and_then(|address| broker.bind(address).map_err(|source| ListenError::Bind { address, source }))
        .map_err(|error| anyhow!("Error listening on port: {}, \"{error}\"", HostPort(host, port)))
}

/// Opens the monitoring listener, if one is configured; its address.
async fn monitor(
    options: &Options,
    config: Option<&(String, String)>,
    broker: &Broker,
    engine: &Arc<ArcSwapOption<Engine>>,
    listeners: &Arc<Listeners>,
    clock: &dyn Clock,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(port) = options.monitoring.port else { return Ok(None) };
    let host = options.monitoring.host.as_ref().unwrap_or(&options.client.host);
    let state = MonitorState {
        broker: broker.clone(),
        options: Arc::new(ArcSwap::from_pointee(options.clone())),
        jetstream: engine.clone(),
        listeners: listeners.clone(),
        config: Arc::new(ArcSwap::from_pointee(ConfigVersion {
            digest: config.map(|(_, digest)| digest.clone()).unwrap_or_default(),
            loaded: clock.wall(),
        })),
        start: clock.wall(),
        start_mono: clock.mono(),
        worker_threads: tokio::runtime::Handle::current().metrics().num_workers(),
    };
    let refused = |error| anyhow!("Can't start monitoring: can't listen to the monitor port: {error}");
    let address = resolve(host, port.number()).map_err(refused)?;
    let (bound, serving) = Monitor::bind(address, state)
        .await
        .map_err(|source| refused(ListenError::Bind { address, source }))?;
    tracing::info!("Starting http monitor on {}", HostPort(host, bound.port()));
    tokio::spawn(serving);
    Ok(Some(bound))
}

/// Opens the store again after its log has failed: a failed write or sync ends the log for that opening, and only
/// reading everything anew tells what is durable.
struct Keeper {
    settings: linnet_jetstream::Config,
    broker: Broker,
    engine: Arc<ArcSwapOption<Engine>>,
    server: String,
}

impl Keeper {
    async fn run(self, stopping: Arc<AtomicBool>) {
        loop {
            let Some(current) = self.engine.load_full() else { return };
            current.health().wait_for_log_failure().await;
            // Whoever asks meanwhile is answered by the streams themselves, with the error.
            tokio::time::sleep(REOPEN_AFTER).await;
            if stopping.load(Ordering::SeqCst) {
                return;
            }
            self.engine.store(None);
            current.stop().await;
            drop(current);
            while !stopping.load(Ordering::SeqCst) {
                tracing::warn!("Opening the JetStream store again");
                let disk = Arc::new(RealDisk);
                match Engine::start(self.settings.clone(), self.broker.clone(), disk, &self.server).await {
                    Ok(started) => {
                        self.engine.store(Some(started));
                        break;
                    }
                    Err(error) => tracing::error!("JetStream cannot be started again: {error}"),
                }
                tokio::time::sleep(REOPEN_AFTER).await;
            }
        }
    }
}

struct Server {
    broker: Broker,
    engine: Arc<ArcSwapOption<Engine>>,
    options: Options,
    listeners: Arc<Listeners>,
    stop_accepting: watch::Sender<bool>,
    /// JetStream is not to be started again.
    stopping: Arc<AtomicBool>,
    config: Option<String>,
    overrides: Overrides,
}

impl Server {
    /// Follows signals until one of them means the end.
    async fn obey(&self, signals: &mut Signals, log: &Log) {
        loop {
            match signals.next().await {
                Asked::Interrupt | Asked::Terminate => return,
                Asked::Reopen => log.reopen(),
                Asked::Reload => self.refuse_reload(),
                Asked::LameDuck => {
                    self.drain(signals, log).await;
                    return;
                }
            }
        }
    }

    /// Nothing can be reloaded yet; what the file would change is named.
    fn refuse_reload(&self) {
        let Some(path) = &self.config else {
            tracing::error!(
                "Failed to reload server configuration: can only reload config when a file is provided using -c or \
                 --config"
            );
            return;
        };
        match linnet_conf::load(path, &linnet_conf::ProcessSource) {
            Err(rejected) => tracing::error!("Failed to reload server configuration: {rejected}"),
            Ok(mut parsed) => {
                self.overrides.apply(&mut parsed.options);
                let changed: Vec<String> = linnet_conf::diff(&self.options, &parsed.options)
                    .into_iter()
                    .map(|change| change.key)
                    .collect();
                if changed.is_empty() {
                    tracing::info!("Reloaded server configuration ({}): nothing changed", parsed.digest);
                } else {
                    tracing::error!(
                        "Failed to reload server configuration: config reload is not supported yet, a restart is \
                         needed for: {}",
                        changed.join(", ")
                    );
                }
            }
        }
    }

    /// Lame duck mode: no new clients, the present ones are told and then sent away one by one.
    async fn drain(&self, signals: &mut Signals, log: &Log) {
        tracing::info!("Entering lame duck mode, stop accepting new clients");
        let _ = self.stop_accepting.send(true);
        self.listeners.closed(ListenerKind::Server);
        self.stop_jetstream().await;
        if self.broker.announce_lame_duck() == 0 {
            return;
        }
        let (grace, spread) = build::lame_duck(&self.options);
        let leave = async {
            tokio::time::sleep(grace).await;
            tracing::info!("Closing existing clients");
            self.broker.close_clients_over(spread).await;
        };
        tokio::pin!(leave);
        loop {
            tokio::select! {
                () = &mut leave => return,
                asked = signals.next() => match asked {
                    Asked::Interrupt => return,
                    Asked::Reopen => log.reopen(),
                    // Draining goes on.
                    Asked::Terminate | Asked::LameDuck | Asked::Reload => {}
                },
            }
        }
    }

    async fn stop_jetstream(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(engine) = self.engine.swap(None) {
            tracing::info!("Initiating JetStream Shutdown...");
            engine.stop().await;
            tracing::info!("JetStream Shutdown");
        }
    }

    async fn stop(&self) {
        tracing::info!("Initiating Shutdown...");
        let _ = self.stop_accepting.send(true);
        self.stop_jetstream().await;
        self.broker.close_clients();
        let closed = async {
            while self.broker.connection_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(LAST_BYTES, closed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        let disk = std::io::Error::other("no space");
        let error = anyhow::Error::from(disk).context("/store: no space").context("Can't start JetStream");
        assert_eq!(causes(&error), "Can't start JetStream: /store: no space");
    }
}
