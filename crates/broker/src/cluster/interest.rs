use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_links::Key;
use linnet_wire::route::Interest;

use super::route::Route;
use crate::account::Account;
use crate::subscription::{SubRef, Subscription, Target};

/// What the other side of one route has said about its interest, as subscriptions of the accounts here.
#[derive(Default)]
pub(super) struct RemoteInterest {
    subs: HashMap<(String, Key), (Arc<Account>, SubRef)>,
}

impl RemoteInterest {
    /// Interest came, changed or went.
    pub(super) fn on_line(&mut self, account: &Arc<Account>, interest: &Interest<'_>, route: &Arc<Route>) {
        let key = Key {
            origin: interest.origin.map(Into::into),
            subject: interest.subject.into(),
            queue: interest.queue.map(Into::into),
        };
        let place = (account.name().to_owned(), key);
        if interest.weight == 0 {
            if let Some((account, sub)) = self.subs.remove(&place) {
                account.remove(&sub);
            }
            return;
        }
        if let Some((account, sub)) = self.subs.get(&place) {
            if sub.weight.swap(interest.weight, Ordering::Relaxed) != interest.weight {
                account.reconsider(sub);
            }
            return;
        }
        let sub = SubRef(Arc::new(Subscription {
            subject: interest.subject.into(),
            queue: interest.queue.map(Into::into),
            weight: interest.weight.into(),
            ..Subscription::new(Target::Route(route.clone()))
        }));
        account.insert(&sub);
        self.subs.insert(place, (account.clone(), sub));
    }

    /// Lets go of interest in subjects that are not to be kept.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&[u8]) -> bool) {
        for (_, (account, sub)) in self.subs.extract_if(|(_, key), _| !is_kept(&key.subject)) {
            account.remove(&sub);
        }
    }

    /// Lets go of all interest in an account's messages.
    pub(super) fn forget_account(&mut self, name: &str) {
        for (_, (account, sub)) in self.subs.extract_if(|(account, _), _| account == name) {
            account.remove(&sub);
        }
    }

    /// Different interests.
    pub(super) fn len(&self) -> usize {
        self.subs.len()
    }

    /// The route is gone, and its interest with it.
    pub(super) fn forget(&mut self) {
        for (_, (account, sub)) in self.subs.drain() {
            account.remove(&sub);
        }
    }
}
