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
    /// Streams that come and go: those of which the last answer was that they are there, or gone.
    there: BTreeSet<String>,
    gone: BTreeSet<String>,
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

    /// Up to where a consumer's floor is for certain: each message from the first one to it is confirmed.
    pub(super) fn confirmed_floor(&self, stream: &str) -> u64 {
        let inner = self.inner.lock();
        let Some(promised) = inner.streams.get(stream) else { return 0 };
        let follows = |(seq, expected): &(&u64, u64)| **seq == *expected;
        promised.confirmed.iter().zip(1..).take_while(follows).count() as u64
    }

    /// A consumer shows this floor; what was confirmed when it was asked for was up to `confirmed`. What is acknowledged
    /// without a confirmation may be shown, and be forgotten.
    pub(super) fn floor(&self, stream: &str, floor: u64, confirmed: u64) {
        if floor < confirmed {
            self.violate(format!("{stream}: the floor is {floor}, everything to {confirmed} is confirmed"));
        }
    }

    /// From now on a stream may be there or not.
    pub(super) fn doubt(&self, stream: &str) {
        let mut inner = self.inner.lock();
        inner.there.remove(stream);
        inner.gone.remove(stream);
    }

    /// An answer says that a stream was made, or removed.
    pub(super) fn settle(&self, stream: &str, is_there: bool) {
        let mut inner = self.inner.lock();
        let settled = if is_there { &mut inner.there } else { &mut inner.gone };
        settled.insert(stream.to_owned());
    }

    /// Fails unless what is there agrees with what was answered.
    pub(super) fn assert_named(&self, names: &BTreeSet<String>) {
        let inner = self.inner.lock();
        let lost: Vec<_> = inner.there.difference(names).collect();
        let back: Vec<_> = inner.gone.intersection(names).collect();
        assert!(lost.is_empty() && back.is_empty(), "lost: {lost:?}, back: {back:?}");
        assert!(!inner.there.is_empty(), "no stream was made");
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
    ledger.confirm("S", 2);
    ledger.confirm("S", 4);
    ledger.floor("S", 2, ledger.confirmed_floor("S"));
    ledger.follow("S", "k", 0);
    ledger.assert_sound("nothing is broken");
    ledger.acknowledge("S", 1, "b");
    ledger.deliver("S", 1, "b", &ledger.confirmed("S"));
    ledger.floor("S", 1, ledger.confirmed_floor("S"));
    ledger.follow("S", "k", 0);
    assert_eq!(ledger.inner.lock().violations.len(), 4);
}

#[test]
#[should_panic(expected = "lost: [\"T1\"], back: [\"T2\"]")]
fn a_ledger_sees_streams_that_are_lost_or_back() {
    let ledger = Ledger::default();
    ledger.settle("T1", true);
    ledger.settle("T2", true);
    ledger.settle("T3", true);
    ledger.doubt("T3");
    ledger.doubt("T2");
    ledger.settle("T2", false);
    ledger.assert_named(&BTreeSet::from(["T2".to_owned()]));
}
