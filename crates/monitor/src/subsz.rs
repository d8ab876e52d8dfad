//! `/subsz`: subscriptions and how matching does.

use std::sync::Arc;

use linnet_broker::{Account, Broker, Subscription};
use serde::{Deserialize, Serialize};

use crate::answer::{Page, Refusal, page as answer};
use crate::format::signed;
use crate::monitor::Monitor;
use crate::params::{Params, cut, limit_or_default};

/// Counters of matching.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct SublistStats {
    num_subscriptions: i64,
    /// Results are cached by each publishing connection for itself; their number is not known.
    num_cache: i64,
    num_inserts: u64,
    num_removes: u64,
    num_matches: u64,
    cache_hit_rate: f64,
    max_fanout: i64,
    avg_fanout: f64,
}

/// One subscription.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct SubDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) account_tag: Option<String>,
    pub(crate) subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) qgroup: Option<String>,
    pub(crate) sid: String,
    pub(crate) msgs: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max: Option<i64>,
    pub(crate) cid: u64,
}

/// Subscriptions.
#[derive(Serialize)]
pub(crate) struct Subsz {
    server_id: String,
    now: String,
    #[serde(flatten)]
    stats: SublistStats,
    total: i64,
    offset: i64,
    limit: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<SubDetail>,
}

impl SublistStats {
    /// The sums over `accounts`. Look-ups are only counted for all accounts together.
    pub(crate) fn of(accounts: &[Arc<Account>]) -> Self {
        let mut sum = Self::default();
        for stats in accounts.iter().map(|a| a.interest_stats()) {
            sum.num_subscriptions += signed(stats.subscriptions);
            sum.num_inserts += stats.inserts;
            sum.num_removes += stats.removes;
        }
        sum
    }

    fn with_lookups(mut self, broker: &Broker) -> Self {
        let stats = broker.stats();
        self.num_matches = stats.matches;
        if stats.matches > 0 {
            self.cache_hit_rate = stats.cache_hits as f64 / stats.matches as f64;
        }
        self
    }
}

impl SubDetail {
    /// A subscription that exists; the account is for the caller to add.
    pub(crate) fn of(sub: &Subscription) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            subject: text(&sub.subject),
            qgroup: sub.queue.as_deref().map(text),
            sid: text(&sub.sid),
            msgs: signed(sub.delivered()),
            max: sub.max().map(signed),
            cid: sub.conn().map_or(0, |c| c.cid()),
            ..Self::default()
        }
    }

    /// The same, naming its account.
    pub(crate) fn in_account(mut self, account: &str) -> Self {
        self.account = Some(account.to_owned());
        self.account_tag = Some(account.to_owned());
        self
    }
}

/// What is asked for. The names are those in JSON.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    subscriptions: bool,
    offset: i64,
    limit: i64,
    test: String,
    account: String,
}

impl Question {
    fn of(params: &Params) -> Result<Self, Refusal> {
        Ok(Self {
            subscriptions: params.bool("subs")?,
            offset: params.int("offset")?,
            limit: params.int("limit")?,
            test: params.text("test").to_owned(),
            account: params.text("acc").to_owned(),
        })
    }

    /// The subscriptions of one account.
    pub(crate) fn for_account(self, account: &str) -> Self {
        Self { account: account.to_owned(), subscriptions: true, ..self }
    }
}

/// `/subsz`.
pub(crate) fn page(monitor: &Monitor, params: &Params) -> Page {
    answer(&report(monitor, &Question::of(params)?)?)
}

/// What the page shows.
pub(crate) fn report(monitor: &Monitor, question: &Question) -> Result<Subsz, Refusal> {
    let (offset, limit) = (question.offset.max(0), limit_or_default(question.limit));
    let (test, account) = (question.test.as_str(), question.account.as_str());
    if !test.is_empty() && !linnet_subject::is_valid_literal(test.as_bytes()) {
        return Err(Refusal::bad_request(format!(
            "invalid test subject, must be valid publish subject: {test}"
        )));
    }
    let broker = monitor.broker();
    let accounts = match account {
        "" => broker.accounts(),
        name => broker.account(name).into_iter().collect(),
    };
    let mut stats = SublistStats::of(&accounts);
    if account.is_empty() {
        stats = stats.with_lookups(broker);
    }
    let subs = if question.subscriptions { matching(&accounts, test) } else { Vec::new() };
    Ok(Subsz {
        server_id: monitor.server_id(),
        now: monitor.now(),
        stats,
        total: signed(subs.len()),
        offset,
        limit,
        subscriptions_list: cut(subs, offset, limit),
    })
}

/// This server's subscriptions that would receive a message on `test`, or all without one, in a stable order.
fn matching(accounts: &[Arc<Account>], test: &str) -> Vec<SubDetail> {
    let mut found = Vec::new();
    for account in accounts {
        let subs = account.subscriptions();
        // Those of other servers are counted, and listed by `/routez`.
        let own = subs.iter().filter(|s| !s.is_remote());
        let wanted = own.filter(|s| test.is_empty() || linnet_subject::matches(test.as_bytes(), &s.subject));
        found.extend(wanted.map(|s| SubDetail::of(s).in_account(account.name())));
    }
    found.sort_by(|a, b| {
        (&a.account, a.cid, &a.subject, &a.sid).cmp(&(&b.account, b.cid, &b.subject, &b.sid))
    });
    found
}
