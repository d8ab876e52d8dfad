//! A subject that expires leaves a marker, and nothing else does.

use linnet_assets::Entry;
use linnet_jsapi::policies::RetentionPolicy;

use super::{Check, broken};
use crate::facts::StreamFacts;
use crate::model::Message;

const NAME: &str = "markers";

/// True for what the server stores where a subject expired.
pub(crate) fn is_marker(message: &Message) -> bool {
    message.header("Nats-Marker-Reason").is_some()
}

/// A marker is about to be visible: everything on its subject has expired, and the last of it was no marker.
pub(crate) fn is_due(stream: &StreamFacts, seq: u64, marker: &Message) -> Check {
    let model = &stream.model;
    if model.config.subject_delete_marker_ttl.is_zero() || !marker.payload.is_empty() {
        return broken(NAME, format!("{}: {seq} is a marker that nobody asked for", stream.name));
    }
    if !is_plain(stream) {
        return Ok(());
    }
    let of_subject = || model.messages.iter().filter(|(_, m)| m.subject == marker.subject);
    let Some((_, last)) = of_subject().next_back() else {
        return broken(NAME, format!("{}: {seq} marks a subject without messages", stream.name));
    };
    if is_marker(last) {
        return broken(NAME, format!("{}: {seq} marks a marker", stream.name));
    }
    match of_subject().find(|(old, m)| !model.is_over(**old, m, marker.time)) {
        Some((alive, _)) => {
            broken(NAME, format!("{}: {seq} marks a subject on which {alive} has not expired", stream.name))
        }
        None => Ok(()),
    }
}

/// True if nothing but time takes messages between the decision about a marker and its place in the log.
fn is_plain(stream: &StreamFacts) -> bool {
    let config = &stream.model.config;
    let is_limited = config.max_msgs > 0 || config.max_bytes > 0;
    let is_timed = !config.allow_msg_schedules;
    config.retention == RetentionPolicy::Limits && !is_limited && is_timed && !stream.is_lossy
}

/// What an entry lets expire is no subject's last message, or a marker.
pub(crate) fn are_left(stream: &StreamFacts, payload: &[u8]) -> Check {
    let (model, config) = (&stream.model, &stream.model.config);
    let is_plain =
        config.retention == RetentionPolicy::Limits && config.max_msgs <= 0 && config.max_bytes <= 0;
    let leaves = !config.subject_delete_marker_ttl.is_zero() && is_plain && !stream.is_lossy;
    if !leaves || !matches!(Entry::decode(payload), Ok(Entry::Expire(_) | Entry::ExpireOwn(_))) {
        return Ok(());
    }
    let mut after = model.clone();
    after.apply(0, payload);
    for (seq, message) in &model.messages {
        let is_last = model.last_of(&message.subject) == *seq;
        if is_last && after.last_of(&message.subject) == 0 && !is_marker(message) {
            return broken(NAME, format!("{}: {seq} expired as the last of its subject", stream.name));
        }
    }
    Ok(())
}
