use crate::consumer_config::ConsumerConfig;
use crate::errors::{self, ApiError};
use crate::{Metadata, metadata};

/// Whether two normalised configurations are the same, the server's metadata aside.
pub fn same_config(a: &ConsumerConfig, b: &ConsumerConfig) -> bool {
    let without_metadata =
        |config: &ConsumerConfig| ConsumerConfig { metadata: Metadata::new(), ..config.clone() };
    metadata::same_user_metadata(&a.metadata, &b.metadata) && without_metadata(a) == without_metadata(b)
}

/// What may not change. `has_interest`: somebody listens to the old deliver subject.
pub(super) fn check_changes(
    old: &ConsumerConfig,
    new: &ConsumerConfig,
    has_interest: bool,
) -> Result<(), ApiError> {
    for (what, changed) in [
        ("deliver policy", old.deliver_policy != new.deliver_policy),
        ("storage type", old.mem_storage != new.mem_storage),
        ("direct", old.direct != new.direct),
        ("sourcing", old.sourcing != new.sourcing),
        ("start sequence", old.opt_start_seq != new.opt_start_seq),
        ("start time", old.opt_start_time != new.opt_start_time),
        ("ack policy", old.ack_policy != new.ack_policy),
        ("replay policy", old.replay_policy != new.replay_policy),
        ("heart beats", old.idle_heartbeat != new.idle_heartbeat),
        ("flow control", old.flow_control != new.flow_control),
    ] {
        if changed {
            return Err(errors::consumer_create(format_args!("{what} can not be updated")));
        }
    }
    match (old.is_push(), new.is_push()) {
        (false, true) => {
            return Err(errors::consumer_create("can not update pull consumer to push based"));
        }
        (true, false) => {
            return Err(errors::consumer_create("can not update push consumer to pull based"));
        }
        _ => {}
    }
    if old.max_waiting != new.max_waiting {
        return Err(errors::consumer_create("max waiting can not be updated"));
    }
    if old.deliver_subject != new.deliver_subject && has_interest {
        return Err(errors::CONSUMER_NAME_EXIST);
    }
    Ok(())
}
