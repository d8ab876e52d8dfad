//! The log stays within its bound.

use linnet_wal::{Config, Usage};

use super::{Check, broken};

/// Needed segments never take more than the bound, the reserve, and what rewriting takes before it frees.
pub(crate) fn is_bounded(usage: &Usage, config: &Config) -> Check {
    let slack = u64::from(config.reserve_segments) + 3;
    let most = config.max_bytes + slack * config.segment_bytes;
    if usage.live_bytes > most {
        return broken("usage", format!("the log needs {} bytes, {most} are allowed", usage.live_bytes));
    }
    Ok(())
}
