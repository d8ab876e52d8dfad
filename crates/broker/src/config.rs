use std::time::Duration;

use crate::outbound::WritePolicy;

/// What the broker enforces. Replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Config {
    /// Client connections at a time.
    pub max_connections: usize,
    /// Subscriptions of one connection; `None` for no limit.
    pub max_subscriptions: Option<usize>,
    /// Tokens of a subscription's subject; `None` for no limit.
    pub max_sub_tokens: Option<usize>,
    /// Bytes of a protocol line.
    pub max_control_line: usize,
    /// Bytes of header block plus payload.
    pub max_payload: usize,
    /// Bytes queued to one connection before it counts as a slow consumer.
    pub max_pending: usize,
    /// Closed connections remembered for monitoring.
    pub max_closed_clients: usize,
    /// How long clients may take for their bytes.
    pub write_policy: WritePolicy,
    /// Drop for a full subscriber instead of pausing the producer.
    pub no_fast_producer_stall: bool,
    /// Interval of keep-alive PINGs.
    pub ping_interval: Duration,
    /// Unanswered PINGs before a connection is stale.
    pub ping_max: u32,
    /// Time a client has for a valid CONNECT.
    pub auth_timeout: Duration,
    /// Offer header support.
    pub headers: bool,
    /// Protocol trace lines are wanted.
    pub trace: bool,
    /// Of traced messages only the headers are printed.
    pub trace_headers: bool,
    /// Bytes of payload printed per traced message; 0 for all.
    pub max_traced_msg_len: usize,
}

impl Default for Config {
    /// nats-server's defaults (configuration, "Option tables").
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_subscriptions: None,
            max_sub_tokens: None,
            max_control_line: 4096,
            max_payload: 1 << 20,
            max_pending: 64 << 20,
            max_closed_clients: 10_000,
            write_policy: WritePolicy { deadline: Duration::from_secs(10), is_strict: false },
            no_fast_producer_stall: false,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            auth_timeout: Duration::from_secs(2),
            headers: true,
            trace: false,
            trace_headers: false,
            max_traced_msg_len: 0,
        }
    }
}
