//! `/accountz`: the accounts, or one of them.

use std::sync::Arc;

use linnet_broker::Account;
use serde::Serialize;

use crate::answer::{Page, Refusal, page as answer};
use crate::format::signed;
use crate::monitor::Monitor;
use crate::params::Params;
use crate::subsz::SublistStats;

#[derive(Serialize)]
struct Accountz {
    server_id: String,
    now: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_account: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    accounts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_detail: Option<AccountDetail>,
}

#[derive(Serialize)]
struct AccountDetail {
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

/// `/accountz`.
pub(crate) fn page(monitor: &Monitor, params: &Params) -> Page {
    let broker = monitor.broker();
    let mut accountz = Accountz {
        server_id: monitor.server_id(),
        now: monitor.now(),
        system_account: monitor.system_account(),
        accounts: Vec::new(),
        account_detail: None,
    };
    match params.text("acc") {
        "" => {
            accountz.accounts = broker.accounts().iter().map(|a| a.name().to_owned()).collect();
            accountz.accounts.sort_unstable();
        }
        name => {
            let account = broker
                .account(name)
                .ok_or_else(|| Refusal::bad_request(format!("Account {name} does not exist")))?;
            accountz.account_detail = Some(detail(monitor, &account));
        }
    }
    answer(&accountz)
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
