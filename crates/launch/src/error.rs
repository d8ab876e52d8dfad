use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// The result of an operation on a server process.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a server process could not be started, asked or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the server could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The program could not be executed.
    #[error("cannot start {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The process ended before it was ready.
    #[error("{} ended with {status} before it was ready; its log ends with:\n{log_tail}", program.display())]
    Ended {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output.
        log_tail: String,
    },
    /// The process runs, but did not become ready in time.
    #[error("{} was not ready after {waited:?} ({missing}); its log ends with:\n{log_tail}", program.display())]
    NotReady {
        /// The program.
        program: PathBuf,
        /// The time it was given.
        waited: Duration,
        /// The first thing it did not do.
        missing: &'static str,
        /// The last lines of its output.
        log_tail: String,
    },
    /// The process was told to stop and did not.
    #[error("process {pid} was still running {waited:?} after it was told to stop")]
    StillRunning {
        /// The process.
        pid: u32,
        /// The time it was given.
        waited: Duration,
    },
    /// The process was told to continue and did not.
    #[error("process {pid} was still stopped {waited:?} after it was told to continue")]
    StillPaused {
        /// The process.
        pid: u32,
        /// The time it was given.
        waited: Duration,
    },
    /// Waiting was ended from outside.
    #[error("interrupted")]
    GivenUp,
    /// One server of a cluster failed.
    #[error("{name}: {source}")]
    Member {
        /// Its name.
        name: String,
        /// How.
        source: Box<Self>,
    },
    /// A cluster has no server of this name.
    #[error("there is no server {name:?}; there are {}", known.join(", "))]
    NoSuchMember {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// Servers of a cluster did not find each other.
    #[error("the routes were not complete after {waited:?}: {missing}")]
    NotFormed {
        /// The time they were given.
        waited: Duration,
        /// The first server that lacks routes, and which.
        missing: String,
    },
    /// A port that a server is to have is not free.
    #[error("port {port} for {purpose} cannot be used: {source}")]
    Port {
        /// The port.
        port: u16,
        /// Who connects there.
        purpose: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
    /// No free ports were found.
    #[error("no free ports: {0}")]
    NoPorts(io::Error),
    /// A cluster cannot be described like this.
    #[error("{0}")]
    Description(String),
    /// The process has ended already.
    #[error("the server process is not running")]
    NotRunning,
    /// A signal or a wait failed.
    #[error("process {pid}: {source}")]
    Process {
        /// The process.
        pid: u32,
        /// What the operating system said.
        source: io::Error,
    },
    /// The server has no listener of this kind.
    #[error("the server has no {0} listener")]
    NoListener(&'static str),
    /// A connection to the server failed.
    #[error("{addr}: {source}")]
    Connection {
        /// The listener's address.
        addr: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Says which server of a cluster it was.
    pub(crate) fn member(name: &str) -> impl FnOnce(Self) -> Self {
        |source| Self::Member { name: name.to_owned(), source: Box::new(source) }
    }

    pub(crate) fn connection(addr: SocketAddr) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Connection { addr, source }
    }
}
