use linnet_ids::hash_base62;
use linnet_jsapi::policies::{AckPolicy, DeliverPolicy};
use linnet_jsapi::requests::CreateConsumerRequest;
use linnet_jsapi::{ConsumerConfig, Metadata, Nanos};
use linnet_wire::headers;

use super::{Origin, Role};

/// Sign of life of the consumer, and how long it lives without a listener.
const HEARTBEAT: Nanos = Nanos::from_secs(1);
const INACTIVE_THRESHOLD: Nanos = Nanos::from_secs(10);
/// Nothing is delivered again within the life of a consumer.
const ACK_WAIT: Nanos = Nanos::from_secs(22 * 60 * 60);
/// Letters and digits of a random subject.
const TOKEN_LEN: usize = 8;

/// Who asks for a consumer.
pub(crate) struct Asker<'a> {
    pub(crate) stream: &'a str,
    pub(crate) account: &'a str,
    pub(crate) domain: &'a str,
}

/// A request for a consumer, ready to be published.
pub(super) struct Request {
    pub(super) subject: Vec<u8>,
    /// Where the messages are to go.
    pub(super) deliver_to: Vec<u8>,
    pub(super) answer_to: Vec<u8>,
    pub(super) header_len: usize,
    pub(super) body: Vec<u8>,
    /// Where the consumer is given back; `None` for one that was made beforehand.
    pub(super) give_back_to: Option<Vec<u8>>,
}

/// What is asked of the origin's server. One that says that it is too old for that is asked for less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    /// API level 5: to say when the stream is another one of the same name.
    Identity,
    /// API level 4: to keep the consumer for a stream that reads, also where messages go once they are acknowledged.
    Sourcing,
    /// A consumer such as every server has.
    Plain,
}

impl Demand {
    /// What is asked first.
    pub(super) fn of(role: Role) -> Self {
        match role {
            Role::Mirror => Self::Sourcing,
            Role::Source => Self::Identity,
        }
    }

    /// What is asked of a server that refuses this.
    pub(super) fn less(self) -> Option<Self> {
        match self {
            Self::Identity => Some(Self::Sourcing),
            Self::Sourcing => Some(Self::Plain),
            Self::Plain => None,
        }
    }

    fn level(self) -> Option<&'static str> {
        match self {
            Self::Identity => Some("5"),
            Self::Sourcing => Some("4"),
            Self::Plain => None,
        }
    }
}

impl Asker<'_> {
    /// A request for what comes behind the origin's position. `id` is made of letters and digits.
    pub(super) fn request(&self, origin: &Origin, id: &[u8]) -> Request {
        let id = String::from_utf8_lossy(id);
        // The end of an id differs most from one to the next.
        let token = id.get(id.len().saturating_sub(TOKEN_LEN)..).unwrap_or_default();
        let kind = if origin.role == Role::Mirror { "M" } else { "S" };
        let external = origin.config.external.as_ref();
        let prefix = external.map(|e| e.deliver.as_str()).filter(|prefix| !prefix.is_empty());
        let deliver_to = match &origin.config.consumer {
            Some(consumer) => consumer.deliver_subject.clone(),
            None => format!("{}.{kind}.{token}", prefix.unwrap_or("$JS")),
        };
        let api = external.map(|e| e.api.as_str()).filter(|api| !api.is_empty()).unwrap_or("$JS.API");
        let mut body = Vec::with_capacity(512);
        // A mirror asks for nothing that a server which knows this request does not know.
        let is_plain = origin.config.consumer.is_some() && origin.role == Role::Mirror;
        if let Some(level) = origin.demand.level().filter(|_| !is_plain) {
            headers::begin(&mut body, "");
            headers::push(&mut body, "Nats-Required-Api-Level", level.as_bytes());
            if origin.demand == Demand::Identity {
                headers::push(&mut body, "Nats-Stream-Identity", origin.identity.as_bytes());
            }
            headers::end(&mut body);
        }
        let header_len = body.len();
        let stream = &origin.config.name;
        let mut give_back_to = None;
        let subject = match origin.config.consumer.as_ref().map(|consumer| &consumer.name) {
            Some(consumer) => {
                // Behind what it was told to be stored; what was stored besides is known here.
                format!("{api}.CONSUMER.RESET.{stream}.{consumer}")
            }
            None => {
                let config = self.consumer(origin, &deliver_to, token);
                let subject = match config.filter_subject.as_str() {
                    "" => format!("{api}.CONSUMER.CREATE.{stream}"),
                    filter => format!("{api}.CONSUMER.CREATE.{stream}.{}.{filter}", config.name),
                };
                give_back_to = Some(format!("{api}.CONSUMER.DELETE.{stream}.{}", config.name).into_bytes());
                let request = CreateConsumerRequest {
                    stream: stream.clone(),
                    config,
                    ..CreateConsumerRequest::default()
                };
                // Plain data: writing it to memory cannot fail.
                serde_json::to_writer(&mut body, &request).expect("consumer request serialises");
                subject
            }
        };
        Request {
            subject: subject.into_bytes(),
            deliver_to: deliver_to.into_bytes(),
            answer_to: format!("$JSC.R.{token}").into_bytes(),
            header_len,
            body,
            give_back_to,
        }
    }

    fn consumer(&self, origin: &Origin, deliver_to: &str, token: &str) -> ConsumerConfig {
        let (kind, prefix) = match origin.role {
            Role::Mirror => ("MIRROR", "_nats.mirror"),
            Role::Source => ("SRC", "_nats.src"),
        };
        let whose = format!("{}:{}:{}:{}", self.stream, self.account, self.domain, origin.nth);
        let mut metadata = Metadata::from([
            (format!("{prefix}.stream"), self.stream.to_owned()),
            (format!("{prefix}.acc"), self.account.to_owned()),
        ]);
        if !self.domain.is_empty() {
            metadata.insert(format!("{prefix}.domain"), self.domain.to_owned());
        }
        let (deliver_policy, opt_start_seq, opt_start_time) = match &origin.config {
            _ if origin.position > 0 => (DeliverPolicy::ByStartSequence, origin.position + 1, None),
            config if config.opt_start_seq > 0 => {
                (DeliverPolicy::ByStartSequence, config.opt_start_seq, None)
            }
            config if config.opt_start_time.is_some() => {
                (DeliverPolicy::ByStartTime, 0, config.opt_start_time)
            }
            _ => (DeliverPolicy::All, 0, None),
        };
        let mut filters = origin.config.filters();
        let filter_subject = if filters.len() == 1 { filters.remove(0) } else { String::new() };
        let mut name = format!("JS_{kind}_{}", hash_base62::<8>(&whose));
        if origin.demand == Demand::Plain {
            // Such a server does not replace a consumer by another one of the same name.
            name = format!("{name}_{token}");
        }
        ConsumerConfig {
            name,
            deliver_policy,
            opt_start_seq,
            opt_start_time,
            ack_policy: AckPolicy::None,
            ack_wait: ACK_WAIT,
            max_deliver: 1,
            filter_subject,
            filter_subjects: filters,
            flow_control: true,
            deliver_subject: deliver_to.to_owned(),
            idle_heartbeat: HEARTBEAT,
            inactive_threshold: INACTIVE_THRESHOLD,
            direct: true,
            sourcing: origin.demand != Demand::Plain,
            metadata,
            ..ConsumerConfig::default()
        }
    }
}
