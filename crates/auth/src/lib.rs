//! Who a connection is and what it may do. Decisions only: no sockets, no timers; verifying a bcrypt password is
//! slow on purpose, so the caller picks the thread ([`Authenticator::is_slow`]).

mod authenticator;
mod certificate;
mod dn;
mod permissions;
mod secret;

pub use authenticator::{Authenticator, Credentials, Identity, Recheck, User};
pub use certificate::CertificateNames;
pub use dn::Dn;
pub use permissions::{Permissions, ResponseRule, Rules, SubscribeVerdict};
pub use secret::Secret;
