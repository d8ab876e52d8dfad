//! `/accstatz`: connections and traffic of accounts.

use std::collections::BTreeSet;
use std::sync::Arc;

use linnet_broker::{Account, Amount};
use serde::{Deserialize, Serialize};

use crate::answer::{Page, page as answer};
use crate::format::signed;
use crate::monitor::Monitor;
use crate::params::Params;

/// Accounts.
#[derive(Serialize)]
pub(crate) struct Accstatz {
    server_id: String,
    now: String,
    pub(crate) account_statz: Vec<AccountStat>,
}

/// Connections and traffic of one account on this server.
#[derive(Serialize)]
pub(crate) struct AccountStat {
    acc: String,
    name: String,
    conns: i64,
    leafnodes: i64,
    total_conns: i64,
    num_subscriptions: u64,
    sent: Data,
    received: Data,
    slow_consumers: i64,
}

/// Messages and bytes over all kinds of connections, and over each kind but clients.
#[derive(Default, Serialize)]
struct Data {
    #[serde(flatten)]
    all: Count,
    gateways: Count,
    routes: Count,
    leafs: Count,
}

/// Messages and bytes.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Count {
    msgs: i64,
    bytes: i64,
}

impl From<Amount> for Count {
    fn from(amount: Amount) -> Self {
        Self { msgs: signed(amount.msgs), bytes: signed(amount.bytes) }
    }
}

impl Data {
    fn new(clients: Amount, routes: Amount) -> Self {
        Self { all: (clients + routes).into(), routes: routes.into(), ..Self::default() }
    }
}

impl AccountStat {
    pub(crate) fn of(account: &Account) -> Self {
        let traffic = account.traffic();
        let conns = signed(account.connections());
        Self {
            acc: account.name().to_owned(),
            name: account.name().to_owned(),
            conns,
            leafnodes: 0,
            total_conns: conns,
            num_subscriptions: account.interest_stats().subscriptions,
            sent: Data::new(traffic.to_clients, traffic.to_routes),
            received: Data::new(traffic.from_clients, traffic.from_routes),
            slow_consumers: signed(traffic.slow_consumers),
        }
    }
}

/// What is asked for. The names are those in JSON.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    /// All if empty.
    pub(crate) accounts: BTreeSet<String>,
    pub(crate) include_unused: bool,
}

impl Question {
    fn wants(&self, account: &Account) -> bool {
        (self.accounts.is_empty() || self.accounts.contains(account.name()))
            && (self.include_unused || account.connections() > 0)
    }
}

/// `/accstatz`.
pub(crate) fn page(monitor: &Monitor, params: &Params) -> Page {
    let include_unused = params.bool("unused")?;
    answer(&report(monitor, &Question { include_unused, ..Question::default() }))
}

/// What the page shows.
pub(crate) fn report(monitor: &Monitor, question: &Question) -> Accstatz {
    let mut accounts = monitor.broker().accounts();
    accounts.retain(|account: &Arc<Account>| question.wants(account));
    accounts.sort_by(|a, b| a.name().cmp(b.name()));
    Accstatz {
        server_id: monitor.server_id(),
        now: monitor.now(),
        account_statz: accounts.iter().map(|account| AccountStat::of(account)).collect(),
    }
}
