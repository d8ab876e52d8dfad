//! `/jsz`: JetStream, its accounts, streams and consumers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use linnet_ids::Wall;
use linnet_jetstream::{Engine, JsAccount, StreamHandle, StreamReport};
use linnet_jsapi::info::{ApiStats, ClusterInfo, ConsumerInfo, StreamSourceInfo, StreamState};
use linnet_jsapi::{Metadata, StreamConfig, metadata};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::answer::{Page, Refusal, page as answer};
use crate::format::signed;
use crate::jetstream::{JsConfig, JsLimits, JsStats};
use crate::meta::Meta;
use crate::monitor::Monitor;
use crate::params::{LIMIT_DEFAULT, Params, cut};

/// Streams asked at a time.
const ASKED_AT_ONCE: usize = 64;
/// Time for all streams of an answer; those that were not reached are shown with their published values.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// JetStream on this server.
#[derive(Serialize)]
pub(crate) struct Jsz {
    #[serde(flatten)]
    stats: JsStats,
    server_id: String,
    now: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    config: JsConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<JsLimits>,
    streams: i64,
    #[serde(skip_serializing_if = "is_none_or_zero")]
    streams_leader: Option<i64>,
    consumers: i64,
    #[serde(skip_serializing_if = "is_none_or_zero")]
    consumers_leader: Option<i64>,
    messages: u64,
    bytes: u64,
    /// How far stored messages are verified, which nats-server does not do.
    #[serde(skip_serializing_if = "Option::is_none")]
    linnet_scrub: Option<Scrub>,
    /// Streams of this server that the cluster does not know, which nats-server removes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    linnet_orphans: Vec<Orphan>,
    /// Name of the server that leads the meta group, which nats-server shows in `meta_cluster` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_leader: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta_cluster: Option<Meta>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account_details: Vec<AccountDetail>,
    total: i64,
}

/// JetStream of one account.
#[derive(Serialize)]
pub(crate) struct AccountDetail {
    name: String,
    id: String,
    memory: u64,
    storage: u64,
    /// The account's limits, as nats-server has it; no limit is the largest number.
    reserved_memory: u64,
    reserved_storage: u64,
    accounts: i64,
    ha_assets: i64,
    api: ApiStats,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stream_detail: Vec<StreamDetail>,
}

#[derive(Serialize)]
struct StreamDetail {
    name: String,
    created: String,
    cluster: ClusterInfo,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<StreamConfig>,
    state: StreamState,
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<StreamSourceInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sources: Vec<StreamSourceInfo>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consumer_detail: Vec<ConsumerInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_raft_group: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    consumer_raft_groups: Vec<ConsumerGroup>,
    /// The stream did not answer in time: `state` is what it last published, consumers are not listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    not_answering: bool,
}

/// The group that a consumer is part of: its stream's.
#[derive(Serialize)]
struct ConsumerGroup {
    name: String,
    raft_group: String,
}

fn consumer_groups(consumers: &[ConsumerInfo], group: &str) -> Vec<ConsumerGroup> {
    let group_of = |c: &ConsumerInfo| ConsumerGroup { name: c.name.clone(), raft_group: group.to_owned() };
    consumers.iter().map(group_of).collect()
}

/// A stream on this server that the cluster's catalogue does not name.
#[derive(Serialize)]
struct Orphan {
    group: String,
    account: String,
    stream: String,
    reason: String,
}

impl Orphan {
    fn of(orphan: linnet_jetstream::Orphan) -> Self {
        let linnet_jetstream::Orphan { group, account, stream, reason } = orphan;
        Self { group, account, stream, reason }
    }
}

/// Passes over what is stored.
#[derive(Serialize)]
struct Scrub {
    /// The last complete one.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<ScrubPass>,
    /// The one under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<ScrubPass>,
}

/// A pass over what is stored.
#[derive(Serialize)]
struct ScrubPass {
    began: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    messages: u64,
    bytes: u64,
    damaged: u64,
    unread: u64,
}

impl Scrub {
    fn of(report: linnet_jetstream::ScrubReport) -> Self {
        let pass = |pass: linnet_jetstream::ScrubPass| ScrubPass {
            began: Wall(pass.began).rfc3339(),
            ended: (pass.ended > 0).then(|| Wall(pass.ended).rfc3339()),
            messages: pass.msgs,
            bytes: pass.bytes,
            damaged: pass.damaged,
            unread: pass.unread,
        };
        Self { last: report.last.map(pass), current: report.current.map(pass) }
    }
}

fn is_none_or_zero(n: &Option<i64>) -> bool {
    n.unwrap_or(0) == 0
}

/// What is asked for. The names are those in JSON.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    account: String,
    accounts: bool,
    streams: bool,
    #[serde(rename = "consumer")]
    consumers: bool,
    config: bool,
    leader_only: bool,
    raft: bool,
    stream_leader_only: bool,
    offset: i64,
    limit: i64,
}

impl Question {
    fn of(params: &Params) -> Result<Self, Refusal> {
        let accounts = params.bool("accounts")?;
        let streams = params.bool("streams")?;
        let consumers = params.bool("consumers")?;
        // Mirrors and sources are not served by consumers here, so there is nothing to add.
        params.bool("direct-consumers")?;
        let config = params.bool("config")?;
        let offset = params.int("offset")?;
        let limit = params.int("limit")?;
        let leader_only = params.bool("leader-only")?;
        let raft = params.bool("raft")?;
        let stream_leader_only = params.bool("stream-leader-only")?;
        Ok(Self {
            account: params.text("acc").to_owned(),
            accounts,
            streams,
            consumers,
            config,
            leader_only,
            raft,
            stream_leader_only,
            offset,
            limit,
        })
    }

    /// True if the details of streams are wanted, which those of consumers are part of.
    fn wants_streams(&self) -> bool {
        self.streams || self.consumers
    }

    /// The accounts whose details are wanted.
    fn accounts(&self, engine: &Engine) -> Vec<Arc<JsAccount>> {
        if !self.account.is_empty() {
            return engine.account(&self.account).into_iter().collect();
        }
        match self.limit {
            _ if !(self.accounts || self.wants_streams()) => Vec::new(),
            ..0 => engine.accounts(),
            0 => cut(engine.accounts(), self.offset, LIMIT_DEFAULT),
            limit => cut(engine.accounts(), self.offset, limit),
        }
    }
}

/// `/jsz`.
pub(crate) async fn page(monitor: &Monitor, params: &Params) -> Page {
    let question = Question::of(params)?;
    if is_left_to_leader(monitor, &question) {
        return Err(Refusal::bad_request("filtered response: not leader"));
    }
    answer(&report(monitor, &question).await)
}

/// True if only the leader is asked, and this server is none. Without a cluster it leads if JetStream runs.
pub(crate) fn is_left_to_leader(monitor: &Monitor, question: &Question) -> bool {
    let leads = |engine: Arc<Engine>| engine.meta_status().is_none_or(|status| status.is_leader);
    question.leader_only && !monitor.engine().is_some_and(leads)
}

/// What the page shows.
pub(crate) async fn report(monitor: &Monitor, question: &Question) -> Jsz {
    let engine = monitor.engine();
    let mut jsz = Jsz {
        stats: JsStats::default(),
        server_id: monitor.server_id(),
        now: monitor.now(),
        disabled: engine.is_none(),
        config: JsConfig::default(),
        limits: None,
        streams: 0,
        streams_leader: None,
        consumers: 0,
        consumers_leader: None,
        messages: 0,
        bytes: 0,
        linnet_scrub: None,
        linnet_orphans: Vec::new(),
        meta_leader: None,
        meta_cluster: None,
        account_details: Vec::new(),
        total: 0,
    };
    if let Some(engine) = engine {
        summarise(&mut jsz, &engine, monitor, question.raft);
        let deadline = Instant::now() + ANSWER_TIME_MAX;
        for account in question.accounts(&engine) {
            jsz.account_details.push(detail(monitor, &engine, &account, question, deadline).await);
        }
    }
    jsz
}

/// JetStream of one account; streams and consumers are listed as far as asked for.
pub(crate) async fn of_account(
    monitor: &Monitor,
    name: &str,
    question: &Question,
) -> Result<AccountDetail, Refusal> {
    let engine = monitor.engine().ok_or_else(|| Refusal::bad_request("jetstream not enabled"))?;
    if monitor.broker().account(name).is_none() {
        return Err(Refusal::bad_request(format!("account {name:?} not found")));
    }
    let account = engine
        .account(name)
        .ok_or_else(|| Refusal::bad_request(format!("account {name:?} not jetstream enabled")))?;
    Ok(detail(monitor, &engine, &account, question, Instant::now() + ANSWER_TIME_MAX).await)
}

fn summarise(jsz: &mut Jsz, engine: &Engine, monitor: &Monitor, raft: bool) {
    jsz.stats = JsStats::of(engine);
    jsz.config = JsConfig::of(engine, &monitor.options());
    jsz.linnet_scrub = engine.scrub_report().map(Scrub::of);
    jsz.linnet_orphans = engine.orphans().into_iter().map(Orphan::of).collect();
    jsz.meta_cluster = Meta::of(engine);
    jsz.meta_leader = jsz.meta_cluster.as_ref().and_then(|meta| meta.leader().map(str::to_owned));
    jsz.limits = Some(JsLimits::of(&monitor.options()));
    let accounts = engine.accounts();
    jsz.total = signed(accounts.len());
    let mut led = (0, 0);
    for stream in accounts.iter().flat_map(|a| a.streams()) {
        let cell = stream.cell();
        if engine.is_leader_of(&stream) {
            led.0 += 1;
            led.1 += signed(cell.consumers());
        }
        jsz.streams += 1;
        jsz.consumers += signed(cell.consumers());
        jsz.messages += cell.msgs();
        jsz.bytes += cell.bytes();
    }
    if raft {
        jsz.streams_leader = Some(led.0);
        jsz.consumers_leader = Some(led.1);
    }
}

async fn detail(
    monitor: &Monitor,
    engine: &Arc<Engine>,
    account: &JsAccount,
    question: &Question,
    deadline: Instant,
) -> AccountDetail {
    let (memory, storage) = engine.usage().account(account.name());
    let (total, errors) = account.api_counts();
    let limits = account.limits();
    let mut streams = if question.wants_streams() { account.streams() } else { Vec::new() };
    streams.retain(|stream| !question.stream_leader_only || engine.is_leader_of(stream));
    let stream_detail = futures_util::stream::iter(streams)
        .map(|stream| async move { stream_detail(monitor, engine, &stream, question, deadline).await })
        .buffered(ASKED_AT_ONCE)
        .collect()
        .await;
    AccountDetail {
        name: account.name().to_owned(),
        id: account.name().to_owned(),
        memory,
        storage,
        reserved_memory: u64::try_from(limits.max_memory).unwrap_or(u64::MAX),
        reserved_storage: u64::try_from(limits.max_storage).unwrap_or(u64::MAX),
        accounts: 0,
        ha_assets: 0,
        api: ApiStats { total, errors, ..ApiStats::default() },
        stream_detail,
    }
}

async fn stream_detail(
    monitor: &Monitor,
    engine: &Arc<Engine>,
    stream: &Arc<StreamHandle>,
    question: &Question,
    deadline: Instant,
) -> StreamDetail {
    let said = monitor.asker.ask(engine, stream, question.consumers, deadline).await;
    let not_answering = said.is_none();
    let (report, cluster, mut consumers) = match said {
        Some(said) => (said.report, said.cluster, said.consumers),
        None => (published(stream), engine.published_cluster_info(stream), Vec::new()),
    };
    for consumer in &mut consumers {
        // Consumers have no groups of their own.
        consumer.cluster.clone_from(&cluster);
        consumer.config = consumer.config.take().filter(|_| question.config);
        if let Some(config) = &mut consumer.config {
            without_server_keys(&mut config.metadata);
        }
    }
    let is_clustered = cluster.is_some();
    let groups = (question.raft && is_clustered).then(|| engine.raft_group(stream));
    let mut config = (*stream.config()).clone();
    without_server_keys(&mut config.metadata);
    StreamDetail {
        name: config.name.clone(),
        created: stream.created().rfc3339(),
        cluster: cluster
            .unwrap_or_else(|| ClusterInfo { leader: monitor.server_name(), ..ClusterInfo::default() }),
        config: question.config.then_some(config),
        state: report.state,
        mirror: report.mirror,
        sources: report.sources,
        stream_raft_group: groups.clone(),
        consumer_raft_groups: groups.map_or_else(Vec::new, |group| consumer_groups(&consumers, &group)),
        consumer_detail: consumers,
        not_answering,
    }
}

/// Clients are told who runs an asset, monitoring shows what is stored.
fn without_server_keys(metadata: &mut Metadata) {
    metadata.remove(metadata::LEVEL_KEY);
    metadata.remove(metadata::VERSION_KEY);
}

/// What is known of a stream without asking it.
fn published(stream: &StreamHandle) -> StreamReport {
    let cell = stream.cell();
    let state = StreamState {
        msgs: cell.msgs(),
        bytes: cell.bytes(),
        first_seq: cell.first_seq(),
        last_seq: cell.last_seq(),
        consumer_count: cell.consumers(),
        ..StreamState::default()
    };
    StreamReport { state, mirror: None, sources: Vec::new() }
}
