//! Which consumer configurations are accepted, in what shape, and what may change. The order of the checks decides
//! which of several errors a client sees, so it is nats-server's (`server/consumer.go`).

mod config;
mod create;
mod sourcing;
mod update;

pub use config::{check_replicas_supported, normalize_and_check};
pub use create::{
    ConsumerCreate, Consumers, ExistingConsumer, SubjectForm, apply_subject_form, check_create,
};
pub use sourcing::adapt_to_origin;
pub use update::same_config;

#[cfg(test)]
mod tests;
