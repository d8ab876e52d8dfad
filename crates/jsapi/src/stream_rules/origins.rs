//! Rules of mirrors and sources: what a stream may take from other streams (jetstream, "Mirrors and sources").

use std::collections::{HashSet, VecDeque};

use linnet_subject::Transform;

use super::{OtherStreams, invalid};
use crate::errors::{self, ApiError};
use crate::limits::is_asset_name;
use crate::stream_config::{StreamConfig, StreamSource};
use crate::subject_rules;

/// Streams looked at for a cycle; more than an account has in a chain.
const CHAIN_MAX: usize = 1024;

/// The errors of one role, which say the same in other words.
struct Words {
    invalid_name: ApiError,
    multiple_filters: ApiError,
    overlapping_filters: ApiError,
    invalid_consumer: ApiError,
    invalid_filter_subject: fn(&str) -> ApiError,
    invalid_filter: fn(String) -> ApiError,
    invalid_destination: fn(String) -> ApiError,
}

const MIRROR: Words = Words {
    invalid_name: errors::MIRROR_INVALID_STREAM_NAME,
    multiple_filters: errors::MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED,
    overlapping_filters: errors::MIRROR_OVERLAPPING_SUBJECT_FILTERS,
    invalid_consumer: errors::MIRROR_DURABLE_CONSUMER_CFG_INVALID,
    invalid_filter_subject: |filter| {
        errors::stream_create(format_args!("subject filter '{filter}' for the mirror invalid subject"))
    },
    invalid_filter: |text| errors::mirror_invalid_subject_filter(text),
    invalid_destination: |text| errors::mirror_invalid_transform_destination(text),
};

const SOURCE: Words = Words {
    invalid_name: errors::SOURCE_INVALID_STREAM_NAME,
    multiple_filters: errors::SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED,
    overlapping_filters: errors::SOURCE_OVERLAPPING_SUBJECT_FILTERS,
    invalid_consumer: errors::SOURCE_DURABLE_CONSUMER_CFG_INVALID,
    invalid_filter_subject: |filter| {
        errors::stream_create(format_args!("subject filter '{filter}' for the source invalid subject"))
    },
    invalid_filter: |text| errors::source_invalid_subject_filter(text),
    invalid_destination: |text| errors::source_invalid_transform_destination(text),
};

/// Judges what can be judged by the configuration alone.
pub(super) fn check(config: &StreamConfig) -> Result<(), ApiError> {
    if let Some(mirror) = &config.mirror {
        check_mirror(config)?;
        check_origin(mirror, &MIRROR)?;
        check_external(mirror)?;
    }
    for source in &config.sources {
        check_origin(source, &SOURCE)?;
        check_external(source)?;
    }
    check_distinct(&config.sources)
}

/// A mirror is its origin: it has nothing of its own.
fn check_mirror(config: &StreamConfig) -> Result<(), ApiError> {
    let refusals = [
        (!config.subjects.is_empty(), errors::MIRROR_WITH_SUBJECTS),
        (!config.sources.is_empty(), errors::MIRROR_WITH_SOURCES),
        (config.first_seq > 0, errors::MIRROR_WITH_FIRST_SEQ),
        (config.allow_msg_counter, errors::MIRROR_WITH_COUNTERS),
        (config.allow_atomic, errors::MIRROR_WITH_ATOMIC_PUBLISH),
        (config.allow_batched, errors::MIRROR_WITH_BATCH_PUBLISH),
    ];
    match refusals.into_iter().find(|(applies, _)| *applies) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

fn check_origin(origin: &StreamSource, words: &Words) -> Result<(), ApiError> {
    if !is_asset_name(&origin.name) {
        return Err(words.invalid_name.clone());
    }
    if let Some(consumer) = &origin.consumer {
        let picks = origin.opt_start_seq > 0
            || origin.opt_start_time.is_some()
            || !origin.filter_subject.is_empty()
            || !origin.subject_transforms.is_empty();
        let fits = is_asset_name(&consumer.name)
            && subject_rules::is_valid(&consumer.deliver_subject)
            && subject_rules::is_literal(&consumer.deliver_subject);
        if picks || !fits {
            return Err(words.invalid_consumer.clone());
        }
    }
    if !origin.filter_subject.is_empty() && !origin.subject_transforms.is_empty() {
        return Err(words.multiple_filters.clone());
    }
    if !origin.filter_subject.is_empty() && !subject_rules::is_valid(&origin.filter_subject) {
        return Err((words.invalid_filter_subject)(&origin.filter_subject));
    }
    for (at, transform) in origin.subject_transforms.iter().enumerate() {
        if !transform.src.is_empty() && !subject_rules::is_valid(&transform.src) {
            return Err((words.invalid_filter)(format!("invalid subject {}", transform.src)));
        }
        if !transform.dest.is_empty()
            && let Err(error) = Transform::new(&transform.src, &transform.dest)
        {
            return Err((words.invalid_destination)(error.to_string()));
        }
        let others = origin.subject_transforms.iter().skip(at + 1);
        if others.into_iter().any(|other| subject_rules::overlap(&transform.src, &other.src)) {
            return Err(words.overlapping_filters.clone());
        }
    }
    Ok(())
}

/// Prefixes that lead elsewhere must not lead back here.
fn check_external(origin: &StreamSource) -> Result<(), ApiError> {
    let Some(external) = &origin.external else { return Ok(()) };
    if !external.deliver.is_empty() && !subject_rules::is_literal(&external.deliver) {
        return Err(errors::stream_invalid_external_delivery_subj(&external.deliver));
    }
    let prefix = &external.api;
    if prefix.is_empty() {
        return Ok(());
    }
    if !subject_rules::is_valid(prefix) || !subject_rules::is_literal(prefix) {
        let text =
            format_args!("stream external api prefix {prefix:?} must be a valid subject without wildcards");
        return Err(invalid(text));
    }
    if prefix == "$JS.API" {
        return Err(errors::stream_external_api_overlap(prefix, "$JS.API"));
    }
    Ok(())
}

fn check_distinct(sources: &[StreamSource]) -> Result<(), ApiError> {
    for (at, source) in sources.iter().enumerate() {
        for other in sources.iter().skip(at + 1) {
            if source.key() == other.key() {
                return Err(errors::SOURCE_DUPLICATE_DETECTED);
            }
        }
    }
    Ok(())
}

/// A mirror may answer direct gets if its origin does.
pub(super) fn follow_origin(config: &mut StreamConfig, others: &(impl OtherStreams + ?Sized)) {
    if let Some(origin) = config.mirror.as_ref().filter(|o| o.external.is_none())
        && let Some(other) = others.config(&origin.name)
    {
        config.mirror_direct = other.allow_direct;
    }
}

/// Judges the configuration beside the account's other streams: sizes must fit, and nothing may go round in circles.
pub(super) fn check_beside(
    config: &StreamConfig,
    others: &(impl OtherStreams + ?Sized),
) -> Result<(), ApiError> {
    let bound = config.max_msg_size;
    let origins = config.mirror.iter().map(|o| (o, errors::MIRROR_MAX_MESSAGE_SIZE_TOO_BIG));
    let sources = config.sources.iter().map(|o| (o, errors::SOURCE_MAX_MESSAGE_SIZE_TOO_BIG));
    for (origin, error) in origins.chain(sources).filter(|(o, _)| o.external.is_none()) {
        let Some(other) = others.config(&origin.name) else { continue };
        if bound > 0 && other.max_msg_size > bound {
            return Err(error);
        }
    }
    check_cycle(config, others)
}

/// Follows the origins, and theirs, one level after the other. Refused is an origin that was looked at before: the stream
/// itself, or one that is reached on a shorter way, too. A source is no such origin if its filter keeps out what its
/// reader's own subjects take. So it depends on the order of sources whether one that is reached twice is refused, which
/// is as nats-server 2.15.1 has it (tried).
fn check_cycle(config: &StreamConfig, others: &(impl OtherStreams + ?Sized)) -> Result<(), ApiError> {
    let mut waiting = VecDeque::new();
    let mut seen = HashSet::new();
    let mut next = Some(config.clone());
    while let Some(reader) = next {
        seen.insert(reader.name.clone());
        for origin in local_origins(&reader) {
            if !seen.contains(&origin.name) {
                queue(&mut waiting, &origin.name);
            } else if reader.mirror.is_some() || takes_own(&reader, origin) {
                return Err(invalid("detected cycle"));
            }
        }
        let names = std::iter::from_fn(|| waiting.pop_front()).take_while(|_| seen.len() < CHAIN_MAX);
        next = names.filter_map(|name| others.config(&name)).next();
    }
    Ok(())
}

/// Adds a stream to those that are looked at. Of more than two looks, the first and the last find everything.
fn queue(waiting: &mut VecDeque<String>, name: &str) {
    let mut places = waiting.iter().enumerate().filter(|(_, other)| *other == name).map(|(at, _)| at);
    if let Some(second) = places.nth(1) {
        waiting.remove(second);
    }
    waiting.push_back(name.to_owned());
}

/// True if a source may bring what the stream's own subjects take.
fn takes_own(reader: &StreamConfig, source: &StreamSource) -> bool {
    let filter = source.filter_subject.as_bytes();
    filter.is_empty() || reader.subjects.iter().any(|own| linnet_subject::overlaps(own.as_bytes(), filter))
}

fn local_origins(config: &StreamConfig) -> impl Iterator<Item = &StreamSource> {
    config.mirror.iter().chain(&config.sources).filter(|origin| origin.external.is_none())
}
