use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use linnet_broker::Broker;
use linnet_conf::Options;
use linnet_ids::{Mono, Wall};
use linnet_jetstream::Engine;
use linnet_tls::Acceptor;
use tokio::time::MissedTickBehavior;

use crate::ask::Asker;
use crate::listeners::Listeners;
use crate::process::{CpuMeter, SAMPLE_EVERY};
use crate::requests::RequestCounts;

/// The configuration in force, for `/varz`.
#[derive(Clone, Debug, Default)]
pub struct ConfigVersion {
    /// Name of its content, `sha256:…`; empty without a file.
    pub digest: String,
    /// Start, or last reload that succeeded.
    pub loaded: Wall,
}

/// What the pages are made from. All of it may change while the server runs.
#[derive(Clone)]
pub struct MonitorState {
    /// Connections, accounts, counters.
    pub broker: Broker,
    /// Options in force.
    pub options: Arc<ArcSwap<Options>>,
    /// JetStream; `None` until it is recovered, and when it is off.
    pub jetstream: Arc<ArcSwapOption<Engine>>,
    /// Which listeners are open.
    pub listeners: Arc<Listeners>,
    /// TLS in force, for pages over TLS and for what is told of it.
    pub tls: Arc<ArcSwapOption<Acceptor>>,
    /// Which configuration is in force.
    pub config: Arc<ArcSwap<ConfigVersion>>,
    /// When the server started.
    pub start: Wall,
    /// The same on the monotonic clock.
    pub start_mono: Mono,
    /// Threads that run tasks.
    pub worker_threads: usize,
}

/// The monitoring pages of one server.
pub struct Monitor {
    pub(crate) state: MonitorState,
    pub(crate) requests: RequestCounts,
    pub(crate) cpu: CpuMeter,
    pub(crate) asker: Asker,
    pub(crate) pages: OnceLock<Pages>,
}

/// Where the pages are.
pub(crate) struct Pages {
    pub(crate) addr: SocketAddr,
    /// They are served over TLS.
    pub(crate) is_secure: bool,
}

impl Monitor {
    /// A monitor without pages.
    pub fn new(state: MonitorState) -> Arc<Self> {
        Arc::new(Self {
            state,
            requests: RequestCounts::default(),
            cpu: CpuMeter::default(),
            asker: Asker::default(),
            pages: OnceLock::new(),
        })
    }

    /// Measures the load of the process once a second, until dropped.
    pub async fn measure(self: Arc<Self>) {
        let mut samples = tokio::time::interval(SAMPLE_EVERY);
        samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            samples.tick().await;
            self.cpu.sample(self.broker().clock().mono());
        }
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.state.broker
    }

    pub(crate) fn options(&self) -> Arc<Options> {
        self.state.options.load_full()
    }

    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.state.jetstream.load_full()
    }

    pub(crate) fn server_id(&self) -> String {
        self.broker().identity().id.clone()
    }

    pub(crate) fn server_name(&self) -> String {
        self.broker().identity().name.clone()
    }

    /// Present time as pages write it.
    pub(crate) fn now(&self) -> String {
        self.broker().clock().wall().rfc3339()
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.broker().clock().mono().since(self.state.start_mono)
    }

    /// Name of the system account, if there is one.
    pub(crate) fn system_account(&self) -> Option<String> {
        self.broker().accounts().iter().find(|a| a.is_system()).map(|a| a.name().to_owned())
    }
}
