//! Floors on disk: names of empty files in the directory of a group.
//!
//! Those of streams in memory have names of their own: a directory that holds nothing else has no log to miss.

use std::io;
use std::path::Path;

use linnet_env::{Disk, OpenMode};
use linnet_ids::StreamSeq;

/// Whose sequences a floor bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those of a stream with a log.
    Logged,
    /// Those of a stream in memory.
    Volatile,
    /// Those that the only voter of a group may have handed out and lost: it goes on behind them.
    Lost,
}

impl Whose {
    fn prefix(self) -> &'static str {
        match self {
            Self::Logged => "floor.",
            Self::Volatile => "memory-floor.",
            Self::Lost => "lost-floor.",
        }
    }

    fn parse(self, name: &str) -> Option<StreamSeq> {
        name.strip_prefix(self.prefix())?.parse().ok()
    }
}

/// The floor that a file in the directory of a stream with a log stands for; `None` if it is another one's.
pub(crate) fn floor_of(whose: Whose, path: &Path) -> Option<StreamSeq> {
    path.file_name().and_then(|name| name.to_str()).and_then(|name| whose.parse(name))
}

/// The highest floor in the directory of a stream in memory; 0 if it has recorded none.
pub(crate) fn volatile_floor(disk: &dyn Disk, dir: &Path) -> io::Result<StreamSeq> {
    let entries = match disk.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    Ok(entries.iter().filter_map(|entry| Whose::Volatile.parse(&entry.name)).max().unwrap_or(0))
}

/// True if the directory holds floors of a stream in memory and nothing else.
pub(crate) fn is_of_volatile(disk: &dyn Disk, dir: &Path) -> bool {
    let Ok(entries) = disk.list(dir) else { return false };
    !entries.is_empty() && entries.iter().all(|entry| Whose::Volatile.parse(&entry.name).is_some())
}

/// Makes a floor durable. The highest on disk counts, so that lower ones may stay.
pub(super) fn record(disk: &dyn Disk, dir: &Path, whose: Whose, floor: StreamSeq) -> io::Result<()> {
    disk.create_dir_all(dir)?;
    disk.open(&dir.join(format!("{}{floor}", whose.prefix())), OpenMode::Create)?.sync_data()?;
    disk.sync_dir(dir)
}

/// Removes the floors below a durable one. One that stays does no harm.
pub(super) fn remove_below(disk: &dyn Disk, dir: &Path, whose: Whose, floor: StreamSeq) {
    for entry in disk.list(dir).unwrap_or_default() {
        if whose.parse(&entry.name).is_some_and(|old| old < floor) {
            let _ = disk.remove_file(&dir.join(&entry.name));
        }
    }
}
