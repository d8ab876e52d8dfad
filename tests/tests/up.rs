//! `linnet up`: a local cluster as child processes, faults from another terminal, and what is left afterwards.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use futures_util::StreamExt as _;
use linnet_launch::{http_get, lasting_ports, poll_until};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Kind, LONG, eventually, nats_cli, program, round_trip, run, within};

/// A `linnet up` that runs, with its output in files.
struct Up {
    child: Child,
    files: TempDir,
    runtime: PathBuf,
}

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    name: String,
    client: String,
    monitor: SocketAddr,
    pid: Option<i32>,
    state: String,
}

fn linnet() -> PathBuf {
    program(Kind::Linnet).unwrap()
}

impl Up {
    /// Starts it and waits until the cluster is shown.
    fn start(runtime: &Path, arguments: &[&str]) -> Self {
        let up = Self::begin(runtime, arguments);
        up.shows("Ctrl-C");
        up
    }

    fn begin(runtime: &Path, arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(files.path().join(name)).unwrap();
        let (out, err) = (file("out"), file("err"));
        let mut command = Command::new(linnet());
        command.arg("up").args(arguments).env("XDG_RUNTIME_DIR", runtime).stdin(Stdio::null());
        // Its temporary directory is below this one, so that what is left can be seen.
        command.env("TMPDIR", files.path());
        let child = command.stdout(out).stderr(err).spawn().unwrap();
        Self { child, files, runtime: runtime.to_owned() }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.files.path().join(name)).unwrap()
    }

    fn shows(&self, text: &str) {
        let is_shown = poll_until(LONG, || self.text("out").contains(text));
        assert!(is_shown, "no {text:?} in:\n{}{}", self.text("out"), self.text("err"));
    }

    /// The newest table.
    fn rows(&self) -> Vec<Row> {
        let text = self.text("out");
        let from = text.rfind("\nNAME ").unwrap();
        let lines = text[from..].trim_start().lines().skip(1).take_while(|line| !line.is_empty());
        let row = |line: &str| {
            // Two blanks or more stand between columns.
            let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
            let (client, monitor) = (cells[1].to_owned(), cells[2].strip_prefix("http://").unwrap());
            let (pid, state) = (cells[3].parse().ok(), cells[4].to_owned());
            Row { name: cells[0].to_owned(), client, monitor: monitor.parse().unwrap(), pid, state }
        };
        lines.map(row).collect()
    }

    /// Waits until the newest table has these states.
    fn has(&self, states: &[&str]) -> Vec<Row> {
        let is_so = || self.rows().iter().map(|row| row.state.clone()).eq(states.iter().copied());
        assert!(poll_until(LONG, is_so), "not {states:?}:\n{}", self.text("out"));
        self.rows()
    }

    /// What stands behind this word at the beginning of a line.
    fn hint(&self, word: &str) -> String {
        let text = self.text("out");
        let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        line.trim().to_owned()
    }

    /// Asks from another terminal.
    fn ask(&self, arguments: &[&str]) -> Output {
        ask(&self.runtime, arguments)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it as Ctrl-C does; all it has started have ended then.
    fn stop(mut self, signal: Signal) {
        let servers = self.rows();
        self.signal(signal);
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}{}", self.text("out"), self.text("err"));
        assert!(self.text("out").ends_with("all servers have stopped\n"), "{}", self.text("out"));
        assert!(servers.iter().all(|row| row.pid.is_none_or(|pid| !runs(pid))), "{servers:?}");
        self.leaves_nothing();
    }

    fn leaves_nothing(&self) {
        let mut left: Vec<_> =
            fs::read_dir(self.files.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["err", "out"], "the temporary directory is gone");
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // One that was waited for is not signalled any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ask(runtime: &Path, arguments: &[&str]) -> Output {
    Command::new(linnet()).arg("up").args(arguments).env("XDG_RUNTIME_DIR", runtime).output().unwrap()
}

fn out(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", err(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What it says of why it fails with this code.
fn refused(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", err(output));
    err(output)
}

fn runs(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn pids(rows: &[Row]) -> Vec<i32> {
    rows.iter().map(|row| row.pid.unwrap()).collect()
}

async fn connect(row: &Row) -> async_nats::Client {
    within("connect", async_nats::connect(&row.client)).await.unwrap()
}

/// Whether what is published at `from` reaches a subscriber at `to`.
async fn carries(from: &Row, to: &Row) {
    let (publisher, subscriber) = (connect(from).await, connect(to).await);
    let mut messages = subscriber.subscribe("across").await.unwrap();
    round_trip(&subscriber).await;
    eventually("a message from one server to the other", async || {
        publisher.publish("across", "x".into()).await.unwrap();
        let wait = tokio::time::timeout(std::time::Duration::from_millis(50), messages.next());
        wait.await.ok().flatten()
    })
    .await;
}

#[test]
fn three_servers_are_a_cluster_until_it_is_interrupted() {
    let runtime = tempfile::tempdir().unwrap();
    let up = Up::start(runtime.path(), &["--servers", "3"]);
    let rows = up.has(&["running"; 3]);
    assert_eq!(rows.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["n1", "n2", "n3"]);
    run(async || {
        for from in &rows {
            for to in &rows {
                carries(from, to).await;
            }
        }
    });
    // The hints are commands that work.
    if let Some(cli) = nats_cli() {
        let with = |hint: &str| {
            let words = hint.split_ascii_whitespace().skip(1);
            Command::new(&cli).args(words).output().unwrap()
        };
        let hint = up.hint("System");
        let list = out(&with(&hint));
        assert!(["n1", "n2", "n3"].iter().all(|name| list.contains(name)), "{hint}: {list}");
        let (_, rest) = hint.split_once('@').unwrap();
        assert_ne!(with(&format!("nats --server nats://sys:wrong@{rest}")).status.code(), Some(0));
        let listens = up.hint("Clients").replace("sub hello", "pub hello world");
        assert_eq!(with(&listens).status.code(), Some(0), "{listens}");
        let servers = listens.replace("pub hello world", "stream add S --subjects s --defaults --replicas 3");
        let made = with(&servers);
        assert_eq!(made.status.code(), Some(0), "{servers}: {}", out(&made));
    }
    up.stop(Signal::INT);
}

#[test]
fn it_can_be_interrupted_while_servers_start() {
    let runtime = tempfile::tempdir().unwrap();
    let mut up = Up::begin(runtime.path(), &["--servers", "32"]);
    // The first one listens: its file tells its process.
    let first = || {
        let home =
            fs::read_dir(up.files.path()).unwrap().map(|entry| entry.unwrap().path()).find(|p| p.is_dir());
        let files = fs::read_dir(home?.join("n1")).ok()?.map(|entry| entry.unwrap().file_name());
        let ports = files.filter_map(|name| Some(name.to_str()?.strip_suffix(".ports")?.to_owned())).next();
        ports?.rsplit_once('_')?.1.parse::<i32>().ok()
    };
    assert!(poll_until(LONG, || first().is_some()), "{}", up.text("err"));
    let pid = first().unwrap();
    up.signal(Signal::INT);
    let status = up.child.wait().unwrap();
    assert_eq!((status.code(), up.text("out").as_str(), up.text("err").as_str()), (Some(0), "", ""));
    assert!(!runs(pid));
    up.leaves_nothing();
}

#[test]
fn faults_from_another_terminal_are_shown() {
    let runtime = tempfile::tempdir().unwrap();
    let up = Up::start(runtime.path(), &[]);
    let before = up.has(&["running"; 3]);
    assert_eq!(out(&up.ask(&["kill", "n2"])), "n2 is killed\n");
    up.has(&["running", "ended, signal: 9 (SIGKILL)", "running"]);
    assert!(!runs(before[1].pid.unwrap()));
    up.shows("Route connection created");
    assert!(refused(&up.ask(&["kill", "n2"]), 1).contains("n2 is not running"));
    assert_eq!(out(&up.ask(&["pause", "n1"])), "n1 is paused\n");
    up.has(&["paused", "ended, signal: 9 (SIGKILL)", "running"]);
    assert!(http_get(before[0].monitor, "/varz", std::time::Duration::from_millis(200)).is_err());
    assert!(refused(&up.ask(&["pause", "n1"]), 1).contains("n1 is paused already"));
    assert_eq!(out(&up.ask(&["restart", "n2"])), "n2 is restarted\n");
    assert_eq!(out(&up.ask(&["resume", "n1"])), "n1 continues\n");
    assert!(refused(&up.ask(&["resume", "n1"]), 1).contains("n1 is not paused"));
    let after = up.has(&["running"; 3]);
    assert_eq!(out(&up.ask(&["restart", "n3"])), "n3 is restarted\n");
    let last = up.has(&["running"; 3]);
    assert_eq!((pids(&after)[0], pids(&after)[2]), (pids(&before)[0], pids(&before)[2]));
    assert!(pids(&last)[1] != pids(&before)[1] && pids(&last)[2] != pids(&after)[2]);
    let places = |rows: &[Row]| rows.iter().map(|row| (row.client.clone(), row.monitor)).collect::<Vec<_>>();
    assert_eq!(places(&last), places(&before));
    run(async || carries(&last[1], &last[2]).await);
    let unknown = refused(&up.ask(&["pause", "n4"]), 1);
    assert!(unknown.contains("there is no server \"n4\"; there are n1, n2, n3"), "{unknown}");
    up.stop(Signal::TERM);
}

#[test]
fn what_happens_to_servers_by_themselves_is_shown() {
    let runtime = tempfile::tempdir().unwrap();
    let up = Up::start(runtime.path(), &["--servers", "2"]);
    let pids = pids(&up.rows());
    let signal = |at: usize, signal| kill_process(Pid::from_raw(pids[at]).unwrap(), signal).unwrap();
    signal(0, Signal::STOP);
    up.has(&["paused", "running"]);
    signal(0, Signal::CONT);
    up.has(&["running", "running"]);
    signal(1, Signal::TERM);
    up.has(&["running", "ended, exit status: 0"]);
    up.shows("    [");
    up.stop(Signal::HUP);
}

#[test]
fn a_directory_is_kept_and_used_by_one() {
    let (runtime, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = kept.path().join("cluster").display().to_string();
    let up = Up::start(runtime.path(), &["--dir", &dir, "--servers", "2"]);
    let (rows, login) = (up.rows(), up.hint("System"));
    let second = refused(&up.ask(&["--dir", &dir]), 1);
    assert!(
        second.contains(&format!("is in use by another linnet up, process {}", up.child.id())),
        "{second}"
    );
    assert_eq!(out(&up.ask(&["restart", "n1", "--dir", &dir])), "n1 is restarted\n");
    up.stop(Signal::INT);
    assert!(
        refused(&ask(runtime.path(), &["kill", "n1", "--dir", &dir]), 1).contains("no linnet up runs in")
    );
    let up = Up::start(runtime.path(), &["--dir", &dir]);
    let again = up.rows();
    let places = |rows: &[Row]| rows.iter().map(|row| (row.client.clone(), row.monitor)).collect::<Vec<_>>();
    assert_eq!((places(&again), up.hint("System")), (places(&rows), login));
    up.stop(Signal::INT);
    let other = refused(&ask(runtime.path(), &["--dir", &dir, "--servers", "3"]), 1);
    assert!(other.contains("has a cluster of 2 servers; --servers 3 does not fit"), "{other}");
    // A port that somebody else has taken meanwhile.
    let taken = TcpListener::bind(rows[1].client.strip_prefix("nats://").unwrap()).unwrap();
    let refused = refused(&ask(runtime.path(), &["--dir", &dir]), 1);
    let port = taken.local_addr().unwrap().port();
    assert!(refused.contains(&format!("n2: port {port} for clients cannot be used")), "{refused}");
}

#[test]
fn a_single_server_keeps_its_streams() {
    let (runtime, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let arguments = ["--dir", dir.path().to_str().unwrap(), "--servers", "1"];
    let up = Up::start(runtime.path(), &arguments);
    run(async || {
        let context = async_nats::jetstream::new(connect(&up.rows()[0]).await);
        let config = async_nats::jetstream::stream::Config { name: "S".into(), ..Default::default() };
        context.create_stream(config).await.unwrap();
        context.publish("S", "kept".into()).await.unwrap().await.unwrap();
    });
    up.stop(Signal::INT);
    let up = Up::start(runtime.path(), &arguments);
    run(async || {
        let context = async_nats::jetstream::new(connect(&up.rows()[0]).await);
        let stream = context.get_stream("S").await.unwrap();
        assert_eq!(stream.get_raw_message(1).await.unwrap().payload, "kept");
    });
    up.stop(Signal::INT);
}

#[test]
fn a_server_can_be_of_another_program() {
    let Some(peer) = program(Kind::Peer) else { return };
    let runtime = tempfile::tempdir().unwrap();
    let up = Up::start(runtime.path(), &["--binary", &format!("n2={}", peer.display())]);
    let rows = up.has(&["running"; 3]);
    let executed = |row: &Row| fs::read_link(format!("/proc/{}/exe", row.pid.unwrap())).unwrap();
    assert_eq!(executed(&rows[1]), fs::canonicalize(&peer).unwrap());
    assert_eq!(executed(&rows[2]), fs::canonicalize(linnet()).unwrap());
    run(async || {
        carries(&rows[0], &rows[1]).await;
        carries(&rows[1], &rows[2]).await;
    });
    assert_eq!(out(&up.ask(&["kill", "n2"])), "n2 is killed\n");
    assert_eq!(out(&up.ask(&["restart", "n2"])), "n2 is restarted\n");
    assert_eq!(executed(&up.has(&["running"; 3])[1]), fs::canonicalize(&peer).unwrap());
    up.stop(Signal::INT);
}

#[test]
fn servers_do_not_outlive_it_when_it_is_killed() {
    let runtime = tempfile::tempdir().unwrap();
    let mut up = Up::start(runtime.path(), &["--servers", "2"]);
    // One that is paused ends as well.
    assert_eq!(out(&up.ask(&["pause", "n2"])), "n2 is paused\n");
    let pids = pids(&up.rows());
    for pid in &pids {
        // What is typed at a terminal goes to a whole process group, and is for linnet up alone.
        let pid = Pid::from_raw(*pid).unwrap();
        assert_eq!(rustix::process::getpgid(Some(pid)).unwrap(), pid);
    }
    up.signal(Signal::KILL);
    up.child.wait().unwrap();
    assert!(poll_until(LONG, || pids.iter().all(|pid| !runs(*pid))), "{pids:?}");
    assert!(refused(&up.ask(&["kill", "n1"]), 1).contains("no linnet up is found to be running"));
}

#[test]
fn a_directory_must_be_named_if_several_run() {
    let runtime = tempfile::tempdir().unwrap();
    assert!(
        refused(&ask(runtime.path(), &["kill", "n1"]), 1).contains("no linnet up is found to be running")
    );
    let (a, b) =
        (Up::start(runtime.path(), &["--servers", "1"]), Up::start(runtime.path(), &["--servers", "1"]));
    let several = refused(&a.ask(&["kill", "n1"]), 1);
    let directory = |up: &Up| up.hint("Directory").split(' ').next().unwrap().to_owned();
    assert!(several.contains("more than one linnet up runs; --dir chooses among"), "{several}");
    assert!(several.contains(&directory(&a)) && several.contains(&directory(&b)), "{several}");
    assert_eq!(out(&a.ask(&["kill", "n1", "--dir", &directory(&b)])), "n1 is killed\n");
    a.has(&["running"]);
    b.has(&["ended, signal: 9 (SIGKILL)"]);
    b.stop(Signal::INT);
    assert_eq!(out(&a.ask(&["restart", "n1"])), "n1 is restarted\n");
    a.stop(Signal::INT);
}

#[test]
fn the_cause_of_a_failure_is_named() {
    let (runtime, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let below = file.join("dir").display().to_string();
    let port = lasting_ports(1).unwrap()[0];
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let port = port.to_string();
    let rows: &[(&[&str], i32, &str)] = &[
        (&["--servers", "0"], 2, "0 is not in 1..=32"),
        (&["--servers", "33"], 2, "33 is not in 1..=32"),
        (&["--binary", "n1"], 2, "expected NAME=PATH"),
        (&["frobnicate"], 2, "unrecognized subcommand"),
        (&["kill"], 2, "<NAME>"),
        (&["--frobnicate"], 2, "unexpected argument"),
        (&["--binary", "n9=/bin/false"], 1, "there is no server \"n9\"; there are n1, n2, n3"),
        (&["--binary", "n1=no/such/program"], 1, "--binary n1=no/such/program: No such file"),
        (&["--binary", "n1=/bin/false"], 1, "false ended with exit status: 1 before it was ready"),
        (&["--binary", "n1=/bin/echo"], 1, "its log ends with:\n-c "),
        (&["--dir", dir.path().to_str().unwrap()], 1, "is not empty and has no cluster of linnet up"),
        (&["--dir", &below], 1, "Not a directory"),
        (&["--port", &port], 1, "for clients cannot be used: Address already in use"),
        (&["--port", "65535"], 1, "there are not enough ports behind it"),
        (&["execute", "1", "/bin/true"], 127, "cannot run /bin/true: process 1 has ended"),
    ];
    for (arguments, code, expected) in rows {
        let said = refused(&ask(runtime.path(), arguments), *code);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let help = out(&ask(runtime.path(), &["--help"]));
    for part in ["--servers", "--dir", "--port", "--binary", "kill", "pause", "resume", "restart"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(!help.contains("execute"), "{help}");
}
