//! A backup is the stream as it was; a restored stream is the backup.

use std::collections::BTreeMap;

use linnet_assets::{Entry, RestoreMark};

use super::{Check, broken};
use crate::facts::StreamFacts;
use crate::model::Message;

const NAME: &str = "backups";

/// What was read of a snapshot is what the stream held when that was taken, whatever happened since.
pub(crate) fn is_as_it_was(
    name: &str,
    read: &BTreeMap<u64, Message>,
    expected: &BTreeMap<u64, Message>,
) -> Check {
    if read == expected {
        return Ok(());
    }
    let differs = |seq: &&u64| read.get(seq) != expected.get(seq);
    let first = read.keys().chain(expected.keys()).find(differs);
    broken(NAME, format!("{name}: the snapshot differs at {first:?}"))
}

/// A message of a stream that is being restored is one of the backup.
pub(crate) fn is_in_backup(stream: &StreamFacts, seq: u64, message: &Message) -> Check {
    if stream.backup.as_ref().is_some_and(|backup| backup.get(&seq) == Some(message)) {
        return Ok(());
    }
    broken(NAME, format!("{}: message {seq} is not in the backup", stream.name))
}

/// The last mark is about to be applied: everything is there.
pub(crate) fn is_complete(stream: &StreamFacts, payload: &[u8]) -> Check {
    let is_done = matches!(Entry::decode(payload), Ok(Entry::Restore(RestoreMark::Done)));
    match &stream.backup {
        Some(backup) if is_done && !stream.is_lossy && *backup != stream.model.messages => {
            let missing: Vec<(&u64, &Message)> =
                backup.iter().filter(|(seq, _)| !stream.model.messages.contains_key(seq)).collect();
            let text = format!("{}: of {} are not restored: {missing:?}", stream.name, backup.len());
            broken(NAME, text)
        }
        _ => Ok(()),
    }
}
