//! Server processes: start one with a generated or given configuration, wait until it serves, watch its processor
//! time and memory, pause it, stop it, kill it.
//!
//! The program may be Linnet or nats-server: only flags, configuration keys and files that both know are used
//! (`-c`, `--ports_file_dir`). Everything is synchronous, so that tests, the load generator and command-line tools can
//! use it without a runtime. It never waits a fixed time for something to be true: it polls with a deadline.
//!
//! Describe a server with [`Spec`], start it with [`Spec::start`], and hold the [`Server`]: dropping it kills the
//! process and removes its temporary directory. Several servers that know each other are described by [`ClusterSpec`] and
//! held as a [`Cluster`].

mod cluster;
mod deadline;
mod error;
mod http;
mod ports;
mod process;
mod server;
mod spec;

pub use cluster::{Cluster, ClusterSpec, Dial, Login, Member, MemberPorts, Place};
pub use deadline::{Deadline, poll_until};
pub use error::{Error, Result};
pub use http::{HttpResponse, http_get};
pub use ports::{Ports, free_port, lasting_ports};
pub use server::{Server, State, Usage};
pub use spec::{Config, JetStream, Options, Ready, Spec, SyncMode};
