//! The metadata keys the server owns: which API level an asset needs, and which server answers.
//!
//! `_nats.req.level` is stored with the asset. `_nats.ver` and `_nats.level` are added only to responses to create,
//! update, info and reset.

use crate::consumer_config::ConsumerConfig;
use crate::policies::{AckPolicy, PersistMode, PriorityPolicy};
use crate::stream_config::{Metadata, StreamConfig};
use crate::{API_LEVEL, SERVER_VERSION};

/// The API level an asset needs.
pub const REQUIRED_LEVEL_KEY: &str = "_nats.req.level";
/// The API level of the answering server.
pub const LEVEL_KEY: &str = "_nats.level";
/// The version of the answering server.
pub const VERSION_KEY: &str = "_nats.ver";

/// The API level the features of a stream need.
pub fn required_stream_level(config: &StreamConfig) -> u64 {
    if config.allow_batched {
        4
    } else if config.allow_msg_counter
        || config.allow_atomic
        || config.allow_msg_schedules
        || config.persist_mode == PersistMode::Async
    {
        2
    } else {
        u64::from(config.allow_msg_ttl || config.subject_delete_marker_ttl.0 > 0)
    }
}

/// The API level the features of a consumer need.
pub fn required_consumer_level(config: &ConsumerConfig) -> u64 {
    if config.ack_policy == AckPolicy::FlowControl {
        return 4;
    }
    let prioritized = config.priority_policy != PriorityPolicy::None
        || !config.priority_groups.is_empty()
        || !config.priority_timeout.is_zero();
    u64::from(config.pause_until.is_some() || prioritized)
}

/// Drops what a client wrote under the server's keys and records the level.
pub fn set_required_level(metadata: &mut Metadata, level: u64) {
    metadata.remove(LEVEL_KEY);
    metadata.remove(VERSION_KEY);
    metadata.insert(REQUIRED_LEVEL_KEY.to_owned(), level.to_string());
}

/// Adds what responses say about the server.
pub fn add_server_keys(metadata: &mut Metadata) {
    metadata.insert(LEVEL_KEY.to_owned(), API_LEVEL.to_string());
    metadata.insert(VERSION_KEY.to_owned(), SERVER_VERSION.to_owned());
}

/// The level an asset says it needs; 0 when it does not say. What is not a number is beyond every server.
pub fn required_level(metadata: &Metadata) -> u64 {
    metadata.get(REQUIRED_LEVEL_KEY).map_or(0, |level| level.parse().unwrap_or(u64::MAX))
}

/// Whether two configurations have the same metadata, the server's keys aside.
pub fn same_user_metadata(a: &Metadata, b: &Metadata) -> bool {
    let of_user =
        |(key, _): &(&String, &String)| ![REQUIRED_LEVEL_KEY, LEVEL_KEY, VERSION_KEY].contains(&key.as_str());
    a.iter().filter(of_user).eq(b.iter().filter(of_user))
}

/// Bytes in keys and values.
pub(crate) fn size(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_features() {
        let stream = StreamConfig::default();
        assert_eq!(required_stream_level(&stream), 0);
        assert_eq!(required_stream_level(&StreamConfig { allow_msg_ttl: true, ..stream.clone() }), 1);
        assert_eq!(required_stream_level(&StreamConfig { allow_atomic: true, ..stream.clone() }), 2);
        assert_eq!(required_stream_level(&StreamConfig { allow_batched: true, ..stream }), 4);
        let consumer = ConsumerConfig::default();
        assert_eq!(required_consumer_level(&consumer), 0);
        let grouped = ConsumerConfig { priority_policy: PriorityPolicy::Overflow, ..consumer.clone() };
        assert_eq!(required_consumer_level(&grouped), 1);
        let stored = ConsumerConfig { ack_policy: AckPolicy::FlowControl, ..consumer };
        assert_eq!(required_consumer_level(&stored), 4);
    }

    #[test]
    fn server_keys_are_not_taken_from_clients_nor_compared() {
        let mut metadata = Metadata::from([
            (VERSION_KEY.to_owned(), "1".to_owned()),
            (REQUIRED_LEVEL_KEY.to_owned(), "9".to_owned()),
            ("a".to_owned(), "b".to_owned()),
        ]);
        assert_eq!(required_level(&metadata), 9);
        set_required_level(&mut metadata, 0);
        assert!(!metadata.contains_key(VERSION_KEY));
        let mut answered = metadata.clone();
        add_server_keys(&mut answered);
        assert_eq!(answered.get(LEVEL_KEY).map(String::as_str), Some("5"));
        assert!(same_user_metadata(&metadata, &answered));
        answered.insert("c".to_owned(), "d".to_owned());
        assert!(!same_user_metadata(&metadata, &answered));
    }
}
