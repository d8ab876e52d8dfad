use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::{Result, Server};

/// How long a server may take to be ready, unless told otherwise.
pub(crate) const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// What to start, and when to call it ready.
#[derive(Clone, Debug)]
pub struct Spec {
    pub(crate) program: PathBuf,
    pub(crate) config: Config,
    pub(crate) args: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) dir: Option<PathBuf>,
    pub(crate) scratch: Option<PathBuf>,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) ready: Ready,
    pub(crate) ready_timeout: Duration,
    pub(crate) launcher: Vec<OsString>,
    pub(crate) give_up: Option<Arc<AtomicBool>>,
}

/// The configuration of a server.
#[derive(Clone, Debug)]
pub enum Config {
    /// A whole configuration. `$DIR` stands for the server's directory. A port of -1 lets the system choose.
    Text(String),
    /// Generated from a few choices.
    Options(Options),
}

/// The choices of a generated configuration. Every listener is on the loopback interface.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's name.
    pub name: Option<String>,
    /// The client port; `None` lets the system choose.
    pub port: Option<u16>,
    /// Whether there is a monitoring listener (on a port the system chooses).
    pub monitor: bool,
    /// JetStream, if it is to be on.
    pub jetstream: Option<JetStream>,
    /// More configuration, added at the end as it is. `$DIR` stands for the server's directory.
    pub extra: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { name: None, port: None, monitor: true, jetstream: None, extra: String::new() }
    }
}

/// The JetStream part of a generated configuration.
#[derive(Clone, Debug, Default)]
pub struct JetStream {
    /// Where the store is; `None` is `store` in the server's directory.
    pub store_dir: Option<PathBuf>,
    /// When writes reach stable storage.
    pub sync: SyncMode,
    /// More configuration inside of the block.
    pub extra: String,
}

/// When a server's writes reach stable storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Whatever the server does when its configuration does not say.
    #[default]
    ServerDefault,
    /// Before they are acknowledged.
    Always,
    /// Every two minutes.
    Lazy,
}

/// When a server counts as started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ready {
    /// A client connection gets the server's INFO.
    #[default]
    Info,
    /// The ports file, for servers that do not begin with INFO.
    Listening,
    /// INFO, and `/healthz` answers 200.
    Healthz,
}

impl Spec {
    /// A server of this program with default options in a temporary directory.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            config: Config::Options(Options::default()),
            args: Vec::new(),
            env: Vec::new(),
            dir: None,
            scratch: None,
            log_file: None,
            ready: Ready::default(),
            ready_timeout: READY_TIMEOUT,
            launcher: Vec::new(),
            give_up: None,
        }
    }

    /// Generates the configuration from these options.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.config = Config::Options(options);
        self
    }

    /// Uses this configuration text.
    #[must_use]
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.config = Config::Text(text.into());
        self
    }

    /// Adds a command-line argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets an environment variable of the process.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Keeps configuration, log and store in this directory, which is created if needed and never removed.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = Some(dir.into());
        self
    }

    /// Makes the temporary directory below this one instead of the system's. It has no effect with [`Spec::dir`].
    #[must_use]
    pub fn scratch(mut self, parent: impl Into<PathBuf>) -> Self {
        self.scratch = Some(parent.into());
        self
    }

    /// Writes the process's output here instead of to `server.log` in its directory.
    #[must_use]
    pub fn log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_file = Some(path.into());
        self
    }

    /// What to wait for, and how long (ten seconds unless told otherwise).
    #[must_use]
    pub fn ready(mut self, ready: Ready, timeout: Duration) -> Self {
        self.ready = ready;
        self.ready_timeout = timeout;
        self
    }

    /// Starts the program through this command, which gets the program and its arguments behind its own and has to become
    /// the program (as `exec` does), so that the process id stays. The process is then in a process group of its own:
    /// what is typed at a terminal does not reach it.
    #[must_use]
    pub fn launcher(mut self, command: impl IntoIterator<Item = OsString>) -> Self {
        self.launcher = command.into_iter().collect();
        self
    }

    /// Ends waiting with [`crate::Error::GivenUp`] once this is true.
    #[must_use]
    pub fn give_up_when(mut self, flag: Arc<AtomicBool>) -> Self {
        self.give_up = Some(flag);
        self
    }

    /// Starts the process and waits until it is ready. On failure the process is killed and the error carries the end
    /// of its log.
    pub fn start(self) -> Result<Server> {
        Server::start(self)
    }
}

impl Config {
    pub(crate) fn render(&self, dir: &Path) -> String {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Options(options) => options.render(dir),
        };
        text.replace("$DIR", &dir.display().to_string())
    }
}

impl Options {
    fn render(&self, dir: &Path) -> String {
        let mut text = String::new();
        let port = self.port.map_or(-1, i32::from);
        let _ = writeln!(text, "listen: \"127.0.0.1:{port}\"");
        if let Some(name) = &self.name {
            let _ = writeln!(text, "server_name: \"{name}\"");
        }
        if self.monitor {
            let _ = writeln!(text, "http: \"127.0.0.1:-1\"");
        }
        if let Some(jetstream) = &self.jetstream {
            let _ = writeln!(text, "{}", jetstream.render(&dir.join("store").display().to_string()));
        }
        text.push_str(&self.extra);
        text.push('\n');
        text
    }
}

impl JetStream {
    /// The block, with this directory unless another is chosen.
    pub(crate) fn render(&self, default_dir: &str) -> String {
        let chosen = self.store_dir.as_ref().map(|dir| dir.display().to_string());
        let sync = match self.sync {
            SyncMode::ServerDefault => "",
            SyncMode::Always => ", sync_interval: always",
            SyncMode::Lazy => ", sync_interval: \"2m\"",
        };
        let comma = if self.extra.is_empty() { "" } else { ", " };
        let dir = chosen.as_deref().unwrap_or(default_dir);
        format!("jetstream {{ store_dir: \"{dir}\"{sync}{comma}{} }}", self.extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_configuration() {
        let options = Options {
            name: Some("a".into()),
            port: Some(4222),
            monitor: false,
            jetstream: Some(JetStream { sync: SyncMode::Always, ..JetStream::default() }),
            extra: "pid_file: \"$DIR/pid\"".into(),
        };
        assert_eq!(
            Config::Options(options).render(Path::new("/d")),
            "listen: \"127.0.0.1:4222\"\nserver_name: \"a\"\n\
             jetstream { store_dir: \"/d/store\", sync_interval: always }\npid_file: \"/d/pid\"\n"
        );
    }

    #[test]
    fn default_options_leave_ports_to_the_system() {
        let text = Config::Options(Options::default()).render(Path::new("/d"));
        assert_eq!(text, "listen: \"127.0.0.1:-1\"\nhttp: \"127.0.0.1:-1\"\n\n");
    }
}
