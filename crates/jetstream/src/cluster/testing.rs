//! Servers of one cluster in one process, with real routes between them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use linnet_auth::Authenticator;
use linnet_broker::{
    Account, AccountLimits, Broker, ClusterConfig, Config, RouteUrl, ServerIdentity, WritePolicy,
};
use linnet_env::{OsRng, RealClock};
use linnet_ids::{GroupId, Mono, PeerId};
use linnet_links::{ClusterName, Local, Mode, Thresholds};
use linnet_raft::Message;
use linnet_replication::raft::PeerChange;
use linnet_wire::ServerInfo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::loops::Loops;
use super::{Link, LinkConfig};

/// How long anything may take.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// Waits until `is_true`.
pub(super) async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let mut ticks = tokio::time::interval(Duration::from_millis(2));
    let polling = async {
        while !is_true() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(LONG, polling).await.is_ok(), "{what} does not come true");
}

/// A listener for routes whose server starts later.
pub(super) struct Place {
    listener: TcpListener,
    pub(super) addr: SocketAddr,
}

pub(super) async fn place() -> Place {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    Place { listener, addr }
}

/// How a server of a test is.
pub(super) struct Setup<'a> {
    pub(super) name: &'a str,
    pub(super) domain: &'a str,
    pub(super) has_jetstream: bool,
    pub(super) routes: &'a [SocketAddr],
}

/// A server without clients.
pub(super) struct Server {
    pub(super) broker: Broker,
    stop: watch::Sender<bool>,
}

impl Server {
    pub(super) fn start(setup: &Setup<'_>, place: Place) -> Self {
        let broker = broker(setup.name);
        broker.expect_cluster(None);
        broker.join_cluster(cluster(setup, place.addr));
        let (stop, stopped) = watch::channel(false);
        let routing = broker.clone();
        tokio::spawn(async move { routing.serve_routes(place.listener, stopped).await });
        Self { broker, stop }
    }

    /// Its connections end, and it makes none any more.
    pub(super) fn stop(&self) {
        let _ = self.stop.send(true);
        self.broker.close_clients();
        self.broker.close_routes();
    }

    pub(super) fn link(&self, domain: &str, boot: u64) -> (Arc<Link>, Arc<Recorder>) {
        let loops = Arc::new(Recorder::default());
        let config = LinkConfig { domain: domain.to_owned(), boot };
        (Link::start(&self.broker, &config, loops.clone()).unwrap(), loops)
    }
}

pub(super) fn broker(name: &str) -> Broker {
    broker_for(name, "$G")
}

/// A broker whose clients are in this account.
pub(super) fn broker_for(name: &str, account_of_clients: &str) -> Broker {
    let identity = ServerIdentity {
        id: format!("N{name}{}", linnet_env::Rng::next_u64(&OsRng)),
        xkey: String::new(),
        name: name.to_owned(),
        version: "2.15.1".to_owned(),
        git_commit: String::new(),
        go: String::new(),
    };
    let accounts = [("$G", false), ("$SYS", true)];
    let accounts = accounts.map(|(name, is_system)| Account::new(name, is_system, AccountLimits::default()));
    let runtime = tokio::runtime::Handle::current();
    let clock = Arc::new(RealClock::new());
    let open = Authenticator::open(account_of_clients);
    Broker::new(identity, Config::default(), open, accounts, clock, Arc::new(OsRng), runtime)
}

fn cluster(setup: &Setup<'_>, addr: SocketAddr) -> ClusterConfig {
    let info = ServerInfo {
        server_id: format!("N{}{}", setup.name, addr.port()),
        server_name: setup.name.to_owned(),
        version: "2.15.1".to_owned(),
        proto: 3,
        host: addr.ip().to_string(),
        port: addr.port(),
        headers: true,
        max_payload: 1 << 20,
        jetstream: setup.has_jetstream,
        domain: setup.domain.to_owned(),
        lnoc: true,
        lnocu: true,
        ln: true,
        ..ServerInfo::default()
    };
    let url =
        |addr: &SocketAddr| RouteUrl { host: addr.ip().to_string(), port: addr.port(), credentials: None };
    ClusterConfig {
        local: Local {
            cluster: ClusterName { name: "C".to_owned(), is_dynamic: false },
            info,
            pool_size: Some(1),
            accounts: vec!["$SYS".to_owned()],
            compression: Mode::Off,
            credentials: None,
            tls: false,
        },
        routes: setup.routes.iter().map(url).collect(),
        ping_interval: Duration::from_secs(30),
        ping_max: 2,
        handshake_timeout: Duration::from_secs(2),
        rtt_thresholds: Thresholds::default(),
        connect_retries: 0,
        connect_backoff: false,
        advertises_clients: true,
        tls: None,
        permissions: None,
        write_policy: WritePolicy { deadline: Duration::from_secs(10), is_strict: false },
    }
}

/// Servers of these names with JetStream, all connected, and their links.
pub(super) async fn servers<const N: usize>(names: [&str; N]) -> [(Server, Arc<Link>, Arc<Recorder>); N] {
    let mut places = Vec::new();
    for _ in 0..N {
        places.push(place().await);
    }
    let addrs: Vec<SocketAddr> = places.iter().map(|place| place.addr).collect();
    let mut places = places.into_iter();
    names.map(|name| {
        let setup = Setup { name, domain: "", has_jetstream: true, routes: &addrs };
        let server = Server::start(&setup, places.next().unwrap());
        let (link, loops) = server.link("", 1);
        (server, link, loops)
    })
}

/// Keeps what the loops are told.
#[derive(Default)]
pub(super) struct Recorder {
    pub(super) messages: Mutex<Vec<(GroupId, Message)>>,
    pub(super) changes: Mutex<Vec<PeerChange>>,
    pub(super) oldest_write: Mutex<Duration>,
}

impl Recorder {
    pub(super) fn has_heard(&self, change: PeerChange) -> bool {
        self.changes.lock().contains(&change)
    }

    /// Waits until a server can be heard.
    pub(super) async fn reaches(&self, name: &str) {
        let reachable = PeerChange::Reachable(PeerId::of_name(name));
        eventually(&format!("{name} is reachable"), || self.has_heard(reachable)).await;
    }
}

/// Knows every group but one.
pub(super) const STRANGE_GROUP: GroupId = GroupId { epoch: 0, meta_index: 9, random: 9 };

impl Loops for Recorder {
    fn take(&self, messages: Vec<(GroupId, Message)>) -> u64 {
        let (known, unknown): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|(group, _)| *group != STRANGE_GROUP);
        self.messages.lock().extend(known);
        unknown.len() as u64
    }

    fn peers_changed(&self, changes: &[PeerChange]) {
        self.changes.lock().extend_from_slice(changes);
    }

    fn oldest_write(&self, _: Mono) -> Duration {
        *self.oldest_write.lock()
    }
}
