//! What another process can ask a running cluster for.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, control, registry};

/// What to do to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fault {
    /// End it at once, as a crash would.
    Kill,
    /// Freeze it: it keeps its connections and does nothing.
    Pause,
    /// Let it continue.
    Resume,
    /// Stop it if it runs, and start it again.
    Restart,
}

/// A fault and the server it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub fault: Fault,
    /// The server's name.
    pub server: String,
}

/// Asks the cluster of this directory, or the only one that runs, and returns what it says it has done.
pub fn ask(dir: Option<&Path>, request: &Request) -> Result<String> {
    match dir {
        Some(dir) => control::ask(dir, request),
        None => {
            let mut running = registry::running()?;
            match running.len() {
                0 => Err(Error::NoneRuns),
                1 => control::ask(&running.remove(0), request),
                _ => Err(Error::SeveralRun { dirs: running }),
            }
        }
    }
}
