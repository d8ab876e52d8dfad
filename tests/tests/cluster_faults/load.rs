//! Clients that publish, subscribe, ask and answer all the time, and count what they hear.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectOptions, Message};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::harness::within;

/// Time between two messages of a client.
const PACE: Duration = Duration::from_millis(5);

/// A client takes a server for dead after three of these.
const PING: Duration = Duration::from_millis(400);

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// What clients count together.
#[derive(Default)]
pub(super) struct Counts {
    /// How often each marker was heard by each client.
    heard: Mutex<HashMap<(usize, String), usize>>,
    /// How often each marker was heard by a member of the queue group.
    grouped: Mutex<HashMap<String, usize>>,
    /// What a client has heard of another one since the last look.
    numbers: Mutex<HashSet<(usize, usize, u64)>>,
    /// What was heard twice.
    repeated: Mutex<Vec<(usize, usize, u64)>>,
}

/// A client with its tasks, which end with it.
pub(super) struct Actor {
    pub(super) client: Client,
    number: usize,
    answered: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Counts {
    /// How often the client has heard the marker.
    pub(super) fn heard(&self, client: usize, marker: &str) -> usize {
        self.heard.lock().get(&(client, marker.to_owned())).copied().unwrap_or(0)
    }

    /// How often the queue group has.
    pub(super) fn grouped(&self, marker: &str) -> usize {
        self.grouped.lock().get(marker).copied().unwrap_or(0)
    }

    /// Forgets numbers, of which a long run hears many; says whether any was heard twice.
    pub(super) fn repeated(&self) -> Vec<(usize, usize, u64)> {
        self.numbers.lock().clear();
        self.repeated.lock().clone()
    }

    fn note_number(&self, listener: usize, message: &Message) {
        let text = String::from_utf8_lossy(&message.payload);
        let (from, number) = text.split_once(' ').unwrap();
        let key = (listener, from.parse().unwrap(), number.parse().unwrap());
        if !self.numbers.lock().insert(key) {
            self.repeated.lock().push(key);
        }
    }
}

impl Actor {
    /// A client of the first of these servers, which goes to the next when it is lost.
    pub(super) async fn start(number: usize, servers: &[String], counts: &Arc<Counts>) -> Self {
        let options = ConnectOptions::new()
            .retain_servers_order()
            .ignore_discovered_servers()
            .ping_interval(PING)
            .connection_timeout(PATIENCE)
            .request_timeout(Some(PATIENCE))
            .max_reconnects(None)
            .reconnect_delay_callback(|_| Duration::from_millis(50));
        let client = within("connect", options.connect(servers)).await.unwrap();
        let answered = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        listen(&mut tasks, &client, number, counts).await;
        tasks.spawn(publish(client.clone(), number));
        tasks.spawn(ask(client.clone(), answered.clone()));
        Self { client, number, answered, _tasks: tasks }
    }

    /// Which one it is.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Questions of it that were answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// How often it has connected.
    pub(super) fn connects(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Whether it has no connection, or another one than when it had connected so often.
    pub(super) fn has_left(&self, connects: u64) -> bool {
        self.client.connection_state() != State::Connected || self.connects() != connects
    }

    /// Whether a question to nobody comes back, for which the server must have read everything before.
    pub(super) async fn is_served(&self) -> bool {
        let nobody = self.client.request("nobody.is.there", "".into()).await;
        nobody.is_err_and(|error| error.kind() == async_nats::RequestErrorKind::NoResponders)
    }
}

async fn listen(tasks: &mut JoinSet<()>, client: &Client, number: usize, counts: &Arc<Counts>) {
    let mut all = client.subscribe("load.all").await.unwrap();
    let to = counts.clone();
    tasks.spawn(async move {
        while let Some(message) = all.next().await {
            to.note_number(number, &message);
        }
    });
    let mut checks = client.subscribe("check").await.unwrap();
    let to = counts.clone();
    tasks.spawn(async move {
        while let Some(message) = checks.next().await {
            let marker = String::from_utf8_lossy(&message.payload).into_owned();
            *to.heard.lock().entry((number, marker)).or_default() += 1;
        }
    });
    let mut shared = client.queue_subscribe("check", "checkers".to_owned()).await.unwrap();
    let to = counts.clone();
    tasks.spawn(async move {
        while let Some(message) = shared.next().await {
            let marker = String::from_utf8_lossy(&message.payload).into_owned();
            *to.grouped.lock().entry(marker).or_default() += 1;
        }
    });
    let mut questions = client.queue_subscribe("load.ask", "workers".to_owned()).await.unwrap();
    let answering = client.clone();
    tasks.spawn(async move {
        while let Some(question) = questions.next().await {
            if let Some(reply) = question.reply {
                // Who has asked may be gone, or we are.
                let _ = answering.publish(reply, "!".into()).await;
            }
        }
    });
}

async fn publish(client: Client, number: usize) {
    let mut ticks = tokio::time::interval(PACE);
    for count in 0_u64.. {
        ticks.tick().await;
        // What is published while there is no connection may be lost.
        let _ = client.publish("load.all", format!("{number} {count}").into()).await;
    }
}

async fn ask(client: Client, answered: Arc<AtomicU64>) {
    let mut ticks = tokio::time::interval(PACE);
    loop {
        ticks.tick().await;
        // While a server is disturbed, questions may find nobody or be lost.
        if client.request("load.ask", "?".into()).await.is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}
