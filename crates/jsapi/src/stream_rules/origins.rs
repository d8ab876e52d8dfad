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
    too_big: ApiError,
    invalid_filter_subject: fn(&str) -> ApiError,
    invalid_filter: fn(String) -> ApiError,
    invalid_destination: fn(String) -> ApiError,
}

const MIRROR: Words = Words {
    invalid_name: errors::MIRROR_INVALID_STREAM_NAME,
    multiple_filters: errors::MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED,
    overlapping_filters: errors::MIRROR_OVERLAPPING_SUBJECT_FILTERS,
    invalid_consumer: errors::MIRROR_DURABLE_CONSUMER_CFG_INVALID,
    too_big: errors::MIRROR_MAX_MESSAGE_SIZE_TOO_BIG,
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
    too_big: errors::SOURCE_MAX_MESSAGE_SIZE_TOO_BIG,
    invalid_filter_subject: |filter| {
        errors::stream_create(format_args!("subject filter '{filter}' for the source: invalid subject"))
    },
    invalid_filter: |text| errors::source_invalid_subject_filter(text),
    invalid_destination: |text| errors::source_invalid_transform_destination(text),
};

/// Judges origins by themselves and beside the account's other streams: sizes must fit, and nothing may go round in
/// circles. The order is nats-server's (tried).
pub(super) fn check(config: &StreamConfig, others: &(impl OtherStreams + ?Sized)) -> Result<(), ApiError> {
    if let Some(mirror) = &config.mirror {
        check_mirror(config)?;
        check_consumer(mirror, &MIRROR)?;
        check_one_filter(mirror, &MIRROR)?;
        if !config.subject_delete_marker_ttl.is_zero() {
            return Err(invalid("subject delete markers forbidden on mirrors"));
        }
        check_transforms(mirror, &MIRROR)?;
        check_externals(std::slice::from_ref(mirror))?;
        check_name(mirror, &MIRROR)?;
        check_size(config, mirror, &MIRROR, others)?;
    }
    if !config.sources.is_empty() && config.allow_msg_schedules {
        return Err(errors::SOURCE_WITH_MSG_SCHEDULES);
    }
    for (at, source) in config.sources.iter().enumerate() {
        check_name(source, &SOURCE)?;
        check_one_filter(source, &SOURCE)?;
        check_transforms(source, &SOURCE)?;
        check_consumer(source, &SOURCE)?;
        check_size(config, source, &SOURCE, others)?;
        if config.sources.iter().take(at).any(|earlier| earlier.key() == source.key()) {
            return Err(errors::SOURCE_DUPLICATE_DETECTED);
        }
    }
    check_externals(&config.sources)?;
    check_cycle(config, others)
}

/// A mirror is its origin: it has nothing of its own.
fn check_mirror(config: &StreamConfig) -> Result<(), ApiError> {
    let refusals = [
        (config.first_seq > 0, errors::MIRROR_WITH_FIRST_SEQ),
        (!config.subjects.is_empty(), errors::MIRROR_WITH_SUBJECTS),
        (!config.sources.is_empty(), errors::MIRROR_WITH_SOURCES),
        (config.allow_msg_counter, errors::MIRROR_WITH_COUNTERS),
        (config.allow_atomic, errors::MIRROR_WITH_ATOMIC_PUBLISH),
        (config.allow_batched, errors::MIRROR_WITH_BATCH_PUBLISH),
        (config.allow_msg_schedules, errors::MIRROR_WITH_MSG_SCHEDULES),
    ];
    match refusals.into_iter().find(|(applies, _)| *applies) {
        Some((_, error)) => Err(error),
        None => Ok(()),
    }
}

fn check_name(origin: &StreamSource, words: &Words) -> Result<(), ApiError> {
    if is_asset_name(&origin.name) { Ok(()) } else { Err(words.invalid_name.clone()) }
}

/// A consumer made beforehand says itself what it picks.
fn check_consumer(origin: &StreamSource, words: &Words) -> Result<(), ApiError> {
    let Some(consumer) = &origin.consumer else { return Ok(()) };
    let picks = origin.opt_start_seq > 0
        || origin.opt_start_time.is_some()
        || !origin.filter_subject.is_empty()
        || !origin.subject_transforms.is_empty();
    let fits = is_asset_name(&consumer.name)
        && subject_rules::is_valid(&consumer.deliver_subject)
        && subject_rules::is_literal(&consumer.deliver_subject);
    if picks || !fits { Err(words.invalid_consumer.clone()) } else { Ok(()) }
}

fn check_one_filter(origin: &StreamSource, words: &Words) -> Result<(), ApiError> {
    let has_both = !origin.filter_subject.is_empty() && !origin.subject_transforms.is_empty();
    if has_both { Err(words.multiple_filters.clone()) } else { Ok(()) }
}

fn check_transforms(origin: &StreamSource, words: &Words) -> Result<(), ApiError> {
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

/// Judges filters, which nats-server does when everything else fits.
pub(super) fn check_filters(config: &StreamConfig) -> Result<(), ApiError> {
    let mirror = config.mirror.iter().map(|origin| (origin, &MIRROR));
    for (origin, words) in mirror.chain(config.sources.iter().map(|origin| (origin, &SOURCE))) {
        let filter = &origin.filter_subject;
        if !filter.is_empty() && !subject_rules::is_valid(filter) {
            return Err((words.invalid_filter_subject)(filter));
        }
    }
    Ok(())
}

/// Prefixes that lead elsewhere must not lead back here.
fn check_externals(origins: &[StreamSource]) -> Result<(), ApiError> {
    let externals = || origins.iter().filter_map(|origin| origin.external.as_ref());
    for deliver in externals().map(|external| &external.deliver).filter(|deliver| !deliver.is_empty()) {
        if !subject_rules::is_literal(deliver) {
            return Err(errors::stream_invalid_external_delivery_subj(deliver));
        }
    }
    for prefix in externals().map(|external| &external.api).filter(|prefix| !prefix.is_empty()) {
        if !subject_rules::is_valid(prefix) || !subject_rules::is_literal(prefix) {
            return Err(invalid(format_args!(
                "stream external api prefix {prefix:?} must be a valid subject without wildcards"
            )));
        }
        if prefix == "$JS.API" {
            return Err(errors::stream_external_api_overlap(prefix, "$JS.API"));
        }
    }
    Ok(())
}

/// What is taken must not be refused for its size.
fn check_size(
    config: &StreamConfig,
    origin: &StreamSource,
    words: &Words,
    others: &(impl OtherStreams + ?Sized),
) -> Result<(), ApiError> {
    let bound = config.max_msg_size;
    if bound <= 0 || origin.external.is_some() {
        return Ok(());
    }
    let is_larger = others.config(&origin.name).is_some_and(|other| other.max_msg_size > bound);
    if is_larger { Err(words.too_big.clone()) } else { Ok(()) }
}

/// A mirror may answer direct gets if its origin does.
pub(super) fn follow_origin(config: &mut StreamConfig, others: &(impl OtherStreams + ?Sized)) {
    if let Some(origin) = config.mirror.as_ref().filter(|o| o.external.is_none())
        && let Some(other) = others.config(&origin.name)
    {
        config.mirror_direct = other.allow_direct;
    }
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
