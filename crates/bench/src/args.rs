use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};

/// What to measure and how.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Measure a server that is already running (nats://host:port); its processor time and memory are not known
    #[arg(long, value_name = "URL", conflicts_with_all = ["peer", "ours"])]
    pub server: Option<String>,

    /// Compare with this server program: both are started in turn on fresh stores
    #[arg(long, value_name = "PATH")]
    pub peer: Option<PathBuf>,

    /// Our server program (default: this program itself)
    #[arg(long, value_name = "PATH")]
    pub ours: Option<PathBuf>,

    /// Only workloads whose name starts with one of these
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub only: Vec<String>,

    /// How long each measurement lasts, such as 2s or 500ms [default: 1s, quick: 400ms]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "messages")]
    pub duration: Option<Duration>,

    /// Publish this many messages per measurement instead of for a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: Option<u64>,

    /// Measurements of each server; medians are reported [default: 3, quick: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99))]
    pub runs: Option<u32>,

    /// When JetStream writes reach the disk, in workloads that do not fix it
    #[arg(long, value_enum, default_value_t = SyncArg::Always)]
    pub sync: SyncArg,

    /// One short run of everything, for a first impression
    #[arg(long)]
    pub quick: bool,

    /// Print the results as JSON
    #[arg(long)]
    pub json: bool,

    /// Also write the results as a Markdown table to this file
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,

    /// Where servers put their stores (default: the directory for temporary files)
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,

    /// List the workloads and stop
    #[arg(long)]
    pub list: bool,
}

/// When JetStream writes reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SyncArg {
    /// Before they are acknowledged
    Always,
    /// Every two minutes
    Lazy,
}

/// The servers' keep-alives are not answered, which they tolerate for some minutes.
const DURATION_MAX: Duration = Duration::from_secs(60);

fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').unwrap_or(text), 1.0),
    };
    let seconds = number.parse::<f64>().map_err(|_| "expected a time such as 2s or 500ms")? * unit;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("must be more than zero and at most {DURATION_MAX:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_bounds() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2"), Ok(Duration::from_secs(2)));
        for wrong in ["0s", "-1s", "61s", "x", "", "nan"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
