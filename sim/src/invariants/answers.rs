//! The API tells what is so.

use linnet_assets::{Answer, CommandOutcome};
use linnet_jsapi::info::StreamState;

use super::{Check, broken, reads};
use crate::facts::StreamFacts;
use crate::questions::Ask;

const NAME: &str = "answers";

/// The answer to a call.
pub(crate) fn is_right(stream: &mut StreamFacts, ask: &Ask, answer: &Answer) -> Check {
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
        _ => Ok(()),
    }
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
