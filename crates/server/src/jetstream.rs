//! JetStream of a server: started, opened again when its log failed, changed by reloads, ended.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use linnet_broker::Broker;
use linnet_env::{RealDisk, has_descriptors};
use linnet_jetstream::{Config, Engine, Health, Reach, StartError};
use tokio::sync::{Mutex, watch};

/// How long an opening waits after a failure.
const REOPEN_AFTER: Duration = Duration::from_secs(1);
/// How long other servers may take to say who is behind.
const SAY_WITHIN: Duration = Duration::from_secs(2);
/// Files that an opening may have to have open at the same time: segments of the log, and one of each stream's store after the
/// other.
const DESCRIPTORS: usize = 48;
/// Who still reads from the opening before may take so long to let go of the store.
const LET_GO: Duration = Duration::from_millis(50);
const LET_GO_TRIES: usize = 40;

/// JetStream, whether it runs or not.
pub(crate) struct JetStream {
    broker: Broker,
    engine: Arc<ArcSwapOption<Engine>>,
    /// The one that is being stopped.
    closing: ArcSwapOption<Engine>,
    /// Name of the server.
    server: String,
    /// Held while it is started, stopped or changed.
    wanted: Mutex<Wanted>,
    present: watch::Sender<Present>,
}

/// What the configuration wants.
struct Wanted {
    settings: Option<Config>,
    /// It is not to be started again.
    has_ended: bool,
}

/// What there is.
#[derive(Clone)]
enum Present {
    Nothing,
    /// It should run and does not.
    Down,
    Running(Arc<Health>),
}

impl JetStream {
    pub(crate) fn new(broker: Broker, engine: Arc<ArcSwapOption<Engine>>, server: String) -> Arc<Self> {
        let wanted = Mutex::new(Wanted { settings: None, has_ended: false });
        let present = watch::Sender::new(Present::Nothing);
        Arc::new(Self { broker, engine, closing: ArcSwapOption::empty(), server, wanted, present })
    }

    /// Opens the store for the first time.
    pub(crate) async fn start(&self, settings: Config) -> Result<(), StartError> {
        let mut wanted = self.wanted.lock().await;
        self.open(&settings).await?;
        wanted.settings = Some(settings);
        Ok(())
    }

    async fn open(&self, settings: &Config) -> Result<(), StartError> {
        // What cannot be read for want of a descriptor would be taken for what cannot be recovered.
        has_descriptors(DESCRIPTORS)
            .map_err(|source| StartError::Io { path: settings.store_dir.clone(), source })?;
        let disk = Arc::new(RealDisk);
        let started = Engine::start(settings.clone(), self.broker.clone(), disk, &self.server).await?;
        self.present.send_replace(Present::Running(started.health().clone()));
        self.engine.store(Some(started));
        let domain = settings.domain.clone();
        self.broker.update_info(|info| {
            info.jetstream = true;
            info.domain = domain;
            info.api_lvl = linnet_jsapi::API_LEVEL;
        });
        Ok(())
    }

    async fn close(&self, left: Present) {
        self.present.send_replace(left);
        if let Some(engine) = self.engine.swap(None) {
            self.closing.store(Some(engine.clone()));
            engine.stop().await;
            self.closing.store(None);
        }
    }

    /// Opens the store again after its log has failed: a failed write or sync ends the log for that opening, and only
    /// reading everything anew tells what is durable.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut changes = self.present.subscribe();
        loop {
            let present = changes.borrow_and_update().clone();
            match present {
                Present::Nothing => {}
                Present::Down => {
                    tokio::time::sleep(REOPEN_AFTER).await;
                    self.open_again().await;
                    continue;
                }
                Present::Running(health) => {
                    let failed = tokio::select! {
                        () = health.wait_for_log_failure() => true,
                        () = health.wait_for_removal() => {
                            self.disable().await;
                            continue;
                        }
                        () = health.wait_for_reopening() => {
                            self.close_failed(&health).await;
                            continue;
                        }
                        _ = changes.changed() => false,
                    };
                    if failed {
                        if let Some(engine) = self.engine.load_full() {
                            engine.withdraw().await;
                        }
                        // Whoever asks meanwhile is answered by the streams themselves, with the error.
                        tokio::time::sleep(REOPEN_AFTER).await;
                        self.close_failed(&health).await;
                        self.open_again().await;
                    }
                    continue;
                }
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    async fn close_failed(&self, health: &Arc<Health>) {
        let wanted = self.wanted.lock().await;
        let is_that = self.engine.load().as_ref().is_some_and(|engine| Arc::ptr_eq(engine.health(), health));
        if is_that && !wanted.has_ended {
            self.close(Present::Down).await;
        }
    }

    /// Opens the store if it should be open and is not.
    async fn open_again(&self) {
        let wanted = self.wanted.lock().await;
        let Some(settings) = wanted.settings.as_ref().filter(|_| !wanted.has_ended) else {
            if self.engine.load().is_none() {
                self.present.send_replace(Present::Nothing);
            }
            return;
        };
        if self.engine.load().is_none() {
            tracing::warn!("Opening the JetStream store again");
            if let Err(error) = self.open(settings).await {
                tracing::error!("JetStream cannot be started again: {error}");
            }
        }
    }

    /// Why these settings cannot be taken over; `None` if they can. What is measured and not configured stays as it is.
    pub(crate) async fn refusal(
        &self,
        settings: Option<&mut Config>,
        is_automatic: (bool, bool),
    ) -> Option<String> {
        let wanted = self.wanted.lock().await;
        let (settings, before) = settings.zip(wanted.settings.as_ref())?;
        if is_automatic.0 {
            settings.max_memory = before.max_memory;
        }
        if is_automatic.1 {
            settings.max_storage = before.max_storage;
        }
        let engine = self.engine.load_full()?;
        (engine.reach(settings) == Reach::Loses).then(|| {
            "config reload not supported for jetstream of accounts while other accounts have streams in memory, a \
             restart is needed"
                .to_owned()
        })
    }

    /// Takes over new settings; `None` switches it off.
    pub(crate) async fn reload(&self, settings: Option<Config>) {
        let mut wanted = self.wanted.lock().await;
        let was_on = wanted.settings.is_some();
        wanted.settings.clone_from(&settings);
        match (settings, self.engine.load_full()) {
            (None, _) if was_on => {
                tracing::info!("Initiating JetStream Shutdown...");
                self.close(Present::Nothing).await;
                self.broker.update_info(|info| {
                    info.jetstream = false;
                    info.domain.clear();
                });
                tracing::info!("JetStream Shutdown");
            }
            (Some(settings), Some(engine)) => match engine.reach(&settings) {
                Reach::Live | Reach::Loses => engine.take_over(&settings).await,
                Reach::Reopen => {
                    drop(engine);
                    self.close(Present::Down).await;
                    self.open_patiently(&settings).await;
                }
            },
            (Some(settings), None) if !was_on => {
                tracing::info!("Restarting JetStream");
                self.open_patiently(&settings).await;
            }
            // It is being opened again anyway.
            _ => {}
        }
    }

    async fn open_patiently(&self, settings: &Config) {
        for _ in 0..LET_GO_TRIES {
            match self.open(settings).await {
                Ok(()) => return,
                Err(StartError::Locked(_)) => tokio::time::sleep(LET_GO).await,
                Err(error) => {
                    tracing::warn!("Can't start JetStream: {error}");
                    break;
                }
            }
        }
        self.present.send_replace(Present::Down);
    }

    /// An operator took this server out of its cluster: JetStream is off until the process starts again. What is stored
    /// stays.
    async fn disable(&self) {
        tracing::error!("JetStream being DISABLED, our server was removed from the cluster");
        self.end().await;
        self.broker.update_info(|info| info.jetstream = false);
    }

    /// Members of its groups that could not do without this server now, in words.
    pub(crate) async fn lagging(&self) -> Vec<String> {
        match self.engine.load_full() {
            Some(engine) => tokio::time::timeout(SAY_WITHIN, engine.lagging())
                .await
                .unwrap_or_else(|_| vec!["servers that do not answer".to_owned()]),
            None => Vec::new(),
        }
    }

    /// Whoever stops it waits no more for other servers.
    pub(crate) fn hurry(&self) {
        for engine in [self.engine.load_full(), self.closing.load_full()].into_iter().flatten() {
            engine.hurry();
        }
    }

    /// Stops it for good.
    pub(crate) async fn end(&self) {
        let mut wanted = self.wanted.lock().await;
        wanted.has_ended = true;
        if self.engine.load().is_some() {
            tracing::info!("Initiating JetStream Shutdown...");
            self.close(Present::Nothing).await;
            tracing::info!("JetStream Shutdown");
        }
    }
}
