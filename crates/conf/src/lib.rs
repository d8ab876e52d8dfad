//! Configuration: the language, the options it sets, the server's flags, and what a reload may change.
//!
//! This crate turns text into data and never acts on it: no sockets, no clock, no output. Files and environment
//! come through [`Source`]; whoever calls prints, exits and starts things.
//!
//! [`load`] reads a file ([`lang`]) into [`Options`], [`flags`] are laid over them, [`check`] judges the whole.
//! The tables beside each section of [`options`] are where to begin reading.

mod check;
mod diagnostic;
mod diff;
mod duration;
pub mod flags;
pub mod lang;
mod load;
pub mod options;
mod read;
mod report;
mod secret;
mod source;
mod subject;
mod suggest;
mod table;

pub use check::{CheckError, check};
pub use diagnostic::Diagnostic;
pub use diff::{Change, diff};
pub use duration::show as show_duration;
pub use load::{Parsed, Rejected, interpret, load};
pub use options::Options;
pub use read::Port;
pub use report::Explicit;
pub use secret::Secret;
pub use source::{ProcessSource, Source};
pub use table::{Key, Reload, Support};
