//! Damaged data is never served, and what is gone because of damage is reported.

use std::collections::BTreeSet;

use linnet_replication::Restored;
use linnet_store::StreamStore;

use super::content::read;
use super::{Check, broken};
use crate::facts::StreamFacts;

const NAME: &str = "damage";

/// Every readable message is one the stream once stored, with that content; every acknowledged one that is missing
/// is reported. With `may_look_torn` the last batch may have rotted in a way that nobody can tell from a crash.
pub(crate) fn is_contained(
    stream: &StreamFacts,
    store: &mut StreamStore,
    found: &Restored,
    may_look_torn: bool,
) -> Check {
    let log_lost = may_look_torn || found.damage.is_some() || !found.lost_entries.is_empty();
    let reported: BTreeSet<u64> = found.lost.iter().chain(store.damaged()).copied().collect();
    let mut next = 0;
    while let Some(seq) = store.next(next, &linnet_store::Filter::all()) {
        next = seq + 1;
        let Ok(message) = read(store, seq) else {
            store.mark_damaged(seq);
            continue;
        };
        if stream.everything.get(&seq).is_none_or(|known| !known.contains(&message)) {
            return broken(
                NAME,
                format!("{}: message {seq} is served with a content nobody stored", stream.name),
            );
        }
    }
    for seq in stream.model.messages.keys().filter(|seq| stream.acked.contains_key(seq)) {
        let gone = !store.contains(*seq);
        if gone && !log_lost && !reported.contains(seq) {
            return broken(NAME, format!("{}: message {seq} is gone and nothing says so", stream.name));
        }
    }
    Ok(())
}
