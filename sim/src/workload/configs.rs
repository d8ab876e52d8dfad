//! How streams are configured.

use linnet_jsapi::policies::{Compression, DiscardPolicy, RetentionPolicy, StorageType};
use linnet_jsapi::{Nanos, Republish, StreamConfig, StreamSource, SubjectTransform};

use super::SECOND;
use crate::world::World;

/// The configuration of a stream that counts: without what does not go with that.
fn counting(config: StreamConfig) -> StreamConfig {
    StreamConfig {
        allow_msg_counter: true,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::Old,
        discard_new_per_subject: false,
        allow_msg_ttl: false,
        allow_msg_schedules: false,
        subject_delete_marker_ttl: Nanos::ZERO,
        ..config
    }
}

/// The configuration of a stream with schedules.
fn scheduling(config: StreamConfig) -> StreamConfig {
    StreamConfig {
        allow_msg_schedules: true,
        deny_purge: false,
        subject_transform: None,
        discard: DiscardPolicy::Old,
        discard_new_per_subject: false,
        ..config
    }
}

/// Where copies of the messages go.
fn again(republish: Republish) -> Republish {
    let dest = if republish.src.ends_with('*') {
        "_again.$1".to_owned()
    } else {
        format!("_again.{}", republish.src)
    };
    Republish { dest, ..republish }
}

/// An existing configuration, with nothing to be added or removed any more.
pub(super) fn sealed(old: &StreamConfig) -> StreamConfig {
    // What goes by itself would go all the same.
    if old.allow_msg_ttl || old.allow_msg_schedules || old.allow_msg_counter {
        return old.clone();
    }
    StreamConfig {
        sealed: true,
        deny_delete: true,
        deny_purge: true,
        allow_rollup_hdrs: false,
        max_age: Nanos::ZERO,
        discard: DiscardPolicy::New,
        ..old.clone()
    }
}

/// Another configuration, with what an update may not change.
pub(super) fn changed(old: &StreamConfig, new: StreamConfig) -> StreamConfig {
    let new = match (old.allow_msg_counter, old.allow_msg_schedules) {
        (true, _) => counting(new),
        (false, true) => scheduling(new),
        (false, false) => new,
    };
    // A work queue stays one.
    let is_queue = |config: &StreamConfig| config.retention == RetentionPolicy::WorkQueue;
    let keeps = is_queue(old) || is_queue(&new) || old.allow_msg_counter;
    StreamConfig {
        storage: old.storage,
        retention: if keeps { old.retention } else { new.retention },
        allow_msg_ttl: old.allow_msg_ttl || new.allow_msg_ttl,
        allow_msg_counter: old.allow_msg_counter,
        allow_msg_schedules: !old.allow_msg_counter && new.allow_msg_schedules && !old.deny_purge,
        deny_delete: old.deny_delete,
        deny_purge: old.deny_purge,
        ..new
    }
}

impl World {
    pub(super) fn stream_config(&mut self, name: &str) -> StreamConfig {
        let mut pick = |choices: &[i64]| choices[self.rng.usize(..choices.len())];
        let discard_new = pick(&[0, 0, 1]) == 1;
        let per_subject = pick(&[-1, -1, 1, 2, 5]);
        let retention = match pick(&[0, 0, 1, 1, 2]) {
            0 => RetentionPolicy::Limits,
            1 => RetentionPolicy::Interest,
            _ => RetentionPolicy::WorkQueue,
        };
        let marker_ttl = pick(&[0, 0, 0, 3 * SECOND]);
        let config = StreamConfig {
            name: name.to_owned(),
            retention,
            subjects: vec![format!("{name}.>")],
            max_consumers: -1,
            max_msgs: pick(&[-1, -1, 3, 20]),
            max_bytes: pick(&[-1, -1, 4000, 20_000]),
            max_age: Nanos(pick(&[0, 0, 10 * SECOND, 60 * SECOND])),
            max_msgs_per_subject: per_subject,
            max_msg_size: -1,
            discard: if discard_new { DiscardPolicy::New } else { DiscardPolicy::Old },
            discard_new_per_subject: discard_new && per_subject > 0 && pick(&[0, 1]) == 1,
            num_replicas: 1,
            duplicate_window: Nanos(pick(&[0, 5 * SECOND, 120 * SECOND])),
            first_seq: u64::try_from(pick(&[0, 0, 1, 100])).unwrap_or(0),
            allow_rollup_hdrs: true,
            allow_msg_ttl: pick(&[0, 0, 1]) == 1 || marker_ttl > 0,
            subject_delete_marker_ttl: Nanos(marker_ttl),
            allow_atomic: pick(&[0, 0, 1]) == 1,
            storage: if pick(&[0, 0, 0, 0, 1]) == 1 { StorageType::Memory } else { StorageType::File },
            allow_batched: pick(&[0, 0, 1]) == 1,
            deny_delete: pick(&[0, 0, 0, 0, 0, 1]) == 1,
            deny_purge: pick(&[0, 0, 0, 0, 0, 1]) == 1,
            subject_transform: match pick(&[0, 0, 0, 0, 1, 2]) {
                1 => Some(SubjectTransform { src: format!("{name}.4"), dest: format!("{name}.0") }),
                2 => Some(SubjectTransform { src: format!("{name}.*"), dest: format!("{name}.x.$1") }),
                _ => None,
            },
            republish: (pick(&[0, 0, 0, 1]) == 1).then(|| Republish {
                src: if pick(&[0, 1]) == 1 { format!("{name}.*") } else { format!("{name}.1") },
                dest: String::new(),
                headers_only: pick(&[0, 0, 1]) == 1,
            }),
            compression: if pick(&[0, 1]) == 1 { Compression::S2 } else { Compression::None },
            ..StreamConfig::default()
        };
        let config = StreamConfig { republish: config.republish.map(again), ..config };
        match pick(&[0, 0, 0, 0, 1, 2]) {
            0 => config,
            1 => counting(config),
            _ => scheduling(config),
        }
    }

    /// A stream that takes its messages from others, with room for all of them.
    pub(super) fn follower_config(&mut self, name: &str) -> StreamConfig {
        let from = |name: &str| StreamSource { name: name.to_owned(), ..StreamSource::default() };
        let other = if self.rng.bool() { "B" } else { "C" };
        let is_mirror = name == "M";
        StreamConfig {
            name: name.to_owned(),
            mirror: is_mirror.then(|| from("A")),
            sources: if is_mirror { Vec::new() } else { vec![from("A"), from(other)] },
            max_consumers: -1,
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            max_msg_size: -1,
            num_replicas: 1,
            duplicate_window: Nanos(if is_mirror { 0 } else { 120 * SECOND }),
            allow_rollup_hdrs: true,
            ..StreamConfig::default()
        }
    }
}
