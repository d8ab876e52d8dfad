//! Which stream configurations are accepted, in what shape, and what may change. The order of the checks decides
//! which of several errors a client sees, so it is nats-server's (`server/stream.go`).

mod features;
mod origins;

use std::fmt::Display;

use crate::consumer_config::ConsumerConfig;
use crate::errors::{self, ApiError};
use crate::info::AccountLimits;
use crate::limits::{
    Amounts, DESCRIPTION_MAX, FIRST_SEQ_MAX, Limits, METADATA_MAX, NAME_MAX, REPLICAS_MAX, is_asset_name,
};
use crate::policies::{DiscardPolicy, RetentionPolicy, StorageType};
use crate::requests::StreamConfigRequest;
use crate::stream_config::{Placement, StreamConfig};
use crate::time::Nanos;
use crate::{Metadata, metadata, subject_rules};

const DUPLICATE_WINDOW_DEFAULT: Nanos = Nanos::from_secs(120);
const WINDOW_MIN: Nanos = Nanos::from_millis(100);

/// The account's other streams.
pub trait OtherStreams {
    /// Whether a stream other than `except` listens to a subject that overlaps `subject`.
    fn overlaps(&self, subject: &str, except: &str) -> bool;
    /// The configuration of the stream of this name.
    fn config(&self, name: &str) -> Option<StreamConfig>;
}

impl OtherStreams for [StreamConfig] {
    fn overlaps(&self, subject: &str, except: &str) -> bool {
        self.iter()
            .filter(|stream| stream.name != except)
            .flat_map(|stream| &stream.subjects)
            .any(|other| subject_rules::overlap(subject, other))
    }

    fn config(&self, name: &str) -> Option<StreamConfig> {
        self.iter().find(|stream| stream.name == name).cloned()
    }
}

/// What a create request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamCreate {
    /// A new stream, configured so.
    New(Box<StreamConfig>),
    /// A stream that exists with the very configuration: success.
    Same,
}

/// Judges `STREAM.CREATE.<name>`. `existing` is the stream of that name, if there is one.
pub fn check_create(
    name: &str,
    request: &StreamConfigRequest,
    existing: Option<&StreamConfig>,
    others: &(impl OtherStreams + ?Sized),
    limits: &Limits,
) -> Result<StreamCreate, ApiError> {
    let wanted = &request.config;
    if wanted.name != name {
        return Err(errors::STREAM_MISMATCH);
    }
    if name.contains(['/', '\\']) {
        return Err(errors::STREAM_NAME_CONTAINS_PATH_SEPARATORS);
    }
    if wanted.sealed {
        return Err(invalid("stream configuration for create can not be sealed"));
    }
    if wanted.mirror_direct && wanted.mirror.is_none() {
        return Err(invalid("stream has no mirror but does have mirror direct"));
    }
    if !limits.clustered && existing.is_none() {
        check_counts(wanted, true, limits)?;
    }
    if !limits.clustered && request.names_storage {
        check_reservation(wanted, existing, limits)?;
    }
    let mut config = normalize_and_check(wanted, others, limits, request.pedantic)?;
    origins::follow_origin(&mut config, others);
    if config.first_seq > FIRST_SEQ_MAX {
        return Err(invalid("first sequence is too large"));
    }
    if let Some(existing) = existing {
        return if same_config(existing, &config) {
            Ok(StreamCreate::Same)
        } else {
            Err(errors::STREAM_NAME_EXIST)
        };
    }
    if limits.clustered {
        check_overlap(&config, others)?;
        check_counts(&config, true, limits)?;
        check_reservation(&config, None, limits)?;
    } else {
        check_reservation(&config, None, limits)?;
        check_overlap(&config, others)?;
    }
    origins::check_filters(&config)?;
    Ok(StreamCreate::New(Box::new(config)))
}

/// Judges `STREAM.UPDATE.<name>` and gives the configuration to store. `consumers` are those of the stream.
pub fn check_update<'a>(
    name: &str,
    request: &StreamConfigRequest,
    existing: Option<&StreamConfig>,
    consumers: impl IntoIterator<Item = (&'a str, &'a ConsumerConfig)>,
    others: &(impl OtherStreams + ?Sized),
    limits: &Limits,
) -> Result<StreamConfig, ApiError> {
    let mut config = normalize_and_judge(&request.config, others, limits, request.pedantic)?;
    origins::follow_origin(&mut config, others);
    if config.name != name {
        return Err(errors::STREAM_MISMATCH);
    }
    let old = existing.ok_or(errors::STREAM_NOT_FOUND)?;
    check_replicas_supported(&config, limits)?;
    check_changes(old, &config)?;
    if config.sealed {
        seal(&mut config);
    }
    check_counts(&config, false, limits)?;
    check_reservation(&config, Some(old), limits)?;
    if config.consumer_limits != old.consumer_limits {
        check_consumers(&config, consumers)?;
    }
    check_overlap(&config, others)?;
    origins::check_filters(&config)?;
    Ok(config)
}

/// Whether two normalised configurations are the same, the server's metadata aside.
pub fn same_config(a: &StreamConfig, b: &StreamConfig) -> bool {
    let without_metadata =
        |config: &StreamConfig| StreamConfig { metadata: Metadata::new(), ..config.clone() };
    metadata::same_user_metadata(&a.metadata, &b.metadata) && without_metadata(a) == without_metadata(b)
}

/// Applies defaults and judges a configuration by itself and beside what it takes from, for create, update and restore.
pub fn normalize_and_check(
    wanted: &StreamConfig,
    others: &(impl OtherStreams + ?Sized),
    limits: &Limits,
    pedantic: bool,
) -> Result<StreamConfig, ApiError> {
    let config = normalize_and_judge(wanted, others, limits, pedantic)?;
    check_replicas_supported(&config, limits)?;
    Ok(config)
}

/// The same for a server that may have replicas or not.
fn normalize_and_judge(
    wanted: &StreamConfig,
    others: &(impl OtherStreams + ?Sized),
    limits: &Limits,
    pedantic: bool,
) -> Result<StreamConfig, ApiError> {
    let mut config = wanted.clone();
    check_texts(&mut config)?;
    normalize_numbers(&mut config, limits, pedantic)?;
    check_permissions(&config)?;
    features::normalize_delete_markers(&mut config, pedantic)?;
    features::normalize_schedules(&mut config, pedantic)?;
    features::check_persist_mode(&config)?;
    if config.subjects.is_empty() && config.mirror.is_none() && config.sources.is_empty() {
        config.subjects = vec![config.name.clone()];
    }
    origins::check(&config, others)?;
    check_subjects(&config)?;
    check_max_bytes(&config, limits)?;
    features::check_transform(&config)?;
    features::normalize_republish(&mut config, pedantic)?;
    normalize_placement(&mut config)?;
    Ok(config)
}

fn check_replicas_supported(config: &StreamConfig, limits: &Limits) -> Result<(), ApiError> {
    let is_supported = config.num_replicas <= 1 || limits.clustered;
    if is_supported { Ok(()) } else { Err(errors::STREAM_REPLICAS_NOT_SUPPORTED) }
}

/// Name, description, metadata.
fn check_texts(config: &mut StreamConfig) -> Result<(), ApiError> {
    if !is_asset_name(&config.name) {
        return Err(invalid(r"stream name is required and can not contain '.', '*', '>', '\', '/'"));
    }
    if config.name.len() > NAME_MAX {
        return Err(invalid(format_args!("stream name is too long, maximum allowed is {NAME_MAX}")));
    }
    if config.description.len() > DESCRIPTION_MAX {
        return Err(invalid(format_args!(
            "stream description is too long, maximum allowed is {DESCRIPTION_MAX}"
        )));
    }
    let level = metadata::required_stream_level(config);
    metadata::set_required_level(&mut config.metadata, level);
    if metadata::size(&config.metadata) > METADATA_MAX {
        return Err(invalid(format_args!("stream metadata exceeds maximum size of {METADATA_MAX} bytes")));
    }
    Ok(())
}

/// Replicas, counts, ages.
fn normalize_numbers(config: &mut StreamConfig, limits: &Limits, pedantic: bool) -> Result<(), ApiError> {
    if config.num_replicas < 0 {
        return Err(errors::REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
    }
    if config.num_replicas == 0 {
        config.num_replicas = 1;
    }
    if config.num_replicas > REPLICAS_MAX {
        return Err(invalid(format_args!("maximum replicas is {REPLICAS_MAX}")));
    }
    let mut max_msg_size = i64::from(config.max_msg_size);
    for (field, value) in [
        ("max_msgs", &mut config.max_msgs),
        ("max_msgs_per_subject", &mut config.max_msgs_per_subject),
        ("max_bytes", &mut config.max_bytes),
        ("max_msg_size", &mut max_msg_size),
        ("max_consumers", &mut config.max_consumers),
    ] {
        if *value < -1 && pedantic {
            return Err(errors::pedantic(format_args!("{field} must be set to -1")));
        }
        if *value == 0 || *value < -1 {
            *value = -1;
        }
    }
    config.max_msg_size = i32::try_from(max_msg_size).unwrap_or(-1);
    if config.max_age.0 < 0 {
        return Err(invalid("max age can not be negative"));
    }
    if config.max_age.0 > 0 && config.max_age < WINDOW_MIN {
        return Err(invalid("max age needs to be >= 100ms"));
    }
    normalize_duplicate_window(config, limits, pedantic)
}

fn normalize_duplicate_window(
    config: &mut StreamConfig,
    limits: &Limits,
    pedantic: bool,
) -> Result<(), ApiError> {
    let bound = (limits.duplicate_window.0 > 0).then_some(limits.duplicate_window);
    if config.duplicate_window.is_zero() && config.mirror.is_none() && config.sources.is_empty() {
        let mut window = DUPLICATE_WINDOW_DEFAULT.min(bound.unwrap_or(DUPLICATE_WINDOW_DEFAULT));
        if config.max_age.0 > 0 && config.max_age < window {
            if pedantic {
                return Err(errors::pedantic("duplicate window cannot be bigger than max age"));
            }
            window = config.max_age;
        }
        config.duplicate_window = window;
    }
    let window = config.duplicate_window;
    if window.0 < 0 {
        return Err(invalid("duplicates window can not be negative"));
    }
    if config.max_age.0 > 0 && window > config.max_age {
        return Err(invalid("duplicates window can not be larger then max age"));
    }
    if let Some(bound) = bound.filter(|bound| window > *bound) {
        return Err(invalid(format_args!(
            "duplicates window can not be larger then server limit of {bound}"
        )));
    }
    if window.0 > 0 && window < WINDOW_MIN {
        return Err(invalid("duplicates window needs to be >= 100ms"));
    }
    Ok(())
}

/// Fields that contradict each other.
fn check_permissions(config: &StreamConfig) -> Result<(), ApiError> {
    if config.deny_purge && config.allow_rollup_hdrs {
        return Err(invalid("roll-ups require the purge permission"));
    }
    features::check_counter(config)?;
    if config.discard_new_per_subject {
        if config.discard != DiscardPolicy::New {
            return Err(invalid("discard new per subject requires discard new policy to be set"));
        }
        if config.max_msgs_per_subject <= 0 {
            return Err(invalid("discard new per subject requires max msgs per subject > 0"));
        }
    }
    Ok(())
}

fn check_subjects(config: &StreamConfig) -> Result<(), ApiError> {
    for (at, subject) in config.subjects.iter().enumerate() {
        if !subject_rules::is_valid(subject) {
            return Err(invalid("invalid subject"));
        }
        check_reserved(subject, config)?;
        let others = config.subjects.iter().enumerate().filter(|(other_at, _)| *other_at != at);
        for (_, other) in others {
            if subject_rules::overlap(subject, other) {
                return Err(invalid(format_args!("subject \"{subject}\" overlaps with \"{other}\"")));
            }
        }
    }
    Ok(())
}

/// A stream that acknowledges what the server itself publishes would answer the server.
fn check_reserved(subject: &str, config: &StreamConfig) -> Result<(), ApiError> {
    if subject == ">" {
        if !config.no_ack {
            return Err(invalid("capturing all subjects requires no-ack to be true"));
        }
        if config.num_replicas > 1 {
            return Err(invalid("capturing all subjects requires replicas of 1"));
        }
    }
    if config.no_ack {
        return Ok(());
    }
    let meets = |reserved: &[&str]| reserved.iter().any(|other| subject_rules::overlap(subject, other));
    if meets(&["$JS.>", "$JSC.>", "$NRG.>"]) && !subject_rules::is_subset(subject, "$JS.EVENT.>") {
        return Err(invalid("subjects that overlap with jetstream api require no-ack to be true"));
    }
    if meets(&["$SYS.>"]) && !subject_rules::is_subset(subject, "$SYS.ACCOUNT.>") {
        return Err(invalid("subjects that overlap with system api require no-ack to be true"));
    }
    Ok(())
}

fn check_max_bytes(config: &StreamConfig, limits: &Limits) -> Result<(), ApiError> {
    let account = account(limits)?;
    if account.max_bytes_required && config.max_bytes <= 0 {
        return Err(errors::STREAM_MAX_BYTES_REQUIRED);
    }
    let bound = match config.storage {
        StorageType::File => account.storage_max_stream_bytes,
        StorageType::Memory => account.memory_max_stream_bytes,
    };
    if bound > 0 && config.max_bytes > bound {
        return Err(errors::STREAM_MAX_STREAM_BYTES_EXCEEDED);
    }
    Ok(())
}

fn normalize_placement(config: &mut StreamConfig) -> Result<(), ApiError> {
    match &config.placement {
        Some(placement) if !placement.preferred.is_empty() => {
            Err(invalid("preferred server not permitted in placement"))
        }
        Some(placement) if *placement == Placement::default() => {
            config.placement = None;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Account limits on numbers of things.
fn check_counts(config: &StreamConfig, is_new: bool, limits: &Limits) -> Result<(), ApiError> {
    let account = account(limits)?;
    if is_new && account.max_streams > 0 && limits.streams >= account.max_streams {
        return Err(errors::MAXIMUM_STREAMS_LIMIT);
    }
    if account.max_consumers > 0 && config.max_consumers > account.max_consumers {
        return Err(errors::MAXIMUM_CONSUMERS_LIMIT);
    }
    Ok(())
}

/// Whether the most the stream may come to hold fits, beside what is promised to others. `replaced` is the
/// configuration whose own promise falls away.
fn check_reservation(
    config: &StreamConfig,
    replaced: Option<&StreamConfig>,
    limits: &Limits,
) -> Result<(), ApiError> {
    let account = account(limits)?;
    let promise = |config: &StreamConfig| config.max_bytes.max(0).saturating_mul(config.num_replicas.max(1));
    let freed = replaced.filter(|old| old.storage == config.storage).map_or(0, promise);
    // A stream without a bound still needs a byte.
    let needed = promise(config).max(1);
    let fits = |bound: i64, reserved: i64| {
        bound < 0 || reserved.saturating_sub(freed).saturating_add(needed) <= bound
    };
    let of = |amounts: Amounts| match config.storage {
        StorageType::File => amounts.storage,
        StorageType::Memory => amounts.memory,
    };
    let account_bound = of(Amounts { memory: account.max_memory, storage: account.max_storage });
    if fits(account_bound, of(limits.account_reserved)) && fits(of(limits.server), of(limits.server_reserved))
    {
        return Ok(());
    }
    Err(match config.storage {
        StorageType::File => errors::STORAGE_RESOURCES_EXCEEDED,
        StorageType::Memory => errors::MEMORY_RESOURCES_EXCEEDED,
    })
}

fn check_overlap(config: &StreamConfig, others: &(impl OtherStreams + ?Sized)) -> Result<(), ApiError> {
    if config.subjects.iter().any(|subject| others.overlaps(subject, &config.name)) {
        return Err(errors::STREAM_SUBJECT_OVERLAP);
    }
    Ok(())
}

/// What may not change.
fn check_changes(old: &StreamConfig, new: &StreamConfig) -> Result<(), ApiError> {
    let refuse = |what: &str| Err(invalid(format_args!("stream configuration update can not {what}")));
    let work_queue = |config: &StreamConfig| config.retention == RetentionPolicy::WorkQueue;
    if old.name != new.name {
        return Err(invalid("stream configuration name must match original"));
    }
    if old.storage != new.storage {
        return refuse("change storage type");
    }
    if work_queue(old) != work_queue(new) {
        return refuse("change retention policy to/from workqueue");
    }
    if old.sealed && !new.sealed {
        return refuse("unseal a sealed stream");
    }
    if old.deny_delete && !new.deny_delete {
        return refuse("cancel deny message deletes");
    }
    if old.deny_purge && !new.deny_purge {
        return refuse("cancel deny purge");
    }
    if new.mirror.is_some() && old.mirror != new.mirror {
        return Err(errors::STREAM_MIRROR_NOT_UPDATABLE);
    }
    if old.allow_msg_ttl && !new.allow_msg_ttl {
        return Err(invalid("message TTL status can not be disabled"));
    }
    if old.allow_msg_schedules && !new.allow_msg_schedules {
        return Err(invalid("message schedules can not be disabled"));
    }
    if old.allow_msg_counter != new.allow_msg_counter {
        return refuse("change message counter setting");
    }
    if old.persist_mode != new.persist_mode {
        return refuse("change persist mode");
    }
    Ok(())
}

/// A sealed stream keeps what it holds.
fn seal(config: &mut StreamConfig) {
    config.max_age = Nanos::ZERO;
    config.discard = DiscardPolicy::New;
    config.deny_delete = true;
    config.deny_purge = true;
    config.allow_rollup_hdrs = false;
}

/// Whether consumers that exist keep to new consumer limits.
fn check_consumers<'a>(
    config: &StreamConfig,
    consumers: impl IntoIterator<Item = (&'a str, &'a ConsumerConfig)>,
) -> Result<(), ApiError> {
    let bounds = config.consumer_limits;
    let above = |consumer: &ConsumerConfig| {
        (bounds.max_ack_pending > 0 && consumer.max_ack_pending > bounds.max_ack_pending)
            || (bounds.inactive_threshold.0 > 0 && consumer.inactive_threshold > bounds.inactive_threshold)
    };
    let mut names: Vec<&str> =
        consumers.into_iter().filter(|(_, consumer)| above(consumer)).map(|(name, _)| name).collect();
    if names.is_empty() {
        return Ok(());
    }
    names.sort_unstable();
    Err(errors::stream_update(format_args!("change to limits violates consumers: {}", names.join(", "))))
}

fn account(limits: &Limits) -> Result<&AccountLimits, ApiError> {
    limits.account.as_ref().ok_or(errors::NO_LIMITS)
}

fn invalid(text: impl Display) -> ApiError {
    errors::stream_invalid_config(text)
}

#[cfg(test)]
mod tests;
