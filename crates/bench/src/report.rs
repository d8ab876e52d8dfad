//! Progress, tables, Markdown and JSON: everything that is printed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a report of a command-line tool")]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::json;

use crate::measure::Sample;
use crate::stats::{Spread, median, paired_ratios};
use crate::workload::{Goal, Workload};

/// All measurements of one workload.
pub(crate) struct Outcome {
    name: &'static str,
    about: &'static str,
    goal: Goal,
    pub(crate) ours: Vec<Sample>,
    pub(crate) peer: Vec<Sample>,
    /// Why it was not measured to the end.
    pub(crate) failure: Option<String>,
}

/// Medians over the measurements of one server.
#[derive(Serialize)]
struct Medians {
    rate: Option<f64>,
    cpu_ns: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    memory: Option<f64>,
    server_cores: Option<f64>,
    client_cores: Option<f64>,
    other_cores: Option<f64>,
}

/// Ours over the peer's, pair by pair.
#[derive(Serialize)]
struct Ratios {
    rate: Option<Spread>,
    cpu: Option<Spread>,
    p50: Option<Spread>,
    p99: Option<Spread>,
    memory: Option<Spread>,
}

impl Outcome {
    pub(crate) fn new(workload: &Workload) -> Self {
        let Workload { name, about, goal, .. } = *workload;
        Self { name, about, goal, ours: Vec::new(), peer: Vec::new(), failure: None }
    }

    fn medians(samples: &[Sample]) -> Medians {
        let of = |field: fn(&Sample) -> Option<f64>| median(samples.iter().filter_map(field));
        Medians {
            rate: of(|sample| Some(sample.rate)),
            cpu_ns: of(|sample| sample.cpu_ns),
            p50_us: of(|sample| sample.p50_us),
            p99_us: of(|sample| sample.p99_us),
            memory: of(|sample| sample.memory),
            server_cores: of(|sample| sample.server_cores),
            client_cores: of(|sample| Some(sample.client_cores)),
            other_cores: of(|sample| sample.other_cores),
        }
    }

    fn ratios(&self) -> Ratios {
        let of = |field: fn(&Sample) -> Option<f64>| {
            paired_ratios(self.ours.iter().zip(&self.peer).map(|(ours, peer)| (field(ours), field(peer))))
        };
        Ratios {
            rate: of(|sample| Some(sample.rate)),
            cpu: of(|sample| sample.cpu_ns),
            p50: of(|sample| sample.p50_us),
            p99: of(|sample| sample.p99_us),
            memory: of(|sample| sample.memory),
        }
    }

    /// Whether the ratios reach the goal; `None` without a goal or a peer.
    fn reaches_goal(&self) -> Option<bool> {
        let ratios = self.ratios();
        let at_least = |ratio: Option<Spread>, goal: Option<f64>| Some(ratio?.median >= goal?);
        let at_most = |ratio: Option<Spread>, goal: Option<f64>| Some(ratio?.median <= goal?);
        let parts = [
            at_least(ratios.rate, self.goal.rate),
            at_most(ratios.cpu, self.goal.cpu),
            at_most(ratios.p50, self.goal.p50),
            at_most(ratios.memory, self.goal.memory),
        ];
        parts.into_iter().flatten().reduce(|all, part| all && part)
    }
}

const LEGEND: &str = "\nOurs / the peer's: medians of all runs; then the median of the ratios of runs next to each \
    other, and their range. Memory is resident; of idle connections it is per connection. \
    Other CPUs: processors that neither the server nor the generator used; above 0.2 or so, measure again.\n";

/// Where and how results are printed.
pub(crate) struct Report {
    json: bool,
    markdown: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(json: bool, markdown: Option<PathBuf>) -> Self {
        Self { json, markdown }
    }

    /// The names and purposes of workloads.
    pub(crate) fn list(&self, workloads: &[Workload]) {
        for workload in workloads {
            println!("{:<26} {}", workload.name, workload.about);
        }
    }

    /// One measurement is done.
    pub(crate) fn progress(&self, workload: &Workload, run: u32, runs: u32, side: &str, sample: &Sample) {
        eprintln!(
            "{:<26} {run}/{runs} {side}  {:>8}/s  {:>8} CPU/msg  p50 {:>8}  p99 {:>8}  {:>8}  server {} client {:.2} others {} CPUs",
            workload.name,
            count(Some(sample.rate)),
            nanos(sample.cpu_ns),
            micros(sample.p50_us),
            micros(sample.p99_us),
            bytes(sample.memory),
            cores(sample.server_cores),
            sample.client_cores,
            cores(sample.other_cores),
        );
    }

    /// One measurement could not be made.
    pub(crate) fn failure(&self, workload: &Workload, error: &anyhow::Error) {
        eprintln!("{:<26} FAILED: {error:#}", workload.name);
    }

    /// All measurements are done.
    pub(crate) fn finish(&self, outcomes: &[Outcome]) -> Result<()> {
        let table = markdown(outcomes);
        if let Some(path) = &self.markdown {
            fs::write(path, &table).with_context(|| format!("writing {}", path.display()))?;
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&json(outcomes)).context("printing JSON")?);
        } else {
            print!("\n{table}");
        }
        Ok(())
    }
}

fn json(outcomes: &[Outcome]) -> serde_json::Value {
    let workloads = outcomes.iter().map(|outcome| {
        json!({
            "name": outcome.name,
            "about": outcome.about,
            "failure": outcome.failure,
            "ours": { "median": Outcome::medians(&outcome.ours), "runs": outcome.ours },
            "peer": (!outcome.peer.is_empty())
                .then(|| json!({ "median": Outcome::medians(&outcome.peer), "runs": outcome.peer })),
            "ratio": outcome.ratios(),
            "reaches_goal": outcome.reaches_goal(),
        })
    });
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    json!({ "cpus": cpus, "workloads": workloads.collect::<Vec<_>>() })
}

/// Medians as a table: one row per workload, and with a peer three values in a cell: ours, the peer's, their ratio.
fn markdown(outcomes: &[Outcome]) -> String {
    let compared = outcomes.iter().any(|outcome| !outcome.peer.is_empty());
    let mut rows = vec![header(compared)];
    rows.extend(outcomes.iter().map(|outcome| row(outcome, compared)));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        put_row(&mut text, row, &widths);
        if index == 0 {
            let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
            put_row(&mut text, &rule, &widths);
        }
    }
    if compared {
        text.push_str(LEGEND);
    }
    text
}

fn put_row(text: &mut String, cells: &[String], widths: &[usize]) {
    for (cell, width) in cells.iter().zip(widths) {
        let _ = write!(text, "| {cell:<width$} ");
    }
    text.push_str("|\n");
}

fn header(compared: bool) -> Vec<String> {
    let mut cells =
        vec!["workload", "messages/s", "CPU/message", "p50", "p99", "memory", "generator CPUs", "other CPUs"];
    if compared {
        cells.push("goal");
    }
    cells.into_iter().map(str::to_owned).collect()
}

fn row(outcome: &Outcome, compared: bool) -> Vec<String> {
    let (ours, peer) = (Outcome::medians(&outcome.ours), Outcome::medians(&outcome.peer));
    let ratios = outcome.ratios();
    let cell = |show: fn(Option<f64>) -> String,
                ours: Option<f64>,
                peer: Option<f64>,
                ratio: Option<Spread>| {
        match (ours, peer) {
            (None, None) => "-".to_owned(),
            (_, None) => show(ours),
            (_, Some(_)) => format!("{} / {}{}", show(ours), show(peer), relative(ratio)),
        }
    };
    let pair = |ours: Option<f64>, peer: Option<f64>| {
        if compared { format!("{} / {}", cores(ours), cores(peer)) } else { cores(ours) }
    };
    let mut cells = vec![
        outcome.name.to_owned(),
        cell(count, ours.rate, peer.rate, ratios.rate),
        cell(nanos, ours.cpu_ns, peer.cpu_ns, ratios.cpu),
        cell(micros, ours.p50_us, peer.p50_us, ratios.p50),
        cell(micros, ours.p99_us, peer.p99_us, ratios.p99),
        cell(bytes, ours.memory, peer.memory, ratios.memory),
        pair(ours.client_cores, peer.client_cores),
        pair(ours.other_cores, peer.other_cores),
    ];
    if compared {
        let verdict = match (&outcome.failure, outcome.reaches_goal()) {
            (Some(_), _) => "failed",
            (None, Some(true)) => "reached",
            (None, Some(false)) => "missed",
            (None, None) => "-",
        };
        cells.push(verdict.to_owned());
    }
    cells
}

/// The median ratio, and the range if there was more than one pair.
fn relative(ratio: Option<Spread>) -> String {
    let Some(Spread { median, low, high }) = ratio else { return String::new() };
    if low < high { format!(" = {median:.2} ({low:.2}-{high:.2})") } else { format!(" = {median:.2}") }
}

fn scaled(value: Option<f64>, units: &[(f64, &str)]) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let (size, unit) =
        units.iter().find(|(size, _)| value >= *size).or_else(|| units.last()).copied().unwrap_or((1.0, ""));
    let value = value / size;
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

fn cores(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"))
}

fn count(value: Option<f64>) -> String {
    scaled(value, &[(1e6, " M"), (1e3, " k"), (1.0, "")])
}

fn nanos(value: Option<f64>) -> String {
    scaled(value, &[(1e6, " ms"), (1e3, " µs"), (1.0, " ns")])
}

fn micros(value: Option<f64>) -> String {
    nanos(value.map(|value| value * 1e3))
}

fn bytes(value: Option<f64>) -> String {
    scaled(value, &[(1024.0 * 1024.0, " MiB"), (1024.0, " KiB"), (1.0, " B")])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(goal: Goal, ours: f64, peer: f64) -> Outcome {
        let sample = |rate: f64| Sample { rate, cpu_ns: Some(1e9 / rate), ..Sample::default() };
        Outcome {
            name: "a",
            about: "b",
            goal,
            ours: vec![sample(ours)],
            peer: vec![sample(peer)],
            failure: None,
        }
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(count(Some(1_234_567.0)), "1.23 M");
        assert_eq!(count(Some(999.0)), "999");
        assert_eq!(nanos(Some(45.67)), "45.7 ns");
        assert_eq!(micros(Some(1500.0)), "1.50 ms");
        assert_eq!(bytes(Some(12.5 * 1024.0)), "12.5 KiB");
        assert_eq!(bytes(None), "-");
    }

    #[test]
    fn row_has_ours_theirs_and_the_ratio() {
        let cells = row(&outcome(Goal::NONE, 3000.0, 1000.0), true);
        assert_eq!(cells[1], "3.00 k / 1.00 k = 3.00");
        assert_eq!(cells[2], "333 µs / 1.00 ms = 0.33");
        assert_eq!(cells[3], "-");
    }

    #[test]
    fn range_is_shown_of_several_pairs() {
        let spread = |median, low, high| Some(Spread { median, low, high });
        assert_eq!(relative(spread(1.0, 0.9, 1.25)), " = 1.00 (0.90-1.25)");
        assert_eq!(relative(spread(1.0, 1.0, 1.0)), " = 1.00");
        assert_eq!(relative(None), "");
    }

    #[test]
    fn goal_needs_all_its_parts() {
        let goal = Goal::rate_and_cpu(2.5, 0.35);
        assert_eq!(outcome(goal, 3000.0, 1000.0).reaches_goal(), Some(true));
        assert_eq!(outcome(goal, 2600.0, 1000.0).reaches_goal(), Some(false));
        assert_eq!(outcome(Goal::NONE, 3000.0, 1000.0).reaches_goal(), None);
        let alone = Outcome { peer: Vec::new(), ..outcome(goal, 1.0, 1.0) };
        assert_eq!(alone.reaches_goal(), None);
    }

    #[test]
    fn table_is_markdown() {
        let text = markdown(&[outcome(Goal::rate(1.0), 10.0, 10.0)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 5, "header, rule, row, blank, legend");
        assert!(lines[..3].iter().all(|line| line.starts_with('|') && line.ends_with('|')));
        assert!(lines[1].chars().all(|byte| "|- ".contains(byte)));
        assert!(lines[2].contains("reached"));
    }
}
