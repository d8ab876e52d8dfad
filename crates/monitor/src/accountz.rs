//! `/accountz`: the accounts, or one of them.

use std::sync::Arc;

use linnet_broker::Account;
use serde::{Deserialize, Serialize};

use crate::answer::{Page, Refusal, page as answer};
use crate::format::signed;
use crate::monitor::Monitor;
use crate::params::Params;
use crate::subsz::SublistStats;

/// The accounts, or one of them.
#[derive(Serialize)]
pub(crate) struct Accountz {
    server_id: String,
    now: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_account: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<AccountDetail>,
}

/// One account.
#[derive(Serialize)]
pub(crate) struct AccountDetail {
    account_name: String,
    update_time: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_system: bool,
    expired: bool,
    complete: bool,
    jetstream_enabled: bool,
    leafnode_connections: i64,
    client_connections: i64,
    subscriptions: i64,
    name_tag: String,
    sublist_stats: SublistStats,
}

/// What is asked for. The name is that in JSON.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    account: String,
}

/// `/accountz`.
pub(crate) fn page(monitor: &Monitor, params: &Params) -> Page {
    answer(&report(monitor, &Question { account: params.text("acc").to_owned() })?)
}

/// What the page shows.
pub(crate) fn report(monitor: &Monitor, question: &Question) -> Result<Accountz, Refusal> {
    let broker = monitor.broker();
    let mut accountz = Accountz {
        server_id: monitor.server_id(),
        now: monitor.now(),
        system_account: monitor.system_account(),
        accounts: Vec::new(),
        account_detail: None,
    };
    match question.account.as_str() {
        "" => {
            accountz.accounts = broker.accounts().iter().map(|a| a.name().to_owned()).collect();
            accountz.accounts.sort_unstable();
        }
        name => {
            accountz.account_detail = Some(named(monitor, name)?);
        }
    }
    Ok(accountz)
}

/// The account of this name.
pub(crate) fn named(monitor: &Monitor, name: &str) -> Result<AccountDetail, Refusal> {
    let unknown = || Refusal::bad_request(format!("Account {name} does not exist"));
    Ok(detail(monitor, &monitor.broker().account(name).ok_or_else(unknown)?))
}

fn detail(monitor: &Monitor, account: &Arc<Account>) -> AccountDetail {
    AccountDetail {
        account_name: account.name().to_owned(),
        update_time: monitor.state.config.load().loaded.rfc3339(),
        is_system: account.is_system(),
        expired: false,
        complete: true,
        jetstream_enabled: monitor.engine().is_some_and(|e| e.account(account.name()).is_some()),
        leafnode_connections: 0,
        client_connections: signed(account.connections()),
        subscriptions: signed(account.interest_stats().subscriptions),
        name_tag: account.name().to_owned(),
        sublist_stats: SublistStats::of(std::slice::from_ref(account)),
    }
}
