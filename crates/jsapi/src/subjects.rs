//! Subjects of the JetStream API and of acknowledgements, read without allocating.

mod ack_kind;
mod ack_subject;
mod api;

pub use ack_kind::AckKind;
pub use ack_subject::AckSubject;
pub use api::{API_PREFIX, ApiRequest, strip_domain};

/// Prefix of acknowledgement subjects.
pub const ACK_PREFIX: &str = "$JS.ACK.";
/// Prefix of flow control subjects.
pub const FLOW_CONTROL_PREFIX: &str = "$JS.FC.";
/// Prefix of advisories.
pub const ADVISORY_PREFIX: &str = "$JS.EVENT.ADVISORY.";
/// Prefix of metrics.
pub const METRIC_PREFIX: &str = "$JS.EVENT.METRIC.";
