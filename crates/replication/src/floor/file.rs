//! Floors on disk: names of empty files in the directory of a group.

use std::io;
use std::path::Path;

use linnet_env::{Disk, OpenMode};
use linnet_ids::StreamSeq;

const PREFIX: &str = "floor.";

fn parse(name: &str) -> Option<StreamSeq> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// The floor that a file stands for; `None` if it is one of the store.
pub(crate) fn floor_of(path: &Path) -> Option<StreamSeq> {
    path.file_name().and_then(|name| name.to_str()).and_then(parse)
}

/// Makes a floor durable. The highest on disk counts, so that lower ones may stay.
pub(super) fn record(disk: &dyn Disk, dir: &Path, floor: StreamSeq) -> io::Result<()> {
    disk.create_dir_all(dir)?;
    disk.open(&dir.join(format!("{PREFIX}{floor}")), OpenMode::Create)?.sync_data()?;
    disk.sync_dir(dir)
}

/// Removes the floors below a durable one. One that stays does no harm.
pub(super) fn remove_below(disk: &dyn Disk, dir: &Path, floor: StreamSeq) {
    for entry in disk.list(dir).unwrap_or_default() {
        if parse(&entry.name).is_some_and(|old| old < floor) {
            let _ = disk.remove_file(&dir.join(&entry.name));
        }
    }
}
