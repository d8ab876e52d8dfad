//! Consumers of mirrors and sources (jetstream, "Mirrors and sources").

use crate::consumer_config::ConsumerConfig;
use crate::policies::{AckPolicy, RetentionPolicy};
use crate::stream_config::StreamConfig;
use crate::time::Nanos;

/// Gives the consumer that another stream asks for the form that its origin wants. One that leaves no trace is never
/// the one before it, for which `suffix` sees if it has a name; where consumers decide what stays, it becomes one that
/// lasts and counts as acknowledged what the other stream says to have stored. Servers that do not know `sourcing` see
/// to names by themselves.
pub fn adapt_to_origin(config: &mut ConsumerConfig, origin: &StreamConfig, suffix: &str) {
    if !config.direct || config.is_durable() || !config.sourcing {
        return;
    }
    if origin.retention == RetentionPolicy::Limits {
        if !config.name.is_empty() {
            config.name = format!("{}-{suffix}", config.name);
        }
        return;
    }
    config.direct = false;
    config.durable_name = config.name.clone();
    config.ack_policy = AckPolicy::FlowControl;
    config.ack_wait = Nanos::ZERO;
    config.max_deliver = 0;
    config.inactive_threshold = Nanos::ZERO;
}
