use crate::consumer_config::ConsumerConfig;
use crate::errors::{self, ApiError};
use crate::limits::{DESCRIPTION_MAX, Limits, METADATA_MAX, NAME_MAX, is_asset_name, is_group_name};
use crate::policies::{AckPolicy, DeliverPolicy, PriorityPolicy, RetentionPolicy};
use crate::stream_config::StreamConfig;
use crate::time::Nanos;
use crate::{metadata, subject_rules};

const ACK_WAIT_DEFAULT: Nanos = Nanos::from_secs(30);
const MAX_WAITING_DEFAULT: i64 = 512;
const MAX_ACK_PENDING_DEFAULT: i64 = 1000;
/// The heartbeat of consumers that are acknowledged by answers to flow control.
const FLOW_ACK_HEARTBEAT: Nanos = Nanos::from_secs(1);
const HEARTBEAT_MIN: Nanos = Nanos::from_millis(100);
/// How long a pinned client may be silent.
const PINNED_TIMEOUT_DEFAULT: Nanos = Nanos::from_secs(120);
const EXPIRES_MIN: Nanos = Nanos::from_millis(1);

/// A server alone makes no replicas, not even of consumers of streams that it does not have.
pub fn check_replicas_supported(config: &ConsumerConfig, limits: &Limits) -> Result<(), ApiError> {
    let is_supported = config.num_replicas <= 1 || limits.clustered;
    if is_supported { Ok(()) } else { Err(errors::STREAM_REPLICAS_NOT_SUPPORTED) }
}

/// Applies defaults and judges a configuration by itself and against its stream.
pub fn normalize_and_check(
    wanted: &ConsumerConfig,
    stream: &StreamConfig,
    limits: &Limits,
    pedantic: bool,
) -> Result<ConsumerConfig, ApiError> {
    let mut config = wanted.clone();
    check_names(&config)?;
    check_replicas_supported(&config, limits)?;
    normalize_signs(&mut config, pedantic)?;
    apply_defaults(&mut config, stream, limits, pedantic)?;
    check_replicas(&config, stream)?;
    check_redelivery(&config)?;
    check_flow_acks(&config)?;
    if config.description.len() > DESCRIPTION_MAX {
        return Err(errors::consumer_description_too_long(DESCRIPTION_MAX));
    }
    if config.is_push() {
        check_push(&config, stream)?
    } else {
        check_pull(&config, stream, limits)?
    }
    check_direct(&config, stream)?;
    check_bounds(&config, stream, limits)?;
    check_filters(&config)?;
    check_start(&config)?;
    check_sampling(&config)?;
    check_flow_control(&config)?;
    let level = metadata::required_consumer_level(wanted);
    metadata::set_required_level(&mut config.metadata, level);
    if metadata::size(&config.metadata) > METADATA_MAX {
        return Err(errors::consumer_metadata_length("128KB"));
    }
    check_priority(&mut config)?;
    Ok(config)
}

fn check_names(config: &ConsumerConfig) -> Result<(), ApiError> {
    for (field, name) in [("durable name", &config.durable_name), ("name", &config.name)] {
        if name.is_empty() {
            continue;
        }
        if name.len() > NAME_MAX {
            return Err(errors::consumer_name_too_long(NAME_MAX));
        }
        if !is_asset_name(name) {
            return Err(errors::stream_invalid_config(format_args!(
                r"consumer {field} can not contain '.', '*', '>', '\', '/'"
            )));
        }
    }
    if !config.durable_name.is_empty() && !config.name.is_empty() && config.durable_name != config.name {
        return Err(errors::CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH);
    }
    Ok(())
}

/// Numbers below their meaning become the nearest one that has a meaning.
fn normalize_signs(config: &mut ConsumerConfig, pedantic: bool) -> Result<(), ApiError> {
    for (field, value) in
        [("max_deliver", &mut config.max_deliver), ("max_ack_pending", &mut config.max_ack_pending)]
    {
        if *value < -1 {
            if pedantic {
                return Err(errors::pedantic(format_args!("{field} must be set to -1")));
            }
            *value = -1;
        }
    }
    for (field, value) in [
        ("max_waiting", &mut config.max_waiting),
        ("max_batch", &mut config.max_batch),
        ("max_expires", &mut config.max_expires.0),
        ("max_bytes", &mut config.max_bytes),
        ("idle_heartbeat", &mut config.idle_heartbeat.0),
        ("inactive_threshold", &mut config.inactive_threshold.0),
        ("priority_timeout", &mut config.priority_timeout.0),
    ] {
        if *value < 0 {
            if pedantic {
                return Err(errors::pedantic(format_args!("{field} must not be negative")));
            }
            *value = 0;
        }
    }
    Ok(())
}

fn apply_defaults(
    config: &mut ConsumerConfig,
    stream: &StreamConfig,
    limits: &Limits,
    pedantic: bool,
) -> Result<(), ApiError> {
    let acknowledged = config.ack_policy != AckPolicy::None;
    if config.max_deliver == 0 {
        config.max_deliver = -1;
    }
    if !config.is_push() && config.max_waiting == 0 {
        config.max_waiting = MAX_WAITING_DEFAULT;
    }
    if !config.is_push() && config.max_batch == 0 && limits.max_request_batch > 0 {
        config.max_batch = limits.max_request_batch;
    }
    normalize_flow_acks(config, pedantic);
    let is_awaited = acknowledged && config.ack_policy != AckPolicy::FlowControl;
    if is_awaited && config.ack_wait.is_zero() {
        config.ack_wait = ACK_WAIT_DEFAULT;
    }
    if let Some(first) = config.backoff.first().copied() {
        if pedantic && config.ack_wait != first {
            return Err(errors::pedantic("first backoff value has to equal batch AckWait"));
        }
        config.ack_wait = first;
    }
    let stream_limits = stream.consumer_limits;
    // Negative values mean that there is no limit, which is inherited, too, and as it stands there; to name them is
    // asked of nobody.
    if config.max_ack_pending == 0 && stream_limits.max_ack_pending != 0 {
        if pedantic && stream_limits.max_ack_pending > 0 {
            return Err(set_because_of_stream("max_ack_pending"));
        }
        config.max_ack_pending = stream_limits.max_ack_pending;
    }
    if config.inactive_threshold.is_zero() && !stream_limits.inactive_threshold.is_zero() {
        if pedantic && stream_limits.inactive_threshold.0 > 0 {
            return Err(set_because_of_stream("inactive_threshold"));
        }
        config.inactive_threshold = stream_limits.inactive_threshold;
    }
    if config.max_ack_pending == 0 && acknowledged {
        let account = limits.account.map_or(-1, |account| account.max_ack_pending);
        config.max_ack_pending = [limits.max_ack_pending, account]
            .into_iter()
            .filter(|bound| *bound > 0)
            .fold(MAX_ACK_PENDING_DEFAULT, i64::min);
    }
    Ok(())
}

/// Answers to flow control are asked for at a pace of their own, which a pedantic request has to name.
fn normalize_flow_acks(config: &mut ConsumerConfig, pedantic: bool) {
    if config.ack_policy == AckPolicy::FlowControl && config.is_push() && !pedantic {
        config.flow_control = true;
        config.idle_heartbeat = FLOW_ACK_HEARTBEAT;
    }
}

/// What has no meaning where answers to flow control acknowledge.
fn check_flow_acks(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.ack_policy != AckPolicy::FlowControl {
        return Ok(());
    }
    if !config.is_push() {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_PUSH);
    }
    if !config.flow_control {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_FC);
    }
    if config.idle_heartbeat != FLOW_ACK_HEARTBEAT {
        return Err(errors::stream_invalid_config("flow control ack policy heartbeat needs to be 1s"));
    }
    if config.max_ack_pending <= 0 {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING);
    }
    if !config.ack_wait.is_zero() || !config.backoff.is_empty() {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT);
    }
    if config.max_deliver > 0 {
        return Err(errors::CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER);
    }
    Ok(())
}

fn set_because_of_stream(field: &str) -> ApiError {
    errors::pedantic(format_args!("{field} must be set if it's configured in stream limits"))
}

fn check_replicas(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    if config.num_replicas < 0 {
        return Err(errors::REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
    }
    if config.num_replicas > stream.num_replicas.max(1) {
        return Err(errors::CONSUMER_REPLICAS_EXCEEDS_STREAM);
    }
    let by_consumers = stream.retention != RetentionPolicy::Limits;
    if by_consumers && config.num_replicas != 0 && config.num_replicas != stream.num_replicas {
        return Err(errors::CONSUMER_REPLICAS_SHOULD_MATCH_STREAM);
    }
    Ok(())
}

fn check_redelivery(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.backoff.iter().any(|wait| wait.0 < 0) {
        return Err(errors::CONSUMER_BACKOFF_NEGATIVE);
    }
    if config.ack_wait.0 < 0 {
        return Err(errors::CONSUMER_ACK_WAIT_NEGATIVE);
    }
    let tries = usize::try_from(config.max_deliver).unwrap_or(usize::MAX);
    if config.backoff.len() > tries {
        return Err(errors::CONSUMER_MAX_DELIVER_BACKOFF);
    }
    Ok(())
}

fn check_push(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let subject = &config.deliver_subject;
    if !subject_rules::is_literal(subject) {
        return Err(errors::CONSUMER_DELIVER_TO_WILDCARDS);
    }
    if !subject_rules::is_valid(subject) {
        return Err(errors::CONSUMER_INVALID_DELIVER_SUBJECT);
    }
    // Delivering into the stream would store every delivery again.
    if stream.subjects.iter().any(|own| subject_rules::is_subset(subject, own)) {
        return Err(errors::CONSUMER_DELIVER_CYCLE);
    }
    if config.max_waiting != 0 {
        return Err(errors::CONSUMER_PUSH_MAX_WAITING);
    }
    if config.max_ack_pending > 0 && config.ack_policy == AckPolicy::None {
        return Err(errors::CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED);
    }
    if config.idle_heartbeat.0 > 0 && config.idle_heartbeat < HEARTBEAT_MIN {
        return Err(errors::CONSUMER_SMALL_HEARTBEAT);
    }
    Ok(())
}

fn check_flow_control(config: &ConsumerConfig) -> Result<(), ApiError> {
    let needs_heartbeats = config.is_push() && config.flow_control && config.idle_heartbeat.is_zero();
    if needs_heartbeats { Err(errors::CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS) } else { Ok(()) }
}

fn check_pull(config: &ConsumerConfig, stream: &StreamConfig, limits: &Limits) -> Result<(), ApiError> {
    if stream.retention == RetentionPolicy::WorkQueue && config.ack_policy == AckPolicy::None {
        return Err(errors::CONSUMER_PULL_REQUIRES_ACK);
    }
    if config.rate_limit_bps > 0 {
        return Err(errors::CONSUMER_PULL_WITH_RATE_LIMIT);
    }
    if config.idle_heartbeat.0 > 0 {
        return Err(errors::CONSUMER_HB_REQUIRES_PUSH);
    }
    if config.flow_control {
        return Err(errors::CONSUMER_FC_REQUIRES_PUSH);
    }
    if limits.max_request_batch > 0 && config.max_batch > limits.max_request_batch {
        return Err(errors::consumer_max_request_batch_exceeded(limits.max_request_batch));
    }
    if config.max_expires.0 > 0 && config.max_expires < EXPIRES_MIN {
        return Err(errors::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL);
    }
    Ok(())
}

/// A share of acknowledgements in percent.
fn check_sampling(config: &ConsumerConfig) -> Result<(), ApiError> {
    let text = config.sample_freq.strip_suffix('%').unwrap_or(&config.sample_freq);
    if config.sample_freq.is_empty() {
        return Ok(());
    }
    match text.parse::<i64>() {
        Ok(percent) if percent >= 0 => Ok(()),
        Ok(_) => Err(errors::consumer_invalid_sampling("<nil>")),
        Err(_) => Err(errors::consumer_invalid_sampling(format_args!(
            "strconv.Atoi: parsing {text:?}: invalid syntax"
        ))),
    }
}

/// Groups need a policy, a policy needs groups, and both need requests.
fn check_priority(config: &mut ConsumerConfig) -> Result<(), ApiError> {
    if config.priority_policy.is_none() {
        if !config.priority_groups.is_empty() {
            return Err(errors::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE);
        }
        if !config.priority_timeout.is_zero() {
            return Err(errors::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE);
        }
        return Ok(());
    }
    if config.is_push() {
        return Err(errors::CONSUMER_PUSH_WITH_PRIORITY_GROUP);
    }
    if config.priority_groups.is_empty() {
        return Err(errors::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP);
    }
    for group in &config.priority_groups {
        if group.is_empty() {
            return Err(errors::CONSUMER_EMPTY_GROUP_NAME);
        }
        if !is_group_name(group) {
            return Err(errors::CONSUMER_INVALID_GROUP_NAME);
        }
    }
    if config.priority_policy == PriorityPolicy::PinnedClient && config.priority_timeout <= Nanos::ZERO {
        config.priority_timeout = PINNED_TIMEOUT_DEFAULT;
    }
    Ok(())
}

fn check_direct(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    if config.direct && !config.is_push() {
        return Err(errors::CONSUMER_DIRECT_REQUIRES_PUSH);
    }
    if config.direct && config.is_durable() {
        return Err(errors::CONSUMER_DIRECT_REQUIRES_EPHEMERAL);
    }
    if config.direct && stream.retention != RetentionPolicy::Limits {
        // It would keep nothing from being removed. What can be adapted was.
        return Err(errors::stream_invalid_config(
            "direct consumer of a stream that consumers keep is not supported",
        ));
    }
    Ok(())
}

/// Bounds set by the server, the account and the stream.
fn check_bounds(config: &ConsumerConfig, stream: &StreamConfig, limits: &Limits) -> Result<(), ApiError> {
    let account = limits.account.map_or(-1, |account| account.max_ack_pending);
    for bound in [limits.max_ack_pending, account, stream.consumer_limits.max_ack_pending] {
        if bound > 0 && config.max_ack_pending > bound {
            return Err(errors::consumer_max_pending_ack_excess(bound));
        }
    }
    let bound = stream.consumer_limits.inactive_threshold;
    if bound.0 > 0 && config.inactive_threshold > bound {
        return Err(errors::consumer_inactive_threshold_excess(bound));
    }
    Ok(())
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    let several = &config.filter_subjects;
    if !config.filter_subject.is_empty() && !several.is_empty() {
        return Err(errors::CONSUMER_DUPLICATE_FILTER_SUBJECTS);
    }
    if several.iter().any(String::is_empty) {
        return Err(errors::CONSUMER_EMPTY_FILTER);
    }
    for (at, filter) in several.iter().enumerate() {
        let mut others = several.iter().enumerate().filter(|(other_at, _)| *other_at != at);
        if others.any(|(_, other)| subject_rules::is_subset(filter, other)) {
            return Err(errors::CONSUMER_OVERLAPPING_SUBJECT_FILTERS);
        }
    }
    if !config.filters().iter().all(|filter| subject_rules::is_valid(filter)) {
        return Err(errors::stream_invalid_config("invalid subject"));
    }
    Ok(())
}

/// Whether the start options are those of the deliver policy. The doubled word is the reference's.
fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let (seq, time) = (config.opt_start_seq > 0, config.opt_start_time.is_some());
    let (policy, problem) = match config.deliver_policy {
        DeliverPolicy::ByStartSequence if !seq => ("by start sequence", "start sequence is not set"),
        DeliverPolicy::ByStartSequence if time => ("by start sequence", "start time is also set"),
        DeliverPolicy::ByStartTime if !time => ("by start time", "start time is not set"),
        DeliverPolicy::ByStartTime if seq => ("by start time", "start start sequence is also set"),
        DeliverPolicy::ByStartSequence | DeliverPolicy::ByStartTime => return Ok(()),
        policy => {
            let policy_text = match policy {
                DeliverPolicy::Last => "last",
                DeliverPolicy::New => "new",
                DeliverPolicy::LastPerSubject => "last per subject",
                _ => "all",
            };
            let problem = if seq {
                "start sequence is also set"
            } else if time {
                "start time is also set"
            } else if policy == DeliverPolicy::LastPerSubject && config.filters().is_empty() {
                "filter subject is not set"
            } else {
                return Ok(());
            };
            (policy_text, problem)
        }
    };
    Err(errors::consumer_invalid_policy(format_args!(
        "consumer delivery policy is deliver {policy}, but optional {problem}"
    )))
}
