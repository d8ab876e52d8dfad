//! What the services do with each message.

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::counting::{ASK_ALL, ASK_EACH};
use super::description::ServerId;
use super::mail::Request;
use super::relay::{Asker, inside};
use super::reply::{Envelope, Failure, Packing, text};
use super::request::{Body, Filter, SERVER_ACTIONS, Server, Subject};
use super::servers::Heard;
use super::subscriptions::USER_INFO;
use super::user::UserInfo;
use super::voice::{self, Voice};
use super::{REPORTS_MAX, System, reports};
use crate::monitor::Monitor;
use crate::statsz;

/// What another server's message says of it.
#[derive(Deserialize)]
struct Told {
    server: Speaker,
    #[serde(default)]
    acc: String,
    #[serde(default)]
    conns: usize,
}

#[derive(Deserialize)]
struct Speaker {
    id: String,
    #[serde(default)]
    seq: u64,
}

/// The connection an operator means. Without a number it is none.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Chosen {
    cid: u64,
}

/// A request for a report, read as far as that its maker needs nothing but the monitor.
enum Wanted {
    Server(String),
    Account(String, String),
    Accounts,
}

impl Wanted {
    async fn make(&self, monitor: &Monitor, body: &Body) -> Result<Box<RawValue>, Failure> {
        match self {
            Self::Server(verb) => reports::of_server(monitor, verb, body).await,
            Self::Account(account, verb) => reports::of_account(monitor, account, verb, body).await,
            Self::Accounts => reports::of_accounts(monitor, body),
        }
    }
}

impl System {
    pub(super) async fn serve(&mut self, request: Request) {
        if request.subject == USER_INFO {
            return self.on_user(&request);
        }
        if !request.account.is_system() {
            return self.on_open_request(&request);
        }
        match request.subject.as_str() {
            ASK_ALL => return self.on_count_all(&request),
            ASK_EACH => return self.on_count(&request),
            _ => {}
        }
        let subject = request.subject.clone();
        match Subject::parse(&subject) {
            Some(Subject::Server { verb: "IDZ" }) => {
                let id = text(&ServerId::new(&self.monitor));
                self.reply(&request, &id);
            }
            Some(Subject::Server { verb: "STATSZ" }) => self.on_statsz(&request),
            Some(Subject::Server { verb }) if SERVER_ACTIONS.contains(&verb) => self.on_action(request, verb),
            Some(Subject::Server { verb }) => {
                self.on_report(request, Wanted::Server(verb.to_owned())).await;
            }
            Some(Subject::Account { account, verb: "CONNS" }) => self.on_connections(&request, account),
            Some(Subject::Account { account, verb }) => {
                let wanted = Wanted::Account(account.to_owned(), verb.to_owned());
                self.on_report(request, wanted).await;
            }
            Some(Subject::AllAccounts) => self.on_report(request, Wanted::Accounts).await,
            Some(Subject::User) | None => self.on_told(&request),
        }
    }

    pub(super) fn reply(&mut self, request: &Request, payload: &[u8]) {
        if !request.reply.is_empty() {
            voice::publish(&mut self.publisher, &request.account, &request.reply, b"", 0, payload);
        }
    }

    /// A client asks who it is. Of another server's clients nothing is known here.
    fn on_user(&mut self, request: &Request) {
        let Some(conn) = &request.conn else { return };
        let info = super::reply::raw(&UserInfo::new(conn, request.account.name()));
        let answer = text(&Envelope::report(self.describe(), Some(info)));
        self.reply(request, &answer);
    }

    /// A client of another account asks about it: all servers are asked for it.
    fn on_open_request(&mut self, request: &Request) {
        let Some(system) = self.subscriptions.system().cloned() else { return };
        let Some(subject) = inside(&request.subject, request.account.name()) else { return };
        // What came by a route has been passed on by the server that its client is at.
        if request.reply.is_empty() || request.conn.is_none() {
            return;
        }
        let token = self.names.unique();
        let reply = format!("$SYS._INBOX.{}.{token}", self.node);
        let asker = Asker { account: request.account.clone(), reply: request.reply.clone() };
        self.relay.wait(token, asker, self.monitor.broker().clock().mono());
        let body = [request.headers.as_slice(), &request.payload].concat();
        let header_len = request.headers.len();
        voice::publish(&mut self.publisher, &system, subject.as_bytes(), reply.as_bytes(), header_len, &body);
    }

    /// A message that is no request: another server speaks.
    fn on_told(&mut self, request: &Request) {
        let tokens: Vec<&str> = request.subject.split('.').collect();
        match tokens.as_slice() {
            ["$SYS", "_INBOX", _, token] => {
                self.on_relayed(request, token);
                self.on_counted_there(request, token);
            }
            ["$SYS", "_INBOX_", _] | ["$SYS", "SERVER", "ACCOUNT", _, "CONNS"] => self.on_counted(request),
            ["$SYS", "SERVER", _, "STATSZ"] => self.on_broadcast(request),
            ["$SYS", "SERVER", id, "SHUTDOWN" | "LAMEDUCK"] => self.forget(id),
            _ => {}
        }
    }

    fn on_relayed(&mut self, answer: &Request, token: &str) {
        let now = self.monitor.broker().clock().mono();
        let Some(asker) = self.relay.asker(token, now) else { return };
        let body = [answer.headers.as_slice(), &answer.payload].concat();
        voice::publish(&mut self.publisher, &asker.account, &asker.reply, b"", answer.headers.len(), &body);
    }

    /// What another server says of itself, unless this one hears itself.
    fn told(&self, request: &Request) -> Option<Told> {
        let told: Told = serde_json::from_slice(&request.payload).ok()?;
        (told.server.id != self.monitor.server_id()).then_some(told)
    }

    fn on_broadcast(&mut self, request: &Request) {
        let Some(Told { server, .. }) = self.told(request) else { return };
        match self.servers.heard(&server.id, server.seq, self.monitor.broker().clock().mono()) {
            Heard::New => self.schedule.hurry(Instant::now()),
            Heard::Known => {}
            Heard::OutOfOrder => {
                tracing::error!("Received out of order remote server update from: {:?}", server.id);
            }
        }
    }

    fn on_counted(&mut self, request: &Request) {
        let Some(told) = self.told(request) else { return };
        let now = self.monitor.broker().clock().mono();
        self.servers.has_connections(&told.server.id, &told.acc, told.conns, now);
        self.recount(&told.acc);
    }

    /// Another server is gone.
    pub(super) fn forget(&mut self, id: &str) {
        for account in self.servers.left(id) {
            self.recount(&account);
        }
    }

    /// Takes over how many connections an account has elsewhere; those that are too many are closed.
    pub(super) fn recount(&self, account: &str) {
        let broker = self.monitor.broker();
        if let Some(account) = broker.account(account) {
            account.set_connections_elsewhere(self.servers.connections(account.name()));
            broker.close_surplus(&account);
        }
    }

    /// Asks the other servers how many connections an account has there.
    pub(super) fn ask_for_connections(&mut self, account: &str) {
        if self.monitor.broker().cluster_name().is_none() {
            return;
        }
        let Some(system) = self.subscriptions.system().cloned() else { return };
        let question = serde_json::json!({ "server": self.describe(), "acc": account });
        let subject = format!("$SYS.REQ.ACCOUNT.{account}.CONNS");
        let reply = format!("$SYS._INBOX_.{}", self.monitor.server_id());
        let body = text(&question);
        voice::publish(&mut self.publisher, &system, subject.as_bytes(), reply.as_bytes(), 0, &body);
    }

    fn on_connections(&mut self, request: &Request, account: &str) {
        let is_used = self.monitor.broker().account(account).is_some_and(|account| account.connections() > 0);
        let asker = serde_json::from_slice::<Told>(&request.payload).map(|told| told.server.id);
        let is_own = asker.is_ok_and(|id| id == self.monitor.server_id());
        if is_used
            && !is_own
            && let Some(event) = self.connections(account)
        {
            self.reply(request, &event);
        }
    }

    fn is_meant(&self, body: &Body) -> Result<(), Failure> {
        is_meant(&self.monitor, body)
    }

    fn on_statsz(&mut self, request: &Request) {
        if request.reply.is_empty() {
            return self.schedule.hurry(Instant::now());
        }
        let meant =
            Body::parse(&request.payload).map_err(Failure::Unreadable).and_then(|body| self.is_meant(&body));
        match meant {
            Ok(()) => {
                let numbers = self.statsz();
                self.reply(request, &numbers);
            }
            Err(failure) => self.refuse(request, failure),
        }
    }

    fn refuse(&mut self, request: &Request, failure: Failure) {
        if let Some(answer) = Envelope::failure(self.describe(), failure) {
            self.reply(request, &text(&answer));
        }
    }

    fn statsz(&self) -> Vec<u8> {
        let numbers = statsz::report(&self.monitor, self.servers.count());
        text(&serde_json::json!({ "server": self.describe(), "statsz": numbers }))
    }

    /// Tells everybody the server's numbers.
    pub(super) fn broadcast(&mut self) {
        let subject = format!("$SYS.SERVER.{}.STATSZ", self.monitor.server_id());
        let numbers = self.statsz();
        self.publish(&subject, &numbers);
    }

    /// Something that an operator wants done.
    fn on_action(&mut self, request: Request, verb: &str) {
        let outcome = match verb {
            "RELOAD" => return self.on_reload(request),
            "KICK" => self.kick(&request),
            _ => self.send_away(&request),
        };
        match outcome {
            Ok(()) => {
                let answer = text(&Envelope::report(self.describe(), None));
                self.reply(&request, &answer);
            }
            Err(failure) => self.refuse(&request, failure),
        }
    }

    /// The connection that is meant; nobody is told of a request that cannot be read.
    fn chosen(request: &Request) -> Result<u64, Failure> {
        let chosen: Chosen = serde_json::from_slice(&request.payload).map_err(|error| {
            tracing::error!("Error unmarshalling {}: {error}", request.subject);
            Failure::Silence
        })?;
        Ok(chosen.cid)
    }

    fn kick(&self, request: &Request) -> Result<(), Failure> {
        let broker = self.monitor.broker();
        let unknown = || Failure::Refused("no such client or leafnode id".to_owned());
        let conn = broker.connection(Self::chosen(request)?).ok_or_else(unknown)?;
        broker.kick(&conn);
        Ok(())
    }

    fn send_away(&self, request: &Request) -> Result<(), Failure> {
        let broker = self.monitor.broker();
        let unknown = || Failure::Refused("no such client id".to_owned());
        let conn = broker.connection(Self::chosen(request)?).ok_or_else(unknown)?;
        if broker.send_away(&conn) {
            return Ok(());
        }
        let text = "client does not support Lame Duck Mode or is not ready to receive the notification";
        Err(Failure::Refused(text.to_owned()))
    }

    fn on_reload(&mut self, request: Request) {
        let meant =
            Body::parse(&request.payload).map_err(Failure::Unreadable).and_then(|body| self.is_meant(&body));
        if let Err(failure) = meant {
            return self.refuse(&request, failure);
        }
        let (voice, reloads) = (self.voice.clone(), self.reloads.clone());
        self.reports.spawn(async move {
            let (done, is_done) = oneshot::channel();
            let is_asked = reloads.send(done).await.is_ok();
            let stopping = Err("the server is stopping".to_owned());
            let outcome = if is_asked { is_done.await.unwrap_or(stopping) } else { stopping };
            let answer = match outcome {
                Ok(()) => Some(Envelope::report(voice.describe(), None)),
                Err(text) => Envelope::failure(voice.describe(), Failure::Refused(text)),
            };
            if let Some(answer) = answer {
                send(&voice, &request, &answer);
            }
        });
    }

    /// A report; made by a task of its own, because it may have to wait for streams.
    async fn on_report(&mut self, request: Request, wanted: Wanted) {
        if request.reply.is_empty() {
            return;
        }
        if self.reports.len() >= REPORTS_MAX {
            self.reports.join_next().await;
        }
        let voice = self.voice.clone();
        self.reports.spawn(async move {
            let answer = match report(voice.monitor(), &request, &wanted).await {
                Ok(report) => Some(Envelope::report(voice.describe(), Some(report))),
                Err(failure) => Envelope::failure(voice.describe(), failure),
            };
            if let Some(answer) = answer {
                send(&voice, &request, &answer);
            }
        });
    }
}

async fn report(monitor: &Monitor, request: &Request, wanted: &Wanted) -> Result<Box<RawValue>, Failure> {
    let body = Body::parse(&request.payload).map_err(Failure::Unreadable)?;
    is_meant(monitor, &body)?;
    wanted.make(monitor, &body).await
}

/// Fails silently if the request is for other servers.
fn is_meant(monitor: &Monitor, body: &Body) -> Result<(), Failure> {
    let filter: Filter = body.read().map_err(Failure::Unreadable)?;
    let options = monitor.options();
    let engine = monitor.engine();
    let is_meant = filter.admits(&Server {
        name: &monitor.server_name(),
        cluster: &monitor.broker().cluster_name().unwrap_or_default(),
        host: &options.client.host,
        tags: &options.identity.server_tags,
        domain: engine.as_ref().map_or("", |engine| engine.config().domain.as_str()),
    });
    if is_meant { Ok(()) } else { Err(Failure::Silence) }
}

/// Sends an answer, packed as the asker likes it.
fn send(voice: &Voice, request: &Request, answer: &Envelope) {
    let packing = if answer.is_error() { Packing::Plain } else { Packing::accepted(&request.headers) };
    let json = text(answer);
    let (header_len, body) = packing.pack(&json).unwrap_or_else(|error| {
        tracing::error!("An answer of the system services could not be packed: {error}");
        (0, json)
    });
    let mut publisher = voice.monitor().broker().publisher();
    voice::publish(&mut publisher, &request.account, &request.reply, b"", header_len, &body);
    publisher.flush();
}
