//! `linnet store`: the store of a server that does not run.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use linnet_conf::ProcessSource;
use linnet_server::store::{
    Access, Damage, Inspection, Keys, OfflineError, OfflineStore, keys_of, open_on_disk,
};
use serde::Serialize;

/// Nothing is damaged.
const FINE: u8 = 0;
/// Something is.
const DAMAGED: u8 = 1;
/// The command was wrong, or the store could not be opened.
const FAILED: u8 = 2;
/// Damaged places that are listed as text; `--json` lists all.
const LISTED: usize = 1000;
/// Bytes between two lines of progress.
const PROGRESS: u64 = 256 << 20;

#[derive(Parser)]
#[command(
    name = "linnet store",
    bin_name = "linnet store",
    about = "Looks after the store of a server that does not run"
)]
struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Tells what the store consists of. Changes nothing.
    Inspect(Options),
    /// Reads everything and lists what is damaged. Changes nothing.
    Verify(Options),
    /// Does what a start would do about damage: remembers what is lost, puts aside what cannot be explained, writes
    /// indexes anew. Deletes no data.
    Repair(Options),
    /// Checkpoints every stream, writes blocks without removed messages and gives back what the log needs no more.
    Compact(Options),
}

#[derive(Args)]
struct Options {
    /// The store_dir of the server, or the directory jetstream in it.
    dir: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
    /// Key of an encrypted store.
    #[arg(long, env = "LINNET_STORE_KEY", hide_env_values = true, conflicts_with = "config")]
    key: Option<String>,
    /// Configuration file whose jetstream block has the key.
    #[arg(long)]
    config: Option<String>,
}

/// Runs the command line behind the program's name.
pub(crate) fn run(arguments: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let command = match Command::try_parse_from(arguments) {
        Ok(command) => command,
        Err(error) => {
            let code = if error.use_stderr() { FAILED } else { FINE };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match carry_out(command.action) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("linnet store: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn carry_out(action: Action) -> Result<u8, String> {
    let said = |error: OfflineError| error.to_string();
    match action {
        Action::Inspect(options) => {
            let inspection = open(&options, Access::Look)?.inspect().map_err(said)?;
            show(&options, &inspection, || text_of(&inspection));
            Ok(code_of(&inspection.damages))
        }
        Action::Verify(options) => {
            let verification = open(&options, Access::Look)?.verify(&mut Progress::default().telling());
            show(&options, &verification, || {
                let mut text =
                    format!("verified {} messages, {} bytes\n", verification.messages, verification.bytes);
                list(&mut text, &verification.damages);
                text
            });
            Ok(code_of(&verification.damages))
        }
        Action::Repair(options) => {
            let store = open(&options, Access::Change)?;
            let repair = store.repair(&mut Progress::default().telling()).map_err(said)?;
            show(&options, &repair, || {
                let mut text = String::new();
                list(&mut text, &repair.damages);
                for path in &repair.quarantined {
                    let _ = writeln!(text, "in quarantine: {}", path.display());
                }
                text.push_str("the store is closed in order; nothing was deleted\n");
                text
            });
            Ok(code_of(&repair.damages))
        }
        Action::Compact(options) => {
            let compaction = open(&options, Access::Change)?.compact().map_err(said)?;
            show(&options, &compaction, || {
                format!("{} bytes before, {} bytes now\n", compaction.bytes_before, compaction.bytes_after)
            });
            Ok(FINE)
        }
    }
}

fn code_of(damages: &[Damage]) -> u8 {
    if damages.is_empty() { FINE } else { DAMAGED }
}

fn open(options: &Options, access: Access) -> Result<OfflineStore, String> {
    let keys = match (&options.key, &options.config) {
        (Some(key), _) => Keys::of(key),
        (None, Some(path)) => {
            let parsed = linnet_conf::load(path, &ProcessSource).map_err(|rejected| rejected.to_string())?;
            keys_of(&parsed.options)
        }
        (None, None) => Keys::default(),
    };
    open_on_disk(&options.dir, &keys, access).map_err(|error| error.to_string())
}

fn show<T: Serialize>(options: &Options, answer: &T, text: impl FnOnce() -> String) {
    if options.json {
        match serde_json::to_string_pretty(answer) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("linnet store: {error}"),
        }
    } else {
        print!("{}", text());
    }
}

/// Tells on the terminal how far reading has come.
#[derive(Default)]
struct Progress {
    stream: String,
    told: u64,
}

impl Progress {
    fn telling(mut self) -> impl FnMut(&str, u64) {
        move |stream, bytes| {
            if self.stream != stream || bytes >= self.told + PROGRESS {
                eprintln!("{stream}: {bytes} bytes verified so far");
                stream.clone_into(&mut self.stream);
                self.told = bytes;
            }
        }
    }
}

fn text_of(inspection: &Inspection) -> String {
    let mut text = String::new();
    let closed = if inspection.clean { "closed in order" } else { "not closed in order" };
    let encrypted = if inspection.encrypted { ", encrypted" } else { "" };
    let (dir, id) = (inspection.directory.display(), &inspection.store_id);
    let _ = writeln!(text, "store {id} in {dir}: format {}{encrypted}, {closed}", inspection.format);
    for segment in &inspection.segments {
        let _ = writeln!(text, "log segment {}: {} bytes", segment.name, segment.bytes);
    }
    for s in &inspection.streams {
        let _ = write!(text, "stream '{} > {}' (group {}): ", s.account, s.stream, s.group);
        let _ = match &s.lost {
            Some(reason) => writeln!(text, "cannot be recovered: {reason}"),
            None if s.memory => writeln!(text, "in memory, {} consumers", s.consumers),
            None => writeln!(
                text,
                "{} messages, {} bytes, sequences {} to {}, {} consumers, {} blocks",
                s.messages, s.bytes, s.first_seq, s.last_seq, s.consumers, s.blocks
            ),
        };
    }
    for group in &inspection.unnamed {
        let _ = writeln!(text, "group {group}: its stream is unknown");
    }
    list(&mut text, &inspection.damages);
    text
}

fn list(text: &mut String, damages: &[Damage]) {
    for damage in damages.iter().take(LISTED) {
        text.push_str("damaged:");
        if let Some(stream) = &damage.stream {
            let _ = write!(text, " stream '{stream}'");
        }
        if let Some(sequence) = damage.sequence {
            let _ = write!(text, " sequence {sequence}");
        }
        if let Some(file) = &damage.file {
            let _ = write!(text, " file {}", Path::display(file));
        }
        if let Some(offset) = damage.offset {
            let _ = write!(text, " offset {offset}");
        }
        let _ = writeln!(text, ": {}", damage.what);
    }
    if let Some(more) = damages.len().checked_sub(LISTED).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} more, which --json lists");
    }
    if damages.is_empty() {
        text.push_str("nothing is damaged\n");
    }
}
