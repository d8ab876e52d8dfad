use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use linnet_auth::{Authenticator, Secret, User};
use linnet_broker::{Account, AccountLimits, Broker, Config, ServerIdentity};
use linnet_conf::{Options, ProcessSource};
use linnet_env::{OsRng, RealClock, RealDisk};
use linnet_jetstream::Engine;
use linnet_jsapi::info::AccountLimits as JsLimits;
use linnet_monitor::{ConfigVersion, ListenerKind, Listeners, Monitor, MonitorState};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http::{Answer, get};

/// A server with the configuration `testdata/server.conf`, without `http_base_path` unless asked for.
pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) nats: SocketAddr,
    pub(crate) state: MonitorState,
    pages: JoinHandle<()>,
    _stop: watch::Sender<bool>,
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.pages.abort();
    }
}

fn options() -> Options {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/server.conf");
    linnet_conf::load(path, &ProcessSource).expect("the configuration is good").options
}

fn broker() -> Broker {
    let identity = ServerIdentity {
        id: "NTEST".to_owned(),
        xkey: "XTEST".to_owned(),
        name: "n1".to_owned(),
        version: "2.15.1".to_owned(),
        git_commit: "abc".to_owned(),
        go: "rust".to_owned(),
    };
    let user = |name: &str, account: &str| User {
        name: name.to_owned(),
        password: Secret::new("p"),
        account: account.to_owned(),
        permissions: None,
        connection_types: Vec::new(),
    };
    let users = [user("u", "A"), user("v", "B"), user("s", "SYS")];
    let account = |name| Account::new(name, name == "SYS", AccountLimits::default());
    let accounts = ["$G", "A", "B", "EMPTY", "SYS"].map(account);
    Broker::new(
        identity,
        Config::default(),
        Authenticator::users(users, Some("v".to_owned())),
        accounts,
        Arc::new(RealClock::new()),
        Arc::new(OsRng),
        Handle::current(),
    )
}

impl Server {
    /// Without JetStream running although it is configured.
    pub(crate) async fn start() -> Self {
        Self::with(|options| options.monitoring.base_path = "/".to_owned()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = options();
        change(&mut options);
        let broker = broker();
        let listeners = Arc::new(Listeners::expecting([ListenerKind::Server]));
        let clock = broker.clock();
        let state = MonitorState {
            options: Arc::new(ArcSwap::from_pointee(options)),
            jetstream: Arc::new(ArcSwapOption::empty()),
            listeners: listeners.clone(),
            tls: Arc::new(ArcSwapOption::empty()),
            config: Arc::new(ArcSwap::from_pointee(ConfigVersion {
                digest: "sha256:00".to_owned(),
                loaded: clock.wall(),
            })),
            start: clock.wall(),
            start_mono: clock.mono(),
            worker_threads: 2,
            broker: broker.clone(),
        };
        let any = "127.0.0.1:0".parse().unwrap();
        let (http, pages) = Monitor::new(state.clone()).bind(any, false).await.unwrap();
        let (listener, nats) = broker.bind(any).unwrap();
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move { broker.serve(listener, stopped).await });
        listeners.opened(ListenerKind::Server, nats);
        let dir = tempfile::tempdir().unwrap();
        Self { http, nats, state, pages: tokio::spawn(pages), _stop: stop, dir }
    }

    /// Starts JetStream for the accounts that have it.
    pub(crate) async fn start_jetstream(&self) -> Arc<Engine> {
        self.start_jetstream_in(None).await
    }

    /// The same, in a cluster.
    pub(crate) async fn start_jetstream_in(
        &self,
        cluster: Option<linnet_jetstream::ClusterSettings>,
    ) -> Arc<Engine> {
        let config = linnet_jetstream::Config {
            store_dir: self.dir.path().to_owned(),
            max_memory: 1 << 20,
            max_storage: 1 << 30,
            cluster,
            domain: "D".to_owned(),
            sync_interval: None,
            encryption: None,
            strict: true,
            max_buffered_msgs: 10_000,
            max_buffered_bytes: 1 << 20,
            request_queue_limit: 1000,
            max_ack_pending: 10,
            max_request_batch: 11,
            batches: linnet_jetstream::BatchBounds::default(),
            default_max_consumers: 0,
            max_duplicate_window: 180_000_000_000,
            log: linnet_jetstream::LogConfig::default(),
            scrub: linnet_jetstream::ScrubConfig::default(),
            accounts: vec![
                ("A".to_owned(), JsLimits { max_memory: 1_000_000, ..JsLimits::default() }),
                ("EMPTY".to_owned(), JsLimits::default()),
            ],
        };
        let disk = Arc::new(RealDisk);
        let engine = Engine::start(config, self.state.broker.clone(), disk, "n1").await.unwrap();
        self.state.jetstream.store(Some(engine.clone()));
        engine
    }

    /// Stops JetStream, gives the files of its streams to `change`, starts it again.
    pub(crate) async fn restart_jetstream(&self, change: impl Fn(&Path)) {
        let engine = self.state.jetstream.swap(None).expect("JetStream runs");
        assert!(engine.stop().await.clean);
        let groups = engine.dir().join("groups");
        drop(engine);
        for group in fs::read_dir(groups).unwrap() {
            let group = group.unwrap().path();
            // The catalogue's own group has the id 0.
            if group.file_name().unwrap().to_string_lossy().contains(|c| c != '0') {
                fs::read_dir(group).unwrap().for_each(|file| change(&file.unwrap().path()));
            }
        }
        self.start_jetstream().await;
    }

    pub(crate) async fn get(&self, target: &str) -> Answer {
        get(self.http, target).await
    }

    /// A client of account `A` or, without a user, of `B`.
    pub(crate) async fn client(&self, name: &str, user: Option<&str>) -> Client {
        Client::connect(self.nats, name, user).await
    }

    /// What the golden files were captured after: `alice` subscribed twice, a stream of two messages with a consumer
    /// that delivered one, and `carol` gone.
    pub(crate) async fn populate(&self) -> Client {
        let mut alice = self.client("alice", Some("u")).await;
        alice.send("SUB foo.> q 1\r\nUNSUB 1 5\r\nSUB bar 2\r\n").await;
        let stream = r#"{"name":"ORDERS","subjects":["o.>"],"metadata":{"k":"v"}}"#;
        alice.request("$JS.API.STREAM.CREATE.ORDERS", stream).await;
        let consumer = r#"{"stream_name":"ORDERS","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
        alice.request("$JS.API.CONSUMER.DURABLE.CREATE.ORDERS.C", consumer).await;
        alice.request("o.1", "abc").await;
        alice.request("o.2", "abc").await;
        alice.request("$JS.API.CONSUMER.MSG.NEXT.ORDERS.C", "").await;
        let mut carol = self.client("carol", Some("u")).await;
        carol.send("SUB x.y q 1\r\n").await;
        drop(carol);
        self.eventually("/connz?state=closed", |page| page["total"] == 1).await;
        alice
    }

    /// The status of a page, once the streams that it is about have answered: on a busy machine they may be late, which
    /// the page says.
    pub(crate) async fn settled(&self, target: &str) -> u16 {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let page = self.get(target).await;
            if !page.body.contains("stream does not answer") {
                return page.status;
            }
            assert!(tokio::time::Instant::now() < deadline, "{target} stays {}", page.body);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks until the page says what is waited for.
    pub(crate) async fn eventually(&self, target: &str, done: impl Fn(&serde_json::Value) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        loop {
            let page = self.get(target).await.json();
            if done(&page) {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "{target} stays {page:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// A NATS client on a bare socket.
pub(crate) struct Client {
    stream: TcpStream,
}

impl Client {
    async fn connect(addr: SocketAddr, name: &str, user: Option<&str>) -> Self {
        let mut client = Self { stream: TcpStream::connect(addr).await.unwrap() };
        let login = user.map(|u| format!(r#","user":"{u}","pass":"p""#)).unwrap_or_default();
        client.read_until("INFO ").await;
        client
            .send(&format!(
                r#"CONNECT {{"name":"{name}","lang":"test","version":"1.0","verbose":false,"headers":true,"no_responders":true,"protocol":0{login}}}"#
            ))
            .await;
        client.send("\r\n").await;
        client
    }

    /// Sends protocol text; it has taken effect when this returns.
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
        if text.ends_with('\n') {
            self.stream.write_all(b"PING\r\n").await.unwrap();
            self.read_until("PONG").await;
        }
    }

    /// Publishes with a reply subject and waits for the answer.
    pub(crate) async fn request(&mut self, subject: &str, body: &str) -> String {
        let text = format!("SUB R 99\r\nPUB {subject} R {}\r\n{body}\r\n", body.len());
        self.stream.write_all(text.as_bytes()).await.unwrap();
        let answer = self.read_until(" 99 ").await;
        self.send("UNSUB 99\r\n").await;
        answer
    }

    async fn read_until(&mut self, wanted: &str) -> String {
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        let reading = async {
            while !String::from_utf8_lossy(&text).contains(wanted) {
                let n = self.stream.read(&mut buffer).await.unwrap();
                assert!(n > 0, "connection closed before {wanted:?}");
                text.extend_from_slice(&buffer[..n]);
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reading).await.expect("an answer in time");
        String::from_utf8_lossy(&text).into_owned()
    }
}
