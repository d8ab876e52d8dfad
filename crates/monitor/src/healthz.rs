//! `/healthz`: gathers what is known, has it judged.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use linnet_jetstream::{Assigned, AssignedStream, Engine, MetaStatus, StreamHandle};
use serde::Deserialize;
use tokio::time::Instant;

use crate::answer::{Page, Refusal, json};
use crate::ask::ANSWER_TIME_MAX;
use crate::health::{AccountHealth, Answer, Presence, Query, Snapshot, StreamHealth, evaluate};
use crate::json::Layout;
use crate::monitor::Monitor;
use crate::params::Params;

/// What a stream's reason to stop begins with when it is a write error; the answer says so itself.
const WRITE_ERROR: &str = "stream write error: ";
/// The write error of streams in files on a full disk.
const NO_SPACE: &str = "no space left on device";

/// `/healthz`.
pub(crate) async fn page(monitor: &Monitor, params: &Params) -> Page {
    let answer = report(monitor, &Question::of(params)?).await;
    let status = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(json(status, &answer.body, Layout::Compact))
}

/// What is asked for. The names are those in JSON and, here, also those in URLs.
#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct Question {
    js_enabled: bool,
    js_enabled_only: bool,
    js_server_only: bool,
    js_meta_only: bool,
    account: String,
    stream: String,
    consumer: String,
    details: bool,
}

impl Question {
    fn of(params: &Params) -> Result<Self, Refusal> {
        let js_enabled = params.bool("js-enabled")?;
        let js_enabled_only = params.bool("js-enabled-only")?;
        let js_server_only = params.bool("js-server-only")?;
        let js_meta_only = params.bool("js-meta-only")?;
        Ok(Self {
            js_enabled,
            js_enabled_only,
            js_server_only,
            js_meta_only,
            account: params.text("account").to_owned(),
            stream: params.text("stream").to_owned(),
            consumer: params.text("consumer").to_owned(),
            details: params.bool("details")?,
        })
    }

    fn query(&self) -> Query {
        Query {
            account: self.account.clone(),
            stream: self.stream.clone(),
            consumer: self.consumer.clone(),
            js_enabled_only: self.js_enabled_only || self.js_enabled,
            js_server_only: self.js_server_only,
            js_meta_only: self.js_meta_only,
            details: self.details,
        }
    }
}

/// The judgement that the page shows; what is wrong is logged, too.
pub(crate) async fn report(monitor: &Monitor, question: &Question) -> Answer {
    if question.js_enabled {
        tracing::warn!("Healthcheck: js-enabled deprecated, use js-enabled-only instead");
    }
    let query = question.query();
    let answer = evaluate(&snapshot(monitor, &query).await, &query);
    log(&answer);
    answer
}

fn log(answer: &Answer) {
    match (&answer.body.error, answer.body.errors.len()) {
        (Some(error), _) => tracing::warn!("Healthcheck failed: {error:?}"),
        (None, 0) => {}
        (None, n) => tracing::warn!("Healthcheck failed: {n} errors"),
    }
}

async fn snapshot(monitor: &Monitor, query: &Query) -> Snapshot {
    let engine = monitor.engine();
    let mut snapshot = Snapshot {
        closed_listeners: monitor.state.listeners.missing(),
        jetstream_configured: monitor.options().jetstream.enabled,
        jetstream_running: engine.is_some(),
        ..Snapshot::default()
    };
    if let Some(engine) = engine {
        snapshot.meta = engine.meta_status().map(|status| with_disk(status, &engine));
        snapshot.accounts = accounts(&engine);
        let told = |o: linnet_jetstream::Orphan| {
            format!(
                "JetStream stream '{} > {}' of this server is not part of the cluster: {}",
                o.account, o.stream, o.reason
            )
        };
        snapshot.orphans = engine.orphans().into_iter().map(told).collect();
        snapshot.may_lack_streams = engine.may_lack_streams().map(|path| path.display().to_string());
        snapshot.unnamed_groups = engine.health().unnamed().into_iter().map(|(group, _)| group).collect();
        if !query.consumer.is_empty() {
            snapshot.consumer = consumer(monitor, &engine, query).await;
        }
    }
    snapshot
}

/// The log that all groups share may take nothing before the group could say so.
fn with_disk(status: Arc<MetaStatus>, engine: &Engine) -> Arc<MetaStatus> {
    let health = engine.health();
    let error = health.log_failure().or_else(|| health.is_disk_full().then(|| NO_SPACE.to_owned()));
    match error {
        Some(error) if status.write_error.is_none() => {
            Arc::new(MetaStatus { write_error: Some(error), ..(*status).clone() })
        }
        _ => status,
    }
}

/// The accounts with their streams, also those that could not be opened.
fn accounts(engine: &Engine) -> Vec<AccountHealth> {
    let mut accounts = match engine.assigned() {
        Some(assigned) => clustered(engine, assigned),
        None => opened(engine),
    };
    for (account, name, _) in engine.health().not_recovered() {
        let streams = accounts.entry(account).or_default();
        if !streams.iter().any(|s| s.name == name) {
            streams.push(StreamHealth { name, not_recovered: true, ..StreamHealth::default() });
        }
    }
    accounts.into_iter().map(|(name, streams)| AccountHealth { name, streams }).collect()
}

/// The accounts with JetStream of a server alone.
fn opened(engine: &Engine) -> BTreeMap<String, Vec<StreamHealth>> {
    let mut losses = engine.health().losses();
    let mut accounts = BTreeMap::new();
    for account in engine.accounts() {
        let streams = account.streams();
        let streams = streams.iter().map(|stream| {
            let name = stream.config().name.clone();
            let key = (account.name().to_owned(), name.clone());
            let losses = losses.remove(&key).unwrap_or_default();
            StreamHealth { losses, ..health(stream, name, engine.health().is_disk_full()) }
        });
        accounts.insert(account.name().to_owned(), streams.collect());
    }
    accounts
}

/// The accounts that have streams in the cluster, each with those that this server is a member of.
fn clustered(engine: &Engine, assigned: Assigned) -> BTreeMap<String, Vec<StreamHealth>> {
    let mut losses = engine.health().losses();
    let is_disk_full = engine.health().is_disk_full();
    let mut accounts: BTreeMap<String, Vec<StreamHealth>> =
        assigned.accounts.into_iter().map(|name| (name, Vec::new())).collect();
    for AssignedStream { account, stream, handle, problem } in assigned.streams {
        let losses = losses.remove(&(account.clone(), stream.clone())).unwrap_or_default();
        let here = match handle {
            Some(handle) => health(&handle, stream, is_disk_full),
            None => StreamHealth { name: stream, ..StreamHealth::default() },
        };
        let write_error = here.write_error.as_ref().map(|error| format!("{WRITE_ERROR}{error}"));
        let not_current = write_error.or_else(|| problem.map(str::to_owned));
        accounts.entry(account).or_default().push(StreamHealth { losses, not_current, ..here });
    }
    accounts
}

fn health(stream: &StreamHandle, name: String, is_disk_full: bool) -> StreamHealth {
    let cell = stream.cell();
    let failure = cell.failure().map(|reason| match reason.strip_prefix(WRITE_ERROR) {
        Some(error) => error.to_owned(),
        None => reason,
    });
    let has_no_space = is_disk_full && !cell.is_memory();
    let write_error = failure.or_else(|| has_no_space.then(|| NO_SPACE.to_owned()));
    StreamHealth {
        name,
        not_recovered: stream.lost().is_some(),
        write_error,
        not_current: None,
        damaged: cell.damaged(),
        damaged_seqs: cell.damaged_seqs(),
        losses: Vec::new(),
    }
}

async fn consumer(monitor: &Monitor, engine: &Arc<Engine>, query: &Query) -> Presence {
    let Some(stream) = engine.account(&query.account).and_then(|a| a.stream(&query.stream)) else {
        return Presence::Absent;
    };
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    match monitor.asker.ask(engine, &stream, true, deadline).await {
        Some(said) if said.consumers.iter().any(|c| c.name == query.consumer) => Presence::Present,
        Some(_) => Presence::Absent,
        None => Presence::Unknown,
    }
}
