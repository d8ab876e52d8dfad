//! What the services listen to.

use std::sync::Arc;

use linnet_broker::{Account, InternalSubscription};

use super::System;
use super::counting::{ASK_ALL, ASK_EACH};
use super::relay::OPEN_TO_ALL;
use super::request::{ACCOUNT_VERBS, SERVER_ACTIONS, SERVER_VERBS};

/// Asked by clients of every account about themselves; only their own server answers.
pub(super) const USER_INFO: &str = "$SYS.REQ.USER.INFO";

/// The subscriptions in force, by account.
#[derive(Default)]
pub(super) struct Subscriptions {
    system: Option<Arc<Account>>,
    held: Vec<(Arc<Account>, Vec<InternalSubscription>)>,
}

impl Subscriptions {
    /// The system account; there may be none.
    pub(super) fn system(&self) -> Option<&Arc<Account>> {
        self.system.as_ref()
    }
}

impl System {
    /// Listens in every account that there is, and in none that there is not.
    pub(super) fn subscribe(&mut self) {
        let accounts = self.monitor.broker().accounts();
        self.subscriptions.system = accounts.iter().find(|account| account.is_system()).cloned();
        if self.subscriptions.system.is_none() {
            self.subscriptions.held.clear();
            return;
        }
        let is_there = |known: &Arc<Account>| accounts.iter().any(|account| Arc::ptr_eq(account, known));
        self.subscriptions.held.retain(|(known, _)| is_there(known));
        for account in &accounts {
            if self.subscriptions.held.iter().any(|(known, _)| Arc::ptr_eq(known, account)) {
                continue;
            }
            let mut held = vec![account.subscribe_here(USER_INFO.as_bytes(), self.postbox.clone())];
            if account.is_system() {
                held.extend(self.system_subscriptions(account));
                held.push(account.subscribe_here(ASK_ALL.as_bytes(), self.postbox.clone()));
            } else {
                let open = OPEN_TO_ALL.iter();
                held.extend(
                    open.map(|(open, _)| account.subscribe_here(open.as_bytes(), self.postbox.clone())),
                );
            }
            self.subscriptions.held.push((account.clone(), held));
        }
    }

    fn system_subscriptions(&self, account: &Arc<Account>) -> Vec<InternalSubscription> {
        let id = self.monitor.server_id();
        let mut subjects = vec!["$SYS.REQ.SERVER.PING".to_owned(), ASK_EACH.to_owned()];
        for verb in SERVER_VERBS {
            subjects.push(format!("$SYS.REQ.SERVER.PING.{verb}"));
            subjects.push(format!("$SYS.REQ.SERVER.{id}.{verb}"));
        }
        subjects.extend(SERVER_ACTIONS.map(|verb| format!("$SYS.REQ.SERVER.{id}.{verb}")));
        subjects.extend(ACCOUNT_VERBS.map(|verb| format!("$SYS.REQ.ACCOUNT.*.{verb}")));
        subjects.extend(["STATSZ", "SHUTDOWN", "LAMEDUCK"].map(|verb| format!("$SYS.SERVER.*.{verb}")));
        subjects.push("$SYS.SERVER.ACCOUNT.*.CONNS".to_owned());
        subjects.push(format!("$SYS._INBOX_.{id}"));
        subjects.push(format!("$SYS._INBOX.{}.*", self.node));
        let subscribe = |subject: &String| account.subscribe(subject.as_bytes(), None, self.postbox.clone());
        subjects.iter().map(subscribe).collect()
    }
}
