//! Rules of what publishing may do beyond storing: counters, delete markers, schedules, transforms, republishing.

use linnet_subject::Transform;

use super::invalid;
use crate::errors::{self, ApiError};
use crate::policies::{DiscardPolicy, PersistMode, RetentionPolicy, StorageType};
use crate::stream_config::StreamConfig;
use crate::subject_rules;
use crate::time::Nanos;

const MARKER_TTL_MIN: Nanos = Nanos::from_secs(1);

/// Counters live for ever and are never refused.
pub(super) fn check_counter(config: &StreamConfig) -> Result<(), ApiError> {
    if !config.allow_msg_counter {
        return Ok(());
    }
    if config.discard == DiscardPolicy::New {
        return Err(invalid("counter stream cannot use discard new"));
    }
    if config.allow_msg_ttl {
        return Err(invalid("counter stream cannot use message TTLs"));
    }
    if config.allow_msg_schedules {
        return Err(invalid("counter stream cannot use message schedules"));
    }
    if config.retention != RetentionPolicy::Limits {
        return Err(invalid("counter stream can only use limits retention"));
    }
    Ok(())
}

/// Delete markers have a life of their own and roll up their subject.
pub(super) fn normalize_delete_markers(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let ttl = config.subject_delete_marker_ttl;
    if ttl.0 < 0 {
        return Err(invalid("subject delete marker TTL must not be negative"));
    }
    if ttl.is_zero() {
        return Ok(());
    }
    if ttl < MARKER_TTL_MIN {
        return Err(invalid("subject delete marker TTL must be at least 1 second"));
    }
    if pedantic && !config.allow_msg_ttl {
        return Err(invalid("subject delete marker cannot be set if message TTLs are disabled"));
    }
    config.allow_msg_ttl = true;
    allow_rollups(config, "subject delete marker", pedantic)
}

/// A schedule replaces the one before it on its subject.
pub(super) fn normalize_schedules(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if !config.allow_msg_schedules {
        return Ok(());
    }
    if config.discard == DiscardPolicy::New {
        return Err(invalid("message scheduling cannot use discard new"));
    }
    allow_rollups(config, "message scheduling", pedantic)
}

fn allow_rollups(config: &mut StreamConfig, what: &str, pedantic: bool) -> Result<(), ApiError> {
    if pedantic && !config.allow_rollup_hdrs {
        return Err(invalid(format_args!("{what} cannot be set if roll-ups are disabled")));
    }
    config.allow_rollup_hdrs = true;
    config.deny_purge = false;
    Ok(())
}

pub(super) fn check_persist_mode(config: &StreamConfig) -> Result<(), ApiError> {
    if config.persist_mode != PersistMode::Async {
        return Ok(());
    }
    if config.storage == StorageType::Memory {
        return Err(invalid("async persist mode is only supported on file storage"));
    }
    if config.num_replicas > 1 {
        return Err(invalid("async persist mode is not supported on replicated streams"));
    }
    if config.allow_atomic {
        return Err(invalid("async persist mode is not supported with atomic batch publish"));
    }
    Ok(())
}

pub(super) fn check_transform(config: &StreamConfig) -> Result<(), ApiError> {
    let Some(transform) = &config.subject_transform else { return Ok(()) };
    if !transform.src.is_empty() && !subject_rules::is_valid(&transform.src) {
        return Err(errors::stream_transform_invalid_source(format_args!(
            "invalid subject {}",
            transform.src
        )));
    }
    if !transform.dest.is_empty() {
        Transform::new(&transform.src, &transform.dest)
            .map_err(errors::stream_transform_invalid_destination)?;
    }
    Ok(())
}

pub(super) fn normalize_republish(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let Some(republish) = &mut config.republish else { return Ok(()) };
    if republish.src.is_empty() {
        if pedantic {
            return Err(errors::pedantic("republish source can not be empty"));
        }
        republish.src = ">".to_owned();
    }
    // Everything to where it is would form a cycle, unless all subjects are renamed on their way in.
    if republish.src == ">"
        && republish.dest == ">"
        && let Some(transform) = &config.subject_transform
        && *config.subjects == [transform.src.as_str()]
    {
        if pedantic {
            return Err(errors::pedantic("implicit republish based on subject transform"));
        }
        republish.src.clone_from(&transform.dest);
        republish.dest.clone_from(&transform.dest);
    }
    if config.subjects.iter().any(|subject| subject_rules::overlap(&republish.dest, subject)) {
        return Err(invalid("stream configuration for republish destination forms a cycle"));
    }
    if !republish.dest.is_empty() && Transform::new(&republish.src, &republish.dest).is_err() {
        return Err(invalid(format_args!(
            "stream configuration for republish with transform from '{}' to '{}' not valid",
            republish.src, republish.dest
        )));
    }
    Ok(())
}
