//! A sequence is used once, and messages keep their order.

use super::{Check, broken};
use crate::facts::StreamFacts;

/// A new message comes after everything that was ever visible, and not before the one stored before it, unless
/// damage hid when that was.
pub(crate) fn is_new(stream: &StreamFacts, seq: u64, time: i64) -> Check {
    if seq <= stream.visible_last {
        let text = format!("{}: sequence {seq} was used before (up to {})", stream.name, stream.visible_last);
        return broken("sequences", text);
    }
    if time < stream.visible_time && !stream.is_lossy {
        return broken(
            "sequences",
            format!("{}: message {seq} is older than the one before it", stream.name),
        );
    }
    Ok(())
}
