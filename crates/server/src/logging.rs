//! Log lines as nats-server writes them (configuration, "Log").

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_conf::options::Logging;
use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Mode of a new log file.
const FILE_MODE: u32 = 0o640;

/// The log's destination. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    sink: Arc<Mutex<Sink>>,
}

enum Sink {
    Stderr { coloured: bool },
    File(LogFile),
}

struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// Bytes after which the file is put aside; 0 for never.
    limit: u64,
    /// Files kept, the live one included; 0 for all.
    keep: u64,
}

/// Turns events into lines.
struct NatsLayer {
    log: Log,
    level: LevelFilter,
    with_time: bool,
    utc: bool,
    pid: u32,
}

impl Log {
    /// Starts logging for the whole process.
    pub(crate) fn start(options: &Logging) -> io::Result<Self> {
        let sink = match &options.log_file {
            None => Sink::Stderr { coloured: io::stderr().is_terminal() },
            Some(path) => Sink::File(LogFile::open(
                Path::new(path),
                options.log_size_limit.unwrap_or(0),
                options.log_max_num.unwrap_or(0),
            )?),
        };
        let log = Self { sink: Arc::new(Mutex::new(sink)) };
        let level = if options.trace {
            LevelFilter::TRACE
        } else if options.debug {
            LevelFilter::DEBUG
        } else {
            LevelFilter::INFO
        };
        let layer = NatsLayer {
            log: log.clone(),
            level,
            with_time: options.logtime,
            utc: options.logtime_utc,
            pid: std::process::id(),
        };
        // Fails only if a subscriber is set already, which a second server in one process would do.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
        Ok(log)
    }

    /// Opens the log file anew, after somebody moved it away.
    pub(crate) fn reopen(&self) {
        let reopened = match &mut *self.sink.lock() {
            Sink::Stderr { .. } => None,
            Sink::File(file) => Some(file.reopen()),
        };
        match reopened {
            None => tracing::info!("File log re-open ignored, not a file logger"),
            Some(Ok(())) => tracing::info!("File log re-opened"),
            Some(Err(error)) => tracing::error!("File log could not be re-opened: {error}"),
        }
    }

    fn write(&self, line: &str) {
        match &mut *self.sink.lock() {
            // Nobody is left to tell when the log itself cannot be written.
            Sink::Stderr { .. } => drop(io::stderr().write_all(line.as_bytes())),
            Sink::File(file) => file.write(line),
        }
    }

    fn is_coloured(&self) -> bool {
        matches!(&*self.sink.lock(), Sink::Stderr { coloured: true })
    }
}

impl LogFile {
    fn open(path: &Path, limit: u64, keep: u64) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, size, limit, keep })
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(&self.path, self.limit, self.keep)?;
        Ok(())
    }

    fn write(&mut self, line: &str) {
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.size += line.len() as u64;
        }
        if self.limit > 0 && self.size > self.limit {
            // A rotation that fails leaves the log growing, which is better than losing lines.
            let _ = self.rotate();
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let now = jiff::ZonedDateTime::now();
        let stamp = now.strftime("%Y.%m.%d.%H.%M.%S.%9f").to_string();
        let mut backup = self.path.clone().into_os_string();
        backup.push(format!(".{stamp}"));
        std::fs::rename(&self.path, &backup)?;
        self.reopen()?;
        let note = format!("Rotated log, backup saved as {:?}\r\n", backup.to_string_lossy());
        self.file.write_all(note.as_bytes())?;
        self.purge()
    }

    /// Removes the oldest backups beyond the number to keep.
    fn purge(&self) -> io::Result<()> {
        if self.keep == 0 {
            return Ok(());
        }
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name().and_then(|n| n.to_str()))
        else {
            return Ok(());
        };
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let mut backups: Vec<PathBuf> = std::fs::read_dir(dir)?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|p| {
                p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(&format!("{name}.")))
            })
            .collect();
        backups.sort();
        let keep = usize::try_from(self.keep - 1).unwrap_or(usize::MAX);
        for old in backups.iter().take(backups.len().saturating_sub(keep)) {
            std::fs::remove_file(old)?;
        }
        Ok(())
    }
}

impl NatsLayer {
    fn line(&self, level: Level, message: &str) -> String {
        let (name, colour) = match level {
            Level::ERROR => ("ERR", "31"),
            Level::WARN => ("WRN", "0;93"),
            Level::INFO => ("INF", "32"),
            Level::DEBUG => ("DBG", "36"),
            Level::TRACE => ("TRC", "33"),
        };
        let mut line = String::with_capacity(message.len() + 64);
        let _ = write!(line, "[{}] ", self.pid);
        if self.with_time {
            let now = jiff::ZonedDateTime::now();
            let now = if self.utc { now.with_time_zone(jiff::tz::TimeZone::UTC) } else { now };
            let _ = write!(line, "{} ", now.strftime("%Y/%m/%d %H:%M:%S.%6f"));
        }
        if self.log.is_coloured() {
            let _ = writeln!(line, "[\x1b[{colour}m{name}\x1b[0m] {message}");
        } else {
            let _ = writeln!(line, "[{name}] {message}");
        }
        line
    }
}

impl<S: Subscriber> Layer<S> for NatsLayer {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Libraries have nothing to say to the operator of this server.
        *metadata.level() <= self.level && metadata.target().starts_with("linnet")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.log.write(&self.line(*event.metadata().level(), &message.0));
    }
}

/// Collects an event's text; other fields follow it as `name=value`.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::LogFile;

    #[test]
    fn a_full_log_is_put_aside_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = LogFile::open(&path, 100, 3).unwrap();
        for n in 0..50 {
            file.write(&format!("line {n} with some length to it\n"));
        }
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let live = std::fs::read_to_string(&path).unwrap();
        assert!(live.starts_with("Rotated log, backup saved as "), "{live}");
    }
}
