//! The JetStream API: requests in, answers out. A file per family of calls.
//!
//! Requests wait in one bounded queue and are worked off by a few tasks, so requests of one client may overtake each
//! other unless it waits for answers.

mod account;
mod audit;
mod backups;
mod clustered;
mod consumers;
mod messages;
mod operator;
mod streams;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use linnet_broker::{
    Account, Broker, ClientDescription, Conn, Delivery, InternalSubscription, Message, Publisher, Sink,
};
use linnet_ids::PeerId;
use linnet_jsapi::decode::{self, Strictness};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::responses::{
    self, AccountInfoResponse, ConsumerCreateResponse, ConsumerDeleteResponse, ConsumerEvacuatePeerResponse,
    ConsumerInfoResponse, ConsumerLeaderStepdownResponse, ConsumerListResponse, ConsumerNamesResponse,
    ConsumerPauseResponse, ConsumerRemovePeerResponse, ConsumerResetResponse, ConsumerUnpinResponse,
    MsgDeleteResponse, MsgGetResponse, Response, StreamCancelMoveResponse, StreamCreateResponse,
    StreamDeleteResponse, StreamEvacuatePeerResponse, StreamInfoResponse, StreamLeaderStepdownResponse,
    StreamListResponse, StreamNamesResponse, StreamPurgeResponse, StreamRemovePeerResponse,
    StreamRestoreResponse, StreamSnapshotResponse, StreamUpdateResponse,
};
use linnet_jsapi::subjects::{ApiRequest, strip_domain};
use linnet_wire::headers;
use tokio::sync::{Mutex, mpsc, watch};

use crate::advisories::{StreamAction, Writer};
use crate::backup::Job;
use crate::catalogue::JsAccount;
use crate::engine::{Awaited, Cluster, Engine, Responder};
use audit::Audited;
use linnet_env::NameSource;
use waiting::Waiting;

/// How long a call about a stream waits of which no server is there.
const OFFLINE_AFTER: Duration = Duration::from_millis(500);
/// Tasks that work requests off.
const WORKERS: usize = 16;

/// An account, and what is subscribed there.
type Covered = (Arc<Account>, Vec<InternalSubscription>);

/// The API of an engine; dropping it stops answering.
pub(crate) struct Api {
    sink: Arc<ApiSink>,
    prefixes: Vec<String>,
    covered: parking_lot::Mutex<Vec<Covered>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Calls that wait end with it.
    _open: watch::Sender<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// A request, copied out of the requester's buffer.
struct Request {
    account: Arc<Account>,
    /// The client's connection; none for a stream of this server.
    conn: Option<Arc<Conn>>,
    /// The server that it came to, if that is another one.
    server: Option<PeerId>,
    subject: String,
    reply: Vec<u8>,
    headers: Vec<u8>,
    body: Vec<u8>,
}

struct ApiSink {
    queue: mpsc::Sender<Request>,
    /// Requests that found no room and were not told of yet.
    dropped: Arc<AtomicU64>,
    waiting: Arc<Waiting>,
    open: watch::Receiver<()>,
}

impl Sink for ApiSink {
    fn deliver(&self, delivery: &Delivery<'_>) {
        let Ok(subject) = std::str::from_utf8(delivery.subject) else { return };
        let request = Request {
            account: delivery.account.clone(),
            conn: delivery.origin.cloned(),
            server: delivery.server.map(PeerId::of_name),
            subject: subject.to_owned(),
            reply: delivery.reply.to_vec(),
            headers: delivery.headers().to_vec(),
            body: delivery.payload().to_vec(),
        };
        self.take(request);
    }
}

impl ApiSink {
    fn take(&self, request: Request) {
        if self.queue.try_send(request).is_err() {
            self.note_dropped();
        }
    }

    fn note_dropped(&self) {
        let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        if dropped.is_power_of_two() {
            tracing::warn!("JetStream API queue limit reached, {dropped} requests dropped");
        }
    }
}

/// Header with which a stream that reads another one says, and is told, which stream it reads.
const IDENTITY: &str = "Nats-Stream-Identity";

/// What the API listens to, behind `$JS.API.`. `MSG.NEXT` and `DIRECT.GET` are subscribed by the assets themselves,
/// so that nobody answering means nobody is there.
const SUBJECTS: &[&str] = &[
    "INFO",
    "STREAM.>",
    "META.>",
    "SERVER.>",
    "ACCOUNT.>",
    "CONSUMER.CREATE.>",
    "CONSUMER.DURABLE.>",
    "CONSUMER.NAMES.>",
    "CONSUMER.LIST.>",
    "CONSUMER.INFO.>",
    "CONSUMER.DELETE.>",
    "CONSUMER.PAUSE.>",
    "CONSUMER.UNPIN.>",
    "CONSUMER.RESET.>",
    "CONSUMER.LEADER.>",
    "CONSUMER.PEER.>",
];

impl Api {
    /// Subscribes in every account and starts the workers.
    pub(crate) fn start(engine: &Arc<Engine>) -> Self {
        let (queue, requests) = mpsc::channel(engine.config.request_queue_limit.max(1));
        let (open, is_open) = watch::channel(());
        let sink =
            Arc::new(ApiSink { queue, dropped: Arc::default(), waiting: Arc::default(), open: is_open });
        let mut prefixes = vec!["$JS.API".to_owned()];
        if !engine.config.domain.is_empty() {
            prefixes.push(format!("$JS.{}.API", engine.config.domain));
        }
        let requests = Arc::new(Mutex::new(requests));
        let work = |_| {
            let mut worker = Worker::new(engine, &engine.broker, &sink);
            let requests = requests.clone();
            tokio::spawn(async move {
                loop {
                    let Some(request) = requests.lock().await.recv().await else { return };
                    worker.handle(request).await;
                }
            })
        };
        let tasks = (0..WORKERS).map(work).collect();
        let api = Self { sink, prefixes, covered: parking_lot::Mutex::default(), tasks, _open: open };
        api.cover(&engine.broker);
        api
    }

    /// Listens in the accounts that there are now, and no more in others.
    pub(crate) fn cover(&self, broker: &Broker) {
        let accounts = broker.accounts();
        let mut covered = self.covered.lock();
        covered.retain(|(known, _)| accounts.iter().any(|account| Arc::ptr_eq(account, known)));
        for account in accounts {
            if covered.iter().any(|(known, _)| Arc::ptr_eq(&account, known)) {
                continue;
            }
            let subjects =
                self.prefixes.iter().flat_map(|p| SUBJECTS.iter().map(move |s| format!("{p}.{s}")));
            let subscriptions =
                subjects.map(|s| account.subscribe(s.as_bytes(), None, self.sink.clone())).collect();
            covered.push((account, subscriptions));
        }
    }
}

/// One task's means to answer.
struct Worker {
    engine: std::sync::Weak<Engine>,
    publisher: Publisher,
    names: NameSource,
    advisories: Writer,
    dropped: Arc<AtomicU64>,
    sink: std::sync::Weak<ApiSink>,
}

/// What one call works with.
pub(crate) struct Call<'a> {
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) account: &'a Arc<JsAccount>,
    pub(crate) body: &'a [u8],
    /// Who asks; `None` for a stream of this server.
    conn: Option<&'a Conn>,
    /// Header block of the request.
    headers: &'a [u8],
    /// What the stream of the answer is known by, for who reads it for another stream.
    identity: Option<String>,
    names: &'a mut NameSource,
    /// What to tell listeners once the call succeeded.
    pub(crate) action: Option<(String, StreamAction)>,
    /// What goes on once the call is answered.
    pub(crate) job: Option<Job>,
}

impl Call<'_> {
    fn strictness(&self) -> Strictness {
        if self.engine.config.strict { Strictness::Strict } else { Strictness::Lenient }
    }

    /// The identity of the stream that the request is for, as its sender knows it; empty if it does not know it yet.
    fn expected_identity(&self) -> Option<&[u8]> {
        headers::get(self.headers, IDENTITY)
    }

    /// Who asks, as advisories say it.
    fn caller(&self) -> ClientDescription {
        describe(&self.engine.broker, self.conn, self.account.name())
    }

    pub(crate) fn short_name(&self) -> String {
        self.names.short()
    }
}

/// Who asks: a client, or without a connection a stream of this server that reads another one.
fn describe(broker: &Broker, conn: Option<&Conn>, account: &str) -> ClientDescription {
    let description = match conn {
        Some(conn) => ClientDescription::new(conn, account, broker.clock().mono()),
        None => ClientDescription::stream(account),
    };
    description.at_server(&broker.identity().name)
}

impl Worker {
    fn new(engine: &Arc<Engine>, broker: &Broker, sink: &Arc<ApiSink>) -> Self {
        Self {
            engine: Arc::downgrade(engine),
            publisher: broker.publisher(),
            names: NameSource::new(),
            advisories: Writer::new(broker, &engine.config.domain),
            dropped: sink.dropped.clone(),
            sink: Arc::downgrade(sink),
        }
    }

    /// Answers a request, or has a task of its own do so if that may take a while.
    async fn handle(&mut self, request: Request) {
        let (Some(engine), Some(sink)) = (self.engine.upgrade(), self.sink.upgrade()) else { return };
        // The cluster that it was asked answers.
        let is_strangers =
            |cluster: &Arc<Cluster>| request.server.is_some_and(|server| cluster.link.is_stranger(server));
        if engine.cluster.as_ref().is_some_and(is_strangers) {
            return;
        }
        if engine.cluster.is_none() || !may_wait(&request) {
            return self.work_off(request).await;
        }
        let Some(place) = sink.waiting.enter(request.account.name()) else {
            return sink.note_dropped();
        };
        let mut worker = Self::new(&engine, &engine.broker, &sink);
        let mut open = sink.open.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = worker.work_off(request) => {}
                _ = open.changed() => {}
            }
            drop(place);
        });
    }

    async fn work_off(&mut self, request: Request) {
        let Some(engine) = self.engine.upgrade() else { return };
        let subject = match strip_domain(&request.subject) {
            Some((domain, subject)) if domain == engine.config.domain => subject.into_owned(),
            Some(_) => return,
            None => request.subject.clone(),
        };
        let api = ApiRequest::parse(&subject);
        if api == ApiRequest::Unknown {
            return;
        }
        if let Some(cluster) = &engine.cluster
            && request.account.is_system()
            && api.is_system_only()
        {
            match clustered::of_system(&engine, cluster, &api, &request.body, &request.reply).await {
                clustered::OfSystem::Answered(outcome) => {
                    self.tell(&engine, &request, &subject, &outcome.body);
                    self.reply(&request, 0, &outcome.body);
                }
                clustered::OfSystem::Wait => self.hold(cluster.clone(), request, subject),
                clustered::OfSystem::Silent => {}
            }
            return;
        }
        let Some(account) = engine.account(request.account.name()) else {
            self.refuse_account(&engine, &request, &api);
            return;
        };
        let level = headers::get(&request.headers, "Nats-Required-Api-Level");
        let level = level.map(|l| String::from_utf8_lossy(l).into_owned());
        let mut call = Call {
            engine: &engine,
            account: &account,
            body: &request.body,
            conn: request.conn.as_deref(),
            headers: &request.headers,
            identity: None,
            names: &mut self.names,
            action: None,
            job: None,
        };
        let responder = match &engine.cluster {
            Some(cluster) => clustered::responder(&call, cluster, &api),
            None => Responder::Here,
        };
        if responder == Responder::Offline
            && let Some(cluster) = &engine.cluster
        {
            account.count_call(true);
            if let Some(Outcome { body, .. }) = refusal(&api, &clustered::offline(&api)) {
                Self::reply_later(&engine, cluster, request, body);
            }
            return;
        }
        if responder == Responder::Elsewhere {
            if let Some(cluster) = &engine.cluster {
                self.hold(cluster.clone(), request, subject);
            }
            return;
        }
        let answer = match decode::check_required_api_level(level.as_deref()) {
            Ok(()) if responder == Responder::Unavailable => {
                let error = engine.cluster.as_ref().map(|cluster| cluster.unavailable());
                refusal(&api, &error.unwrap_or(errors::CLUSTER_NOT_AVAIL))
            }
            Ok(()) => dispatch(&mut call, &api).await,
            Err(error) => refusal(&api, &error),
        };
        let (action, identity) = (call.action.take(), call.identity.take());
        let job = call.job.take();
        if let Some((stream, action)) = action {
            self.advisories.stream_action(&mut self.publisher, &account.account, &stream, action);
        }
        let Some(Outcome { body, failed }) = answer else { return };
        if audit::is_told(&api, failed) {
            account.count_call(failed);
            self.tell(&engine, &request, &subject, &body);
        }
        match identity {
            Some(identity) => self.reply_with_identity(&request, &identity, &body),
            None => self.reply(&request, 0, &body),
        }
        if let Some(job) = job {
            job.start();
        }
    }

    /// Answers a call after a while (jetstream-clustering 1.6): the servers that could say more may come back meanwhile.
    fn reply_later(engine: &Engine, cluster: &Cluster, request: Request, body: Vec<u8>) {
        let Some(room) = cluster.room_to_delay() else { return };
        let broker = engine.broker.clone();
        tokio::spawn(async move {
            tokio::time::sleep(OFFLINE_AFTER).await;
            reply_once(&broker, &request, &body);
            drop(room);
        });
    }

    /// Keeps a call that nobody can answer until the meta group has a leader: whoever that is has it, too. Once it is
    /// clear that there cannot be one, every server says so.
    fn hold(&self, cluster: Arc<Cluster>, request: Request, subject: String) {
        let Some(room) = cluster.room_to_wait() else { return };
        let sink = self.sink.clone();
        tokio::spawn(async move {
            match cluster.await_leader().await {
                Awaited::Here => {
                    if let Some(sink) = sink.upgrade() {
                        sink.take(request);
                    }
                }
                Awaited::Elsewhere => {}
                Awaited::Nobody(error) => {
                    let api = ApiRequest::parse(&subject);
                    let is_of_system = request.account.is_system() && api.is_system_only();
                    let refusal = if is_of_system { clustered::refusal } else { refusal };
                    if let Some(outcome) = refusal(&api, &error) {
                        reply_once(cluster.link.broker(), &request, &outcome.body);
                    }
                }
            }
            drop(room);
        });
    }

    /// Tells who listens to the audits of the account, and of requests that found no room.
    fn tell(&mut self, engine: &Engine, request: &Request, subject: &str, response: &[u8]) {
        let server = &engine.broker.identity().name;
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            for account in engine.broker.accounts().iter().filter(|account| account.is_system()) {
                self.advisories.queue_limit(&mut self.publisher, account, server, dropped);
            }
        }
        if !request.account.has_interest(audit::SUBJECT) {
            return;
        }
        let caller = describe(&engine.broker, request.conn.as_deref(), request.account.name());
        let audited = Audited { caller: &caller, subject, request: &request.body, response };
        self.advisories.audit(&mut self.publisher, &request.account, &audited.fields());
    }

    fn reply_with_identity(&mut self, request: &Request, identity: &str, body: &[u8]) {
        let mut message = Vec::with_capacity(body.len() + 64);
        headers::begin(&mut message, "");
        headers::push(&mut message, IDENTITY, identity.as_bytes());
        headers::end(&mut message);
        let header_len = message.len();
        message.extend_from_slice(body);
        self.reply(request, header_len, &message);
    }

    fn refuse_account(&mut self, engine: &Engine, request: &Request, api: &ApiRequest<'_>) {
        // The account may have JetStream on other servers: one says so for all.
        let is_elsewhere = |cluster: &Arc<Cluster>| {
            matches!(cluster.meta_responder(), Responder::Elsewhere | Responder::Offline)
        };
        if engine.cluster.as_ref().is_some_and(is_elsewhere) {
            return;
        }
        let error = &errors::NOT_ENABLED_FOR_ACCOUNT;
        let body = if request.account.is_system() && *api != ApiRequest::AccountInfo {
            if api.is_system_only() {
                return;
            }
            Some(responses::error::<responses::SystemResponse>(error))
        } else {
            refusal(api, error).map(|outcome| outcome.body)
        };
        if let Some(body) = body {
            self.reply(request, 0, &body);
        }
    }

    fn reply(&mut self, request: &Request, header_len: usize, body: &[u8]) {
        if !request.reply.is_empty() {
            let message =
                Message { subject: &request.reply, shown_subject: b"", reply: b"", header_len, body };
            self.publisher.publish(&request.account, &message);
        }
        self.publisher.flush();
    }
}

fn may_wait(request: &Request) -> bool {
    let subject = strip_domain(&request.subject);
    let subject = subject.as_ref().map_or(request.subject.as_str(), |(_, subject)| subject);
    waiting::may_wait(&ApiRequest::parse(subject))
}

/// Answers a request from a task of its own.
fn reply_once(broker: &Broker, request: &Request, body: &[u8]) {
    if request.reply.is_empty() {
        return;
    }
    let message = Message { subject: &request.reply, shown_subject: b"", reply: b"", header_len: 0, body };
    let mut publisher = broker.publisher();
    publisher.publish(&request.account, &message);
    publisher.flush();
}

/// An encoded answer.
pub(crate) struct Outcome {
    body: Vec<u8>,
    failed: bool,
}

/// Encodes a result.
pub(crate) fn outcome<R: Response>(result: &Result<R, ApiError>) -> Option<Outcome> {
    Some(Outcome { body: responses::encode(result), failed: result.is_err() })
}

async fn dispatch(call: &mut Call<'_>, api: &ApiRequest<'_>) -> Option<Outcome> {
    if let Some(cluster) = call.engine.cluster.clone()
        && let Some(outcome) = clustered::dispatch(call, &cluster, api).await
    {
        return outcome;
    }
    match *api {
        ApiRequest::AccountInfo => outcome(&account::info(call)),
        ApiRequest::StreamCreate { stream } => outcome(&streams::create(call, stream).await),
        ApiRequest::StreamUpdate { stream } => outcome(&streams::update(call, stream).await),
        ApiRequest::StreamNames => outcome(&streams::names(call)),
        ApiRequest::StreamList => outcome(&streams::list(call).await),
        ApiRequest::StreamInfo { stream } => outcome(&streams::info(call, stream).await),
        ApiRequest::StreamDelete { stream } => outcome(&streams::delete(call, stream).await),
        ApiRequest::StreamPurge { stream } => outcome(&streams::purge(call, stream).await),
        ApiRequest::MsgGet { stream } => outcome(&messages::get(call, stream).await),
        ApiRequest::MsgDelete { stream } => {
            let result = messages::delete(call, stream).await;
            let failed = result.as_ref().is_err_and(|error| !messages::says_there_is_none(error));
            Some(Outcome { body: responses::encode(&result), failed })
        }
        ApiRequest::ConsumerCreate { stream, .. } | ApiRequest::ConsumerDurableCreate { stream, .. } => {
            outcome(&consumers::create(call, api, stream).await)
        }
        ApiRequest::ConsumerNames { stream } => outcome(&consumers::names(call, stream).await),
        ApiRequest::ConsumerList { stream } => outcome(&consumers::list(call, stream).await),
        ApiRequest::ConsumerInfo { stream, consumer } => {
            outcome(&consumers::info(call, stream, consumer).await)
        }
        ApiRequest::ConsumerDelete { stream, consumer } => {
            outcome(&consumers::delete(call, stream, consumer).await)
        }
        ApiRequest::ConsumerPause { stream, consumer } => {
            outcome(&consumers::pause(call, stream, consumer).await)
        }
        ApiRequest::ConsumerReset { stream, consumer } => {
            outcome(&consumers::reset(call, stream, consumer).await)
        }
        ApiRequest::ConsumerUnpin { stream, consumer } => {
            outcome(&consumers::unpin(call, stream, consumer).await)
        }
        ApiRequest::StreamSnapshot { stream } => outcome(&backups::snapshot(call, stream).await),
        ApiRequest::StreamRestore { stream } => outcome(&backups::restore(call, stream).await),
        // Calls that only make sense in a cluster.
        _ if api.is_system_only() => None,
        _ if call.engine.cluster.is_some() => refusal(api, &errors::CLUSTER_UNSUPPORTED_FEATURE),
        _ => refusal(api, &errors::CLUSTER_REQUIRED),
    }
}

/// The error in the clothes of the call's own response.
fn refusal(api: &ApiRequest<'_>, error: &ApiError) -> Option<Outcome> {
    let body = match api {
        ApiRequest::AccountInfo => error_of::<AccountInfoResponse>(error),
        ApiRequest::StreamCreate { .. } => error_of::<StreamCreateResponse>(error),
        ApiRequest::StreamUpdate { .. } => error_of::<StreamUpdateResponse>(error),
        ApiRequest::StreamNames => error_of::<StreamNamesResponse>(error),
        ApiRequest::StreamList => error_of::<StreamListResponse>(error),
        ApiRequest::StreamInfo { .. } => error_of::<StreamInfoResponse>(error),
        ApiRequest::StreamDelete { .. } => error_of::<StreamDeleteResponse>(error),
        ApiRequest::StreamPurge { .. } => error_of::<StreamPurgeResponse>(error),
        ApiRequest::MsgGet { .. } => error_of::<MsgGetResponse>(error),
        ApiRequest::MsgDelete { .. } => error_of::<MsgDeleteResponse>(error),
        ApiRequest::StreamSnapshot { .. } => error_of::<StreamSnapshotResponse>(error),
        ApiRequest::StreamRestore { .. } => error_of::<StreamRestoreResponse>(error),
        ApiRequest::StreamPeerRemove { .. } => error_of::<StreamRemovePeerResponse>(error),
        ApiRequest::StreamPeerEvacuate { .. } => error_of::<StreamEvacuatePeerResponse>(error),
        ApiRequest::StreamCancelMove { .. } => error_of::<StreamCancelMoveResponse>(error),
        ApiRequest::StreamLeaderStepdown { .. } => error_of::<StreamLeaderStepdownResponse>(error),
        ApiRequest::ConsumerCreate { .. } | ApiRequest::ConsumerDurableCreate { .. } => {
            error_of::<ConsumerCreateResponse>(error)
        }
        ApiRequest::ConsumerNames { .. } => error_of::<ConsumerNamesResponse>(error),
        ApiRequest::ConsumerList { .. } => error_of::<ConsumerListResponse>(error),
        ApiRequest::ConsumerInfo { .. } => error_of::<ConsumerInfoResponse>(error),
        ApiRequest::ConsumerDelete { .. } => error_of::<ConsumerDeleteResponse>(error),
        ApiRequest::ConsumerPause { .. } => error_of::<ConsumerPauseResponse>(error),
        ApiRequest::ConsumerUnpin { .. } => error_of::<ConsumerUnpinResponse>(error),
        ApiRequest::ConsumerReset { .. } => error_of::<ConsumerResetResponse>(error),
        ApiRequest::ConsumerLeaderStepdown { .. } => error_of::<ConsumerLeaderStepdownResponse>(error),
        ApiRequest::ConsumerPeerRemove { .. } => error_of::<ConsumerRemovePeerResponse>(error),
        ApiRequest::ConsumerPeerEvacuate { .. } => error_of::<ConsumerEvacuatePeerResponse>(error),
        _ => return None,
    };
    Some(Outcome { body, failed: true })
}

fn error_of<R: Response>(error: &ApiError) -> Vec<u8> {
    responses::error::<R>(error)
}
