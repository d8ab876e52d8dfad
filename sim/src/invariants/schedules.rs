//! What a schedule asks for is published when it is due, once each time, and nothing else is.

use linnet_ids::Wall;
use linnet_wire::headers;

use super::{Check, broken, content};
use crate::facts::{PublishFacts, StreamFacts, publish_of};
use crate::model::Message;

const NAME: &str = "schedules";
const SECOND: i64 = 1_000_000_000;

/// A time as messages tell it.
pub(crate) fn time(text: &[u8]) -> Option<i64> {
    Wall::parse_rfc3339(std::str::from_utf8(text).ok()?).map(|time| time.0)
}

/// When a schedule as clients here have it is due for the first time.
pub(crate) fn first(pattern: &[u8], stored: i64) -> Option<i64> {
    if let Some(at) = pattern.strip_prefix(b"@at ") {
        return time(at);
    }
    Some((stored + SECOND / 2).div_euclid(SECOND) * SECOND + interval(pattern)?)
}

fn interval(pattern: &[u8]) -> Option<i64> {
    content::integer(pattern.strip_prefix(b"@every ")?.strip_suffix(b"s")?).map(|seconds| seconds * SECOND)
}

/// True for what the server publishes because a schedule asks for it; clients here say only that one is over.
pub(crate) fn is_produced(publishes: &[PublishFacts], message: &Message) -> bool {
    let is_sent = |sent: &PublishFacts| {
        sent.subject == message.subject && headers::get(&sent.headers, "Nats-Scheduler").is_some()
    };
    let sent = publish_of(publishes, message);
    message.header("Nats-Scheduler").is_some() && !sent.is_some_and(|(_, sent)| is_sent(sent))
}

/// Such a message is about to be visible: its schedule is due, and the message is what that asks for.
pub(crate) fn is_due(stream: &StreamFacts, seq: u64, message: &Message) -> Check {
    let model = &stream.model;
    let scheduler = message.header("Nats-Scheduler").unwrap_or_default();
    let next = message.header("Nats-Schedule-Next").unwrap_or_default();
    // A limit may have taken the schedule while the message was on its way.
    let Some((scheduled, due)) = model.schedules.get(scheduler) else {
        let known = || stream.everything.values().flatten().filter(|m| m.subject == scheduler);
        let was_there = stream.is_lossy || known().any(|m| m.header("Nats-Schedule").is_some());
        let text = format!("{}: {seq} comes from no schedule", stream.name);
        return if was_there { Ok(()) } else { broken(NAME, text) };
    };
    if message.time < *due {
        return broken(NAME, format!("{}: {seq} is not due before {due}", stream.name));
    }
    let Some(schedule) = model.messages.get(scheduled) else { return Ok(()) };
    if schedule.header("Nats-Schedule-Target") != Some(&message.subject) {
        return broken(NAME, format!("{}: {seq} is on another subject than its schedule says", stream.name));
    }
    let is_right = match schedule.header("Nats-Schedule").and_then(interval) {
        None => next == b"purge",
        Some(interval) => {
            time(next).is_some_and(|next| next > *due && next <= message.time + interval + SECOND)
        }
    };
    if !is_right {
        let next = String::from_utf8_lossy(next);
        return broken(NAME, format!("{}: {seq} says that its schedule goes on {next}", stream.name));
    }
    // What it copies may have come or gone while the message was on its way.
    let is_own = message.payload == schedule.payload;
    let has_source = schedule.header("Nats-Schedule-Source").is_some();
    if is_own || has_source {
        Ok(())
    } else {
        broken(NAME, format!("{}: {seq} has another payload", stream.name))
    }
}
