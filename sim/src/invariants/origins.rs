//! A mirror is its origin; a stream takes every message of its sources once, in order.

use std::collections::BTreeMap;

use linnet_ids::GroupId;
use linnet_jsapi::policies::RetentionPolicy;

use super::{Check, broken, content};
use crate::facts::{Facts, StreamFacts};
use crate::model::Message;

const NAME: &str = "origins";

/// True for a stream that takes its messages from others.
pub(crate) fn is_follower(stream: &StreamFacts) -> bool {
    stream.model.config.mirror.is_some() || !stream.model.config.sources.is_empty()
}

/// A message of such a stream is about to be visible: its origin has it.
pub(crate) fn is_taken_rightly(
    stream: &mut StreamFacts,
    others: &BTreeMap<GroupId, StreamFacts>,
    seq: u64,
    message: &Message,
) -> Check {
    if stream.is_lossy {
        return Ok(());
    }
    let Some(source) = message.header("Nats-Stream-Source").filter(|_| stream.model.config.mirror.is_none())
    else {
        let name = stream.model.config.mirror.as_ref().map_or("", |mirror| mirror.name.as_str());
        let all = others.values().filter(|other| other.name == name);
        let known = all.filter_map(|other| other.everything.get(&seq)).flatten();
        let is_so = known.into_iter().any(|known| known.time <= message.time && is_copy(known, message));
        let text = format!("{}: the mirror's message {seq} is not its origin's", stream.name);
        return if is_so { Ok(()) } else { broken(NAME, text) };
    };
    let text = String::from_utf8_lossy(source).into_owned();
    let tokens: Vec<&str> = text.split(' ').collect();
    let (name, identity) = (tokens.first().copied().unwrap_or(""), tokens.last().copied().unwrap_or(""));
    let there: u64 = tokens.get(1).and_then(|seq| seq.parse().ok()).unwrap_or(0);
    let known = others.values().find(|other| other.name == name && other.group.to_string() == identity);
    let Some(origin) = known else {
        return broken(NAME, format!("{}: message {seq} comes from nowhere: {text}", stream.name));
    };
    if !origin.everything.get(&there).is_some_and(|known| known.iter().any(|known| is_copy(known, message))) {
        return broken(NAME, format!("{}: message {seq} is not that of its source: {text}", stream.name));
    }
    let taken = stream.taken.entry(origin.group).or_default();
    if taken.last().is_some_and(|last| *last >= there) {
        return broken(NAME, format!("{}: message {seq} comes again or late: {text}", stream.name));
    }
    taken.insert(there);
    Ok(())
}

/// The message is another one, but for what was said to the origin alone.
fn is_copy(original: &Message, copy: &Message) -> bool {
    let is_kept = |key: &[u8]| {
        !key.starts_with(b"Nats-Expected-")
            && !key.starts_with(b"Nats-Batch-")
            && key != b"Nats-Stream-Source"
    };
    let headers = |message: &Message| -> Vec<(Vec<u8>, Vec<u8>)> {
        content::list(&message.headers).into_iter().filter(|(key, _)| is_kept(key)).collect()
    };
    original.subject == copy.subject && original.payload == copy.payload && headers(original) == headers(copy)
}

/// After everything had its time: what the origins have was taken.
pub(crate) fn are_complete(facts: &Facts, is_here: impl Fn(GroupId) -> bool) -> Check {
    let is_whole = |s: &&StreamFacts| is_here(s.group) && s.created && !s.ending && !s.is_lossy;
    for follower in facts.streams.values().filter(|s| is_follower(s)).filter(is_whole) {
        let config = &follower.model.config;
        let named = config.mirror.iter().chain(&config.sources).map(|origin| origin.name.as_str());
        for name in named {
            let of_name = || facts.streams.values().filter(|s| s.name == name);
            // A mirror goes on where it is, also with another stream of the same name.
            let is_only = of_name().count() == 1;
            let Some(origin) = of_name().find(is_whole) else { continue };
            let there = &origin.model.config;
            let is_kept = there.retention == RetentionPolicy::Limits;
            if !is_kept || (config.mirror.is_some() && !is_only) {
                continue;
            }
            if let Some(seq) =
                origin.model.messages.iter().find_map(|(seq, m)| lacks(follower, origin, *seq, m))
            {
                return broken(NAME, format!("{}: message {seq} of {name} was not taken", follower.name));
            }
        }
    }
    Ok(())
}

/// The sequence of a message of an origin that its follower should have and has not.
fn lacks(follower: &StreamFacts, origin: &StreamFacts, seq: u64, message: &Message) -> Option<u64> {
    let has = if follower.model.config.mirror.is_some() {
        follower.everything.contains_key(&seq)
    } else {
        // An id may have been stored before, from another source.
        let taken = follower.taken.get(&origin.group);
        message.header("Nats-Msg-Id").is_some() || taken.is_some_and(|taken| taken.contains(&seq))
    };
    (!has).then_some(seq)
}
