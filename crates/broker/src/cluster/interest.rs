use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use linnet_auth::SubscribeVerdict;
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
    /// Interest came, changed or went; with `is_filtered`, messages on some of its subjects are kept from it.
    pub(super) fn on_line(
        &mut self,
        account: &Arc<Account>,
        interest: &Interest<'_>,
        is_filtered: bool,
        route: &Arc<Route>,
    ) {
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
            filtered: is_filtered.into(),
            ..Subscription::new(Target::Route(route.clone()))
        }));
        account.insert(&sub);
        self.subs.insert(place, (account.clone(), sub));
    }

    /// Judges all interest anew, and lets go of what is denied.
    pub(super) fn judge(&mut self, verdict: impl Fn(&[u8]) -> SubscribeVerdict) {
        let is_denied = |key: &Key| verdict(&key.subject) == SubscribeVerdict::Denied;
        for (_, (account, sub)) in self.subs.extract_if(|(_, key), _| is_denied(key)) {
            account.remove(&sub);
        }
        for ((_, key), (account, sub)) in &self.subs {
            let is_filtered = verdict(&key.subject) == SubscribeVerdict::Filtered;
            // Which messages are kept back may be different although some were before.
            if sub.filtered.swap(is_filtered, Ordering::Relaxed) || is_filtered {
                account.reconsider(sub);
            }
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
