//! The JetStream API as data: JSON types, error table, subjects, and the rules a configuration must keep.
//!
//! Nothing here does I/O, knows a server or keeps state. API handlers decode a request with [`decode`], judge it
//! with [`stream_rules`] and [`consumer_rules`], and encode a body of [`responses`]. Start reading at [`subjects`] for
//! what can be asked and at [`requests`] and [`responses`] for how it looks.

mod binary;
mod json;
mod omit;
mod pub_ack;
mod subject_rules;
#[cfg(test)]
mod testdata;
mod time;

pub mod consumer_config;
pub mod consumer_rules;
pub mod decode;
pub mod errors;
pub mod go_duration;
pub mod info;
pub mod limits;
pub mod metadata;
pub mod policies;
pub mod requests;
pub mod responses;
pub mod stream_config;
pub mod stream_rules;
pub mod subjects;

pub use consumer_config::ConsumerConfig;
pub use decode::{decode_lenient, decode_strict};
pub use errors::ApiError;
pub use json::{append_json, to_json};
pub use pub_ack::{PubAck, write_pub_error};
pub use stream_config::{Metadata, Republish, StreamConfig, StreamSource, SubjectTransform};
pub use time::Nanos;

/// The API level of this server: requests that need a higher one are refused (10185).
pub const API_LEVEL: u64 = 5;
/// The version assets are stamped with, which clients read as the server's.
pub const SERVER_VERSION: &str = "2.15.1";
