//! `linnet up`: a local cluster of child processes to try things on, and faults rehearsed on it.
//!
//! [`run`] owns the servers. It is the only one who signals them, so that no process id is ever used after its process has
//! ended: [`ask`], which another process calls, sends what it wants over a socket in the cluster's directory. One `run`
//! holds the lock of a directory; which directories are in use stands in the user's runtime directory, for those who do
//! not name one.
//!
//! The servers do not outlive `run`, however it ends: each is started through [`become_server`], which ties its life to
//! that of the main thread. Start reading at `session`.

mod children;
mod control;
mod error;
mod events;
mod home;
mod plan;
mod registry;
mod request;
mod session;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;

pub use children::become_server;
pub use error::{Error, Result};
pub use plan::Binary;
pub use request::{Fault, Request, ask};
pub use session::run;

/// What to bring up.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many servers; as many as the directory has, or three, if not said.
    pub servers: Option<u16>,
    /// Where everything is kept; a temporary directory if not said.
    pub dir: Option<PathBuf>,
    /// Client port of the first server, followed by those of the others; free ones if not said.
    pub port: Option<u16>,
    /// Servers that are of another program.
    pub binaries: Vec<Binary>,
    /// The program of all others.
    pub program: PathBuf,
    /// The command that calls [`become_server`] with the process id that follows, and the program and arguments behind it.
    pub launcher: Vec<OsString>,
}
