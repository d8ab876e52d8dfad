//! What a recovery from damage skipped to, remembered outside the log.
//!
//! The log may be damaged again before a checkpoint holds what the recovery wrote to it. The next recovery would find
//! the same end and skip to the same sequence, which messages have had since. The name of an empty file in the group's
//! directory tells it where to begin.

use std::io;
use std::path::Path;

use linnet_env::{Disk, OpenMode};
use linnet_ids::StreamSeq;

const PREFIX: &str = "floor.";

fn parse(name: &str) -> Option<StreamSeq> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

/// True if the file is not one of the store.
pub(crate) fn is_floor(path: &Path) -> bool {
    path.file_name().and_then(|n| n.to_str()).and_then(parse).is_some()
}

/// Sequences up to this may be used up; 0 if the group never lost anything.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> io::Result<StreamSeq> {
    if !disk.exists(dir)? {
        return Ok(0);
    }
    Ok(disk.list(dir)?.iter().filter_map(|entry| parse(&entry.name)).max().unwrap_or(0))
}

/// Makes a higher floor durable in place of the one before.
pub(crate) fn raise(disk: &dyn Disk, dir: &Path, from: StreamSeq, to: StreamSeq) -> io::Result<()> {
    let path = |seq: StreamSeq| dir.join(format!("{PREFIX}{seq}"));
    disk.create_dir_all(dir)?;
    disk.open(&path(to), OpenMode::Create)?.sync_data()?;
    disk.sync_dir(dir)?;
    if from > 0 {
        // The highest counts, so that one that stays does no harm.
        let _ = disk.remove_file(&path(from));
    }
    Ok(())
}
