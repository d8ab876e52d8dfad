//! Being told when somebody begins to listen to a subject.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::account::Account;

/// Somebody who waits for interest in a subject.
pub trait InterestSink: Send + Sync {
    /// A subscription that takes the subject has been made. Runs on the subscriber's reader task, so it must not block.
    fn appeared(&self);
}

type Sinks = Vec<(u64, Arc<dyn InterestSink>)>;

/// The watched subjects of an account.
#[derive(Default)]
pub(crate) struct Watches {
    /// How many there are; spares accounts without any the lock.
    count: AtomicUsize,
    next_id: AtomicU64,
    by_subject: Mutex<HashMap<Box<[u8]>, Sinks>>,
}

impl Watches {
    /// A subscription to `pattern` has been made.
    pub(crate) fn tell(&self, pattern: &[u8]) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let concerned: Sinks = {
            let by_subject = self.by_subject.lock();
            if linnet_subject::is_literal(pattern) {
                by_subject.get(pattern).cloned().unwrap_or_default()
            } else {
                let matching =
                    by_subject.iter().filter(|(subject, _)| linnet_subject::matches(subject, pattern));
                matching.flat_map(|(_, sinks)| sinks.iter().cloned()).collect()
            }
        };
        for (_, sink) in concerned {
            sink.appeared();
        }
    }
}

impl Account {
    /// Tells `sink` of every subscription made from now on that takes the literal subject, until the result is dropped.
    pub fn watch_interest(self: &Arc<Self>, subject: &[u8], sink: Arc<dyn InterestSink>) -> InterestWatch {
        let id = self.watches.next_id.fetch_add(1, Ordering::Relaxed);
        self.watches.by_subject.lock().entry(subject.into()).or_default().push((id, sink));
        self.watches.count.fetch_add(1, Ordering::AcqRel);
        InterestWatch { account: self.clone(), subject: subject.into(), id }
    }
}

/// Ends the watching when it is dropped.
pub struct InterestWatch {
    account: Arc<Account>,
    subject: Box<[u8]>,
    id: u64,
}

impl InterestWatch {
    /// The watched subject.
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }
}

impl Drop for InterestWatch {
    fn drop(&mut self) {
        let watches = &self.account.watches;
        let mut by_subject = watches.by_subject.lock();
        if let Some(sinks) = by_subject.get_mut(&self.subject) {
            sinks.retain(|(id, _)| *id != self.id);
            if sinks.is_empty() {
                by_subject.remove(&self.subject);
            }
        }
        watches.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountLimits;
    use crate::sink::{Delivery, Sink};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl InterestSink for Count {
        fn appeared(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Sink for Count {
        fn deliver(&self, _: &Delivery<'_>) {}
    }

    #[test]
    fn subscriptions_that_take_the_subject_are_told_of() {
        let account = Account::new("A", false, AccountLimits::default());
        let count = Arc::new(Count::default());
        let watch = account.watch_interest(b"a.b", count.clone());
        let other = account.watch_interest(b"a.c", Arc::new(Count::default()));
        let subscribe = |subject: &[u8]| drop(account.subscribe(subject, None, count.clone()));
        let told = || count.0.load(Ordering::Relaxed);
        for (subject, expected) in
            [(b"a.b".as_slice(), 1), (b"a.c", 1), (b"a.*", 2), (b">", 3), (b"b.*", 3), (b"a", 3)]
        {
            subscribe(subject);
            assert_eq!(told(), expected, "{}", subject.escape_ascii());
        }
        drop(watch);
        subscribe(b"a.b");
        assert_eq!(told(), 3);
        drop(other);
        assert!(account.watches.by_subject.lock().is_empty());
    }
}
