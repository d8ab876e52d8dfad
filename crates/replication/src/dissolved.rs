//! That a cluster without streams gave itself up for another one that it met.

use linnet_assets::Command;
use serde::{Deserialize, Serialize};

/// Subject under which the catalogue keeps it.
pub(crate) const SUBJECT: &[u8] = b"dissolved";

/// The end of a cluster, as its catalogue stores it. It counts for as long as the catalogue names no stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dissolved {
    /// A server of the other cluster, by name.
    pub met: String,
    /// When that was decided, nanoseconds since the Unix epoch.
    pub at: i64,
}

impl Dissolved {
    /// The command that stores it.
    pub fn store(&self) -> Command {
        // Plain data: writing it to memory cannot fail.
        let payload = serde_json::to_vec(self).expect("an end serialises");
        Command::Append { subject: SUBJECT.to_vec(), payload }
    }
}
