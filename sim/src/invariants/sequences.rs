//! A sequence is used once, and messages keep their order.

use super::{Check, broken};
use crate::facts::StreamFacts;

/// A new message comes after everything that was ever visible, and not before the one stored before it, unless
/// damage hid when that was.
pub(crate) fn is_new(stream: &StreamFacts, seq: u64, time: i64) -> Check {
    // A mirror's sequences are its origin's, which tells it again what damage took.
    let is_told_again = stream.is_lossy && stream.model.config.mirror.is_some();
    if seq <= stream.visible_last && !is_told_again {
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
