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
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry, reload};

/// Mode of a new log file.
const FILE_MODE: u32 = 0o640;
/// Target of errors that end the process.
pub(crate) const FATAL: &str = "linnet_server::fatal";
/// What a rotated log's name ends in, as nats-server names them.
const STAMP: &str = "%Y.%m.%d.%H.%M.%S.%9f";

/// The log's destination. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log {
    sink: Arc<Mutex<Sink>>,
    style: reload::Handle<NatsLayer, Registry>,
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

/// Name of a level and the colour in which a terminal shows it.
struct Label(&'static str, &'static str);

impl Label {
    fn of(metadata: &tracing::Metadata<'_>) -> Self {
        match *metadata.level() {
            Level::ERROR if metadata.target() == FATAL => Self("FTL", "31"),
            Level::ERROR => Self("ERR", "31"),
            Level::WARN => Self("WRN", "0;93"),
            Level::INFO => Self::INFO,
            Level::DEBUG => Self("DBG", "36"),
            Level::TRACE => Self("TRC", "33"),
        }
    }

    const INFO: Self = Self("INF", "32");
}

/// Turns events into lines.
struct NatsLayer {
    sink: Arc<Mutex<Sink>>,
    debug: bool,
    trace: bool,
    with_time: bool,
    utc: bool,
    pid: u32,
}

/// Tells on the terminal that there is no log.
pub(crate) fn say_unopenable(path: &str, error: &io::Error) {
    let now = jiff::ZonedDateTime::now().strftime("%Y/%m/%d %H:%M:%S").to_string();
    // Nobody is left to tell when the terminal is gone too.
    let _ = writeln!(io::stderr(), "{now} error opening file: open {path}: {error}");
}

impl Log {
    /// Starts logging for the whole process.
    pub(crate) fn start(options: &Logging) -> io::Result<Self> {
        let sink = Arc::new(Mutex::new(Sink::open(options)?));
        let (layer, style) = reload::Layer::new(NatsLayer::new(sink.clone(), options));
        // Fails only if a subscriber is set already, which a second server in one process would do.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer));
        Ok(Self { sink, style })
    }

    /// Takes over what changed. An error leaves everything as it was.
    pub(crate) fn configure(&self, old: &Logging, new: &Logging) -> io::Result<()> {
        if old.log_file != new.log_file {
            let sink = Sink::open(new)?;
            *self.sink.lock() = sink;
        }
        let layer = NatsLayer::new(self.sink.clone(), new);
        // Fails only if the subscriber is gone, with the process.
        let _ = self.style.modify(|present| *present = layer);
        Ok(())
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
}

impl Sink {
    fn open(options: &Logging) -> io::Result<Self> {
        Ok(match &options.log_file {
            None => Self::Stderr { coloured: io::stderr().is_terminal() },
            Some(path) => Self::File(LogFile::open(
                Path::new(path),
                options.log_size_limit.unwrap_or(0),
                options.log_max_num.unwrap_or(0),
            )?),
        })
    }

    /// Writes a line; `form` makes lines of what the log itself has to say.
    fn write(&mut self, line: &str, form: impl Fn(&str) -> String) {
        match self {
            // Nobody is left to tell when the log itself cannot be written.
            Self::Stderr { .. } => drop(io::stderr().write_all(line.as_bytes())),
            Self::File(file) => file.write(line, form),
        }
    }

    fn is_coloured(&self) -> bool {
        matches!(self, Self::Stderr { coloured: true })
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

    fn write(&mut self, line: &str, form: impl Fn(&str) -> String) {
        self.append(line);
        if self.limit > 0 && self.size > self.limit {
            // A rotation that fails leaves the log growing, which is better than losing lines.
            let _ = self.rotate(form);
        }
    }

    fn append(&mut self, line: &str) {
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.size += line.len() as u64;
        }
    }

    fn rotate(&mut self, form: impl Fn(&str) -> String) -> io::Result<()> {
        let stamp = jiff::ZonedDateTime::now().strftime(STAMP).to_string();
        let mut backup = self.path.clone().into_os_string();
        backup.push(format!(".{stamp}"));
        std::fs::rename(&self.path, &backup)?;
        self.reopen()?;
        self.note(&form(&format!("Rotated log, backup saved as {:?}", backup.to_string_lossy())));
        for old in self.surplus()? {
            std::fs::remove_file(&old)?;
            let name = old.file_name().unwrap_or_default().to_string_lossy();
            self.note(&form(&format!("Purged log file {name:?}")));
        }
        Ok(())
    }

    /// A line about the log itself; nats-server ends these with a carriage return too.
    fn note(&mut self, line: &str) {
        self.append(&format!("{}\r\n", line.trim_end()));
    }

    /// The oldest backups beyond the number to keep. Other files whose names begin alike are somebody else's.
    fn surplus(&self) -> io::Result<Vec<PathBuf>> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name().and_then(|n| n.to_str()))
        else {
            return Ok(Vec::new());
        };
        if self.keep == 0 {
            return Ok(Vec::new());
        }
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let is_backup = |path: &PathBuf| {
            let stamp = path.file_name().and_then(|n| n.to_str()?.strip_prefix(name)?.strip_prefix('.'));
            stamp.is_some_and(|stamp| jiff::civil::DateTime::strptime(STAMP, stamp).is_ok())
        };
        let mut backups: Vec<PathBuf> =
            std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_backup).collect();
        backups.sort();
        let keep = usize::try_from(self.keep - 1).unwrap_or(usize::MAX);
        backups.truncate(backups.len().saturating_sub(keep));
        Ok(backups)
    }
}

impl NatsLayer {
    fn new(sink: Arc<Mutex<Sink>>, options: &Logging) -> Self {
        Self {
            sink,
            debug: options.debug,
            trace: options.trace,
            with_time: options.logtime,
            utc: options.logtime_utc,
            pid: std::process::id(),
        }
    }

    fn line(&self, label: Label, message: &str, is_coloured: bool) -> String {
        let Label(name, colour) = label;
        let mut line = String::with_capacity(message.len() + 64);
        let _ = write!(line, "[{}] ", self.pid);
        if self.with_time {
            let now = jiff::ZonedDateTime::now();
            let now = if self.utc { now.with_time_zone(jiff::tz::TimeZone::UTC) } else { now };
            let _ = write!(line, "{} ", now.strftime("%Y/%m/%d %H:%M:%S.%6f"));
        }
        if is_coloured {
            let _ = writeln!(line, "[\x1b[{colour}m{name}\x1b[0m] {message}");
        } else {
            let _ = writeln!(line, "[{name}] {message}");
        }
        line
    }
}

impl<S: Subscriber> Layer<S> for NatsLayer {
    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match (self.trace, self.debug) {
            (true, _) => LevelFilter::TRACE,
            (false, true) => LevelFilter::DEBUG,
            (false, false) => LevelFilter::INFO,
        })
    }

    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: Context<'_, S>) -> bool {
        // Each is asked for by itself: the trace alone shows no debug lines.
        let is_wanted = match *metadata.level() {
            Level::TRACE => self.trace,
            Level::DEBUG => self.debug,
            _ => true,
        };
        // Libraries have nothing to say to the operator of this server.
        is_wanted && metadata.target().starts_with("linnet")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        let sink = &mut *self.sink.lock();
        let line = self.line(Label::of(event.metadata()), &message.0, sink.is_coloured());
        sink.write(&line, |text| self.line(Label::INFO, text, false));
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
            file.write(&format!("line {n} with some length to it\n"), |text| format!("[INF] {text}\n"));
        }
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        let live = std::fs::read_to_string(&path).unwrap();
        assert!(live.starts_with("[INF] Rotated log, backup saved as "), "{live}");
        assert!(live.contains("\r\n[INF] Purged log file \"log."), "{live}");
    }

    #[test]
    fn files_that_are_no_backups_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let others =
            ["log.0", "log.1.gz", "log.2020.01.01", "log.mine", "log2.2020.01.01.00.00.00.000000000"];
        for other in others {
            std::fs::write(dir.path().join(other), "").unwrap();
        }
        let mut file = LogFile::open(&path, 10, 2).unwrap();
        for _ in 0..5 {
            file.write("a line over the limit\n", str::to_owned);
        }
        for other in others {
            assert!(dir.path().join(other).exists(), "{other}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), others.len() + 2);
    }
}
