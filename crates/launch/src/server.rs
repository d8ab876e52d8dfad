use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use crate::{Deadline, Error, HttpResponse, Ports, Ready, Result, Spec, http_get, poll_until, process};

/// How much of the end of a log is put into an error.
const LOG_TAIL_BYTES: u64 = 4096;

/// How long one attempt to talk to a starting server may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a killed process may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server process and its directory.
///
/// Dropping it kills the process; a temporary directory is removed with it.
#[derive(Debug)]
pub struct Server {
    spec: Spec,
    dir: PathBuf,
    log_file: PathBuf,
    child: Option<Child>,
    pid: u32,
    ports: Ports,
    ended: Option<ExitStatus>,
    /// Removed when dropped, after the process.
    _temp_dir: Option<TempDir>,
}

/// What a server process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It is stopped by a signal and keeps its connections.
    Paused,
    /// It has ended; the status is unknown if asking for it failed.
    Ended(Option<ExitStatus>),
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user and kernel mode, all threads.
    pub cpu: Duration,
    /// Resident memory now.
    pub rss_bytes: u64,
}

impl Server {
    pub(crate) fn start(spec: Spec) -> Result<Self> {
        let (dir, temp_dir) = directory(&spec)?;
        let log_file = spec.log_file.clone().unwrap_or_else(|| dir.join("server.log"));
        let (ports, ended) = (Ports::default(), None);
        let mut server = Self { spec, dir, log_file, child: None, pid: 0, ports, ended, _temp_dir: temp_dir };
        server.spawn()?;
        Ok(server)
    }

    /// Starts the process again in the same directory and with the same options, after it has ended. Ports the system
    /// chose are chosen anew.
    pub fn restart(&mut self) -> Result<()> {
        if self.child.is_some() {
            self.kill()?;
        }
        self.spawn()
    }

    fn spawn(&mut self) -> Result<()> {
        let config_file = self.dir.join("server.conf");
        let config = self.spec.config.render(&self.dir);
        write_private(&config_file, &config).map_err(Error::file(&config_file))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log_file)
            .map_err(Error::file(&self.log_file))?;
        let log_too = log.try_clone().map_err(Error::file(&self.log_file))?;
        let child = self
            .command()
            .arg("-c")
            .arg(&config_file)
            .arg("--ports_file_dir")
            .arg(&self.dir)
            .args(&self.spec.args)
            .envs(self.spec.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(|source| Error::Spawn { program: self.spec.program.clone(), source })?;
        self.pid = child.id();
        self.child = Some(child);
        self.ended = None;
        self.wait_ready().inspect_err(|_| {
            // The first error is the one to report; a process that is gone already is no second one.
            let _ = self.kill();
        })
    }

    fn command(&self) -> Command {
        let Some((launcher, arguments)) = self.spec.launcher.split_first() else {
            return Command::new(&self.spec.program);
        };
        let mut command = Command::new(launcher);
        command.args(arguments).arg(&self.spec.program).process_group(0);
        command
    }

    fn is_given_up(&self) -> bool {
        self.spec.give_up.as_deref().is_some_and(|flag: &AtomicBool| flag.load(Ordering::Relaxed))
    }

    fn wait_ready(&mut self) -> Result<()> {
        let waited = self.spec.ready_timeout;
        let mut missing = "no ports file";
        let mut ended = None;
        let ready = poll_until(waited, || {
            ended = self.try_wait();
            if ended.is_some() || self.is_given_up() {
                return true;
            }
            match self.first_missing() {
                Some(what) => missing = what,
                None => return true,
            }
            false
        });
        match (ended, ready) {
            (Some(status), _) => Err(Error::Ended {
                program: self.spec.program.clone(),
                status: status?,
                log_tail: self.log_tail(),
            }),
            (None, _) if self.is_given_up() => Err(Error::GivenUp),
            (None, true) => Ok(()),
            (None, false) => Err(Error::NotReady {
                program: self.spec.program.clone(),
                waited,
                missing,
                log_tail: self.log_tail(),
            }),
        }
    }

    /// The first step of being ready that has not happened yet.
    fn first_missing(&mut self) -> Option<&'static str> {
        let Some(ports) = Ports::read(&self.dir, self.pid) else { return Some("no ports file") };
        self.ports = ports;
        let Ok(client) = self.client_addr() else { return Some("no client listener") };
        if self.spec.ready != Ready::Listening && !sends_info(client) {
            return Some("no INFO on a client connection");
        }
        if self.spec.ready == Ready::Healthz && !self.is_healthy() {
            return Some("/healthz does not answer 200");
        }
        None
    }

    fn is_healthy(&self) -> bool {
        self.monitor_get("/healthz").is_ok_and(|response| response.status == 200)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The directory of the configuration (`server.conf`), the log and, unless told otherwise, the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All addresses the server listens on.
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Where clients connect.
    pub fn client_addr(&self) -> Result<SocketAddr> {
        self.ports.client.first().copied().ok_or(Error::NoListener("client"))
    }

    /// Where clients connect, as a URL.
    pub fn client_url(&self) -> Result<String> {
        Ok(format!("nats://{}", self.client_addr()?))
    }

    /// Where the monitoring pages are.
    pub fn monitor_addr(&self) -> Result<SocketAddr> {
        self.ports.monitor.first().copied().ok_or(Error::NoListener("monitoring"))
    }

    /// Gets a monitoring page.
    pub fn monitor_get(&self, path: &str) -> Result<HttpResponse> {
        http_get(self.monitor_addr()?, path, PROBE_TIMEOUT)
    }

    /// The file with everything the process printed.
    pub fn log_file(&self) -> &Path {
        &self.log_file
    }

    /// The end of the log, empty if it cannot be read.
    pub fn log_tail(&self) -> String {
        tail(&self.log_file).unwrap_or_default()
    }

    /// Processor time and memory of the process.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage { cpu: process::cpu_time(self.pid)?, rss_bytes: process::rss_bytes(self.pid)? })
    }

    /// Whether the process runs (or is paused).
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.try_wait().is_none()
    }

    /// What the process does now.
    pub fn state(&mut self) -> State {
        if !self.is_running() {
            return State::Ended(self.ended);
        }
        if process::is_stopped(self.pid) { State::Paused } else { State::Running }
    }

    /// Stops the process at once, as a crash would, and waits until it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.wait_end(KILL_TIMEOUT)
    }

    /// Asks the process to stop and waits until it has. One that is paused continues for that.
    pub fn terminate(&mut self, timeout: Duration) -> Result<ExitStatus> {
        self.request_stop()?;
        self.wait_end(timeout)
    }

    /// Asks the process to stop and does not wait.
    pub(crate) fn request_stop(&self) -> Result<()> {
        self.signal(Signal::TERM)?;
        // A paused one takes it when it continues.
        self.signal(Signal::CONT)
    }

    /// Freezes the process: it keeps its connections and does nothing. Returns once every thread has stopped.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        if poll_until(KILL_TIMEOUT, || process::is_stopped(self.pid)) {
            return Ok(());
        }
        Err(Error::StillRunning { pid: self.pid, waited: KILL_TIMEOUT })
    }

    /// Lets a paused process continue. Returns once it does.
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)?;
        if poll_until(KILL_TIMEOUT, || !process::is_stopped(self.pid)) {
            return Ok(());
        }
        Err(Error::StillPaused { pid: self.pid, waited: KILL_TIMEOUT })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().ok_or(Error::NotRunning)?;
        let sent = rustix::process::kill_process(Pid::from_child(child), signal);
        sent.map_err(|errno| self.process_error(errno.into()))
    }

    /// Waits until the process ends by itself or from a signal.
    pub fn wait_end(&mut self, timeout: Duration) -> Result<ExitStatus> {
        if self.child.is_none() {
            return Err(Error::NotRunning);
        }
        let mut ended = None;
        poll_until(timeout, || {
            ended = self.try_wait();
            ended.is_some()
        });
        ended.unwrap_or(Err(Error::StillRunning { pid: self.pid, waited: timeout }))
    }

    /// The exit status if the process has ended; it is then reaped, and its id is no longer signalled.
    fn try_wait(&mut self) -> Option<Result<ExitStatus>> {
        let status = self.child.as_mut()?.try_wait().transpose()?;
        self.child = None;
        self.ended = status.as_ref().ok().copied();
        Some(status.map_err(|source| self.process_error(source)))
    }

    fn process_error(&self, source: std::io::Error) -> Error {
        Error::Process { pid: self.pid, source }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            // Nothing can be done about a process that cannot be killed.
            let _ = self.kill();
        }
    }
}

fn directory(spec: &Spec) -> Result<(PathBuf, Option<TempDir>)> {
    if let Some(dir) = &spec.dir {
        fs::create_dir_all(dir).map_err(Error::file(dir))?;
        let dir = fs::canonicalize(dir).map_err(Error::file(dir))?;
        return Ok((dir, None));
    }
    let parent = spec.scratch.clone().unwrap_or_else(std::env::temp_dir);
    let temp_dir = tempfile::Builder::new()
        .prefix("linnet-launch-")
        .tempdir_in(&parent)
        .map_err(Error::file(&parent))?;
    Ok((temp_dir.path().to_owned(), Some(temp_dir)))
}

/// Writes a file that others cannot read: there may be passwords in it.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = File::options();
    let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

fn sends_info(addr: SocketAddr) -> bool {
    let deadline = Deadline::after(PROBE_TIMEOUT);
    let Ok(stream) = TcpStream::connect_timeout(&addr, PROBE_TIMEOUT) else { return false };
    if stream.set_read_timeout(Some(deadline.remaining().max(Duration::from_millis(1)))).is_err() {
        return false;
    }
    let mut line = Vec::new();
    let read = BufReader::new(stream).take(64 * 1024).read_until(b'\n', &mut line);
    read.is_ok() && line.starts_with(b"INFO ")
}

fn tail(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
