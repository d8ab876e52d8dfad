//! Whether the server is healthy: a pure judgement over what is known at one moment.
//!
//! The order of the questions is nats-server's. Damaged messages are told but do not
//! make the server unhealthy: one bad record must not keep a pod from starting.

use std::sync::Arc;

use linnet_jetstream::MetaStatus;
use serde::Serialize;

mod meta;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this account; empty for all.
    pub account: String,
    /// Only this stream of the account.
    pub stream: String,
    /// Also this consumer of the stream.
    pub consumer: String,
    /// Stop once JetStream is known to run.
    pub js_enabled_only: bool,
    /// Stop once the listeners are known to be open.
    pub js_server_only: bool,
    /// In a cluster: stop once the meta group is known to be well.
    pub js_meta_only: bool,
    /// Tell everything that is wrong instead of the first thing.
    pub details: bool,
}

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Listeners that should be open and are not, with the error of those that failed.
    pub closed_listeners: Vec<String>,
    /// The configuration asks for JetStream.
    pub jetstream_configured: bool,
    /// JetStream runs.
    pub jetstream_running: bool,
    /// Where the meta group stands; `None` without a cluster.
    pub meta: Option<Arc<MetaStatus>>,
    /// Accounts that have JetStream or streams that were not recovered.
    pub accounts: Vec<AccountHealth>,
    /// Groups of streams that the catalogue has lost and nothing else names.
    pub unnamed_groups: Vec<String>,
    /// Streams of this server that the cluster does not know, each with what is known of it.
    pub orphans: Vec<String>,
    /// Streams may be missing of which nothing is left; the file that says so.
    pub may_lack_streams: Option<String>,
    /// Whether the consumer that is asked for exists.
    pub consumer: Presence,
}

/// What is known of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountHealth {
    /// Name.
    pub name: String,
    /// Streams.
    pub streams: Vec<StreamHealth>,
}

/// What is known of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamHealth {
    /// Name.
    pub name: String,
    /// It could not be opened.
    pub not_recovered: bool,
    /// Why it stopped, if it did.
    pub write_error: Option<String>,
    /// In a cluster: why this server's part of it is not what it should be.
    pub not_current: Option<String>,
    /// How many of its messages are damaged.
    pub damaged: u64,
    /// Sequences of those that were met.
    pub damaged_seqs: Vec<u64>,
    /// What its log has lost, in words.
    pub losses: Vec<String>,
}

/// Whether a consumer is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// Nobody looked.
    #[default]
    NotAsked,
    /// It is.
    Present,
    /// It is not.
    Absent,
    /// Its stream does not answer.
    Unknown,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// What is told.
    pub body: Body,
}

/// The judgement in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Body {
    /// `ok`, `unavailable` or `error`.
    pub status: &'static str,
    /// The first problem.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// All problems, when details are wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Problem>,
    /// Damaged messages, when details are wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<Damage>,
    /// What the logs of streams have lost, when details are wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<Loss>,
    /// What else an operator should know, when details are wanted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// What the log of a stream has lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// Account.
    pub account: String,
    /// Stream.
    pub stream: String,
    /// In words.
    pub reasons: Vec<String>,
}

/// What a problem is about. Clients know these words and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ProblemKind {
    /// Listeners.
    Connection,
    /// The question.
    BadRequest,
    /// JetStream as a whole.
    #[serde(rename = "JETSTREAM")]
    JetStream,
    /// An account.
    Account,
    /// A stream.
    Stream,
    /// A consumer.
    Consumer,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: ProblemKind,
    /// Account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Stream.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// Consumer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consumer: String,
    /// What is wrong.
    pub error: String,
    #[serde(skip)]
    code: u16,
}

/// Damaged messages of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Account.
    pub account: String,
    /// Stream.
    pub stream: String,
    /// How many.
    pub messages: u64,
    /// Sequences of those that were met.
    pub sequences: Vec<u64>,
}

impl Problem {
    fn new(kind: ProblemKind, code: u16, error: String) -> Self {
        Self { kind, account: String::new(), stream: String::new(), consumer: String::new(), error, code }
    }

    fn at(mut self, account: &str, stream: &str, consumer: &str) -> Self {
        self.account = account.to_owned();
        self.stream = stream.to_owned();
        self.consumer = consumer.to_owned();
        self
    }
}

/// Judges `snapshot`.
pub fn evaluate(snapshot: &Snapshot, query: &Query) -> Answer {
    if let Some(problem) = bad_request(query).or_else(|| not_ready(snapshot)) {
        return answer(vec![problem], query);
    }
    if query.js_server_only || !snapshot.jetstream_configured {
        return answer(Vec::new(), query);
    }
    if !snapshot.jetstream_running {
        let text = "JetStream not enabled (10076)".to_owned();
        return answer(vec![Problem::new(ProblemKind::JetStream, 503, text)], query);
    }
    if query.js_enabled_only {
        return answer(Vec::new(), query);
    }
    let meta_problem = snapshot.meta.as_ref().and_then(|status| meta::problem(status));
    if let Some(text) = meta_problem {
        let mut answer = answer(vec![Problem::new(ProblemKind::JetStream, 503, text)], query);
        if query.details {
            answer.body.warnings = warnings(snapshot, query);
        }
        return answer;
    }
    if snapshot.meta.is_some() && query.js_meta_only {
        return answer(Vec::new(), query);
    }
    let mut answer = answer(assets(snapshot, query), query);
    if query.details {
        answer.body.damaged = damage(snapshot, query);
        answer.body.lost = losses(snapshot, query);
        answer.body.warnings = warnings(snapshot, query);
    }
    answer
}

fn bad_request(query: &Query) -> Option<Problem> {
    let text = if query.account.is_empty() && !query.stream.is_empty() {
        "\"account\" must not be empty when checking stream health"
    } else if query.stream.is_empty() && !query.consumer.is_empty() {
        "\"stream\" must not be empty when checking consumer health"
    } else {
        return None;
    };
    Some(Problem::new(ProblemKind::BadRequest, 400, text.to_owned()))
}

fn not_ready(snapshot: &Snapshot) -> Option<Problem> {
    if snapshot.closed_listeners.is_empty() {
        return None;
    }
    let closed = snapshot.closed_listeners.join(", ");
    let text = format!("failed to be ready for connections after 1ms: {closed}");
    Some(Problem::new(ProblemKind::Connection, 500, text))
}

/// What is wrong with the assets asked for.
fn assets(snapshot: &Snapshot, query: &Query) -> Vec<Problem> {
    let accounts = || snapshot.accounts.iter().filter(|a| is_meant(&query.account, &a.name));
    let streams = || accounts().flat_map(|a| &a.streams).filter(|s| is_meant(&query.stream, &s.name));
    if !query.account.is_empty() && accounts().next().is_none() {
        let text = format!("JetStream account \"{}\" not found", query.account);
        return vec![Problem::new(ProblemKind::Account, 404, text).at(&query.account, "", "")];
    }
    if !query.stream.is_empty() && streams().next().is_none() {
        let text =
            format!("JetStream stream \"{}\" not found on account \"{}\"", query.stream, query.account);
        return vec![Problem::new(ProblemKind::Stream, 404, text).at(&query.account, &query.stream, "")];
    }
    let mut problems = Vec::new();
    for account in accounts() {
        let meant = account.streams.iter().filter(|s| is_meant(&query.stream, &s.name));
        problems.extend(meant.filter_map(|s| stream_problem(&account.name, s)));
    }
    if query.account.is_empty() {
        problems.extend(snapshot.unnamed_groups.iter().map(|group| unnamed_problem(group)));
    }
    if problems.is_empty() && !query.consumer.is_empty() {
        problems.extend(consumer_problem(snapshot.consumer, query));
    }
    problems
}

fn is_meant(wanted: &str, name: &str) -> bool {
    wanted.is_empty() || wanted == name
}

fn stream_problem(account: &str, stream: &StreamHealth) -> Option<Problem> {
    let name = format!("JetStream stream '{account} > {}'", stream.name);
    let text = match stream {
        StreamHealth { not_recovered: true, .. } => format!("{name} could not be recovered"),
        StreamHealth { not_current: Some(reason), .. } => format!("{name} is not current: {reason}"),
        StreamHealth { write_error: Some(error), .. } => format!("{name} write error: {error}"),
        _ => return None,
    };
    Some(Problem::new(ProblemKind::Stream, 503, text).at(account, &stream.name, ""))
}

/// Nobody knows whose it is, so it is told to those who ask about everything.
fn unnamed_problem(group: &str) -> Problem {
    let text = format!("JetStream group {group} could not be recovered: no catalogue entry names its stream");
    Problem::new(ProblemKind::JetStream, 503, text)
}

fn consumer_problem(presence: Presence, query: &Query) -> Option<Problem> {
    let Query { account, stream, consumer, .. } = query;
    let (code, text) = match presence {
        Presence::Present => return None,
        Presence::Absent | Presence::NotAsked => (
            404,
            format!(
                "JetStream consumer \"{consumer}\" not found for stream \"{stream}\" on account \"{account}\""
            ),
        ),
        Presence::Unknown => (
            503,
            format!(
                "JetStream consumer '{account} > {stream} > {consumer}' is not current: stream does not answer"
            ),
        ),
    };
    Some(Problem::new(ProblemKind::Consumer, code, text).at(account, stream, consumer))
}

fn damage(snapshot: &Snapshot, query: &Query) -> Vec<Damage> {
    let mut all = Vec::new();
    for account in snapshot.accounts.iter().filter(|a| is_meant(&query.account, &a.name)) {
        let streams = account.streams.iter().filter(|s| is_meant(&query.stream, &s.name));
        all.extend(streams.filter(|s| s.damaged > 0 || !s.damaged_seqs.is_empty()).map(|s| Damage {
            account: account.name.clone(),
            stream: s.name.clone(),
            messages: s.damaged.max(s.damaged_seqs.len() as u64),
            sequences: s.damaged_seqs.clone(),
        }));
    }
    all
}

fn losses(snapshot: &Snapshot, query: &Query) -> Vec<Loss> {
    let mut all = Vec::new();
    for account in snapshot.accounts.iter().filter(|a| is_meant(&query.account, &a.name)) {
        let streams = account.streams.iter().filter(|s| is_meant(&query.stream, &s.name));
        all.extend(streams.filter(|s| !s.losses.is_empty()).map(|s| Loss {
            account: account.name.clone(),
            stream: s.name.clone(),
            reasons: s.losses.clone(),
        }));
    }
    all
}

/// What concerns no stream that is known, for those who ask about everything.
fn warnings(snapshot: &Snapshot, query: &Query) -> Vec<String> {
    let note = snapshot.may_lack_streams.iter().filter(|_| query.account.is_empty());
    let text = |note| {
        format!(
            "JetStream streams may be missing of which nothing is left; remove {note} when that is dealt with"
        )
    };
    let of_meta = snapshot.meta.iter().flat_map(|status| meta::warnings(status));
    let orphans = snapshot.orphans.iter().filter(|_| query.account.is_empty()).cloned();
    note.map(text).chain(of_meta).chain(orphans).collect()
}

fn answer(problems: Vec<Problem>, query: &Query) -> Answer {
    let Some(first) = problems.first() else {
        return Answer { code: 200, body: Body { status: "ok", ..Body::default() } };
    };
    let code = first.code;
    let body = if query.details {
        Body { status: "error", errors: problems, ..Body::default() }
    } else {
        let status = if matches!(code, 400 | 500) { "error" } else { "unavailable" };
        Body { status, error: Some(first.error.clone()), ..Body::default() }
    };
    Answer { code, body }
}

#[cfg(test)]
mod tests;
