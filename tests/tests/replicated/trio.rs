use std::collections::BTreeMap;
use std::time::Duration;

use linnet_launch::{Cluster, ClusterSpec, Deadline, Dial, JetStream, Login, State};
use serde_json::{Value, json};

use crate::harness::{Kind, LONG, eventually, mesh};

/// How long a call of the API may take before it is made again.
const CALL: Duration = Duration::from_secs(1);
/// How long the acknowledgement of a publish may take before the message is sent again.
const ACK: Duration = Duration::from_millis(500);

/// Three servers with JetStream, or more, and clients of them.
pub(super) struct Trio {
    pub(super) cluster: Cluster,
    clients: BTreeMap<String, async_nats::Client>,
}

/// Runs a test over three servers of this kind, if there are such.
pub(super) fn run(kind: Kind, test: impl AsyncFnOnce(&mut Trio)) {
    run_on(kind, 3, test);
}

/// Runs a test over so many servers of this kind, if there are such.
pub(super) fn run_on(kind: Kind, servers: usize, test: impl AsyncFnOnce(&mut Trio)) {
    run_with(kind, servers, |spec| spec, test);
}

/// The same, described in more detail.
pub(super) fn run_with(
    kind: Kind,
    servers: usize,
    describe: impl FnOnce(ClusterSpec) -> ClusterSpec,
    test: impl AsyncFnOnce(&mut Trio),
) {
    let Some(spec) = mesh(&vec![kind; servers]) else { return };
    let system = Login { user: "sys".to_owned(), password: "sys".to_owned() };
    start(describe(spec.dial(Dial::All).jetstream(JetStream::default()).system_user(system)), test);
}

/// Runs a test over three servers whose accounts are described in their configuration's own words.
pub(super) fn run_with_accounts(kind: Kind, accounts: &str, test: impl AsyncFnOnce(&mut Trio)) {
    let Some(spec) = mesh(&[kind; 3]) else { return };
    start(spec.dial(Dial::All).jetstream(JetStream::default()).extra(accounts), test);
}

fn start(spec: ClusterSpec, test: impl AsyncFnOnce(&mut Trio)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut trio = Trio { cluster: spec.start().unwrap(), clients: BTreeMap::new() };
        trio.has_leader().await;
        test(&mut trio).await;
    });
}

impl Trio {
    pub(super) fn names(&self) -> Vec<String> {
        self.cluster.members().iter().map(|member| member.name().to_owned()).collect()
    }

    pub(super) fn url(&self, name: &str) -> String {
        let member = self.cluster.members().iter().find(|member| member.name() == name).unwrap();
        member.server().client_url().unwrap()
    }

    fn addresses(&self) -> Vec<async_nats::ServerAddr> {
        self.names().iter().map(|name| self.url(name).parse().unwrap()).collect()
    }

    /// A client that stays with one server.
    pub(super) async fn at(&mut self, name: &str) -> async_nats::Client {
        if !self.clients.contains_key(name) {
            let options =
                async_nats::ConnectOptions::new().retry_on_initial_connect().ignore_discovered_servers();
            let client = options.connect(self.url(name)).await.unwrap();
            self.clients.insert(name.to_owned(), client);
        }
        self.clients[name].clone()
    }

    /// A client of the system account.
    pub(super) async fn system(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::with_user_and_password("sys".to_owned(), "sys".to_owned());
        options.connect(self.addresses()).await.unwrap()
    }

    /// A client that goes to another server when its own is lost.
    pub(super) async fn roaming(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let options = options.reconnect_delay_callback(|_| Duration::from_millis(20));
        options.connect(self.addresses()).await.unwrap()
    }

    /// A client that goes to another server also when its own is silent.
    pub(super) async fn restless(&self) -> async_nats::Client {
        let options = async_nats::ConnectOptions::new().retry_on_initial_connect();
        let options = options.reconnect_delay_callback(|_| Duration::from_millis(20));
        options.ping_interval(Duration::from_millis(500)).connect(self.addresses()).await.unwrap()
    }

    /// Waits until one server leads the meta group and answers.
    pub(super) async fn has_leader(&mut self) {
        let name = self.running().remove(0);
        eventually("a leader of the meta group", async || {
            let answer = self.try_api(&name, "STREAM.NAMES", &json!({})).await?;
            answer["error"].is_null().then_some(())
        })
        .await;
    }

    /// Servers that run.
    pub(super) fn running(&mut self) -> Vec<String> {
        let members = self.cluster.members_mut().iter_mut();
        let running = members.filter_map(|m| (m.state() == State::Running).then(|| m.name().to_owned()));
        running.collect()
    }

    /// Calls the API through a server; `None` without an answer.
    pub(super) async fn try_api(&mut self, at: &str, call: &str, body: &Value) -> Option<Value> {
        let client = self.at(at).await;
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let request = client.request(format!("$JS.API.{call}"), body.into());
        let answer = tokio::time::timeout(CALL, request).await.ok()?.ok()?;
        Some(serde_json::from_slice(&answer.payload).unwrap())
    }

    /// The same, for calls that succeed sooner or later.
    pub(super) async fn api(&mut self, at: &str, call: &str, body: Value) -> Value {
        let deadline = Deadline::after(LONG);
        loop {
            let answer = self.try_api(at, call, &body).await;
            match answer {
                Some(answer) if answer["error"].is_null() => return answer,
                _ if !deadline.has_passed() => tokio::task::yield_now().await,
                _ => panic!("{call} does not succeed within {LONG:?}: {answer:?}\n{}", self.all_logs()),
            }
        }
    }

    /// Creates a stream that listens to its own name in small letters.
    pub(super) async fn stream(&mut self, name: &str, replicas: u64, with: Value) -> Value {
        let mut config = json!({"name": name, "subjects": [name.to_lowercase()], "num_replicas": replicas});
        for (key, value) in with.as_object().unwrap() {
            config[key] = value.clone();
        }
        let at = self.running().remove(0);
        self.api(&at, &format!("STREAM.CREATE.{name}"), config).await
    }

    /// A stream as its leader describes it.
    pub(super) async fn info(&mut self, name: &str) -> Value {
        let at = self.running().remove(0);
        self.api(&at, &format!("STREAM.INFO.{name}"), Value::Null).await
    }

    /// What the servers said last, and how their groups stand.
    pub(super) fn all_logs(&self) -> String {
        let members = self.cluster.members().iter();
        let told = members.map(|member| {
            let groups = self.get(member.name(), "/raftz?acc=$G").map(|page| page.body).unwrap_or_default();
            format!("{}:\n{}\n{groups}\n", member.name(), member.server().log_tail())
        });
        told.collect()
    }

    /// Waits until the stream's description satisfies something.
    pub(super) async fn shows(&mut self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Deadline::after(LONG);
        loop {
            let info = self.info(name).await;
            if is_so(&info) {
                return info;
            }
            assert!(!deadline.has_passed(), "not within {LONG:?}: {what}: {info}\n{}", self.all_logs());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The server that leads a stream.
    pub(super) async fn leader(&mut self, stream: &str) -> String {
        let info = self.shows(stream, "a leader", |info| info["cluster"]["leader"].is_string()).await;
        info["cluster"]["leader"].as_str().unwrap().to_owned()
    }

    /// Waits until every replica of a stream has everything.
    pub(super) async fn all_current(&mut self, stream: &str) -> Value {
        self.has_replicas(stream, 3).await
    }

    /// Waits until a stream has so many replicas, and each of them everything.
    pub(super) async fn has_replicas(&mut self, stream: &str, count: usize) -> Value {
        self.shows(stream, "replicas that are current", |info| {
            let replicas = info["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
            replicas.len() + 1 == count && replicas.iter().all(|replica| replica["current"] == json!(true))
        })
        .await
    }

    /// The servers that have a replica of a stream, its leader first.
    pub(super) async fn members(&mut self, stream: &str) -> Vec<String> {
        let leader = self.leader(stream).await;
        let info = self.info(stream).await;
        let replicas = info["cluster"]["replicas"].as_array().cloned().unwrap_or_default();
        let others = replicas.iter().map(|replica| replica["name"].as_str().unwrap().to_owned());
        std::iter::once(leader).chain(others).collect()
    }

    /// Calls the API of the system account.
    pub(super) async fn try_system(&self, call: &str, body: &Value) -> Option<Value> {
        let system = self.system().await;
        let request = system.request(format!("$JS.API.{call}"), serde_json::to_vec(body).unwrap().into());
        let answer = tokio::time::timeout(LONG, request).await.ok()?.ok()?;
        Some(serde_json::from_slice(&answer.payload).unwrap())
    }

    /// Takes a server out of the cluster.
    pub(super) async fn removes_server(&self, name: &str) {
        eventually("the removal of a server", async || {
            let answer = self.try_system("SERVER.REMOVE", &json!({"peer": name})).await?;
            (answer["success"] == json!(true)).then_some(())
        })
        .await;
    }

    /// Waits until a server has nothing of any stream.
    pub(super) async fn has_no_streams(&self, server: &str) {
        let groups = self.store_of(server).join("jetstream/groups");
        eventually("a server without streams", async || {
            let Ok(left) = std::fs::read_dir(&groups) else { return Some(()) };
            let left: Vec<_> =
                left.filter_map(Result::ok).map(|e| e.file_name().into_string().unwrap()).collect();
            left.iter().all(|name| name.bytes().all(|b| b == b'0')).then_some(())
        })
        .await;
    }

    /// The server that leads the meta group.
    pub(super) async fn meta_leader(&mut self) -> String {
        let running = self.running();
        eventually("the meta leader", async || {
            running.iter().find_map(|name| {
                let member = self.cluster.members().iter().find(|member| member.name() == name)?;
                let page: Value =
                    serde_json::from_str(&member.server().monitor_get("/jsz").ok()?.body).ok()?;
                let leader = page["meta_cluster"]["leader"].as_str()?;
                running.iter().any(|other| other == leader).then(|| leader.to_owned())
            })
        })
        .await
    }

    /// Waits until a server's log has a line with this.
    pub(super) async fn logs(&self, name: &str, text: &str) {
        self.logs_again(name, text, 1).await;
    }

    /// Waits until a server's log has so many lines with this.
    pub(super) async fn logs_again(&self, name: &str, text: &str, times: usize) {
        let member = self.cluster.members().iter().find(|member| member.name() == name).unwrap();
        let deadline = Deadline::after(LONG);
        loop {
            let log = std::fs::read_to_string(member.server().log_file()).unwrap();
            if log.matches(text).count() >= times {
                return;
            }
            let tail = member.server().log_tail();
            assert!(!deadline.has_passed(), "{text:?} is not {times} times in the log of {name}:\n{tail}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) fn signal(&self, name: &str, signal: rustix::process::Signal) {
        let member = self.cluster.members().iter().find(|member| member.name() == name).unwrap();
        member.server().signal(signal).unwrap();
    }

    pub(super) fn kill(&mut self, name: &str) {
        self.clients.remove(name);
        self.cluster.kill(name).unwrap();
    }

    pub(super) fn restart(&mut self, name: &str) {
        self.clients.remove(name);
        self.cluster.restart(name, LONG).unwrap();
    }

    pub(super) fn terminate(&mut self, name: &str) {
        self.clients.remove(name);
        self.cluster.terminate(name, LONG).unwrap();
    }

    /// Has a server stop to run where it is.
    pub(super) fn pause(&mut self, name: &str) {
        self.clients.remove(name);
        self.cluster.pause(name).unwrap();
    }

    pub(super) fn resume(&mut self, name: &str) {
        self.cluster.resume(name).unwrap();
    }

    /// The store of a server that does not run.
    pub(super) fn store_of(&self, name: &str) -> std::path::PathBuf {
        self.cluster.dir().join(name).join("store")
    }
}

/// Publishes with an id until it is acknowledged; the sequence.
pub(super) async fn publish(client: &async_nats::Client, subject: &str, id: &str) -> u64 {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    let deadline = Deadline::after(LONG);
    loop {
        let request = async_nats::Request::new().headers(headers.clone()).payload(id.to_owned().into());
        let sent = client.send_request(subject.to_owned(), request.timeout(Some(ACK))).await;
        let ack = sent.ok().and_then(|ack| serde_json::from_slice::<Value>(&ack.payload).ok());
        // A refusal has a sequence, too: none.
        let ack = ack.filter(|ack| ack["error"].is_null());
        if let Some(seq) = ack.and_then(|ack| ack["seq"].as_u64()) {
            return seq;
        }
        assert!(!deadline.has_passed(), "{id} is not acknowledged within {LONG:?}");
        tokio::task::yield_now().await;
    }
}
