use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use linnet_interest::{Interest, Matches, Stats};
use linnet_links::propagation::{self, Neighbour, Passing};
use parking_lot::RwLock;

use crate::cluster::Announcer;
use crate::interest_watch::Watches;
use crate::sink::Sink;
use crate::subscription::{SubRef, Subscription, Target};
use crate::traffic::{Traffic, TrafficSnapshot};

/// Generations are kept per hash of the first token, so that a change of interest leaves caches of unrelated
/// subjects valid.
const SHARDS: usize = 64;

/// Limits of one account; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Client connections.
    pub max_connections: Option<usize>,
    /// Subscriptions per connection.
    pub max_subscriptions: Option<usize>,
    /// Bytes of a message.
    pub max_payload: Option<usize>,
}

/// An account: an isolated space of subjects.
pub struct Account {
    name: String,
    is_system: bool,
    limits: RwLock<AccountLimits>,
    interest: RwLock<Interest<SubRef>>,
    generations: [AtomicU64; SHARDS],
    /// Changes of subscriptions whose first token is a wildcard, which concern every shard.
    wild_generation: AtomicU64,
    pub(crate) connections: AtomicUsize,
    /// Client connections bound to it on other servers, as far as known.
    elsewhere: AtomicUsize,
    pub(crate) traffic: Traffic,
    pub(crate) watches: Watches,
    pub(crate) announcer: Announcer,
}

/// When a cached match was computed; stale as soon as it differs from the account's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Generation {
    shard: u64,
    wild: u64,
}

impl Account {
    /// An account without connections.
    pub fn new(name: &str, is_system: bool, limits: AccountLimits) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            is_system,
            limits: RwLock::new(limits),
            interest: RwLock::new(Interest::default()),
            generations: [const { AtomicU64::new(1) }; SHARDS],
            wild_generation: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            elsewhere: AtomicUsize::new(0),
            traffic: Traffic::default(),
            watches: Watches::default(),
            announcer: Announcer::default(),
        })
    }

    /// Name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True for the system account.
    pub fn is_system(&self) -> bool {
        self.is_system
    }

    /// Limits.
    pub fn limits(&self) -> AccountLimits {
        *self.limits.read()
    }

    pub(crate) fn set_limits(&self, limits: AccountLimits) {
        *self.limits.write() = limits;
    }

    /// Client connections bound to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Client connections bound to it on other servers, which count for its limit.
    pub fn connections_elsewhere(&self) -> usize {
        self.elsewhere.load(Ordering::Relaxed)
    }

    /// Sets how many client connections are bound to it on other servers.
    pub fn set_connections_elsewhere(&self, count: usize) {
        self.elsewhere.store(count, Ordering::Relaxed);
    }

    /// Messages and bytes so far.
    pub fn traffic(&self) -> TrafficSnapshot {
        self.traffic.snapshot()
    }

    /// Counts of its subscriptions.
    pub fn interest_stats(&self) -> Stats {
        self.interest.read().stats()
    }

    /// Every subscription.
    pub fn subscriptions(&self) -> Vec<SubRef> {
        let mut all = Vec::new();
        self.interest.read().for_each(|sub| all.push(sub.clone()));
        all
    }

    /// True if a message on `subject` would reach a client.
    pub fn has_client_interest(&self, subject: &[u8]) -> bool {
        self.interest.read().reaches(subject, |sub, _| sub.conn().is_some() && !sub.is_closed())
    }

    /// True if a message on `subject` would reach anybody.
    pub fn has_interest(&self, subject: &[u8]) -> bool {
        self.interest.read().reaches(subject, |sub, _| !sub.is_closed())
    }

    /// True if there is a subscription to the literal subject itself, rather than to a pattern that takes it.
    pub fn has_subscription_to(&self, subject: &[u8]) -> bool {
        self.interest.read().reaches(subject, |sub, _| !sub.is_closed() && *sub.0.subject == *subject)
    }

    /// True if somebody listens to the literal subject in a queue group.
    pub fn has_queue_interest(&self, subject: &[u8], group: &[u8]) -> bool {
        self.interest
            .read()
            .reaches(subject, |sub, _| !sub.is_closed() && sub.0.queue.as_deref() == Some(group))
    }

    /// Subscribes a service inside the server. Dropping the result unsubscribes.
    pub fn subscribe(
        self: &Arc<Self>,
        subject: &[u8],
        queue: Option<&[u8]>,
        sink: Arc<dyn Sink>,
    ) -> InternalSubscription {
        let sub = SubRef(Arc::new(Subscription {
            subject: subject.into(),
            queue: queue.map(Into::into),
            ..Subscription::new(Target::Sink(sink))
        }));
        self.insert(&sub);
        InternalSubscription { account: self.clone(), sub }
    }

    /// As [`Account::subscribe`], of what other servers are not told of: only this server's messages arrive.
    pub fn subscribe_here(self: &Arc<Self>, subject: &[u8], sink: Arc<dyn Sink>) -> InternalSubscription {
        let sub = SubRef(Arc::new(Subscription {
            subject: subject.into(),
            is_import: true,
            ..Subscription::new(Target::Sink(sink))
        }));
        self.insert(&sub);
        InternalSubscription { account: self.clone(), sub }
    }

    /// Runs `body` while insertions wait.
    #[cfg(test)]
    pub(crate) fn while_nothing_is_inserted<T>(&self, body: impl FnOnce() -> T) -> T {
        let _held = self.interest.read();
        body()
    }

    /// Adds a subscription.
    pub(crate) fn insert(&self, sub: &SubRef) {
        self.insert_untold(sub);
        if is_told(sub) {
            // What others hear of is there: their messages may come at once.
            self.announcer.add(&self.name, sub);
        }
    }

    /// Adds a subscription without telling other servers.
    pub(crate) fn insert_untold(&self, sub: &SubRef) {
        {
            let mut interest = self.interest.write();
            interest.insert(&sub.subject, sub.queue.as_deref(), sub.clone());
            self.touch(&sub.subject);
        }
        self.watches.tell(&sub.subject);
    }

    /// Removes a subscription.
    pub(crate) fn remove(&self, sub: &SubRef) {
        sub.closed.store(true, Ordering::Relaxed);
        let is_removed = {
            let mut interest = self.interest.write();
            let is_removed = interest.remove(&sub.subject, sub.queue.as_deref(), sub);
            if is_removed {
                self.touch(&sub.subject);
            }
            is_removed
        };
        if is_removed && is_told(sub) {
            self.announcer.remove(&self.name, sub);
        }
    }

    /// The subscription stands for another number of members.
    pub(crate) fn reconsider(&self, sub: &SubRef) {
        let _interest = self.interest.write();
        self.touch(&sub.subject);
    }

    /// Marks caches of everything the subject may match as stale. Called under the write lock, so a reader that
    /// sees the new generation also sees the new interest.
    fn touch(&self, subject: &[u8]) {
        let first = first_token(subject);
        if first == b"*" || first == b">" {
            self.wild_generation.fetch_add(1, Ordering::Release);
        } else {
            self.generations[shard_of(first)].fetch_add(1, Ordering::Release);
        }
    }

    /// Marks all caches as stale.
    pub(crate) fn forget_matches(&self) {
        self.wild_generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn generation(&self, shard: usize) -> Generation {
        Generation {
            shard: self.generations[shard].load(Ordering::Acquire),
            wild: self.wild_generation.load(Ordering::Acquire),
        }
    }

    pub(crate) fn matches(&self, subject: &[u8], out: &mut Matches<SubRef>) {
        self.interest.read().matches(subject, out);
    }
}

/// True if the other servers of the cluster are told of the subscription.
fn is_told(sub: &Subscription) -> bool {
    propagation::interest(sub.place(), Neighbour::Route) == Passing::Yes
}

pub(crate) fn first_token(subject: &[u8]) -> &[u8] {
    subject.split(|b| *b == b'.').next().unwrap_or_default()
}

/// The generation shard of a first token: a few multiplications over at most its first and last bytes would
/// collide for families such as `a1`, `a2`, so all bytes take part.
pub(crate) fn shard_of(first: &[u8]) -> usize {
    let hash = first.iter().fold(0x9e37_79b9_u32, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193));
    (hash >> 26) as usize
}

/// A subscription of a service; unsubscribes when dropped.
pub struct InternalSubscription {
    account: Arc<Account>,
    sub: SubRef,
}

impl InternalSubscription {
    /// Messages delivered so far.
    pub fn delivered(&self) -> u64 {
        self.sub.delivered()
    }
}

impl Drop for InternalSubscription {
    fn drop(&mut self) {
        self.account.remove(&self.sub);
    }
}
