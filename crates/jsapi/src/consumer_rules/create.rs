use super::config::normalize_and_check;
use super::update::{check_changes, same_config};
use crate::consumer_config::ConsumerConfig;
use crate::errors::{self, ApiError};
use crate::limits::Limits;
use crate::policies::{AckPolicy, ConsumerAction, DeliverPolicy, RetentionPolicy};
use crate::requests::CreateConsumerRequest;
use crate::stream_config::StreamConfig;
use crate::subjects::ApiRequest;
use crate::time::Nanos;
use crate::{metadata, subject_rules};

/// How long an ephemeral consumer lives unused when nothing else is said.
const INACTIVE_THRESHOLD_DEFAULT: Nanos = Nanos::from_secs(5);

/// Which of the create subjects a request came on, and what the subject says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectForm<'a> {
    /// `CONSUMER.CREATE.<stream>`
    Ephemeral,
    /// `CONSUMER.CREATE.<stream>.<consumer>[.<filter>]`
    Named {
        /// Name of the consumer.
        consumer: &'a str,
        /// The filter subject.
        filter: Option<&'a str>,
    },
    /// `CONSUMER.DURABLE.CREATE.<stream>.<consumer>`
    Durable {
        /// Name of the consumer.
        consumer: &'a str,
    },
}

impl<'a> SubjectForm<'a> {
    /// The form of a create request; `None` for other requests.
    pub fn of(request: &ApiRequest<'a>) -> Option<Self> {
        match *request {
            ApiRequest::ConsumerCreate { consumer: None, .. } => Some(Self::Ephemeral),
            ApiRequest::ConsumerCreate { consumer: Some(consumer), filter, .. } => {
                Some(Self::Named { consumer, filter })
            }
            ApiRequest::ConsumerDurableCreate { consumer, .. } => Some(Self::Durable { consumer }),
            _ => None,
        }
    }
}

/// Holds a request against the subject it came on, and takes the name from there. To be called before the stream is
/// looked for.
pub fn apply_subject_form(
    request: &mut CreateConsumerRequest,
    stream: &str,
    form: SubjectForm<'_>,
) -> Result<(), ApiError> {
    if request.stream != stream {
        return Err(errors::STREAM_MISMATCH);
    }
    let config = &mut request.config;
    match form {
        SubjectForm::Ephemeral => {
            if config.is_durable() {
                return Err(errors::CONSUMER_EPHEMERAL_WITH_DURABLE_NAME);
            }
        }
        SubjectForm::Named { consumer, filter } => {
            if config.is_durable() && config.durable_name != consumer {
                return Err(errors::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
            }
            if let Some(filter) = filter {
                if !config.filter_subjects.is_empty() {
                    return Err(errors::CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED);
                }
                if config.filter_subject != filter {
                    return Err(errors::CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH);
                }
            }
            consumer.clone_into(&mut config.name);
        }
        SubjectForm::Durable { consumer } => {
            if !config.is_durable() {
                return Err(errors::CONSUMER_DURABLE_NAME_NOT_SET);
            }
            if config.durable_name != consumer {
                return Err(errors::CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
            }
            consumer.clone_into(&mut config.name);
        }
    }
    if config.name.contains(['/', '\\']) {
        return Err(errors::CONSUMER_NAME_CONTAINS_PATH_SEPARATORS);
    }
    Ok(())
}

/// The consumers a stream has.
pub trait Consumers {
    /// How many count against limits (direct ones do not).
    fn count(&self) -> usize;
    /// Name and configuration of each that counts.
    fn each(&self) -> impl Iterator<Item = (&str, &ConsumerConfig)>;
}

impl Consumers for [ConsumerConfig] {
    fn count(&self) -> usize {
        self.len()
    }

    fn each(&self) -> impl Iterator<Item = (&str, &ConsumerConfig)> {
        self.iter().map(|config| (config.name.as_str(), config))
    }
}

/// The consumer that has the requested name already.
#[derive(Clone, Copy, Debug)]
pub struct ExistingConsumer<'a> {
    /// Its configuration.
    pub config: &'a ConsumerConfig,
    /// Whether somebody listens to its deliver subject.
    pub has_interest: bool,
}

/// What a create request comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerCreate {
    /// A new consumer, configured so. Without a name the caller makes one up, and leaves it out of the configuration.
    New(Box<ConsumerConfig>),
    /// A consumer that exists with the very configuration: success.
    Same,
    /// A consumer that exists gets this configuration.
    Update(Box<ConsumerConfig>),
}

/// Judges a create request that went through [`apply_subject_form`]. `existing` is the consumer of that name.
pub fn check_create(
    request: &CreateConsumerRequest,
    existing: Option<ExistingConsumer<'_>>,
    stream: &StreamConfig,
    consumers: &(impl Consumers + ?Sized),
    limits: &Limits,
) -> Result<ConsumerCreate, ApiError> {
    let mut config = normalize_and_check(&request.config, stream, limits, request.pedantic)?;
    let Some(existing) = existing else {
        if request.action == ConsumerAction::Update {
            return Err(errors::CONSUMER_DOES_NOT_EXIST);
        }
        if !config.direct {
            check_room(stream, consumers.count(), limits)?;
        }
        check_work_queue(&config, stream, consumers)?;
        stamp_inactive_threshold(&mut config, request.config.is_durable());
        return Ok(ConsumerCreate::New(Box::new(config)));
    };
    let old = existing.config;
    // Only `CONSUMER.PAUSE` pauses what exists.
    config.pause_until = old.pause_until;
    // The level is that of what was asked for, with the pause that stays.
    let kept = ConsumerConfig { pause_until: old.pause_until, ..request.config.clone() };
    metadata::set_required_level(&mut config.metadata, metadata::required_consumer_level(&kept));
    // The stored configuration of an ephemeral has its threshold stamped, and a repeated create is compared before
    // it would be: without the threshold it is another configuration. Clients know it that way.
    if request.action == ConsumerAction::Create {
        return if same_config(old, &config) {
            Ok(ConsumerCreate::Same)
        } else {
            Err(errors::CONSUMER_ALREADY_EXISTS)
        };
    }
    check_changes(old, &config, existing.has_interest)?;
    if config.filters() != old.filters() {
        check_work_queue(&config, stream, consumers)?;
    }
    stamp_inactive_threshold(&mut config, old.is_durable());
    let level = |config: &ConsumerConfig| metadata::required_level(&config.metadata);
    if same_config(old, &config) && level(old) == level(&config) {
        return Ok(ConsumerCreate::Same);
    }
    Ok(ConsumerCreate::Update(Box::new(config)))
}

fn stamp_inactive_threshold(config: &mut ConsumerConfig, durable: bool) {
    if !durable && config.inactive_threshold.0 <= 0 {
        config.inactive_threshold = INACTIVE_THRESHOLD_DEFAULT;
    }
}

fn check_room(stream: &StreamConfig, count: usize, limits: &Limits) -> Result<(), ApiError> {
    let account = limits.account.ok_or(errors::NO_LIMITS)?;
    // The server's default is for those who say nothing, the account included.
    let own = match (stream.max_consumers > 0, account.max_consumers > 0) {
        (true, _) => stream.max_consumers,
        (false, true) => account.max_consumers,
        (false, false) => limits.default_max_consumers,
    };
    let full = [own, account.max_consumers]
        .into_iter()
        .any(|bound| bound > 0 && usize::try_from(bound).is_ok_and(|bound| count >= bound));
    if full { Err(errors::MAXIMUM_CONSUMERS_LIMIT) } else { Ok(()) }
}

/// A work queue hands each message to one consumer, so filters must not overlap.
fn check_work_queue(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    consumers: &(impl Consumers + ?Sized),
) -> Result<(), ApiError> {
    if stream.retention != RetentionPolicy::WorkQueue || config.direct || config.sourcing {
        return Ok(());
    }
    match config.ack_policy {
        AckPolicy::Explicit | AckPolicy::FlowControl => {}
        _ => return Err(errors::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK),
    }
    if config.deliver_policy != DeliverPolicy::All {
        return Err(errors::CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL);
    }
    let mut others = consumers.each().filter(|(name, _)| config.name.is_empty() || *name != config.name);
    let filters = config.filters();
    if filters.is_empty() {
        return match others.next() {
            Some(_) => Err(errors::CONSUMER_WQ_MULTIPLE_UNFILTERED),
            None => Ok(()),
        };
    }
    let collides = |other: &ConsumerConfig| {
        other.filters().is_empty()
            || filters.iter().any(|a| other.filters().iter().any(|b| subject_rules::overlap(a, b)))
    };
    if others.any(|(_, other)| collides(other)) {
        return Err(errors::CONSUMER_WQ_CONSUMER_NOT_UNIQUE);
    }
    Ok(())
}
