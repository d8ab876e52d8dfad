//! Whatever was visible before a restart is in the log or a checkpoint after it.

use super::{Check, broken};
use crate::facts::StreamFacts;

/// The log of the group ends at `last`, not before what was applied.
pub(crate) fn log_reaches(stream: &StreamFacts, last: u64) -> Check {
    if last < stream.applied {
        let text = format!("{}: the log ends at {last}, {} was applied", stream.name, stream.applied);
        return broken("durability", text);
    }
    let newest = stream.entries.keys().next_back().copied().unwrap_or(stream.applied).max(stream.applied);
    if last > newest {
        return broken("durability", format!("{}: the log ends at {last}, nobody wrote that", stream.name));
    }
    Ok(())
}
