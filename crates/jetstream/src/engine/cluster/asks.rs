//! What servers of a cluster ask each other.

use std::sync::Arc;
use std::time::Duration;

use linnet_assets::{Command, CommandOutcome, ConsumerCommand};
use linnet_ids::{GroupId, PeerId};
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::StreamInfo;
use linnet_replication::Assignment;
use linnet_replication::cluster::{Assurance, MetaRequest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{Cluster, Engine};
use crate::catalogue::StreamHandle;
use crate::cluster::{Answerer, AskKind};
use crate::engine::META_KEY;

/// Describe yourself: [`Description`].
pub(super) const ASK_DESCRIPTION: AskKind = AskKind(1);
/// Something of a stream that you lead: [`StreamQuestion`].
pub(super) const ASK_STREAM: AskKind = AskKind(2);
/// Something for the leader of the catalogue's group: [`MetaRequest`].
pub(super) const ASK_META: AskKind = AskKind(3);
/// All streams of an account that you lead: its name; their [`StreamInfo`]s.
pub(super) const ASK_STREAMS: AskKind = AskKind(4);
/// What an account uses of you: its name; [`Usage`].
pub(super) const ASK_USAGE: AskKind = AskKind(5);
/// A chunk of a state.
pub(super) const ASK_CHUNK: AskKind = AskKind(6);
/// The life in which you would take part in a group: its id; after a space, a life of yours that is over.
pub(super) const ASK_LIFE: AskKind = AskKind(7);

/// How a replica of a group stands: its id; [`Standing`](linnet_replication::cluster::Standing).
pub(super) const ASK_STANDING: AskKind = AskKind(8);

/// Records of a group's messages; [`repairing`](super::repairing).
pub(super) const ASK_RECORDS: AskKind = AskKind(9);
/// This server's disk takes nothing, or does again: 1 or 0.
pub(super) const ASK_TROUBLE: AskKind = AskKind(10);
/// Which members beside this one of the groups that you lead are behind: its id; their names.
pub(super) const ASK_LAGGING: AskKind = AskKind(11);
/// Give up what your replica of a group promised: its id; empty.
pub(super) const ASK_GIVE_UP: AskKind = AskKind(14);

/// Go on with those of a group that remember; [`rescue`](super::rescue).
pub(super) const ASK_GO_ON: AskKind = AskKind(13);

/// How long a server may take to describe itself.
pub(super) const DESCRIBE_WITHIN: Duration = Duration::from_secs(1);

/// Whether you know a leader of the catalogue's group.
pub(super) const ASK_LED: AskKind = AskKind(12);

/// Take me out of the catalogue's group, which you lead, and say so to who asked: its reply subject; an [`ApiError`] if
/// that is refused.
pub(super) const ASK_REMOVAL: AskKind = AskKind(15);

/// What of the catalogue's group, which you lead, is committed: its term and an index, or nothing.
pub(super) const ASK_COMMITTED: AskKind = AskKind(16);

/// The state of a group that you sent in a transfer is taken: its number.
pub(super) const ASK_TAKEN: AskKind = AskKind(18);
/// Of which of these streams you know a leader: ids of groups; the same.
pub(super) const ASK_LED_STREAMS: AskKind = AskKind(17);

/// How long the leader of a stream may take.
const STREAM_WITHIN: Duration = Duration::from_secs(4);
/// How long all servers may take that are asked at once (jetstream-clustering 0).
const GATHER_WITHIN: Duration = Duration::from_secs(4);
/// A stream that nobody leads is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What a server says of itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Description {
    /// The life of its replica of the catalogue.
    pub(super) life: Option<u64>,
    pub(super) name: String,
    pub(super) cluster: String,
    pub(super) tags: Vec<String>,
    /// Bytes that streams may take there, and that they take: memory, storage.
    pub(super) max: (u64, u64),
    pub(super) used: (u64, u64),
    /// Consumers there of streams with several replicas.
    pub(super) ha_consumers: u64,
}

/// Bytes that an account uses.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) memory: u64,
    pub(crate) storage: u64,
    /// Consumers of the streams that the server leads.
    pub(crate) consumers: u64,
}

/// A question to whoever leads a stream.
#[derive(Debug, Serialize, Deserialize)]
struct StreamQuestion {
    account: String,
    stream: String,
    group: String,
    call: StreamCall,
}

/// What the leader of a stream is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum StreamCall {
    /// Describe it.
    Info,
    /// Describe it once it is as the catalogue said at this sequence.
    Settled(u64),
    /// Configurations of its consumers.
    Configs,
    /// End it, in its own log.
    End,
    /// Ids of the servers that are its members for certain.
    Members,
}

/// Answers what others ask from now on.
pub(super) fn answer(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let spawn =
        |kind: AskKind, handle: fn(Arc<Engine>, Arc<Cluster>, PeerId, bytes::Bytes, Answerer) -> Task| {
            let (engine, weak) = (Arc::downgrade(engine), Arc::downgrade(cluster));
            cluster.link.answer_with(kind, move |from, body, answerer| {
                if let (Some(engine), Some(cluster)) = (engine.upgrade(), weak.upgrade()) {
                    tokio::spawn(handle(engine, cluster, from, body, answerer));
                }
            });
        };
    spawn(ASK_DESCRIPTION, |engine, cluster, _, _, answerer| {
        Box::pin(async move { say(answerer, &engine.describe_server(&cluster)) })
    });
    spawn(ASK_STREAM, |engine, cluster, _, body, answerer| {
        Box::pin(async move {
            let Ok(question) = serde_json::from_slice::<StreamQuestion>(&body) else { return };
            if let Some(answer) = engine.answer_stream(&cluster, question).await {
                say(answerer, &answer);
            }
        })
    });
    spawn(ASK_META, |engine, cluster, _, body, answerer| {
        Box::pin(async move {
            let Ok(request) = serde_json::from_slice::<MetaRequest>(&body) else { return };
            if engine.serve_meta(&cluster, request).await.is_ok() {
                answerer.answer(b"");
            }
        })
    });
    spawn(ASK_STREAMS, |engine, _, _, body, answerer| {
        Box::pin(async move {
            let account = String::from_utf8_lossy(&body).into_owned();
            say(answerer, &engine.streams_led(&account).await);
        })
    });
    spawn(ASK_USAGE, |engine, _, _, body, answerer| {
        Box::pin(async move { say(answerer, &engine.usage_here(&String::from_utf8_lossy(&body))) })
    });
    spawn(ASK_LIFE, |engine, cluster, _, body, answerer| {
        Box::pin(async move {
            let text = String::from_utf8_lossy(&body);
            let (group, over) = match text.split_once(' ') {
                Some((group, life)) => (group, life.parse().ok()),
                None => (&*text, None),
            };
            let Some(group) = GroupId::parse(group) else { return };
            if let Some(life) = engine.name_life(&cluster, group, over).await {
                say(answerer, &life);
            }
        })
    });
    spawn(ASK_STANDING, |engine, _, _, body, answerer| {
        Box::pin(async move {
            let group = std::str::from_utf8(&body).ok().and_then(GroupId::parse);
            if let Some(group) = group
                && let Some(standing) = engine.standing(group).await
            {
                say(answerer, &standing);
            }
        })
    });
    spawn(ASK_GIVE_UP, |engine, _, _, body, answerer| {
        Box::pin(async move {
            if let Some(group) = std::str::from_utf8(&body).ok().and_then(GroupId::parse) {
                engine.give_up(group).await;
                answerer.answer(b"");
            }
        })
    });
    spawn(ASK_TROUBLE, |_, cluster, from, body, answerer| {
        Box::pin(async move {
            cluster.link.note_trouble(from, body.first() == Some(&1));
            answerer.answer(b"");
        })
    });
    spawn(ASK_LAGGING, |engine, cluster, _, body, answerer| {
        Box::pin(async move {
            let Ok(member) = String::from_utf8_lossy(&body).parse() else { return };
            say(answerer, &engine.lagging_beside(&cluster, member).await);
        })
    });
    spawn(ASK_LED, |_, cluster, _, _, answerer| {
        Box::pin(async move { say(answerer, &cluster.leaderless_for().is_none()) })
    });
    spawn(ASK_LED_STREAMS, |engine, _, _, body, answerer| {
        Box::pin(async move {
            let Ok(groups) = serde_json::from_slice::<Vec<String>>(&body) else { return };
            say(answerer, &engine.led_of(&groups));
        })
    });
    spawn(ASK_COMMITTED, |engine, _, _, _, answerer| {
        Box::pin(async move {
            let report = engine.report(&engine.meta_pump(), META_KEY).await;
            say(answerer, &report.and_then(|report| Assurance::answer(&report.status)));
        })
    });
    spawn(ASK_REMOVAL, |engine, cluster, from, reply, answerer| {
        Box::pin(async move { say(answerer, &engine.remove_who_asks(&cluster, from, &reply).await.err()) })
    });
    super::transfers::answer(engine, cluster);
    super::transfers::release(cluster);
    super::repairing::answer(engine, cluster);
    super::rescue::answer(engine, cluster);
}

type Task = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

fn say(answerer: Answerer, answer: &impl Serialize) {
    match serde_json::to_vec(answer) {
        Ok(bytes) => answerer.answer(&bytes),
        Err(e) => tracing::error!("An answer to another server cannot be written: {e}"),
    }
}

impl Engine {
    fn describe_server(&self, cluster: &Cluster) -> Description {
        let meta = cluster.meta();
        Description {
            life: meta.report.as_ref().map(|report| report.incarnation),
            name: self.place.server.clone(),
            cluster: self.broker.cluster_name().unwrap_or_default(),
            tags: self.config.cluster.as_ref().map(|c| c.tags.clone()).unwrap_or_default(),
            max: self.usage.max(),
            used: self.usage.total(),
            ha_consumers: self.ha_consumers(),
        }
    }

    fn ha_consumers(&self) -> u64 {
        let accounts = self.accounts();
        let streams = accounts.iter().flat_map(|account| account.streams());
        streams.filter(|stream| stream.config().num_replicas > 1).map(|s| s.cell().consumers()).sum()
    }

    /// The descriptions of all servers that can be heard, this one's among them.
    pub(super) async fn describe_all(&self, cluster: &Arc<Cluster>) -> Vec<(PeerId, Description)> {
        let mut all = vec![(cluster.me(), self.describe_server(cluster))];
        all.extend(gather(cluster, ASK_DESCRIPTION, DESCRIBE_WITHIN, Vec::new()).await);
        cluster.acquaintances.lock().note(&all);
        all
    }

    fn usage_here(&self, account: &str) -> Usage {
        let (memory, storage) = self.usage.account(account);
        let streams = self.account(account).map(|a| a.streams()).unwrap_or_default();
        let led = streams.iter().filter(|s| self.leads(s));
        Usage { memory, storage, consumers: led.map(|s| s.cell().consumers()).sum() }
    }

    /// What an account uses of all servers that can be heard.
    pub(crate) async fn usage_everywhere(&self, cluster: &Arc<Cluster>, account: &str) -> Usage {
        let mut sum = self.usage_here(account);
        for (_, usage) in
            gather::<Usage>(cluster, ASK_USAGE, GATHER_WITHIN, account.as_bytes().to_vec()).await
        {
            sum.memory += usage.memory;
            sum.storage += usage.storage;
            sum.consumers += usage.consumers;
        }
        sum
    }

    /// True if this server answers for a stream.
    pub(crate) fn leads(&self, handle: &StreamHandle) -> bool {
        self.cluster.as_ref().is_none_or(|cluster| {
            handle.lost().is_none() && (!handle.is_replica() || cluster.news.leads(handle.group))
        })
    }

    async fn streams_led(&self, account: &str) -> Vec<StreamInfo> {
        let mut infos = Vec::new();
        for handle in self.account(account).map(|a| a.streams()).unwrap_or_default() {
            if self.leads(&handle)
                && let Some(info) = self.stream_info(&handle).await
            {
                infos.push(info);
            }
        }
        infos
    }

    /// All streams of an account, each as its leader describes it.
    pub(crate) async fn streams_everywhere(&self, cluster: &Arc<Cluster>, account: &str) -> Vec<StreamInfo> {
        let mut infos = self.streams_led(account).await;
        for (_, more) in
            gather::<Vec<StreamInfo>>(cluster, ASK_STREAMS, GATHER_WITHIN, account.as_bytes().to_vec()).await
        {
            infos.extend(more);
        }
        infos
    }

    /// A stream as the API describes it, with its replicas.
    pub(crate) async fn stream_info(&self, handle: &StreamHandle) -> Option<StreamInfo> {
        let report = self.stream_report(handle).await?;
        let domain = &self.config.domain;
        Some(StreamInfo {
            config: (*handle.config()).clone(),
            created: handle.created(),
            state: report.state,
            domain: (!domain.is_empty()).then(|| domain.clone()),
            cluster: self.cluster_info(handle).await,
            mirror: report.mirror,
            sources: report.sources,
            timestamp: self.broker.clock().wall(),
            ..StreamInfo::default()
        })
    }

    /// The answer of this server about a stream; `None` if it does not lead it.
    async fn answer_stream(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        question: StreamQuestion,
    ) -> Option<Result<serde_json::Value, ApiError>> {
        let StreamQuestion { account, stream, group, call } = question;
        if let StreamCall::Settled(seq) = call {
            self.wait_until_settled(cluster, &account, &stream, seq).await?;
        }
        let handle = self.account(&account)?.stream(&stream)?;
        if handle.group.to_string() != group || !self.leads(&handle) {
            return None;
        }
        let value =
            |value: serde_json::Result<serde_json::Value>| value.map_err(|_| errors::CLUSTER_NOT_AVAIL);
        match call {
            StreamCall::Info | StreamCall::Settled(_) => {
                let info = self.stream_info(&handle).await?;
                Some(value(serde_json::to_value(info)))
            }
            StreamCall::Configs => match handle.ask(Command::Consumer(ConsumerCommand::Configs)).await {
                Ok(CommandOutcome::Configs(configs)) => Some(value(serde_json::to_value(configs))),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            },
            StreamCall::Members => {
                if !handle.is_replica() {
                    return Some(Ok(serde_json::json!([cluster.me().to_string()])));
                }
                let status = self.report(&handle.pump, handle.key).await?.status;
                let members = status.membership.members().iter().map(|m| m.peer.to_string());
                let is_certain = status.is_leader && status.is_membership_committed;
                is_certain.then(|| Ok(members.collect()))
            }
            StreamCall::End => Some(handle.ask(Command::Delete).await.map(|_| serde_json::Value::Null)),
        }
    }

    /// Waits until what the catalogue said of a stream is so here. `None` if this server does not lead it then.
    async fn wait_until_settled(
        &self,
        cluster: &Cluster,
        account: &str,
        stream: &str,
        seq: u64,
    ) -> Option<()> {
        let deadline = tokio::time::Instant::now() + STREAM_WITHIN;
        loop {
            let assignment = cluster.view.stream(account, stream);
            let is_known = cluster.view.last_seq() >= seq;
            if let (true, Some(assignment)) = (is_known, assignment) {
                if !assignment.holding_peers().contains(&cluster.me()) {
                    return None;
                }
                let handle = self.account(account)?.stream(stream);
                if let Some(handle) = handle.filter(|h| self.leads(h))
                    && *handle.config() == assignment.config
                {
                    return Some(());
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(ASK_AGAIN / 5).await;
        }
    }

    /// Asks whoever leads a stream, until somebody does or it takes too long.
    pub(crate) async fn ask_leader(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
        call: StreamCall,
    ) -> Result<serde_json::Value, ApiError> {
        let deadline = tokio::time::Instant::now() + STREAM_WITHIN;
        loop {
            if let Some(answer) = self.ask_members(cluster, assignment, &call).await {
                return answer;
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(errors::CLUSTER_NOT_AVAIL);
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Asks all members of a stream at once; the first answer, which is its leader's.
    pub(super) async fn ask_members(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
        call: &StreamCall,
    ) -> Option<Result<serde_json::Value, ApiError>> {
        let question = || StreamQuestion {
            account: assignment.account.clone(),
            stream: assignment.config.name.clone(),
            group: assignment.group.clone(),
            call: call.clone(),
        };
        let body: Arc<[u8]> = serde_json::to_vec(&question()).ok()?.into();
        let mut asking = JoinSet::new();
        for peer in assignment.holding_peers() {
            if peer == cluster.me() {
                let (engine, cluster, question) = (self.clone(), cluster.clone(), question());
                asking.spawn(async move { engine.answer_stream(&cluster, question).await });
            } else {
                let (cluster, body) = (cluster.clone(), body.clone());
                asking.spawn(async move {
                    let within = STREAM_WITHIN + Duration::from_millis(500);
                    let answer = cluster.link.ask(peer, ASK_STREAM, &body, within).await.ok()?;
                    serde_json::from_slice(&answer).ok()
                });
            }
        }
        while let Some(answer) = asking.join_next().await {
            if let Ok(Some(answer)) = answer {
                return Some(answer);
            }
        }
        None
    }

    /// Configurations of the consumers of a stream.
    pub(crate) async fn consumer_configs(
        self: &Arc<Self>,
        cluster: &Arc<Cluster>,
        assignment: &Assignment,
    ) -> Result<Vec<(String, ConsumerConfig)>, ApiError> {
        let value = self.ask_leader(cluster, assignment, StreamCall::Configs).await?;
        serde_json::from_value(value).map_err(|_| errors::CLUSTER_NOT_AVAIL)
    }

    /// Has the leader of the catalogue's group take something in.
    pub(in crate::engine) async fn tell_meta(&self, cluster: &Arc<Cluster>, request: MetaRequest) -> bool {
        if cluster.leads_meta() {
            return self.serve_meta(cluster, request).await.is_ok();
        }
        let Some(leader) = cluster.meta_leader() else { return false };
        let Ok(body) = serde_json::to_vec(&request) else { return false };
        cluster.link.ask(leader, ASK_META, &body, STREAM_WITHIN).await.is_ok()
    }
}

/// What all servers answer that can be heard and understood.
pub(super) async fn gather<T: DeserializeOwned>(
    cluster: &Arc<Cluster>,
    kind: AskKind,
    within: Duration,
    body: Vec<u8>,
) -> Vec<(PeerId, T)> {
    let answers = cluster.link.ask_all(kind, body, within).await.into_iter();
    answers.filter_map(|(peer, answer)| Some((peer, serde_json::from_slice(&answer.ok()?).ok()?))).collect()
}

/// A group id of an assignment.
pub(super) fn group_of(assignment: &Assignment) -> Option<GroupId> {
    assignment.group_id()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_question_has_a_number_of_its_own() {
        let all = [
            ASK_COMMITTED,
            ASK_LED_STREAMS,
            ASK_TAKEN,
            ASK_DESCRIPTION,
            ASK_STREAM,
            ASK_META,
            ASK_STREAMS,
            ASK_USAGE,
            ASK_CHUNK,
            ASK_LIFE,
            ASK_STANDING,
            ASK_RECORDS,
            ASK_TROUBLE,
            ASK_LAGGING,
            ASK_GIVE_UP,
            ASK_GO_ON,
            ASK_LED,
            ASK_REMOVAL,
        ];
        assert_eq!(all.iter().map(|kind| kind.0).collect::<HashSet<_>>().len(), all.len());
    }
}
