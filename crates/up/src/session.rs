//! The cluster from its start to its end: shows what changes, does what is asked for.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use linnet_launch::{Cluster, State};

use crate::control::{Control, Reply};
use crate::events::{Event, Events};
use crate::home::Home;
use crate::plan::Plan;
use crate::registry::Entry;
use crate::table::{self, Row};
use crate::{Error, Fault, Options, Request, Result};

/// How long servers may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long servers may take to find one that was started again.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// Lines of the log of a server that has ended.
const LOG_LINES: usize = 10;

/// Brings up a cluster, shows it on `out`, and returns after it was stopped by SIGINT, SIGTERM or SIGHUP.
///
/// To be called by the main thread: the servers end with the thread that started them.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    // First of all, so that a signal does not keep a temporary directory from being removed.
    let events = Events::listen()?;
    let home = Home::take(options.dir.as_deref())?;
    let plan = Plan::of(&home, options)?;
    let spec = plan.spec(&home, options).launcher(launcher(options)).give_up_when(events.is_stopping.clone());
    let cluster = match spec.start() {
        Err(_) if events.is_stopping.load(Ordering::Relaxed) => return Ok(()),
        started => started?,
    };
    let control = Control::listen(home.dir(), events.sender.clone())?;
    let entry = Entry::make(home.dir());
    let mut session = Session { cluster, plan, shown: Vec::new(), out };
    session.show_all(&home, entry.as_ref().err())?;
    let outcome = session.react(&events);
    drop((control, entry));
    let stopped = session.stop();
    outcome.and(stopped)
}

fn launcher(options: &Options) -> Vec<std::ffi::OsString> {
    let mut command = options.launcher.clone();
    command.push(std::process::id().to_string().into());
    command
}

struct Session<'a> {
    cluster: Cluster,
    plan: Plan,
    /// What the last table says.
    shown: Vec<(State, u32)>,
    out: &'a mut dyn Write,
}

impl Session<'_> {
    fn react(&mut self, events: &Events) -> Result<()> {
        while let Ok(event) = events.queue.recv() {
            match event {
                Event::Stop => return Ok(()),
                Event::Child => self.show_changes()?,
                Event::Asked(request, reply) => {
                    let done = self.carry_out(&request);
                    self.show_changes()?;
                    // Whoever asked may have gone.
                    let _ = reply.send(done.unwrap_or_else(|error| Reply::Refused(error.to_string())));
                }
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, request: &Request) -> std::result::Result<Reply, linnet_launch::Error> {
        let name = request.server.as_str();
        let refused = |why: &str| Ok(Reply::Refused(format!("{name} {why}")));
        let done = |what: &str| Ok(Reply::Done(format!("{name} {what}")));
        let state = self.cluster.member(name)?.state();
        match (request.fault, state) {
            (Fault::Restart, _) => {
                self.cluster.restart(name, STOP_TIMEOUT)?;
                self.cluster.wait_formed(FORM_TIMEOUT)?;
                done("is restarted")
            }
            (_, State::Ended(_)) => refused("is not running"),
            (Fault::Kill, _) => {
                self.cluster.kill(name)?;
                done("is killed")
            }
            (Fault::Pause, State::Paused) => refused("is paused already"),
            (Fault::Pause, State::Running) => {
                self.cluster.pause(name)?;
                done("is paused")
            }
            (Fault::Resume, State::Running) => refused("is not paused"),
            (Fault::Resume, State::Paused) => {
                self.cluster.resume(name)?;
                done("continues")
            }
        }
    }

    /// What is new of each server, and the table, if anything is.
    fn show_changes(&mut self) -> Result<()> {
        let now = self.states();
        if now == self.shown {
            return Ok(());
        }
        let mut text = String::new();
        for ((member, before), (state, pid)) in self.cluster.members().iter().zip(&self.shown).zip(&now) {
            let name = member.name();
            let _ = match (before.0, *state) {
                _ if *before == (*state, *pid) => Ok(()),
                (_, State::Ended(_)) => writeln!(text, "{name} {}; its log ends with", table::words(*state))
                    .and_then(|()| text.write_str(&last_lines(&member.server().log_tail()))),
                (_, State::Paused) => writeln!(text, "{name} is paused"),
                (State::Paused, State::Running) if before.1 == *pid => writeln!(text, "{name} continues"),
                (_, State::Running) => writeln!(text, "{name} is started again"),
            };
        }
        self.shown = now;
        let table = self.table();
        self.say(&format!("\n{text}\n{table}"))
    }

    fn states(&mut self) -> Vec<(State, u32)> {
        self.cluster.members_mut().iter_mut().map(|member| (member.state(), member.server().pid())).collect()
    }

    fn table(&self) -> String {
        let rows = self.cluster.members().iter().zip(&self.shown).map(|(member, shown)| {
            let program = self.plan.program_of(member.name());
            Row {
                name: member.name().to_owned(),
                client: member.ports().client,
                monitor: member.ports().monitor,
                pid: shown.1,
                state: shown.0,
                program: program.map_or_else(|| "linnet".to_owned(), |path| path.display().to_string()),
            }
        });
        table::render(&rows.collect::<Vec<_>>())
    }

    /// The table, and what can be done with the cluster.
    fn show_all(&mut self, home: &Home, not_found: Option<&std::io::Error>) -> Result<()> {
        self.shown = self.states();
        let mut text = format!("\n{}\n", self.table());
        let dir = home.dir().display();
        let kept = if home.is_kept() { "kept" } else { "removed at the end" };
        let first = self.cluster.members().first().map_or(0, |member| member.ports().client);
        let all: Vec<String> =
            self.cluster.members().iter().map(|m| format!("nats://127.0.0.1:{}", m.ports().client)).collect();
        let chosen =
            if home.is_kept() || not_found.is_some() { format!(" --dir {dir}") } else { String::new() };
        let _ = writeln!(text, "Directory   {dir} ({kept})");
        let _ = writeln!(text, "Clients     nats --server {} sub hello", all.join(","));
        let login = self.plan.system_login();
        let _ = writeln!(text, "System      nats --server nats://{login}@127.0.0.1:{first} server list");
        let _ = writeln!(text, "Faults      linnet up kill|pause|resume|restart NAME{chosen}");
        if !self.plan.has_jetstream() {
            text.push_str("JetStream   off: the servers of a cluster must be of one kind to have it\n");
        }
        if let Some(error) = not_found {
            let _ = writeln!(text, "Found only  with --dir, because {error}");
        }
        text.push_str("Stop        Ctrl-C\n");
        self.say(&text)
    }

    fn stop(&mut self) -> Result<()> {
        self.say("\nstopping\n")?;
        let killed = self.cluster.stop(STOP_TIMEOUT);
        if killed.is_empty() {
            return self.say("all servers have stopped\n");
        }
        self.say(&format!("killed after {STOP_TIMEOUT:?}: {}\n", killed.join(", ")))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(Error::Output)
    }
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let from = lines.len().saturating_sub(LOG_LINES);
    lines[from..].iter().map(|line| format!("    {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_log_is_a_few_lines() {
        let log: String = (0..20).map(|n| format!("{n}\n")).collect();
        assert_eq!(last_lines(&log).lines().count(), LOG_LINES);
        assert!(last_lines(&log).starts_with("    10\n") && last_lines(&log).ends_with("    19\n"));
        assert_eq!(last_lines(""), "");
    }
}
