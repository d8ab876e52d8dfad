//! What can be configured in NATS and is not built yet. Such a configuration is refused rather than half obeyed. To
//! support a feature, delete its line.

use crate::consumer_config::ConsumerConfig;
use crate::errors::{self, ApiError};
use crate::policies::AckPolicy;
use crate::stream_config::StreamConfig;

type Row<T> = (&'static str, fn(&T) -> bool);

const STREAM: &[Row<StreamConfig>] =
    &[("sources of a counter stream", |c| !c.sources.is_empty() && c.allow_msg_counter)];

const CONSUMER: &[Row<ConsumerConfig>] =
    &[("ack_policy flow_control", |c| c.ack_policy == AckPolicy::FlowControl)];

/// Refuses a stream with a feature that is not built yet.
pub(crate) fn check_stream(config: &StreamConfig) -> Result<(), ApiError> {
    check(STREAM, config)
}

/// Refuses a consumer with a feature that is not built yet.
pub(crate) fn check_consumer(config: &ConsumerConfig) -> Result<(), ApiError> {
    check(CONSUMER, config)
}

fn check<T>(table: &[Row<T>], config: &T) -> Result<(), ApiError> {
    match table.iter().find(|(_, used)| used(config)) {
        None => Ok(()),
        Some((field, _)) => Err(errors::stream_invalid_config(format_args!("{field} is not supported yet"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_a_field_and_refuses_it() {
        let json = r#"{"sources":[{"name":"o"}],"allow_msg_counter":true}"#;
        let error = check_stream(&crate::decode_strict(json.as_bytes()).unwrap()).unwrap_err();
        assert_refused(&error, json);
        let json = r#"{"ack_policy":"flow_control"}"#;
        let error = check_consumer(&crate::decode_strict(json.as_bytes()).unwrap()).unwrap_err();
        assert_refused(&error, json);
        assert!(check_stream(&StreamConfig::default()).is_ok());
        assert!(check_consumer(&ConsumerConfig::default()).is_ok());
    }

    fn assert_refused(error: &ApiError, json: &str) {
        assert_eq!((error.code, error.err_code), (500, 10052), "{json}");
        let field = error.description.strip_suffix(" is not supported yet").unwrap();
        let name = field.split(' ').next().unwrap();
        assert!(json.contains(&format!("\"{name}\"")), "{json}: {field}");
    }
}
