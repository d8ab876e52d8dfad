//! Where nothing may be added or removed, nothing is.

use linnet_assets::Entry;

use super::{Check, broken};
use crate::facts::StreamFacts;

/// An entry is about to be applied.
pub(crate) fn is_allowed(stream: &StreamFacts, payload: &[u8]) -> Check {
    let config = &stream.model.config;
    let what = match Entry::decode(payload) {
        Ok(Entry::Messages(records)) if config.sealed && !records.is_empty() => "stores",
        Ok(Entry::Purge(_)) if config.sealed || config.deny_purge => "purges",
        Ok(Entry::Delete { .. }) if config.sealed || config.deny_delete => "deletes",
        Ok(Entry::Expire(_)) if config.sealed => "lets expire",
        _ => return Ok(()),
    };
    broken("sealed", format!("{}: {what}, which it may not", stream.name))
}
