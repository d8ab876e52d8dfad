//! The servers that run on this machine, as far as this user may look at them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use linnet_conf::flags::{self, Action};
use linnet_conf::{Options, Source};

/// Names under which a server may run.
const PROGRAMS: [&str; 2] = ["nats-server", "linnet"];
/// First arguments that make the program something else than a server.
const OTHER_USES: [&str; 3] = ["bench", "store", "up"];

/// Ids of the processes that are servers, but this one.
pub(crate) fn running() -> anyhow::Result<Vec<u32>> {
    let own = std::process::id();
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").context("unable to resolve pid, try providing one")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        if pid != own && is_server(&Process::new(pid)) {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

fn is_server(process: &Process) -> bool {
    let name = std::fs::read_to_string(process.0.join("comm"));
    let is_named = name.is_ok_and(|name| PROGRAMS.contains(&name.trim()));
    is_named && !process.arguments().first().is_some_and(|word| OTHER_USES.contains(&word.as_str()))
}

/// Ids of the servers that have this name: by their flags, else by the configuration they were started with as it is
/// now.
pub(crate) fn named(name: &str) -> anyhow::Result<Vec<u32>> {
    let mut pids = running()?;
    pids.retain(|pid| Process::new(*pid).server_name().as_deref() == Some(name));
    Ok(pids)
}

/// What the system tells of a process, by its directory.
struct Process(PathBuf);

impl Process {
    fn new(pid: u32) -> Self {
        Self(Path::new("/proc").join(pid.to_string()))
    }

    /// Strings with a zero behind each; nothing of a process that is gone or somebody else's.
    fn strings(&self, file: &str) -> Vec<String> {
        let bytes = std::fs::read(self.0.join(file)).unwrap_or_default();
        let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
        parts.map(|part| OsString::from_vec(part.to_vec()).to_string_lossy().into_owned()).collect()
    }

    /// The arguments without the program.
    fn arguments(&self) -> Vec<String> {
        self.strings("cmdline").into_iter().skip(1).collect()
    }

    fn server_name(&self) -> Option<String> {
        let invocation = flags::parse(&self.arguments()).ok()?;
        if invocation.action != Action::Serve {
            return None;
        }
        let mut options = match &invocation.config {
            None => Options::default(),
            Some(path) => linnet_conf::load(path, &ItsView::new(self)?).ok()?.options,
        };
        invocation.overrides.apply(&mut options);
        options.identity.server_name
    }
}

/// Files and variables as another process has them.
struct ItsView {
    dir: PathBuf,
    variables: HashMap<String, String>,
}

impl ItsView {
    fn new(process: &Process) -> Option<Self> {
        let variables = process.strings("environ").into_iter();
        Some(Self {
            dir: std::fs::read_link(process.0.join("cwd")).ok()?,
            variables: variables
                .filter_map(|line| {
                    line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
                })
                .collect(),
        })
    }
}

impl Source for ItsView {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.dir.join(path))
    }

    fn env(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}
