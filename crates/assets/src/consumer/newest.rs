use std::collections::{BTreeSet, HashMap, VecDeque};

use linnet_ids::StreamSeq;
use linnet_store::{Filter, StreamStore};
use serde::{Deserialize, Serialize};

/// Most messages kept in [`NewestFirst::passed_over`]. Beyond it, an older message may be delivered after a restart in
/// place of a newest one that was removed.
const PASSED_OVER_MAX: usize = 1 << 16;

/// What a consumer that delivers the newest message of each subject first has to remember, so that the messages it
/// still owes can be found again in the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewestFirst {
    /// Last sequence of the stream when the consumer was created. What is stored later is delivered as it comes.
    pub until: StreamSeq,
    /// Messages that are the newest of their subject up to `until` only because a newer one was removed: not owed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub passed_over: BTreeSet<StreamSeq>,
}

impl NewestFirst {
    /// For a consumer created when the stream ended at `until`.
    pub fn up_to(until: StreamSeq) -> Self {
        Self { until, passed_over: BTreeSet::new() }
    }

    /// Messages behind `after` that are owed, in stream order.
    pub(super) fn owed(&self, store: &StreamStore, filter: &Filter, after: StreamSeq) -> VecDeque<StreamSeq> {
        if after >= self.until {
            return VecDeque::new();
        }
        let mut newest = if self.until >= store.state().last_seq {
            newest_per_subject(store, filter)
        } else {
            newest_within(store, filter, after, self.until)
        };
        newest.retain(|seq| *seq > after && !self.passed_over.contains(seq));
        newest
    }

    /// A message that is owed or passed over is about to be removed: the one before it on its subject is not owed.
    pub(super) fn before_removed(&mut self, store: &mut StreamStore, seq: StreamSeq, subject: &[u8]) {
        self.passed_over.remove(&seq);
        if store.first_of(subject).is_none_or(|first| first >= seq) {
            return;
        }
        if self.passed_over.len() < PASSED_OVER_MAX {
            self.passed_over.extend(store.previous(seq, &Filter::new([subject])));
        }
    }
}

/// The newest message of each wanted subject, in stream order.
pub(crate) fn newest_per_subject(store: &StreamStore, filter: &Filter) -> VecDeque<StreamSeq> {
    let mut newest = Vec::new();
    store.for_each_subject(filter, |_, state| newest.push(state.last));
    newest.sort_unstable();
    newest.into()
}

/// As [`newest_per_subject`], of the messages behind `after` and not behind `until`.
fn newest_within(
    store: &StreamStore,
    filter: &Filter,
    after: StreamSeq,
    until: StreamSeq,
) -> VecDeque<StreamSeq> {
    let mut newest: HashMap<&[u8], StreamSeq, foldhash::fast::RandomState> = HashMap::default();
    let mut from = after + 1;
    while let Some(seq) = store.next(from, filter).filter(|seq| *seq <= until) {
        if let Some(subject) = store.subject_of(seq) {
            newest.insert(subject, seq);
        }
        from = seq + 1;
    }
    let mut newest: Vec<StreamSeq> = newest.into_values().collect();
    newest.sort_unstable();
    newest.into()
}
