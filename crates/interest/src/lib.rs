//! Who wants a message: the subscriptions of one account by subject.
//!
//! [`Interest`] owns the trie and nothing else: no locks, no connections, no clock. The account that holds it
//! decides on locking and on caching of [`Matches`].

mod matches;
mod trie;

pub use matches::{Matches, QueueMatch};
pub use trie::{Interest, Stats};
