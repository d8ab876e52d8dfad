use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::{ArcSwap, ArcSwapOption};
use linnet_broker::{Broker, ServerIdentity};
use linnet_conf::Options;
use linnet_conf::flags::Overrides;
use linnet_env::{Clock, OsRng, RealClock};
use linnet_monitor::{
    ConfigVersion, Leaving, ListenerKind, Listeners, Monitor, MonitorState, ReloadRequest, SystemHandle,
};
use linnet_tls::Acceptor;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::address::{HostPort, ListenError, resolve};
use crate::jetstream::JetStream;
use crate::logging::Log;
use crate::signals::{Asked, Signals};
use crate::{NATS_VERSION, banner, build, cluster, files, keys, logging, tls};

/// Reloads asked for over NATS that wait at a time.
const RELOADS_MAX: usize = 4;
/// How often a server that waits for others looks at them.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long connections have to take their last bytes at a stop.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// Runs a server until it is told to stop. `config` is the file the options come from and its digest; `overrides` are
/// the flags laid over it, which also belong over the file when it is read again.
///
/// An error has been logged, as `[FTL]`; the caller exits with 1.
pub fn run(options: Options, overrides: Overrides, config: Option<(String, String)>) -> anyhow::Result<()> {
    let log = Log::start(&options.logging).inspect_err(|error| {
        logging::say_unopenable(options.logging.log_file.as_deref().unwrap_or_default(), error);
    })?;
    if let Err(error) = linnet_broker::raise_descriptor_limit() {
        tracing::warn!("The limit of open files stays as it is: {error}");
    }
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
    let signals = Signals::listen().context("cannot listen to signals")?;
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
    if options.cluster.port.is_some() {
        broker.expect_cluster(build::route_permissions(&options.cluster).map(Arc::new));
    }
    let acceptor = tls::acceptor(&options).map_err(|error| anyhow::anyhow!("{error}"))?;
    broker.set_tls(acceptor.as_ref().and_then(|acceptor| tls::policy(&options, acceptor)));
    let secured = Arc::new(ArcSwapOption::from_pointee(acceptor));
    let engine = Arc::new(ArcSwapOption::empty());
    let route = options.cluster.port.map(|_| ListenerKind::Route);
    let listeners = Arc::new(Listeners::expecting([ListenerKind::Server].into_iter().chain(route)));
    // Before JetStream is restored, so that probes can watch it.
    let version = Arc::new(ArcSwap::from_pointee(ConfigVersion {
        digest: config.as_ref().map(|(_, digest)| digest.clone()).unwrap_or_default(),
        loaded: clock.wall(),
    }));
    let current = Arc::new(ArcSwap::from_pointee(options));
    let state = MonitorState {
        broker: broker.clone(),
        options: current.clone(),
        jetstream: engine.clone(),
        listeners: listeners.clone(),
        tls: secured.clone(),
        config: version.clone(),
        start: clock.wall(),
        start_mono: clock.mono(),
        worker_threads: tokio::runtime::Handle::current().metrics().num_workers(),
    };
    let options = current.load_full();
    let monitor = Monitor::new(state);
    tokio::spawn(monitor.clone().measure());
    let (ask_for_reload, reloads) = mpsc::channel(RELOADS_MAX);
    let system = monitor.serve_system(ask_for_reload);
    let monitoring = open_pages(&options, &monitor).await?;

    let jetstream = JetStream::new(broker.clone(), engine, identity.name.clone());
    if let Some(settings) = build::jetstream_config(&options) {
        banner::jetstream(&settings, options.jetstream.store_dir.is_none());
        if let Some(reason) = build::jetstream_cluster_refusal(&options) {
            anyhow::bail!("Can't start JetStream: {reason}");
        }
        jetstream.start(settings).await.context("Can't start JetStream")?;
    }
    tokio::spawn(jetstream.clone().keep());

    let (listener, bound) = listen(&broker, &options)?;
    let routes = cluster::listen(&broker, &options)?;
    if let Some((_, route)) = &routes {
        let tls = tls::of_routes(&options).map_err(|error| anyhow!("{error}"))?;
        banner::route_tls(&options);
        broker.join_cluster(cluster::config(&options, &identity, *route, bound, tls, &OsRng));
    }
    let (stop_accepting, accepting) = watch::channel(false);
    let (stop_routes, routing) = watch::channel(false);
    listeners.opened(ListenerKind::Server, bound);
    tracing::info!("Listening for client connections on {}", HostPort(&options.client.host, bound.port()));
    banner::tls(&options);
    let server = Server {
        broker: broker.clone(),
        jetstream,
        system,
        options: current,
        version,
        tls: secured,
        listeners: listeners.clone(),
        stop_accepting,
        stop_routes,
        route: routes.as_ref().map(|(_, route)| *route),
        config: config.map(|(path, _)| path),
        overrides,
        bound,
        monitoring,
        ports_file: Mutex::new(None),
    };
    server.advertise(&options);
    server.write_ports(&options);
    let serving = tokio::spawn({
        let broker = broker.clone();
        async move { broker.serve(listener, accepting).await }
    });
    tracing::info!("Server is ready");
    if let Some((listener, route)) = routes {
        banner::cluster(&options, &broker.cluster_name().unwrap_or_default());
        listeners.opened(ListenerKind::Route, route);
        let shown = HostPort(&options.cluster.host, route.port());
        tracing::info!("Listening for route connections on {shown}");
        let broker = broker.clone();
        tokio::spawn(async move { broker.serve_routes(listener, routing).await });
    }

    let mut orders = Orders { signals, reloads };
    Box::pin(server.obey(&mut orders, log)).await;
    server.stop_at_once_if_asked(&mut orders, log).await;
    let _ = serving.await;
    server.remove_ports();
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

/// Opens the monitoring listener, if one is configured; its scheme and address.
async fn open_pages(
    options: &Options,
    monitor: &Arc<Monitor>,
) -> anyhow::Result<Option<(&'static str, SocketAddr)>> {
    let (scheme, port) = match (options.monitoring.port, options.monitoring.tls_port) {
        (None, None) => return Ok(None),
        (Some(port), None) => ("http", port),
        (None, Some(port)) => ("https", port),
        (Some(plain), Some(secure)) => anyhow::bail!(
            "Can't start monitoring: can't specify both HTTP ({}) and HTTPs ({}) ports",
            plain.number(),
            secure.number()
        ),
    };
    let is_secure = scheme == "https";
    anyhow::ensure!(
        !is_secure || options.client.tls.is_some(),
        "Can't start monitoring: TLS cert and key required for HTTPS"
    );
    let host = options.monitoring.host.as_ref().unwrap_or(&options.client.host);
    let refused = |error| anyhow!("Can't start monitoring: can't listen to the monitor port: {error}");
    let address = resolve(host, port.number()).map_err(refused)?;
    let (bound, serving) = monitor
        .bind(address, is_secure)
        .await
        .map_err(|source| refused(ListenError::Bind { address, source }))?;
    tracing::info!("Starting {scheme} monitor on {}", HostPort(host, bound.port()));
    tokio::spawn(serving);
    Ok(Some((scheme, bound)))
}

/// What the server is told to do while it runs.
struct Orders {
    signals: Signals,
    reloads: mpsc::Receiver<ReloadRequest>,
}

enum Order {
    Signal(Asked),
    Reload(ReloadRequest),
}

impl Orders {
    async fn next(&mut self) -> Order {
        tokio::select! {
            asked = self.signals.next() => Order::Signal(asked),
            Some(request) = self.reloads.recv() => Order::Reload(request),
        }
    }
}

/// A server that runs.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) jetstream: Arc<JetStream>,
    pub(crate) system: SystemHandle,
    pub(crate) options: Arc<ArcSwap<Options>>,
    pub(crate) version: Arc<ArcSwap<ConfigVersion>>,
    pub(crate) tls: Arc<ArcSwapOption<Acceptor>>,
    listeners: Arc<Listeners>,
    stop_accepting: watch::Sender<bool>,
    stop_routes: watch::Sender<bool>,
    /// Where other servers of the cluster connect.
    pub(crate) route: Option<SocketAddr>,
    pub(crate) config: Option<String>,
    pub(crate) overrides: Overrides,
    /// Where clients connect.
    pub(crate) bound: SocketAddr,
    /// Scheme and address of the monitoring pages.
    monitoring: Option<(&'static str, SocketAddr)>,
    ports_file: Mutex<Option<PathBuf>>,
}

impl Server {
    /// Follows signals until one of them means the end.
    async fn obey(&self, orders: &mut Orders, log: &Log) {
        loop {
            match orders.next().await {
                Order::Signal(Asked::Interrupt | Asked::Terminate) => {
                    self.wait_for_others(orders, log).await;
                    return;
                }
                Order::Signal(Asked::Reopen) => log.reopen(),
                Order::Signal(Asked::Reload) => _ = self.reload(log).await,
                Order::Signal(Asked::LameDuck) => {
                    if self.wait_for_others(orders, log).await {
                        self.drain(orders, log).await;
                    }
                    return;
                }
                // Whoever asked may not wait any more.
                Order::Reload(answer) => _ = answer.send(self.reload(log).await),
            }
        }
    }

    /// Tells clients where the server is.
    pub(crate) fn advertise(&self, options: &Options) {
        self.broker.update_info(|info| {
            let (host, port) = options.client.advertised(self.bound.port());
            host.clone_into(&mut info.host);
            info.port = port;
        });
    }

    /// Writes the ports file where it belongs, and removes the one before.
    pub(crate) fn write_ports(&self, options: &Options) {
        self.remove_ports();
        let Some(dir) = &options.process.ports_file_dir else { return };
        let scheme = if options.client.tls.is_some() { "tls" } else { "nats" };
        match files::write_ports(dir, (scheme, self.bound), self.monitoring, self.route) {
            Ok(path) => *self.ports_file.lock() = Some(path),
            Err(error) => tracing::error!("Could not write ports file in {dir}: {error}"),
        }
    }

    fn remove_ports(&self) {
        if let Some(path) = self.ports_file.lock().take() {
            files::remove(&path);
        }
    }

    /// Lame duck mode: no new clients, the present ones are told and then sent away one by one.
    async fn drain(&self, orders: &mut Orders, log: &Log) {
        tracing::info!("Entering lame duck mode, stop accepting new clients");
        let _ = self.stop_accepting.send(true);
        self.listeners.closed(ListenerKind::Server);
        self.system.leave(Leaving::LameDuck).await;
        self.jetstream.end().await;
        if self.broker.announce_lame_duck() == 0 {
            return;
        }
        let (grace, spread) = build::lame_duck(&self.options.load());
        let leave = async {
            tokio::time::sleep(grace).await;
            tracing::info!("Closing existing clients");
            self.broker.close_clients_over(spread).await;
        };
        tokio::pin!(leave);
        loop {
            tokio::select! {
                () = &mut leave => return,
                order = orders.next() => match order {
                    Order::Signal(Asked::Interrupt) => return,
                    Order::Signal(Asked::Reopen) => log.reopen(),
                    // Draining goes on.
                    Order::Signal(Asked::Terminate | Asked::LameDuck | Asked::Reload) => {}
                    Order::Reload(answer) => _ = answer.send(Err("the server is draining".to_owned())),
                },
            }
        }
    }

    /// Says which servers could not do without this one, and if that is configured waits until they can. False if
    /// the server is to stop at once.
    async fn wait_for_others(&self, orders: &mut Orders, log: &Log) -> bool {
        let mut told = Vec::new();
        loop {
            let lagging = self.jetstream.lagging().await;
            if lagging.is_empty() {
                return true;
            }
            let waits = self.options.load().process.lame_duck_quorum_guard;
            if lagging != told {
                let then =
                    if waits { "waiting for them" } else { "their quorum may be lost without this server" };
                tracing::warn!("Not current: {}; {then}", lagging.join(", "));
                told = lagging;
            }
            if !waits {
                return true;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                order = orders.next() => match order {
                    Order::Signal(Asked::Interrupt) => {
                        self.jetstream.hurry();
                        return false;
                    }
                    other => self.refuse(other, log),
                },
            }
        }
    }

    /// What is asked of a server that stops.
    fn refuse(&self, order: Order, log: &Log) {
        match order {
            Order::Signal(Asked::Reopen) => log.reopen(),
            // It stops already.
            Order::Signal(_) => {}
            Order::Reload(answer) => _ = answer.send(Err("the server is stopping".to_owned())),
        }
    }

    /// Stops; a second interrupt ends the wait for other servers to take over.
    async fn stop_at_once_if_asked(&self, orders: &mut Orders, log: &Log) {
        let stop = self.stop();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                order = orders.next() => match order {
                    Order::Signal(Asked::Interrupt) => self.jetstream.hurry(),
                    other => self.refuse(other, log),
                },
            }
        }
    }

    async fn stop(&self) {
        tracing::info!("Initiating Shutdown...");
        let _ = self.stop_accepting.send(true);
        self.jetstream.end().await;
        self.system.leave(Leaving::Shutdown).await;
        let _ = self.stop_routes.send(true);
        self.broker.close_clients();
        self.broker.close_routes();
        let closed = async {
            while self.broker.connection_count() > 0 || self.broker.route_count() > 0 {
                // Clients that have noticed may be back elsewhere already; whoever stopped the server waits for it.
                tokio::time::sleep(Duration::from_millis(1)).await;
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
