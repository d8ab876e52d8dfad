//! What clients were told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;

/// What was promised about every stream, and what of it was broken.
#[derive(Default)]
pub(super) struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    streams: HashMap<String, Promised>,
    violations: Vec<String>,
}

/// What was promised about one stream.
#[derive(Clone, Default)]
pub(super) struct Promised {
    /// Body by sequence.
    pub(super) acknowledged: BTreeMap<u64, String>,
    /// Every body that was delivered.
    pub(super) delivered: BTreeSet<String>,
    /// Sequences whose acknowledgement by the consumer was confirmed.
    pub(super) confirmed: BTreeSet<u64>,
    /// Expected sequences of a subject that a write was acknowledged for.
    followed: BTreeSet<(String, u64)>,
    /// The highest acknowledgement floor that was shown.
    floor: u64,
}

impl Ledger {
    /// A message is stored at a sequence.
    pub(super) fn acknowledge(&self, stream: &str, seq: u64, body: &str) {
        let mut inner = self.inner.lock();
        let promised = inner.streams.entry(stream.to_owned()).or_default();
        let before = promised.acknowledged.insert(seq, body.to_owned());
        if let Some(before) = before.filter(|before| before != body) {
            inner.violations.push(format!("{stream}: {seq} was acknowledged for {before} and for {body}"));
        }
    }

    /// A write was acknowledged that expected this as the last sequence of its subject.
    pub(super) fn follow(&self, stream: &str, subject: &str, expected: u64) {
        let mut inner = self.inner.lock();
        let promised = inner.streams.entry(stream.to_owned()).or_default();
        if !promised.followed.insert((subject.to_owned(), expected)) {
            inner
                .violations
                .push(format!("{stream}: two writes of {subject} were told to follow {expected}"));
        }
    }

    /// What is confirmed now: what is asked for from now on must not be among it.
    pub(super) fn confirmed(&self, stream: &str) -> BTreeSet<u64> {
        self.inner.lock().streams.get(stream).map(|p| p.confirmed.clone()).unwrap_or_default()
    }

    /// A message came to a consumer that asked when `confirmed` was confirmed.
    pub(super) fn deliver(&self, stream: &str, seq: u64, body: &str, confirmed: &BTreeSet<u64>) {
        let mut inner = self.inner.lock();
        let promised = inner.streams.entry(stream.to_owned()).or_default();
        promised.delivered.insert(body.to_owned());
        let other = promised.acknowledged.get(&seq).filter(|other| *other != body).cloned();
        if let Some(other) = other {
            inner.violations.push(format!("{stream}: {seq} is {body}, acknowledged was {other}"));
        }
        if confirmed.contains(&seq) {
            inner.violations.push(format!("{stream}: {seq} came again after it was confirmed"));
        }
    }

    /// The consumer's acknowledgement of a message was confirmed.
    pub(super) fn confirm(&self, stream: &str, seq: u64) {
        self.inner.lock().streams.entry(stream.to_owned()).or_default().confirmed.insert(seq);
    }

    /// A consumer shows this floor.
    pub(super) fn floor(&self, stream: &str, floor: u64) {
        let mut inner = self.inner.lock();
        let promised = inner.streams.entry(stream.to_owned()).or_default();
        let before = promised.floor;
        promised.floor = before.max(floor);
        if floor < before {
            inner.violations.push(format!("{stream}: the floor went from {before} to {floor}"));
        }
    }

    /// Something that must not be was seen.
    pub(super) fn violate(&self, what: String) {
        self.inner.lock().violations.push(what);
    }

    pub(super) fn promised(&self, stream: &str) -> Promised {
        self.inner.lock().streams.get(stream).cloned().unwrap_or_default()
    }

    pub(super) fn assert_sound(&self, when: &str) {
        let violations = &self.inner.lock().violations;
        assert!(violations.is_empty(), "{when}: {violations:#?}");
    }
}

#[test]
fn a_ledger_sees_what_is_broken() {
    let ledger = Ledger::default();
    ledger.acknowledge("S", 1, "a");
    ledger.acknowledge("S", 1, "a");
    ledger.confirm("S", 1);
    ledger.floor("S", 1);
    ledger.follow("S", "k", 0);
    ledger.assert_sound("nothing is broken");
    ledger.acknowledge("S", 1, "b");
    ledger.deliver("S", 1, "b", &ledger.confirmed("S"));
    ledger.floor("S", 0);
    ledger.follow("S", "k", 0);
    assert_eq!(ledger.inner.lock().violations.len(), 4);
}
