//! The API tells what is so.

use linnet_assets::{Answer, CommandOutcome};
use linnet_jsapi::ConsumerConfig;
use linnet_jsapi::info::StreamState;

use super::{Check, broken, reads};
use crate::facts::StreamFacts;
use crate::questions::Ask;

const NAME: &str = "answers";

/// The answer to a call.
pub(crate) fn is_right(stream: &mut StreamFacts, ask: &Ask, answer: &Answer, wall: i64) -> Check {
    let removed = match (ask, answer) {
        (Ask::Purge | Ask::Delete, Ok(_)) => stream.model.removed.pop_front(),
        _ => None,
    };
    if stream.is_lossy {
        return Ok(());
    }
    let expect = |is_right: bool, what: &str| {
        if is_right { Ok(()) } else { broken(NAME, format!("{}: {what}, told was {answer:?}", stream.name)) }
    };
    match (ask, answer) {
        (Ask::Get(read), Ok(CommandOutcome::Message(found))) => reads::is_found(stream, read, Some(found)),
        (Ask::Get(read), Err(error)) if error.err_code == 10037 => reads::is_found(stream, read, None),
        (Ask::State(pattern), Ok(CommandOutcome::State(report))) => {
            let expected = state_of(stream, pattern, &report.state);
            expect(report.state == expected, &format!("the state is {expected:?}"))
        }
        (Ask::Purge, Ok(CommandOutcome::Purged(n))) => {
            expect(removed == Some(*n), &format!("the purge removed {removed:?}"))
        }
        (Ask::Delete, Ok(CommandOutcome::Deleted(was_there))) => {
            expect(removed == Some(u64::from(*was_there)), &format!("the deletion removed {removed:?}"))
        }
        (Ask::Names, Ok(CommandOutcome::Names(names))) => {
            expect(names.iter().eq(stream.model.consumers.keys()), "the consumers are others")
        }
        (Ask::Info(name), Ok(CommandOutcome::Consumer(info))) => {
            let known = stream.model.consumers.get(name).map(|known| known.config.clone());
            let told = info.config.clone().map(|mut told| {
                told.metadata = known.as_ref().map(|known| known.metadata.clone()).unwrap_or_default();
                told
            });
            expect(known.is_some() && told == known, "the consumer is another one")
        }
        (Ask::Info(name), Err(error)) if error.err_code == 10014 => {
            expect(!stream.model.consumers.contains_key(name), "the consumer is there")
        }
        (Ask::Consumer(wanted), Ok(CommandOutcome::Consumer(info))) => {
            let is_so = info.config.as_ref().is_some_and(|told| is_configured(told, wanted));
            expect(is_so, &format!("the consumer should be {wanted:?}"))
        }
        (Ask::Pause(until), Ok(CommandOutcome::Consumer(info))) => {
            let told = info.config.as_ref().and_then(|config| config.pause_until);
            let is_over = until.is_none_or(|until| until.0 <= wall);
            expect(told == *until || (is_over && told.is_none()), &format!("the pause ends at {until:?}"))
        }
        (Ask::Reset(name), Ok(CommandOutcome::Reset(info, next))) => {
            let is_there = info.name == *name && info.delivered.consumer_seq == 0;
            expect(is_there && info.delivered.stream_seq + 1 == *next, "it did not begin anew there")
        }
        _ => Ok(()),
    }
}

/// The consumer is as it was asked for; what has a default aside.
fn is_configured(told: &ConsumerConfig, wanted: &ConsumerConfig) -> bool {
    let max_deliver = if wanted.max_deliver == 0 { -1 } else { wanted.max_deliver };
    let ack_wait = wanted.backoff.first().copied().unwrap_or(wanted.ack_wait);
    let mut expected =
        ConsumerConfig { max_deliver, ack_wait, pause_until: told.pause_until, ..wanted.clone() };
    expected.metadata.clone_from(&told.metadata);
    if wanted.max_ack_pending == 0 {
        expected.max_ack_pending = told.max_ack_pending;
    }
    expected.max_waiting = told.max_waiting;
    *told == expected
}

/// The state as the model has it; `told` for what it does not know.
fn state_of(stream: &StreamFacts, pattern: &str, told: &StreamState) -> StreamState {
    let model = &stream.model;
    let is_covered = |subject: &[u8]| linnet_subject::is_subset(subject, pattern.as_bytes());
    let subjects = model.subjects();
    let listed = subjects.iter().filter(|(subject, _)| is_covered(subject));
    let (first, has_any) = (model.first(), !model.messages.is_empty());
    let holes = first..=model.last;
    let deleted: Vec<u64> = holes.filter(|seq| has_any && !model.messages.contains_key(seq)).collect();
    StreamState {
        msgs: model.messages.len() as u64,
        bytes: model.bytes(),
        first_seq: model.shown_first(),
        last_seq: model.last,
        num_subjects: subjects.len() as u64,
        subjects: listed.map(|(subject, n)| (String::from_utf8_lossy(subject).into_owned(), *n)).collect(),
        num_deleted: deleted.len() as u64,
        deleted,
        consumer_count: model.consumers.len() as u64,
        ..told.clone()
    }
}
