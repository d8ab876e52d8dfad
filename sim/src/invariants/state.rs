//! Counts, bounds and subjects are those of a plain replay.

use std::collections::BTreeMap;

use linnet_store::{Filter, StreamStore};

use super::{Check, broken};
use crate::facts::StreamFacts;

/// Messages, bytes and bounds.
pub(crate) fn equals_model(stream: &StreamFacts, store: &StreamStore) -> Check {
    let (model, state) = (&stream.model, store.state());
    let expected = (model.messages.len() as u64, model.bytes(), model.last);
    let found = (state.msgs, state.bytes, state.last_seq);
    if expected != found {
        let here =
            std::iter::successors(store.next(0, &Filter::all()), |seq| store.next(seq + 1, &Filter::all()));
        let here: Vec<u64> = here.collect();
        let missing: Vec<u64> = model.messages.keys().filter(|seq| !here.contains(seq)).copied().collect();
        let differ: Vec<u64> = here.into_iter().filter(|seq| !model.messages.contains_key(seq)).collect();
        let name = &stream.name;
        let text = format!(
            "{name}: messages, bytes, last are {found:?}, not {expected:?}; too many: {differ:?}, missing: {missing:?}"
        );
        return broken("state", text);
    }
    if state.first_seq != model.shown_first() {
        let text =
            format!("{}: first sequence is {}, not {}", stream.name, state.first_seq, model.shown_first());
        return broken("state", text);
    }
    Ok(())
}

/// Messages and newest sequence of every subject.
pub(crate) fn subjects_equal_model(stream: &StreamFacts, store: &StreamStore) -> Check {
    let mut found: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut wrong_last = None;
    store.for_each_subject(&Filter::all(), |subject, of| {
        found.insert(subject.to_vec(), of.msgs);
        if of.last != stream.model.last_of(subject) {
            wrong_last = Some(String::from_utf8_lossy(subject).into_owned());
        }
    });
    let expected = stream.model.subjects();
    let same = found.iter().map(|(s, n)| (s.as_slice(), *n)).eq(expected.iter().map(|(s, n)| (*s, *n)));
    if !same {
        return broken("state", format!("{}: subjects are {found:?}, not {expected:?}", stream.name));
    }
    match wrong_last {
        Some(subject) => broken("state", format!("{}: newest message of {subject} is wrong", stream.name)),
        None => Ok(()),
    }
}

/// The consumers and the configuration in force are those the log led to.
pub(crate) fn assets_equal_model(stream: &StreamFacts, found: &linnet_assets::StreamSaved) -> Check {
    let mut names: Vec<&str> = found.consumers.iter().map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    let expected: Vec<&str> = stream.model.consumers.keys().map(String::as_str).collect();
    if names != expected {
        return broken("state", format!("{}: consumers are {names:?}, not {expected:?}", stream.name));
    }
    for consumer in &found.consumers {
        if stream.model.consumers.get(&consumer.name).is_some_and(|m| m.config != consumer.config) {
            return broken(
                "state",
                format!("{}: consumer {} has another config", stream.name, consumer.name),
            );
        }
    }
    let schedules: BTreeMap<u64, i64> = stream.model.schedules.values().copied().collect();
    if !found.schedules.iter().copied().eq(schedules.iter().map(|(seq, due)| (*seq, *due))) {
        let text = format!("{}: schedules are {:?}, not {schedules:?}", stream.name, found.schedules);
        return broken("state", text);
    }
    if found.config != stream.model.config {
        return broken("state", format!("{}: the configuration is another one", stream.name));
    }
    Ok(())
}
