//! Which servers are started for which workload, and in which order.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use linnet_launch::{JetStream, Options, Ready, Spec, SyncMode};

use crate::args::{Args, SyncArg};
use crate::measure::{Limit, Sample};
use crate::report::{Outcome, Report};
use crate::target::Target;
use crate::workload::{self, Context, Storage, Workload};

/// How long a server may take to start on an empty store.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a server may take to stop; after that it is killed, which is all the same for a measurement.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a server comes from.
enum Source {
    /// It runs already.
    Url(String),
    /// It is started for each measurement.
    Program(PathBuf),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workloads = chosen(args)?;
    let report = Report::new(args.json, args.markdown.clone());
    if args.list {
        report.list(&workloads);
        return Ok(());
    }
    let ours = match (&args.server, &args.ours) {
        (Some(url), _) => Source::Url(url.clone()),
        (None, Some(path)) => Source::Program(path.clone()),
        (None, None) => Source::Program(std::env::current_exe().context("finding our own program")?),
    };
    raise_file_limit()?;
    let peer = args.peer.clone().map(Source::Program);
    let comparison = Comparison { args, report: &report, ours, peer };
    let outcomes: Vec<Outcome> = workloads.iter().map(|workload| comparison.measure_all(workload)).collect();
    report.finish(&outcomes)?;
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    if failed > 0 {
        bail!("{failed} workloads failed");
    }
    Ok(())
}

/// The servers to measure, and how.
struct Comparison<'a> {
    args: &'a Args,
    report: &'a Report,
    ours: Source,
    peer: Option<Source>,
}

impl Comparison<'_> {
    /// All measurements of one workload, the servers in turn. The first that fails ends it, not the others.
    fn measure_all(&self, workload: &Workload) -> Outcome {
        let mut outcome = Outcome::new(workload);
        let runs = self.args.runs.unwrap_or(if self.args.quick { 1 } else { 3 });
        for run in 1..=runs {
            if let Err(error) = self.measure_in_turn(workload, run, runs, &mut outcome) {
                self.report.failure(workload, &error);
                outcome.failure = Some(format!("{error:#}"));
                break;
            }
        }
        outcome
    }

    fn measure_in_turn(&self, workload: &Workload, run: u32, runs: u32, outcome: &mut Outcome) -> Result<()> {
        let sample = measure(self.args, workload, &self.ours).context("ours")?;
        self.report.progress(workload, run, runs, "ours", &sample);
        outcome.ours.push(sample);
        if let Some(peer) = &self.peer {
            let sample = measure(self.args, workload, peer).context("peer")?;
            self.report.progress(workload, run, runs, "peer", &sample);
            outcome.peer.push(sample);
        }
        Ok(())
    }
}

fn chosen(args: &Args) -> Result<Vec<Workload>> {
    let mut workloads = workload::all();
    for name in &args.only {
        if !workloads.iter().any(|workload| workload.name.starts_with(name)) {
            bail!("no workload is called {name:?}; --list shows them");
        }
    }
    if !args.only.is_empty() {
        workloads.retain(|workload| args.only.iter().any(|name| workload.name.starts_with(name.as_str())));
    }
    Ok(workloads)
}

/// One measurement; a program is started on an empty store for it and stopped after it.
fn measure(args: &Args, workload: &Workload, source: &Source) -> Result<Sample> {
    let target = match source {
        Source::Url(url) => Target::running(url)?,
        Source::Program(program) if workload.servers > 1 => {
            Target::launch_cluster(program, workload.servers, jetstream(args, workload), START_TIMEOUT)?
        }
        Source::Program(program) => Target::launched(spec(args, workload, program).start()?)?,
    };
    let default_duration = Duration::from_millis(if args.quick { 400 } else { 1000 });
    let limit = match args.messages {
        Some(messages) => Limit::Messages(messages),
        None => Limit::Time(args.duration.unwrap_or(default_duration)),
    };
    let context = Context { target: &target, limit, quick: args.quick };
    let sample = (workload.run)(&context).with_context(|| {
        format!("workload {}; the server's log ends with:\n{}", workload.name, target.log_tail())
    })?;
    target.stop(STOP_TIMEOUT)?;
    Ok(sample)
}

/// The JetStream that a workload needs of each server.
fn jetstream(args: &Args, workload: &Workload) -> Option<JetStream> {
    let sync = match (workload.storage, args.sync) {
        (Storage::None, _) => return None,
        (Storage::AsAsked, SyncArg::Always) => SyncMode::Always,
        (Storage::AsAsked, SyncArg::Lazy) => SyncMode::Lazy,
        (Storage::ServerDefault, _) => SyncMode::ServerDefault,
    };
    Some(JetStream { sync, ..JetStream::default() })
}

fn spec(args: &Args, workload: &Workload, program: &PathBuf) -> Spec {
    let options = Options { jetstream: jetstream(args, workload), ..Options::default() };
    let ready = if options.jetstream.is_some() { Ready::Healthz } else { Ready::Info };
    let spec = Spec::new(program).options(options).ready(ready, START_TIMEOUT);
    match &args.scratch {
        Some(dir) => spec.scratch(dir),
        None => spec,
    }
}

/// Idle connections need a descriptor each, here and, since it inherits the limit, in the server.
fn raise_file_limit() -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}
