use std::io;
use std::path::PathBuf;

/// The result of an operation on a local cluster.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a local cluster could not be started or asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has the directory.
    #[error("{} is in use by another linnet up{}", dir.display(), holder.as_ref().map(|pid| format!(", process {pid}")).unwrap_or_default())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Process id of the other one, unless it has not told it yet.
        holder: Option<String>,
    },
    /// The directory belongs to something else.
    #[error("{} is not empty and has no cluster of linnet up in it", .0.display())]
    NotOurs(PathBuf),
    /// The file that describes the cluster cannot be understood.
    #[error("{} cannot be understood: {source}", path.display())]
    Saved {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The directory has another number of servers.
    #[error("{} has a cluster of {found} servers; --servers {asked} does not fit", dir.display())]
    Count {
        /// The directory.
        dir: PathBuf,
        /// How many it has.
        found: usize,
        /// How many were asked for.
        asked: u16,
    },
    /// The directory has other ports.
    #[error("{} has a cluster whose first client port is {found}; --port {asked} does not fit", dir.display())]
    OtherPort {
        /// The directory.
        dir: PathBuf,
        /// The port it has.
        found: u16,
        /// The port asked for.
        asked: u16,
    },
    /// There are not that many ports behind the first.
    #[error("--port {0}: there are not enough ports behind it")]
    PortRange(u16),
    /// `--binary` names no server.
    #[error("--binary {name}=…: there is no server {name:?}; there are {}", known.join(", "))]
    UnknownServer {
        /// The name given.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// A program cannot be used.
    #[error("--binary {name}={}: {source}", path.display())]
    Binary {
        /// The server.
        name: String,
        /// The program.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The servers could not be started.
    #[error(transparent)]
    Launch(#[from] linnet_launch::Error),
    /// Signals or threads are not to be had.
    #[error("cannot listen to signals: {0}")]
    Events(io::Error),
    /// Nothing can be shown any more.
    #[error("cannot show the cluster: {0}")]
    Output(io::Error),
    /// No cluster runs there.
    #[error("no linnet up runs in {}", .0.display())]
    NotThere(PathBuf),
    /// No cluster runs.
    #[error("no linnet up is found to be running; --dir names the directory of one")]
    NoneRuns,
    /// More than one cluster runs.
    #[error("more than one linnet up runs; --dir chooses among {}", dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(", "))]
    SeveralRun {
        /// Their directories.
        dirs: Vec<PathBuf>,
    },
    /// The other process broke off.
    #[error("linnet up in {} did not answer: {source}", dir.display())]
    NoAnswer {
        /// Its directory.
        dir: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The other process cannot do what was asked.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
